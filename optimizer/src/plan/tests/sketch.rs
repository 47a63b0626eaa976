//! Builds small f32 Programs as the lowering would.

use graphc_ir::program::{
    Body, BodyCheck, BufferDecl, BufferId, BufferKind, Choice, Dot, FoldAxis, FoldKind, Form, InstOp, Kernel,
    Level, Nest, Port, Program, Reg, Step, Store, View,
};
use graphc_ir::{DType, Origins, Scalar, ScalarFn};

/// A program in the making.
#[derive(Default)]
pub struct Sketch {
    pub program: Program,
    /// Updates: variable and the temporary with its new value.
    updates: Vec<(BufferId, BufferId)>,
    states: usize,
}

/// A read of a nest over `[rows, cols]`.
#[derive(Clone, Copy)]
pub enum Read {
    /// At the same index.
    Same(BufferId),
    /// At the exchanged index, of a square buffer.
    Transposed(BufferId),
    /// A vector of one element a column.
    Col(BufferId),
}

impl Read {
    fn port(self, rows: usize, cols: usize) -> (Port, Level) {
        let view = |strides: Vec<isize>| View { offset: 0, strides, guard: None };
        match self {
            Read::Same(buffer) => (Port { buffer, view: View::dense(&[rows, cols]) }, Level::Elem),
            Read::Transposed(buffer) => (Port { buffer, view: view(vec![1, rows as isize]) }, Level::Elem),
            Read::Col(buffer) => (Port { buffer, view: view(vec![0, 1]) }, Level::Col),
        }
    }
}

impl Sketch {
    fn buffer(&mut self, kind: BufferKind, shape: &[usize]) -> BufferId {
        let decl = BufferDecl { dtype: DType::F32, shape: shape.to_vec(), form: Form::Dense, kind };
        self.program.buffers.push(decl);
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    pub fn input(&mut self, shape: &[usize]) -> BufferId {
        let id = self.buffer(BufferKind::Input(self.program.inputs.len()), shape);
        self.program.inputs.push(id);
        id
    }

    pub fn output(&mut self, shape: &[usize]) -> BufferId {
        let id = self.buffer(BufferKind::Output(self.program.outputs.len()), shape);
        self.program.outputs.push(id);
        id
    }

    pub fn state(&mut self, shape: &[usize]) -> BufferId {
        self.states += 1;
        self.buffer(BufferKind::State(self.states - 1), shape)
    }

    pub fn temp(&mut self, shape: &[usize]) -> BufferId {
        self.buffer(BufferKind::Temp, shape)
    }

    pub fn shape(&self, id: BufferId) -> Vec<usize> {
        self.program.buffer(id).shape.clone()
    }

    /// The new value of a variable.
    pub fn update(&mut self, state: BufferId, temp: BufferId) {
        self.updates.push((state, temp));
    }

    pub fn step(&mut self, kernel: Kernel, reads: Vec<Port>, writes: Vec<Port>) -> usize {
        let choice = Choice { algo: "test", scratch_bytes: 0, error_class: 0.0 };
        self.program.steps.push(Step { kernel, reads, writes, choice, origins: Origins::default() });
        self.program.steps.len() - 1
    }

    /// A nest over `[rows, cols]` whose body is written by a function of the loaded registers; the
    /// registers that it returns are stored to the buffers.
    pub fn nest(
        &mut self,
        [rows, cols]: [usize; 2],
        reads: &[Read],
        to: &[BufferId],
        code: impl FnOnce(&mut Body, &[Reg]) -> Vec<Reg>,
    ) -> usize {
        let mut body = Body::default();
        let ports: Vec<(Port, Level)> = reads.iter().map(|r| r.port(rows, cols)).collect();
        let loads: Vec<Reg> = ports
            .iter()
            .enumerate()
            .map(|(i, (_, level))| body.push(InstOp::Load(i), &[], DType::F32, *level))
            .collect();
        let results = code(&mut body, &loads);
        let mut writes = Vec::new();
        for (write, (reg, buffer)) in results.into_iter().zip(to).enumerate() {
            let strides = match body.inst(reg).level {
                Level::Elem => vec![cols as isize, 1],
                Level::Row => vec![1, 0],
                Level::Col => vec![0, 1],
                Level::Scalar => vec![0, 0],
            };
            body.stores.push(Store { reg, write });
            writes.push(Port { buffer: *buffer, view: View { offset: 0, strides, guard: None } });
        }
        let reads = ports.into_iter().map(|(p, _)| p).collect();
        self.step(Kernel::Nest(Nest { rows: vec![rows], cols: vec![cols], body }), reads, writes)
    }

    /// `to = 0.5 * sum(reads)`, elementwise over the shape of `to` (of rank 2).
    pub fn mean(&mut self, reads: &[Read], to: BufferId) -> usize {
        let shape = self.shape(to);
        self.nest([shape[0], shape[1]], reads, &[to], |body, loads| vec![half_sum(body, loads)])
    }

    /// `to = a`, dense.
    pub fn copy(&mut self, a: BufferId, to: BufferId) -> usize {
        let shape = self.shape(to);
        let mut body = Body::default();
        let reg = body.push(InstOp::Load(0), &[], DType::F32, Level::Elem);
        body.stores.push(Store { reg, write: 0 });
        let port = |buffer| Port { buffer, view: View::dense(&shape) };
        let nest = Nest { rows: shape.clone(), cols: vec![], body };
        self.step(Kernel::Nest(nest), vec![port(a)], vec![port(to)])
    }

    /// `to = a`, and every element must be below the limit.
    pub fn checked(&mut self, a: BufferId, limit: f64, to: BufferId) -> usize {
        let shape = self.shape(to);
        self.nest([shape[0], shape[1]], &[Read::Same(a)], &[to], |body, loads| {
            let limit = body.push(InstOp::Const(Scalar::F(limit)), &[], DType::F32, Level::Scalar);
            let below = body.push(InstOp::Fn(ScalarFn::Lt), &[loads[0], limit], DType::Bool, Level::Scalar);
            body.checks.push(BodyCheck { reg: below, message: "too large".to_string() });
            vec![loads[0]]
        })
    }

    /// `to = 0.05 * (a . b) + 0.5 * sum(ports)`, the ports being read at the same index.
    pub fn dot(&mut self, a: BufferId, b: BufferId, ports: &[BufferId], to: BufferId) -> usize {
        let (sa, sb) = (self.shape(a), self.shape(b));
        let (m, k, n) = (sa[0], sa[1], sb[1]);
        let dense = |buffer, shape: &[usize]| Port { buffer, view: View::dense(shape) };
        let mut reads = vec![dense(a, &[m, k]), dense(b, &[k, n])];
        let mut body = Body::default();
        let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
        let mut result = scaled(&mut body, acc, 0.05);
        for (i, p) in ports.iter().enumerate() {
            reads.push(dense(*p, &[m, n]));
            let load = body.push(InstOp::Load(2 + i), &[], DType::F32, Level::Elem);
            let half = scaled(&mut body, load, 0.5);
            result = body.push(InstOp::Fn(ScalarFn::Add), &[result, half], DType::F32, Level::Scalar);
        }
        body.stores.push(Store { reg: result, write: 0 });
        let dot = Dot { batch: vec![], m, n, k, body };
        self.step(Kernel::Dot(dot), reads, vec![dense(to, &[m, n])])
    }

    /// The program, with the copies of the updates at its end.
    pub fn finish(mut self) -> Program {
        for (state, temp) in std::mem::take(&mut self.updates) {
            self.copy(temp, state);
        }
        self.program.commit = self.program.steps.len();
        self.program
    }
}

pub fn scaled(body: &mut Body, reg: Reg, by: f64) -> Reg {
    let by = body.push(InstOp::Const(Scalar::F(by)), &[], DType::F32, Level::Scalar);
    body.push(InstOp::Fn(ScalarFn::Mul), &[reg, by], DType::F32, Level::Scalar)
}

pub fn half_sum(body: &mut Body, regs: &[Reg]) -> Reg {
    let mut sum = regs[0];
    for r in &regs[1..] {
        sum = body.push(InstOp::Fn(ScalarFn::Add), &[sum, *r], DType::F32, Level::Scalar);
    }
    scaled(body, sum, 0.5)
}

pub fn fold(body: &mut Body, reg: Reg, axis: FoldAxis) -> Reg {
    body.push(InstOp::Fold(FoldKind::Mean, axis), &[reg], DType::F32, Level::Scalar)
}
