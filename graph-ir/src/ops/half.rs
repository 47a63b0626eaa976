//! Operations on f16 and bf16 that do not take them as they are.
//!
//! Such an operation computes on the f32 that its operands equal, and its f32 results are rounded to the operands' type.
//! That is an expansion like that of a composite, and here is all that there is to it: inference, evaluation, derivatives
//! and compilation follow from it.

use std::borrow::Cow;

use super::{Cast, Op};
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// The storage type of the operands, if the operation computes on f32 in its place.
///
/// # Errors
/// Floats of other types beside it.
pub(super) fn storage(op: &Op, mut operands: impl Iterator<Item = DType> + Clone) -> Result<Option<DType>> {
    let Some(half) = operands.clone().find(|t| t.is_half()) else { return Ok(None) };
    if op.takes_halves() {
        return Ok(None);
    }
    if let Some(other) = operands.find(|t| t.is_float() && *t != half) {
        fail!("{} takes floats of one type, but got {half} and {other}; add a cast", op.name());
    }
    Ok(Some(half))
}

/// Types with f32 in the place of a storage type.
pub(super) fn widened(types: &[TensorType], half: DType) -> Vec<TensorType> {
    types.iter().map(|t| if t.dtype == half { t.with_dtype(DType::F32) } else { t.clone() }).collect()
}

/// Types of results that were f32.
pub(super) fn narrowed(types: Vec<TensorType>, half: DType) -> Vec<TensorType> {
    types.into_iter().map(|t| if t.dtype == DType::F32 { t.with_dtype(half) } else { t }).collect()
}

/// Operands with f32 in the place of a storage type.
pub(super) fn widened_tensors<'a>(ins: &[&'a Tensor], half: DType) -> Vec<Cow<'a, Tensor>> {
    let wide = |t: &&'a Tensor| match t.dtype() == half {
        true => Cow::Owned(t.cast(DType::F32)),
        false => Cow::Borrowed(*t),
    };
    ins.iter().map(wide).collect()
}

/// The operation in f32, between casts.
pub(super) fn expand(op: &Op, b: &mut Builder, ins: &[ValueId], half: DType) -> Result<Vec<ValueId>> {
    let mut wide = Vec::with_capacity(ins.len());
    for v in ins {
        let is_half = b.ty(*v).dtype == half;
        wide.push(if is_half { b.op1(Cast { to: DType::F32 }, &[*v])? } else { *v });
    }
    let outs = b.op(op.clone(), &wide)?;
    let narrow = |v: &ValueId| {
        let is_wide = b.ty(*v).dtype == DType::F32;
        if is_wide { b.op1(Cast { to: half }, &[*v]) } else { Ok(*v) }
    };
    outs.iter().map(narrow).collect()
}
