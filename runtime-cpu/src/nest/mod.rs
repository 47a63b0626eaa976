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
use graphc_ir::program::{FoldAxis, FoldKind};
use graphc_ir::scalar::{Scalar, ScalarFn};

use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, PoolError, share};
use crate::tile::fold::{MergeArgs, MergeFn, merge};
use crate::tile::map::{MapArgs, MapFn, map};
use crate::tile::movement::scalar_bytes;

pub use access::{Access, Base, Tile};
pub use build::{Conflict, build};
pub use run::{Failures, Memory, Part};
pub use source::{PortSpec, Source};
pub use sweep::{Sweep, Tiling};

use split::{post_of, results_view, sweep_of};

/// Work (in additions of an element) below which waking other threads does not pay: about 10 us.
const SERIAL_BELOW: usize = 400_000;

/// Elements that are folded down their columns by one thread at a time, at least.
const CHUNK: usize = 1 << 14;
/// Chunks of rows, at most: a property of the result, so it does not follow the machine.
const MAX_CHUNKS: usize = 64;

/// A nest, ready to run.
#[derive(Clone, Debug)]
pub struct CompiledNest {
    sweep: Sweep,
    /// Parts that the sweep is cut into, at most the number of threads.
    parts: usize,
    down: Option<Down>,
    /// First byte of the chunks' states in scratch.
    states: usize,
    /// First byte of the parts' regions in scratch.
    regions: usize,
    region_bytes: usize,
}

/// The folds down the columns and what follows them.
#[derive(Clone, Debug)]
struct Down {
    /// Chunks of rows.
    chunks: usize,
    merges: Vec<MergeFn>,
    /// Where the result of each fold goes, in scratch.
    results: Vec<usize>,
    /// What makes results from the states of means and variances: `state / rows`.
    divisions: Vec<Option<MapFn>>,
    counts: Vec<[u8; 8]>,
    post: Sweep,
    post_parts: usize,
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
                down: None,
                states: first,
                regions: first,
                region_bytes,
            });
        }
        let chunks = chunks(&sweep);
        let parts = threads.min(if sweep.folds_rows { chunks } else { chunks * sweep.tiling.column_tiles() });
        let mut end = first + chunks * sweep.state_bytes;
        let mut results = Vec::new();
        let mut ports = Vec::new();
        for fold in &sweep.downs {
            let view = results_view(fold, &source.columns);
            let empty = fold.results(sweep.tiling.columns) == 0;
            ports.push(PortSpec { base: Base::Scratch(end), dtype: fold.dtype, view, empty });
            results.push(end);
            end += (fold.results(sweep.tiling.columns) * fold.dtype.size()).next_multiple_of(ALIGNMENT);
        }
        let half = post_of(&source, &sweep.downs, ports);
        let reads = source.reads.len();
        let conflict = |read: usize, write: usize| read < reads && conflict(read, write);
        let mut post = build(isa, &half.source, tiling(&half.source), &conflict)?;
        post.checks = half.checks;
        let post_work = post.weight.saturating_mul(post.tiling.columns);
        let post_parts = if post_work < grain { 1 } else { threads.min(post.units()) };
        let merges = sweep.downs.iter().filter_map(|f| merge(isa, f.kind, f.dtype)).collect();
        let division = |kind, dtype| match kind {
            FoldKind::Mean | FoldKind::Var => map(isa, ScalarFn::Div, dtype),
            _ => None,
        };
        let down = Down {
            chunks,
            merges,
            results,
            divisions: sweep.downs.iter().map(|f| division(f.kind, f.dtype)).collect(),
            counts: sweep
                .downs
                .iter()
                .map(|f| scalar_bytes(Scalar::F(sweep.tiling.rows as f64), f.dtype))
                .collect(),
            post_parts,
            post,
        };
        let region_bytes = region(&sweep).max(region(&down.post));
        let regions = end.next_multiple_of(ALIGNMENT);
        Ok(CompiledNest { sweep, parts, down: Some(down), states: first, regions, region_bytes })
    }

    /// Bytes of scratch that a run needs, those before its own included.
    pub fn scratch_bytes(&self) -> usize {
        let parts = self.down.as_ref().map_or(self.parts, |down| self.parts.max(down.post_parts));
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
        let Some(down) = &self.down else {
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
            for unit in share(down.chunks * across, self.parts, index) {
                let (chunk, along) = (unit / across, unit % across);
                let states = scratch.at(self.states + chunk * self.sweep.state_bytes);
                let along = (!self.sweep.folds_rows).then_some(along);
                // SAFETY: each unit has the states of its chunk, or of its columns of the chunk's.
                unsafe { part.chunk(states, share(row_tiles, down.chunks, chunk), along) };
            }
        })?;
        // SAFETY: the parts are done, so this thread alone uses the states.
        unsafe { self.finish_folds(down, scratch) };
        let units = down.post.units();
        fork(pool, down.post_parts, &|index| {
            // SAFETY: as for the sweep.
            let part = unsafe { Part::new(&down.post, memory, region(index), &failures) };
            part.units(share(units, down.post_parts, index));
        })?;
        Ok(failures.first())
    }

    /// Merges the chunks' states, in order, and makes results of them.
    ///
    /// # Safety
    /// No part is running, and the scratch is as for [`CompiledNest::run`].
    unsafe fn finish_folds(&self, down: &Down, scratch: Scratch) {
        let tiling = &self.sweep.tiling;
        let rows_until = |chunk: usize| {
            (share(tiling.row_tiles(), down.chunks, chunk).end * tiling.tile_rows).min(tiling.rows)
        };
        for along in 0..tiling.column_tiles() {
            let column = along * tiling.tile_columns;
            let columns = tiling.tile_columns.min(tiling.columns - column);
            for (index, fold) in self.sweep.downs.iter().enumerate() {
                let (offset, len) = fold.states(column, columns);
                let state = scratch.at(self.states + offset);
                for chunk in 1..down.chunks {
                    let other =
                        scratch.at(self.states + chunk * self.sweep.state_bytes + offset).cast_const();
                    let counts = [rows_until(chunk - 1), rows_until(chunk) - rows_until(chunk - 1)];
                    // SAFETY: both chunks have `len` states there, of as many rows as counted.
                    unsafe { down.merges[index](&MergeArgs { state, other, len, counts }) };
                }
                let size = fold.dtype.size();
                let first = if len == columns { column } else { 0 };
                let dst = scratch.at(down.results[index] + first * size);
                let a = state.wrapping_add((fold.arrays() - 1) * len * size).cast_const();
                // SAFETY: the last array of the states and the results have `len` elements.
                unsafe {
                    match down.divisions[index] {
                        Some(kernel) => {
                            let operands = [a, down.counts[index].as_ptr(), std::ptr::null()];
                            kernel(&MapArgs { dst, operands, splat: [false, true, false], len });
                        }
                        None => std::ptr::copy_nonoverlapping(a, dst, len * size),
                    }
                }
            }
        }
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
