use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::interp;
use crate::op_struct;
use crate::ops::primitive::{body_results, check_operands};
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// A function whose gradient is another function.
    CustomGradient {
        /// What is computed.
        body: Arc<Graph>,
        /// From the operands, the results and the gradients of the float results to the gradients of the float
        /// operands, in order.
        backward: Arc<Graph>,
    }
}

impl CustomGradient {
    /// What `backward` takes and gives, for these operands.
    fn signature_of_backward(&self, ins: &[TensorType]) -> (Vec<TensorType>, Vec<TensorType>) {
        let is_float = |t: &&TensorType| t.dtype.is_float();
        let outs = body_results(&self.body);
        let gradients: Vec<TensorType> = outs.iter().filter(is_float).cloned().collect();
        ([ins, &outs, &gradients].concat(), ins.iter().filter(is_float).cloned().collect())
    }
}

impl OpDef for CustomGradient {
    const NAME: &'static str = "custom_gradient";
    const SIGNATURE: &'static str = "custom_gradient{body, backward}(x…) -> y…";
    const DOC: &'static str = "The results of the function `body`, differentiated by the function `backward`: it takes \
        the operands, the results and the gradients of the float results, and gives the gradients of the float \
        operands. Forward mode uses the transpose of `backward`.";
    const ARITY: RangeInclusive<usize> = 0..=usize::MAX;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_operands("body", &self.body, ins, cx)?;
        let (takes, gives) = self.signature_of_backward(ins);
        check_operands("backward", &self.backward, &takes, cx)?;
        let found = body_results(&self.backward);
        if found.len() != gives.len() {
            fail!("`backward` gives {} gradients, but there are {} float operands", found.len(), gives.len());
        }
        for (i, (found, wanted)) in found.iter().zip(&gives).enumerate() {
            if found.dtype != wanted.dtype {
                fail!("gradient {i} is {found}, but its operand is {wanted}");
            }
            cx.same(&found.dims, &wanted.dims, "gradients have the shapes of their operands")?;
        }
        Ok(body_results(&self.body))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let mut operands = [cx.ins, cx.outs].concat();
        for k in 0..cx.outs.len() {
            if cx.b.ty(cx.outs[k]).dtype.is_float() {
                operands.push(cx.grad_or_zero(k)?);
            }
        }
        let mut found = cx.b.inline(&self.backward, &operands)?.into_iter();
        let grads = cx.ins.iter().map(|v| if cx.b.ty(*v).dtype.is_float() { found.next() } else { None });
        Ok(Vjp::Grads(grads.collect()))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        b.inline(&self.body, ins).map(Some)
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(CustomGradient {
            body: Arc::new(self.body.map_dims(f)?),
            backward: Arc::new(self.backward.map_dims(f)?),
        })
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        interp::flops(&self.body)
    }

    fn samples() -> Vec<Sample> {
        // exp(x) * y, and its true gradient written by hand.
        let case = |shape: &[usize], swapped: bool| -> Result<Sample> {
            let ty = TensorType::fixed(DType::F64, shape);
            let (f, g) = if swapped { (1, 0) } else { (0, 1) };
            let mut b = Builder::new();
            let x = [b.input(ty.clone())?, b.input(ty.clone())?];
            let e = b.map(ScalarFn::Exp, &[x[f]])?;
            let z = b.map(ScalarFn::Mul, &[e, x[g]])?;
            let body = Arc::new(b.finish(&[z])?);
            let mut b = Builder::new();
            let x = [b.input(ty.clone())?, b.input(ty.clone())?];
            let (z, u) = (b.input(ty.clone())?, b.input(ty)?);
            let e = b.map(ScalarFn::Exp, &[x[f]])?;
            let mut grads = [b.map(ScalarFn::Mul, &[u, z])?, b.map(ScalarFn::Mul, &[u, e])?];
            if swapped {
                grads.swap(0, 1);
            }
            let backward = Arc::new(b.finish(&grads)?);
            let ins = vec![sample_tensor(shape, 1), sample_tensor(shape, 2)];
            Ok(Sample::new(CustomGradient { body, backward }, ins))
        };
        [case(&[], false), case(&[3], true), case(&[0, 2], false), case(&[5, 1], true)]
            .into_iter()
            .flatten()
            .collect()
    }
}
