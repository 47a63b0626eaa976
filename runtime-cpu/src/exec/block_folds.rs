//! Folds down the columns of a product or a convolution: each unit of blocks folds its rows while they are in the first
//! cache, and the units are merged in order.

use graphc_ir::error::Result;

use super::step::Machine;
use crate::gemm::{BLOCK_ROWS, RowBlocks};
use crate::memory::ALIGNMENT;
use crate::nest::{Conflict, Down, Failures, Memory, Part, Scratch, Source, Sweep};
use crate::pool::{Pool, PoolError};
use crate::threshold::thresholds;

thresholds! {
    /// Units that the blocks of all rows form, about: enough to share among threads, few enough to merge. A property of
    /// the result, so it does not follow the machine.
    const UNITS: usize = 256, of Dot [Rows] at UNITS * BLOCK_ROWS;
}

/// The folds of an epilogue.
#[derive(Debug)]
pub struct BlockFolds {
    down: Down,
    blocks: RowBlocks,
    /// Blocks of a unit.
    unit: usize,
    /// Columns of tiles.
    panels: usize,
    /// First bytes in scratch: states of the units, rows that each has in each column of tiles, and what the work
    /// after the folds needs.
    states: usize,
    rows: usize,
    region: usize,
}

impl BlockFolds {
    /// The folds of `sweep`, the first half of `source`, whose rows a kernel makes in these blocks. Uses the step's
    /// scratch from byte `first` on, and gives the first byte behind.
    pub fn new(
        machine: Machine,
        source: &Source,
        sweep: &Sweep,
        blocks: RowBlocks,
        first: usize,
        conflict: Conflict<'_>,
    ) -> Result<(BlockFolds, usize)> {
        let unit = blocks.sets.saturating_mul(blocks.blocks).div_ceil(UNITS).clamp(1, blocks.blocks.max(1));
        let units = blocks.units(unit).max(1);
        let panels = sweep.tiling.column_tiles();
        let rows = first + units * sweep.state_bytes;
        let end = rows + (units * panels * size_of::<usize>()).next_multiple_of(ALIGNMENT);
        // What follows is one row: not worth another thread.
        let (down, end) = Down::new(machine.isa, 1, usize::MAX, source, sweep, end, conflict)?;
        let region = end.next_multiple_of(2 * ALIGNMENT);
        let end = region + down.region_bytes();
        Ok((BlockFolds { down, blocks, unit, panels, states: first, rows, region }, end))
    }

    /// Blocks of a unit.
    pub fn unit(&self) -> usize {
        self.unit
    }

    /// The unit of a block that has the number `unit` in a call for the sets from number `set` on.
    pub fn unit_of(&self, set: usize, unit: usize) -> usize {
        set * self.blocks.blocks.div_ceil(self.unit) + unit
    }

    fn units(&self) -> usize {
        self.blocks.units(self.unit).max(1)
    }

    /// Where the rows of a unit in a column of tiles are counted.
    fn count(&self, scratch: Scratch, unit: usize, panel: usize) -> *mut usize {
        scratch.at(self.rows).cast::<usize>().wrapping_add(unit * self.panels + panel)
    }

    /// Empties the states for a run.
    ///
    /// # Safety
    /// The step's scratch is bound, and nobody else uses it.
    pub unsafe fn begin(&self, scratch: Scratch, part: &mut Part<'_>) {
        let counts = self.units() * self.panels;
        // SAFETY: so many counts lie there. Where there are no rows, the first unit's states are the result.
        unsafe {
            scratch.at(self.rows).cast::<usize>().write_bytes(0, counts);
            (0..self.panels).for_each(|panel| part.empty(scratch.at(self.states), panel));
        }
    }

    /// The states of a unit, and its rows so far in a column of tiles, to which `rows` are added.
    ///
    /// # Safety
    /// Only this thread uses those of the unit's columns.
    pub unsafe fn enter(
        &self,
        sweep: &Sweep,
        scratch: Scratch,
        (unit, panel): (usize, usize),
        rows: usize,
    ) -> (*mut u8, usize) {
        let count = self.count(scratch, unit, panel);
        // SAFETY: the unit and the panel have a count; the caller's promise.
        let seen = unsafe { *count };
        // SAFETY: as above.
        unsafe { *count = seen + rows };
        (scratch.at(self.states + unit * sweep.state_bytes), seen)
    }

    /// Merges the units and computes what follows.
    ///
    /// # Errors
    /// When a kernel panicked.
    ///
    /// # Safety
    /// All blocks are done, and the memory is as for [`super::epilogue::Finish::with`].
    pub unsafe fn finish(
        &self,
        pool: &Pool,
        sweep: &Sweep,
        memory: Memory<'_>,
        failures: &Failures,
    ) -> std::result::Result<(), PoolError> {
        let scratch = Scratch(memory.scratch);
        // SAFETY: units and panels have counts, which no other thread uses any more.
        let rows = |unit: usize, panel: usize| unsafe { *self.count(scratch, unit, panel) };
        // SAFETY: the caller's promise.
        unsafe {
            self.down.merge(sweep, scratch, self.states, self.units(), rows);
            self.down.finish(pool, memory, failures, &|_| scratch.at(self.region))
        }
    }
}
