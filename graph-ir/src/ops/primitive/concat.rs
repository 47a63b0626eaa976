use std::ops::RangeInclusive;

use super::{coordinates, flat};
use crate::dim::Dim;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Operands one after another along an axis.
    Concat {
        /// The axis.
        axis: usize,
    }
}

impl OpDef for Concat {
    const NAME: &'static str = "concat";
    const SIGNATURE: &'static str = "concat{axis}(x, …) -> y";
    const DOC: &'static str = "The operands one after another along `axis`; their other sizes agree.";
    const ARITY: RangeInclusive<usize> = 1..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let first = &ins[0];
        if self.axis >= first.rank() {
            fail!("axis {} is out of range for {first}", self.axis);
        }
        let mut dims = first.dims.clone();
        for t in &ins[1..] {
            if t.dtype != first.dtype || t.rank() != first.rank() {
                fail!("operands of a concat have one element type and rank, but got {first} and {t}");
            }
            for (i, (a, b)) in first.dims.iter().zip(&t.dims).enumerate() {
                if i == self.axis {
                    dims[i] = dims[i].add(b)?;
                } else {
                    cx.eq(a, b, "operands of a concat agree off its axis")?;
                }
            }
        }
        Ok(vec![TensorType::new(first.dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let to = outs[0].static_shape();
        let mut out = Tensor::zeros(outs[0].dtype, &to);
        let (mut start, mut target) = (0, vec![0; to.len()]);
        for x in ins {
            coordinates(x.shape(), |i, at| {
                target.copy_from_slice(at);
                target[self.axis] += start;
                out.set(flat(&target, &to), x.get(i));
            });
            start += x.shape()[self.axis];
        }
        Ok(vec![out])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        let mut start = Dim::from(0usize);
        let mut grads = Vec::new();
        for x in cx.ins {
            let limit = start.add(&cx.b.ty(*x).dims[self.axis])?;
            grads.push(Some(cx.b.slice_axis(g, self.axis, &start, &limit)?));
            start = limit;
        }
        Ok(Vjp::Grads(grads))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |shapes: &[&[usize]], axis| {
            let ins = shapes.iter().enumerate().map(|(i, s)| sample_tensor(s, i as u64 + 1)).collect();
            Sample::new(Concat { axis }, ins)
        };
        vec![
            case(&[&[1]], 0),
            case(&[&[0], &[3]], 0),
            case(&[&[3, 5], &[3, 2], &[3, 1]], 1),
            case(&[&[2, 3], &[4, 3]], 0),
        ]
    }
}
