//! The register tile: a few rows of C, some vectors wide, summed over k in registers.

use super::simd::{Simd, opaque, prefetch, unroll};

/// Steps of k between the row of B that is asked for and the one in use. 24 was best on Zen 4, for tiles
/// of any rows, whether B comes from the second or the third cache; 8 and 48 lose some percent.
const PREFETCH_STEPS: usize = 24;

/// One call of a microkernel: `c = finish(a * b + partial)` for a tile of C.
///
/// Strides are in elements. The tile has as many rows and vectors as the kernel was made for.
#[derive(Clone, Copy, Debug)]
pub struct Tile<T> {
    /// Steps of k; with 0 the product is zero.
    pub k: usize,
    /// A at the tile's first row and the first step.
    pub a: *const T,
    pub a_row_stride: usize,
    pub a_k_stride: usize,
    /// B at the first step and the tile's first column; columns are contiguous.
    pub b: *const T,
    pub b_k_stride: usize,
    /// Columns in the last vector, where the kernel masks it.
    pub tail: usize,
    /// The sum over earlier steps, or null.
    pub partial: *const T,
    pub partial_stride: usize,
    /// What is added to each column, or null.
    pub bias: *const T,
    pub relu: bool,
    pub c: *mut T,
    pub c_stride: usize,
}

impl<T> Tile<T> {
    /// A product alone: `c = a * b`, with operands and results as their first elements and the strides of
    /// their rows. Columns of A are contiguous.
    pub fn product(k: usize, a: (*const T, usize), b: (*const T, usize), c: (*mut T, usize)) -> Tile<T> {
        Tile {
            k,
            a: a.0,
            a_row_stride: a.1,
            a_k_stride: 1,
            b: b.0,
            b_k_stride: b.1,
            tail: 0,
            partial: std::ptr::null(),
            partial_stride: 0,
            bias: std::ptr::null(),
            relu: false,
            c: c.0,
            c_stride: c.1,
        }
    }
}

/// Computes one tile of `MR` rows and `NV` vectors; `MASKED` if the last vector is not full.
///
/// Every element is one chain of multiply-adds in the order of k, whatever `MR` and `NV` are: how C is
/// cut into tiles does not change a bit.
///
/// # Safety
/// What `Simd` asks for, and every element that `tile` describes lies in its array.
#[inline(always)]
pub unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const MASKED: bool>(tile: &Tile<S::Elem>) {
    // SAFETY: all addresses are `base + row * stride + vector * LANES` of rows below MR, of steps below
    // k and of columns of the tile, where the last vector is masked down to `tail` columns.
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
        let (row_stride, a_step, b_step) = (tile.a_row_stride, tile.a_k_stride, tile.b_k_stride);
        // Every third row has a base of its own, so that each address is a base plus the stride times 0,
        // 1 or 2, which an instruction can add up.
        let mut a = [0, 3, 6].map(|row| tile.a.wrapping_add(row * row_stride));
        let mut b = tile.b;
        macro_rules! step {
            ($u:literal) => {
                let row = b.add($u * b_step);
                let ahead = b.wrapping_add((PREFETCH_STEPS + $u) * b_step);
                let mut columns = [S::zero(); NV];
                unroll!(J < NV, {
                    columns[J] = load!(row, J);
                    if J * S::LANES * size_of::<S::Elem>() % 64 == 0 {
                        prefetch(ahead.wrapping_add(J * S::LANES));
                    }
                });
                unroll!(I < MR, {
                    let x = S::splat(*a[I / 3].add(I % 3 * row_stride));
                    unroll!(J < NV, {
                        acc[I][J] = S::mul_add(x, columns[J], acc[I][J]);
                    });
                });
                a = a.map(|base| opaque(base.wrapping_add(a_step)));
            };
        }
        for _ in 0..tile.k / 4 {
            step!(0);
            step!(1);
            step!(2);
            step!(3);
            b = b.wrapping_add(4 * b_step);
        }
        for _ in 0..tile.k % 4 {
            step!(0);
            b = b.wrapping_add(b_step);
        }

        if !tile.partial.is_null() {
            unroll!(I < MR, {
                let row = tile.partial.add(I * tile.partial_stride);
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
