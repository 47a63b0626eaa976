use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::attr_enum;
use crate::error::Result;
use crate::graph::Graph;
use crate::interp;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

attr_enum! {
    /// Which kernel a cluster becomes.
    FuseKind {
        /// Elementwise work with folds.
        Nest = "nest",
        /// A dot, a convolution or a pool with an epilogue.
        Anchored = "anchored",
    }
}

op_struct! {
    /// A cluster of nodes that becomes one step; its meaning is its body.
    Fused {
        /// The kernel.
        kind: FuseKind,
        /// The nodes.
        body: Arc<Graph>,
    }
}

impl OpDef for Fused {
    const NAME: &'static str = "fused";
    const SIGNATURE: &'static str = "fused{kind, body}(x, …) -> y, …";
    const DOC: &'static str = "A cluster made by the fusion pass. It stands in no file.";
    const ARITY: RangeInclusive<usize> = 0..=usize::MAX;

    fn arity(&self) -> RangeInclusive<usize> {
        self.body.inputs().len()..=self.body.inputs().len()
    }

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        for (v, ty) in self.body.inputs().iter().zip(ins) {
            if self.body.ty(*v) != ty {
                fail!("a cluster's operand is {ty}, but its body takes {}", self.body.ty(*v));
            }
        }
        Ok(self.body.results().iter().map(|r| self.body.ty(*r).clone()).collect())
    }

    fn eval(&self, ins: &[&Tensor], _: &[TensorType]) -> Result<Vec<Tensor>> {
        interp::eval(&self.body, ins, &[])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::None("clusters are made after differentiation"))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        interp::flops(&self.body)
    }

    fn samples() -> Vec<Sample> {
        // Clusters are sampled by the fusion pass's own tests.
        Vec::new()
    }
}
