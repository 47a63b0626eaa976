//! One of two nested Programs.

use graphc_ir::error::Result;
use graphc_ir::program::{Branch, Step, VerifiedProgram};

use super::code::Code;
use super::step::{Machine, StepFailure};
use crate::memory::ALIGNMENT;
use crate::nest::Memory;
use crate::pool::Pool;

/// A branch, ready to run: the table of buffers of the Program that runs lies at the beginning of scratch, its
/// arena after that.
#[derive(Debug)]
pub struct CompiledBranch {
    /// What runs if the condition is true, and what if it is false.
    programs: [Program; 2],
    /// The buffer of the condition.
    condition: usize,
    scratch: usize,
}

#[derive(Debug)]
struct Program {
    code: Code,
    /// Buffers inside and outside: of inputs, then of outputs.
    buffers: Vec<(usize, usize)>,
    arena: usize,
}

impl Program {
    fn new(machine: Machine, step: &Step, program: &VerifiedProgram) -> Result<Program> {
        let inner = program.inputs.iter().chain(&program.outputs).map(|id| id.index());
        let outer = step.reads[1..].iter().chain(&step.writes).map(|port| port.buffer.index());
        Ok(Program {
            code: Code::new(machine, program)?,
            buffers: inner.zip(outer).collect(),
            arena: (program.buffers.len() * size_of::<*mut u8>()).next_multiple_of(ALIGNMENT),
        })
    }
}

impl CompiledBranch {
    pub fn new(machine: Machine, step: &Step, branch: &Branch) -> Result<CompiledBranch> {
        let programs =
            [Program::new(machine, step, &branch.then)?, Program::new(machine, step, &branch.otherwise)?];
        let arenas = [&branch.then, &branch.otherwise].map(|p| p.plan.arena_bytes);
        let scratch = programs.iter().zip(arenas).map(|(p, bytes)| p.arena + bytes).max().unwrap_or(0);
        Ok(CompiledBranch { programs, condition: step.reads[0].buffer.index(), scratch })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.scratch
    }

    /// The code that runs if the condition is true, and that if it is false.
    pub fn code(&self, program: usize) -> &Code {
        &self.programs[program].code
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        // SAFETY: the condition is a buffer of one bool.
        let number = usize::from(unsafe { memory.buffers[self.condition].read() } == 0);
        let Program { code, buffers, arena } = &self.programs[number];
        let arena = memory.scratch.wrapping_add(*arena);
        // SAFETY: the table lies at the beginning of the scratch, which is aligned; every buffer gets a place, as
        // large as declared.
        let ran = unsafe {
            let table = code.table(memory.scratch, arena);
            for (inner, outer) in buffers {
                table[*inner] = memory.buffers[*outer];
            }
            code.run(pool, table, arena, &mut |_| {})
        };
        ran.map_err(|failure| StepFailure::nested(number, failure))
    }
}
