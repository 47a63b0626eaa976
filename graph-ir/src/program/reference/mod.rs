//! The reference executor: runs any verified Program one element at a time.
//!
//! It is written to be read and compared with, not to be fast. Forms are ignored: a packed buffer
//! holds the row-major `[batch.., k, n]` tensor itself.

mod body;
mod kernels;
mod memory;
mod nested;
mod window;

use super::{BufferKind, VerifiedProgram};
use crate::error::Result;
use crate::tensor::Tensor;
use memory::Memory;

/// Where temporaries live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Every buffer in a tensor of its own.
    Apart,
    /// At the planned places of one arena.
    Arena,
}

/// Runs a Program: `inputs` in order, `state` and `staged` by the indices that its buffers name, all
/// of the declared types; gives the outputs in order. Packed buffers are passed and given unpacked.
///
/// # Errors
/// If an operand does not fit its buffer, an index is out of range, or a check fails. The state is
/// then as before.
pub fn execute(
    program: &VerifiedProgram,
    inputs: &[Tensor],
    state: &mut [Tensor],
    staged: &[Tensor],
) -> Result<Vec<Tensor>> {
    run(program, inputs, state, staged, Placement::Apart)
}

/// The same as [`execute`], with temporaries at their planned offsets in one arena whose bytes are
/// all 0xFF (a NaN) before a buffer's first and after its last use: a wrong memory plan gives a wrong
/// result.
///
/// # Errors
/// Those of [`execute`].
pub fn execute_in_arena(
    program: &VerifiedProgram,
    inputs: &[Tensor],
    state: &mut [Tensor],
    staged: &[Tensor],
) -> Result<Vec<Tensor>> {
    run(program, inputs, state, staged, Placement::Arena)
}

pub(super) fn run(
    program: &VerifiedProgram,
    inputs: &[Tensor],
    state: &mut [Tensor],
    staged: &[Tensor],
    placement: Placement,
) -> Result<Vec<Tensor>> {
    if inputs.len() != program.inputs.len() {
        fail!("the Program takes {} inputs, but got {}", program.inputs.len(), inputs.len());
    }
    let mut memory = Memory::new(program, placement);
    for (i, decl) in program.buffers.iter().enumerate() {
        let (from, n, what) = match decl.kind {
            BufferKind::Input(n) => (inputs, n, "input"),
            BufferKind::State(n) => (&*state, n, "state"),
            BufferKind::Staged(n) => (staged, n, "staged value"),
            BufferKind::Const(n) => {
                memory.put(i, (*program.constants[n]).clone());
                continue;
            }
            BufferKind::Output(_) | BufferKind::Temp => continue,
        };
        match from.get(n) {
            None => fail!("{what} {n} is missing; {} were passed", from.len()),
            Some(t) if t.dtype() != decl.dtype || t.shape() != decl.shape => fail!(
                "{what} {n} is {}{:?}, but the Program takes {}{:?}",
                t.dtype(),
                t.shape(),
                decl.dtype,
                decl.shape
            ),
            Some(t) => memory.put(i, t.clone()),
        }
    }
    for (i, step) in program.steps.iter().enumerate() {
        let mut targets: Vec<usize> = step.writes.iter().map(|p| p.buffer.index()).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut results: Vec<Tensor> = targets.iter().map(|b| memory.get(*b).into_owned()).collect();
        {
            let reads: Vec<_> = step.reads.iter().map(|p| memory.get(p.buffer.index())).collect();
            let reads: Vec<&Tensor> = reads.iter().map(|t| &**t).collect();
            let mut writes = Writes { targets: &targets, results: &mut results };
            kernels::run(program, step, &reads, &mut writes, placement)
                .map_err(|e| if step.origins.is_empty() { e } else { e.at(&step.origins) })?;
        }
        memory.free_after(i);
        for (b, t) in targets.iter().zip(results) {
            memory.put(*b, t);
        }
        memory.free_unread(i);
    }
    for (i, decl) in program.buffers.iter().enumerate() {
        if let BufferKind::State(n) = decl.kind {
            state[n] = memory.get(i).into_owned();
        }
    }
    Ok(program.outputs.iter().map(|id| memory.get(id.index()).into_owned()).collect())
}

/// The buffers that a step writes; several ports may write parts of one.
pub(super) struct Writes<'a> {
    targets: &'a [usize],
    results: &'a mut [Tensor],
}

impl Writes<'_> {
    /// The tensor of a port's buffer.
    fn tensor(&mut self, port: &super::Port) -> &mut Tensor {
        let at = self.targets.partition_point(|b| *b < port.buffer.index());
        &mut self.results[at]
    }
}
