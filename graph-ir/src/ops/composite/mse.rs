use std::ops::RangeInclusive;

use super::{Reduction, check_float};
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Squared differences.
    Mse {
        /// How they become one.
        reduction: Reduction = Reduction::Mean,
    }
}

impl OpDef for Mse {
    const NAME: &'static str = "mse";
    const SIGNATURE: &'static str = "mse{reduction = \"mean\"}(x, y) -> loss";
    const DOC: &'static str =
        "(x - y)^2, reduced to the mean over all elements, to their sum, or not at all.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        if ins[0].dtype != ins[1].dtype {
            fail!("mse takes operands of one type, but got {} and {}", ins[0], ins[1]);
        }
        cx.same(&ins[0].dims, &ins[1].dims, "the operands of mse have one shape")?;
        let dims = if self.reduction == Reduction::None { ins[0].dims.clone() } else { Vec::new() };
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let d = b.map(ScalarFn::Sub, ins)?;
        let s = b.map(ScalarFn::Mul, &[d, d])?;
        Ok(Some(vec![self.reduction.apply(b, s)?]))
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
            for shape in [&[][..], &[1], &[0], &[3, 5]] {
                if shape.contains(&0) && reduction == Reduction::Mean {
                    continue; // NaN, as for cross_entropy.
                }
                all.push(Sample::new(
                    Mse { reduction },
                    vec![sample_tensor(shape, 1), sample_tensor(shape, 2)],
                ));
            }
        }
        all
    }
}
