//! What a run will cost, told before it.

use std::collections::BTreeMap;

use graphc_ir::Tensor;
use graphc_ir::dim::Binding;
use graphc_ir::program::Program;
use graphc_optimizer::compile::Compiled;

use super::{Session, binding_of, feeds};
use crate::error::{Error, Result};
use crate::executor::lower;

/// A function compiled for fixed sizes, in numbers and text.
#[derive(Clone, Debug)]
pub struct PlanInfo {
    /// Bytes that a run needs in all: arena, staged values, state and constants.
    pub peak_bytes: usize,
    /// Bytes of temporaries and scratch.
    pub arena_bytes: usize,
    /// Bytes of what is computed once from state and constants and kept.
    pub staged_bytes: usize,
    /// Bytes of the state that is there: what has a value, or what the function reads or assigns.
    pub state_bytes: usize,
    /// Steps of a run.
    pub steps: usize,
    /// Steps that compute the staged values.
    pub staged_steps: usize,
    /// Number of a run's steps of each kind.
    pub kernels: BTreeMap<&'static str, usize>,
    /// Floating-point operations of a run, where they are known.
    pub flops: Option<f64>,
    /// The Programs as text.
    pub dump: String,
}

impl Session {
    /// The plan of a function for these sizes of its dims.
    ///
    /// # Errors
    /// Those of [`Session::run`] for names and dims.
    pub fn plan<'a>(&self, name: &str, dims: impl IntoIterator<Item = (&'a str, usize)>) -> Result<PlanInfo> {
        let mut binding = self.state.dims().clone();
        for (symbol, size) in binding_of(dims, "the given dims")?.iter() {
            binding.set(symbol, size, "the given dims").map_err(|e| Error::Usage(e.to_string()))?;
        }
        self.plan_bound(name, &binding)
    }

    /// The plan of a function for feeds of these shapes.
    ///
    /// # Errors
    /// Those of [`Session::run`] that can be told without running.
    pub fn plan_for(&self, name: &str, feeds: &[(&str, &Tensor)]) -> Result<PlanInfo> {
        let function = self.function(name)?;
        let binding = feeds::bind(name, function, feeds, self.state.dims())?;
        self.plan_bound(name, &binding)
    }

    fn plan_bound(&self, name: &str, binding: &Binding) -> Result<PlanInfo> {
        let (index, function) = self.find(name)?;
        let bound = self.bind(name, function, binding)?;
        let source = self.source(name, index, function, &bound, binding)?;
        let compiled = lower(&source, self.executor.target())?;
        let sizes = Sizes::of(&compiled);
        let state_bytes = self.state_bytes(function, binding);
        let mut kernels = BTreeMap::new();
        for step in &compiled.main.steps {
            *kernels.entry(step.kind()).or_default() += 1;
        }
        let mut dump = compiled.main.dump();
        if let Some(prepare) = &compiled.prepare {
            dump.push_str("\nstaged, computed when the state that it reads changes:\n");
            dump.push_str(&prepare.program.dump());
        }
        Ok(PlanInfo {
            peak_bytes: sizes.total().saturating_add(state_bytes),
            arena_bytes: sizes.arena,
            staged_bytes: sizes.staged,
            state_bytes,
            steps: compiled.main.steps.len(),
            staged_steps: compiled.prepare.as_ref().map_or(0, |p| p.program.steps.len()),
            kernels,
            flops: graphc_ir::interp::flops(&bound),
            dump,
        })
    }
}

/// Bytes that a compiled function needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The larger arena: the two Programs do not run at the same time.
    pub arena: usize,
    pub staged: usize,
    pub constants: usize,
}

impl Sizes {
    pub fn of(compiled: &Compiled) -> Sizes {
        let mut sizes =
            Sizes { arena: compiled.main.plan.arena_bytes, staged: 0, constants: constants(&compiled.main) };
        if let Some(prepare) = &compiled.prepare {
            let program = &prepare.program;
            sizes.arena = sizes.arena.max(program.plan.arena_bytes);
            sizes.constants = sizes.constants.saturating_add(constants(program));
            sizes.staged =
                program.outputs.iter().map(|b| program.buffer(*b).bytes()).fold(0, usize::saturating_add);
        }
        sizes
    }

    pub fn total(self) -> usize {
        self.arena.saturating_add(self.staged).saturating_add(self.constants)
    }
}

fn constants(program: &Program) -> usize {
    program.constants.iter().map(|c| c.bytes().len()).sum()
}
