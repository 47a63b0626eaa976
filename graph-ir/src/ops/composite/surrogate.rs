use std::ops::RangeInclusive;

use super::check_float;
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Its operand, with the gradient turned round (Ganin and Lempitsky 2015).
    ReverseGradient {
        /// What the gradient is multiplied by, with the sign changed.
        scale: Real = Real(1.0),
    }
}

impl OpDef for ReverseGradient {
    const NAME: &'static str = "reverse_gradient";
    const SIGNATURE: &'static str = "reverse_gradient{scale = 1}(x) -> x";
    const DOC: &'static str = "x; its gradient is -scale times that of the result (Ganin and Lempitsky 2015, for domain adaptation).";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        Ok(ins.to_vec())
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        let scope = Scope::new(cx.b);
        let turned = (scope.expr(g) * -self.scale.0).id();
        scope.finish()?;
        Ok(Vjp::Grads(vec![Some(turned)]))
    }

    fn expand(&self, _: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        Ok(Some(ins.to_vec()))
    }

    fn samples() -> Vec<Sample> {
        [(&[][..], 1.0), (&[0], 0.5), (&[1], 1.0), (&[3, 5], 2.0)]
            .iter()
            .map(|(s, k)| Sample::constant(ReverseGradient { scale: Real(*k) }, vec![sample_tensor(s, 1)]))
            .collect()
    }
}

op_struct! {
    /// One value with the gradient of another (Bengio et al. 2013).
    StraightThrough {}
}

impl OpDef for StraightThrough {
    const NAME: &'static str = "straight_through";
    const SIGNATURE: &'static str = "straight_through(x, y) -> y";
    const DOC: &'static str = "y, such as a rounded x; the gradient goes to x as it comes, and none to y (Bengio et al. \
        2013, the straight-through estimator).";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        if ins[0].dtype != ins[1].dtype {
            fail!("both operands have one type, but got {} and {}", ins[0], ins[1]);
        }
        cx.same(&ins[0].dims, &ins[1].dims, "both operands have one shape")?;
        Ok(vec![ins[1].clone()])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![Some(cx.g()), None]))
    }

    fn expand(&self, _: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        Ok(Some(vec![ins[1]]))
    }

    fn samples() -> Vec<Sample> {
        [&[][..], &[0], &[1], &[3, 5]]
            .iter()
            .map(|s| Sample::constant(StraightThrough {}, vec![sample_tensor(s, 1), sample_tensor(s, 2)]))
            .collect()
    }
}
