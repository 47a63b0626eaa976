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
