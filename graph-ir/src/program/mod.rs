//! The Program: plain data that every runtime executes. Kernels over buffers, with a static memory plan.

mod body;
mod kernel;

use std::sync::Arc;

use crate::dtype::DType;
use crate::error::Result;
use crate::origin::Origins;
use crate::tensor::Tensor;

pub use kernel::{Branch, Conv, ConvRole, Dot, Kernel, Loop, Nest, Pool, PoolKind, Swept, While};

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
    /// The device's form of a convolution's filters `[k.., C / groups, O]`; `bytes` in all.
    Filters {
        /// Size.
        bytes: usize,
        /// Which.
        form: FilterForm,
    },
}

/// What filters are prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FilterForm {
    /// Sums of products over the taps.
    Direct,
    /// The same for the gradient in the image, where the two kinds of channels change places.
    DirectTransposed,
    /// Winograd's algorithm F(2x2, 3x3) (Lavin and Gray 2016).
    Winograd,
    /// The same for the gradient in the image.
    WinogradTransposed,
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
            Form::Panels { bytes } | Form::Filters { bytes, .. } => bytes,
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

/// What the device chose for a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Name of the algorithm.
    pub algo: &'static str,
    /// Bytes of scratch memory that it needs.
    pub scratch_bytes: usize,
    /// Bound of the error against exact arithmetic, as a multiple of that of sums in the same type that add one product,
    /// or term, after the other; 0 if only the result is rounded.
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
        self.kernel.can_fail()
    }

    /// Name of the kernel's kind.
    pub fn kind(&self) -> &'static str {
        self.kernel.kind()
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

    /// Which buffers some step writes.
    pub fn written_buffers(&self) -> Vec<bool> {
        let mut written = vec![false; self.buffers.len()];
        for port in self.steps.iter().flat_map(|s| &s.writes) {
            written[port.buffer.index()] = true;
        }
        written
    }

    /// Checks everything that a runtime relies on.
    pub fn verify(self) -> Result<VerifiedProgram> {
        verify::verify(&self)?;
        Ok(VerifiedProgram(self))
    }
}

mod cost;
mod dump;
pub mod reference;
#[cfg(test)]
mod tests;
mod verify;
mod view;
