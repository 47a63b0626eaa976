use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A constant tensor.
    Const {
        /// Its type and elements.
        value: Arc<Tensor>,
    }
}

impl OpDef for Const {
    const NAME: &'static str = "const";
    const SIGNATURE: &'static str = "const{value}() -> x";
    const DOC: &'static str = "A constant: `value` is {\"type\": \"f32[2]\", \"data\": [1, 2]}.";
    const ARITY: RangeInclusive<usize> = 0..=0;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, _: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        Ok(vec![TensorType::fixed(self.value.dtype(), self.value.shape())])
    }

    fn eval(&self, _: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        Ok(vec![(*self.value).clone()])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(Vec::new()))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        [&[][..], &[0], &[1], &[3, 5]]
            .iter()
            .map(|s| Sample::new(Const { value: Arc::new(sample_tensor(s, 1)) }, Vec::new()))
            .collect()
    }
}
