//! The register tile: a few channels of one tap times some vectors of columns, summed over segments of pixels.

use crate::gemm::simd::{Simd, opaque, prefetch, unroll};

/// Pixels between the row of `dy` that is asked for and the one in use.
const PREFETCH_PIXELS: usize = 16;

/// A row of output pixels for which a tap is inside the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Elements from the tile's `x` to the first pixel's input.
    pub x: usize,
    /// Elements from the tile's `dy` to the first pixel.
    pub dy: usize,
    /// The number of pixels.
    pub pixels: usize,
}

/// One call of a microkernel: the sums over some segments, added to sums that are there.
///
/// Strides are in elements. The tile has as many rows and vectors as the kernel was made for.
#[derive(Clone, Copy, Debug)]
pub struct Tile<T> {
    pub segments: *const Segment,
    pub count: usize,
    /// The tile's first row (a channel); rows are contiguous.
    pub x: *const T,
    /// From one pixel of a segment to the next.
    pub x_step: usize,
    /// The tile's first column; columns are contiguous.
    pub dy: *const T,
    pub dy_step: usize,
    /// Columns in the last vector, where the kernel masks it.
    pub tail: usize,
    /// `partials` sums over earlier pixels, one `partials_stride` after the other.
    pub partial: *const T,
    pub partial_stride: usize,
    pub partials: usize,
    pub partials_stride: usize,
    /// What is added to each column, or null.
    pub bias: *const T,
    pub relu: bool,
    pub c: *mut T,
    pub c_stride: usize,
}

/// Computes one tile of `MR` rows and `NV` vectors; `MASKED` if the last vector is not full.
///
/// Every element is one chain of multiply-adds in the order of the pixels, to which the partial sums are
/// added one after the other: how the result is cut into tiles does not change a bit.
///
/// # Safety
/// What `Simd` asks for, and every element that `tile` describes lies in its array.
#[inline(always)]
pub unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const MASKED: bool>(tile: &Tile<S::Elem>) {
    // SAFETY: all addresses are of rows below MR, of pixels of the segments and of columns of the tile,
    // where the last vector is masked down to `tail` columns.
    unsafe {
        let mask = S::mask(if MASKED { tile.tail } else { S::LANES });
        macro_rules! load {
            ($row:expr, $j:ident) => {
                if MASKED && $j == NV - 1 {
                    S::load_masked($row.add($j * S::LANES), mask)
                } else {
                    S::load($row.add($j * S::LANES))
                }
            };
        }

        let mut acc = [[S::zero(); NV]; MR];
        let (x_step, dy_step) = (tile.x_step, tile.dy_step);
        // One loop over all pixels: in a loop over segments around a loop over pixels, the compiler would keep
        // every accumulator twice, and most of them on the stack.
        let mut segment = tile.segments;
        let mut left = tile.count;
        let (mut x, mut dy, mut pixels) = (tile.x, tile.dy, 0);
        loop {
            if pixels == 0 {
                if left == 0 {
                    break;
                }
                x = tile.x.wrapping_add((*segment).x);
                dy = tile.dy.wrapping_add((*segment).dy);
                pixels = (*segment).pixels;
                segment = segment.add(1);
                left -= 1;
            }
            (x, dy) = (opaque(x), opaque(dy));
            let ahead = dy.wrapping_add(PREFETCH_PIXELS * dy_step);
            let mut columns = [S::zero(); NV];
            unroll!(J < NV, {
                columns[J] = load!(dy, J);
                if (J * S::LANES * size_of::<S::Elem>()).is_multiple_of(64) {
                    prefetch(ahead.wrapping_add(J * S::LANES));
                }
            });
            unroll!(I < MR, {
                let x = S::splat(*x.add(I));
                unroll!(J < NV, {
                    acc[I][J] = S::mul_add(x, columns[J], acc[I][J]);
                });
            });
            x = x.wrapping_add(x_step);
            dy = dy.wrapping_add(dy_step);
            pixels -= 1;
        }

        for index in 0..tile.partials {
            let partial = tile.partial.add(index * tile.partials_stride);
            unroll!(I < MR, {
                let row = partial.add(I * tile.partial_stride);
                unroll!(J < NV, {
                    acc[I][J] = S::add(load!(row, J), acc[I][J]);
                });
            });
        }
        if !tile.bias.is_null() {
            unroll!(J < NV, {
                let bias = load!(tile.bias, J);
                unroll!(I < MR, {
                    acc[I][J] = S::add(acc[I][J], bias);
                });
            });
        }
        if tile.relu {
            unroll!(I < MR, {
                unroll!(J < NV, {
                    acc[I][J] = S::relu(acc[I][J]);
                });
            });
        }
        unroll!(I < MR, {
            let row = tile.c.add(I * tile.c_stride);
            unroll!(J < NV, {
                if MASKED && J == NV - 1 {
                    S::store_masked(row.add(J * S::LANES), mask, acc[I][J]);
                } else {
                    S::store(row.add(J * S::LANES), acc[I][J]);
                }
            });
        });
    }
}
