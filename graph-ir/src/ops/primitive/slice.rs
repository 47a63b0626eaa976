use std::ops::RangeInclusive;

use super::{flat, map_all, rearrange};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Pad, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A box of the operand.
    Slice {
        /// First coordinate of every axis.
        starts: Vec<Dim>,
        /// First coordinate beyond.
        limits: Vec<Dim>,
    }
}

impl Builder {
    /// Elements `start..limit` along one axis.
    pub fn slice_axis(&mut self, x: ValueId, axis: usize, start: &Dim, limit: &Dim) -> Result<ValueId> {
        let ty = self.ty(x).clone();
        if axis >= ty.rank() {
            fail!("axis {axis} is out of range for {ty}");
        }
        let mut starts = vec![Dim::from(0usize); ty.rank()];
        let mut limits = ty.dims.clone();
        (starts[axis], limits[axis]) = (start.clone(), limit.clone());
        self.op1(Slice { starts, limits }, &[x])
    }
}

impl OpDef for Slice {
    const NAME: &'static str = "slice";
    const SIGNATURE: &'static str = "slice{starts, limits}(x) -> y";
    const DOC: &'static str = "The box starts[i]..limits[i] of x.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.starts.len() != ins[0].rank() || self.limits.len() != ins[0].rank() {
            fail!("starts and limits need one entry for each of the {} axes of {}", ins[0].rank(), ins[0]);
        }
        let mut dims = Vec::new();
        for ((s, l), d) in self.starts.iter().zip(&self.limits).zip(&ins[0].dims) {
            let size = l.sub(s)?;
            cx.at_least(s, 0, "a slice starts at 0 or later")?;
            cx.at_least(&size, 0, "a slice ends at its start or later")?;
            cx.at_least(&d.sub(l)?, 0, "a slice ends inside its operand")?;
            dims.push(size);
        }
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let starts = TensorType::new(outs[0].dtype, self.starts.clone()).static_shape();
        let (shape, mut from) = (ins[0].shape(), vec![0; starts.len()]);
        Ok(vec![rearrange(ins[0], &outs[0].static_shape(), |at| {
            for (f, (a, s)) in from.iter_mut().zip(at.iter().zip(&starts)) {
                *f = a + s;
            }
            flat(&from, shape)
        })])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let dims = cx.b.ty(cx.ins[0]).dims.clone();
        let hi = dims.iter().zip(&self.limits).map(|(d, l)| Ok(d.sub(l)?)).collect::<Result<_>>()?;
        let g = cx.g();
        let pad = Pad { lo: self.starts.clone(), hi, value: 0.into() };
        Ok(Vjp::Grads(vec![Some(cx.b.op1(pad, &[g])?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Slice { starts: map_all(&self.starts, f)?, limits: map_all(&self.limits, f)? })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |s: &[usize], starts: &[usize], limits: &[usize]| {
            let dims = |v: &[usize]| v.iter().map(|d| Dim::from(*d)).collect();
            Sample::new(Slice { starts: dims(starts), limits: dims(limits) }, vec![sample_tensor(s, 1)])
        };
        vec![
            case(&[], &[], &[]),
            case(&[3], &[1], &[1]),
            case(&[1], &[0], &[1]),
            case(&[5, 7], &[1, 2], &[4, 7]),
        ]
    }
}
