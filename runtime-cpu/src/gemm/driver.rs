//! The loops around the register tiles.

use std::ops::Range;

use super::chain::{Instruction, prefetch_operands};
use super::kernels::Kernels;
use super::microkernel::Tile;
use super::pack::{PackSource, pack_b, pack_b_parallel};
use super::plan::{PackB, Panels, Path, Plan, plan, whole_lines};
use super::{BLOCK_ROWS, BLayout, Element, Epilogue, Output, Problem, RowBlocks, TileCtx};
use crate::KernelError;
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};

/// One product under way; shared by the threads that compute parts of it.
pub struct Run<'a, T: Element> {
    pub isa: Isa,
    pub kernels: &'static Kernels<T>,
    pub problem: &'a Problem,
    pub a: *const T,
    pub b: *const T,
    pub sink: Sink<'a, T>,
    plan: &'a Plan,
    /// B packed by all threads.
    shared: *mut T,
    /// Scratch of the parts, one after the other.
    parts: *mut T,
}

// SAFETY: threads read A, B, the bias and the packed B; each writes its own part of C and of the scratch.
unsafe impl<T: Element> Sync for Run<'_, T> {}

/// An [`Epilogue`], taken apart.
pub enum Sink<'a, T> {
    Output {
        c: Output<T>,
        bias: *const T,
        relu: bool,
    },
    Chain(&'a [Instruction<T>]),
    /// A function, with the blocks of a unit, 0 if there are no units.
    Tile(&'a (dyn Fn(&TileCtx<T>) + Sync), usize),
}

impl<'a, T: Element> Sink<'a, T> {
    pub fn new(epilogue: &Epilogue<'a, T>) -> Sink<'a, T> {
        match *epilogue {
            Epilogue::Store(c) => Sink::Output { c, bias: std::ptr::null(), relu: false },
            Epilogue::Bias(c, bias) => Sink::Output { c, bias, relu: false },
            Epilogue::BiasRelu(c, bias) => Sink::Output { c, bias, relu: true },
            Epilogue::Chain(chain) => Sink::Chain(chain),
            Epilogue::Tile(tile) => Sink::Tile(tile, 0),
            Epilogue::Units(tile, blocks) => Sink::Tile(tile, blocks.max(1)),
        }
    }

    /// Whether blocks come in units.
    pub fn has_units(&self) -> bool {
        matches!(self, Sink::Tile(_, 1..))
    }

    /// Shares a set's blocks among parts, whole units of them.
    pub fn share(&self, blocks: usize, parts: usize, index: usize) -> Range<usize> {
        let unit = if let Sink::Tile(_, unit @ 1..) = self { *unit } else { 1 };
        let units = share(blocks.div_ceil(unit), parts, index);
        units.start * unit..(units.end * unit).min(blocks)
    }

    /// The unit of a block of a set.
    pub fn unit_of(&self, rows: RowBlocks, set: usize, block: usize) -> usize {
        let Sink::Tile(_, unit @ 1..) = self else { return 0 };
        set * rows.blocks.div_ceil(*unit) + block / unit
    }

    /// Asks for what the epilogue of a block will read, while the block is still being summed.
    pub fn prepare(&self, block: &TileCtx<T>) {
        if let Sink::Chain(chain) = self {
            prefetch_operands(chain, block);
        }
    }

    /// Hands a block of finished sums on; sums that are stored directly have been.
    ///
    /// # Safety
    /// As for [`super::gemm`].
    pub unsafe fn finish(&self, kernels: &Kernels<T>, block: &TileCtx<T>) {
        match self {
            Sink::Output { .. } => {}
            // SAFETY: the caller's promise.
            Sink::Chain(chain) => unsafe { (kernels.chain)(chain, block) },
            Sink::Tile(function, _) => function(block),
        }
    }
}

/// The share of one part: batch elements, rows, and panels of columns.
struct Part {
    index: usize,
    batch: Range<usize>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// See [`super::gemm`].
///
/// # Safety
/// As for [`super::gemm`].
pub unsafe fn gemm<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    a: *const T,
    b: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    if problem.m == 0 || problem.n == 0 || problem.batch == 0 {
        return Ok(());
    }
    let plan = plan::<T>(isa, problem, pool.threads());
    let needed = plan.scratch_bytes::<T>();
    KernelError::check_scratch("a matrix product", needed, scratch.len())?;
    let scratch = scratch.as_mut_ptr();
    let shared = scratch.wrapping_add(scratch.align_offset(ALIGNMENT)).cast::<T>();
    let run = Run {
        isa,
        kernels: T::kernels(isa),
        problem,
        a,
        b,
        sink: Sink::new(epilogue),
        plan: &plan,
        shared,
        parts: shared.wrapping_add(plan.shared),
    };
    let split = plan.split;
    // SAFETY: the caller's promise holds for every part of the product; parts are disjoint.
    let whole =
        |batch: Range<usize>| pool.run(split.parts(), &|index| unsafe { run.part(index, batch.clone()) });
    match plan.pack {
        PackB::No | PackB::EachThread => whole(0..problem.batch)?,
        PackB::Once => {
            // SAFETY: the caller's promise; the scratch has room for the packed B.
            unsafe { pack_b_parallel(pool, isa, &run.pack_source(0), shared)? };
            whole(0..problem.batch)?;
        }
        PackB::EachProduct => {
            for index in 0..problem.batch {
                // SAFETY: as above, and the product that used the last B is finished.
                unsafe { pack_b_parallel(pool, isa, &run.pack_source(index), shared)? };
                whole(index..index + 1)?;
            }
        }
    }
    Ok(())
}

/// Columns of one panel, and where B has them.
struct PanelB<T> {
    b: *const T,
    k_stride: usize,
    col0: usize,
    cols: usize,
}

/// Rows of A, where they lie or copied.
#[derive(Clone, Copy)]
struct RowsA<T> {
    a: *const T,
    row_stride: usize,
    k_stride: usize,
    row0: usize,
    rows: usize,
}

impl<T: Element> Run<'_, T> {
    /// Computes part `index` of the products in `batch`.
    ///
    /// # Safety
    /// As for [`super::gemm`]; no two threads compute the same part.
    unsafe fn part(&self, index: usize, batch: Range<usize>) {
        let split = self.plan.split;
        let (by_columns, rest) = (index % split.columns, index / split.columns);
        let (by_rows, by_batch) = (rest % split.rows, rest / split.rows);
        // Tiles are shared, or whole blocks of them.
        let unit = if self.sink.has_units() { BLOCK_ROWS } else { self.kernels.rows };
        let tiles = self.sink.share(self.problem.m.div_ceil(unit), split.rows, by_rows);
        let products = share(batch.len(), split.batch, by_batch);
        let scratch = self.parts.wrapping_add(index * self.plan.each);
        match self.plan.path {
            // SAFETY: the caller's promise; the part's scratch is as large as its plan says.
            Path::Panels(panels) => unsafe {
                let part = Part {
                    index,
                    batch: batch.start + products.start..batch.start + products.end,
                    rows: tiles.start * unit..(tiles.end * unit).min(self.problem.m),
                    panels: share(self.problem.n.div_ceil(self.kernels.columns), split.columns, by_columns),
                };
                self.panels(&panels, &part, scratch);
            },
            // SAFETY: as above.
            Path::Skinny(skinny) => unsafe {
                let units = share(skinny.len.div_ceil(self.kernels.columns), split.columns, by_columns);
                let columns =
                    units.start * self.kernels.columns..(units.end * self.kernels.columns).min(skinny.len);
                for product in products {
                    self.skinny(&skinny, index, batch.start + product, columns.clone(), scratch);
                }
            },
        }
    }

    /// # Safety
    /// As for [`Run::part`]; the scratch has the plan's room for one part.
    unsafe fn panels(&self, panels: &Panels, part: &Part, scratch: *mut T) {
        let Problem { n, k, a: layout, .. } = *self.problem;
        let block_len = panels.row_block.max(BLOCK_ROWS) * self.kernels.columns;
        let own = scratch.wrapping_add(self.plan.each);
        let (block, copied) = (scratch, scratch.wrapping_add(whole_lines::<T>(block_len)));
        for product in part.batch.clone() {
            // SAFETY: rows, panels and products are inside the problem; the scratch has room for a
            // row block's sums, its copy of A and a packed B, in this order.
            unsafe {
                let a = self.a.add(product * layout.batch_stride);
                let (b, packed) = match (self.plan.pack, self.problem.b) {
                    (PackB::Once | PackB::EachProduct, _) => (self.shared.cast_const(), true),
                    (PackB::EachThread, _) => {
                        let to = own.wrapping_sub(whole_lines::<T>(super::packed_len::<T>(self.isa, k, n)));
                        pack_b(self.isa, &self.pack_source(product), to);
                        (to.cast_const(), true)
                    }
                    (PackB::No, layout) => {
                        let b = self.b.add(product * self.problem.b_batch_stride);
                        (b, layout == BLayout::Packed)
                    }
                };
                for row0 in part.rows.clone().step_by(panels.row_block) {
                    let rows = panels.row_block.min(part.rows.end - row0);
                    let mut rows_a = RowsA {
                        a: a.add(row0 * layout.row_stride),
                        row_stride: layout.row_stride,
                        k_stride: layout.k_stride,
                        row0,
                        rows,
                    };
                    if panels.copy_a {
                        copy_rows(&rows_a, k, copied);
                        rows_a = RowsA { a: copied, row_stride: 1, k_stride: rows, row0, rows };
                    }
                    for panel in part.panels.clone() {
                        let col0 = panel * self.kernels.columns;
                        let cols = self.kernels.columns.min(n - col0);
                        let panel = if packed {
                            let width = cols.next_multiple_of(self.kernels.lanes);
                            PanelB { b: b.add(col0 * k), k_stride: width, col0, cols }
                        } else {
                            PanelB { b: b.add(col0), k_stride: self.row_stride_b(), col0, cols }
                        };
                        self.row_block(panels, product, part.index, rows_a, &panel, block);
                    }
                }
            }
        }
    }

    /// Finishes one panel's columns of a block of rows.
    ///
    /// # Safety
    /// The rows and the panel are inside the problem; `block` has room for their sums.
    unsafe fn row_block(
        &self,
        panels: &Panels,
        product: usize,
        thread: usize,
        a: RowsA<T>,
        b: &PanelB<T>,
        block: *mut T,
    ) {
        let Kernels { lanes, columns: ld, rows: tile_rows, tiles, .. } = *self.kernels;
        let vectors = b.cols.div_ceil(lanes);
        let tail = b.cols - (vectors - 1) * lanes;
        let masked = usize::from(tail < lanes);
        let all = RowBlocks { sets: self.problem.batch, blocks: self.problem.m.div_ceil(BLOCK_ROWS) };
        for k_block in 0..panels.k_blocks {
            let last = k_block + 1 == panels.k_blocks;
            let k0 = (k_block * panels.k_block).min(self.problem.k);
            let k = panels.k_block.min(self.problem.k - k0);
            for block_row in (0..a.rows).step_by(BLOCK_ROWS) {
                let block_rows = BLOCK_ROWS.min(a.rows - block_row);
                // Sums that wait for their next block of k keep their place; others share the hottest.
                let acc = block.wrapping_add(if panels.k_blocks == 1 { 0 } else { block_row * ld });
                let context = TileCtx {
                    thread,
                    batch: product,
                    unit: self.sink.unit_of(all, product, (a.row0 + block_row) / BLOCK_ROWS),
                    row0: a.row0 + block_row,
                    rows: block_rows,
                    col0: b.col0,
                    cols: b.cols,
                    acc,
                    ld,
                };
                if last {
                    self.sink.prepare(&context);
                }
                let mut i = 0;
                while i < block_rows {
                    let rows = rows_of_tile(block_rows - i, tile_rows);
                    let row = block_row + i;
                    // SAFETY: rows below `a.rows`, steps of this block of k, columns of the panel;
                    // `acc` has room for `BLOCK_ROWS` rows of a panel.
                    unsafe {
                        let sums = acc.add(i * ld);
                        let mut tile = Tile {
                            k,
                            a: a.a.add(row * a.row_stride + k0 * a.k_stride),
                            a_row_stride: a.row_stride,
                            a_k_stride: a.k_stride,
                            b: b.b.add(k0 * b.k_stride),
                            b_k_stride: b.k_stride,
                            tail,
                            partial: if k_block == 0 { std::ptr::null() } else { sums },
                            partial_stride: ld,
                            bias: std::ptr::null(),
                            relu: false,
                            c: sums,
                            c_stride: ld,
                        };
                        if let Sink::Output { c, bias, relu } = self.sink
                            && last
                        {
                            let offset = product * c.batch_stride + (a.row0 + row) * c.row_stride;
                            tile.c = c.c.add(offset + b.col0);
                            tile.c_stride = c.row_stride;
                            tile.bias = if bias.is_null() { bias } else { bias.add(b.col0) };
                            tile.relu = relu;
                        }
                        tiles[rows - 1][vectors - 1][masked](&tile);
                    }
                    i += rows;
                }
                if last {
                    // SAFETY: the caller's promise; the block's sums are finished.
                    unsafe { self.sink.finish(self.kernels, &context) };
                }
            }
        }
    }

    fn row_stride_b(&self) -> usize {
        match self.problem.b {
            BLayout::RowMajor { stride } => stride,
            BLayout::Transposed { .. } | BLayout::Packed => 1,
        }
    }

    fn pack_source(&self, product: usize) -> PackSource<T> {
        let (k_stride, n_stride) = match self.problem.b {
            BLayout::RowMajor { stride } => (stride, 1),
            BLayout::Transposed { stride } => (1, stride),
            BLayout::Packed => (1, 1),
        };
        let b = self.b.wrapping_add(product * self.problem.b_batch_stride);
        PackSource { b, k_stride, n_stride, k: self.problem.k, n: self.problem.n }
    }
}

/// The rows of the next tile: full ones, but the last two share what is left evenly.
pub fn rows_of_tile(left: usize, tile_rows: usize) -> usize {
    if left > tile_rows && left < 2 * tile_rows { left.div_ceil(2) } else { left.min(tile_rows) }
}

/// Copies rows so that the rows of each step of k lie next to each other.
///
/// # Safety
/// The rows have `k` steps; `to` has room for all.
unsafe fn copy_rows<T: Copy>(a: &RowsA<T>, k: usize, to: *mut T) {
    for step in 0..k {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (a.a.add(step * a.k_stride), to.add(step * a.rows));
            if a.row_stride == 1 {
                from.copy_to_nonoverlapping(to, a.rows);
            } else {
                for i in 0..a.rows {
                    *to.add(i) = *from.add(i * a.row_stride);
                }
            }
        }
    }
}
