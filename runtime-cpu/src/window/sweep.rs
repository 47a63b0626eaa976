//! Goes over the pixels of a result in blocks, on several threads, and hands them to an epilogue.

use std::ops::Range;

use super::Problem;
use crate::KernelError;
use crate::gemm::{BLOCK_ROWS, Epilogue, Output, Sink, TileCtx, block_columns, finish_block};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};
use crate::threshold::thresholds;

thresholds! {
    /// Operations below which waking other threads does not pay (about 10 us of one core).
    const SERIAL_BELOW: usize = 1 << 17, of Window [Rows, Columns];
    /// Bytes of sources that the first cache holds while the rows of a strip of pixels follow each other.
    const NEAR_BYTES: usize = 32 << 10, of Window [Window, Columns, Bytes] at NEAR_BYTES / BLOCK_ROWS;
    /// Images of at most this many bytes stay in the second cache; larger ones are read fastest in their order.
    const SMALL_IMAGE_BYTES: usize = 1 << 20, of Window [Rows, Columns, Bytes];
}

/// The result's sizes: what is cut into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    pub images: usize,
    pub sizes: [usize; 3],
    pub channels: usize,
    /// Sizes of the windows that a pixel is made from.
    pub kernel: [usize; 3],
    /// Source positions from one pixel of a row to the next.
    pub stride: usize,
}

/// Some pixels of one row, and some channels.
#[derive(Clone, Debug)]
pub struct Block {
    pub image: usize,
    pub depth: usize,
    pub height: usize,
    pub columns: Range<usize>,
    /// The number of the first pixel, counted over all images.
    pub row0: usize,
    pub channel0: usize,
    pub channels: usize,
}

/// What computes the pixels of a block.
pub trait Body<T>: Sync {
    /// # Safety
    /// `to` has room for the block's pixels, `ld` elements from one to the next; no other thread computes the
    /// same block.
    unsafe fn block(&self, block: &Block, to: *mut T, ld: usize);
}

/// The bytes of scratch that each function of this module needs with a pool of `threads` threads.
pub fn scratch_bytes<T: crate::gemm::Element>(isa: Isa, threads: usize) -> usize {
    block_len::<T>(isa).saturating_mul(threads).saturating_mul(size_of::<T>()).saturating_add(ALIGNMENT)
}

fn block_len<T: crate::gemm::Element>(isa: Isa) -> usize {
    BLOCK_ROWS * block_columns::<T>(isa)
}

struct Shared<'a, T>(&'a Epilogue<'a, T>, *mut T);

// SAFETY: threads write disjoint blocks of the outputs and of the scratch; the tile function is `Sync`.
unsafe impl<T: Sync> Sync for Shared<'_, T> {}

impl Sweep {
    pub fn new(problem: &Problem, sizes: [usize; 3]) -> Sweep {
        let Problem { geometry, images, channels } = *problem;
        let stride = if sizes == geometry.output { geometry.stride[2] } else { 1 };
        Sweep { images, sizes, channels, kernel: geometry.kernel, stride }
    }

    /// Whether the blocks of a strip of pixels, one above the other, are computed before the next strip.
    fn by_strips<T>(&self) -> bool {
        let results = self.sizes.iter().fold(self.channels, |all, &size| all.saturating_mul(size));
        let sources = results.saturating_mul(self.stride).saturating_mul(self.stride);
        sources.saturating_mul(size_of::<T>()) <= SMALL_IMAGE_BYTES
    }

    /// Pixels of a block. In strips, few enough that the sources of one row are still near for the next.
    fn piece<T>(&self) -> usize {
        if !self.by_strips::<T>() {
            return BLOCK_ROWS;
        }
        let [planes, rows, columns] = self.kernel;
        let row = planes.saturating_mul(rows).saturating_mul(self.channels).saturating_mul(size_of::<T>());
        let sources = (NEAR_BYTES / row.max(1)).saturating_sub(columns.saturating_sub(1));
        (sources / self.stride / 8 * 8).clamp(8, BLOCK_ROWS)
    }

    /// Computes all blocks.
    ///
    /// # Errors
    /// When the scratch is too small, or an epilogue panicked.
    ///
    /// # Safety
    /// The outputs and the bias of the epilogue lie in their arrays, and what `body` asks for.
    pub unsafe fn run<T: crate::gemm::Element>(
        &self,
        pool: &Pool,
        isa: Isa,
        body: &impl Body<T>,
        epilogue: &Epilogue<'_, T>,
        scratch: &mut [u8],
    ) -> Result<(), KernelError> {
        let [depth, height, width] = self.sizes;
        let block_channels = match epilogue {
            Epilogue::Chain(_) | Epilogue::Tile(_) | Epilogue::Units(..) => block_columns::<T>(isa),
            _ => self.channels.max(1),
        };
        let (by_strips, length) = (self.by_strips::<T>(), self.piece::<T>());
        let (pieces, strips) = (width.div_ceil(length), self.channels.div_ceil(block_channels));
        let units = [self.images, depth, height, pieces, strips].into_iter().fold(1, usize::saturating_mul);
        if units == 0 {
            return Ok(());
        }
        let pixels = [self.images, depth, height, width, self.channels];
        let work = pixels.into_iter().chain(self.kernel).fold(1, usize::saturating_mul);
        let parts = pool.threads().min((work / SERIAL_BELOW).max(1)).min(units);
        let needed = scratch_bytes::<T>(isa, pool.threads());
        KernelError::check_scratch("a pool or a depthwise convolution", needed, scratch.len())?;
        let scratch = scratch.as_mut_ptr();
        let shared = Shared(epilogue, scratch.wrapping_add(scratch.align_offset(ALIGNMENT)).cast::<T>());
        let shared = &shared;
        pool.run(parts, &|part| {
            for unit in share(units, parts, part) {
                let (row, piece, rest) = if by_strips {
                    (unit % height, unit / height % pieces, unit / height / pieces)
                } else {
                    (unit / pieces % height, unit % pieces, unit / pieces / height)
                };
                let (strip, plane) = (rest % strips, rest / strips);
                let start = piece * length;
                let channel0 = strip * block_channels;
                let block = Block {
                    image: plane / depth,
                    depth: plane % depth,
                    height: row,
                    columns: start..(start + length).min(width),
                    row0: (plane * height + row) * width + start,
                    channel0,
                    channels: block_channels.min(self.channels - channel0),
                };
                let own = shared.1.wrapping_add(part * block_len::<T>(isa));
                // SAFETY: the caller's promise; units are disjoint, and the part's scratch holds a block.
                unsafe { finish(isa, body, &block, shared.0, own, part) };
            }
        })?;
        Ok(())
    }
}

/// # Safety
/// As [`Sweep::run`]; `own` has room for a block.
unsafe fn finish<T: crate::gemm::Element>(
    isa: Isa,
    body: &impl Body<T>,
    block: &Block,
    epilogue: &Epilogue<'_, T>,
    own: *mut T,
    thread: usize,
) {
    let ld = block_columns::<T>(isa);
    let (rows, cols) = (block.columns.len(), block.channels);
    let place = |c: &Output<T>| c.c.wrapping_add(block.row0 * c.row_stride + block.channel0);
    // SAFETY: the caller's promise; a bias has every channel.
    unsafe {
        match *epilogue {
            Epilogue::Store(c) => body.block(block, place(&c), c.row_stride),
            Epilogue::Bias(c, _) | Epilogue::BiasRelu(c, _) => {
                body.block(block, place(&c), c.row_stride);
                // In place, while the block is in the first cache.
                let (sink, kernels) = (Sink::new(epilogue), T::kernels(isa));
                for first in (0..cols).step_by(ld) {
                    let (row0, col0, cols) = (block.row0, block.channel0 + first, ld.min(cols - first));
                    let (acc, ld) = (place(&c).wrapping_add(first), c.row_stride);
                    let block = TileCtx { thread, batch: 0, unit: 0, row0, rows, col0, cols, acc, ld };
                    finish_block(kernels, &sink, &block);
                }
            }
            Epilogue::Chain(_) | Epilogue::Tile(_) | Epilogue::Units(..) => {
                body.block(block, own, ld);
                let (row0, col0) = (block.row0, block.channel0);
                let block = TileCtx { thread, batch: 0, unit: 0, row0, rows, col0, cols, acc: own, ld };
                Sink::new(epilogue).finish(T::kernels(isa), &block);
            }
        }
    }
}
