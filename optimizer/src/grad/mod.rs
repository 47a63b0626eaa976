//! Training functions made from forward functions: a loss, its gradient, the update of the state.
//!
//! The result is an ordinary function of the module: files hold differentiated graphs, and there is
//! no gradient operation.

mod forward;
mod gradients;
mod loss;
mod replay;
mod sgd;
mod spec;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{Function, Module, OutputDecl, OutputMark, StateDecl, StateRole};
use graphc_ir::ops::Op;
use graphc_ir::scalar::Scalar;
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;

pub use gradients::gradients;
pub use loss::TARGET;
use loss::did_you_mean;
pub use replay::canonical;
use replay::named;
pub use spec::{Loss, Mode, Sgd, TrainingSpec};

/// Name of the state variable that holds the learning rate.
pub const LEARNING_RATE: &str = "learning_rate";

/// Name of the training function's output.
pub const LOSS: &str = "loss";

/// The module with a training function: the inputs of the forward function and perhaps
/// [`TARGET`], the output `loss`, and updates of the trained state. New state: [`LEARNING_RATE`] of
/// role `buffer`, and with momentum a slot `<param>.momentum` of zeros for every trained variable.
///
/// # Errors
/// Unknown or taken names, a loss that is not one number, hyper-parameters out of range, and
/// everything that [`gradients`] refuses.
pub fn add_training(module: &Module, spec: &TrainingSpec) -> Result<Module> {
    spec.optimizer.validate()?;
    let function = find_function(module, &spec.function)?;
    check_names(module, function, spec)?;
    let wrt = trained(module, function, spec)?;

    let mut module = module.clone();
    let mut b = Builder::with_infer(function.graph.infer().clone());
    // Canonical first, so that a softmax is found however it was written.
    let canonical = function.with_graph(canonical(&function.graph)?);
    let forward = forward::copy(&mut b, &canonical, spec.mode)?;
    let loss = named(&mut b, LOSS, |b| spec.loss.build(b, (&spec.function, function), &forward.outputs))?;
    let params = wrt.iter().map(|i| read(&mut b, &module, *i)).collect::<Result<Vec<_>>>()?;
    let gradients = gradients(&mut b, loss, &params)?;

    let mut updates = forward.updates;
    let rate_state = push_state(&mut module, learning_rate(&spec.optimizer, b.ty(loss).dtype));
    let rate = read(&mut b, &module, rate_state)?;
    for (i, pair) in wrt.iter().zip(params.into_iter().zip(gradients)) {
        let slot = slot(&module.state[*i], &spec.optimizer).map(|decl| push_state(&mut module, decl));
        let momentum = slot.map(|s| read(&mut b, &module, s)).transpose()?;
        let step = spec.optimizer.step(&mut b, pair, momentum, rate, &module.state[*i].name)?;
        updates.push((*i, step.param));
        updates.extend(slot.zip(step.momentum));
    }

    let results: Vec<ValueId> = std::iter::once(loss).chain(updates.iter().map(|(_, v)| *v)).collect();
    let graph = b.finish(&results)?.rebuild(|b, _, node, ins| b.op(node.op.clone(), ins))?;
    let mut inputs = function.inputs.clone();
    if spec.loss.has_target() {
        inputs.push(TARGET.into());
    }
    let training = Function {
        inputs,
        outputs: vec![OutputDecl { name: LOSS.into(), mark: Some(OutputMark::Loss) }],
        updates: updates.iter().map(|(i, _)| *i).collect(),
        graph,
    };
    module.functions.insert(spec.name.clone(), training);
    Ok(module)
}

fn find_function<'m>(module: &'m Module, name: &str) -> Result<&'m Function> {
    module.functions.get(name).ok_or_else(|| {
        let names: Vec<&str> = module.functions.keys().map(String::as_str).collect();
        Error::new(format!("the module has no function `{name}`")).help(did_you_mean(
            "functions",
            name,
            &names,
        ))
    })
}

/// New names must be free: inputs, state and nodes of a function share one namespace.
fn check_names(module: &Module, function: &Function, spec: &TrainingSpec) -> Result<()> {
    if module.functions.contains_key(&spec.name) {
        let problem = format!("the module has a function `{}` already", spec.name);
        return Err(Error::new(problem).help("remove or rename it"));
    }
    let input = |name: &str| function.inputs.iter().any(|i| i == name);
    if spec.loss.has_target() && (input(TARGET) || module.state_index(TARGET).is_some()) {
        fail!("the loss adds an input `{TARGET}`, but that name is taken");
    }
    if input(LEARNING_RATE) || module.state_index(LEARNING_RATE).is_some() {
        fail!("the optimizer adds a state variable `{LEARNING_RATE}`, but that name is taken");
    }
    Ok(())
}

/// Which state variables are trained, in the order of the module's state.
fn trained(module: &Module, function: &Function, spec: &TrainingSpec) -> Result<Vec<usize>> {
    let reads = reads(function);
    let mut wrt = match &spec.wrt {
        None => {
            reads.iter().copied().filter(|i| module.state[*i].role == StateRole::Param).collect::<Vec<_>>()
        }
        Some(names) => names.iter().map(|name| find_state(module, name)).collect::<Result<_>>()?,
    };
    wrt.sort_unstable();
    wrt.dedup();
    if wrt.is_empty() {
        let problem = format!(
            "the function `{}` reads no state of role `param`, so there is nothing to train",
            spec.function
        );
        return Err(Error::new(problem).help("name the state variables to train"));
    }
    for i in &wrt {
        let state = &module.state[*i];
        if !state.ty.dtype.is_compute_float() {
            fail!(
                "there is no gradient with respect to `{}`: it is {}, not f32 or f64",
                state.name,
                state.ty
            );
        }
        if !reads.contains(i) {
            let problem =
                format!("the loss does not depend on `{}`: `{}` does not read it", state.name, spec.function);
            return Err(Error::new(problem).help("leave it out of the list of what is trained"));
        }
        if function.updates.contains(i) {
            fail!("`{}` updates `{}` itself, so it cannot be trained", spec.function, state.name);
        }
        let slot = slot_name(&state.name);
        if spec.optimizer.momentum != 0.0
            && (module.state_index(&slot).is_some() || function.inputs.contains(&slot))
        {
            fail!("the optimizer adds a state variable `{slot}`, but that name is taken");
        }
    }
    Ok(wrt)
}

fn find_state(module: &Module, name: &str) -> Result<usize> {
    module.state_index(name).ok_or_else(|| {
        let names: Vec<&str> = module.state.iter().map(|s| s.name.as_str()).collect();
        Error::new(format!("the module has no state `{name}`")).help(did_you_mean(
            "state variables",
            name,
            &names,
        ))
    })
}

/// The state variables that a function's outputs and updates depend on.
fn reads(function: &Function) -> Vec<usize> {
    let live = function.graph.live_nodes();
    let read =
        function.graph.nodes().filter(|(id, _)| live[id.index()]).filter_map(|(_, node)| match &node.op {
            Op::StateRead(read) => Some(read.index),
            _ => None,
        });
    let mut reads: Vec<usize> = read.collect();
    reads.sort_unstable();
    reads
}

fn read(b: &mut Builder, module: &Module, index: usize) -> Result<ValueId> {
    let state = &module.state[index];
    named(b, &state.name, |b| b.state(index, state.ty.clone()))
}

fn push_state(module: &mut Module, decl: StateDecl) -> usize {
    module.state.push(decl);
    module.state.len() - 1
}

fn learning_rate(sgd: &Sgd, dtype: DType) -> StateDecl {
    let init = Tensor::scalar(dtype, Scalar::F(sgd.lr));
    StateDecl {
        name: LEARNING_RATE.into(),
        role: StateRole::Buffer,
        ty: TensorType::new(dtype, []),
        init: Some(Arc::new(init)),
    }
}

fn slot_name(param: &str) -> String {
    format!("{param}.momentum")
}

/// A slot has no value where its shape is not known yet.
fn slot(param: &StateDecl, sgd: &Sgd) -> Option<StateDecl> {
    if sgd.momentum == 0.0 {
        return None;
    }
    let init = param.ty.shape().map(|shape| Arc::new(Tensor::zeros(param.ty.dtype, &shape)));
    Some(StateDecl { name: slot_name(&param.name), role: StateRole::Slot, ty: param.ty.clone(), init })
}
