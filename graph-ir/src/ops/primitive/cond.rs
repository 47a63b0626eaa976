use std::ops::RangeInclusive;
use std::sync::Arc;

use super::body::{body_results, check_operands, eval_body};
use crate::autodiff;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Graph;
use crate::interp;
use crate::op_struct;
use crate::ops::{Jvp, JvpCx, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// One of two functions, chosen by a condition.
    Cond {
        /// What runs if the condition holds.
        then: Arc<Graph>,
        /// What runs if it does not.
        otherwise: Arc<Graph>,
    }
}

impl OpDef for Cond {
    const NAME: &'static str = "cond";
    const SIGNATURE: &'static str = "cond{then, otherwise}(condition bool[], x…) -> y…";
    const DOC: &'static str = "Runs the function `then` of the operands after the condition if it is true, else the \
        function `otherwise`; both give results of the same types. The other one does not run. The gradient runs \
        the chosen function again.";
    const ARITY: RangeInclusive<usize> = 1..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if ins[0] != TensorType::fixed(DType::Bool, &[]) {
            fail!("the condition is bool[], but got {}; reduce it to one value", ins[0]);
        }
        check_operands("then", &self.then, &ins[1..], cx)?;
        check_operands("otherwise", &self.otherwise, &ins[1..], cx)?;
        let (a, b) = (body_results(&self.then), body_results(&self.otherwise));
        if a.len() != b.len() {
            fail!("`then` gives {} results, but `otherwise` {}", a.len(), b.len());
        }
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            if a.dtype != b.dtype {
                fail!("result {i} is {a} from `then`, but {b} from `otherwise`");
            }
            cx.same(&a.dims, &b.dims, "both branches give results of the same types")?;
        }
        Ok(a)
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        let body = if ins[0].get(0).as_bool() { &self.then } else { &self.otherwise };
        eval_body(body, &ins[1..])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(autodiff::branch_gradients(self, cx)?))
    }

    fn jvp(&self, cx: &mut JvpCx<'_>) -> Result<Jvp> {
        Ok(Jvp::Duals(autodiff::branch_tangents(self, cx)?))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Cond { then: Arc::new(self.then.map_dims(f)?), otherwise: Arc::new(self.otherwise.map_dims(f)?) })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(interp::flops(&self.then)?.max(interp::flops(&self.otherwise)?))
    }

    fn samples() -> Vec<Sample> {
        // (x, y) -> (tanh(x * y), x) or (x + y, x).
        let case = |condition: bool, shape: &[usize]| -> Option<Sample> {
            let ty = TensorType::fixed(DType::F64, shape);
            let body = |product: bool| -> Result<Arc<Graph>> {
                let mut b = Builder::new();
                let (x, y) = (b.input(ty.clone())?, b.input(ty.clone())?);
                let z = b.map(if product { ScalarFn::Mul } else { ScalarFn::Add }, &[x, y])?;
                let z = if product { b.map(ScalarFn::Tanh, &[z])? } else { z };
                Ok(Arc::new(b.finish(&[z, x])?))
            };
            let op = Cond { then: body(true).ok()?, otherwise: body(false).ok()? };
            let condition = Tensor::scalar(DType::Bool, Scalar::B(condition));
            Some(Sample::new(op, vec![condition, sample_tensor(shape, 1), sample_tensor(shape, 2)]))
        };
        [case(true, &[]), case(false, &[3]), case(true, &[5, 1]), case(false, &[2, 0])]
            .into_iter()
            .flatten()
            .collect()
    }
}
