use std::ops::RangeInclusive;

use super::{map_all, product};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// The same elements in row-major order under other dims.
    Reshape {
        /// Dims of the result.
        dims: Vec<Dim>,
    }
}

impl Builder {
    /// Reshapes, unless the dims are those already.
    pub fn reshape(&mut self, x: ValueId, dims: &[Dim]) -> Result<ValueId> {
        if self.ty(x).dims == dims {
            return Ok(x);
        }
        self.op1(Reshape { dims: dims.to_vec() }, &[x])
    }
}

impl OpDef for Reshape {
    const NAME: &'static str = "reshape";
    const SIGNATURE: &'static str = "reshape{dims}(x) -> y";
    const DOC: &'static str = "The elements of x in row-major order with other dims of the same product.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let (from, to) = (product(&ins[0].dims)?, product(&self.dims)?);
        cx.eq(&from, &to, "a reshape keeps the number of elements")?;
        Ok(vec![TensorType::new(ins[0].dtype, self.dims.clone())])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        Ok(vec![ins[0].clone().reshaped(&outs[0].static_shape())])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let dims = cx.b.ty(cx.ins[0]).dims.clone();
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.reshape(g, &dims)?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(Reshape { dims: map_all(&self.dims, f)? })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |from: &[usize], to: &[usize]| {
            let dims = to.iter().map(|d| Dim::from(*d)).collect();
            Sample::new(Reshape { dims }, vec![sample_tensor(from, 1)])
        };
        vec![
            case(&[], &[1]),
            case(&[1], &[]),
            case(&[0], &[3, 0]),
            case(&[3, 5], &[15]),
            case(&[3, 10], &[5, 2, 3]),
        ]
    }
}
