//! Folds down the columns: the states that parts of the rows left are merged in order, made results, and what
//! follows the folds is computed from them.

use graphc_ir::error::Result;
use graphc_ir::scalar::Scalar;

use super::run::{Failures, Memory, Part};
use super::source::{PortSpec, Source};
use super::split::{post_of, results_view};
use super::sweep::Sweep;
use super::{Base, Conflict, Scratch, build, fork, region, tiling};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, PoolError, share};
use crate::tile::fold::{Finish, MergeArgs, MergeFn, finish, merge};
use crate::tile::movement::scalar_bytes;

/// The folds down the columns of a sweep and what follows them.
#[derive(Clone, Debug)]
pub struct Down {
    merges: Vec<MergeFn>,
    /// Where the result of each fold goes, in scratch.
    results: Vec<usize>,
    /// What makes results of states.
    finishes: Vec<Option<Finish>>,
    counts: Vec<[u8; 8]>,
    post: Sweep,
    post_parts: usize,
}

impl Down {
    /// Compiles what follows the folds of `sweep`, which is the first half of `source`; results lie in the step's
    /// scratch from byte `first` on. Also gives the first byte behind them.
    ///
    /// # Errors
    /// When what follows has no kernel.
    pub fn new(
        isa: Isa,
        threads: usize,
        grain: usize,
        source: &Source,
        sweep: &Sweep,
        first: usize,
        conflict: Conflict,
    ) -> Result<(Down, usize)> {
        let mut end = first;
        let mut results = Vec::new();
        let mut ports = Vec::new();
        for fold in &sweep.downs {
            let view = results_view(fold, &source.columns);
            let empty = fold.results(sweep.tiling.columns) == 0;
            ports.push(PortSpec { base: Base::Scratch(end), dtype: fold.dtype, view, empty });
            results.push(end);
            end += (fold.results(sweep.tiling.columns) * fold.dtype.size()).next_multiple_of(ALIGNMENT);
        }
        let half = post_of(source, &sweep.downs, ports);
        let reads = source.reads.len();
        let conflict = |read: usize, write: usize| read < reads && conflict(read, write);
        let mut post = build(isa, &half.source, tiling(&half.source), &conflict)?;
        post.checks = half.checks;
        let work = post.weight.saturating_mul(post.tiling.columns);
        let post_parts = if work < grain { 1 } else { threads.min(post.units()) };
        let rows = Scalar::F(sweep.tiling.rows as f64);
        let down = Down {
            merges: sweep.downs.iter().filter_map(|f| merge(isa, f.kind, f.dtype)).collect(),
            results,
            finishes: sweep.downs.iter().map(|f| finish(isa, f.kind, f.dtype)).collect(),
            counts: sweep.downs.iter().map(|f| scalar_bytes(rows, f.dtype)).collect(),
            post,
            post_parts,
        };
        Ok((down, end))
    }

    /// Parts that what follows the folds is cut into.
    pub fn parts(&self) -> usize {
        self.post_parts
    }

    /// Bytes of scratch of one of these parts.
    pub fn region_bytes(&self) -> usize {
        region(&self.post)
    }

    /// Merges the states of chunks of rows, in order, and makes results of them. The states of the first chunk lie in
    /// scratch from byte `states` on, the next follow; `rows` says how many rows a chunk has in a column of tiles.
    ///
    /// # Safety
    /// No part of the sweep is running, each chunk has its states, and nobody else uses them or the results.
    pub unsafe fn merge(
        &self,
        sweep: &Sweep,
        scratch: Scratch,
        states: usize,
        chunks: usize,
        rows: impl Fn(usize, usize) -> usize,
    ) {
        let tiling = &sweep.tiling;
        for along in 0..tiling.column_tiles() {
            let column = along * tiling.tile_columns;
            let columns = tiling.tile_columns.min(tiling.columns - column);
            for (index, fold) in sweep.downs.iter().enumerate() {
                let (offset, len) = fold.states(column, columns);
                let state = scratch.at(states + offset);
                let mut merged = rows(0, along);
                // States that a fold before this one has are merged already.
                for chunk in 1..if fold.shared { 1 } else { chunks } {
                    let other = scratch.at(states + chunk * sweep.state_bytes + offset).cast_const();
                    let counts = [merged, rows(chunk, along)];
                    // SAFETY: both have `len` states there, of as many rows as counted.
                    unsafe { self.merges[index](&MergeArgs { state, other, len, counts }) };
                    merged += counts[1];
                }
                let size = fold.dtype.size();
                let first = if len == columns { column } else { 0 };
                let dst = scratch.at(self.results[index] + first * size);
                // SAFETY: the states have so many arrays of `len` elements, and so many results lie there.
                unsafe {
                    match self.finishes[index] {
                        Some(finish) => {
                            let count = self.counts[index].as_ptr();
                            finish.run(dst, state.cast_const(), (fold.arrays(), len, size), count);
                        }
                        None => std::ptr::copy_nonoverlapping(state.cast_const(), dst, len * size),
                    }
                }
            }
        }
    }

    /// Computes what follows the folds; `region` gives each part its scratch.
    ///
    /// # Errors
    /// When a kernel panicked.
    ///
    /// # Safety
    /// As for [`super::CompiledNest::run`], after [`Down::merge`].
    pub unsafe fn finish(
        &self,
        pool: &Pool,
        memory: Memory,
        failures: &Failures,
        region: &(dyn Fn(usize) -> *mut u8 + Sync),
    ) -> std::result::Result<(), PoolError> {
        let units = self.post.units();
        fork(pool, self.post_parts, &|index| {
            // SAFETY: each part has a region of its own, and units write different elements.
            let part = unsafe { Part::new(&self.post, memory, region(index), failures) };
            part.units(share(units, self.post_parts, index));
        })
    }
}
