//! What a step costs: floating-point operations, and the bytes that it has to move.

use super::{BufferDecl, Dot, Inst, InstOp, Kernel, Level, Port, Program, Step};

/// Operations of all steps of a Program.
fn flops(program: &Program) -> f64 {
    program.steps.iter().map(Step::flops).sum()
}

impl Step {
    /// Floating-point operations: a multiply-add counts as two, a function of a body as one.
    pub fn flops(&self) -> f64 {
        let body = self.kernel.swept().map_or(0.0, |swept| {
            let size = |dims: &[usize]| dims.iter().map(|d| *d as f64).product::<f64>();
            let (rows, cols) = (size(&swept.rows), size(&swept.cols));
            let times = |level| match level {
                Level::Scalar => 1.0,
                Level::Col => cols,
                Level::Row => rows,
                Level::Elem => rows * cols,
            };
            let computes = |op: &InstOp| matches!(op, InstOp::Fn(_));
            let folded = |inst: &Inst| inst.args.first().map_or(Level::Scalar, |a| swept.body.inst(*a).level);
            let insts = swept.body.insts.iter();
            insts
                .map(|inst| match inst.op {
                    InstOp::Fold(..) => times(folded(inst)),
                    ref op if computes(op) => times(inst.level),
                    _ => 0.0,
                })
                .sum()
        });
        body + match &self.kernel {
            Kernel::Dot(Dot { batch, m, n, k, .. }) => {
                2.0 * batch.iter().chain([m, n, k]).map(|d| *d as f64).product::<f64>()
            }
            Kernel::Conv(c) => 2.0 * c.geometry.multiplications(),
            Kernel::Pool(p) => {
                let windows: f64 = p.sizes()[1].iter().map(|d| *d as f64).product();
                windows * p.geometry.window.taps() as f64
            }
            Kernel::Loop(l) => l.length as f64 * flops(&l.body),
            // How often it runs is not known; one iteration is counted.
            Kernel::While(w) => [&w.condition, &w.body].iter().map(|p| flops(p)).sum(),
            Kernel::Branch(b) => flops(&b.then).max(flops(&b.otherwise)),
            _ => 0.0,
        }
    }

    /// Bytes that the step reads and writes at least: every element that it touches, once.
    pub fn bytes(&self, program: &Program) -> f64 {
        let reads = self.reads.iter().enumerate().map(|(i, port)| self.port_bytes(program, port, i, true));
        let writes = self.writes.iter().enumerate().map(|(i, port)| self.port_bytes(program, port, i, false));
        reads.chain(writes).sum()
    }

    fn port_bytes(&self, program: &Program, port: &Port, index: usize, read: bool) -> f64 {
        let decl: &BufferDecl = program.buffer(port.buffer);
        let swept = || self.kernel.swept().map(|swept| swept.sizes());
        let domain = if read { self.kernel.operand(index).or_else(swept) } else { swept() };
        let whole = decl.bytes() as f64;
        let Some(sizes) = domain.filter(|sizes| sizes.len() == port.view.strides.len()) else { return whole };
        // Strided windows of a convolution may leave elements out, which the buffer's size bounds.
        let touched = sizes.iter().zip(&port.view.strides).filter(|(_, stride)| **stride != 0);
        let elements: f64 = touched.map(|(size, _)| *size as f64).product();
        (elements * decl.dtype.size() as f64).min(whole)
    }
}
