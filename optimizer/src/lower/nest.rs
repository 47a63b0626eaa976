//! Clusters of elementwise work and folds become nests.

use std::sync::Arc;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId};
use graphc_ir::ops::Op;
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, Guard, InstOp, Kernel, Level, Nest, Port, Reg, View};
use graphc_ir::scalar::{Scalar, ScalarFn};

use super::body::{Access, BodyBuilder};
use super::{Lowering, Source};
use crate::fuse::domain::{Domain, analyze, fold_axes};

/// An iteration domain with its strided accesses, while axes are merged.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub rows: Vec<usize>,
    pub cols: Vec<usize>,
}

impl Space {
    /// Where an access varies: by its strides, or by the border of its padding.
    pub fn level(&self, view: &View) -> Level {
        let sizes: Vec<usize> = self.rows.iter().chain(&self.cols).copied().collect();
        let varies = |d: usize| {
            let border = view.guard.as_ref().is_some_and(|g| g.lo[d] != 0 || g.hi[d] != sizes[d]);
            sizes[d] != 1 && (view.strides[d] != 0 || border)
        };
        let rows = (0..self.rows.len()).any(varies);
        let cols = (self.rows.len()..sizes.len()).any(varies);
        match (rows || (self.rows.is_empty() && cols), cols || (self.cols.is_empty() && rows)) {
            (false, false) => Level::Scalar,
            (true, false) => Level::Row,
            (false, true) => Level::Col,
            (true, true) => Level::Elem,
        }
    }
}

/// A register of at least the wanted level with the same values.
///
/// A value that does not vary over an axis must still be counted or stored once for every coordinate
/// there; choosing it by an always true comparison of the coordinate makes it vary in form.
pub(crate) fn raise(body: &mut Body, reg: Reg, wanted: Level, space: &Space) -> Reg {
    let inst = body.inst(reg).clone();
    if inst.level.join(wanted) == inst.level {
        return reg;
    }
    let (rows, cols) = match wanted {
        Level::Scalar => (0, 0),
        Level::Row => (1, 0),
        Level::Col => (0, 1),
        Level::Elem => (1, 1),
    };
    let strides: Vec<isize> =
        space.rows.iter().map(|_| rows).chain(space.cols.iter().map(|_| cols)).collect();
    let index = InstOp::Index(strides.iter().map(|s| *s as i64).collect());
    let view = View { offset: 0, strides, guard: None };
    let at = body.push(index, &[], DType::I64, space.level(&view));
    let zero = body.push(InstOp::Const(Scalar::I(0)), &[], DType::I64, Level::Scalar);
    let inside = body.push(InstOp::Fn(ScalarFn::Ge), &[at, zero], DType::Bool, Level::Scalar);
    body.push(InstOp::Fn(ScalarFn::Select), &[inside, reg, reg], inst.dtype, Level::Scalar)
}

/// A view over a value's dims as one over the domain's axes, in the given order.
pub(crate) fn over_domain(view: &View, axes: &[Option<usize>], domain: &Domain, order: &[usize]) -> View {
    let rank = domain.sizes.len();
    let mut strides = vec![0; rank];
    let (mut lo, mut hi) = (vec![0; rank], domain.sizes.clone());
    for (d, axis) in axes.iter().enumerate() {
        if let Some(a) = axis {
            strides[*a] = view.strides[d];
            if let Some(g) = &view.guard {
                (lo[*a], hi[*a]) = (g.lo[d], g.hi[d]);
            }
        }
    }
    let pick = |v: &[usize]| order.iter().map(|a| v[*a]).collect::<Vec<_>>();
    View {
        offset: view.offset,
        strides: order.iter().map(|a| strides[*a]).collect(),
        guard: view.guard.as_ref().map(|g| Guard { lo: pick(&lo), hi: pick(&hi), fill: g.fill }),
    }
}

/// Whether a view's border can be told over the domain: a dim of size 1 that has no axis there may not lie
/// in it.
fn keeps_border(view: &View, axes: &[Option<usize>]) -> bool {
    let Some(g) = &view.guard else { return true };
    axes.iter().enumerate().all(|(d, axis)| axis.is_some() || (g.lo[d] == 0 && g.hi[d] >= 1))
}

/// Merges neighbouring axes wherever every access steps over them as over one. Row and column axes
/// stay apart at `boundary`, if there is one.
pub(crate) fn collapse(
    sizes: &mut Vec<usize>,
    accesses: &mut [View],
    boundary: Option<usize>,
) -> Option<usize> {
    let mut boundary = boundary;
    let mut i = 0;
    while i + 1 < sizes.len() {
        let n = sizes[i + 1];
        let apart = boundary == Some(i + 1);
        let guarded = |v: &View| {
            v.guard.as_ref().is_some_and(|g| {
                let whole = |d: usize| g.lo[d] == 0 && g.hi[d] == sizes[d];
                !whole(i) || !whole(i + 1)
            })
        };
        let one_step = |v: &View| v.strides[i] == v.strides[i + 1] * n as isize && !guarded(v);
        if apart || !accesses.iter().all(one_step) {
            i += 1;
            continue;
        }
        sizes[i] *= n;
        sizes.remove(i + 1);
        for v in accesses.iter_mut() {
            v.strides.remove(i);
            if let Some(g) = &mut v.guard {
                g.hi[i] = sizes[i];
                g.lo.remove(i + 1);
                g.hi.remove(i + 1);
            }
        }
        if let Some(b) = &mut boundary
            && *b > i + 1
        {
            *b -= 1;
        }
    }
    boundary
}

impl Lowering<'_> {
    pub(crate) fn nest(&mut self, node: &Node, body: &Arc<Graph>, origins: Origins) -> Result<()> {
        let members: Vec<NodeId> =
            body.nodes().filter(|(_, n)| !matches!(n.op, Op::Input(_))).map(|(id, _)| id).collect();
        let domain = analyze(body, &members, None, &|v| body.results().contains(&v))
            .map_err(|reason| Error::new(format!("a cluster has no common domain: {reason}")))?;
        let folds = members.iter().any(|id| {
            let n = body.node(*id);
            fold_axes(&n.op).is_some() && domain.set(n.ins[0]) != domain.set(n.out(0))
        });
        let is_col = |a: &usize| domain.cols >> a & 1 == 1;
        let all = 0..domain.sizes.len();
        let order: Vec<usize> = if folds {
            all.clone().filter(|a| !is_col(a)).chain(all.filter(is_col)).collect()
        } else {
            all.collect()
        };
        let mut accesses = self.accesses(node, body, &domain, &order, true);
        let mut sizes: Vec<usize> = order.iter().map(|a| domain.sizes[*a]).collect();
        let boundary = folds.then(|| order.iter().filter(|a| !is_col(a)).count());
        let mut views: Vec<View> = accesses.iter().map(|a| a.view().clone()).collect();
        let boundary = collapse(&mut sizes, &mut views, boundary).unwrap_or(sizes.len().saturating_sub(1));
        for (a, v) in accesses.iter_mut().zip(views) {
            *a.view_mut() = v;
        }
        let cols = sizes.split_off(boundary);
        let space = Space { rows: sizes, cols };
        let mut builder = BodyBuilder::new(body, &domain, &space, &accesses, 0);
        for id in &members {
            builder.node(*id)?;
        }
        let (code, reads, stores) = builder.finish();
        let writes: Vec<Port> = stores
            .into_iter()
            .map(|(value, view)| {
                let buffer = self.result(node.out(value));
                Port { buffer, view }
            })
            .collect();
        let kernel = Kernel::Nest(Nest { rows: space.rows, cols: space.cols, body: code });
        self.push(kernel, reads, writes, origins);
        Ok(())
    }

    /// Everything that a body touches in memory or by coordinate, over the domain's axes in order.
    ///
    /// Without `padding`, padded operands are copied first.
    pub(crate) fn accesses(
        &mut self,
        node: &Node,
        body: &Graph,
        domain: &Domain,
        order: &[usize],
        padding: bool,
    ) -> Vec<Access> {
        let mut accesses = Vec::new();
        for (i, v) in body.inputs().iter().enumerate() {
            if let Some(axes) = domain.axes.get(v) {
                let source = self.source(node.ins[i]).clone();
                let kept = padding && keeps_border(&source.view, axes);
                let Source { buffer, view } = if kept { source } else { self.unguarded(node.ins[i]) };
                accesses.push(Access::Read {
                    value: *v,
                    port: Port { buffer, view: over_domain(&view, axes, domain, order) },
                });
            }
        }
        for (id, n) in body.nodes() {
            match &n.op {
                Op::RandomBits(_) => {
                    let Op::Input(key) = &body.def(n.ins[0]).op else { continue };
                    let Source { buffer, view } = self.unguarded(node.ins[key.index]);
                    for word in 0..2isize {
                        let view = View {
                            offset: view.offset + word * view.strides[0],
                            strides: vec![0; order.len()],
                            guard: None,
                        };
                        accesses.push(Access::Key { node: id, port: Port { buffer, view } });
                    }
                    let shape = body.ty(n.out(0)).static_shape();
                    let view = over_domain(&View::dense(&shape), &domain.axes[&n.out(0)], domain, order);
                    accesses.push(Access::Index { node: id, view });
                }
                Op::Iota(op) => {
                    let mut strides = vec![0; op.dims.len()];
                    strides[op.axis] = 1;
                    let view = View { offset: 0, strides, guard: None };
                    let view = over_domain(&view, &domain.axes[&n.out(0)], domain, order);
                    accesses.push(Access::Index { node: id, view });
                }
                _ => {}
            }
        }
        for (i, v) in body.results().iter().enumerate() {
            let shape = body.ty(*v).static_shape();
            let view = over_domain(&View::dense(&shape), &domain.axes[v], domain, order);
            accesses.push(Access::Write { result: i, value: *v, view });
        }
        accesses
    }
}

/// The domain of a copy: few axes, the last one the columns.
pub(crate) fn copy_space(shape: &[usize], views: &mut [View]) -> Space {
    let mut sizes = shape.to_vec();
    collapse(&mut sizes, views, None);
    let cols = sizes.split_off(sizes.len().saturating_sub(1));
    Space { rows: sizes, cols }
}
