//! Constant linear maps and constant choices along one axis.

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::ops::primitive::inverse;
use crate::ops::{Dot, Gather};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The size of an axis, which must be a number.
pub(super) fn number(name: &str, ty: &TensorType, axis: usize) -> Result<usize> {
    match ty.dims[axis].as_const().and_then(|n| usize::try_from(n).ok()) {
        Some(n) => Ok(n),
        None => fail!(
            "{name} chooses elements by the size of axis {axis}, which must be a number, but in {ty} it is `{}`",
            ty.dims[axis]
        ),
    }
}

/// Most elements of the matrix of a linear map: what a file may ask for has a limit.
const MAX_MATRIX: usize = 1 << 26;

/// Checks the size of the matrix of [`combine`].
pub(super) fn check_matrix(name: &str, inputs: usize, outputs: usize) -> Result<()> {
    match inputs.checked_mul(outputs) {
        Some(n) if n <= MAX_MATRIX => Ok(()),
        _ => fail!("{name} from {inputs} to {outputs} elements along an axis is too large"),
    }
}

/// y[.., o, ..] = the sum over i of weight(o, i) * x[.., i, ..] along an axis whose size is a number.
pub(super) fn combine(
    b: &mut Builder,
    x: ValueId,
    axis: usize,
    outputs: usize,
    weight: impl Fn(usize, usize) -> f64,
) -> Result<ValueId> {
    let ty = b.ty(x).clone();
    let inputs = number("a linear map", &ty, axis)?;
    let matrix = Tensor::from_fn(ty.dtype, &[inputs, outputs], |k| {
        Scalar::F(weight(k % outputs.max(1), k / outputs.max(1)))
    });
    let matrix = b.constant(matrix)?;
    let perm: Vec<usize> = (0..ty.rank()).filter(|a| *a != axis).chain([axis]).collect();
    let x = b.transpose(x, &perm)?;
    let mut dims = b.ty(x).dims.clone();
    let rows = Dim::product_of(&dims[..ty.rank() - 1])?;
    let x = b.reshape(x, &[rows, Dim::from(inputs)])?;
    let y = b.op1(Dot {}, &[x, matrix])?;
    dims[ty.rank() - 1] = Dim::from(outputs);
    let y = b.reshape(y, &dims)?;
    b.transpose(y, &inverse(&perm))
}

/// y[.., o, ..] = x[.., indices[o], ..] along an axis.
pub(super) fn choose(b: &mut Builder, x: ValueId, axis: usize, indices: &[usize]) -> Result<ValueId> {
    let narrow = indices.iter().all(|i| i32::try_from(*i).is_ok());
    let dtype = if narrow { DType::I32 } else { DType::I64 };
    let indices = Tensor::from_fn(dtype, &[indices.len()], |k| Scalar::I(indices[k] as i128));
    let indices = b.constant(indices)?;
    b.op1(Gather { axis }, &[x, indices])
}
