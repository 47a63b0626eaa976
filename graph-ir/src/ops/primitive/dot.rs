use std::ops::RangeInclusive;

use super::coordinates;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Batched matrix product.
    Dot {}
}

impl OpDef for Dot {
    const NAME: &'static str = "dot";
    const SIGNATURE: &'static str = "dot(a [.., m, k], b [.., k, n]) -> [.., m, n]";
    const DOC: &'static str = "Matrix product over equal leading dims. f16 and bf16 operands are accumulated in f32 \
        and give f32. A product over no elements is 0.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let (a, b) = (&ins[0], &ins[1]);
        if a.dtype != b.dtype || !a.dtype.is_float() {
            fail!("dot takes two operands of one float type, but got {a} and {b}; add a cast");
        }
        if a.rank() < 2 || a.rank() != b.rank() {
            fail!("dot takes two operands of one rank of 2 or more, but got {a} and {b}");
        }
        let r = a.rank();
        cx.same(&a.dims[..r - 2], &b.dims[..r - 2], "the leading dims of a dot agree")?;
        cx.eq(&a.dims[r - 1], &b.dims[r - 2], "columns of the first operand are rows of the second")?;
        let mut dims = a.dims.clone();
        dims[r - 1] = b.dims[r - 1].clone();
        let dtype = if a.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![TensorType::new(dtype, dims)])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let shape = outs[0].static_shape();
        let r = shape.len();
        let (m, n, k) = (shape[r - 2], shape[r - 1], ins[0].shape()[r - 1]);
        let (a, b) = (ins[0].to_f64(), ins[1].to_f64());
        let mut out = Tensor::zeros(outs[0].dtype, &shape);
        let batches: usize = shape[..r - 2].iter().product();
        coordinates(&[batches, m], |row, at| {
            // Each element is summed in the order of k; a whole row at a time, because its operands are
            // neighbours then.
            let mut sums = vec![0.0; n];
            for l in 0..k {
                let (a, b) = (a[row * k + l], &b[(at[0] * k + l) * n..][..n]);
                sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
            }
            sums.into_iter().enumerate().for_each(|(column, sum)| out.set(row * n + column, Scalar::F(sum)));
        });
        Ok(vec![out])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let g = cx.g();
        let mut grads = Vec::new();
        for (i, other) in [(0, cx.ins[1]), (1, cx.ins[0])] {
            let dtype = cx.b.ty(cx.ins[i]).dtype;
            // The gradient has the accumulator's type, the stored operands perhaps a narrower one.
            let wide = cx.b.ty(g).dtype;
            let other = cx.b.cast(other, wide)?;
            let t = cx.b.swap_last(other)?;
            let d = if i == 0 { cx.b.op1(Dot {}, &[g, t])? } else { cx.b.op1(Dot {}, &[t, g])? };
            grads.push(Some(cx.b.cast(d, dtype)?));
        }
        Ok(Vjp::Grads(grads))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let k = *ins[0].shape()?.last()? as f64;
        outs[0].shape().map(|s| 2.0 * k * s.iter().map(|d| *d as f64).product::<f64>())
    }

    fn samples() -> Vec<Sample> {
        let case =
            |a: &[usize], b: &[usize]| Sample::new(Dot {}, vec![sample_tensor(a, 1), sample_tensor(b, 2)]);
        vec![
            case(&[1, 1], &[1, 1]),
            case(&[3, 0], &[0, 5]),
            case(&[0, 3], &[3, 5]),
            case(&[3, 5], &[5, 7]),
            case(&[2, 3, 5], &[2, 5, 1]),
            case(&[2, 1, 3, 2], &[2, 1, 2, 3]),
        ]
    }
}
