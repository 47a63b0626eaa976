//! Products of a few vectors with a matrix that is read once, where it lies.

use super::simd::{Simd, unroll};

/// Up to [`MAX_VECTORS`] vectors `x` times a matrix: `y[i][j] = sum over k of x[i][k] * matrix[k][j]`.
///
/// Strides are in elements. A kernel says whether `matrix_stride` is the distance of two k or of two j;
/// along the other the matrix is contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Gemv<T> {
    pub k: usize,
    pub columns: usize,
    pub x: *const T,
    pub x_stride: usize,
    pub x_k_stride: usize,
    pub matrix: *const T,
    pub matrix_stride: usize,
    /// Rows hold `columns` elements, rounded up to whole vectors.
    pub y: *mut T,
    pub y_stride: usize,
}

use crate::threshold::thresholds;

thresholds! {
    /// The largest number of vectors that a kernel takes.
    pub const MAX_VECTORS: usize = 4, of Dot [Rows];
    /// Rows of the matrix that are added up in one pass over `y`.
    const ROWS: usize = 4, of Dot [Depth];
}

/// For a matrix whose rows, of one k each, are contiguous: adds rows to `y`, which stays in L1.
///
/// # Safety
/// What `Simd` asks for, and every element that `gemv` describes lies in its array.
#[inline(always)]
pub unsafe fn add_rows<S: Simd, const V: usize>(gemv: &Gemv<S::Elem>) {
    let full = gemv.columns / S::LANES * S::LANES;
    let mut k = 0;
    // SAFETY: rows below k and vectors below V; matrix columns below `columns`, the last vector of them
    // masked; columns of `y` below `columns` rounded up.
    unsafe {
        if gemv.k == 0 {
            for i in 0..V {
                for j in (0..gemv.columns).step_by(S::LANES) {
                    S::store(gemv.y.add(i * gemv.y_stride + j), S::zero());
                }
            }
        }
        let mask = S::mask(if full < gemv.columns { gemv.columns - full } else { S::LANES });
        while k < gemv.k {
            let rows = ROWS.min(gemv.k - k);
            let mut x = [[S::zero(); ROWS]; V];
            unroll!(I < V, {
                unroll!(R in [0, 1, 2, 3], {
                    if R < rows {
                        x[I][R] = S::splat(*gemv.x.add(I * gemv.x_stride + (k + R) * gemv.x_k_stride));
                    }
                });
            });
            let matrix = gemv.matrix.add(k * gemv.matrix_stride);
            macro_rules! column {
                ($j:expr, $rows:expr, $load:expr) => {
                    let mut acc = [S::zero(); V];
                    if k > 0 {
                        unroll!(I < V, {
                            acc[I] = S::load(gemv.y.add(I * gemv.y_stride + $j));
                        });
                    }
                    unroll!(R in [0, 1, 2, 3], {
                        if R < $rows {
                            let row = $load(matrix.add(R * gemv.matrix_stride + $j));
                            unroll!(I < V, {
                                acc[I] = S::mul_add(x[I][R], row, acc[I]);
                            });
                        }
                    });
                    unroll!(I < V, {
                        S::store(gemv.y.add(I * gemv.y_stride + $j), acc[I]);
                    });
                };
            }
            if rows == ROWS {
                for j in (0..full).step_by(S::LANES) {
                    column!(j, ROWS, S::load);
                }
            } else {
                for j in (0..full).step_by(S::LANES) {
                    column!(j, rows, S::load);
                }
            }
            if full < gemv.columns {
                column!(full, rows, |from| S::load_masked(from, mask));
            }
            k += rows;
        }
    }
}

/// For a matrix whose columns, of one j each, are contiguous along k: dot products, a few columns at a
/// time. The vectors must be contiguous along k too (`x_k_stride` is taken as 1).
///
/// Lane `l` sums the products of `k % LANES == l`, so the order depends on the instruction set alone.
///
/// # Safety
/// What `Simd` asks for, and every element that `gemv` describes lies in its array.
#[inline(always)]
pub unsafe fn dot_columns<S: Simd, const V: usize>(gemv: &Gemv<S::Elem>) {
    // As many accumulators as the register tile has, at most.
    let columns = if S::ROWS * S::VECTORS < 4 * V { 3 } else { 4 };
    let mut j = 0;
    // SAFETY: columns below `columns`.
    unsafe {
        while j + columns <= gemv.columns {
            if columns == 4 {
                dots::<S, V, 4>(gemv, j)
            } else {
                dots::<S, V, 3>(gemv, j)
            }
            j += columns;
        }
        while j < gemv.columns {
            dots::<S, V, 1>(gemv, j);
            j += 1;
        }
    }
}

/// The dot products of all vectors with `COLUMNS` columns from `first` on.
///
/// # Safety
/// As for [`dot_columns`].
#[inline(always)]
unsafe fn dots<S: Simd, const V: usize, const COLUMNS: usize>(gemv: &Gemv<S::Elem>, first: usize) {
    let full = gemv.k / S::LANES * S::LANES;
    // SAFETY: vectors below V and steps below k, the last ones masked.
    unsafe {
        let column = gemv.matrix.add(first * gemv.matrix_stride);
        let mut acc = [[S::zero(); COLUMNS]; V];
        macro_rules! step {
            ($k:expr, $load:expr) => {
                let mut x = [S::zero(); V];
                unroll!(I < V, {
                    x[I] = $load(gemv.x.add(I * gemv.x_stride + $k));
                });
                unroll!(J < COLUMNS, {
                    let y = $load(column.add(J * gemv.matrix_stride + $k));
                    unroll!(I < V, {
                        acc[I][J] = S::mul_add(x[I], y, acc[I][J]);
                    });
                });
            };
        }
        for k in (0..full).step_by(S::LANES) {
            step!(k, S::load);
        }
        if full < gemv.k {
            let mask = S::mask(gemv.k - full);
            step!(full, |from| S::load_masked(from, mask));
        }
        unroll!(I < V, {
            unroll!(J < COLUMNS, {
                *gemv.y.add(I * gemv.y_stride + first + J) = S::sum(acc[I][J]);
            });
        });
    }
}
