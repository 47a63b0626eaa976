use std::ops::RangeInclusive;

use super::infer_expansion;
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Affine map of the last axis.
    Linear {}
}

impl OpDef for Linear {
    const NAME: &'static str = "linear";
    const SIGNATURE: &'static str = "linear(x [.., k], w [k, n], b [n] = 0) -> y [.., n]";
    const DOC: &'static str = "y = x · w + b over the last axis of x; f16 and bf16 give f32, as `dot` does. (Torch7 and PyTorch store w \
        transposed.)";
    const ARITY: RangeInclusive<usize> = 2..=3;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if ins[0].rank() < 1 || ins[1].rank() != 2 || ins.get(2).is_some_and(|b| b.rank() != 1) {
            fail!("linear takes x of rank 1 or more, w of rank 2 and b of rank 1");
        }
        if let Some(b) = ins.get(2) {
            cx.eq(&b.dims[0], &ins[1].dims[1], "the bias has one element a column of the weights")?;
        }
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (tx, tw) = (b.ty(ins[0]).clone(), b.ty(ins[1]).clone());
        // Leading axes become rows, so that the product is one matrix product and not a batch of them.
        let (last, lead) = (&tx.dims[tx.rank() - 1], &tx.dims[..tx.rank() - 1]);
        let rows = crate::dim::Dim::product_of(lead)?;
        let x = b.reshape(ins[0], &[rows, last.clone()])?;
        let mut y = b.matmul(x, ins[1])?;
        if let Some(bias) = ins.get(2) {
            // A bias stored as the operands are is added to what they are summed in.
            let stored = b.ty(*bias).dtype == tx.dtype;
            let bias = if stored { b.cast(*bias, b.ty(y).dtype)? } else { *bias };
            y = b.map(ScalarFn::Add, &[y, bias])?;
        }
        let dims = [lead, &tw.dims[1..]].concat();
        Ok(Some(vec![b.reshape(y, &dims)?]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let k = *ins[1].shape()?.first()? as f64;
        outs[0].shape().map(|s| (2.0 * k + 1.0) * s.iter().map(|d| *d as f64).product::<f64>())
    }

    fn samples() -> Vec<Sample> {
        let case = |x: &[usize], w: &[usize], bias: bool| {
            let mut ins = vec![sample_tensor(x, 1), sample_tensor(w, 2)];
            if bias {
                ins.push(sample_tensor(&w[1..], 3));
            }
            Sample::new(Linear {}, ins)
        };
        vec![
            case(&[1], &[1, 1], true),
            case(&[0, 3], &[3, 5], true),
            case(&[3, 5], &[5, 7], true),
            case(&[3, 5], &[5, 1], false),
            case(&[2, 3, 5], &[5, 3], true),
        ]
    }
}
