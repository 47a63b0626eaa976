//! The operations: one closed enum made by one list, each operation in one file.

pub mod attr;
mod composite;
mod half;
mod primitive;
mod set;
mod vjp;

use std::ops::RangeInclusive;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

use composite::eval_expansion;
pub use composite::*;
pub use primitive::*;
pub use set::{Op, OpInfo};
pub use vjp::{Jvp, JvpCx, NoGradient, Vjp, VjpCx};

/// What an operation must say of itself; the op list dispatches to it.
pub trait OpDef: attr::Attrs + Sized + Clone {
    /// Name in files.
    const NAME: &'static str;
    /// Operands and results, for messages and the generated documentation.
    const SIGNATURE: &'static str;
    /// One or two sentences: meaning, shapes, source of the formula.
    const DOC: &'static str;
    /// Number of operands.
    const ARITY: RangeInclusive<usize>;

    /// Name of this instance: a map has that of its function.
    fn name(&self) -> &'static str {
        Self::NAME
    }

    /// Operands and results of this instance.
    fn signature(&self) -> String {
        Self::SIGNATURE.into()
    }

    /// Number of operands of this instance.
    fn arity(&self) -> RangeInclusive<usize> {
        Self::ARITY
    }

    /// Whether f16 and bf16 operands are taken as they are: by what moves elements, by products, which are summed in f32,
    /// and by what has a body of types of its own. All else computes on the f32 that they equal, and is never asked with
    /// other floats than f32 and f64.
    fn takes_halves(&self) -> bool {
        false
    }

    /// Types of the results; the verifier is this function.
    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>>;

    /// Reference semantics on concrete tensors; `outs` are the bound result types.
    ///
    /// Composites inherit this: their meaning is their expansion.
    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let _ = outs;
        eval_expansion(self, ins)
    }

    /// Gradients of the operands, as nodes appended to the graph.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp>;

    /// Results with their tangents. What has no bodies needs no rule of its own.
    fn jvp(&self, cx: &mut JvpCx<'_>) -> Result<Jvp> {
        let _ = cx;
        Ok(Jvp::Transpose)
    }

    /// The definition in simpler operations; `None` for a primitive.
    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let _ = (b, ins);
        Ok(None)
    }

    /// The same operation with every dim in its attributes replaced.
    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        let _ = f;
        Ok(self.clone())
    }

    /// Floating-point operations (or, for movement, none) for these types.
    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let _ = ins;
        outs.first()?.shape().map(|s| s.iter().map(|d| *d as f64).product())
    }

    /// Applications that every registry test runs: each attribute with two values, ranks 0 and up,
    /// sizes 0, 1 and odd.
    fn samples() -> Vec<Sample>;
}

/// One application of an operation for the registry tests.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operation.
    pub op: Op,
    /// Operands.
    pub ins: Vec<Tensor>,
    /// Operands that gradients are checked for.
    pub wrt: Vec<usize>,
}

impl Sample {
    /// A sample whose float operands are all differentiable.
    pub fn new(op: impl Into<Op>, ins: Vec<Tensor>) -> Sample {
        let wrt = (0..ins.len()).filter(|i| ins[*i].dtype().is_float()).collect();
        Sample { op: op.into(), ins, wrt }
    }

    /// Without gradient checks (a discrete result, or no derivative).
    pub fn constant(op: impl Into<Op>, ins: Vec<Tensor>) -> Sample {
        Sample { op: op.into(), ins, wrt: Vec::new() }
    }
}

/// Sample data: reproducible, without ties, in about -2..2, away from kinks at integers.
pub fn sample_tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut i = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Tensor::from_fn(crate::dtype::DType::F64, shape, |_| {
        i = i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let u = (i >> 11) as f64 / (1u64 << 53) as f64;
        let v = u * 4.0 - 2.0;
        let nearest = v.round();
        let away = if (v - nearest).abs() < 0.03 { nearest + 0.07 } else { v };
        crate::scalar::Scalar::F(away)
    })
}

/// Sample data, all positive, in 0.3..2.8.
pub fn sample_positive(shape: &[usize], seed: u64) -> Tensor {
    let t = sample_tensor(shape, seed);
    Tensor::from_fn(t.dtype(), shape, |i| crate::scalar::Scalar::F(t.get(i).as_f64() * 0.6 + 1.55))
}

/// Sample indices below `limit`.
pub fn sample_indices(shape: &[usize], limit: usize, seed: u64) -> Tensor {
    Tensor::from_fn(crate::dtype::DType::I32, shape, |i| {
        crate::scalar::Scalar::I(((i as u64 * 7 + seed * 3 + 1) % limit.max(1) as u64) as i128)
    })
}
