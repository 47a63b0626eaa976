use std::ops::RangeInclusive;

use super::{flat, rearrange};
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Another order of the axes.
    Transpose {
        /// Axis of the operand that each axis of the result is.
        perm: Vec<usize>,
    }
}

impl Builder {
    /// Reorders axes, unless the order is the present one.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().copied().eq(0..self.ty(x).rank()) {
            return Ok(x);
        }
        self.op1(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// Swaps the last two axes.
    pub fn swap_last(&mut self, x: ValueId) -> Result<ValueId> {
        let rank = self.ty(x).rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        self.transpose(x, &perm)
    }
}

/// The permutation that undoes another.
pub(crate) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inv = vec![0; perm.len()];
    for (i, p) in perm.iter().enumerate() {
        inv[*p] = i;
    }
    inv
}

impl OpDef for Transpose {
    const NAME: &'static str = "transpose";
    const SIGNATURE: &'static str = "transpose{perm}(x) -> y";
    const DOC: &'static str = "Axis i of y is axis perm[i] of x.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..ins[0].rank()) {
            fail!("perm {:?} is not a permutation of the {} axes of {}", self.perm, ins[0].rank(), ins[0]);
        }
        let dims: Vec<_> = self.perm.iter().map(|p| ins[0].dims[*p].clone()).collect();
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let (shape, mut from) = (ins[0].shape(), vec![0; self.perm.len()]);
        Ok(vec![rearrange(ins[0], &outs[0].static_shape(), |at| {
            for (i, p) in self.perm.iter().enumerate() {
                from[*p] = at[i];
            }
            flat(&from, shape)
        })])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.transpose(g, &inverse(&self.perm))?)]))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case =
            |s: &[usize], p: &[usize]| Sample::new(Transpose { perm: p.to_vec() }, vec![sample_tensor(s, 1)]);
        vec![
            case(&[], &[]),
            case(&[1], &[0]),
            case(&[0, 3], &[1, 0]),
            case(&[3, 5], &[1, 0]),
            case(&[2, 3, 5], &[1, 2, 0]),
        ]
    }
}
