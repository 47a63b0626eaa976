//! Counted loops over a nested Program.

use graphc_ir::error::Result;
use graphc_ir::program::{Loop, Step};

use super::code::Code;
use super::step::{Machine, StepFailure};
use crate::memory::ALIGNMENT;
use crate::nest::Memory;
use crate::pool::Pool;

/// A counted loop, ready to run.
#[derive(Debug)]
pub struct CompiledLoop {
    code: Code,
    length: usize,
    reverse: bool,
    invariants: Vec<Operand>,
    carries: Vec<Carry>,
    /// Stacks that are read, and stacks that are written.
    xs: Vec<Operand>,
    ys: Vec<Operand>,
    /// First byte of the body's arena in scratch; the body's table of buffers is at the beginning.
    arena: usize,
    scratch: usize,
}

/// A buffer of the body, the buffer outside that holds it or all its slices, and the bytes of one.
#[derive(Clone, Copy, Debug)]
struct Operand {
    inner: usize,
    outer: usize,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Carry {
    from: Operand,
    to: Operand,
    /// Two places in scratch that values alternate between.
    places: [usize; 2],
}

impl CompiledLoop {
    pub fn new(machine: Machine, step: &Step, counted: &Loop) -> Result<CompiledLoop> {
        let Loop { length, reverse, invariants, carries, body } = counted;
        let operand = |inner: &graphc_ir::program::BufferId, outer: &graphc_ir::program::Port| Operand {
            inner: inner.index(),
            outer: outer.buffer.index(),
            bytes: body.buffer(*inner).bytes(),
        };
        let ins: Vec<Operand> =
            body.inputs.iter().zip(&step.reads).map(|(i, port)| operand(i, port)).collect();
        let outs: Vec<Operand> =
            body.outputs.iter().zip(&step.writes).map(|(o, port)| operand(o, port)).collect();
        let mut end = (body.buffers.len() * size_of::<*mut u8>()).next_multiple_of(ALIGNMENT);
        let mut place = |bytes: usize| {
            let at = end;
            end += bytes.next_multiple_of(ALIGNMENT);
            at
        };
        let (kept, xs) = ins.split_at(invariants + carries);
        let (finals, ys) = outs.split_at(*carries);
        let carries = kept[*invariants..]
            .iter()
            .zip(finals)
            .map(|(from, to)| Carry { from: *from, to: *to, places: [place(from.bytes), place(from.bytes)] })
            .collect();
        Ok(CompiledLoop {
            code: Code::new(machine, body)?,
            length: *length,
            reverse: *reverse,
            invariants: kept[..*invariants].to_vec(),
            carries,
            xs: xs.to_vec(),
            ys: ys.to_vec(),
            arena: end,
            scratch: end + body.plan.arena_bytes,
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.scratch
    }

    /// The code of one iteration.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        let arena = memory.scratch.wrapping_add(self.arena);
        // SAFETY: the table's bytes are at the beginning of the scratch, which is aligned.
        let table = unsafe { self.code.table(memory.scratch, arena) };
        for operand in &self.invariants {
            table[operand.inner] = memory.buffers[operand.outer];
        }
        for carry in &self.carries {
            table[carry.from.inner] = memory.buffers[carry.from.outer];
            if self.length == 0 {
                let (from, to) = (memory.buffers[carry.from.outer], memory.buffers[carry.to.outer]);
                // SAFETY: both buffers have these bytes; they are the same or do not overlap.
                unsafe { std::ptr::copy(from, to, carry.from.bytes) };
            }
        }
        for iteration in 0..self.length {
            let slice = if self.reverse { self.length - 1 - iteration } else { iteration };
            for operand in self.xs.iter().chain(&self.ys) {
                table[operand.inner] = memory.buffers[operand.outer].wrapping_add(slice * operand.bytes);
            }
            for carry in &self.carries {
                table[carry.to.inner] = if iteration + 1 == self.length {
                    memory.buffers[carry.to.outer]
                } else {
                    memory.scratch.wrapping_add(carry.places[iteration % 2])
                };
            }
            // SAFETY: every buffer of the body has a place, as large as declared; a carry's old and new
            // values are in different ones.
            let ran = unsafe { self.code.run(pool, table, arena, &mut |_| {}) };
            ran.map_err(|failure| StepFailure::nested(0, failure))?;
            for carry in &self.carries {
                table[carry.from.inner] = table[carry.to.inner];
            }
        }
        Ok(())
    }
}
