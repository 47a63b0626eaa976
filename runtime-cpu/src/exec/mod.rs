//! Runs whole Programs.
//!
//! Everything that can be decided before a run is decided in [`Executable::compile`]; a run binds
//! addresses and calls one kernel after the other. It allocates nothing unless it fails.

mod arg_reduce;
mod block_folds;
mod branch;
mod chain;
mod code;
mod conv;
mod dot;
mod epilogue;
mod gather;
mod loops;
mod operand;
mod pool;
mod repack;
mod step;
mod while_loop;

#[cfg(test)]
mod fold_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::program::{BufferKind, Program, VerifiedProgram};

use crate::isa::{FlushDenormals, Isa};
use crate::memory::{Block, OutOfMemory};
use crate::pool::Pool;
use crate::threshold::Threshold;

use code::Code;
use step::StepFailure;

pub(crate) use conv::filter_form;
pub(crate) use repack::packed_elements;
pub(crate) use step::{CompiledStep, Machine};

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[
    arg_reduce::THRESHOLDS,
    block_folds::THRESHOLDS,
    chain::THRESHOLDS,
    conv::THRESHOLDS,
    gather::THRESHOLDS,
];

/// What Programs are compiled for and run with.
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// The threads; several executables may share them.
    pub pool: Arc<Pool>,
    /// The instruction set; [`Executable::compile`] refuses one that this machine lacks.
    pub isa: Isa,
}

/// What a bound buffer is to the Program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A function's input.
    Input,
    /// A function's output.
    Output,
    /// A state variable.
    State,
    /// A result of the prepare Program.
    Staged,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Input => "input",
            Role::Output => "output",
            Role::State => "state",
            Role::Staged => "staged value",
        })
    }
}

/// Why a run did not happen, or ended early. The state is as it was, but after [`RunError::Torn`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A check does not hold, an index is out of range, or a kernel panicked, before any state was written.
    #[error("{at}: {message}")]
    Step {
        /// The user's nodes.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// A kernel panicked, which is a bug, after state had been written. Variables in neither list are as they were.
    #[error("{at}: {message}")]
    Torn {
        /// The user's nodes.
        at: String,
        /// What is wrong.
        message: String,
        /// Variables that have their new value.
        assigned: Vec<usize>,
        /// Variables of which some elements may be new: their value is lost.
        lost: Vec<usize>,
    },
    /// A buffer was not bound.
    #[error("{role} {index} is not bound; bind it before the run")]
    Unbound {
        /// What it is to the Program.
        role: Role,
        /// Its number.
        index: usize,
    },
    /// The Program has no such buffer.
    #[error("the Program has no {role} {index}; leave it out")]
    Unknown {
        /// What it would be to the Program.
        role: Role,
        /// Its number.
        index: usize,
    },
    /// A buffer has the wrong size.
    #[error("{role} {index} has {given} bytes, but the Program takes {needed}")]
    Size {
        /// What it is to the Program.
        role: Role,
        /// Its number.
        index: usize,
        /// Bytes bound.
        given: usize,
        /// Bytes of its type.
        needed: usize,
    },
    /// A buffer does not begin at a multiple of its element's size.
    #[error("{role} {index} is not aligned to {alignment} bytes; copy it to aligned memory")]
    Alignment {
        /// What it is to the Program.
        role: Role,
        /// Its number.
        index: usize,
        /// Bytes of an element.
        alignment: usize,
    },
    /// The Program writes a state variable that was bound for reading.
    #[error("state {index} is written, but it was bound for reading; bind it with `state_mut`")]
    ReadOnly {
        /// Its number.
        index: usize,
    },
    /// The workspace is of another executable.
    #[error("the workspace was made for another executable; make one with `Executable::workspace`")]
    Workspace,
}

/// A buffer that a run binds.
#[derive(Clone, Copy, Debug)]
struct External {
    role: Role,
    /// Its number among those of its role.
    index: usize,
    buffer: usize,
    bytes: usize,
    alignment: usize,
    written: bool,
}

/// A Program compiled for a machine; runs of it share nothing but the pool.
#[derive(Clone, Debug)]
pub struct Executable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    code: Code,
    options: CpuOptions,
    /// Sorted by role and number.
    externals: Vec<External>,
    assignments: Vec<Assignment>,
    arena_bytes: usize,
}

/// Which steps write a state variable.
#[derive(Debug)]
struct Assignment {
    state: usize,
    first: usize,
    last: usize,
}

impl Assignment {
    /// Of all variables that a Program writes.
    fn of(program: &Program) -> Vec<Assignment> {
        let mut all: BTreeMap<usize, Assignment> = BTreeMap::new();
        for (step, port) in
            program.steps.iter().enumerate().flat_map(|(i, s)| s.writes.iter().map(move |p| (i, p)))
        {
            if let BufferKind::State(state) = program.buffer(port.buffer).kind {
                all.entry(state).or_insert(Assignment { state, first: step, last: step }).last = step;
            }
        }
        all.into_values().collect()
    }
}

/// Refuses an instruction set that the machine does not have: its kernels would be undefined behaviour.
fn check_machine(isa: Isa, has: impl Fn(Isa) -> bool) -> Result<()> {
    if has(isa) {
        return Ok(());
    }
    Err(Error::new(format!("the instruction set {isa} was asked for, which this machine lacks"))
        .help("take one of `Isa::available`"))
}

impl Shared {
    /// The error of a run that a step ended.
    fn failed(&self, failure: &StepFailure) -> RunError {
        let (at, message) = self.code.describe(failure);
        let StepFailure::Inner { step, .. } = failure else { return RunError::Step { at, message } };
        let states = |wanted: &dyn Fn(&Assignment) -> bool| -> Vec<usize> {
            self.assignments.iter().filter(|a| wanted(a)).map(|a| a.state).collect()
        };
        let assigned = states(&|a| a.last < *step);
        // What fails by a check or an index writes no state: the verifier has seen to that.
        let lost = states(&|a| a.first <= *step && *step <= a.last);
        if assigned.is_empty() && lost.is_empty() {
            return RunError::Step { at, message };
        }
        RunError::Torn { at, message, assigned, lost }
    }
}

/// The memory of one run at a time of one executable.
#[derive(Debug)]
pub struct Workspace {
    owner: Arc<Shared>,
    /// Addresses of all buffers; those of bound ones are null between runs.
    table: Vec<*mut u8>,
    arena: Block,
}

// SAFETY: the addresses are those of the arena, which moves along, and of constants, which `owner` keeps.
unsafe impl Send for Workspace {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl Sync for Workspace {}

impl Executable {
    /// Compiles a Program.
    ///
    /// # Errors
    /// When a step has no kernel for its element types, or the Program was planned for another machine:
    /// its [`Target`](graphc_ir::target::Target) must have been a [`CpuTarget`](crate::CpuTarget) of the
    /// same instruction set and number of threads. When this machine lacks the instruction set.
    pub fn compile(program: &VerifiedProgram, options: CpuOptions) -> Result<Executable> {
        check_machine(options.isa, Isa::is_available)?;
        let machine = Machine { isa: options.isa, threads: options.pool.threads() };
        let code = Code::new(machine, program)?;
        let written = program.written_buffers();
        let mut externals: Vec<External> = program
            .buffers
            .iter()
            .enumerate()
            .filter_map(|(buffer, decl)| {
                let (role, index) = match decl.kind {
                    BufferKind::Input(index) => (Role::Input, index),
                    BufferKind::Output(index) => (Role::Output, index),
                    BufferKind::State(index) => (Role::State, index),
                    BufferKind::Staged(index) => (Role::Staged, index),
                    BufferKind::Const(_) | BufferKind::Temp => return None,
                };
                let (bytes, alignment) = (decl.bytes(), decl.dtype.size());
                Some(External { role, index, buffer, bytes, alignment, written: written[buffer] })
            })
            .collect();
        externals.sort_by_key(|e| (e.role, e.index));
        let assignments = Assignment::of(program);
        let arena_bytes = program.plan.arena_bytes;
        Ok(Executable { shared: Arc::new(Shared { code, options, externals, assignments, arena_bytes }) })
    }

    /// Bytes of the arena of each workspace.
    pub fn arena_bytes(&self) -> usize {
        self.shared.arena_bytes
    }

    /// Memory for runs.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn workspace(&self) -> std::result::Result<Workspace, OutOfMemory> {
        let mut arena = Block::new(self.shared.arena_bytes)?;
        let mut table = vec![std::ptr::null_mut(); self.shared.code.buffers()];
        self.shared.code.place(&mut table, arena.as_mut_ptr());
        Ok(Workspace { owner: Arc::clone(&self.shared), table, arena })
    }

    /// Begins a run in a workspace; bind every input, output, state and staged value, then run.
    pub fn bind<'a>(&'a self, workspace: &'a mut Workspace) -> Binding<'a> {
        for external in &workspace.owner.externals {
            workspace.table[external.buffer] = std::ptr::null_mut();
        }
        Binding { shared: &self.shared, workspace, data: PhantomData }
    }
}

/// A run under way: the addresses of everything that the Program does not own.
#[derive(Debug)]
pub struct Binding<'a> {
    shared: &'a Arc<Shared>,
    workspace: &'a mut Workspace,
    data: PhantomData<&'a mut [u8]>,
}

impl<'a> Binding<'a> {
    /// Binds an input's elements: row-major, little endian.
    ///
    /// # Errors
    /// When there is no such input, or the size or the alignment is wrong.
    pub fn input(self, index: usize, bytes: &'a [u8]) -> std::result::Result<Self, RunError> {
        self.bound(Role::Input, index, bytes.as_ptr().cast_mut(), bytes.len(), false)
    }

    /// Binds the memory that an output is written to.
    ///
    /// # Errors
    /// As for inputs.
    pub fn output(self, index: usize, bytes: &'a mut [u8]) -> std::result::Result<Self, RunError> {
        self.bound(Role::Output, index, bytes.as_mut_ptr(), bytes.len(), true)
    }

    /// Binds a state variable that the Program only reads.
    ///
    /// # Errors
    /// As for inputs, and when the Program writes it.
    pub fn state(self, index: usize, bytes: &'a [u8]) -> std::result::Result<Self, RunError> {
        self.bound(Role::State, index, bytes.as_ptr().cast_mut(), bytes.len(), false)
    }

    /// Binds a state variable that the Program may update in place.
    ///
    /// # Errors
    /// As for inputs.
    pub fn state_mut(self, index: usize, bytes: &'a mut [u8]) -> std::result::Result<Self, RunError> {
        self.bound(Role::State, index, bytes.as_mut_ptr(), bytes.len(), true)
    }

    /// Binds a result of the prepare Program, in its form.
    ///
    /// # Errors
    /// As for inputs.
    pub fn staged(self, index: usize, bytes: &'a [u8]) -> std::result::Result<Self, RunError> {
        self.bound(Role::Staged, index, bytes.as_ptr().cast_mut(), bytes.len(), false)
    }

    fn bound(
        self,
        role: Role,
        index: usize,
        address: *mut u8,
        given: usize,
        writable: bool,
    ) -> std::result::Result<Self, RunError> {
        let Binding { shared, workspace, data } = self;
        if !Arc::ptr_eq(shared, &workspace.owner) {
            return Err(RunError::Workspace);
        }
        let mut found = false;
        let first = shared.externals.partition_point(|e| (e.role, e.index) < (role, index));
        for external in shared.externals[first..].iter().take_while(|e| (e.role, e.index) == (role, index)) {
            if external.bytes != given {
                return Err(RunError::Size { role, index, given, needed: external.bytes });
            }
            if given > 0 && !(address as usize).is_multiple_of(external.alignment) {
                return Err(RunError::Alignment { role, index, alignment: external.alignment });
            }
            if external.written && !writable {
                return Err(RunError::ReadOnly { index });
            }
            workspace.table[external.buffer] = address;
            found = true;
        }
        if !found {
            return Err(RunError::Unknown { role, index });
        }
        Ok(Binding { shared, workspace, data })
    }

    /// Runs the Program on the calling thread and the pool's.
    ///
    /// # Errors
    /// When a buffer is not bound, a check does not hold, an index is out of range, or a kernel panicked.
    pub fn run(self) -> std::result::Result<(), RunError> {
        self.run_observed(&mut |_| {})
    }

    /// As [`Binding::run`], calling `after` with the number of each step when it is done.
    ///
    /// # Errors
    /// Those of [`Binding::run`].
    pub fn run_observed(self, after: &mut dyn FnMut(usize)) -> std::result::Result<(), RunError> {
        let Binding { shared, workspace, .. } = self;
        if !Arc::ptr_eq(shared, &workspace.owner) {
            return Err(RunError::Workspace);
        }
        if let Some(missing) = shared.externals.iter().find(|e| workspace.table[e.buffer].is_null()) {
            return Err(RunError::Unbound { role: missing.role, index: missing.index });
        }
        let _flush = FlushDenormals::enable();
        // SAFETY: every buffer has an address: of the arena, of a constant, or bound above with the size
        // and the alignment of its type for the lifetime of this binding, and exclusively if it is written.
        let result = unsafe {
            shared.code.run(&shared.options.pool, &workspace.table, workspace.arena.as_mut_ptr(), after)
        };
        result.map_err(|failure| shared.failed(&failure))
    }
}
