//! The levels of compilation at which a function can run.

use std::fmt;

use graphc_ir::dim::Binding;
use graphc_ir::program::reference::execute_in_arena;
use graphc_ir::stage::Stage;
use graphc_ir::target::Reference;
use graphc_ir::{Function, Module, Tensor, interp};
use graphc_optimizer::driver;
use graphc_optimizer::remarks::Remarks;

use crate::error::{Error, Result};
use crate::options::{Device, Options};
use crate::session::{Session, State, feeds};

/// How far a function is compiled, and what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The graph as built, interpreted: the definition.
    Built,
    /// The optimized graph with bound dims, interpreted.
    Optimized,
    /// The graph with clusters, interpreted.
    Fused,
    /// The Program, in the reference executor, on planned memory.
    Program,
    /// The Program for the CPU, there.
    Cpu,
    /// The Program for a GPU, there.
    Gpu,
}

impl Level {
    /// Every level but the definition, and but for a GPU, which not every machine has.
    pub const COMPILED: [Level; 4] = [Level::Optimized, Level::Fused, Level::Program, Level::Cpu];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Built => "built",
            Level::Optimized => "optimized",
            Level::Fused => "fused",
            Level::Program => "program",
            Level::Cpu => "cpu",
            Level::Gpu => "gpu",
        }
    }

    /// Outputs and updated state of one run, by name.
    pub(super) fn results(
        self,
        module: &Module,
        name: &str,
        feeds: &[(&str, &Tensor)],
        options: &Options,
    ) -> Result<Vec<(String, Tensor)>> {
        let function = module.function(name).map_err(|e| Error::Usage(e.to_string()))?;
        let results = match self {
            Level::Built => on_device(module, name, function, feeds, options, Device::Reference)?,
            Level::Cpu => on_device(module, name, function, feeds, options, Device::Cpu)?,
            Level::Gpu => on_device(module, name, function, feeds, options, Device::Gpu)?,
            _ => self.interpreted(module, name, function, feeds, options)?,
        };
        let outputs = function.outputs.iter().map(|o| o.name.clone());
        let updates = function.updates.iter().map(|i| format!("state `{}`", module.state[*i].name));
        Ok(outputs.chain(updates).zip(results).collect())
    }

    fn interpreted(
        self,
        module: &Module,
        name: &str,
        function: &Function,
        fed: &[(&str, &Tensor)],
        options: &Options,
    ) -> Result<Vec<Tensor>> {
        let state = State::new(module, Binding::new())?;
        let binding = feeds::bind(name, function, fed, state.dims())?;
        let inputs: Vec<Tensor> =
            function.inputs.iter().enumerate().filter_map(|(i, n)| feeds::find(fed, i, n).cloned()).collect();
        // A variable without a value is not read, or the definition would have failed.
        let missing = Tensor::zeros(graphc_ir::DType::Bool, &[0]);
        let mut values: Vec<Tensor> =
            state.values().iter().map(|v| v.as_deref().unwrap_or(&missing).clone()).collect();
        if self == Level::Program {
            return program(function, &binding, &inputs, &mut values, options).map_err(|e| self.broken(&e));
        }
        let stage = if self == Level::Fused { Stage::Fused } else { Stage::Layout };
        let graph = driver::at_stage(function, stage, Some(&binding), &Reference, &options.optimizer)
            .map_err(|e| self.broken(&e))?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let values: Vec<&Tensor> = values.iter().collect();
        interp::eval(&graph, &inputs, &values).map_err(|e| self.broken(&e))
    }

    fn broken(self, e: &graphc_ir::Error) -> Error {
        Error::Internal(format!("level `{}` fails where the definition does not: {e}", self.name()))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn on_device(
    module: &Module,
    name: &str,
    function: &Function,
    feeds: &[(&str, &Tensor)],
    options: &Options,
    device: Device,
) -> Result<Vec<Tensor>> {
    let mut session = Session::from_module(module.clone()).device(device).options(options.clone()).build()?;
    let mut results: Vec<Tensor> = session.run(name, feeds.iter().copied())?.into_values().collect();
    for i in &function.updates {
        results.extend(session.state(&module.state[*i].name)?.cloned());
    }
    Ok(results)
}

fn program(
    function: &Function,
    binding: &Binding,
    inputs: &[Tensor],
    state: &mut [Tensor],
    options: &Options,
) -> graphc_ir::Result<Vec<Tensor>> {
    let remarks = &mut Remarks::default();
    let optimized = driver::optimize(function, &options.optimizer, remarks)?;
    let compiled = driver::compile(&optimized, function, binding, &Reference, &options.optimizer, remarks)?;
    let staged = match &compiled.prepare {
        Some(prepare) => execute_in_arena(&prepare.program, &[], state, &[])?,
        None => Vec::new(),
    };
    let mut results = execute_in_arena(&compiled.main, inputs, state, &staged)?;
    results.extend(function.updates.iter().map(|i| state[*i].clone()));
    Ok(results)
}
