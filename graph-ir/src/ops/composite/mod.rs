//! Composite operations: named, with a definition in simpler ones. One file each.

mod activation;
mod batch_norm;
mod cross_entropy;
mod dropout;
mod flatten;
mod linear;
mod mse;
mod random;
mod softmax;

pub use activation::{Elu, Gelu, HardTanh, LeakyRelu, Silu};
pub use batch_norm::{BatchNorm, BatchNormInference};
pub use cross_entropy::{CrossEntropy, Reduction};
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use linear::Linear;
pub use mse::Mse;
pub use random::{Normal, Uniform};
pub use softmax::{LogSoftmax, Softmax};

use crate::builder::Builder;
use crate::error::Result;
use crate::interp;
use crate::ops::OpDef;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A composite's reference semantics: its expansion, evaluated.
pub(super) fn eval_expansion<O: OpDef>(op: &O, ins: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut b = Builder::new();
    let args =
        ins.iter().map(|t| b.input(TensorType::fixed(t.dtype(), t.shape()))).collect::<Result<Vec<_>>>()?;
    let Some(outs) = op.expand(&mut b, &args)? else {
        fail!("`{}` has neither an evaluation nor an expansion", O::NAME);
    };
    interp::eval(&b.finish(&outs)?, ins, &[])
}

/// Result types of a composite, inferred by expanding it: what the parts demand is demanded of it.
pub(super) fn infer_expansion<O: OpDef>(
    op: &O,
    ins: &[TensorType],
    cx: &mut crate::types::Infer,
) -> Result<Vec<TensorType>> {
    let mut b = Builder::with_infer(cx.clone());
    let args = ins.iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
    let Some(outs) = op.expand(&mut b, &args)? else {
        fail!("`{}` has neither an inference nor an expansion", O::NAME);
    };
    *cx = b.graph().infer().clone();
    Ok(outs.iter().map(|o| b.ty(*o).clone()).collect())
}

/// Checks that the first operand is f32 or f64.
pub(super) fn check_float(name: &str, ty: &TensorType) -> Result<()> {
    if !ty.dtype.is_compute_float() {
        fail!("{name} takes f32 or f64, but got {ty}; add a cast");
    }
    Ok(())
}

/// Checks an axis.
pub(super) fn check_axis(axis: usize, ty: &TensorType) -> Result<()> {
    if axis >= ty.rank() {
        fail!("axis {axis} is out of range for {ty}, which has {} dims", ty.rank());
    }
    Ok(())
}
