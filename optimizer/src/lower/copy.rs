//! Copies: identity nests, for what no view expresses.

use graphc_ir::graph::ValueId;
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, BufferId, InstOp, Kernel, Nest, Port, Store, View};

use super::{Lowering, Source, nest, view};

impl Lowering<'_> {
    /// Copies a value to a dense buffer.
    pub(crate) fn copy(&mut self, source: &Source, v: ValueId, to: BufferId) {
        let shape = self.shape(v);
        let origins = self.graph.origins(self.graph.value(v).node).clone();
        self.copy_into(source, &shape, Port { buffer: to, view: View::dense(&shape) }, origins);
    }

    /// Copies a view of some shape to another.
    pub(crate) fn copy_into(&mut self, source: &Source, shape: &[usize], to: Port, origins: Origins) {
        let dtype = self.program.buffer(source.buffer).dtype;
        let mut views = [source.view.clone(), to.view];
        let space = nest::copy_space(shape, &mut views);
        let [from, into] = views;
        let mut body = Body::default();
        let reg = body.push(InstOp::Load(0), &[], dtype, space.level(&from));
        let wanted = space.level(&into);
        let reg = nest::raise(&mut body, reg, wanted, &space);
        body.stores.push(Store { reg, write: 0 });
        let read = Port { buffer: source.buffer, view: from };
        let kernel = Kernel::Nest(Nest { rows: space.rows, cols: space.cols, body });
        self.push(kernel, vec![read], vec![Port { buffer: to.buffer, view: into }], origins);
    }

    /// The value in a dense buffer of its own, copied at most once.
    pub(crate) fn dense(&mut self, v: ValueId) -> Source {
        let shape = self.shape(v);
        let source = self.source(v).clone();
        let whole = self.program.buffer(source.buffer).shape.iter().product::<usize>()
            == shape.iter().product::<usize>();
        if whole && view::is_dense(&source.view, &shape) {
            return Source { buffer: source.buffer, view: View::dense(&shape) };
        }
        let buffer = match self.dense.get(&v) {
            Some(b) => *b,
            None => {
                let b = self.temp(self.graph.ty(v).dtype, &shape);
                self.copy(&source, v, b);
                self.dense.insert(v, b);
                b
            }
        };
        Source { buffer, view: View::dense(&shape) }
    }

    /// The value through a view without padding.
    pub(crate) fn unguarded(&mut self, v: ValueId) -> Source {
        let source = self.source(v).clone();
        if source.view.guard.is_some() { self.dense(v) } else { source }
    }
}
