use std::ops::RangeInclusive;

use super::layer_norm::{check, split};
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Normalization by the root mean square (Zhang and Sennrich 2019).
    RmsNorm {
        /// Number of trailing axes that are normalized together.
        axes: usize = 1,
        /// Added to the mean square.
        eps: Real = Real(1e-6),
    }
}

/// 1 / sqrt(mean(x^2) + eps), repeated over the axes.
fn inverse<'s>(x: Expr<'s>, eps: f64, over: &[usize]) -> Expr<'s> {
    ((x * x).mean(over) + eps).rsqrt().unreduce(x, over)
}

impl OpDef for RmsNorm {
    const NAME: &'static str = "rms_norm";
    const SIGNATURE: &'static str = "rms_norm{axes = 1, eps = 1e-6}(x [.., d…], gamma [d…] = 1) -> y";
    const DOC: &'static str = "gamma * x / sqrt(mean of x^2 + eps) with the mean over the last `axes` axes.";
    const ARITY: RangeInclusive<usize> = 1..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check(Self::NAME, self.axes, self.eps.0, ins, cx)?;
        Ok(vec![ins[0].clone()])
    }

    /// One reduction over each row: with h = g * gamma, dx = inv * (h - xhat * mean(h * xhat)).
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, g, gamma) = (cx.ins[0], cx.g(), cx.ins.get(1).copied());
        let (lead, over) = split(cx.b.ty(x).rank(), self.axes);
        let scope = Scope::new(cx.b);
        let (x, g) = (scope.expr(x), scope.expr(g));
        let inv = inverse(x, self.eps.0, &over);
        let xhat = x * inv;
        let h = match gamma {
            Some(gamma) => g * scope.expr(gamma).unreduce(x, &lead),
            None => g,
        };
        let along = (h * xhat).mean(&over).unreduce(x, &over);
        let mut grads = vec![Some((inv * (h - xhat * along)).id())];
        grads.extend(gamma.map(|_| Some((g * xhat).sum(&lead).id())));
        scope.finish()?;
        Ok(Vjp::Grads(grads))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (lead, over) = split(b.ty(ins[0]).rank(), self.axes);
        let scope = Scope::new(b);
        let x = scope.expr(ins[0]);
        let mut y = x * inverse(x, self.eps.0, &over);
        if let Some(gamma) = ins.get(1) {
            y = y * scope.expr(*gamma).unreduce(x, &lead);
        }
        let y = y.id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], axes, eps, gamma: bool| {
            let mut ins = vec![sample_tensor(shape, 1)];
            if gamma {
                ins.push(sample_tensor(&shape[shape.len() - axes..], 2));
            }
            Sample::new(RmsNorm { axes, eps: Real(eps) }, ins)
        };
        vec![
            case(&[5], 1, 1e-6, true),
            case(&[3, 1], 1, 1e-2, true),
            case(&[0, 3], 1, 1e-6, true),
            case(&[3, 5], 1, 1e-2, false),
            case(&[3, 2, 5], 2, 1e-6, true),
        ]
    }
}
