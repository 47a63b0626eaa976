use std::ops::RangeInclusive;

use super::infer_expansion;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Axes from one on become one axis.
    Flatten {
        /// First axis of those.
        axis: usize = 1,
    }
}

impl OpDef for Flatten {
    const NAME: &'static str = "flatten";
    const SIGNATURE: &'static str = "flatten{axis = 1}(x) -> y";
    const DOC: &'static str =
        "Axes `axis` and beyond become one; with none left, an axis of size 1 is added.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.axis > ins[0].rank() {
            fail!("axis {} is out of range for {}, which has {} dims", self.axis, ins[0], ins[0].rank());
        }
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let dims = b.ty(ins[0]).dims.clone();
        let (lead, tail) = dims.split_at(self.axis);
        let to = [lead, &[Dim::product_of(tail)?]].concat();
        Ok(Some(vec![b.reshape(ins[0], &to)?]))
    }

    fn samples() -> Vec<Sample> {
        let case = |s: &[usize], axis| Sample::new(Flatten { axis }, vec![sample_tensor(s, 1)]);
        vec![case(&[], 0), case(&[1], 1), case(&[0, 3], 1), case(&[3, 5, 2], 1), case(&[3, 5, 2], 2)]
    }
}
