//! The steps of a Program, compiled, and where its buffers lie.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::program::{BufferKind, Program, Step, VerifiedProgram};
use graphc_ir::tensor::Tensor;

use super::step::{CompiledStep, Machine, StepFailure, overlaps};
use crate::nest::Memory;
use crate::pool::{Pool, PoolError};

/// Where a buffer lies.
#[derive(Clone, Debug)]
pub enum Home {
    /// In the arena, from this byte on.
    Arena(usize),
    /// In a constant.
    Constant(Arc<Tensor>),
    /// Wherever a run binds it.
    Bound,
}

/// A compiled Program.
#[derive(Debug)]
pub struct Code {
    homes: Vec<Home>,
    steps: Vec<PlacedStep>,
}

/// A step, and what a run has to know of it.
#[derive(Debug)]
struct PlacedStep {
    step: CompiledStep,
    /// First byte of its scratch in the arena.
    scratch: usize,
    /// The user's nodes, for messages.
    at: String,
    /// Messages of its checks.
    checks: Vec<String>,
}

impl Code {
    /// Compiles all steps.
    ///
    /// # Errors
    /// When a step has no kernel for its element types, or its memory plan was made for another machine.
    pub fn new(machine: Machine, program: &VerifiedProgram) -> Result<Code> {
        let homes = program
            .buffers
            .iter()
            .enumerate()
            .map(|(i, decl)| match decl.kind {
                BufferKind::Temp => Home::Arena(program.plan.offsets[i].unwrap_or(0)),
                BufferKind::Const(constant) => Home::Constant(Arc::clone(&program.constants[constant])),
                _ => Home::Bound,
            })
            .collect();
        let mut steps = Vec::with_capacity(program.steps.len());
        for (index, step) in program.steps.iter().enumerate() {
            let at = if step.origins.is_empty() {
                format!("step {index} ({})", step.kind())
            } else {
                step.origins.to_string()
            };
            let compiled = compile(machine, program, step).map_err(|e| e.at(&at))?;
            let checks = step.kernel.swept().map_or(&[][..], |swept| &swept.body.checks);
            let checks = checks.iter().map(|check| check.message.clone()).collect();
            steps.push(PlacedStep { step: compiled, scratch: program.plan.scratch[index], at, checks });
        }
        Ok(Code { homes, steps })
    }

    /// Makes a step panic when it is run.
    #[cfg(test)]
    pub fn break_step(&mut self, index: usize) {
        self.steps[index].step = CompiledStep::Broken;
    }

    /// The number of buffers.
    pub fn buffers(&self) -> usize {
        self.homes.len()
    }

    /// Writes the addresses of temporaries and constants into a table of buffers.
    pub fn place(&self, table: &mut [*mut u8], arena: *mut u8) {
        for (entry, home) in table.iter_mut().zip(&self.homes) {
            match home {
                Home::Arena(offset) => *entry = arena.wrapping_add(*offset),
                // Verified Programs never write constants.
                Home::Constant(tensor) => *entry = tensor.bytes().as_ptr().cast_mut(),
                Home::Bound => {}
            }
        }
    }

    /// A table of buffers, with the addresses of temporaries and constants, at the beginning of some memory.
    ///
    /// # Safety
    /// There is aligned memory for the table, which nobody else uses while it lives.
    pub unsafe fn table<'m>(&self, at: *mut u8, arena: *mut u8) -> &'m mut [*mut u8] {
        // SAFETY: the caller's promise; zeros are null pointers.
        let table = unsafe {
            let first = at.cast::<*mut u8>();
            first.write_bytes(0, self.buffers());
            std::slice::from_raw_parts_mut(first, self.buffers())
        };
        self.place(table, arena);
        table
    }

    /// Runs all steps in order, and calls `after` with the number of each when it is done.
    ///
    /// # Safety
    /// The table has an address for each buffer, aligned to its elements, with as many bytes as declared;
    /// the arena has those of the plan and is aligned to a cache line. What the Program writes is used by
    /// nobody else and overlaps nothing that it reads, but for what its plan shares.
    pub unsafe fn run(
        &self,
        pool: &Pool,
        table: &[*mut u8],
        arena: *mut u8,
        after: &mut dyn FnMut(usize),
    ) -> std::result::Result<(), StepFailure> {
        for (index, placed) in self.steps.iter().enumerate() {
            let memory = Memory { buffers: table, scratch: arena.wrapping_add(placed.scratch) };
            // What a kernel does on this thread alone may panic, too: the caller has to know at which step.
            // SAFETY: the caller's promise.
            let run = catch_unwind(AssertUnwindSafe(|| unsafe { placed.step.run(pool, memory) }));
            let result = run.unwrap_or_else(|panic| Err(PoolError::panicked(panic.as_ref()).into()));
            if let Err(failure) = result {
                return Err(StepFailure::Inner { step: index, failure: Box::new(failure) });
            }
            after(index);
        }
        Ok(())
    }

    /// The place and the words of a failure.
    pub fn describe(&self, failure: &StepFailure) -> (String, String) {
        let StepFailure::Inner { step, failure } = failure else {
            return (String::new(), "a step failed".into());
        };
        let placed = &self.steps[*step];
        let message = match (&**failure, &placed.step) {
            (StepFailure::Check { check }, _) => placed.checks[*check].clone(),
            (StepFailure::Index { index, position, axis }, _) => {
                format!("index {index} (number {position} of the list) is outside 0..{axis}")
            }
            (StepFailure::Pool(error), _) => error.to_string(),
            (StepFailure::Nested { program, failure }, step) => match step.nested(*program) {
                Some(code) => return code.describe(failure),
                None => "a step failed".into(),
            },
            (StepFailure::Inner { .. }, _) => "a step failed".into(),
        };
        (placed.at.clone(), message)
    }
}

/// Compiles a step into the scratch that the plan has for it.
fn compile(machine: Machine, program: &Program, step: &Step) -> Result<CompiledStep> {
    let planned = step.choice.scratch_bytes;
    let compiled = CompiledStep::new(machine, program, step, &|read, write| {
        overlaps(program, &step.reads[read], &step.writes[write])
    })?;
    if compiled.scratch_bytes() <= planned {
        return Ok(compiled);
    }
    // The plan was made before it was known which ports share memory.
    let careful = CompiledStep::new(machine, program, step, &|_, _| true)?;
    if careful.scratch_bytes() <= planned {
        return Ok(careful);
    }
    let needed = careful.scratch_bytes();
    Err(Error::new(format!(
        "the step needs {needed} bytes of scratch on this machine, but the plan has {planned}"
    ))
    .help("compile the module for this machine's instruction set and number of threads"))
}
