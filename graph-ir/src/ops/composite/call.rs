use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::interp;
use crate::op_struct;
use crate::ops::primitive::{body_results, check_operands};
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A function of the module, applied to operands.
    Call {
        /// What is called.
        body: Arc<Graph>,
    }
}

impl OpDef for Call {
    const NAME: &'static str = "call";
    const SIGNATURE: &'static str = "call{body}(x…) -> y…";
    const DOC: &'static str =
        "The results of the function `body` for these operands. Compilation copies the function in.";
    const ARITY: RangeInclusive<usize> = 0..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_operands("body", &self.body, ins, cx)?;
        Ok(body_results(&self.body))
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        b.inline(&self.body, ins).map(Some)
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Call { body: Arc::new(self.body.map_dims(f)?) })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        interp::flops(&self.body)
    }

    fn samples() -> Vec<Sample> {
        // (x, y) -> (f(x) * y, x).
        let case = |shape: &[usize], f: ScalarFn| -> Option<Sample> {
            let ty = TensorType::fixed(DType::F64, shape);
            let mut b = Builder::new();
            let (x, y) = (b.input(ty.clone()).ok()?, b.input(ty).ok()?);
            let fx = b.map(f, &[x]).ok()?;
            let z = b.map(ScalarFn::Mul, &[fx, y]).ok()?;
            let op = Call { body: Arc::new(b.finish(&[z, x]).ok()?) };
            Some(Sample::new(op, vec![sample_tensor(shape, 1), sample_tensor(shape, 2)]))
        };
        [
            case(&[], ScalarFn::Tanh),
            case(&[3], ScalarFn::Exp),
            case(&[0, 2], ScalarFn::Tanh),
            case(&[5, 1], ScalarFn::Sin),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
