use std::ops::RangeInclusive;

use crate::builder::Builder;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{Gather, OpDef, Sample, StopGradient, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::scalar::{Number, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Rows of a table by index.
    Embedding {
        /// Indices whose rows take no gradient, such as that of a padding token.
        padding: Vec<usize> = Vec::new(),
    }
}

impl OpDef for Embedding {
    const NAME: &'static str = "embedding";
    const SIGNATURE: &'static str = "embedding{padding = []}(indices int [..], table [v, d]) -> y [.., d]";
    const DOC: &'static str = "y = table[index] for every index. An index outside 0..v fails the run. The gradient of \
        the table adds up, for each row, the gradients of its uses; for the rows in `padding` it is 0.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let (indices, table) = (&ins[0], &ins[1]);
        if table.rank() != 2 {
            fail!("a table is a matrix with a row for each index, but got {table}");
        }
        if !self.padding.is_empty() && !table.dtype.is_float() {
            fail!("rows without a gradient are of floats, but got {table}");
        }
        for p in &self.padding {
            cx.at_least(&table.dims[0], (*p as i64).saturating_add(1), "the table has rows of the padding")?;
        }
        // The types of indices are those of gather.
        Ok(vec![Gather { axis: 0 }.infer(&[table.clone(), indices.clone()], cx)?.remove(0)])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (indices, table) = (ins[0], ins[1]);
        let y = b.op1(Gather { axis: 0 }, &[table, indices])?;
        let mut padding = None;
        for p in &self.padding {
            // Rows that the type of the indices has no number for are named by none.
            let dtype = b.ty(indices).dtype;
            let Ok(row) = Number::from(*p).of(dtype) else { continue };
            let p = b.constant(Tensor::scalar(dtype, row))?;
            let hit = b.map(ScalarFn::Eq, &[indices, p])?;
            padding = Some(match padding {
                Some(others) => b.map(ScalarFn::Or, &[others, hit])?,
                None => hit,
            });
        }
        let Some(padding) = padding else { return Ok(Some(vec![y])) };
        let last = b.ty(indices).rank();
        let padding = b.unreduce(padding, y, &[last])?;
        let still = b.op1(StopGradient {}, &[y])?;
        Ok(Some(vec![b.map(ScalarFn::Select, &[padding, still, y])?]))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let case = |indices: &[usize], [v, d]: [usize; 2], padding: Vec<usize>| {
            // Indices stay below the padding: differences would find the gradient that the rows do not take.
            let used = padding.iter().copied().min().unwrap_or(v);
            let ins = vec![sample_indices(indices, used, 1), sample_tensor(&[v, d], 2)];
            Sample::new(Embedding { padding }, ins)
        };
        vec![
            case(&[], [3, 5], vec![]),
            case(&[0], [3, 5], vec![]),
            case(&[1], [1, 1], vec![]),
            case(&[7], [5, 3], vec![4]),
            case(&[2, 3], [5, 3], vec![4, 3]),
        ]
    }
}
