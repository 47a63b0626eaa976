use std::ops::RangeInclusive;

use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Its operand, treated as a constant by differentiation.
    StopGradient {}
}

impl OpDef for StopGradient {
    const NAME: &'static str = "stop_gradient";
    const SIGNATURE: &'static str = "stop_gradient(x) -> x";
    const DOC: &'static str = "x; its gradient is zero.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        Ok(ins.to_vec())
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        Ok(vec![ins[0].clone()])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![None]))
    }

    fn samples() -> Vec<Sample> {
        [&[][..], &[0], &[1], &[3, 5]]
            .iter()
            .map(|s| Sample::constant(StopGradient {}, vec![sample_tensor(s, 1)]))
            .collect()
    }
}
