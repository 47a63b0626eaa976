//! Places blocks with live ranges in one arena.
//!
//! Finding the smallest arena is NP-hard (dynamic storage allocation). Two families of heuristics are
//! tried until one meets the lower bound, and the best result wins: blocks in decreasing order of size
//! (or of size and duration), each in the tightest gap among the blocks that live with it, after which
//! the block that ends highest is placed earlier, again and again; and the schedule played forward and
//! backward with a first-fit free list.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use graphc_ir::Result;

use super::lifetimes::too_large;

/// Pairs of blocks with overlapping live ranges up to which the first family is tried: its cost.
const MAX_CONFLICTS: usize = 3_000_000;

/// Most rounds of improvement, over all orders.
const MAX_PROMOTIONS: usize = 800;

/// Free ranges that an allocation looks at, lowest first.
const MAX_RANGES: usize = 4096;

/// Memory that is needed from one step to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// Position of the first step.
    pub start: u32,
    /// Position of the last step, inclusive.
    pub end: u32,
    /// Size.
    pub bytes: usize,
}

/// Where blocks lie.
pub(super) struct Placement {
    /// Byte offset of every block.
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub arena_bytes: usize,
}

impl Placement {
    fn of(blocks: &[Block], offsets: Vec<usize>) -> Placement {
        let ends = blocks.iter().zip(&offsets).map(|(b, o)| b.bytes + o);
        Placement { arena_bytes: ends.max().unwrap_or(0), offsets }
    }
}

/// Blocks with sizes rounded up to the alignment, so that all offsets are aligned.
///
/// Their sum is checked once here: no offset that is computed from them later can overflow.
fn aligned(blocks: &[Block], alignment: usize) -> Result<Vec<Block>> {
    let mut sum = 0usize;
    let mut round_up = |b: &Block| {
        let bytes = b.bytes.checked_next_multiple_of(alignment)?;
        sum = sum.checked_add(bytes).filter(|s| *s <= isize::MAX as usize)?;
        Some(Block { bytes, ..*b })
    };
    blocks.iter().map(|b| round_up(b).ok_or_else(too_large)).collect()
}

/// Each of the first `own` blocks in a place of its own, the others (scratch) in one behind them.
pub(super) fn place_apart(blocks: &[Block], own: usize, alignment: usize) -> Result<Placement> {
    let mut top = 0;
    let mut offsets = Vec::with_capacity(blocks.len());
    let blocks = aligned(blocks, alignment)?;
    for (i, block) in blocks.iter().enumerate() {
        offsets.push(top);
        if i < own {
            top += block.bytes;
        }
    }
    Ok(Placement::of(&blocks, offsets))
}

/// Blocks in as little memory as the heuristics find; `steps` is the length of the schedule.
pub(super) fn place(blocks: &[Block], steps: usize, alignment: usize) -> Result<Placement> {
    let blocks = aligned(blocks, alignment)?;
    let least = super::lifetimes::peak(&blocks, steps)?;
    let mut best = Placement::of(&blocks, play(&blocks, steps, false));
    let consider = |best: &mut Placement, offsets: Vec<usize>| {
        let other = Placement::of(&blocks, offsets);
        if other.arena_bytes < best.arena_bytes {
            *best = other;
        }
        best.arena_bytes <= least
    };
    if best.arena_bytes <= least || consider(&mut best, play(&blocks, steps, true)) {
        return Ok(best);
    }
    let Some(conflicts) = Conflicts::of(&blocks, steps) else { return Ok(best) };
    let duration = |i: &usize| blocks[*i].end - blocks[*i].start;
    let area = |i: &usize| blocks[*i].bytes as u128 * (duration(i) as u128 + 1);
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    let mut orders = Vec::new();
    order.sort_by_key(|i| (Reverse(blocks[*i].bytes), Reverse(duration(i))));
    orders.push(order.clone());
    order.sort_by_key(|i| (Reverse(blocks[*i].bytes), blocks[*i].start));
    orders.push(order.clone());
    order.sort_by_key(|i| Reverse(area(i)));
    orders.push(order.clone());
    order.sort_by_key(|i| Reverse(duration(i)));
    orders.push(order);
    for order in &orders {
        if consider(&mut best, conflicts.best_fit(&blocks, order)) {
            return Ok(best);
        }
    }
    let rounds = MAX_PROMOTIONS.min(2 * MAX_CONFLICTS / conflicts.pairs.max(1)) / orders.len();
    for order in &mut orders {
        let mut offsets = conflicts.best_fit(&blocks, order);
        for _ in 0..rounds {
            promote_top(&blocks, order, &offsets);
            offsets = conflicts.best_fit(&blocks, order);
            if consider(&mut best, offsets.clone()) {
                return Ok(best);
            }
        }
    }
    Ok(best)
}

/// Moves the block that ends highest halfway to the front of the order.
fn promote_top(blocks: &[Block], order: &mut [usize], offsets: &[usize]) {
    let end = |i: &usize| offsets[*i] + blocks[*i].bytes;
    let top = (0..order.len()).max_by_key(|at| (end(&order[*at]), Reverse(*at)));
    if let Some(at) = top {
        order[at / 2..=at].rotate_right(1);
    }
}

/// For every block those that live with it at some step.
struct Conflicts {
    neighbours: Vec<Vec<u32>>,
    pairs: usize,
}

impl Conflicts {
    /// `None` if there are too many.
    fn of(blocks: &[Block], steps: usize) -> Option<Conflicts> {
        let mut neighbours = vec![Vec::new(); blocks.len()];
        let mut live: Vec<u32> = Vec::new();
        let mut pairs = 0;
        for started in by_position(blocks, steps, |b| b.start) {
            for i in started {
                let block = &blocks[i as usize];
                live.retain(|j| blocks[*j as usize].end >= block.start);
                pairs += live.len();
                if pairs > MAX_CONFLICTS {
                    return None;
                }
                for j in &live {
                    neighbours[i as usize].push(*j);
                    neighbours[*j as usize].push(i);
                }
                live.push(i);
            }
        }
        Some(Conflicts { neighbours, pairs })
    }

    /// Places blocks one after another, each in the smallest gap that holds it, else on top.
    fn best_fit(&self, blocks: &[Block], order: &[usize]) -> Vec<usize> {
        let mut offsets: Vec<Option<usize>> = vec![None; blocks.len()];
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for i in order {
            taken.clear();
            let placed = |j: &u32| offsets[*j as usize].map(|o| (o, o + blocks[*j as usize].bytes));
            taken.extend(self.neighbours[*i].iter().filter_map(placed));
            taken.sort_unstable();
            let bytes = blocks[*i].bytes;
            let mut free_from = 0;
            let mut tightest: Option<(usize, usize)> = None;
            for (from, to) in &taken {
                let gap = from.saturating_sub(free_from);
                if gap >= bytes && tightest.is_none_or(|(size, _)| gap < size) {
                    tightest = Some((gap, free_from));
                }
                free_from = free_from.max(*to);
            }
            offsets[*i] = Some(tightest.map_or(free_from, |(_, at)| at));
        }
        offsets.into_iter().map(Option::unwrap_or_default).collect()
    }
}

/// Indices of blocks by a position of theirs.
fn by_position(blocks: &[Block], steps: usize, position: impl Fn(&Block) -> u32) -> Vec<Vec<u32>> {
    let mut at = vec![Vec::new(); steps];
    for (i, b) in blocks.iter().enumerate() {
        at[position(b) as usize].push(i as u32);
    }
    at
}

/// Plays the schedule (backward on demand) with a free list, lowest fitting offset first.
fn play(blocks: &[Block], steps: usize, backward: bool) -> Vec<usize> {
    let mut starts = by_position(blocks, steps, |b| if backward { b.end } else { b.start });
    let mut ends = by_position(blocks, steps, |b| if backward { b.start } else { b.end });
    if backward {
        starts.reverse();
        ends.reverse();
    }
    let mut arena = FreeList::default();
    let mut offsets = vec![0; blocks.len()];
    for (mut started, ended) in starts.into_iter().zip(ends) {
        started.sort_by_key(|i| Reverse(blocks[*i as usize].bytes));
        for i in started {
            offsets[i as usize] = arena.allocate(blocks[i as usize].bytes);
        }
        for i in ended {
            arena.release(offsets[i as usize], blocks[i as usize].bytes);
        }
    }
    offsets
}

/// Free ranges below the top of an arena that grows on demand.
#[derive(Default)]
struct FreeList {
    /// Size by offset; ranges never touch each other.
    free: BTreeMap<usize, usize>,
    top: usize,
}

impl FreeList {
    fn allocate(&mut self, bytes: usize) -> usize {
        if bytes == 0 {
            return 0;
        }
        let fitting =
            self.free.iter().take(MAX_RANGES).find(|(_, size)| **size >= bytes).map(|(o, s)| (*o, *s));
        let (offset, size) = match fitting.or_else(|| self.free_at_top()) {
            Some(range) => range,
            None => (self.top, 0),
        };
        self.free.remove(&offset);
        if size > bytes {
            self.free.insert(offset + bytes, size - bytes);
        }
        self.top = self.top.max(offset + bytes);
        offset
    }

    /// The free range that ends at the top, which can grow.
    fn free_at_top(&self) -> Option<(usize, usize)> {
        self.free.last_key_value().map(|(o, s)| (*o, *s)).filter(|(o, s)| o + s == self.top)
    }

    fn release(&mut self, mut offset: usize, mut bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some((before, size)) = self.free.range(..offset).next_back().map(|(o, s)| (*o, *s))
            && before + size == offset
        {
            self.free.remove(&before);
            (offset, bytes) = (before, bytes + size);
        }
        if let Some(size) = self.free.remove(&(offset + bytes)) {
            bytes += size;
        }
        self.free.insert(offset, bytes);
    }
}
