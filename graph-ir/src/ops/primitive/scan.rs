use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::autodiff;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::Graph;
use crate::interp;
use crate::op_struct;
use crate::ops::{Jvp, JvpCx, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A loop of known length over a body.
    Scan {
        /// One iteration: (invariants, carries, one slice of each stack) to (carries, slices).
        body: Arc<Graph>,
        /// Number of carries.
        carries: usize,
        /// Number of stacked operands.
        stacks: usize,
        /// Whether the last slice comes first.
        reverse: bool = false,
        /// Number of iterations.
        length: Dim,
        /// Whether the gradient computes an iteration again from its carries instead of storing what it needs of it.
        recompute: bool = false,
    }
}

impl Scan {
    fn invariants(&self) -> Option<usize> {
        self.body.inputs().len().checked_sub(self.carries + self.stacks)
    }
}

impl OpDef for Scan {
    const NAME: &'static str = "scan";
    const SIGNATURE: &'static str = "scan{body, carries, stacks, reverse, length, recompute}(invariant…, carry…, stack…) -> (carry…, stack…)";
    const DOC: &'static str = "Runs the function `body` `length` times. It takes the invariants, the carries and one \
        slice (along axis 0) of every stack, and gives the next carries and one slice of every stacked result. With \
        `reverse` the last slice comes first, of operands and results alike. The gradient stores the carries and what \
        was costly to compute of every iteration, with `recompute` the carries alone.";
    const ARITY: RangeInclusive<usize> = 0..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let body = &*self.body;
        let Some(invariants) = self.invariants() else {
            fail!(
                "the body takes {} inputs, fewer than its {} carries and {} stacks",
                body.inputs().len(),
                self.carries,
                self.stacks
            );
        };
        if ins.len() != body.inputs().len() {
            fail!("the body takes {} inputs, but the scan has {} operands", body.inputs().len(), ins.len());
        }
        if body.results().len() < self.carries {
            fail!("the body gives {} results, fewer than its {} carries", body.results().len(), self.carries);
        }
        cx.at_least(&self.length, 0, "a loop's length is not negative")?;
        for (i, (ty, v)) in ins.iter().zip(body.inputs()).enumerate() {
            let wanted = body.ty(*v);
            let mut dims = ty.dims.clone();
            if i >= invariants + self.carries {
                if dims.is_empty() {
                    fail!("operand {i} is stacked, so it needs an axis to iterate over, but it is {ty}");
                }
                cx.eq(&dims.remove(0), &self.length, "stacks are as long as the loop")?;
            }
            if wanted.dtype != ty.dtype {
                fail!("operand {i} is {ty}, but the body takes {wanted}");
            }
            cx.same(&dims, &wanted.dims, "operands of a scan fit its body")?;
        }
        let mut outs = Vec::new();
        for (i, r) in body.results().iter().enumerate() {
            let ty = body.ty(*r).clone();
            if i < self.carries {
                let carry = &ins[invariants + i];
                if carry.dtype != ty.dtype {
                    fail!("carry {i} is {carry}, but the body gives {ty}; a carry keeps its type");
                }
                cx.same(&carry.dims, &ty.dims, "a carry keeps its shape")?;
                outs.push(ty);
            } else {
                let mut dims = vec![self.length.clone()];
                dims.extend(ty.dims);
                outs.push(TensorType::new(ty.dtype, dims));
            }
        }
        Ok(outs)
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let length = TensorType::new(crate::dtype::DType::I64, vec![self.length.clone()]).static_shape()[0];
        let invariants = ins.len() - self.carries - self.stacks;
        let mut carries: Vec<Tensor> =
            ins[invariants..][..self.carries].iter().map(|t| (*t).clone()).collect();
        let mut stacked: Vec<Tensor> =
            outs[self.carries..].iter().map(|t| Tensor::zeros(t.dtype, &t.static_shape())).collect();
        for step in 0..length {
            let t = if self.reverse { length - 1 - step } else { step };
            let slices: Vec<Tensor> = ins[invariants + self.carries..]
                .iter()
                .map(|s| {
                    let n = s.len() / length;
                    Tensor::from_fn(s.dtype(), &s.shape()[1..], |i| s.get(t * n + i))
                })
                .collect();
            let args: Vec<&Tensor> =
                ins[..invariants].iter().copied().chain(&carries).chain(&slices).collect();
            let mut results = interp::eval(&self.body, &args, &[])?;
            for (y, slice) in stacked.iter_mut().zip(results.split_off(self.carries)) {
                let n = slice.len();
                for i in 0..n {
                    y.set(t * n + i, slice.get(i));
                }
            }
            carries = results;
        }
        carries.extend(stacked);
        Ok(carries)
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(autodiff::scan_gradients(self, cx)?))
    }

    fn jvp(&self, cx: &mut JvpCx<'_>) -> Result<Jvp> {
        Ok(Jvp::Duals(autodiff::scan_tangents(self, cx)?))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Scan { body: Arc::new(self.body.map_dims(f)?), length: f(&self.length)?, ..self.clone() })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(interp::flops(&self.body)? * self.length.as_const()? as f64)
    }

    fn samples() -> Vec<Sample> {
        // h' = tanh(w * h + x), y = h' * x; w invariant, h carried, x stacked.
        let case = |length: usize, shape: &[usize], reverse| -> Option<Sample> {
            let ty = TensorType::fixed(crate::dtype::DType::F64, shape);
            let mut b = Builder::new();
            let w = b.input(ty.clone()).ok()?;
            let h = b.input(ty.clone()).ok()?;
            let x = b.input(ty).ok()?;
            let wh = b.map(ScalarFn::Mul, &[w, h]).ok()?;
            let s = b.map(ScalarFn::Add, &[wh, x]).ok()?;
            let next = b.map(ScalarFn::Tanh, &[s]).ok()?;
            let y = b.map(ScalarFn::Mul, &[next, x]).ok()?;
            let body = Arc::new(b.finish(&[next, y]).ok()?);
            let op =
                Scan { body, carries: 1, stacks: 1, reverse, length: Dim::from(length), recompute: reverse };
            let mut stack = vec![length];
            stack.extend(shape);
            let ins = vec![sample_tensor(shape, 1), sample_tensor(shape, 2), sample_tensor(&stack, 3)];
            Some(Sample::new(op, ins))
        };
        // Two carries, no stacked operand: (a, b) -> (b, a * b).
        let pair = || -> Option<Sample> {
            let ty = TensorType::fixed(crate::dtype::DType::F64, &[3]);
            let mut b = Builder::new();
            let (p, q) = (b.input(ty.clone()).ok()?, b.input(ty).ok()?);
            let r = b.map(ScalarFn::Mul, &[p, q]).ok()?;
            let body = Arc::new(b.finish(&[q, r]).ok()?);
            let length = Dim::from(3usize);
            let op = Scan { body, carries: 2, stacks: 0, reverse: false, length, recompute: false };
            Some(Sample::new(op, vec![sample_tensor(&[3], 1), sample_tensor(&[3], 2)]))
        };
        [
            case(0, &[2], false),
            case(1, &[], false),
            case(3, &[5], false),
            case(3, &[3, 1], true),
            case(2, &[0], false),
            pair(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
