use std::ops::RangeInclusive;

use super::{coordinates, flat, map_all};
use crate::dim::Dim;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Slice, Vjp, VjpCx, sample_tensor};
use crate::scalar::Number;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A border of a constant.
    Pad {
        /// Elements added before, for every axis.
        lo: Vec<Dim>,
        /// Elements added after.
        hi: Vec<Dim>,
        /// Their value.
        value: Number = Number::from(0),
    }
}

impl OpDef for Pad {
    const NAME: &'static str = "pad";
    const SIGNATURE: &'static str = "pad{lo, hi, value = 0}(x) -> y";
    const DOC: &'static str = "x with lo[i] elements of `value` before and hi[i] after along each axis. A `value` that does not fit the \
        element type is an error.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.lo.len() != ins[0].rank() || self.hi.len() != ins[0].rank() {
            fail!("lo and hi need one entry for each of the {} axes of {}", ins[0].rank(), ins[0]);
        }
        self.value.of(ins[0].dtype)?;
        let mut dims = Vec::new();
        for ((lo, hi), d) in self.lo.iter().zip(&self.hi).zip(&ins[0].dims) {
            cx.at_least(lo, 0, "padding is not negative")?;
            cx.at_least(hi, 0, "padding is not negative")?;
            dims.push(lo.add(d)?.add(hi)?);
        }
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let lo = TensorType::new(outs[0].dtype, self.lo.clone()).static_shape();
        let (from, to) = (ins[0].shape(), outs[0].static_shape());
        let mut out = Tensor::full(outs[0].dtype, &to, self.value.of(outs[0].dtype)?);
        let mut target = vec![0; from.len()];
        coordinates(from, |i, at| {
            for (t, (a, l)) in target.iter_mut().zip(at.iter().zip(&lo)) {
                *t = a + l;
            }
            out.set(flat(&target, &to), ins[0].get(i));
        });
        Ok(vec![out])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let dims = cx.b.ty(cx.ins[0]).dims.clone();
        let limits = self.lo.iter().zip(&dims).map(|(l, d)| Ok(l.add(d)?)).collect::<Result<_>>()?;
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.op1(Slice { starts: self.lo.clone(), limits }, &[g])?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Pad { lo: map_all(&self.lo, f)?, hi: map_all(&self.hi, f)?, value: self.value })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |s: &[usize], lo: &[usize], hi: &[usize], value: f64| {
            let dims = |v: &[usize]| v.iter().map(|d| Dim::from(*d)).collect();
            let op = Pad { lo: dims(lo), hi: dims(hi), value: Number::from(value) };
            Sample::new(op, vec![sample_tensor(s, 1)])
        };
        vec![
            case(&[], &[], &[], 0.0),
            case(&[0], &[2], &[1], 1.5),
            case(&[1], &[0], &[2], 0.0),
            case(&[3, 5], &[1, 0], &[0, 2], -2.0),
        ]
    }
}
