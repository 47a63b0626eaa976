//! Results whose rows are pixels: the forward convolution, and the gradient of the input.

use std::ops::Range;

use super::Problem;
use super::lines::{Direction, Line};
use crate::conv_grad::Pixels;
use crate::gemm::simd::{Simd, opaque, unroll};
use crate::threshold::thresholds;
use crate::window::sweep::{Block, Body};

thresholds! {
    /// Kernel rows that one call sums; more are added by further calls.
    const MAX_ROWS: usize = 32, of Depthwise [Window];
}

/// Where a kernel row's sources and filters are, from the run's.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelRow {
    source: usize,
    filter: usize,
}

/// Some pixels, all with the same taps: `to[p][c]` is the sum over kernel rows and over the `taps` of each.
///
/// Steps are in elements, and may wrap around.
#[derive(Clone, Copy, Debug)]
pub struct Run<T> {
    rows: *const KernelRow,
    row_count: usize,
    pixels: usize,
    channels: usize,
    taps: usize,
    source: *const T,
    /// From one pixel to the next, and from one tap to the next.
    source_step: usize,
    source_tap_step: usize,
    filter: *const T,
    filter_step: usize,
    to: *mut T,
    to_step: usize,
    /// Whether the sums are added to what is in `to`.
    add: bool,
    /// Whether the first pixel lacks the first of 3 taps, and the last pixel the last. Only where pixels and taps
    /// advance alike.
    cut: (bool, bool),
}

/// Computes a run, 8 pixels at a time.
///
/// # Safety
/// What `Simd` asks for, and every element that the run describes lies in its array.
#[inline(always)]
pub unsafe fn run<S: Simd>(run: &Run<S::Elem>) {
    let full = run.channels / S::LANES * S::LANES;
    let tail = run.channels - full;
    // Neighbours share sources where pixels and taps advance alike.
    let shared = run.taps == 3 && run.source_tap_step == run.source_step;
    let mut pixel = 0;
    macro_rules! pixels {
        ($count:literal) => {
            // SAFETY: pixels of the run; whole vectors, and then the channels that are left.
            unsafe {
                if shared {
                    for channel in (0..full).step_by(S::LANES) {
                        group::<S, $count, true, false>(run, pixel, channel, S::LANES);
                    }
                } else {
                    for channel in (0..full).step_by(S::LANES) {
                        group::<S, $count, false, false>(run, pixel, channel, S::LANES);
                    }
                }
                if tail > 0 && shared {
                    group::<S, $count, true, true>(run, pixel, full, tail);
                } else if tail > 0 {
                    group::<S, $count, false, true>(run, pixel, full, tail);
                }
            }
        };
    }
    while pixel < run.pixels {
        let left = run.pixels - pixel;
        // The last two groups share what is left evenly.
        let count = if left > 8 && left < 16 { left.div_ceil(2) } else { left.min(8) };
        match count {
            1 => pixels!(1),
            2 => pixels!(2),
            3 => pixels!(3),
            4 => pixels!(4),
            5 => pixels!(5),
            6 => pixels!(6),
            7 => pixels!(7),
            _ => pixels!(8),
        }
        pixel += count;
    }
}

/// Sums a vector of channels of `P` pixels; `SHARED` if there are 3 taps, and the tap of a pixel has the
/// source of the next pixel's tap before.
///
/// # Safety
/// As [`run`]; the run has the pixels and the channels.
#[inline(always)]
#[allow(clippy::absurd_extreme_comparisons, reason = "indices of unrolled loops are constants")]
unsafe fn group<S: Simd, const P: usize, const SHARED: bool, const MASKED: bool>(
    run: &Run<S::Elem>,
    pixel: usize,
    channel: usize,
    lanes: usize,
) {
    // SAFETY: the caller's promise; addresses are of the group's pixels and of taps of the run, and the
    // vector is masked down to `lanes` channels.
    unsafe {
        let mask = S::mask(lanes);
        macro_rules! load {
            ($from:expr) => {
                if MASKED { S::load_masked($from, mask) } else { S::load($from) }
            };
        }
        let step = run.source_step;
        let source = run.source.wrapping_add(pixel * step + channel);
        let filter = run.filter.wrapping_add(channel);
        let cut = (run.cut.0 && pixel == 0, run.cut.1 && pixel + P == run.pixels);
        let mut acc = [S::zero(); 10];
        for row in 0..run.row_count {
            let row = *run.rows.add(row);
            let mut filter = filter.wrapping_add(row.filter);
            let source = source.wrapping_add(row.source);
            if SHARED {
                let mut weights = [S::zero(); 3];
                unroll!(T in [0, 1, 2], {
                    weights[T] = load!(filter.wrapping_add(run.filter_step.wrapping_mul(T)));
                });
                let bases = [0, 3, 6, 9].map(|first| opaque(source.wrapping_add(first * step)));
                unroll!(J in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], {
                    if J < P + 2 && !(J == 0 && cut.0 || J == P + 1 && cut.1) {
                        let x = load!(bases[J / 3].wrapping_add(J % 3 * step));
                        // Tap T of pixel J - T.
                        if J < P {
                            acc[J] = S::mul_add(x, weights[0], acc[J]);
                        }
                        if J > 0 && J <= P {
                            acc[J - 1] = S::mul_add(x, weights[1], acc[J - 1]);
                        }
                        if J > 1 {
                            acc[J - 2] = S::mul_add(x, weights[2], acc[J - 2]);
                        }
                    }
                });
                continue;
            }
            let mut bases = [0, 3, 6].map(|first| source.wrapping_add(first * step));
            for _ in 0..run.taps {
                let weights = load!(filter);
                unroll!(I < P, {
                    let x = load!(bases[I / 3].wrapping_add(I % 3 * step));
                    acc[I] = S::mul_add(x, weights, acc[I]);
                });
                bases = bases.map(|base| opaque(base.wrapping_add(run.source_tap_step)));
                filter = filter.wrapping_add(run.filter_step);
            }
        }
        let to = run.to.wrapping_add(pixel * run.to_step + channel);
        unroll!(I < P, {
            let to = to.wrapping_add(I * run.to_step);
            if run.add {
                acc[I] = S::add(load!(to.cast_const()), acc[I]);
            }
            if MASKED {
                S::store_masked(to, mask, acc[I]);
            } else {
                S::store(to, acc[I]);
            }
        });
    }
}

/// One convolution under way.
pub struct Rows<'a, T> {
    pub kernel: unsafe fn(&Run<T>),
    pub problem: &'a Problem,
    pub direction: Direction,
    pub from: *const T,
    pub w: *const T,
}

// SAFETY: threads read the operands, and write disjoint blocks.
unsafe impl<T: Sync> Sync for Rows<'_, T> {}

impl<T> Rows<'_, T> {
    fn pixels(&self) -> &Pixels {
        match self.direction {
            Direction::Forward => &self.problem.x,
            Direction::Backward => &self.problem.dy,
        }
    }
}

impl<T: Copy + Sync> Body<T> for Rows<'_, T> {
    unsafe fn block(&self, block: &Block, to: *mut T, ld: usize) {
        let geometry = &self.problem.geometry;
        let tap_stride = self.problem.tap_stride;
        let Pixels { image_stride, strides } = *self.pixels();
        let [depth, height] = [block.depth, block.height];
        let lines = [self.direction.line(geometry, 0, depth), self.direction.line(geometry, 1, height)];
        let (depths, heights) = (lines[0].valid(0), lines[1].valid(0));
        let row_count = depths.len() * heights.len();
        let source = self.from.wrapping_add(block.image * image_stride + block.channel0);
        let filter = self.w.wrapping_add(block.channel0);
        let mut rows = [KernelRow::default(); MAX_ROWS];
        let phases = self.direction.phases(geometry, 2);
        let advance = self.direction.advance(geometry, 2);

        // Without any row there is one call still: it makes the sums zero.
        for first in (0..row_count.max(1)).step_by(MAX_ROWS) {
            let count = MAX_ROWS.min(row_count - first);
            let (mut plane, mut line) = (first / heights.len().max(1), first % heights.len().max(1));
            for row in &mut rows[..count] {
                let (depth, tap_plane) = lines[0].term(depths.start + plane);
                let (height, tap_line) = lines[1].term(heights.start + line);
                *row = KernelRow {
                    source: depth * strides[0] + height * strides[1],
                    filter: (tap_plane * geometry.kernel[1] + tap_line) * geometry.kernel[2] * tap_stride,
                };
                line += 1;
                if line == heights.len() {
                    (plane, line) = (plane + 1, 0);
                }
            }
            // Pixels of one phase are `phases` apart, and have the same taps.
            for phase in 0..phases.min(block.columns.len()) {
                let column = block.columns.start + phase;
                let line = self.direction.line(geometry, 2, column);
                let pixels = (block.columns.len() - phase).div_ceil(phases);
                let call = Run {
                    rows: rows.as_ptr(),
                    row_count: count,
                    pixels: 0,
                    channels: block.channels,
                    taps: 0,
                    source,
                    source_step: advance * strides[2],
                    source_tap_step: line.source_step * strides[2],
                    filter,
                    filter_step: line.tap_step.unsigned_abs().wrapping_mul(tap_stride),
                    to: to.wrapping_add(phase * ld),
                    to_step: phases * ld,
                    add: first > 0,
                    cut: (false, false),
                };
                let call = match line.tap_step {
                    ..0 => Run { filter_step: call.filter_step.wrapping_neg(), ..call },
                    _ => call,
                };
                let interior = line.interior(advance, pixels);
                let mut whole = interior.clone();
                let mut call = call;
                // The neighbours lack one tap each.
                if line.terms == 3 && line.source_step == advance && !interior.is_empty() {
                    call.cut = (interior.start > 0, interior.end < pixels);
                    whole = interior.start - usize::from(call.cut.0)..interior.end + usize::from(call.cut.1);
                }
                for pixel in (0..whole.start).chain(whole.end..pixels) {
                    let terms = line.valid(pixel * advance);
                    // SAFETY: the caller's promise.
                    unsafe {
                        self.call(
                            &Run { cut: (false, false), ..call },
                            &line,
                            terms,
                            pixel * advance,
                            pixel,
                            1,
                        )
                    };
                }
                if !whole.is_empty() {
                    let moved = whole.start * advance;
                    // SAFETY: the caller's promise.
                    unsafe { self.call(&call, &line, 0..line.terms, moved, whole.start, whole.len()) };
                }
            }
        }
    }
}

impl<T: Copy> Rows<'_, T> {
    /// Computes `pixels` pixels of a phase from `first` on, which has these terms of the line, moved by
    /// `moved` source positions.
    ///
    /// # Safety
    /// As [`Body::block`]; all the pixels have these terms, but for those that the run leaves out.
    unsafe fn call(
        &self,
        run: &Run<T>,
        line: &Line,
        terms: Range<usize>,
        moved: usize,
        first: usize,
        pixels: usize,
    ) {
        let mut run = Run { pixels, taps: terms.len(), to: run.to.wrapping_add(first * run.to_step), ..*run };
        if terms.is_empty() {
            run.row_count = 0;
        } else {
            let (position, tap) = line.place(terms.start, moved);
            let offset = position.wrapping_mul(self.pixels().strides[2] as isize);
            run.source = run.source.wrapping_offset(offset);
            run.filter = run.filter.wrapping_add(tap * self.problem.tap_stride);
        }
        // SAFETY: the terms exist, and so do all their sources and filters.
        unsafe { (self.kernel)(&run) }
    }
}
