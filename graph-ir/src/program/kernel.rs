//! The kernels: what a step computes.

use std::sync::Arc;

use super::{Body, FoldAxis, Step, VerifiedProgram};
use crate::ops::Geometry;

/// Elementwise work, reductions and row clusters: a body over `rows x cols`.
///
/// Every port's view is over `rows ++ cols`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nest {
    /// Sizes of the row dims.
    pub rows: Vec<usize>,
    /// Sizes of the column dims.
    pub cols: Vec<usize>,
    /// The code.
    pub body: Body,
}

/// Matrix product with an epilogue: `acc[b.., i, j] = sum over k of a[b.., i, k] * b[b.., k, j]`.
///
/// Reads: port 0 is `a` over `batch ++ [m, k]`, port 1 is `b` over `batch ++ [k, n]` (strides do not
/// count where it is packed), the others and the writes are over `batch ++ [m, n]` (rows are
/// `batch ++ [m]`, columns `[n]`). The body loads port 2 as `Load(2)`, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dot {
    /// Batch dims.
    pub batch: Vec<usize>,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Contracted size.
    pub k: usize,
    /// The epilogue.
    pub body: Body,
}

/// What a convolution computes; the other two are its adjoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvRole {
    /// From an image `[N, s.., C]` and filters `[k.., C / groups, O]` to `[N, p.., O]`.
    Forward,
    /// From a gradient `[N, p.., O]` and filters to the image's.
    InputGrad,
    /// From an image and a gradient to the filters'.
    FilterGrad,
}

/// A convolution with an epilogue.
///
/// Reads: ports 0 and 1 are the operands in the order of [`ConvRole`], channels last (strides of filters do
/// not count where they have a form of their own); the others and the writes are over the result's dims,
/// of which the last is the column. The body loads port 2 as `Load(2)`, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Which of the three.
    pub role: ConvRole,
    /// All sizes, channels last.
    pub geometry: Geometry,
    /// The epilogue.
    pub body: Body,
}

/// What is made of windows of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Largest element of each window, NaN if any is NaN. With `winner` the last write port gets its
    /// offset in the window, row-major: that of the first largest, or of the first NaN.
    Max {
        /// Whether the offsets are written.
        winner: bool,
    },
    /// From a value for each window and winners: the sums of the values that each element of the image won.
    Scatter,
    /// From an image and winners: the winner of each window, 0 where that is padding.
    Gather,
    /// Mean of each window.
    Mean {
        /// Whether padding counts.
        count_pad: bool,
    },
    /// From a value for each window: the adjoint of the mean.
    MeanGrad {
        /// Whether padding counts.
        count_pad: bool,
    },
}

/// Work on windows of an image, with an epilogue.
///
/// Reads: the first ports ([`PoolKind::operands`]) are an image `[N, s.., C]` or values of windows
/// `[N, p.., C]`; the others and the writes are over the result's dims, of which the last is the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What.
    pub kind: PoolKind,
    /// All sizes, channels last.
    pub geometry: Geometry,
    /// The epilogue.
    pub body: Body,
}

impl PoolKind {
    /// Number of read ports that are operands.
    pub fn operands(self) -> usize {
        match self {
            PoolKind::Scatter | PoolKind::Gather => 2,
            PoolKind::Max { .. } | PoolKind::Mean { .. } | PoolKind::MeanGrad { .. } => 1,
        }
    }

    /// Whether the result is an image rather than a value for each window.
    pub fn makes_image(self) -> bool {
        matches!(self, PoolKind::Scatter | PoolKind::MeanGrad { .. })
    }
}

/// A counted loop over a nested Program.
///
/// The body's inputs are: invariants, then carries, then one slice of every `xs`; its outputs are the
/// new carries, then one slice of every `ys`. Reads of the step, dense, in the order of the body's
/// inputs (carries: initial values; xs: whole stacks); writes in the order of its outputs (carries:
/// final values; ys: whole stacks).
#[derive(Clone, Debug)]
pub struct Loop {
    /// Number of iterations.
    pub length: usize,
    /// Whether the last slice comes first.
    pub reverse: bool,
    /// Number of invariant inputs.
    pub invariants: usize,
    /// Number of carries.
    pub carries: usize,
    /// One iteration.
    pub body: Arc<VerifiedProgram>,
}

/// A loop over a nested Program that goes on while another one says so.
///
/// Both take the invariants, then the carries, and these are the step's reads, dense but for invariants.
/// The condition gives one bool; the body gives the next carries, which are the step's writes.
#[derive(Clone, Debug)]
pub struct While {
    /// Number of invariant inputs.
    pub invariants: usize,
    /// Whether another iteration runs.
    pub condition: Arc<VerifiedProgram>,
    /// One iteration.
    pub body: Arc<VerifiedProgram>,
}

/// One of two nested Programs.
///
/// Reads of the step, dense: the condition, a bool, then the inputs of either Program; writes: its outputs.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Runs if the condition is true.
    pub then: Arc<VerifiedProgram>,
    /// Runs if it is false.
    pub otherwise: Arc<VerifiedProgram>,
}

/// What a step computes.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// A body over a domain.
    Nest(Nest),
    /// Matrix product with an epilogue.
    Dot(Dot),
    /// Index (i64) of the first largest (`max`) or smallest element of each row; NaN wins.
    /// One read over `rows ++ [cols]`, one write over `rows`.
    ArgReduce {
        /// Largest rather than smallest.
        max: bool,
        /// Sizes of the row dims.
        rows: Vec<usize>,
        /// Length of the row; at least 1.
        cols: usize,
    },
    /// Rows of `x` by index: `out[o, i, n] = x[o, idx[i], n]`. Reads dense `x` [outer, axis, inner]
    /// and dense indices (i32 or i64); writes dense. An index outside fails the run.
    Gather {
        /// Elements before the axis.
        outer: usize,
        /// Length of the axis.
        axis: usize,
        /// Elements after the axis.
        inner: usize,
        /// Number of indices.
        count: usize,
    },
    /// `out = base; out[o, idx[i], n] += upd[o, i, n]`, added in index order for each destination.
    /// Reads dense base, indices, updates; writes dense. An index outside fails the run.
    ScatterAdd {
        /// Elements before the axis.
        outer: usize,
        /// Length of the axis.
        axis: usize,
        /// Elements after the axis.
        inner: usize,
        /// Number of indices.
        count: usize,
    },
    /// A `[batch.., k, n]` view (the read) to the form of the written buffer.
    Repack {
        /// Batch dims.
        batch: Vec<usize>,
        /// Contracted size.
        k: usize,
        /// Columns.
        n: usize,
    },
    /// Filters `[k.., C / groups, O]` (the read) to the form of the written buffer.
    RepackFilters {
        /// Spatial sizes.
        kernel: Vec<usize>,
        /// Channels that each filter reads.
        inputs: usize,
        /// Filters of all groups.
        outputs: usize,
        /// Groups.
        groups: usize,
    },
    /// A convolution or an adjoint of it.
    Conv(Box<Conv>),
    /// Work on windows.
    Pool(Box<Pool>),
    /// A counted loop.
    Loop(Loop),
    /// A loop with a condition.
    While(While),
    /// A branch.
    Branch(Branch),
}

/// A body with the domain that it runs over.
#[derive(Clone, Debug)]
pub struct Swept<'a> {
    /// The code.
    pub body: &'a Body,
    /// Sizes of the row dims.
    pub rows: Vec<usize>,
    /// Sizes of the column dims.
    pub cols: Vec<usize>,
    /// Read ports before those that the body loads: they are no elements of the domain.
    pub operands: usize,
}

impl Swept<'_> {
    /// Sizes of all dims.
    pub fn sizes(&self) -> Vec<usize> {
        [&self.rows[..], &self.cols].concat()
    }
}

impl Conv {
    /// Sizes of the operands of read ports 0 and 1, and of the result.
    pub fn sizes(&self) -> [Vec<usize>; 3] {
        let g = &self.geometry;
        let images = |spatial: &[usize], channels| [&[g.batch], spatial, &[channels]].concat();
        let image = images(&g.image, g.channels);
        let result = images(&g.positions, g.outputs);
        let filters = [&g.window.kernel[..], &[g.channels / g.groups, g.outputs]].concat();
        match self.role {
            ConvRole::Forward => [image, filters, result],
            ConvRole::InputGrad => [result, filters, image],
            ConvRole::FilterGrad => [image, result, filters],
        }
    }
}

impl Pool {
    /// Sizes of an image, and of values for each window.
    pub fn sizes(&self) -> [Vec<usize>; 2] {
        let g = &self.geometry;
        let of = |spatial: &[usize]| [&[g.batch], spatial, &[g.channels]].concat();
        [of(&g.image), of(&g.positions)]
    }

    /// Sizes of the result.
    pub fn result(&self) -> Vec<usize> {
        let [image, windows] = self.sizes();
        if self.kind.makes_image() { image } else { windows }
    }
}

impl Kernel {
    /// The body, if the kernel has one.
    pub fn swept(&self) -> Option<Swept<'_>> {
        let last = |body, mut rows: Vec<usize>, operands| {
            let cols = rows.pop().into_iter().collect();
            Some(Swept { body, rows, cols, operands })
        };
        match self {
            Kernel::Nest(n) => {
                Some(Swept { body: &n.body, rows: n.rows.clone(), cols: n.cols.clone(), operands: 0 })
            }
            Kernel::Dot(d) => last(&d.body, [&d.batch[..], &[d.m, d.n]].concat(), 2),
            Kernel::Conv(c) => {
                let [_, _, result] = c.sizes();
                last(&c.body, result, 2)
            }
            Kernel::Pool(p) => last(&p.body, p.result(), p.kind.operands()),
            _ => None,
        }
    }

    /// The dims of a read port that is an operand, over which its view ranges.
    pub fn operand(&self, port: usize) -> Option<Vec<usize>> {
        match (self, port) {
            (Kernel::Dot(d), 0) => Some([&d.batch[..], &[d.m, d.k]].concat()),
            (Kernel::Dot(d), 1) => Some([&d.batch[..], &[d.k, d.n]].concat()),
            (Kernel::Conv(c), 0 | 1) => Some(c.sizes()[port].clone()),
            (Kernel::Pool(p), 0 | 1) if port < p.kind.operands() => {
                let [image, windows] = p.sizes();
                let takes_image =
                    matches!(p.kind, PoolKind::Max { .. } | PoolKind::Gather | PoolKind::Mean { .. });
                Some(if port == 0 && takes_image { image } else { windows })
            }
            _ => None,
        }
    }

    /// Write ports beyond those that the body stores to: a maximum's winners.
    pub fn extra_writes(&self) -> usize {
        match self {
            Kernel::Pool(p) => usize::from(p.kind == PoolKind::Max { winner: true }),
            _ => 0,
        }
    }

    /// Whether it can end the run with an error of the data.
    pub fn can_fail(&self) -> bool {
        match self {
            Kernel::Gather { .. } | Kernel::ScatterAdd { .. } => true,
            Kernel::Loop(_) | Kernel::While(_) | Kernel::Branch(_) => {
                self.programs().iter().any(|(_, p)| p.steps.iter().any(Step::can_fail))
            }
            _ => self.swept().is_some_and(|s| !s.body.checks.is_empty()),
        }
    }

    /// The nested Programs and what they are.
    pub fn programs(&self) -> Vec<(&'static str, &Arc<VerifiedProgram>)> {
        match self {
            Kernel::Loop(l) => vec![("body", &l.body)],
            Kernel::While(w) => vec![("condition", &w.condition), ("body", &w.body)],
            Kernel::Branch(b) => vec![("then", &b.then), ("otherwise", &b.otherwise)],
            _ => Vec::new(),
        }
    }

    /// Name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Kernel::Nest(n) if n.body.folds(FoldAxis::Cols) => "rows",
            Kernel::Nest(n) if n.body.folds(FoldAxis::Rows) => "reduce",
            Kernel::Nest(_) => "map",
            Kernel::Dot(_) => "dot",
            Kernel::ArgReduce { .. } => "arg_reduce",
            Kernel::Gather { .. } => "gather",
            Kernel::ScatterAdd { .. } => "scatter_add",
            Kernel::Repack { .. } | Kernel::RepackFilters { .. } => "repack",
            Kernel::Conv(c) => match c.role {
                ConvRole::Forward => "conv",
                ConvRole::InputGrad => "conv_input_grad",
                ConvRole::FilterGrad => "conv_filter_grad",
            },
            Kernel::Pool(p) => match p.kind {
                PoolKind::Max { .. } => "max_pool",
                PoolKind::Scatter => "window_scatter",
                PoolKind::Gather => "window_gather",
                PoolKind::Mean { .. } => "avg_pool",
                PoolKind::MeanGrad { .. } => "avg_pool_grad",
            },
            Kernel::Loop(_) => "loop",
            Kernel::While(_) => "while",
            Kernel::Branch(_) => "branch",
        }
    }
}
