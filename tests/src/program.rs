//! Compiled Programs as devices: everything but the kernels of a real device is under test.

use graphc_ir::error::Result;
use graphc_ir::program::reference;
use graphc_ir::target::Target;
use graphc_ir::{Module, Tensor, target};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

use crate::device::{Device, Outcome, binding, initial_state};

/// Compiles for the reference target and runs the reference executor.
#[derive(Clone, Debug, Default)]
pub struct ReferenceProgram {
    /// What the optimizer may do.
    pub options: Options,
    /// Temporaries live in the planned arena, and memory that was freed is poisoned.
    pub arena: bool,
}

impl Device for ReferenceProgram {
    fn name(&self) -> &str {
        "program"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let target: &dyn Target = &target::Reference;
        let function = module.function(function)?;
        let remarks = &mut Remarks::default();
        let graph = driver::optimize(function, &self.options, remarks)?;
        let binding = binding(module, function, inputs)?;
        let compiled = driver::compile(&graph, function, &binding, target, &self.options, remarks)?;
        let mut state = initial_state(module)?;
        let execute = if self.arena { reference::execute_in_arena } else { reference::execute };
        let staged = match &compiled.prepare {
            Some(p) => execute(&p.program, &[], &mut state.clone(), &[])?,
            None => Vec::new(),
        };
        let outputs = execute(&compiled.main, inputs, &mut state, &staged)?;
        Ok(Outcome { outputs, state })
    }
}

/// A session on the CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Threads.
    pub threads: usize,
    /// What the optimizer may do.
    pub options: Options,
}

impl Device for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let failed = |e: graphc::Error| graphc_ir::Error::new(e.to_string());
        let options = graphc::Options { optimizer: self.options.clone(), ..graphc::Options::default() };
        let builder = graphc::Session::from_module(module.clone()).device(graphc::Device::Cpu);
        let mut session = builder.threads(self.threads).options(options).build().map_err(failed)?;
        let names = &module.function(function)?.inputs;
        let feeds: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(inputs).collect();
        let mut outputs = session.new_outputs(function, &feeds).map_err(failed)?;
        session.run_into(function, &feeds, &mut outputs).map_err(failed)?;
        let state = initial_state(&session.snapshot().map_err(failed)?)?;
        Ok(Outcome { outputs, state })
    }
}
