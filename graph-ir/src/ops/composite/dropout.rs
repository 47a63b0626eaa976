use std::ops::RangeInclusive;

use super::{Uniform, check_float};
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Random zeros (Srivastava et al. 2014), scaled so that the expectation stays.
    Dropout {
        /// Probability that an element becomes 0.
        p: Real = Real(0.5),
    }
}

impl OpDef for Dropout {
    const NAME: &'static str = "dropout";
    const SIGNATURE: &'static str = "dropout{p = 0.5}(x, key u32[2]) -> y";
    const DOC: &'static str = "Each element is 0 with probability p, else x / (1 - p). Inference leaves the node out. \
        The mask is drawn again where the gradient needs it, not stored.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        if !(0.0..1.0).contains(&self.p.0) {
            fail!("the probability p of dropout is at least 0 and below 1, but is {}", self.p.0);
        }
        if ins[1] != TensorType::fixed(DType::U32, &[2]) {
            fail!("a key is u32[2], but got {}", ins[1]);
        }
        Ok(vec![ins[0].clone()])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = b.ty(ins[0]).clone();
        let draw = Uniform { dtype: DType::F32, dims: ty.dims, lo: Real(0.0), hi: Real(1.0) };
        let u = b.op1(draw, &[ins[1]])?;
        let scope = Scope::new(b);
        let (x, u) = (scope.expr(ins[0]), scope.expr(u));
        let y = u.ge(u.literal(self.p.0)).select(x * (1.0 / (1.0 - self.p.0)), x.zero_like()).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], p| {
            let key = Tensor::from_slice(&[2], &[3u32, 5]);
            Sample::new(Dropout { p: Real(p) }, vec![sample_tensor(shape, 1), key])
        };
        vec![case(&[], 0.0), case(&[0], 0.5), case(&[1], 0.25), case(&[3, 5], 0.5)]
    }
}
