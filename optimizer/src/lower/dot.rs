//! Dots.

use graphc_ir::error::Result;
use graphc_ir::graph::ValueId;
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, BufferKind, Dot, Form, Kernel, Port, View};

use super::anchored::Epilogue;
use super::{Lowering, Source};

impl Lowering<'_> {
    pub(crate) fn dot(&mut self, epilogue: Epilogue<'_>, origins: Origins) -> Result<()> {
        let (va, vb) = (epilogue.operands[0], epilogue.operands[1]);
        let (sa, sb) = (self.shape(va), self.shape(vb));
        let rank = sa.len();
        let (m, k, n) = (sa[rank - 2], sa[rank - 1], sb[rank - 1]);
        let batch = sa[..rank - 2].to_vec();
        let mut reads = vec![port(self.dot_operand(va)), port(self.dot_operand(vb))];
        reads.extend(epilogue.reads);
        let bare = Kernel::Dot(Dot { batch: batch.clone(), m, n, k, body: Body::default() });
        let staged = self.options.staging && self.stable[vb.index()];
        let (program, question) = self.question(bare, &reads, &origins);
        let form = self.target.operand_form(program, &question, staged);
        if form != Form::Dense {
            reads[1] = self.repack(vb, form, &batch, k, n, &origins);
        }
        let writes = self.epilogue_writes(epilogue.writes);
        self.push(Kernel::Dot(Dot { batch, m, n, k, body: epilogue.body }), reads, writes, origins);
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

pub(super) fn port(source: Source) -> Port {
    Port { buffer: source.buffer, view: source.view }
}
