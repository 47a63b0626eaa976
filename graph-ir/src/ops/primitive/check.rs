use std::ops::RangeInclusive;

use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::text::visible;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A condition that must hold for the run to succeed.
    Check {
        /// What the error says.
        message: String,
    }
}

impl OpDef for Check {
    const NAME: &'static str = "check";
    const SIGNATURE: &'static str = "check{message}(x, condition bool) -> x";
    const DOC: &'static str = "x, unless some element of `condition` is false: then the run fails with `message` and \
        no state changes. It is an effect, as the indices of `gather`, `scatter_add` and `embedding`, labels and \
        lengths are: whenever a function, a body or a branch runs, all that can fail in it is checked, whether or not a \
        result depends on it, on every device, and no rewrite and no derivative drops it.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        if ins[1].dtype != DType::Bool {
            fail!("a condition is bool, but got {}", ins[1]);
        }
        Ok(vec![ins[0].clone()])
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        if ins[1].bytes().contains(&0) {
            fail!("{}", visible(&self.message));
        }
        Ok(vec![ins[0].clone()])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![Some(cx.g()), None]))
    }

    fn samples() -> Vec<Sample> {
        let holds = |s: &[usize]| Tensor::full(DType::Bool, s, Scalar::B(true));
        [(&[][..], "first"), (&[0], "second"), (&[1], "third"), (&[3, 5], "fourth")]
            .iter()
            .map(|(s, m)| Sample::new(Check { message: (*m).into() }, vec![sample_tensor(s, 1), holds(s)]))
            .collect()
    }
}
