use std::ops::RangeInclusive;

use super::map_all;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Coordinates along one axis.
    Iota {
        /// Element type.
        dtype: DType,
        /// Dims of the result.
        dims: Vec<Dim>,
        /// Which coordinate.
        axis: usize,
    }
}

impl OpDef for Iota {
    const NAME: &'static str = "iota";
    const SIGNATURE: &'static str = "iota{dtype, dims, axis}() -> x";
    const DOC: &'static str = "x[i0, i1, …] = i_axis, converted to `dtype`, which must hold the \
        last coordinate: integers exactly, f16 as a finite number.";
    const ARITY: RangeInclusive<usize> = 0..=0;

    fn infer(&self, _: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.axis >= self.dims.len() {
            fail!("axis {} is out of range for {} dims", self.axis, self.dims.len());
        }
        if self.dtype == DType::Bool {
            fail!("iota counts, so its dtype cannot be bool");
        }
        if self.dtype.largest_count().is_some() {
            let last = self.dims[self.axis].add(&Dim::constant(-1))?;
            cx.fits(&last, self.dtype, "the last coordinate of iota")?;
        }
        Ok(vec![TensorType::new(self.dtype, self.dims.clone())])
    }

    fn eval(&self, _: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let shape = outs[0].static_shape();
        let mut out = Tensor::zeros(self.dtype, &shape);
        super::coordinates(&shape, |i, at| out.set(i, Scalar::I(at[self.axis] as i128)));
        Ok(vec![out])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(Vec::new()))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Iota { dims: map_all(&self.dims, f)?, ..self.clone() })
    }

    fn samples() -> Vec<Sample> {
        let case = |dtype, dims: &[usize], axis| {
            let dims = dims.iter().map(|d| Dim::from(*d)).collect();
            Sample::constant(Iota { dtype, dims, axis }, Vec::new())
        };
        vec![
            case(DType::F32, &[0], 0),
            case(DType::I32, &[1], 0),
            case(DType::F64, &[3, 5], 0),
            case(DType::I64, &[3, 5], 1),
        ]
    }
}
