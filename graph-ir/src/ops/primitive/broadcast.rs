use std::ops::RangeInclusive;

use super::{check_axes, map_all, rearrange};
use crate::autodiff;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Repetition along new axes.
    Broadcast {
        /// Dims of the result.
        dims: Vec<Dim>,
        /// Axis of the result that each axis of the operand becomes; increasing.
        axes: Vec<usize>,
    }
}

impl Builder {
    /// Repeats `x` along the axes of `dims` that `axes` does not name; none is added for nothing.
    pub fn broadcast(&mut self, x: ValueId, dims: &[Dim], axes: &[usize]) -> Result<ValueId> {
        if self.ty(x).dims == dims && axes.iter().copied().eq(0..dims.len()) {
            return Ok(x);
        }
        self.op1(Broadcast { dims: dims.to_vec(), axes: axes.to_vec() }, &[x])
    }
}

impl OpDef for Broadcast {
    const NAME: &'static str = "broadcast";
    const SIGNATURE: &'static str = "broadcast{dims, axes}(x) -> y";
    const DOC: &'static str = "y has `dims`; axis i of x is axis axes[i] of y and of the same size; y repeats x along \
        the others.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let out = TensorType::new(ins[0].dtype, self.dims.clone());
        check_axes(&self.axes, &out)?;
        if self.axes.len() != ins[0].rank() {
            fail!("axes {:?} name {} axes, but {} has {}", self.axes, self.axes.len(), ins[0], ins[0].rank());
        }
        for (i, a) in self.axes.iter().enumerate() {
            cx.eq(&ins[0].dims[i], &self.dims[*a], "a broadcast keeps the sizes of its operand")?;
        }
        Ok(vec![out])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let shape = ins[0].shape();
        Ok(vec![rearrange(ins[0], &outs[0].static_shape(), |at| {
            self.axes.iter().zip(shape).fold(0, |n, (a, s)| n * s + at[*a])
        })])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let added: Vec<usize> = (0..self.dims.len()).filter(|a| !self.axes.contains(a)).collect();
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(autodiff::sum(cx.b, g, &added)?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Broadcast { dims: map_all(&self.dims, f)?, axes: self.axes.clone() })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |from: &[usize], to: &[usize], axes: &[usize]| {
            let dims = to.iter().map(|d| Dim::from(*d)).collect();
            Sample::new(Broadcast { dims, axes: axes.to_vec() }, vec![sample_tensor(from, 1)])
        };
        vec![
            case(&[], &[], &[]),
            case(&[], &[3], &[]),
            case(&[0], &[0, 2], &[0]),
            case(&[1], &[3, 1], &[1]),
            case(&[5], &[3, 5], &[1]),
            case(&[3], &[3, 5], &[0]),
            case(&[3, 5], &[2, 3, 7, 5], &[1, 3]),
        ]
    }
}
