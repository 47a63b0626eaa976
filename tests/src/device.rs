//! Anything that runs a function of a module. A new device joins every suite with one `impl`.

use graphc_ir::dim::{InputShape, bind_shapes};
use graphc_ir::error::{Error, Result};
use graphc_ir::{Binding, Function, Module, Tensor, interp};

/// What a run leaves behind.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The outputs, in the function's order.
    pub outputs: Vec<Tensor>,
    /// Every state variable of the module after the run.
    pub state: Vec<Tensor>,
}

/// A way to run modules.
pub trait Device {
    /// Name in messages.
    fn name(&self) -> &str;

    /// Runs a function on inputs in its order. State starts from the module's initial values.
    ///
    /// # Errors
    /// Those of the inputs, of the dims, and of the run itself.
    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome>;
}

/// The reference interpreter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Device for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let function = module.function(function)?;
        let binding = binding(module, function, inputs)?;
        let mut state = initial_state(module)?;
        let graph = function.graph.bind(&binding)?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let mut outputs = interp::eval(&graph, &inputs, &state.iter().collect::<Vec<_>>())?;
        let updates = outputs.split_off(function.outputs.len());
        for (i, value) in function.updates.iter().zip(updates) {
            state[*i] = value;
        }
        Ok(Outcome { outputs, state })
    }
}

/// The module's initial state.
///
/// # Errors
/// A variable without a value.
pub fn initial_state(module: &Module) -> Result<Vec<Tensor>> {
    let value = |s: &graphc_ir::StateDecl| match &s.init {
        Some(t) => Ok((**t).clone()),
        None => Err(Error::new(format!("state variable `{}` has no value", s.name))),
    };
    module.state.iter().map(value).collect()
}

/// The symbols' values as the inputs and the state give them.
///
/// # Errors
/// Inputs that contradict the declared types or each other.
pub fn binding(module: &Module, function: &Function, inputs: &[Tensor]) -> Result<Binding> {
    if inputs.len() != function.inputs.len() {
        return Err(Error::new(format!("{} inputs for {}", inputs.len(), function.inputs.len())));
    }
    let mut shapes = Vec::new();
    for (i, (name, tensor)) in function.inputs.iter().zip(inputs).enumerate() {
        shapes.push(InputShape { name, dims: &function.input_type(i).dims, sizes: tensor.shape() });
    }
    for s in &module.state {
        if let Some(t) = &s.init {
            shapes.push(InputShape { name: &s.name, dims: &s.ty.dims, sizes: t.shape() });
        }
    }
    let mut binding = Binding::new();
    bind_shapes(&shapes, &mut binding)?;
    Ok(binding)
}
