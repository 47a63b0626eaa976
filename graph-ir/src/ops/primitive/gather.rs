use std::ops::RangeInclusive;

use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, ScatterAdd, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Slices of one axis by index.
    Gather {
        /// The axis.
        axis: usize,
    }
}

/// Checks the type of indices.
pub(super) fn check_indices(ty: &TensorType) -> Result<()> {
    if !matches!(ty.dtype, DType::I32 | DType::I64) {
        fail!("indices are i32 or i64, but got {ty}; add a cast");
    }
    Ok(())
}

/// Index `i` of an index tensor, checked against the axis.
pub(super) fn index_at(idx: &Tensor, i: usize, axis: usize) -> Result<usize> {
    let v = idx.get(i).as_int();
    match usize::try_from(v) {
        Ok(u) if u < axis => Ok(u),
        _ => fail!("index {v} is outside 0..{axis}"),
    }
}

impl OpDef for Gather {
    const NAME: &'static str = "gather";
    const SIGNATURE: &'static str = "gather{axis}(x, indices) -> y";
    const DOC: &'static str = "y[…, i…, …] = x[…, indices[i…], …] along `axis`; the dims of the indices replace the \
        axis. An index outside fails the run; nothing is clamped.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_indices(&ins[1])?;
        if self.axis >= ins[0].rank() {
            fail!("axis {} is out of range for {}", self.axis, ins[0]);
        }
        let mut dims = ins[0].dims.clone();
        dims.splice(self.axis..=self.axis, ins[1].dims.iter().cloned());
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let (x, idx) = (ins[0], ins[1]);
        let n = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let mut out = Tensor::zeros(x.dtype(), &outs[0].static_shape());
        for i in 0..idx.len() {
            index_at(idx, i, n)?;
        }
        let count = idx.len();
        for o in 0..out.len() {
            let (before, k, after) = (o / inner / count, o / inner % count, o % inner);
            let at = index_at(idx, k, n)?;
            out.set(o, x.get((before * n + at) * inner + after));
        }
        Ok(vec![out])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        let zeros = cx.b.zeros_like(cx.ins[0])?;
        let dx = cx.b.op1(ScatterAdd { axis: self.axis }, &[zeros, cx.ins[1], g])?;
        Ok(Vjp::Grads(vec![Some(dx), None]))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |x: &[usize], idx: &[usize], axis| {
            Sample::new(Gather { axis }, vec![sample_tensor(x, 1), sample_indices(idx, x[axis], 2)])
        };
        vec![
            case(&[3], &[], 0),
            case(&[3], &[0], 0),
            case(&[1], &[1], 0),
            case(&[5, 3], &[7], 0),
            case(&[3, 5, 2], &[2, 3], 1),
        ]
    }
}
