//! Clusters around a dot, a convolution or a pool: a kernel with an epilogue.

use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::Op;
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, Choice, Kernel, Port, Program, Step, View};

use super::Lowering;
use super::body::{Access, BodyBuilder};
use super::nest::Space;
use crate::fuse::anchor::{is_anchor, order};
use crate::fuse::domain::analyze;

/// An anchor's epilogue, translated.
pub(crate) struct Epilogue<'a> {
    /// The anchor in the cluster's body.
    pub anchor: &'a Node,
    /// Its operands outside.
    pub operands: Vec<ValueId>,
    /// The code; it loads from the port after the operands on.
    pub body: Body,
    /// Read ports behind the operands.
    pub reads: Vec<Port>,
    /// For each write port the result outside, and its view.
    pub writes: Vec<(ValueId, View)>,
    /// A pool's winners, if anything uses them.
    pub winner: Option<(ValueId, View)>,
}

impl Lowering<'_> {
    pub(crate) fn anchored(&mut self, node: &Node, body: &Arc<Graph>, origins: Origins) -> Result<()> {
        let members: Vec<NodeId> =
            body.nodes().filter(|(_, n)| !matches!(n.op, Op::Input(_))).map(|(id, _)| id).collect();
        let anchor = members.iter().copied().find(|id| is_anchor(&body.node(*id).op));
        let id = anchor.ok_or_else(|| Error::new("a cluster with an epilogue has no kernel"))?;
        let domain = analyze(body, &members, Some(id), &|v| body.results().contains(&v))
            .map_err(|reason| Error::new(format!("an epilogue has no common domain: {reason}")))?;
        let anchor = body.node(id);
        let operand = |v: &ValueId| match &body.def(*v).op {
            Op::Input(input) => Ok(node.ins[input.index]),
            _ => Err(Error::new("a kernel's operands come from outside its cluster")),
        };
        let operands: Vec<ValueId> = anchor.ins.iter().map(operand).collect::<Result<_>>()?;
        let order = order(&anchor.op, domain.sizes.len());
        let mut accesses = self.accesses(node, body, &domain, &order, false);
        let mut winner = None;
        accesses.retain(|access| match access {
            Access::Write { result, value, view } if anchor.outs().skip(1).any(|o| o == *value) => {
                winner = Some((node.out(*result), view.clone()));
                false
            }
            _ => true,
        });
        let mut rows: Vec<usize> = order.iter().map(|a| domain.sizes[*a]).collect();
        let cols = rows.pop().into_iter().collect();
        let space = Space { rows, cols };
        let mut builder = BodyBuilder::new(body, &domain, &space, &accesses, operands.len());
        builder.accumulator(anchor.out(0));
        for member in members.iter().filter(|m| **m != id) {
            builder.node(*member)?;
        }
        let (code, reads, stores) = builder.finish();
        let writes = stores.into_iter().map(|(result, view)| (node.out(result), view)).collect();
        let epilogue = Epilogue { anchor, operands, body: code, reads, writes, winner };
        match &anchor.op {
            Op::Dot(_) => self.dot(epilogue, origins),
            Op::Conv(_) | Op::ConvInputGrad(_) | Op::ConvFilterGrad(_) => self.conv(body, epilogue, origins),
            _ => self.pool(body, epilogue, origins),
        }
    }

    /// The write ports of an epilogue.
    pub(crate) fn epilogue_writes(&mut self, writes: Vec<(ValueId, View)>) -> Vec<Port> {
        writes.into_iter().map(|(v, view)| Port { buffer: self.result(v), view }).collect()
    }

    /// A step without results, to ask the device about.
    pub(crate) fn question(&self, kernel: Kernel, reads: &[Port], origins: &Origins) -> (&Program, Step) {
        let (reads, origins) = (reads.to_vec(), origins.clone());
        (&self.program, Step { kernel, reads, writes: Vec::new(), choice: Choice::default(), origins })
    }
}
