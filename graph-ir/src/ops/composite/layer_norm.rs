use std::ops::RangeInclusive;

use super::check_float;
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{Moments, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Layer normalization (Ba, Kiros and Hinton 2016).
    LayerNorm {
        /// Number of trailing axes that are normalized together.
        axes: usize = 1,
        /// Added to the variance.
        eps: Real = Real(1e-5),
    }
}

/// Checks the operands of a normalization over trailing axes: x and parameters of those axes' dims.
pub(super) fn check(name: &str, axes: usize, eps: f64, ins: &[TensorType], cx: &mut Infer) -> Result<()> {
    check_float(name, &ins[0])?;
    if axes == 0 || axes > ins[0].rank() {
        fail!("{name} is over 1 to {} trailing axes of {}, but `axes` is {axes}", ins[0].rank(), ins[0]);
    }
    if !(eps >= 0.0 && eps.is_finite()) {
        fail!("eps is not negative, but is {eps}");
    }
    let dims = &ins[0].dims[ins[0].rank() - axes..];
    for t in &ins[1..] {
        if t.dtype != ins[0].dtype || t.rank() != axes {
            fail!(
                "the parameters of {name} are {} of the {axes} trailing dims of x, but got {t}",
                ins[0].dtype
            );
        }
        cx.same(&t.dims, dims, "there is one parameter for each element that is normalized")?;
    }
    Ok(())
}

/// The axes before the last `axes` ones, and those.
pub(super) fn split(rank: usize, axes: usize) -> (Vec<usize>, Vec<usize>) {
    ((0..rank - axes).collect(), (rank - axes..rank).collect())
}

impl OpDef for LayerNorm {
    const NAME: &'static str = "layer_norm";
    const SIGNATURE: &'static str =
        "layer_norm{axes = 1, eps = 1e-5}(x [.., d…], gamma [d…] = 1, beta [d…] = 0) -> y";
    const DOC: &'static str = "gamma * (x - mean) / sqrt(variance + eps) + beta with mean and biased variance over the \
        last `axes` axes.";
    const ARITY: RangeInclusive<usize> = 1..=3;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check(Self::NAME, self.axes, self.eps.0, ins, cx)?;
        Ok(vec![ins[0].clone()])
    }

    /// Two reductions over each row: with h = g * gamma,
    /// dx = inv * (h - mean(h) - xhat * mean(h * xhat)).
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, g) = (cx.ins[0], cx.g());
        let (lead, over) = split(cx.b.ty(x).rank(), self.axes);
        let stats = cx.b.op(Moments { axes: over.clone() }, &[x])?;
        let count = cx.b.count_along(x, &over)?;
        let (gamma, beta) = (cx.ins.get(1).copied(), cx.ins.get(2));
        let scope = Scope::new(cx.b);
        let (x, g, count) = (scope.expr(x), scope.expr(g), scope.expr(count));
        let row = |v: Expr<'_>| v.unreduce(x, &over).id();
        let inv = (scope.expr(stats[1]) + self.eps.0).rsqrt();
        let inv = scope.expr(row(inv));
        let xhat = (x - scope.expr(row(scope.expr(stats[0])))) * inv;
        let h = match gamma {
            Some(gamma) => g * scope.expr(gamma).unreduce(x, &lead),
            None => g,
        };
        let mean = scope.expr(row(h.sum(&over) / count));
        let along = scope.expr(row((h * xhat).sum(&over) / count));
        let mut grads = vec![Some((inv * (h - mean - xhat * along)).id())];
        grads.extend(gamma.map(|_| Some((g * xhat).sum(&lead).id())));
        grads.extend(beta.map(|_| Some(g.sum(&lead).id())));
        scope.finish()?;
        Ok(Vjp::Grads(grads))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (lead, over) = split(b.ty(ins[0]).rank(), self.axes);
        let stats = b.op(Moments { axes: over.clone() }, &[ins[0]])?;
        let scope = Scope::new(b);
        let x = scope.expr(ins[0]);
        let row = |v: Expr<'_>| v.unreduce(x, &over).id();
        let inv = (scope.expr(stats[1]) + self.eps.0).rsqrt();
        let mut y = (x - scope.expr(row(scope.expr(stats[0])))) * scope.expr(row(inv));
        if let Some(gamma) = ins.get(1) {
            y = y * scope.expr(*gamma).unreduce(x, &lead);
        }
        if let Some(beta) = ins.get(2) {
            y = y + scope.expr(*beta).unreduce(x, &lead);
        }
        let y = y.id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], axes, eps, params: usize| {
            let d = &shape[shape.len() - axes..];
            let mut ins = vec![sample_tensor(shape, 1)];
            ins.extend((0..params).map(|i| sample_tensor(d, 2 + i as u64)));
            Sample::new(LayerNorm { axes, eps: Real(eps) }, ins)
        };
        vec![
            case(&[5], 1, 1e-5, 2),
            case(&[3, 1], 1, 1e-5, 2),
            case(&[0, 3], 1, 1e-5, 2),
            case(&[3, 5], 1, 1e-2, 0),
            case(&[2, 3, 5], 1, 1e-5, 1),
            case(&[3, 2, 5], 2, 1e-2, 2),
        ]
    }
}
