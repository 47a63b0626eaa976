use std::ops::RangeInclusive;

use super::without;
use crate::attr_enum;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

attr_enum! {
    /// Which element is looked for.
    ArgKind {
        /// The largest.
        Max = "max",
        /// The smallest.
        Min = "min",
    }
}

op_struct! {
    /// Position of an extreme element.
    ArgReduce {
        /// Which element.
        kind: ArgKind,
        /// Along which axis.
        axis: usize,
    }
}

impl OpDef for ArgReduce {
    const NAME: &'static str = "arg_reduce";
    const SIGNATURE: &'static str = "arg_reduce{kind, axis}(x) -> i64";
    const DOC: &'static str = "Index along `axis` of the first largest or smallest element; the first NaN wins. Of \
        nothing it is an error.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.axis >= ins[0].rank() {
            fail!("axis {} is out of range for {}", self.axis, ins[0]);
        }
        if !ins[0].dtype.is_compute_float() && !ins[0].dtype.is_int() {
            fail!("arg_reduce takes floats or integers, but got {}; add a cast", ins[0]);
        }
        let n: &Dim = &ins[0].dims[self.axis];
        cx.at_least(n, 1, "there is no largest element of nothing")?;
        Ok(vec![TensorType::new(DType::I64, without(&ins[0].dims, &[self.axis]))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let x = ins[0];
        let n = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let beats = match self.kind {
            ArgKind::Max => ScalarFn::Gt,
            ArgKind::Min => ScalarFn::Lt,
        };
        let nan = |s: Scalar| s.as_f64().is_nan();
        Ok(vec![Tensor::from_fn(DType::I64, &outs[0].static_shape(), |o| {
            let at = |k: usize| x.get((o / inner * n + k) * inner + o % inner);
            let mut best = 0;
            for k in 1..n {
                let (new, old) = (at(k), at(best));
                if !nan(old) && (nan(new) || beats.eval(&[new, old], x.dtype()).as_bool()) {
                    best = k;
                }
            }
            Scalar::I(best as i128)
        })])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::None("an index does not change smoothly with its operand"))
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for kind in [ArgKind::Max, ArgKind::Min] {
            for (shape, axis) in [(&[1][..], 0), (&[0, 3], 1), (&[3, 5], 0), (&[3, 5], 1)] {
                all.push(Sample::constant(ArgReduce { kind, axis }, vec![sample_tensor(shape, 1)]));
            }
            all.push(Sample::constant(ArgReduce { kind, axis: 1 }, vec![sample_indices(&[3, 5], 3, 1)]));
        }
        all
    }
}
