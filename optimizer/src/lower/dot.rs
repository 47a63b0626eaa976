//! Dots with their epilogues.

use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::Op;
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, BufferKind, Choice, Dot, Form, Kernel, Port, Step, View};

use super::body::BodyBuilder;
use super::nest::Space;
use super::{Lowering, Source};
use crate::fuse::domain::analyze;

impl Lowering<'_> {
    pub(crate) fn dot(&mut self, node: &Node, body: &Arc<Graph>, origins: Origins) -> Result<()> {
        let members: Vec<NodeId> =
            body.nodes().filter(|(_, n)| !matches!(n.op, Op::Input(_))).map(|(id, _)| id).collect();
        let anchor = members.iter().copied().find(|id| matches!(body.node(*id).op, Op::Dot(_)));
        let anchor = anchor.ok_or_else(|| Error::new("a dot cluster without a dot"))?;
        let domain = analyze(body, &members, Some(anchor), &|v| body.results().contains(&v))
            .map_err(|reason| Error::new(format!("a dot's epilogue has no common domain: {reason}")))?;
        let dot = body.node(anchor);
        let operand = |v: ValueId| -> Result<ValueId> {
            let Op::Input(input) = &body.def(v).op else {
                return Err(Error::new("a dot's operands come from outside its cluster"));
            };
            Ok(node.ins[input.index])
        };
        let (va, vb) = (operand(dot.ins[0])?, operand(dot.ins[1])?);
        let (sa, sb) = (self.shape(va), self.shape(vb));
        let rank = sa.len();
        let (m, k, n) = (sa[rank - 2], sa[rank - 1], sb[rank - 1]);
        let batch = sa[..rank - 2].to_vec();

        let order: Vec<usize> = (0..domain.sizes.len()).collect();
        let accesses = self.accesses(node, body, &domain, &order, false);
        let space = Space { rows: domain.sizes[..rank - 1].to_vec(), cols: vec![n] };
        let mut builder = BodyBuilder::new(body, &domain, &space, &accesses, 2);
        builder.accumulator(dot.out(0));
        for id in members.iter().filter(|id| **id != anchor) {
            builder.node(*id)?;
        }
        let (code, epilogue_reads, stores) = builder.finish();

        let a = self.dot_operand(va);
        let b = self.dot_operand(vb);
        let mut reads = vec![port(a), port(b)];
        reads.extend(epilogue_reads);
        let bare = Dot { batch: batch.clone(), m, n, k, body: Body::default() };
        let question = Step {
            kernel: Kernel::Dot(bare),
            reads: reads.clone(),
            writes: Vec::new(),
            choice: Choice::default(),
            origins: origins.clone(),
        };
        let staged = self.options.staging && self.stable[vb.index()];
        let form = self.target.dot_operand_form(&self.program, &question, staged);
        if let Form::Panels { .. } = form {
            reads[1] = self.repack(vb, form, &batch, k, n, &origins);
        }
        let writes = stores
            .into_iter()
            .map(|(result, view)| Port { buffer: self.result(node.out(result)), view })
            .collect();
        self.push(Kernel::Dot(Dot { batch, m, n, k, body: code }), reads, writes, origins);
        Ok(())
    }

    /// An operand as a view that a dot can read: no padding, one unit stride.
    fn dot_operand(&mut self, v: ValueId) -> Source {
        let shape = self.shape(v);
        let s = self.unguarded(v);
        let rank = shape.len();
        let unit = |d: usize| s.view.strides[d] == 1 || shape[d] <= 1;
        if unit(rank - 1) || unit(rank - 2) { s } else { self.dense(v) }
    }

    /// The packed form of a dot's second operand, made at most once.
    fn repack(
        &mut self,
        v: ValueId,
        form: Form,
        batch: &[usize],
        k: usize,
        n: usize,
        origins: &Origins,
    ) -> Port {
        let shape = self.shape(v);
        let view = View::dense(&shape);
        if let Some(buffer) = self.packed.get(&v) {
            return Port { buffer: *buffer, view };
        }
        let source = self.dot_operand(v);
        let dtype = self.graph.ty(v).dtype;
        let buffer = self.declare(dtype, shape, form, BufferKind::Temp);
        let kernel = Kernel::Repack { batch: batch.to_vec(), k, n };
        let write = Port { buffer, view: view.clone() };
        self.push(kernel, vec![port(source)], vec![write], origins.clone());
        self.packed.insert(v, buffer);
        Port { buffer, view }
    }
}

fn port(source: Source) -> Port {
    Port { buffer: source.buffer, view: source.view }
}
