use std::ops::RangeInclusive;

use super::map_all;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::random;
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Random 32-bit words.
    RandomBits {
        /// Dims of the result.
        dims: Vec<Dim>,
    }
}

impl OpDef for RandomBits {
    const NAME: &'static str = "random_bits";
    const SIGNATURE: &'static str = "random_bits{dims}(key u32[2]) -> u32";
    const DOC: &'static str = "Threefry-2x32 with 20 rounds of the row-major element index: the same bits whatever the \
        layout, fusion, device or number of threads (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011).";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        if ins[0] != TensorType::fixed(DType::U32, &[2]) {
            fail!("a key is u32[2], but got {}", ins[0]);
        }
        Ok(vec![TensorType::new(DType::U32, self.dims.clone())])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let key = ins[0].as_slice::<u32>();
        let shape = outs[0].static_shape();
        let word = |i| Scalar::I(random::bits([key[0], key[1]], i as u64).into());
        Ok(vec![Tensor::from_fn(DType::U32, &shape, word)])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Grads(vec![None]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(RandomBits { dims: map_all(&self.dims, f)? })
    }

    fn samples() -> Vec<Sample> {
        let key = Tensor::from_slice(&[2], &[7u32, 11]);
        [&[][..], &[0], &[1], &[3, 5]]
            .iter()
            .map(|s| {
                let dims = s.iter().map(|d| Dim::from(*d)).collect();
                Sample::constant(RandomBits { dims }, vec![key.clone()])
            })
            .collect()
    }
}
