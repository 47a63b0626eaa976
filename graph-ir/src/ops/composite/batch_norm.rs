use std::ops::RangeInclusive;

use super::{check_axis, check_float};
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{Moments, OpDef, Sample, Vjp, VjpCx, sample_positive, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Batch normalization with the statistics of the batch (Ioffe and Szegedy 2015).
    BatchNorm {
        /// The channels' axis.
        axis: usize = 1,
        /// Added to the variance.
        eps: Real = Real(1e-5),
    }
}

op_struct! {
    /// Batch normalization with given statistics.
    BatchNormInference {
        /// The channels' axis.
        axis: usize = 1,
        /// Added to the variance.
        eps: Real = Real(1e-5),
    }
}

fn check(name: &str, axis: usize, eps: f64, ins: &[TensorType], cx: &mut Infer) -> Result<()> {
    check_float(name, &ins[0])?;
    check_axis(axis, &ins[0])?;
    if !(eps >= 0.0 && eps.is_finite()) {
        fail!("eps is not negative, but is {eps}");
    }
    for t in &ins[1..] {
        if t.dtype != ins[0].dtype || t.rank() != 1 {
            fail!("{name} takes one {} for each channel, but got {t}", ins[0].dtype);
        }
        cx.eq(&t.dims[0], &ins[0].dims[axis], "there is one element for each channel")?;
    }
    Ok(())
}

fn other_axes(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|a| *a != axis).collect()
}

/// gamma * (x - mean) / sqrt(var + eps) + beta.
fn normalize<'s>(x: Expr<'s>, p: [Expr<'s>; 4], eps: f64, over: &[usize]) -> Expr<'s> {
    let [gamma, beta, mean, var] = p;
    let inv = (var + eps).rsqrt();
    let wide = |v: Expr<'s>| v.unreduce(x, over);
    (x - wide(mean)) * wide(gamma * inv) + wide(beta)
}

impl OpDef for BatchNorm {
    const NAME: &'static str = "batch_norm";
    const SIGNATURE: &'static str = "batch_norm{axis = 1, eps = 1e-5}(x, gamma, beta) -> (y, mean, variance)";
    const DOC: &'static str = "y = gamma * (x - mean) / sqrt(variance + eps) + beta with mean and biased variance over \
        every axis but the channels'. A module updates its running statistics from the results: \
        running = (1 - m) * running + m * mean, and the variance times n / (n - 1).";
    const ARITY: RangeInclusive<usize> = 3..=3;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check(Self::NAME, self.axis, self.eps.0, ins, cx)?;
        if ins[0].rank() < 2 {
            fail!("batch_norm takes x of rank 2 or more, but got {}", ins[0]);
        }
        let stat = TensorType::new(ins[0].dtype, vec![ins[0].dims[self.axis].clone()]);
        Ok(vec![ins[0].clone(), stat.clone(), stat])
    }

    /// Two reductions over x in all: dbeta = sum(g), dgamma = sum(g * xhat), and
    /// dx = gamma * inv * (g - dbeta / n - xhat * dgamma / n), plus what the statistics are used for.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, gamma) = (cx.ins[0], cx.ins[1]);
        let (mean, var) = (cx.outs[1], cx.outs[2]);
        let over = other_axes(cx.b.ty(x).rank(), self.axis);
        let count = cx.b.count_along(x, &over)?;
        let g = cx.grads[0];
        let (g_mean, g_var) = (cx.grads[1], cx.grads[2]);
        let scope = Scope::new(cx.b);
        let (x, gamma, count) = (scope.expr(x), scope.expr(gamma), scope.expr(count));
        let (mean, var) = (scope.expr(mean), scope.expr(var));
        let wide = |v: Expr<'_>| v.unreduce(x, &over).id();
        let inv = (var + self.eps.0).rsqrt();
        let centred = x - scope.expr(wide(mean));
        let xhat = centred * scope.expr(wide(inv));
        let mut dx: Option<Expr<'_>> = None;
        let mut params = [None, None];
        if let Some(g) = g.map(|g| scope.expr(g)) {
            let dbeta = g.sum(&over);
            let dgamma = (g * xhat).sum(&over);
            let scale = scope.expr(wide(gamma * inv));
            let inner = g - scope.expr(wide(dbeta / count)) - xhat * scope.expr(wide(dgamma / count));
            dx = Some(scale * inner);
            params = [Some(dgamma.id()), Some(dbeta.id())];
        }
        if let Some(g) = g_mean.map(|g| scope.expr(g)) {
            let d = scope.expr(wide(g / count));
            dx = Some(dx.map_or(d, |s| s + d));
        }
        if let Some(g) = g_var.map(|g| scope.expr(g)) {
            let d = centred * scope.expr(wide(g * 2.0 / count));
            dx = Some(dx.map_or(d, |s| s + d));
        }
        let grads = vec![dx.map(Expr::id), params[0], params[1]];
        scope.finish()?;
        Ok(Vjp::Grads(grads))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let over = other_axes(b.ty(ins[0]).rank(), self.axis);
        let stats = b.op(Moments { axes: over.clone() }, &[ins[0]])?;
        let scope = Scope::new(b);
        let e = |v: ValueId| scope.expr(v);
        let p = [e(ins[1]), e(ins[2]), e(stats[0]), e(stats[1])];
        let y = normalize(e(ins[0]), p, self.eps.0, &over).id();
        scope.finish()?;
        Ok(Some(vec![y, stats[0], stats[1]]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], axis, eps| {
            let c = [shape[axis]];
            let ins = vec![sample_tensor(shape, 1), sample_tensor(&c, 2), sample_tensor(&c, 3)];
            Sample::new(BatchNorm { axis, eps: Real(eps) }, ins)
        };
        vec![
            case(&[3, 1], 1, 1e-5),
            case(&[3, 0], 1, 1e-5),
            case(&[5, 3], 1, 1e-2),
            case(&[3, 5, 2], 0, 1e-5),
        ]
    }
}

impl OpDef for BatchNormInference {
    const NAME: &'static str = "batch_norm_inference";
    const SIGNATURE: &'static str =
        "batch_norm_inference{axis = 1, eps = 1e-5}(x, gamma, beta, mean, variance) -> y";
    const DOC: &'static str = "gamma * (x - mean) / sqrt(variance + eps) + beta with given statistics.";
    const ARITY: RangeInclusive<usize> = 5..=5;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check(Self::NAME, self.axis, self.eps.0, ins, cx)?;
        Ok(vec![ins[0].clone()])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let over = other_axes(b.ty(ins[0]).rank(), self.axis);
        let scope = Scope::new(b);
        let e = |v: ValueId| scope.expr(v);
        let p = [e(ins[1]), e(ins[2]), e(ins[3]), e(ins[4])];
        let y = normalize(e(ins[0]), p, self.eps.0, &over).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], axis, eps| {
            let c = [shape[axis]];
            let ins = vec![
                sample_tensor(shape, 1),
                sample_tensor(&c, 2),
                sample_tensor(&c, 3),
                sample_tensor(&c, 4),
                sample_positive(&c, 5),
            ];
            Sample::new(BatchNormInference { axis, eps: Real(eps) }, ins)
        };
        vec![case(&[1], 0, 1e-5), case(&[0, 3], 1, 1e-5), case(&[5, 3], 1, 1e-2), case(&[3, 5, 2], 0, 1e-5)]
    }
}
