//! Matrix products: `C = epilogue(A * B)`, for single matrices and batches, in `f32` and `f64`.
//!
//! A register tile of C (6 x 64 with AVX-512 in `f32`) is summed over k while A is read where it lies
//! and B either where it lies or from packed panels ([`pack_b`]). The epilogue sees the sums while they are
//! in registers, or as a block in the first cache.
//!
//! *Invariant:* the order of every sum is a function of the shapes, the strides and the instruction set.
//! Threads split outputs only, so their number never changes a bit of a result.

mod chain;
mod driver;
mod finish;
mod gemv;
mod kernels;
mod microkernel;
mod pack;
mod plan;
pub(crate) mod simd;
mod skinny;

use std::ops::Add;

use crate::KernelError;
use crate::conv;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::threshold::Threshold;

pub use chain::{Combine, Instruction, Operand, run_chain};
pub(crate) use driver::{Sink, rows_of_tile};
pub(crate) use finish::finish_block;
pub(crate) use kernels::Kernels;
pub(crate) use microkernel::Tile;
pub use pack::{PackSource, pack_b, pack_b_panels, pack_b_parallel, packed_len, panels};
pub(crate) use plan::{MAX_K_BLOCK, SERIAL_BELOW, Split, split};
pub use plan::{row_blocks, scratch_bytes};

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[plan::THRESHOLDS, gemv::THRESHOLDS, pack::THRESHOLDS];

/// The largest number of rows of a block that [`Epilogue::Tile`] is given.
pub const BLOCK_ROWS: usize = 24;

/// Types of matrix elements: `f32` and `f64`.
pub trait Element:
    Copy + Default + PartialOrd + Add<Output = Self> + Send + Sync + kernels::HasKernels + conv::HasKernels
{
}

impl Element for f32 {}
impl Element for f64 {}

/// Which columns blocks have: those of each group of neighbouring ones, `together` of them, are cut into blocks of
/// `width`, of which the last one may be narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockColumns {
    /// Columns of a block but the last of a group.
    pub width: usize,
    /// Columns of a group.
    pub together: usize,
}

impl BlockColumns {
    /// Whether one block has these columns.
    pub fn has(self, first: usize, count: usize) -> bool {
        let at = first % self.together.max(1);
        at.is_multiple_of(self.width.max(1)) && count == self.width.min(self.together - at)
    }
}

/// The largest number of columns of a block that [`Epilogue::Tile`] is given: the width of a panel.
pub fn block_columns<T: Element>(isa: Isa) -> usize {
    T::kernels(isa).columns
}

/// The sizes of the register tile for `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileSizes {
    pub lanes: usize,
    pub columns: usize,
    pub rows: usize,
}

pub(crate) fn tile_sizes(isa: Isa) -> TileSizes {
    let Kernels { lanes, columns, rows, .. } = *<f32 as kernels::HasKernels>::kernels(isa);
    TileSizes { lanes, columns, rows }
}

/// The shapes and strides of a product. All strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A and rows of B; 0 makes every sum zero.
    pub k: usize,
    /// How many products.
    pub batch: usize,
    /// Where the elements of A are.
    pub a: ALayout,
    /// Where the elements of B are.
    pub b: BLayout,
    /// From one product's B to the next one's; 0 where all share one.
    pub b_batch_stride: usize,
}

/// Where the elements of A are. One of the two inner strides should be 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ALayout {
    /// From one row to the next.
    pub row_stride: usize,
    /// From one step of k to the next.
    pub k_stride: usize,
    /// From one product's A to the next one's; 0 where all share one.
    pub batch_stride: usize,
}

/// Where the elements of B are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BLayout {
    /// Columns are contiguous, and each step of k is `stride` after the one before.
    RowMajor {
        /// From one step of k to the next.
        stride: usize,
    },
    /// Steps of k are contiguous, and each column is `stride` after the one before.
    Transposed {
        /// From one column to the next.
        stride: usize,
    },
    /// As [`pack_b`] left it, for the same instruction set.
    Packed,
}

/// What becomes of the sums.
pub enum Epilogue<'a, T> {
    /// `C = A * B`.
    Store(Output<T>),
    /// `C = A * B + bias`, one bias (of `n`) for each column.
    Bias(Output<T>, *const T),
    /// `C = max(A * B + bias, 0)`, where NaN stays NaN.
    BiasRelu(Output<T>, *const T),
    /// Runs a chain of instructions on each block of finished sums; see [`run_chain`].
    Chain(&'a [Instruction<T>]),
    /// Calls a function with each block of finished sums. Calls come from several threads at once, but
    /// never two at once with the same [`TileCtx::thread`].
    Tile(&'a (dyn Fn(&TileCtx<T>) + Sync)),
    /// As [`Epilogue::Tile`], for functions that keep something of the rows: the blocks of a unit of so many
    /// neighbouring ones, with the same columns, come from one thread, one after the other, in order. See
    /// [`RowBlocks`].
    Units(&'a (dyn Fn(&TileCtx<T>) + Sync), usize),
}

/// The blocks that a kernel makes of the rows of its result, by the shapes and the instruction set alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowBlocks {
    /// Sets of blocks, which no unit crosses: products, or images that are computed at a time.
    pub sets: usize,
    /// Blocks of a set, at most.
    pub blocks: usize,
}

impl RowBlocks {
    /// Units that all blocks form, `unit` of them each.
    pub fn units(self, unit: usize) -> usize {
        self.sets.saturating_mul(self.blocks.div_ceil(unit.max(1)))
    }
}

/// Where C is written. Its columns are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Output<T> {
    /// The first element.
    pub c: *mut T,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one product's C to the next one's.
    pub batch_stride: usize,
}

/// A block of finished sums, hot in the first cache: at most [`BLOCK_ROWS`] rows, and columns as
/// [`BlockColumns`] says of blocks of [`block_columns`]. Each element of C is in one block.
#[derive(Clone, Copy, Debug)]
pub struct TileCtx<T> {
    /// A number below the pool's threads, for scratch that the function keeps apart by thread.
    pub thread: usize,
    /// Which product of the batch.
    pub batch: usize,
    /// Which unit of an [`Epilogue::Units`] the block belongs to; 0 for other epilogues.
    pub unit: usize,
    /// The first row of C.
    pub row0: usize,
    /// The number of rows.
    pub rows: usize,
    /// The first column of C.
    pub col0: usize,
    /// The number of columns.
    pub cols: usize,
    /// The block's first sum; the function may overwrite the block's elements.
    pub acc: *mut T,
    /// Elements of `acc` from one row to the next.
    pub ld: usize,
}

/// Computes `epilogue(A * B)` for each product of the batch.
///
/// B is packed into the scratch first where that pays. Small products run on the calling thread alone.
/// Nothing is allocated.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Safety
/// The machine has `isa`. Every element of A, B, the bias and C that the problem and the epilogue
/// describe lies in its array, and no C overlaps an operand, another row of C or another product's C.
pub unsafe fn gemm<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    a: *const T,
    b: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { driver::gemm(pool, isa, problem, a, b, epilogue, scratch) }
}
