//! Training functions made from forward functions: a loss, its gradient, the update of the state.
//!
//! The result is an ordinary function of the module: files hold differentiated graphs, and there is
//! no gradient operation.

mod accumulate;
mod derivatives;
mod derive;
mod forward;
mod gradients;
mod hoist;
mod loss;
pub mod optimizer;
pub mod parameters;
mod reference;
mod regularizer;
mod replay;
pub mod schedule;
pub mod second_order;
mod spec;
#[cfg(test)]
mod tests;
mod update;

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{Function, Module, OutputDecl, OutputMark, StateDecl, StateRole};
use graphc_ir::ops::Op;

pub use accumulate::{ACC_GRAD_PARAMETERS, ACCUMULATED, UPDATE_PARAMETERS, ZERO_GRAD_PARAMETERS};
pub use derivatives::{hessian, hvp, jacobian, jvp};
pub use derive::{Derivative, DerivativeSpec, add_derivative, tangent_name};
pub use gradients::gradients;
pub use loss::TARGET;
use loss::did_you_mean;
pub use optimizer::Optimizer;
pub use reference::training_reference;
pub use regularizer::{Clip, Regularizer};
pub use replay::canonical;
use replay::named;
pub use schedule::{Schedule, Warmup};
pub use spec::{Accumulate, Loss, Mode, TrainingSpec};
pub use update::{LEARNING_RATE, STEP, UpdateRule};

/// Name of the training function's output.
pub const LOSS: &str = "loss";

/// The module with a training function: the inputs of the forward function and perhaps [`TARGET`], the output `loss`, and
/// updates of the trained state. New state is that of [`UpdateRule::state`].
///
/// With [`TrainingSpec::accumulate`] there are three functions instead, named as in Torch7: [`ZERO_GRAD_PARAMETERS`]
/// without inputs forgets what is accumulated, [`ACC_GRAD_PARAMETERS`] is the training function but that it adds the
/// gradients to the slots `<param>.gradient` and counts in [`ACCUMULATED`], and [`UPDATE_PARAMETERS`] without inputs takes
/// the step.
///
/// # Errors
/// Unknown or taken names, a loss that is not one number, hyper-parameters out of range, and
/// everything that [`gradients`] refuses.
pub fn add_training(module: &Module, spec: &TrainingSpec) -> Result<Module> {
    spec.update.validate()?;
    let function = find_function(module, &spec.function)?;
    let wrt = trained(module, function, spec)?;
    let params: Vec<&StateDecl> = wrt.iter().map(|i| &module.state[*i]).collect();

    let mut b = Builder::with_infer(function.graph.infer().clone());
    // Canonical first, so that a softmax is found however it was written.
    let canonical = function.with_graph(canonical(&function.graph)?);
    let forward = forward::copy(&mut b, &canonical, spec.mode)?;
    let loss = named(&mut b, LOSS, |b| spec.loss.build(b, (&spec.function, function), &forward.outputs))?;

    let mut trained = module.clone();
    // A rate is computed with. A loss of no float type is refused where its gradient is taken.
    let dtype = b.ty(loss).dtype;
    let dtype = if dtype.is_compute_float() { dtype } else { DType::F32 };
    trained.state.extend(spec.update.state(&params, dtype)?);
    if spec.accumulate.is_some() {
        trained.state.extend(accumulate::state(&params));
    }
    check_names(module, function, spec, &trained.state[module.state.len()..])?;

    let values = wrt.iter().map(|i| read(&mut b, &trained.state, *i)).collect::<Result<Vec<_>>>()?;
    let gradients: Vec<(usize, ValueId)> =
        wrt.iter().copied().zip(gradients(&mut b, loss, &values)?).collect();
    let new = match spec.accumulate {
        None => spec.update.append(&mut b, &trained.state, &gradients)?,
        Some(_) => accumulate::add(&mut b, &trained.state, &gradients)?,
    };
    let updates = [forward.updates, new].concat();

    let results: Vec<ValueId> = std::iter::once(loss).chain(updates.iter().map(|(_, v)| *v)).collect();
    let mut inputs = function.inputs.clone();
    if spec.loss.has_target() {
        inputs.push(TARGET.into());
    }
    let training = Function {
        inputs,
        outputs: vec![OutputDecl { name: LOSS.into(), mark: Some(OutputMark::Loss) }],
        updates: updates.iter().map(|(i, _)| *i).collect(),
        graph: b.finish(&results)?.pruned()?,
    };
    match spec.accumulate {
        None => {
            trained.functions.insert(spec.name.clone(), training);
        }
        Some(how) => {
            let zero = accumulate::zero(&trained.state, &wrt)?;
            let step = accumulate::step(&trained.state, &wrt, &spec.update, how)?;
            trained.functions.insert(ZERO_GRAD_PARAMETERS.into(), zero);
            trained.functions.insert(ACC_GRAD_PARAMETERS.into(), training);
            trained.functions.insert(UPDATE_PARAMETERS.into(), step);
        }
    }
    Ok(trained)
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
fn check_names(module: &Module, function: &Function, spec: &TrainingSpec, new: &[StateDecl]) -> Result<()> {
    for name in new_functions(spec) {
        if module.functions.contains_key(name) {
            let problem = format!("the module has a function `{name}` already");
            return Err(Error::new(problem).help("remove or rename it"));
        }
    }
    let input = |name: &str| function.inputs.iter().any(|i| i == name);
    if spec.loss.has_target() && (input(TARGET) || module.state_index(TARGET).is_some()) {
        fail!("the loss adds an input `{TARGET}`, but that name is taken");
    }
    for decl in new {
        if input(&decl.name) || module.state_index(&decl.name).is_some() {
            fail!("the optimizer adds a state variable `{}`, but that name is taken", decl.name);
        }
    }
    Ok(())
}

/// The functions that a training adds.
pub fn new_functions(spec: &TrainingSpec) -> Vec<&str> {
    match spec.accumulate {
        None => vec![&spec.name],
        Some(_) => vec![ZERO_GRAD_PARAMETERS, ACC_GRAD_PARAMETERS, UPDATE_PARAMETERS],
    }
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
                "`{}` is {}, but what is trained is f32 or f64; keep it in f32 and cast it where it is used",
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

fn read(b: &mut Builder, state: &[StateDecl], index: usize) -> Result<ValueId> {
    named(b, &state[index].name, |b| b.state(index, state[index].ty.clone()))
}
