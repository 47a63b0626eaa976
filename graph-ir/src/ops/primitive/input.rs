use std::ops::RangeInclusive;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// An input of the function.
    Input {
        /// Position among the inputs.
        index: usize,
        /// Element type.
        dtype: DType,
        /// Dims.
        dims: Vec<Dim>,
    }
}

op_struct! {
    /// The value of a state variable before the run.
    StateRead {
        /// Position in the module's state.
        index: usize,
        /// Element type.
        dtype: DType,
        /// Dims.
        dims: Vec<Dim>,
    }
}

macro_rules! source {
    ($t:ident, $name:literal, $sig:literal, $doc:literal) => {
        impl OpDef for $t {
            const NAME: &'static str = $name;
            const SIGNATURE: &'static str = $sig;
            const DOC: &'static str = $doc;
            const ARITY: RangeInclusive<usize> = 0..=0;

            fn takes_halves(&self) -> bool {
                true
            }

            fn infer(&self, _: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
                Ok(vec![TensorType::new(self.dtype, self.dims.clone())])
            }

            fn eval(&self, _: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
                fail!("the interpreter supplies inputs and state itself")
            }

            fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
                Ok(Vjp::Grads(Vec::new()))
            }

            fn expand(&self, _: &mut Builder, _: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
                Ok(None)
            }

            fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
                Ok($t { dims: super::map_all(&self.dims, f)?, ..self.clone() })
            }

            fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
                Some(0.0)
            }

            fn samples() -> Vec<Sample> {
                // Every other operation's samples run through inputs; states through the models.
                Vec::new()
            }
        }
    };
}

source!(Input, "input", "input() -> x", "An input of the function.");
source!(StateRead, "state", "state() -> x", "A state variable before the run.");
