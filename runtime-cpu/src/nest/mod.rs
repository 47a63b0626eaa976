//! Nests: elementwise work, reductions and row clusters, run tile by tile.
//!
//! A nest is compiled to a [`Sweep`], straight-line code whose registers are tiles in the first cache.
//! Registers that are contiguous in memory are not copied, and the last operation writes in place. Folds
//! down the columns are made in chunks of rows, whose number depends on the shape alone; what follows
//! them is a second sweep, over a single row.
//!
//! *Invariant:* results do not depend on the number of threads.

mod access;
mod build;
mod down;
mod levels;
mod op;
mod run;
mod slots;
mod source;
mod split;
mod sweep;

#[cfg(test)]
mod tests;

use graphc_ir::error::Result;
use graphc_ir::program::FoldAxis;

use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, PoolError, share};
use crate::threshold::{Threshold, thresholds};

pub use access::{Access, Base, Tile};
pub use build::{Conflict, build};
pub use down::Down;
pub use run::{Failures, Memory, Part};
pub use source::{PortSpec, Source};
pub use split::sweep_of;
pub use sweep::{Sweep, Tiling};

/// The thresholds of nests, by module.
pub(crate) const ALL_THRESHOLDS: &[&[Threshold]] =
    &[THRESHOLDS, sweep::THRESHOLDS, build::THRESHOLDS, source::THRESHOLDS];

thresholds! {
    /// Work (in additions of an element) below which waking other threads does not pay: about 10 us.
    const SERIAL_BELOW: usize = 400_000, of Nest [Rows, Columns];
    /// Elements that are folded down their columns by one thread at a time, at least.
    const CHUNK: usize = 1 << 14, of Nest [Rows, Columns];
    /// Chunks of rows, at most: a property of the result, so it does not follow the machine.
    const MAX_CHUNKS: usize = 64, of Nest [Rows, Columns] at MAX_CHUNKS * CHUNK;
}

/// A nest, ready to run.
#[derive(Clone, Debug)]
pub struct CompiledNest {
    sweep: Sweep,
    /// Parts that the sweep is cut into, at most the number of threads.
    parts: usize,
    folds: Option<ChunkFolds>,
    /// First byte of the chunks' states in scratch.
    states: usize,
    /// First byte of the parts' regions in scratch.
    regions: usize,
    region_bytes: usize,
}

/// Folds down the columns, in chunks of rows.
#[derive(Clone, Debug)]
struct ChunkFolds {
    chunks: usize,
    down: Down,
}

impl CompiledNest {
    /// Compiles a nest for a pool of `threads` threads.
    ///
    /// `conflict` says whether a read port shares memory with a write port. The nest uses the step's
    /// scratch from byte `first` on, a multiple of a cache line.
    ///
    /// # Errors
    /// When a function, a conversion or a fold has no kernel for its element type.
    pub fn new(
        isa: Isa,
        threads: usize,
        first: usize,
        source: Source,
        conflict: Conflict,
    ) -> Result<CompiledNest> {
        CompiledNest::with_grain(isa, threads, SERIAL_BELOW, first, source, conflict)
    }

    /// As [`CompiledNest::new`]; work below `grain` additions of an element is not cut into parts.
    fn with_grain(
        isa: Isa,
        threads: usize,
        grain: usize,
        first: usize,
        source: Source,
        conflict: Conflict,
    ) -> Result<CompiledNest> {
        let source = source.normalized();
        let half = sweep_of(&source)?;
        let mut sweep = build(isa, &half.source, tiling(&source), conflict)?;
        sweep.checks = half.checks;
        let work = sweep.weight.max(1).saturating_mul(sweep.tiling.rows).saturating_mul(sweep.tiling.columns);
        let threads = if work < grain { 1 } else { threads };
        if sweep.downs.is_empty() {
            let parts = threads.min(sweep.units());
            let region_bytes = region(&sweep);
            return Ok(CompiledNest {
                sweep,
                parts,
                folds: None,
                states: first,
                regions: first,
                region_bytes,
            });
        }
        let chunks = chunks(&sweep);
        let parts = threads.min(if sweep.folds_rows { chunks } else { chunks * sweep.tiling.column_tiles() });
        let states = first;
        let results = first + chunks * sweep.state_bytes;
        let (down, end) = Down::new(isa, threads, grain, &source, &sweep, results, conflict)?;
        let region_bytes = region(&sweep).max(down.region_bytes());
        let regions = end.next_multiple_of(ALIGNMENT);
        let folds = Some(ChunkFolds { chunks, down });
        Ok(CompiledNest { sweep, parts, folds, states, regions, region_bytes })
    }

    /// Bytes of scratch that a run needs, those before its own included.
    pub fn scratch_bytes(&self) -> usize {
        let parts = self.folds.as_ref().map_or(self.parts, |folds| self.parts.max(folds.down.parts()));
        self.regions + parts * self.region_bytes
    }

    /// Runs the nest; gives the index of the first check that failed, if any.
    ///
    /// # Errors
    /// When a kernel panicked.
    ///
    /// # Safety
    /// The machine has the instruction set. The memory holds the Program's buffers, aligned to their
    /// elements and as large as the Program says, and [`CompiledNest::scratch_bytes`] of scratch, aligned
    /// to a cache line; nobody else uses what the nest writes.
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<Option<usize>, PoolError> {
        let failures = Failures::none();
        let scratch = Scratch(memory.scratch);
        let region = |part: usize| scratch.at(self.regions + part * self.region_bytes);
        let Some(ChunkFolds { chunks, down }) = &self.folds else {
            let units = self.sweep.units();
            fork(pool, self.parts, &|index| {
                // SAFETY: each part has a region of its own, and units write different elements.
                let part = unsafe { Part::new(&self.sweep, memory, region(index), &failures) };
                part.units(share(units, self.parts, index));
            })?;
            return Ok(failures.first());
        };
        let row_tiles = self.sweep.tiling.row_tiles();
        let across = if self.sweep.folds_rows { 1 } else { self.sweep.tiling.column_tiles() };
        fork(pool, self.parts, &|index| {
            // SAFETY: as above.
            let mut part = unsafe { Part::new(&self.sweep, memory, region(index), &failures) };
            for unit in share(chunks * across, self.parts, index) {
                let (chunk, along) = (unit / across, unit % across);
                let states = scratch.at(self.states + chunk * self.sweep.state_bytes);
                let along = (!self.sweep.folds_rows).then_some(along);
                // SAFETY: each unit has the states of its chunk, or of its columns of the chunk's.
                unsafe { part.chunk(states, share(row_tiles, *chunks, chunk), along) };
            }
        })?;
        let tiling = &self.sweep.tiling;
        let rows = |chunk: usize, _: usize| {
            let tiles = share(row_tiles, *chunks, chunk);
            (tiles.end * tiling.tile_rows).min(tiling.rows) - tiles.start * tiling.tile_rows
        };
        // SAFETY: the parts are done, so this thread alone uses the states and the regions.
        unsafe {
            down.merge(&self.sweep, scratch, self.states, *chunks, rows);
            down.finish(pool, memory, &failures, &region)?;
        }
        Ok(failures.first())
    }
}

/// Calls the body for each part; a single one on this thread, without the pool.
pub fn fork(pool: &Pool, parts: usize, body: &(dyn Fn(usize) + Sync)) -> std::result::Result<(), PoolError> {
    if parts == 1 {
        body(0);
        return Ok(());
    }
    pool.run(parts, body)
}

/// The beginning of a step's scratch, for all threads.
#[derive(Clone, Copy)]
pub struct Scratch(pub *mut u8);

// SAFETY: parts use different bytes, or wait for each other.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// The byte at an offset.
    pub fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// The tiling of a source's domain.
fn tiling(source: &Source) -> Tiling {
    let (along, down) = (source.body.folds(FoldAxis::Cols), source.body.folds(FoldAxis::Rows));
    let ports = source.reads.iter().chain(&source.writes);
    let transposed = ports
        .into_iter()
        .any(|p| Access::new(p.base, p.dtype, &p.view, &source.rows, &source.columns).is_transposed());
    Tiling::choose(source.rows.iter().product(), source.columns.iter().product(), along, down, transposed)
}

/// Chunks of rows that column folds are made in.
fn chunks(sweep: &Sweep) -> usize {
    let elements = sweep.tiling.rows.saturating_mul(sweep.tiling.columns.max(1));
    let across = if sweep.folds_rows { 1 } else { sweep.tiling.column_tiles() };
    (elements / CHUNK).min(MAX_CHUNKS / across.min(MAX_CHUNKS)).clamp(1, sweep.tiling.row_tiles())
}

/// Bytes of a part's region; two cache lines apart, because processors fetch them in pairs.
fn region(sweep: &Sweep) -> usize {
    sweep.region_bytes.next_multiple_of(2 * ALIGNMENT)
}
