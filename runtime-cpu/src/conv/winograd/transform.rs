//! The transforms of windows, of filters and of sums, for a vector of channels at a time.
//!
//! Values of a window or filter are numbered row by row; the matrix of each value is `matrix_stride` after
//! the one before.

use crate::conv::kernels::HasKernels;
use crate::gemm::simd::{Simd, unroll};

/// The window of one tile to transform.
#[derive(Clone, Copy, Debug)]
pub struct Window<T> {
    /// The first channel of each of 4 x 4 pixels.
    pub pixels: [*const T; 16],
    pub channels: usize,
    /// A row of the first matrix; it has room for the channels, rounded up to whole vectors.
    pub to: *mut T,
    pub matrix_stride: usize,
}

/// The sums of one tile to transform back.
#[derive(Clone, Copy, Debug)]
pub struct TileSums<T> {
    /// A row of the first matrix.
    pub from: *const T,
    pub matrix_stride: usize,
    /// How many vectors of channels.
    pub vectors: usize,
    /// The 2 x 2 pixels.
    pub to: [*mut T; 4],
}

/// Filters of some channels to transform.
#[derive(Clone, Copy, Debug)]
pub struct Filters<T> {
    /// The first tap of all channels; taps follow each other by `tap_stride`, which may be negative.
    pub from: *const T,
    pub tap_stride: isize,
    /// How many vectors of channels.
    pub vectors: usize,
    pub to: *mut T,
    pub matrix_stride: usize,
}

/// `transpose(B) d B` for each channel of a window `d`.
///
/// # Safety
/// What `Simd` asks for, and every element that `job` describes lies in its array.
#[inline(always)]
pub unsafe fn window<S: Simd<Elem: HasKernels>>(job: &Window<S::Elem>) {
    // SAFETY: channels of each pixel, the last ones masked, and rows of the matrices.
    unsafe {
        let minus = S::splat(S::Elem::MINUS_ONE);
        let whole = job.channels / S::LANES * S::LANES;
        macro_rules! vector {
            ($channel:expr, $load:expr) => {
                let mut t = [[S::zero(); 4]; 4];
                unroll!(J in [0, 1, 2, 3], {
                    let d0 = $load(job.pixels[J].add($channel));
                    let d1 = $load(job.pixels[4 + J].add($channel));
                    let d2 = $load(job.pixels[8 + J].add($channel));
                    let d3 = $load(job.pixels[12 + J].add($channel));
                    t[0][J] = S::mul_add(d2, minus, d0);
                    t[1][J] = S::add(d1, d2);
                    t[2][J] = S::mul_add(d1, minus, d2);
                    t[3][J] = S::mul_add(d3, minus, d1);
                });
                unroll!(I in [0, 1, 2, 3], {
                    let to = job.to.add(4 * I * job.matrix_stride + $channel);
                    S::store(to, S::mul_add(t[I][2], minus, t[I][0]));
                    S::store(to.add(job.matrix_stride), S::add(t[I][1], t[I][2]));
                    S::store(to.add(2 * job.matrix_stride), S::mul_add(t[I][1], minus, t[I][2]));
                    S::store(to.add(3 * job.matrix_stride), S::mul_add(t[I][3], minus, t[I][1]));
                });
            };
        }
        for channel in (0..whole).step_by(S::LANES) {
            vector!(channel, S::load);
        }
        if whole < job.channels {
            let mask = S::mask(job.channels - whole);
            vector!(whole, |from| S::load_masked(from, mask));
        }
    }
}

/// `transpose(A) m A` for each channel of the sums `m`.
///
/// # Safety
/// As for [`window`].
#[inline(always)]
pub unsafe fn tile<S: Simd<Elem: HasKernels>>(job: &TileSums<S::Elem>) {
    // SAFETY: vectors of the matrices' rows, and of the pixels.
    unsafe {
        let minus = S::splat(S::Elem::MINUS_ONE);
        for channel in (0..job.vectors * S::LANES).step_by(S::LANES) {
            let mut t = [[S::zero(); 4]; 2];
            unroll!(J in [0, 1, 2, 3], {
                let from = job.from.add(J * job.matrix_stride + channel);
                let m0 = S::load(from);
                let m1 = S::load(from.add(4 * job.matrix_stride));
                let m2 = S::load(from.add(8 * job.matrix_stride));
                let m3 = S::load(from.add(12 * job.matrix_stride));
                t[0][J] = S::add(S::add(m0, m1), m2);
                t[1][J] = S::mul_add(m3, minus, S::mul_add(m2, minus, m1));
            });
            unroll!(I in [0, 1], {
                let [t0, t1, t2, t3] = t[I];
                S::store(job.to[2 * I].add(channel), S::add(S::add(t0, t1), t2));
                let odd = S::mul_add(t3, minus, S::mul_add(t2, minus, t1));
                S::store(job.to[2 * I + 1].add(channel), odd);
            });
        }
    }
}

/// `G g transpose(G)` for each filter `g`.
///
/// # Safety
/// As for [`window`].
#[inline(always)]
pub unsafe fn filters<S: Simd<Elem: HasKernels>>(job: &Filters<S::Elem>) {
    // SAFETY: vectors of the taps, and of the matrices' rows.
    unsafe {
        let minus = S::splat(S::Elem::MINUS_ONE);
        let half = S::splat(S::Elem::HALF);
        macro_rules! column {
            ($g0:expr, $g1:expr, $g2:expr) => {{
                let (g0, g1, g2) = ($g0, $g1, $g2);
                let outer = S::add(g0, g2);
                let sum = S::mul_add(S::add(outer, g1), half, S::zero());
                let difference = S::mul_add(S::mul_add(g1, minus, outer), half, S::zero());
                [g0, sum, difference, g2]
            }};
        }
        for channel in (0..job.vectors * S::LANES).step_by(S::LANES) {
            let tap = |index: isize| S::load(job.from.offset(index * job.tap_stride).add(channel));
            let columns = [
                column!(tap(0), tap(3), tap(6)),
                column!(tap(1), tap(4), tap(7)),
                column!(tap(2), tap(5), tap(8)),
            ];
            unroll!(I in [0, 1, 2, 3], {
                let row = column!(columns[0][I], columns[1][I], columns[2][I]);
                unroll!(J in [0, 1, 2, 3], {
                    S::store(job.to.add((4 * I + J) * job.matrix_stride + channel), row[J]);
                });
            });
        }
    }
}
