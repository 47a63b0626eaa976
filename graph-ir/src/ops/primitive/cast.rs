use std::ops::RangeInclusive;

use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Conversion to another element type.
    Cast {
        /// The type.
        to: DType,
    }
}

impl OpDef for Cast {
    const NAME: &'static str = "cast";
    const SIGNATURE: &'static str = "cast{to}(x) -> y";
    const DOC: &'static str = "Floats round to nearest even; float to integer truncates and saturates, NaN gives 0; \
        integer to integer wraps; to bool asks whether the value differs from 0.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        Ok(vec![ins[0].with_dtype(self.to)])
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        Ok(vec![ins[0].cast(self.to)])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let from = cx.b.ty(cx.ins[0]).dtype;
        if !from.is_float() || !self.to.is_float() {
            return Ok(Vjp::Grads(vec![None]));
        }
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.op1(Cast { to: from }, &[g])?)]))
    }

    fn samples() -> Vec<Sample> {
        let mut all: Vec<Sample> = [&[][..], &[0], &[1], &[3, 5]]
            .iter()
            .map(|s| Sample::new(Cast { to: DType::F64 }, vec![sample_tensor(s, 1)]))
            .collect();
        for to in DType::ALL {
            all.push(Sample::constant(Cast { to }, vec![sample_tensor(&[7], 2).cast(DType::F32)]));
            all.push(Sample::constant(Cast { to }, vec![sample_tensor(&[7], 2).cast(DType::I32)]));
        }
        all
    }
}
