use std::ops::RangeInclusive;
use std::sync::Arc;

use super::body::{body_results, check_operands, eval_body};
use crate::autodiff;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Graph;
use crate::op_struct;
use crate::ops::{Jvp, JvpCx, OpDef, Sample, Vjp, VjpCx, sample_positive};
use crate::scalar::ScalarFn;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A loop that runs while a condition holds.
    While {
        /// From invariants and carries to bool`[]`: whether another iteration runs.
        condition: Arc<Graph>,
        /// From invariants and carries to the next carries.
        body: Arc<Graph>,
        /// Number of carries.
        carries: usize,
    }
}

impl OpDef for While {
    const NAME: &'static str = "while";
    const SIGNATURE: &'static str = "while{condition, body, carries}(invariant…, carry…) -> carry…";
    const DOC: &'static str = "Runs the function `body` as long as the function `condition`, of the same operands, gives \
        true: invariants and carries to the next carries. It has no gradient, because how many iterations there \
        are to go back is not known before it runs; it has tangents.";
    const ARITY: RangeInclusive<usize> = 0..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let Some(invariants) = ins.len().checked_sub(self.carries) else {
            fail!("it has {} operands, fewer than its {} carries", ins.len(), self.carries);
        };
        check_operands("condition", &self.condition, ins, cx)?;
        check_operands("body", &self.body, ins, cx)?;
        let goes_on = body_results(&self.condition);
        if goes_on != [TensorType::fixed(DType::Bool, &[])] {
            let given: Vec<String> = goes_on.iter().map(ToString::to_string).collect();
            fail!("the condition gives one bool[], not ({})", given.join(", "));
        }
        let next = body_results(&self.body);
        if next.len() != self.carries {
            fail!("the body gives {} results, but there are {} carries", next.len(), self.carries);
        }
        for (i, (next, carry)) in next.iter().zip(&ins[invariants..]).enumerate() {
            if next.dtype != carry.dtype {
                fail!("carry {i} is {carry}, but the body gives {next}; a carry keeps its type");
            }
            cx.same(&carry.dims, &next.dims, "a carry keeps its shape")?;
        }
        Ok(next)
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        let (invariants, carries) = ins.split_at(ins.len() - self.carries);
        let mut carries: Vec<Tensor> = carries.iter().map(|t| (*t).clone()).collect();
        loop {
            let args: Vec<&Tensor> = invariants.iter().copied().chain(&carries).collect();
            if !eval_body(&self.condition, &args)?[0].get(0).as_bool() {
                return Ok(carries);
            }
            carries = eval_body(&self.body, &args)?;
        }
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::None(
            "how many iterations a while loop has is known only after it ran, so there is nothing to go back over; \
             write a scan of a fixed length, or give the function a gradient of its own",
        ))
    }

    fn jvp(&self, cx: &mut JvpCx<'_>) -> Result<Jvp> {
        Ok(Jvp::Duals(autodiff::while_tangents(self, cx)?))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(While {
            condition: Arc::new(self.condition.map_dims(f)?),
            body: Arc::new(self.body.map_dims(f)?),
            carries: self.carries,
        })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        None
    }

    fn samples() -> Vec<Sample> {
        // x and perhaps n until the sum of x is at least 20: x <- x * w, n <- n + 1.
        let case = |shape: &[usize], counts: bool| -> Option<Sample> {
            let ty = TensorType::fixed(DType::F64, shape);
            let inputs = |b: &mut Builder| -> Result<Vec<_>> {
                let mut x = vec![b.input(TensorType::fixed(DType::F64, &[]))?, b.input(ty.clone())?];
                if counts {
                    x.push(b.input(TensorType::fixed(DType::I32, &[]))?);
                }
                Ok(x)
            };
            let condition = || -> Result<Graph> {
                let mut b = Builder::new();
                let x = inputs(&mut b)?;
                let axes: Vec<usize> = (0..shape.len()).collect();
                let (sum, limit) = (b.sum(x[1], &axes)?, b.scalar(DType::F64, 20.0)?);
                let (some, positive) = (b.map(ScalarFn::Lt, &[sum, limit])?, b.scalar(DType::F64, 0.0)?);
                let grows = b.map(ScalarFn::Gt, &[sum, positive])?;
                let goes_on = b.map(ScalarFn::And, &[some, grows])?;
                b.finish(&[goes_on])
            };
            let body = || -> Result<Graph> {
                let mut b = Builder::new();
                let x = inputs(&mut b)?;
                let mut next = vec![b.map(ScalarFn::Mul, &[x[1], x[0]])?];
                if counts {
                    let one = b.scalar(DType::I32, 1.0)?;
                    next.push(b.map(ScalarFn::Add, &[x[2], one])?);
                }
                b.finish(&next)
            };
            let carries = 1 + usize::from(counts);
            let op = While { condition: condition().ok()?.into(), body: body().ok()?.into(), carries };
            let mut ins = vec![Tensor::from_slice(&[], &[1.5f64]), sample_positive(shape, 1)];
            if counts {
                ins.push(Tensor::from_slice(&[], &[0i32]));
            }
            Some(Sample::constant(op, ins))
        };
        [case(&[], true), case(&[3], false), case(&[5, 1], true), case(&[0], false)]
            .into_iter()
            .flatten()
            .collect()
    }
}
