use std::ops::RangeInclusive;

use super::{check_axis, check_float};
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, ReduceKind, Sample, StopGradient, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Normalized exponentials along an axis.
    Softmax {
        /// The axis.
        axis: usize,
    }
}

op_struct! {
    /// Logarithm of [`Softmax`].
    LogSoftmax {
        /// The axis.
        axis: usize,
    }
}

/// x minus its maximum along the axis; the maximum is a constant to derivatives, because the result
/// of both functions does not depend on it.
///
/// A maximum of +inf counts as the largest number: then the element itself is NaN as inf / inf is, and the others are
/// what they are without the shift.
fn shifted<'s>(x: Expr<'s>, axis: usize) -> Expr<'s> {
    let max = x.reduce(ReduceKind::Max, &[axis]);
    let max = max.min(max.literal(max.ty().dtype.largest())).op(StopGradient {}, &[]);
    x - max.unreduce(x, &[axis])
}

fn samples<O: Into<crate::ops::Op>>(make: impl Fn(usize) -> O) -> Vec<Sample> {
    [(&[1][..], 0), (&[0, 3], 1), (&[3, 0], 1), (&[5], 0), (&[3, 5], 1), (&[3, 5, 2], 1)]
        .iter()
        .map(|(s, axis)| Sample::new(make(*axis), vec![sample_tensor(s, 1)]))
        .collect()
}

impl OpDef for Softmax {
    const NAME: &'static str = "softmax";
    const SIGNATURE: &'static str = "softmax{axis}(x) -> y";
    const DOC: &'static str = "e^(x - max) / sum of e^(x - max) along `axis`.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        check_axis(self.axis, &ins[0])?;
        Ok(vec![ins[0].clone()])
    }

    /// y * (g - sum(g * y)): written on the output alone.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (y, g) = (cx.outs[0], cx.g());
        let scope = Scope::new(cx.b);
        let (y, g) = (scope.expr(y), scope.expr(g));
        let inner = (g * y).sum(&[self.axis]).unreduce(y, &[self.axis]);
        let dx = (y * (g - inner)).id();
        scope.finish()?;
        Ok(Vjp::Grads(vec![Some(dx)]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let scope = Scope::new(b);
        let x = scope.expr(ins[0]);
        let e = shifted(x, self.axis).exp();
        let y = (e / e.sum(&[self.axis]).unreduce(x, &[self.axis])).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        samples(|axis| Softmax { axis })
    }
}

impl OpDef for LogSoftmax {
    const NAME: &'static str = "log_softmax";
    const SIGNATURE: &'static str = "log_softmax{axis}(x) -> y";
    const DOC: &'static str = "x - max - ln(sum of e^(x - max)) along `axis`.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        check_axis(self.axis, &ins[0])?;
        Ok(vec![ins[0].clone()])
    }

    /// g - e^y * sum(g): written on the output alone.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (y, g) = (cx.outs[0], cx.g());
        let scope = Scope::new(cx.b);
        let (y, g) = (scope.expr(y), scope.expr(g));
        let total = g.sum(&[self.axis]).unreduce(y, &[self.axis]);
        let dx = (g - y.exp() * total).id();
        scope.finish()?;
        Ok(Vjp::Grads(vec![Some(dx)]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let scope = Scope::new(b);
        let x = scope.expr(ins[0]);
        let s = shifted(x, self.axis);
        let y = (s - s.exp().sum(&[self.axis]).log().unreduce(x, &[self.axis])).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        samples(|axis| LogSoftmax { axis })
    }
}
