//! Which temporaries each step touches, and how many bytes they are.

use graphc_ir::program::{BufferDecl, BufferKind, Form, Program, Step};
use graphc_ir::tensor::element_count;
use graphc_ir::{Result, fail};

/// Temporaries by step, and sizes.
pub(super) struct Uses {
    /// Bytes of every buffer.
    pub bytes: Vec<usize>,
    /// Temporaries that a step reads or writes, each once, in ascending order.
    pub temps: Vec<Vec<u32>>,
    /// Scratch bytes of every step.
    pub scratch: Vec<usize>,
}

impl Uses {
    /// Of a checked program.
    pub fn of(program: &Program) -> Result<Uses> {
        let bytes = program.buffers.iter().map(bytes).collect::<Result<Vec<_>>>()?;
        let temps = program
            .steps
            .iter()
            .map(|step| {
                let mut temps: Vec<u32> = step
                    .reads
                    .iter()
                    .chain(&step.writes)
                    .map(|p| p.buffer)
                    .filter(|b| program.buffer(*b).kind == BufferKind::Temp)
                    .map(|b| b.0)
                    .collect();
                temps.sort_unstable();
                temps.dedup();
                temps
            })
            .collect();
        let scratch = program.steps.iter().map(|s| s.choice.scratch_bytes).collect();
        Ok(Uses { bytes, temps, scratch })
    }

    /// Number of buffers.
    pub fn buffers(&self) -> usize {
        self.bytes.len()
    }
}

/// Bytes of a buffer, or an error where they overflow.
fn bytes(decl: &BufferDecl) -> Result<usize> {
    let dense = element_count(&decl.shape).and_then(|n| n.checked_mul(decl.dtype.size()));
    match (decl.form, dense) {
        (Form::Panels { bytes } | Form::Filters { bytes, .. }, Some(_)) => Ok(bytes),
        (Form::Dense, Some(bytes)) => Ok(bytes),
        (_, None) => {
            fail!("a {} buffer of shape {:?} has more bytes than an address", decl.dtype, decl.shape)
        }
    }
}

/// What the planner itself relies on; the verifier checks the rest of the finished program.
pub(super) fn check(program: &Program) -> Result<()> {
    if let Some(id) =
        program.inputs.iter().chain(&program.outputs).find(|b| b.index() >= program.buffers.len())
    {
        fail!("the function's interface names buffer {}, which does not exist", id.0);
    }
    let mut written = vec![false; program.buffers.len()];
    for (i, step) in program.steps.iter().enumerate() {
        let kind = step.kind();
        for port in step.reads.iter().chain(&step.writes) {
            if port.buffer.index() >= program.buffers.len() {
                fail!("step {i} ({kind}) names buffer {}, which does not exist", port.buffer.0);
            }
        }
        for port in &step.reads {
            if program.buffer(port.buffer).kind == BufferKind::Temp && !written[port.buffer.index()] {
                fail!("step {i} ({kind}) reads temporary {} before any step writes it", port.buffer.0);
            }
        }
        check_body(i, step)?;
        for port in &step.writes {
            written[port.buffer.index()] = true;
        }
    }
    Ok(())
}

fn check_body(i: usize, step: &Step) -> Result<()> {
    let Some(swept) = step.kernel.swept() else { return Ok(()) };
    let body = swept.body;
    let known = |r: usize, end: usize| r < end;
    let args_known =
        body.insts.iter().enumerate().all(|(at, inst)| inst.args.iter().all(|r| known(r.index(), at)));
    let n = body.insts.len();
    if !args_known
        || body.stores.iter().any(|s| !known(s.reg.index(), n))
        || body.checks.iter().any(|c| !known(c.reg.index(), n))
    {
        fail!("the body of step {i} ({}) uses a register before its instruction", step.kind());
    }
    Ok(())
}
