//! Scans become loops over a nested Program.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::graph::Node;
use graphc_ir::ops::Scan;
use graphc_ir::origin::Origins;
use graphc_ir::program::{BufferKind, Kernel, Loop};

use super::{Lowering, constants};
use crate::compile;

/// Memory of a loop: the body's arena and two places for every carry, which alternate.
pub(crate) fn scratch(l: &Loop) -> usize {
    let carries: usize = l.body.inputs[l.invariants..][..l.carries]
        .iter()
        .map(|b| l.body.buffer(*b).bytes().next_multiple_of(64) * 2)
        .sum();
    debug_assert!(l.body.buffers.iter().all(|b| !matches!(b.kind, BufferKind::State(_))));
    l.body.plan.arena_bytes.next_multiple_of(64) + carries
}

impl Lowering<'_> {
    pub(crate) fn scan(&mut self, node: &Node, op: &Scan, origins: Origins) -> Result<()> {
        let length = constants(std::slice::from_ref(&op.length))[0];
        let body = compile::compile_body(&op.body, self.target, self.options)?;
        let invariants = node.ins.len() - op.carries - op.stacks;
        let kernel = Kernel::Loop(Loop {
            length,
            reverse: op.reverse,
            invariants,
            carries: op.carries,
            body: Arc::new(body),
        });
        self.dense_step(kernel, node, origins);
        Ok(())
    }
}
