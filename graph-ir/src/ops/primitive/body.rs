//! Functions that operations run: bodies of loops, branches, what is called.

use crate::error::Result;
use crate::graph::Graph;
use crate::interp;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

/// Types of a body's results.
pub(crate) fn body_results(body: &Graph) -> Vec<TensorType> {
    body.results().iter().map(|r| body.ty(*r).clone()).collect()
}

/// Checks that operands are what a body takes.
pub(crate) fn check_operands(what: &str, body: &Graph, ins: &[TensorType], cx: &mut Infer) -> Result<()> {
    if ins.len() != body.inputs().len() {
        fail!("`{what}` takes {} inputs, but is given {} operands", body.inputs().len(), ins.len());
    }
    for (i, (ty, v)) in ins.iter().zip(body.inputs()).enumerate() {
        let wanted = body.ty(*v);
        if wanted.dtype != ty.dtype {
            fail!("operand {i} of `{what}` is {ty}, but it takes {wanted}");
        }
        cx.same(&ty.dims, &wanted.dims, "operands fit the function that takes them")?;
    }
    Ok(())
}

/// Runs a body.
pub(crate) fn eval_body(body: &Graph, ins: &[&Tensor]) -> Result<Vec<Tensor>> {
    interp::eval(body, ins, &[])
}
