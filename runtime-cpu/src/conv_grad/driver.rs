//! The loops around the register tiles.

use std::ops::Range;

use super::border::Rows;
use super::kernels::Kernels;
use super::microkernel::{Segment, Tile};
use super::plan::{MAX_SEGMENTS, Plan, plan, product};
use super::{Element, Problem};
use crate::KernelError;
use crate::gemm::{BLOCK_ROWS, Epilogue, Sink, TileCtx};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};

/// One gradient under way; shared by the threads that compute parts of it.
struct Run<'a, T: Element> {
    kernels: &'static Kernels<T>,
    plan: &'a Plan,
    x: *const T,
    dy: *const T,
    sink: Sink<'a, T>,
    /// What runs epilogues on blocks.
    epilogues: &'static crate::gemm::Kernels<T>,
    /// Sums of all splits.
    shared: *mut T,
    /// Scratch of the parts, one after the other.
    parts: *mut T,
}

// SAFETY: threads read the operands, the bias and, after all have finished them, the shared sums; each
// writes its own part of the result and of the scratch.
unsafe impl<T: Element> Sync for Run<'_, T> {}

/// Rows and columns of one group's result that a part computes at a time, over the pixels of one split.
struct Unit {
    split: usize,
    group: usize,
    col0: usize,
    cols: usize,
    taps: Range<usize>,
    /// Rows of each tap.
    channels: Range<usize>,
}

/// Where a tile's sums are, and where they go.
#[derive(Clone, Copy)]
struct Sums<T> {
    partial: *const T,
    partials: usize,
    partials_stride: usize,
    to: *mut T,
    /// Of `partial` and `to`.
    stride: usize,
    /// Whether these are all sums, for the epilogue.
    last: bool,
}

/// See [`super::conv_filter_grad`].
///
/// # Safety
/// As for [`super::conv_filter_grad`].
pub unsafe fn conv_filter_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    dy: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    if problem.rows() == 0 || problem.cout == 0 || problem.groups == 0 {
        return Ok(());
    }
    let plan = plan::<T>(isa, problem, pool.threads());
    let needed = plan.scratch_bytes::<T>();
    KernelError::check_scratch("a filter gradient", needed, scratch.len())?;
    let scratch = scratch.as_mut_ptr();
    let shared = scratch.wrapping_add(scratch.align_offset(ALIGNMENT)).cast::<T>();
    let run = Run {
        kernels: T::filter_grad_kernels(isa),
        plan: &plan,
        x,
        dy,
        sink: Sink::new(epilogue),
        epilogues: T::kernels(isa),
        shared,
        parts: shared.wrapping_add(plan.shared),
    };
    // SAFETY: the caller's promise holds for every part; parts are disjoint.
    pool.run(plan.parts, &|part| unsafe { run.part(part) })?;
    if plan.splits > 1 {
        // SAFETY: as above, and all splits are finished.
        pool.run(plan.parts, &|part| unsafe { run.add_splits(part) })?;
    }
    Ok(())
}

impl<T: Element> Run<'_, T> {
    fn panels(&self) -> usize {
        self.plan.problem.cout.div_ceil(self.kernels.columns)
    }

    fn panel(&self, panel: usize) -> (usize, usize) {
        let col0 = panel * self.kernels.columns;
        (col0, self.kernels.columns.min(self.plan.problem.cout - col0))
    }

    fn unit(&self, index: usize) -> Unit {
        let plan = self.plan;
        let (tap_chunks, channel_chunks) = plan.chunks();
        let (channels, rest) = (index % channel_chunks * plan.chunk.1, index / channel_chunks);
        let (taps, rest) = (rest % tap_chunks * plan.chunk.0, rest / tap_chunks);
        let (panel, rest) = (rest % self.panels(), rest / self.panels());
        let (col0, cols) = self.panel(panel);
        Unit {
            split: rest / plan.problem.groups,
            group: rest % plan.problem.groups,
            col0,
            cols,
            taps: taps..(taps + plan.chunk.0).min(product(plan.taps)),
            channels: channels..(channels + plan.chunk.1).min(plan.channels),
        }
    }

    /// # Safety
    /// As for [`super::conv_filter_grad`]; no two threads compute the same part.
    unsafe fn part(&self, part: usize) {
        let plan = self.plan;
        let (tap_chunks, channel_chunks) = plan.chunks();
        let units = product([plan.splits, plan.problem.groups, self.panels(), tap_chunks, channel_chunks]);
        for index in share(units, plan.parts, part) {
            // SAFETY: the caller's promise.
            unsafe { self.compute(&self.unit(index), part) };
        }
    }

    /// # Safety
    /// As for [`Run::part`].
    unsafe fn compute(&self, unit: &Unit, part: usize) {
        let plan = self.plan;
        let Problem { cin, cout, .. } = plan.problem;
        let own = self.parts.wrapping_add(part * plan.each);
        let columns = self.kernels.columns;
        let packed = own.wrapping_add(plan.sums::<T>(columns));
        let copy = packed.wrapping_add(plan.packed_dy::<T>(columns));
        let blocks = share(plan.blocks, plan.splits, unit.split);
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        // Without any pixel there is one block still: it makes the sums zero.
        let count = blocks.len().max(1);
        for index in 0..count {
            let block = if blocks.is_empty() { 0..0 } else { plan.pieces(blocks.start + index) };
            // Folded sums are looked at before they are finished.
            let ends = plan.splits == 1 && plan.fold.is_none();
            let (first, last) = (index == 0, index + 1 == count && ends);
            let mut x = self.x.wrapping_add(unit.group * cin);
            if let Some(fold) = plan.fold {
                // SAFETY: the group's channels; the part's scratch has room for the copy.
                unsafe { plan.copy_rows(fold, block.clone(), x, copy) };
                x = copy.cast_const();
            }
            let mut dy = self.dy.wrapping_add(unit.group * cout + unit.col0);
            if plan.pack_dy {
                // SAFETY: the panel's columns; the part's scratch has room for the copy.
                unsafe { plan.pack_dy(block.clone(), dy, unit.cols, columns, packed) };
                dy = packed.cast_const();
            }
            for tap in unit.taps.clone() {
                let listed = plan.segments(block.clone(), tap, columns, &mut segments);
                if listed == 0 && !first && !last {
                    continue;
                }
                for row in unit.channels.clone().step_by(BLOCK_ROWS) {
                    let rows = row..(row + BLOCK_ROWS).min(unit.channels.end);
                    let (to, stride) = self.place(unit, own, tap, row);
                    let partials = usize::from(!first);
                    let sums = Sums { partial: to, partials, partials_stride: 0, to, stride, last };
                    let (x_step, dy_step) = plan.steps(columns);
                    let tile = Tile {
                        segments: segments.as_ptr(),
                        count: listed,
                        x: x.wrapping_add(row),
                        x_step,
                        dy,
                        dy_step,
                        ..no_pixels()
                    };
                    let row0 = tap * plan.channels + row;
                    // SAFETY: the tap's segments, rows and columns; sums are the part's own.
                    unsafe {
                        self.finish(
                            tile,
                            &sums,
                            (unit.group, part),
                            row0..row0 + rows.len(),
                            unit.col0,
                            unit.cols,
                        );
                    }
                }
            }
        }
        if plan.fold.is_some() {
            // SAFETY: the caller's promise; all blocks of the unit are summed.
            unsafe { self.finish_folded(unit, own, blocks, part) };
        }
    }

    /// Where the sums of a unit's tap are from a row on, and elements from one row to the next.
    fn place(&self, unit: &Unit, own: *mut T, tap: usize, row: usize) -> (*mut T, usize) {
        let plan = self.plan;
        if plan.splits > 1 {
            let stride = plan.shared_stride::<T>();
            let matrix = unit.split * plan.problem.groups + unit.group;
            let at = (matrix * plan.problem.rows() + tap * plan.channels + row) * stride;
            return (self.shared.wrapping_add(at + unit.col0), stride);
        }
        let columns = self.kernels.columns;
        let at = (tap - unit.taps.start) * plan.chunk.1 + row - unit.channels.start;
        (own.wrapping_add(at * columns), columns)
    }

    /// Makes folded sums again that padding made NaN, and finishes them if they are all.
    ///
    /// # Safety
    /// As for [`Run::part`]; the unit's sums over its blocks are complete.
    unsafe fn finish_folded(&self, unit: &Unit, own: *mut T, blocks: Range<usize>, part: usize) {
        let plan = self.plan;
        let Problem { cin, cout, .. } = plan.problem;
        let x = self.x.wrapping_add(unit.group * cin);
        let dy = self.dy.wrapping_add(unit.group * cout + unit.col0);
        for tap in unit.taps.clone() {
            for row in unit.channels.clone().step_by(BLOCK_ROWS) {
                let rows = row..(row + BLOCK_ROWS).min(unit.channels.end);
                let (to, stride) = self.place(unit, own, tap, row);
                let row0 = tap * plan.channels + row;
                let finished = row0..row0 + rows.len();
                // SAFETY: rows and columns of the unit's own sums; the caller's promise for the operands.
                unsafe {
                    let of = Rows { tap, rows, blocks: blocks.clone() };
                    plan.leave_padding_out(&of, x, dy, (to, stride, unit.cols));
                    if plan.splits == 1 {
                        let sums =
                            Sums { partial: to, partials: 1, partials_stride: 0, to, stride, last: true };
                        let place = (unit.group, part);
                        self.finish(no_pixels(), &sums, place, finished, unit.col0, unit.cols);
                    }
                }
            }
        }
    }

    /// Adds up the sums of all splits.
    ///
    /// # Safety
    /// As for [`Run::part`]; all splits are finished.
    unsafe fn add_splits(&self, part: usize) {
        let plan = self.plan;
        let (groups, rows) = (plan.problem.groups, plan.problem.rows());
        let blocks = rows.div_ceil(BLOCK_ROWS);
        let stride = plan.shared_stride::<T>();
        for index in share(product([groups, self.panels(), blocks]), plan.parts, part) {
            let (block, rest) = (index % blocks, index / blocks);
            let (panel, group) = (rest % self.panels(), rest / self.panels());
            let (col0, cols) = self.panel(panel);
            let row0 = block * BLOCK_ROWS;
            let to = self.shared.wrapping_add((group * rows + row0) * stride + col0);
            let sums = Sums {
                partial: to,
                partials: plan.splits,
                partials_stride: groups * rows * stride,
                to,
                stride,
                last: true,
            };
            let block = row0..(row0 + BLOCK_ROWS).min(rows);
            // SAFETY: rows and columns of the group's sums.
            unsafe { self.finish(no_pixels(), &sums, (group, part), block, col0, cols) };
        }
    }

    /// Runs the register tiles of some rows of one panel, and the epilogue after the last pixels.
    ///
    /// # Safety
    /// The rows and columns are those of a group's result, `tile` begins with the first of them, and so
    /// do the sums.
    unsafe fn finish(
        &self,
        mut tile: Tile<T>,
        sums: &Sums<T>,
        (group, part): (usize, usize),
        rows: Range<usize>,
        col0: usize,
        cols: usize,
    ) {
        let Kernels { lanes, rows: tile_rows, tiles, .. } = *self.kernels;
        let vectors = cols.div_ceil(lanes);
        let tail = cols - (vectors - 1) * lanes;
        let masked = usize::from(tail < lanes);
        let x = tile.x;
        let mut i = 0;
        while i < rows.len() {
            let count = rows_of_tile(rows.len() - i, tile_rows);
            tile.x = x.wrapping_add(i);
            tile.tail = tail;
            tile.partial = sums.partial.wrapping_add(i * sums.stride);
            tile.partial_stride = sums.stride;
            tile.partials = sums.partials;
            tile.partials_stride = sums.partials_stride;
            tile.c = sums.to.wrapping_add(i * sums.stride);
            tile.c_stride = sums.stride;
            // SAFETY: the caller's promise; an output and a bias have all rows and columns.
            unsafe {
                if let Sink::Output { c, bias, relu } = self.sink
                    && sums.last
                {
                    let offset = group * c.batch_stride + (rows.start + i) * c.row_stride;
                    tile.c = c.c.add(offset + col0);
                    tile.c_stride = c.row_stride;
                    tile.bias = if bias.is_null() { bias } else { bias.add(col0) };
                    tile.relu = relu;
                }
                tiles[count - 1][vectors - 1][masked](&tile);
            }
            i += count;
        }
        if sums.last {
            let block = TileCtx {
                thread: part,
                batch: group,
                unit: 0,
                row0: rows.start,
                rows: rows.len(),
                col0,
                cols,
                acc: sums.to,
                ld: sums.stride,
            };
            // SAFETY: the caller's promise; the block's sums are finished.
            unsafe { self.sink.finish(self.epilogues, &block) };
        }
    }
}

/// A tile that sums no pixels.
fn no_pixels<T>() -> Tile<T> {
    let null = std::ptr::null();
    Tile {
        segments: std::ptr::null(),
        count: 0,
        x: null,
        x_step: 0,
        dy: null,
        dy_step: 0,
        tail: 0,
        partial: null,
        partial_stride: 0,
        partials: 0,
        partials_stride: 0,
        bias: null,
        relu: false,
        c: std::ptr::null_mut(),
        c_stride: 0,
    }
}

/// The rows of the next tile: full ones, but the last two share what is left evenly.
fn rows_of_tile(left: usize, tile_rows: usize) -> usize {
    if left > tile_rows && left < 2 * tile_rows { left.div_ceil(2) } else { left.min(tile_rows) }
}
