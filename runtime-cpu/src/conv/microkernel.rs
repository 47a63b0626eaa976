//! The register tile of a convolution: a few output pixels, some vectors of channels wide, summed over
//! the taps and channels in registers.

use crate::gemm::simd::{Simd, prefetch, unroll};

/// Rows of the tallest register tile.
pub const MAX_ROWS: usize = 6;

/// Steps of k between the row of the filters that is asked for and the one in use; as for products.
const PREFETCH_STEPS: usize = 24;

/// One tap that all rows of a tile have: how far it reads from where a row's first one does, and the filters' step of
/// k that belongs to its first channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedTap {
    pub offset: isize,
    pub step: usize,
}

/// Where the rows of a tile read with one tap.
#[derive(Clone, Copy, Debug)]
pub struct Tap<T> {
    /// The first channel, for each row.
    pub rows: [*const T; MAX_ROWS],
    /// The filters' step of k that belongs to that channel.
    pub step: usize,
}

/// One call of a microkernel: sums of a tile over some taps, and some channels of each.
#[derive(Clone, Copy, Debug)]
pub struct Sums<T> {
    pub taps: *const Tap<T>,
    /// For tiles whose rows have the same taps: those, from where `taps` says that the first one reads.
    pub shared: *const SharedTap,
    pub count: usize,
    /// The first of the channels, and how many.
    pub channel: usize,
    pub channels: usize,
    /// The filters' panel: one row as wide as the tile for each step of k.
    pub panel: *const T,
    /// Where each row's sums go, in rows of `ld` from `sums` on; as wide as the tile.
    pub to: [u8; MAX_ROWS],
    pub sums: *mut T,
    pub ld: usize,
    /// Whether the sums are added to what is there.
    pub add: bool,
}

/// Computes one tile of `MR` rows and `NV` vectors, whose rows have the same taps if `SHARED`.
///
/// Every element is one chain of multiply-adds in the order of taps and channels, whatever `MR` and `NV`
/// are; taps that a row has no pixel for add zeros.
///
/// # Safety
/// What `Simd` asks for, and every element that `job` describes lies in its array.
#[inline(always)]
pub unsafe fn sums<S: Simd, const MR: usize, const NV: usize, const SHARED: bool>(job: &Sums<S::Elem>) {
    macro_rules! rows {
        ($i:ident, $body:block) => {
            unroll!($i in [0, 1, 2, 3, 4, 5], {
                if $i < MR {
                    $body
                }
            })
        };
    }
    // SAFETY: channels below `channels` of each tap's rows, the filters' steps for them, and rows of the
    // sums that the tile has.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        let width = NV * S::LANES;
        for index in 0..job.count {
            // What follows a tile's last tap is most often the first one of the next tile.
            let following = if index + 1 < job.count { index + 1 } else { 0 };
            let tap = &*job.taps.add(if SHARED { 0 } else { index });
            let mut x = [tap.rows[0]; MR];
            let (step, next, mut offset);
            if SHARED {
                let shared = *job.shared.add(index);
                (step, next, offset) = (shared.step, (*job.shared.add(following)).step, shared.offset);
            } else {
                (step, next, offset) = (tap.step, (*job.taps.add(following)).step, 0);
            }
            offset += job.channel as isize;
            // Near the tap's end the filters of the following one are asked for.
            let ahead = PREFETCH_STEPS * width;
            let jump = next.wrapping_sub(step + job.channels).wrapping_mul(width).wrapping_add(ahead);
            rows!(I, {
                x[I] = tap.rows[I].wrapping_offset(offset);
            });
            let mut panel = job.panel.add((step + job.channel) * width);
            macro_rules! step {
                ($u:literal, $ahead:expr) => {
                    let row = panel.add($u * width);
                    let ahead = row.wrapping_add($ahead);
                    let mut columns = [S::zero(); NV];
                    unroll!(J < NV, {
                        columns[J] = S::load(row.add(J * S::LANES));
                        if J * S::LANES * size_of::<S::Elem>() % 64 == 0 {
                            prefetch(ahead.wrapping_add(J * S::LANES));
                        }
                    });
                    rows!(I, {
                        let pixel = S::splat(*x[I].add($u));
                        unroll!(J < NV, {
                            acc[I][J] = S::mul_add(pixel, columns[J], acc[I][J]);
                        });
                    });
                };
            }
            let quads = job.channels / 4;
            let near = quads.saturating_sub(PREFETCH_STEPS / 4);
            let mut distance = ahead;
            for quad in 0..quads {
                if quad == near {
                    distance = jump;
                }
                step!(0, distance);
                step!(1, distance);
                step!(2, distance);
                step!(3, distance);
                panel = panel.wrapping_add(4 * width);
                x = x.map(|row| row.wrapping_add(4));
            }
            for _ in 0..job.channels % 4 {
                step!(0, jump);
                panel = panel.wrapping_add(width);
                x = x.map(|row| row.wrapping_add(1));
            }
        }
        if job.add {
            rows!(I, {
                let row = job.sums.add(usize::from(job.to[I]) * job.ld);
                unroll!(J < NV, {
                    acc[I][J] = S::add(S::load(row.add(J * S::LANES)), acc[I][J]);
                });
            });
        }
        rows!(I, {
            let row = job.sums.add(usize::from(job.to[I]) * job.ld);
            unroll!(J < NV, {
                S::store(row.add(J * S::LANES), acc[I][J]);
            });
        });
    }
}
