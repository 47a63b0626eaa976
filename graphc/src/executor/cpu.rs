//! The CPU as a device: Programs on SIMD kernels and threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graphc_cpu::isa::Isa;
use graphc_cpu::memory::OutOfMemory;
use graphc_cpu::pool::{MAX_THREADS, Pool};
use graphc_cpu::{Binding, CpuOptions, CpuTarget, Executable, RunError, Workspace};
use graphc_ir::Tensor;
use graphc_ir::program::{BufferKind, Program};
use graphc_ir::target::Target;

use super::staged::{Prepare, Registry, Staged};
use super::{Run, Source, StateAccess, failed, lower};
use crate::error::{Error, Result};
use crate::memory;
use crate::session::{Fixed, Sizes, feeds};

/// The threads, the instruction set, and what is computed from state alone.
#[derive(Debug)]
pub(crate) struct Cpu {
    options: CpuOptions,
    target: CpuTarget,
    staged: Registry,
}

/// What a Program does with a state variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Nothing,
    Reads,
    Writes,
}

/// A function compiled for this CPU.
#[derive(Debug)]
pub(crate) struct Code {
    main: Executable,
    prepare: Option<Prepare>,
    /// How the Program uses each state variable.
    states: Vec<Use>,
    /// The state variables that it writes, with their types.
    writes: Vec<(usize, Fixed)>,
    /// Workspaces of runs that ended; as many as ever ran at once.
    free: Mutex<Vec<Workspace>>,
    bytes: usize,
}

impl Cpu {
    pub fn open(threads: Option<usize>) -> Result<Cpu> {
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS);
        let threads = threads.unwrap_or_else(available);
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::Usage(format!("a session takes 1 to {MAX_THREADS} threads, not {threads}")));
        }
        let isa = Isa::detect().map_err(|e| Error::Device(e.to_string()))?;
        let pool = Pool::new(threads).map_err(|e| Error::Device(e.to_string()))?;
        let options = CpuOptions { pool: Arc::new(pool), isa };
        Ok(Cpu { options, target: CpuTarget::new(isa, threads), staged: Registry::default() })
    }

    pub fn target(&self) -> &dyn Target {
        &self.target
    }

    pub fn threads(&self) -> usize {
        self.options.pool.threads()
    }

    pub fn compile(&self, source: &Source<'_>) -> Result<Code> {
        let compiled = lower(source, &self.target)?;
        let bytes = Sizes::of(&compiled).total();
        let needed = bytes.saturating_add(source.other_bytes);
        memory::check("a run on the cpu", needed, source.memory_limit)?;
        let executable = |program| {
            Executable::compile(program, self.options.clone()).map_err(|e| Error::Internal(e.to_string()))
        };
        let prepare = match &compiled.prepare {
            Some(staged) => Some(self.staged.prepare(staged, executable(&staged.program)?)),
            None => None,
        };
        let (states, writes) = states(&compiled.main);
        let main = executable(&compiled.main)?;
        Ok(Code { main, prepare, states, writes, free: Mutex::default(), bytes })
    }

    pub fn run(&self, code: &Code, run: Run<'_>) -> Result<()> {
        let staged = match &code.prepare {
            Some(prepare) => Some(prepare.staged(run.state.get())?),
            None => None,
        };
        let reused = code.free().pop();
        let mut workspace = match reused {
            Some(workspace) => workspace,
            None => code.main.workspace().map_err(no_memory)?,
        };
        let result = code.run(run, staged.as_deref(), &mut workspace);
        code.free().push(workspace);
        result
    }
}

impl Code {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn free(&self) -> MutexGuard<'_, Vec<Workspace>> {
        // A panic while it was held left a list that is whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, run: Run<'_>, staged: Option<&Staged>, workspace: &mut Workspace) -> Result<()> {
        let Run { function, feeds, outputs, state, after } = run;
        let binding = self.main.bind(workspace);
        let bound = bind(binding, &function.inputs, feeds, outputs, staged).map_err(ran)?;
        match state {
            StateAccess::Shared(state) => {
                let mut bound = bound;
                for (i, value) in
                    state.values().iter().enumerate().filter(|(i, _)| self.usage(*i) != Use::Nothing)
                {
                    if let Some(value) = value {
                        bound = bound.state(i, value.bytes()).map_err(ran)?;
                    }
                }
                bound.run_observed(after).map_err(ran)
            }
            StateAccess::Exclusive(state) => {
                // What is assigned for the first time needs memory, which counts only if the run succeeds.
                let fresh = |(i, _): &&(usize, Fixed)| state.here(*i).is_none();
                let first: Vec<&(usize, Fixed)> = self.writes.iter().filter(fresh).collect();
                for (i, (dtype, shape)) in &first {
                    state.values_mut()[*i] = Some(Arc::new(Tensor::zeros(*dtype, shape)));
                }
                let result = self.run_exclusively(bound, state.values_mut(), after);
                let mut forget = |assigned: &[usize]| {
                    let unassigned = first.iter().filter(|(i, _)| !assigned.contains(i));
                    unassigned.for_each(|(i, _)| state.values_mut()[*i] = None);
                };
                match result {
                    Ok(()) => {
                        self.writes.iter().for_each(|(i, _)| state.touch(*i));
                        Ok(())
                    }
                    Err(RunError::Torn { at, message, assigned, lost }) => {
                        forget(&assigned);
                        let torn = state.tear(&assigned, &lost);
                        Err(Error::Internal(format!("{at}: {message}; {torn}")))
                    }
                    Err(e) => {
                        forget(&[]);
                        Err(ran(e))
                    }
                }
            }
        }
    }

    fn run_exclusively<'a>(
        &self,
        mut bound: Binding<'a>,
        values: &'a mut [Option<Arc<Tensor>>],
        after: &mut dyn FnMut(usize),
    ) -> std::result::Result<(), RunError> {
        for (i, value) in values.iter_mut().enumerate() {
            bound = match (self.usage(i), value) {
                (Use::Nothing, _) | (_, None) => bound,
                (Use::Reads, Some(value)) => bound.state(i, value.bytes())?,
                (Use::Writes, Some(value)) => bound.state_mut(i, Arc::make_mut(value).bytes_mut())?,
            };
        }
        bound.run_observed(after)
    }

    fn usage(&self, i: usize) -> Use {
        self.states.get(i).copied().unwrap_or(Use::Nothing)
    }
}

/// Binds everything but the state.
fn bind<'a>(
    mut binding: Binding<'a>,
    inputs: &[String],
    fed: &'a [(&str, &Tensor)],
    outputs: &'a mut [Tensor],
    staged: Option<&'a Staged>,
) -> std::result::Result<Binding<'a>, RunError> {
    for (i, name) in inputs.iter().enumerate() {
        if let Some(tensor) = feeds::find(fed, i, name) {
            binding = binding.input(i, tensor.bytes())?;
        }
    }
    for (i, tensor) in outputs.iter_mut().enumerate() {
        binding = binding.output(i, tensor.bytes_mut())?;
    }
    for (i, bytes) in staged.into_iter().flat_map(Staged::buffers).enumerate() {
        binding = binding.staged(i, bytes)?;
    }
    Ok(binding)
}

/// How a Program uses each state variable, and those that it writes with their types.
fn states(program: &Program) -> (Vec<Use>, Vec<(usize, Fixed)>) {
    let (mut uses, mut writes) = (Vec::new(), Vec::new());
    let written = program.written_buffers();
    for (id, decl) in program.buffers.iter().enumerate() {
        let BufferKind::State(i) = decl.kind else { continue };
        if uses.len() <= i {
            uses.resize(i + 1, Use::Nothing);
        }
        if uses[i] == Use::Nothing {
            uses[i] = Use::Reads;
        }
        if written[id] {
            uses[i] = Use::Writes;
            writes.push((i, (decl.dtype, decl.shape.clone())));
        }
    }
    (uses, writes)
}

/// An error of a run: of the data, unless something was bound wrongly.
pub(super) fn ran(e: RunError) -> Error {
    match e {
        RunError::Step { .. } => failed(e),
        _ => Error::Internal(e.to_string()),
    }
}

pub(super) fn no_memory(e: OutOfMemory) -> Error {
    Error::Device(e.to_string())
}
