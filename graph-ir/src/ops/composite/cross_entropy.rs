use std::ops::RangeInclusive;

use super::check_float;
use crate::attr_enum;
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{Check, Iota, LogSoftmax, OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

attr_enum! {
    /// How the losses of a batch become one.
    Reduction {
        /// Their mean.
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
        /// They do not.
        None = "none",
    }
}

impl Reduction {
    /// Applies the reduction over all axes.
    pub fn apply(self, b: &mut Builder, losses: ValueId) -> Result<ValueId> {
        let all: Vec<usize> = (0..b.ty(losses).rank()).collect();
        match self {
            Reduction::Mean => b.mean(losses, &all),
            Reduction::Sum => b.sum(losses, &all),
            Reduction::None => Ok(losses),
        }
    }
}

op_struct! {
    /// Negative log-likelihood of integer labels under a softmax.
    CrossEntropy {
        /// How the losses of the batch become one.
        reduction: Reduction = Reduction::Mean,
    }
}

/// 1 where a class is the label, else 0, of the logits' type; fails the run for a label out of range.
fn one_hot(b: &mut Builder, logits: &TensorType, labels: ValueId) -> Result<ValueId> {
    let classes = logits.dims.len() - 1;
    let labels = b.counting(labels)?;
    let dtype = b.ty(labels).dtype;
    // Both bounds are checked on the labels themselves: a label that no class equals would count as
    // a loss of zero.
    let zero = b.zeros_like(labels)?;
    let size = b.count(&logits.dims[classes..], dtype)?;
    let low = b.map(ScalarFn::Ge, &[labels, zero])?;
    let high = b.map(ScalarFn::Lt, &[labels, size])?;
    let fine = b.map(ScalarFn::And, &[low, high])?;
    let message = format!("a label is outside the {} classes", logits.dims[classes]);
    let labels = b.op1(Check { message }, &[labels, fine])?;
    let iota = b.op1(Iota { dtype, dims: logits.dims.clone(), axis: classes }, &[])?;
    let axes: Vec<usize> = (0..classes).collect();
    let wide = b.broadcast(labels, &logits.dims, &axes)?;
    let hit = b.map(ScalarFn::Eq, &[iota, wide])?;
    b.cast(hit, logits.dtype)
}

impl OpDef for CrossEntropy {
    const NAME: &'static str = "cross_entropy";
    const SIGNATURE: &'static str =
        "cross_entropy{reduction = \"mean\"}(logits [.., c], labels int [..]) -> loss";
    const DOC: &'static str = "-log_softmax(logits)[label] over the last axis, reduced to a mean, a sum, or not at \
        all. A label outside 0..c fails the run.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let (logits, labels) = (&ins[0], &ins[1]);
        check_float(Self::NAME, logits)?;
        if !labels.dtype.is_int() || logits.rank() != labels.rank() + 1 {
            fail!("labels are integers of the logits' leading dims, but got {logits} and {labels}");
        }
        cx.same(&logits.dims[..labels.rank()], &labels.dims, "there is one label for each row of logits")?;
        let dims = if self.reduction == Reduction::None { labels.dims.clone() } else { Vec::new() };
        Ok(vec![TensorType::new(logits.dtype, dims)])
    }

    /// (softmax - one_hot) * g: the difference is formed before it is scaled.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (logits, labels, g) = (cx.ins[0], cx.ins[1], cx.g());
        let ty = cx.b.ty(logits).clone();
        let axis = ty.rank() - 1;
        let hot = one_hot(cx.b, &ty, labels)?;
        let logp = cx.b.op1(LogSoftmax { axis }, &[logits])?;
        let all: Vec<usize> = (0..axis).collect();
        let g = match self.reduction {
            Reduction::None => {
                let axes: Vec<usize> = (0..axis).collect();
                cx.b.broadcast(g, &ty.dims, &axes)?
            }
            Reduction::Sum => g,
            Reduction::Mean => {
                // In the type of the losses: that of the labels may not count as far as the batch goes.
                let n = cx.b.count_along(logits, &all)?;
                cx.b.map(ScalarFn::Div, &[g, n])?
            }
        };
        let scope = Scope::new(cx.b);
        let (logp, hot, g) = (scope.expr(logp), scope.expr(hot), scope.expr(g));
        let dx = ((logp.exp() - hot) * g).id();
        scope.finish()?;
        Ok(Vjp::Grads(vec![Some(dx), None]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = b.ty(ins[0]).clone();
        let axis = ty.rank() - 1;
        let logp = b.op1(LogSoftmax { axis }, &[ins[0]])?;
        let hot = one_hot(b, &ty, ins[1])?;
        // A select, not a product: the log-probability of another class may be -inf.
        let scope = Scope::new(b);
        let (logp, hot) = (scope.expr(logp), scope.expr(hot));
        let picked = hot.eq(hot.zero_like()).select(logp.zero_like(), -logp).sum(&[axis]).id();
        scope.finish()?;
        Ok(Some(vec![self.reduction.apply(b, picked)?]))
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for shape in [&[5][..], &[1, 1], &[0, 3], &[3, 5], &[2, 3, 5]] {
                let (classes, labels) = shape.split_last().unwrap_or((&1, &[]));
                if shape.contains(&0) && reduction == Reduction::Mean {
                    continue; // The mean of nothing is NaN, which no comparison of gradients accepts.
                }
                let ins = vec![sample_tensor(shape, 1), sample_indices(labels, *classes, 2)];
                all.push(Sample::new(CrossEntropy { reduction }, ins));
            }
        }
        all
    }
}
