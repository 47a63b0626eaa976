//! Loops over a nested Program that go on while another one says so.

use graphc_ir::error::Result;
use graphc_ir::program::{BufferId, Step, VerifiedProgram, While};

use super::code::Code;
use super::step::{Machine, StepFailure};
use crate::memory::ALIGNMENT;
use crate::nest::Memory;
use crate::pool::Pool;

/// A conditional loop, ready to run.
///
/// Scratch has the tables of buffers of both Programs, the condition's result, two places for every carry, and
/// one arena for both, which never run at once.
#[derive(Debug)]
pub struct CompiledWhile {
    condition: Code,
    body: Code,
    /// Buffers of the condition and of the body for each invariant, and the buffer outside.
    invariants: Vec<([usize; 2], usize)>,
    carries: Vec<Carry>,
    /// The condition's result, and where it lies.
    goes_on: usize,
    flag: usize,
    tables: [usize; 2],
    arena: usize,
    scratch: usize,
}

#[derive(Clone, Copy, Debug)]
struct Carry {
    bytes: usize,
    /// Buffers of the condition and of the body that hold it, and the body's next.
    inner: [usize; 2],
    next: usize,
    /// Buffers outside.
    from: usize,
    to: usize,
    /// Two places in scratch that values alternate between.
    places: [usize; 2],
}

impl CompiledWhile {
    pub fn new(machine: Machine, step: &Step, w: &While) -> Result<CompiledWhile> {
        let mut end = 0;
        let mut place = |bytes: usize| {
            let at = end;
            end += bytes.next_multiple_of(ALIGNMENT);
            at
        };
        let table = |p: &VerifiedProgram| p.buffers.len() * size_of::<*mut u8>();
        let tables = [place(table(&w.condition)), place(table(&w.body))];
        let flag = place(1);
        let inner = |i: usize| [w.condition.inputs[i], w.body.inputs[i]].map(BufferId::index);
        let outer = |i: usize| step.reads[i].buffer.index();
        let carry = |(k, next): (usize, &BufferId)| {
            let i = w.invariants + k;
            let bytes = w.body.buffer(*next).bytes();
            let places = [place(bytes), place(bytes)];
            let to = step.writes[k].buffer.index();
            Carry { bytes, inner: inner(i), next: next.index(), from: outer(i), to, places }
        };
        let carries = w.body.outputs.iter().enumerate().map(carry).collect();
        Ok(CompiledWhile {
            condition: Code::new(machine, &w.condition)?,
            body: Code::new(machine, &w.body)?,
            invariants: (0..w.invariants).map(|i| (inner(i), outer(i))).collect(),
            carries,
            goes_on: w.condition.outputs[0].index(),
            flag,
            tables,
            arena: end,
            scratch: end + w.condition.plan.arena_bytes.max(w.body.plan.arena_bytes),
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.scratch
    }

    /// The code of the condition, and that of one iteration.
    pub fn code(&self, program: usize) -> &Code {
        [&self.condition, &self.body][program]
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        let at = |offset: usize| memory.scratch.wrapping_add(offset);
        let arena = at(self.arena);
        // SAFETY: both tables lie in the scratch, which is aligned, and do not overlap.
        let [condition, body] = unsafe {
            [(&self.condition, self.tables[0]), (&self.body, self.tables[1])]
                .map(|(code, table)| code.table(at(table), arena))
        };
        for (inner, outer) in &self.invariants {
            condition[inner[0]] = memory.buffers[*outer];
            body[inner[1]] = memory.buffers[*outer];
        }
        condition[self.goes_on] = at(self.flag);
        let mut present: usize = 0;
        for carry in &self.carries {
            condition[carry.inner[0]] = memory.buffers[carry.from];
            body[carry.inner[1]] = memory.buffers[carry.from];
        }
        loop {
            // SAFETY: every buffer has a place, as large as declared, and the flag is a byte of scratch.
            let goes_on = unsafe {
                let ran = self.condition.run(pool, condition, arena, &mut |_| {});
                ran.map_err(|failure| StepFailure::nested(0, failure))?;
                at(self.flag).read() != 0
            };
            if !goes_on {
                break;
            }
            for carry in &self.carries {
                body[carry.next] = at(carry.places[present % 2]);
            }
            // SAFETY: as above; a carry's old and new values are in different places.
            let ran = unsafe { self.body.run(pool, body, arena, &mut |_| {}) };
            ran.map_err(|failure| StepFailure::nested(1, failure))?;
            for carry in &self.carries {
                body[carry.inner[1]] = body[carry.next];
                condition[carry.inner[0]] = body[carry.next];
            }
            present += 1;
        }
        for carry in &self.carries {
            // SAFETY: both have these bytes; they are the same or do not overlap.
            unsafe { std::ptr::copy(body[carry.inner[1]], memory.buffers[carry.to], carry.bytes) };
        }
        Ok(())
    }
}
