//! What derivatives of operations are written with.

use crate::autodiff::Dual;
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::scalar::Number;
use crate::tensor::Tensor;

/// Why an operation has no gradient: one sentence, shown with the node.
pub type NoGradient = &'static str;

/// The outcome of [`super::OpDef::vjp`].
#[derive(Debug)]
pub enum Vjp {
    /// One gradient an operand; `None` where it is zero (or the operand is not differentiable).
    Grads(Vec<Option<ValueId>>),
    /// The composite has no rule of its own: differentiate its expansion.
    Expand,
    /// There is none, and why.
    None(NoGradient),
}

/// The outcome of [`super::OpDef::jvp`].
#[derive(Debug)]
pub enum Jvp {
    /// Every result with its tangent.
    Duals(Vec<Dual>),
    /// There is no rule: the gradient of the gradient, or the composite's expansion, gives the tangents.
    Transpose,
}

/// A node seen by its Jacobian-vector product.
pub struct JvpCx<'a> {
    /// Where values and tangents go.
    pub b: &'a mut Builder,
    /// The node's operands.
    pub ins: &'a [ValueId],
    /// Their tangents; `None` is zero.
    pub tangents: &'a [Option<ValueId>],
}

/// A node seen by its vector-Jacobian product.
pub struct VjpCx<'a> {
    /// Where the gradient's nodes go.
    pub b: &'a mut Builder,
    /// The node's operands.
    pub ins: &'a [ValueId],
    /// The node's results.
    pub outs: &'a [ValueId],
    /// Gradients of the results; `None` is zero.
    pub grads: &'a [Option<ValueId>],
}

impl VjpCx<'_> {
    /// The gradient of the only result, which exists or the rule would not be asked.
    pub fn g(&self) -> ValueId {
        self.grads[0].expect("rules are asked for live gradients only")
    }

    /// Gradient of result `k`, zeros where it is absent.
    pub fn grad_or_zero(&mut self, k: usize) -> Result<ValueId> {
        match self.grads[k] {
            Some(g) => Ok(g),
            None => self.b.zeros_like(self.outs[k]),
        }
    }
}

impl Builder {
    /// A rank-0 constant.
    ///
    /// # Errors
    /// A number that does not fit the type.
    pub fn scalar(&mut self, dtype: DType, value: impl Into<Number>) -> Result<ValueId> {
        let value: Number = value.into();
        let value = value.of(dtype)?;
        self.constant(Tensor::scalar(dtype, value))
    }

    /// A constant of a value's type and dims.
    ///
    /// # Errors
    /// A number that does not fit the type.
    pub fn full_like(&mut self, v: ValueId, value: impl Into<Number>) -> Result<ValueId> {
        let ty = self.ty(v).clone();
        let s = self.scalar(ty.dtype, value)?;
        self.broadcast(s, &ty.dims, &[])
    }

    /// Zeros of a value's type and dims.
    pub fn zeros_like(&mut self, v: ValueId) -> Result<ValueId> {
        self.full_like(v, 0)
    }
}
