//! Sums that another algorithm made, on their way through an epilogue.

use super::driver::{Sink, rows_of_tile};
use super::kernels::Kernels;
use super::microkernel::Tile;
use super::{Element, TileCtx};

/// Hands a block of finished sums to the epilogue, which may overwrite them.
///
/// The register tiles do it, as products of no step that are added to the sums, so whatever an epilogue
/// does to a product it does here too. Sums have to be hot in the first cache for this to cost little.
///
/// # Safety
/// The machine has the kernels' instruction set; the block's rows and columns are in C, as far as the
/// sink says where that is, and at most `BLOCK_ROWS` and `kernels.columns`.
pub unsafe fn finish_block<T: Element>(kernels: &Kernels<T>, sink: &Sink<'_, T>, block: &TileCtx<T>) {
    let (c, bias, relu) = match *sink {
        Sink::Output { c, bias, relu } => (c, bias, relu),
        // SAFETY: the caller's promise.
        Sink::Chain(_) | Sink::Tile(..) => return unsafe { sink.finish(kernels, block) },
    };
    let vectors = block.cols.div_ceil(kernels.lanes);
    let tail = block.cols - (vectors - 1) * kernels.lanes;
    let masked = usize::from(tail < kernels.lanes);
    let mut i = 0;
    while i < block.rows {
        let rows = rows_of_tile(block.rows - i, kernels.rows);
        // SAFETY: the caller's promise. With no step neither operand is read.
        unsafe {
            let sums = block.acc.add(i * block.ld);
            let offset = block.batch * c.batch_stride + (block.row0 + i) * c.row_stride + block.col0;
            kernels.tiles[rows - 1][vectors - 1][masked](&Tile {
                partial: sums,
                partial_stride: block.ld,
                tail,
                bias: if bias.is_null() { bias } else { bias.add(block.col0) },
                relu,
                ..Tile::product(0, (sums, 0), (sums, 0), (c.c.add(offset), c.row_stride))
            });
        }
        i += rows;
    }
}
