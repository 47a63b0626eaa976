//! From a lowered [`Program`] to one that a runtime can execute: state copies removed where that is
//! legal, steps ordered for a low memory peak, temporaries placed in one arena.
//!
//! *What a runtime promises in return.* In-place pairs are declared only where these rules are enough: a
//! nest without folds, and the epilogue of a dot, load everything that a domain point needs before they
//! store that point; what depends on a fold down the columns is computed and stored once a column, after
//! the sweep. A dot never keeps partial sums in a buffer that its epilogue also reads.

mod commit;
mod compact;
mod deps;
mod in_place;
mod lifetimes;
mod offsets;
mod region;
mod schedule;
#[cfg(test)]
mod tests;
mod uses;

use graphc_ir::program::{BufferKind, MemoryPlan, Program, Step};
use graphc_ir::{Error, Result};

use deps::Graph;
use lifetimes::Lifetimes;
use offsets::Block;
use uses::Uses;

/// What [`plan`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Let a result take the place of an operand that dies at the same step, and let a step that reads
    /// a state variable elementwise overwrite it.
    pub in_place: bool,
    /// Let temporaries that do not live at the same time share memory. Without it each has a place of
    /// its own, which is what a search for a planning error compares with.
    pub reuse: bool,
    /// Alignment of every place in the arena, in bytes; a power of two.
    pub alignment: usize,
}

impl Default for PlanOptions {
    fn default() -> PlanOptions {
        PlanOptions { in_place: true, reuse: true, alignment: 64 }
    }
}

/// Orders the steps, decides which of them write state directly, and places temporaries and scratch.
///
/// `program` has its steps in a topological order and writes every state variable by a copy from a
/// temporary at the end. The result is deterministic. The cost is near-linear in the number of steps.
///
/// # Errors
/// If a step names a buffer or a register that does not exist, reads a temporary before it is written,
/// if the steps form a cycle together with the commit point, or if sizes overflow.
pub fn plan(program: Program, options: &PlanOptions) -> Result<Program> {
    if !options.alignment.is_power_of_two() {
        return Err(Error::new(format!(
            "memory cannot be aligned to {} bytes: alignments are powers of two",
            options.alignment
        )));
    }
    uses::check(&program)?;
    let mut program = compact::without_unused(commit::write_states_directly(program, options.in_place)?);

    let uses = Uses::of(&program)?;
    let pairs = if options.in_place && options.reuse {
        in_place::candidates(&program, &uses)
    } else {
        vec![Vec::new(); program.steps.len()]
    };
    let order = schedule::order(&program, &Graph::of(&program), &uses, &pairs)?;

    let lifetimes = Lifetimes::of(&uses, &order);
    let shares = in_place::shares(&program, &uses, &order, &lifetimes, &pairs);
    let mut memory = place(&uses, &order, &lifetimes, &shares, options)?;

    let mut steps: Vec<Option<Step>> = std::mem::take(&mut program.steps).into_iter().map(Some).collect();
    program.steps = order.iter().filter_map(|s| steps[*s as usize].take()).collect();
    let writes_state =
        |s: &Step| s.writes.iter().any(|p| matches!(program.buffer(p.buffer).kind, BufferKind::State(_)));
    program.commit = program.steps.iter().position(writes_state).unwrap_or(program.steps.len());
    memory.in_place.extend(overwrites(&program.steps));
    memory.in_place.sort_unstable();
    program.plan = memory;
    Ok(program)
}

/// Port pairs of one step that name the same buffer: state that is updated elementwise.
fn overwrites(steps: &[Step]) -> Vec<(usize, usize, usize)> {
    let mut pairs = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        for (r, read) in step.reads.iter().enumerate() {
            for (w, write) in step.writes.iter().enumerate() {
                if read.buffer == write.buffer {
                    pairs.push((i, r, w));
                }
            }
        }
    }
    pairs
}

/// Places every temporary in use and every step's scratch.
fn place(
    uses: &Uses,
    order: &[u32],
    lifetimes: &Lifetimes,
    shares: &[in_place::Share],
    options: &PlanOptions,
) -> Result<MemoryPlan> {
    let groups = in_place::Groups::of(uses.buffers(), shares);
    let mut blocks = Vec::new();
    let mut block_of = vec![None; uses.buffers()];
    for b in 0..uses.buffers() {
        let Some(live) = lifetimes.live[b] else { continue };
        let root = groups.root(b);
        match block_of[root] {
            None => {
                block_of[root] = Some(blocks.len());
                blocks.push(Block { start: live.first, end: live.last, bytes: uses.bytes[b] });
            }
            Some(i) => {
                let block: &mut Block = &mut blocks[i];
                block.start = block.start.min(live.first);
                block.end = block.end.max(live.last);
            }
        }
        block_of[b] = block_of[root];
    }
    let temporaries = blocks.len();
    let mut scratch_block = vec![None; order.len()];
    for (at, s) in order.iter().enumerate() {
        let bytes = uses.scratch[*s as usize];
        if bytes > 0 {
            scratch_block[at] = Some(blocks.len());
            blocks.push(Block { start: at as u32, end: at as u32, bytes });
        }
    }
    let placed = if options.reuse {
        offsets::place(&blocks, order.len(), options.alignment)?
    } else {
        offsets::place_apart(&blocks, temporaries, options.alignment)?
    };
    Ok(MemoryPlan {
        offsets: block_of.iter().map(|b| b.map(|i| placed.offsets[i])).collect(),
        scratch: scratch_block.iter().map(|b| b.map_or(0, |i| placed.offsets[i])).collect(),
        arena_bytes: placed.arena_bytes,
        live_bytes: lifetimes::peak(&blocks, order.len())?,
        in_place: shares.iter().map(|s| (s.at as usize, s.read, s.write)).collect(),
    })
}
