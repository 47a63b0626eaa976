//! Removes temporaries that no step touches.

use graphc_ir::program::{BufferId, BufferKind, Program};

/// The program without unused temporaries; the other buffers keep their order.
pub(super) fn without_unused(mut program: Program) -> Program {
    let mut keep: Vec<bool> = program.buffers.iter().map(|b| b.kind != BufferKind::Temp).collect();
    let ports = program.steps.iter().flat_map(|s| s.reads.iter().chain(&s.writes)).map(|p| p.buffer);
    for id in ports.chain(program.inputs.iter().copied()).chain(program.outputs.iter().copied()) {
        keep[id.index()] = true;
    }
    let mut renamed = Vec::with_capacity(keep.len());
    let mut count = 0;
    for kept in &keep {
        renamed.push(BufferId(count));
        count += u32::from(*kept);
    }
    let ports = program.steps.iter_mut().flat_map(|s| s.reads.iter_mut().chain(&mut s.writes));
    let ids = ports.map(|p| &mut p.buffer).chain(&mut program.inputs).chain(&mut program.outputs);
    for id in ids {
        *id = renamed[id.index()];
    }
    let mut kept = keep.into_iter();
    program.buffers.retain(|_| kept.next().unwrap_or(true));
    program
}
