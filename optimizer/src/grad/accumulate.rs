//! Gradients of several batches as one.

use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{Function, StateDecl, StateRole};
use graphc_ir::ops::Check;
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;

use super::read;
use super::replay::named;
use super::spec::Accumulate;
use super::update::UpdateRule;

/// Name of the function that sets the accumulated gradients to zero.
pub const ZERO_GRAD_PARAMETERS: &str = "zero_grad_parameters";

/// Name of the function that adds the gradients of a batch.
pub const ACC_GRAD_PARAMETERS: &str = "acc_grad_parameters";

/// Name of the function that updates the parameters by the accumulated gradients.
pub const UPDATE_PARAMETERS: &str = "update_parameters";

/// Name of the state that counts the accumulated batches, i32`[]`.
pub const ACCUMULATED: &str = "accumulated";

fn gradient_name(param: &str) -> String {
    format!("{param}.gradient")
}

/// The state of accumulated gradients: zeros for each parameter of a known shape, and their count.
pub(super) fn state(params: &[&StateDecl]) -> Vec<StateDecl> {
    let count = StateDecl {
        name: ACCUMULATED.into(),
        role: StateRole::Slot,
        ty: TensorType::new(DType::I32, []),
        init: Some(Arc::new(Tensor::scalar(DType::I32, Scalar::I(0)))),
    };
    let gradient = |param: &&StateDecl| StateDecl {
        name: gradient_name(&param.name),
        role: StateRole::Slot,
        ty: param.ty.clone(),
        init: param.ty.shape().map(|shape| Arc::new(Tensor::zeros(param.ty.dtype, &shape))),
    };
    std::iter::once(count).chain(params.iter().map(gradient)).collect()
}

/// Places of the count and of the parameters' gradients, as [`state`] declares them.
fn places(state: &[StateDecl], wrt: &[usize]) -> (usize, Vec<usize>) {
    let find = |name: &str| state.iter().position(|s| s.name == name).expect("it was declared");
    (find(ACCUMULATED), wrt.iter().map(|i| find(&gradient_name(&state[*i].name))).collect())
}

/// Appends the sums of accumulated and given gradients.
pub(super) fn add(
    b: &mut Builder,
    state: &[StateDecl],
    gradients: &[(usize, ValueId)],
) -> Result<Vec<(usize, ValueId)>> {
    let (count, slots) = places(state, &gradients.iter().map(|(i, _)| *i).collect::<Vec<_>>());
    let mut updates = Vec::new();
    for ((_, gradient), slot) in gradients.iter().zip(slots) {
        let old = read(b, state, slot)?;
        let name = format!("{}.next", state[slot].name);
        updates.push((slot, named(b, &name, |b| b.map(ScalarFn::Add, &[old, *gradient]))?));
    }
    let old = read(b, state, count)?;
    let one = b.full_like(old, 1.0)?;
    updates.push((count, b.map(ScalarFn::Add, &[old, one])?));
    Ok(updates)
}

fn function(b: Builder, updates: &[(usize, ValueId)]) -> Result<Function> {
    let results: Vec<ValueId> = updates.iter().map(|(_, v)| *v).collect();
    Ok(Function {
        updates: updates.iter().map(|(i, _)| *i).collect(),
        graph: b.finish(&results)?.pruned()?,
        ..Function::default()
    })
}

/// The function that sets everything accumulated to zero.
pub(super) fn zero(state: &[StateDecl], wrt: &[usize]) -> Result<Function> {
    let (count, slots) = places(state, wrt);
    let mut b = Builder::new();
    let mut updates = Vec::new();
    for index in slots.into_iter().chain([count]) {
        let ty = &state[index].ty;
        let zero = b.scalar(ty.dtype, 0.0)?;
        updates.push((index, b.broadcast(zero, &ty.dims, &[])?));
    }
    function(b, &updates)
}

/// The function that takes the step; it fails where nothing is accumulated.
pub(super) fn step(
    state: &[StateDecl],
    wrt: &[usize],
    update: &UpdateRule,
    how: Accumulate,
) -> Result<Function> {
    let (count, slots) = places(state, wrt);
    let mut b = Builder::new();
    let n = read(&mut b, state, count)?;
    let zero = b.full_like(n, 0.0)?;
    let some = b.map(ScalarFn::Gt, &[n, zero])?;
    let message = format!("no gradients are accumulated; run `{ACC_GRAD_PARAMETERS}` before");
    let n = b.op1(Check { message }, &[n, some])?;
    let mut gradients = Vec::new();
    for (param, slot) in wrt.iter().zip(slots) {
        let mut gradient = read(&mut b, state, slot)?;
        if how == Accumulate::Mean {
            let n = b.cast(n, state[slot].ty.dtype)?;
            gradient = b.map(ScalarFn::Div, &[gradient, n])?;
        }
        gradients.push((*param, gradient));
    }
    let updates = update.append(&mut b, state, &gradients)?;
    function(b, &updates)
}
