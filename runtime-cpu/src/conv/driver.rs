//! The loops around the register tiles.

use std::ops::Range;

use super::Problem;
use super::border::without_padding;
use super::kernels::Kernels;
use super::microkernel::{SharedTap, Sums, Tap};
use super::plan::{Plan, Taps, is_empty, plan};
use super::reach::{self, Reach};
use super::table::{ClassTaps, Made, RowTile, Tables};
use crate::Geometry;
use crate::KernelError;
use crate::gemm::{self, BLOCK_ROWS, Element, Epilogue, RowBlocks, Sink, TileCtx, finish_block, gemm};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};

/// Some images of a convolution under way; shared by the threads that compute parts of it.
struct Run<'a, T: Element> {
    tile: &'static gemm::Kernels<T>,
    kernels: &'static Kernels<T>,
    plan: &'a Taps,
    /// How many images, and the output pixels before them.
    images: usize,
    pixels_before: usize,
    /// Which set of images, and the blocks of all.
    set: usize,
    row_blocks: RowBlocks,
    x: *const T,
    filters: *const T,
    /// The convolution as it was asked for, and its first image of these.
    problem: &'a Problem,
    source: *const T,
    sink: &'a Sink<'a, T>,
    /// Scratch of the parts, one after the other.
    parts: *mut u8,
}

// SAFETY: threads read the images, the filters and the bias; each writes its own part of C and of the
// scratch.
unsafe impl<T: Element> Sync for Run<'_, T> {}

/// See [`super::conv`].
///
/// # Safety
/// As for [`super::conv`].
pub unsafe fn conv<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    filters: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    if is_empty(problem) {
        return Ok(());
    }
    let plan = match plan::<T>(isa, problem, pool.threads()) {
        // SAFETY: the caller's promise; pixels are rows of A, and the filters' one tap is B.
        Plan::Product(product) => unsafe {
            return gemm(pool, isa, &product, x, filters, epilogue, scratch);
        },
        Plan::Taps(plan) => plan,
    };
    let needed = plan.scratch_bytes();
    KernelError::check_scratch("a convolution", needed, scratch.len())?;
    let scratch = scratch.as_mut_ptr();
    let shared = scratch.wrapping_add(scratch.align_offset(ALIGNMENT));
    let sink = &Sink::new(epilogue);
    let at_a_time = plan.problem.images;
    for first in (0..problem.images).step_by(at_a_time) {
        let images = at_a_time.min(problem.images - first);
        let mut x = x.wrapping_add(first * problem.image_stride);
        let source = x;
        if let Some(fold) = &plan.fold {
            let copy = shared.cast::<T>();
            // SAFETY: the caller's promise; the scratch has room for so many copied images.
            unsafe { fold.copy(pool, problem, x, images, copy)? };
            x = copy;
        }
        let run = Run {
            tile: T::kernels(isa),
            kernels: T::conv_kernels(isa),
            plan: &plan,
            images,
            pixels_before: first * problem.geometry.pixels(),
            set: first / at_a_time,
            row_blocks: plan.row_blocks(problem.images),
            x,
            filters,
            problem,
            source,
            sink,
            parts: shared.wrapping_add(plan.shared),
        };
        // SAFETY: the caller's promise; parts are disjoint.
        pool.run(plan.split.parts(), &|index| unsafe { run.part(index) })?;
    }
    Ok(())
}

/// A part's scratch, taken apart.
struct Scratch<'a, T> {
    tables: Tables<'a, T>,
    sums: *mut T,
    class_taps: ClassTaps<'a>,
    tiles: &'a mut [RowTile],
    table: &'a mut [Tap<T>],
}

/// A block of output pixels whose table is made.
#[derive(Clone, Copy, Default)]
struct Block {
    row0: usize,
    rows: usize,
    made: Made,
    first_tap: usize,
    /// A bit for each row that reads copied padding.
    at_border: u32,
}

/// The columns of one panel of filters.
struct Panel<T> {
    filters: *const T,
    group: usize,
    col0: usize,
    cols: usize,
}

impl<T: Element> Run<'_, T> {
    /// Computes part `index`.
    ///
    /// # Safety
    /// As for [`super::conv`]; no two threads compute the same part.
    unsafe fn part(&self, index: usize) {
        let Problem { groups, cin, cout, geometry, .. } = self.plan.problem;
        let split = self.plan.split;
        let (by_columns, rest) = (index % split.columns, index / split.columns);
        let (by_rows, by_groups) = (rest % split.rows, rest / split.rows);
        let columns = self.tile.columns;
        let panels = share(cout.div_ceil(columns), split.columns, by_columns);
        // Whole blocks, so that how many threads there are does not change which tiles there are.
        let blocks = self.sink.share(self.plan.blocks(self.images), split.rows, by_rows);
        if blocks.is_empty() || panels.is_empty() {
            return;
        }
        // SAFETY: a part's scratch, in the order of its regions.
        let mut scratch = unsafe { self.scratch(self.parts.add(index * self.plan.each.bytes())) };
        let group_len = geometry.taps() * cin * cout.next_multiple_of(self.tile.lanes);
        for group in share(groups, split.batch, by_groups) {
            let x = self.x.wrapping_add(group * cin);
            let filters = self.filters.wrapping_add(group * group_len);
            for first in blocks.clone().step_by(self.plan.group) {
                let of_group = first..blocks.end.min(first + self.plan.group);
                // SAFETY: blocks and panels of the problem.
                unsafe { self.blocks(&mut scratch, x, group, filters, of_group, panels.clone(), index) };
            }
        }
    }

    /// # Safety
    /// `scratch` is aligned and has a part's bytes, and nothing else uses them.
    unsafe fn scratch<'b>(&'b self, scratch: *mut u8) -> Scratch<'b, T> {
        let Problem { cin, geometry, transposed, .. } = &self.plan.problem;
        let regions = self.plan.each;
        let zeros = scratch;
        let reaches = zeros.wrapping_add(regions.zeros);
        let sums = reaches.wrapping_add(regions.reaches);
        let class_taps = sums.wrapping_add(regions.sums);
        let tiles = class_taps.wrapping_add(regions.class_taps);
        let table = tiles.wrapping_add(regions.tiles);
        // SAFETY: the caller's promise; all bytes are initialized, and any are a value of these types.
        unsafe {
            let zeros = slice::<T>(zeros, regions.zeros);
            zeros[..*cin].fill(T::default());
            let mut left = slice::<Reach>(reaches, regions.reaches);
            let mut classes = [0; 3];
            let filled = [0, 1, 2].map(|dim| {
                let (own, others) = std::mem::take(&mut left).split_at_mut(geometry.output[dim]);
                classes[dim] = reach::fill(geometry, *transposed, dim, own);
                left = others;
                &*own
            });
            let zeros = zeros.as_ptr();
            Scratch {
                tables: Tables::new(&self.plan.problem, self.tile.rows, filled, classes, zeros),
                sums: sums.cast(),
                class_taps: ClassTaps::new(
                    slice::<SharedTap>(class_taps, regions.class_taps),
                    geometry.taps(),
                ),
                tiles: slice(tiles, regions.tiles),
                table: slice(table, regions.table),
            }
        }
    }

    /// Computes some blocks of pixels for some panels of one group's filters.
    ///
    /// # Safety
    /// As for [`Run::part`].
    #[expect(clippy::too_many_arguments, reason = "they are the indices of one loop nest")]
    unsafe fn blocks(
        &self,
        scratch: &mut Scratch<'_, T>,
        x: *const T,
        group: usize,
        filters: *const T,
        of_group: Range<usize>,
        panels: Range<usize>,
        thread: usize,
    ) {
        let Problem { cin, cout, geometry, .. } = self.plan.problem;
        let all_rows = self.images * geometry.pixels();
        let mut blocks = [Block::default(); super::plan::MAX_GROUP];
        let blocks = &mut blocks[..of_group.len()];
        let mut first_tap = 0;
        for ((index, block), tiles) in
            of_group.zip(blocks.iter_mut()).zip(scratch.tiles.chunks_exact_mut(BLOCK_ROWS))
        {
            let row0 = index * BLOCK_ROWS;
            let rows = BLOCK_ROWS.min(all_rows - row0);
            let table = &mut scratch.table[first_tap..];
            let made = scratch.tables.block(x, row0, rows, &mut scratch.class_taps, tiles, table);
            *block = Block { row0, rows, made, first_tap, at_border: self.at_border(row0, rows) };
            first_tap += made.taps;
        }
        let columns = self.tile.columns;
        for panel in panels {
            let first = panel * columns;
            let panel = Panel {
                filters: filters.wrapping_add(first * geometry.taps() * cin),
                group,
                col0: first,
                cols: columns.min(cout - first),
            };
            for k_block in 0..self.plan.k_blocks {
                for (block, (place, tiles)) in
                    blocks.iter().zip(scratch.tiles.chunks_exact(BLOCK_ROWS).enumerate())
                {
                    // Sums that wait for their next block of k keep their place; others share the hottest.
                    let place = if self.plan.k_blocks == 1 { 0 } else { place };
                    let sums = scratch.sums.wrapping_add(place * BLOCK_ROWS * columns);
                    let table = &scratch.table[block.first_tap..];
                    // SAFETY: rows of the block, and the panel's columns.
                    unsafe {
                        let tiles = (&tiles[..block.made.tiles], table, &*scratch.class_taps.list);
                        self.block(block, tiles, &panel, k_block, sums, thread);
                    }
                }
            }
        }
    }

    /// Adds one block of k to the sums of a block of pixels, and finishes them after the last one.
    ///
    /// # Safety
    /// As for [`Run::part`]; the tiles and the table are those of the block, and the sums have its room.
    unsafe fn block(
        &self,
        block: &Block,
        (tiles, table, class_taps): (&[RowTile], &[Tap<T>], &[SharedTap]),
        panel: &Panel<T>,
        k_block: usize,
        sums: *mut T,
        thread: usize,
    ) {
        debug_assert!(block.rows <= BLOCK_ROWS);
        let Problem { cin, .. } = self.plan.problem;
        let Taps { k_blocks, taps_of_block, channels_of_block, .. } = *self.plan;
        let of_channels = cin.div_ceil(channels_of_block.max(1)).max(1);
        let channel = k_block % of_channels * channels_of_block;
        let channels = channels_of_block.min(cin - channel);
        let first_step = k_block / of_channels * taps_of_block * cin;
        let end_step = first_step + taps_of_block * cin;
        let vectors = panel.cols.div_ceil(self.tile.lanes);
        // Stores of one tile's results happen while the next one is summed, if they are not all at the end.
        let last = k_block + 1 == k_blocks;
        let tile_by_tile = last && block.made.in_order && matches!(self.sink, Sink::Output { .. });
        for tile in tiles {
            let mut range = 0..tile.taps;
            let mut taps = &table[tile.first_tap..];
            let shared = tile.shared.map(|first| &class_taps[first..]);
            if k_blocks > 1 {
                let step = |i: usize| shared.map_or_else(|| taps[i].step, |shared| shared[i].step);
                range = below(tile.taps, first_step, step)..below(tile.taps, end_step, step);
            }
            if shared.is_none() {
                taps = &taps[range.start..];
            }
            let job = Sums {
                taps: taps.as_ptr(),
                shared: shared.map_or(std::ptr::null(), |shared| shared[range.start..].as_ptr()),
                count: range.len(),
                channel,
                channels,
                panel: panel.filters,
                to: tile.to,
                sums,
                ld: self.tile.columns,
                add: k_block > 0,
            };
            // SAFETY: the caller's promise; pointers of the table are to a row's channels or to zeros.
            unsafe {
                self.kernels.sums[tile.rows - 1][vectors - 1][usize::from(shared.is_some())](&job);
                if last && (shared.is_none() || block.at_border != 0) {
                    self.leave_padding_out(block, tile, panel, sums);
                }
                if tile_by_tile {
                    self.finish(block, usize::from(tile.to[0]), tile.rows, panel, sums, thread);
                }
            }
        }
        if last && !tile_by_tile {
            // SAFETY: the caller's promise, for all rows of the block.
            unsafe { self.finish(block, 0, block.rows, panel, sums, thread) };
        }
    }

    /// Which rows of a block read zeros that were copied with the images, because their windows begin or end in the
    /// padding of a row.
    fn at_border(&self, row0: usize, rows: usize) -> u32 {
        const { assert!(BLOCK_ROWS <= 32) };
        if self.plan.fold.is_none() {
            return 0;
        }
        let Geometry { input, output, kernel, stride, pad, .. } = self.problem.geometry;
        // The columns whose windows lie inside.
        let first = pad[2].div_ceil(stride[2]);
        let last = (input[2] + pad[2]).checked_sub(kernel[2]).map_or(0, |space| space / stride[2] + 1);
        let mut border = 0u32;
        let (mut row, mut column) = (0, row0 % output[2]);
        while row < rows {
            let end = rows.min(row + output[2] - column);
            for at in (row..end).take(first.saturating_sub(column)) {
                border |= 1 << at;
            }
            let after = (row + last.max(column) - column).max(row);
            (after..end).for_each(|at| border |= 1 << at);
            (row, column) = (end, 0);
        }
        border
    }

    /// Makes sums again that zeros in the place of padding made NaN.
    ///
    /// # Safety
    /// As for [`Run::part`]; the sums of the tile's rows are complete.
    unsafe fn leave_padding_out(&self, block: &Block, tile: &RowTile, panel: &Panel<T>, sums: *mut T) {
        let x = self.source.wrapping_add(panel.group * self.problem.cin);
        let width = panel.cols.div_ceil(self.tile.lanes) * self.tile.lanes;
        for &row in &tile.to[..tile.rows] {
            let row = usize::from(row);
            if tile.shared.is_some() && block.at_border >> row & 1 == 0 {
                continue;
            }
            // SAFETY: a row of the sums; the images and the filters are the problem's, as the caller promises.
            unsafe {
                let sums = std::slice::from_raw_parts_mut(sums.add(row * self.tile.columns), panel.cols);
                without_padding(self.problem, x, block.row0 + row, panel.filters, width, sums);
            }
        }
    }

    /// Hands some rows of a block to the epilogue.
    ///
    /// # Safety
    /// As for [`Run::part`]; the sums of these rows are complete.
    unsafe fn finish(
        &self,
        block: &Block,
        first: usize,
        rows: usize,
        panel: &Panel<T>,
        sums: *mut T,
        thread: usize,
    ) {
        let ctx = TileCtx {
            thread,
            batch: 0,
            unit: self.sink.unit_of(self.row_blocks, self.set, block.row0 / BLOCK_ROWS),
            row0: self.pixels_before + block.row0 + first,
            rows,
            col0: panel.group * self.plan.problem.cout + panel.col0,
            cols: panel.cols,
            acc: sums.wrapping_add(first * self.tile.columns),
            ld: self.tile.columns,
        };
        // SAFETY: the caller's promise.
        unsafe { finish_block(self.tile, self.sink, &ctx) }
    }
}

/// How many of `count` ascending steps are below one.
fn below(count: usize, limit: usize, step: impl Fn(usize) -> usize) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = (low + high) / 2;
        if step(middle) < limit {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// # Safety
/// `bytes` bytes from `first` on are initialized and aligned for `U`, of which any bytes are a value, and
/// nothing else uses them for as long.
unsafe fn slice<'a, U>(first: *mut u8, bytes: usize) -> &'a mut [U] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(first.cast(), bytes / size_of::<U>()) }
}
