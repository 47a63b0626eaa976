use std::ops::RangeInclusive;

use super::gather::{check_indices, index_at};
use crate::error::Result;
use crate::op_struct;
use crate::ops::{Gather, OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::scalar::ScalarFn;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Addition of slices at indices.
    ScatterAdd {
        /// The axis.
        axis: usize,
    }
}

impl OpDef for ScatterAdd {
    const NAME: &'static str = "scatter_add";
    const SIGNATURE: &'static str = "scatter_add{axis}(base, indices, updates) -> y";
    const DOC: &'static str = "y = base; then y[…, indices[i…], …] += updates[…, i…, …], in index order for each \
        destination on every device. An index outside fails the run.";
    const ARITY: RangeInclusive<usize> = 3..=3;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_indices(&ins[1])?;
        if self.axis >= ins[0].rank() {
            fail!("axis {} is out of range for {}", self.axis, ins[0]);
        }
        if ins[2].dtype != ins[0].dtype || ins[0].dtype == crate::dtype::DType::Bool {
            fail!("base and updates have one numeric element type, but got {} and {}", ins[0], ins[2]);
        }
        let mut dims = ins[0].dims.clone();
        dims.splice(self.axis..=self.axis, ins[1].dims.iter().cloned());
        cx.same(&dims, &ins[2].dims, "updates have the dims of a gather from the base")?;
        Ok(vec![ins[0].clone()])
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        let (idx, upd) = (ins[1], ins[2]);
        let n = ins[0].shape()[self.axis];
        let inner: usize = ins[0].shape()[self.axis + 1..].iter().product();
        for i in 0..idx.len() {
            index_at(idx, i, n)?;
        }
        // Sums are kept wide and rounded once, as the numerics contract says.
        let mut wide: Vec<_> = (0..ins[0].len()).map(|i| ins[0].get(i)).collect();
        let wide_type = if ins[0].dtype().is_float() { crate::dtype::DType::F64 } else { ins[0].dtype() };
        for u in 0..upd.len() {
            let (before, k, after) = (u / inner / idx.len(), u / inner % idx.len(), u % inner);
            let at = (before * n + index_at(idx, k, n)?) * inner + after;
            wide[at] = ScalarFn::Add.eval(&[wide[at], upd.get(u)], wide_type);
        }
        Ok(vec![Tensor::from_fn(ins[0].dtype(), ins[0].shape(), |i| wide[i])])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        let du = cx.b.op1(Gather { axis: self.axis }, &[g, cx.ins[1]])?;
        Ok(Vjp::Grads(vec![Some(g), None, Some(du)]))
    }

    fn samples() -> Vec<Sample> {
        let case = |x: &[usize], idx: &[usize], axis: usize| {
            let mut u = x.to_vec();
            u.splice(axis..=axis, idx.iter().copied());
            let ins = vec![sample_tensor(x, 1), sample_indices(idx, x[axis], 2), sample_tensor(&u, 3)];
            Sample::new(ScatterAdd { axis }, ins)
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
