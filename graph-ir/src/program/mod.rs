//! The Program: plain data that every runtime executes. Kernels over buffers, with a static memory plan.

mod body;

use std::sync::Arc;

use crate::dtype::DType;
use crate::error::Result;
use crate::origin::Origins;
use crate::tensor::Tensor;

pub use body::{Body, BodyCheck, FoldAxis, FoldKind, Inst, InstOp, Level, Reg, Store};

/// A buffer of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

impl BufferId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a buffer's elements lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Row-major.
    Dense,
    /// The device's packed panels of a `[batch.., k, n]` dot operand; `bytes` in all.
    Panels {
        /// Size.
        bytes: usize,
    },
}

/// Where a buffer lives and who writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// Function input; read only.
    Input(usize),
    /// Function output.
    Output(usize),
    /// An entry of [`Program::constants`]; read only.
    Const(usize),
    /// A state variable: read before the commit point, written after it.
    State(usize),
    /// A result of the prepare Program; read only.
    Staged(usize),
    /// A place in the arena.
    Temp,
}

/// A buffer: what it holds and where.
#[derive(Clone, Debug)]
pub struct BufferDecl {
    /// Element type.
    pub dtype: DType,
    /// Sizes of the dense tensor that it holds.
    pub shape: Vec<usize>,
    /// Memory form.
    pub form: Form,
    /// Role.
    pub kind: BufferKind,
}

impl BufferDecl {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self.form {
            Form::Dense => self.shape.iter().product::<usize>() * self.dtype.size(),
            Form::Panels { bytes } => bytes,
        }
    }
}

/// The part of an iteration domain that an access covers, and what it reads elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guard {
    /// First coordinate inside, for every dim of the domain.
    pub lo: Vec<usize>,
    /// First coordinate beyond.
    pub hi: Vec<usize>,
    /// Value outside.
    pub fill: crate::scalar::Scalar,
}

/// How an iteration domain's coordinates address a buffer: `offset + sum(coord * stride)`, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Element at the origin of the domain (with a guard: where it would be, perhaps negative).
    pub offset: isize,
    /// Stride of every dim of the domain; 0 where the access does not vary.
    pub strides: Vec<isize>,
    /// Padding, on reads of nests only.
    pub guard: Option<Guard>,
}

impl View {
    /// Row-major over a shape.
    pub fn dense(shape: &[usize]) -> View {
        View { offset: 0, strides: crate::tensor::row_major(shape), guard: None }
    }
}

/// A buffer seen through a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// The buffer.
    pub buffer: BufferId,
    /// The view, over the kernel's domain (see [`Kernel`]).
    pub view: View,
}

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
    /// A counted loop.
    Loop(Loop),
}

/// What the device chose for a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Name of the algorithm.
    pub algo: &'static str,
    /// Bytes of scratch memory that it needs.
    pub scratch_bytes: usize,
    /// Error against exact arithmetic, as a multiple of the direct algorithm's.
    pub error_class: f32,
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it computes.
    pub kernel: Kernel,
    /// Operands.
    pub reads: Vec<Port>,
    /// Results.
    pub writes: Vec<Port>,
    /// The device's choice.
    pub choice: Choice,
    /// The user's nodes that it does the work of.
    pub origins: Origins,
}

impl Step {
    /// Whether it can end the run with an error of the data.
    pub fn can_fail(&self) -> bool {
        match &self.kernel {
            Kernel::Nest(n) => !n.body.checks.is_empty(),
            Kernel::Dot(d) => !d.body.checks.is_empty(),
            Kernel::Gather { .. } | Kernel::ScatterAdd { .. } => true,
            Kernel::Loop(l) => l.body.steps.iter().any(Step::can_fail),
            Kernel::ArgReduce { .. } | Kernel::Repack { .. } => false,
        }
    }

    /// Name of the kernel's kind.
    pub fn kind(&self) -> &'static str {
        match &self.kernel {
            Kernel::Nest(n) if n.body.folds(FoldAxis::Cols) => "rows",
            Kernel::Nest(n) if n.body.folds(FoldAxis::Rows) => "reduce",
            Kernel::Nest(_) => "map",
            Kernel::Dot(_) => "dot",
            Kernel::ArgReduce { .. } => "arg_reduce",
            Kernel::Gather { .. } => "gather",
            Kernel::ScatterAdd { .. } => "scatter_add",
            Kernel::Repack { .. } => "repack",
            Kernel::Loop(_) => "loop",
        }
    }
}

/// Where temporaries and scratch lie in the arena.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// Byte offset of every temporary buffer; `None` for the others.
    pub offsets: Vec<Option<usize>>,
    /// Byte offset of every step's scratch; 0 where it needs none.
    pub scratch: Vec<usize>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Largest sum of live bytes: no plan can need less.
    pub live_bytes: usize,
    /// Steps and (read, write) port pairs that share memory on purpose: same bytes, same index.
    pub in_place: Vec<(usize, usize, usize)>,
}

/// Steps over buffers.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Buffers.
    pub buffers: Vec<BufferDecl>,
    /// Constants, by the index in [`BufferKind::Const`].
    pub constants: Vec<Arc<Tensor>>,
    /// Kernel launches in order.
    pub steps: Vec<Step>,
    /// Steps before this index write no state, steps from it on cannot fail.
    pub commit: usize,
    /// Buffers of the inputs, in order.
    pub inputs: Vec<BufferId>,
    /// Buffers of the outputs, in order.
    pub outputs: Vec<BufferId>,
    /// Where temporaries lie.
    pub plan: MemoryPlan,
}

/// A Program that passed the verifier; only [`Program::verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedProgram(Program);

impl std::ops::Deref for VerifiedProgram {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl Program {
    /// A buffer's declaration.
    pub fn buffer(&self, id: BufferId) -> &BufferDecl {
        &self.buffers[id.index()]
    }

    /// Checks everything that a runtime relies on.
    pub fn verify(self) -> Result<VerifiedProgram> {
        verify::verify(&self)?;
        Ok(VerifiedProgram(self))
    }
}

mod dump;
pub mod reference;
#[cfg(test)]
mod tests;
mod verify;
mod view;
