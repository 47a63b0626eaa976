//! The gradient of depthwise filters: sums over output pixels, some taps of a kernel row at a time.
//!
//! Pixels that meet no padding along a row are summed for all taps of the kernel row together, so that a
//! vector of the input serves several taps; the others are summed tap by tap.

use std::ops::Range;

use super::{Element, Problem};
use crate::Geometry;
use crate::KernelError;
use crate::gemm::simd::{Simd, unroll};
use crate::gemm::{self, BLOCK_ROWS, Epilogue, Sink, TileCtx, block_columns, finish_block};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};
use crate::threshold::thresholds;

/// Taps that one kernel sums; the longest that fit are taken first.
const TAPS: [usize; 4] = [1, 3, 5, 7];

thresholds! {
    /// Rows of pixels of one call at most.
    const MAX_SEGMENTS: usize = 32, of Depthwise [Images];
    /// Output pixels after which the kernel rows take turns, so that the first cache holds their input.
    const BLOCK_PIXELS: usize = 64, of Depthwise [Width];
    /// Multiply-adds below which waking other threads does not pay.
    const SERIAL_BELOW: usize = 1 << 17, of Depthwise [Rows, Columns];
}

/// A row of output pixels whose taps are all inside the input.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Of the first pixel and the first tap, from the strip's.
    x: usize,
    dy: usize,
    pixels: usize,
}

/// Some taps and channels, and the segments that they sum over: added to `sums`.
#[derive(Clone, Copy, Debug)]
pub struct Strip<T> {
    segments: *const Segment,
    count: usize,
    channels: usize,
    x: *const T,
    /// From one pixel to the next, and from one tap to the next.
    x_step: usize,
    x_tap_step: usize,
    dy: *const T,
    dy_step: usize,
    sums: *mut T,
    /// From one tap to the next.
    sums_step: usize,
}

/// Sums `TAPS` taps, `VECTORS` vectors of channels at a time.
///
/// Every sum is one chain in the order of the pixels, added to the sum that is there.
///
/// # Safety
/// What `Simd` asks for, and every element that the strip describes lies in its array.
#[inline(always)]
pub unsafe fn strip<S: Simd, const TAPS: usize, const VECTORS: usize>(strip: &Strip<S::Elem>) {
    let mut channel = 0;
    // SAFETY: channels of the strip, the last ones masked.
    unsafe {
        while strip.channels - channel >= VECTORS * S::LANES {
            vectors::<S, TAPS, VECTORS, false>(strip, channel, S::LANES);
            channel += VECTORS * S::LANES;
        }
        while channel < strip.channels {
            let lanes = S::LANES.min(strip.channels - channel);
            vectors::<S, TAPS, 1, true>(strip, channel, lanes);
            channel += lanes;
        }
    }
}

/// # Safety
/// As [`strip`]; `lanes` channels of the last vector are the strip's.
#[inline(always)]
unsafe fn vectors<S: Simd, const TAPS: usize, const VECTORS: usize, const MASKED: bool>(
    strip: &Strip<S::Elem>,
    channel: usize,
    lanes: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = S::mask(lanes);
        macro_rules! load {
            ($from:expr) => {
                if MASKED { S::load_masked($from, mask) } else { S::load($from) }
            };
        }
        let (x_step, tap_step, dy_step) = (strip.x_step, strip.x_tap_step, strip.dy_step);
        let mut acc = [[S::zero(); VECTORS]; TAPS];
        let mut segment = strip.segments;
        let mut left = strip.count;
        let (mut x, mut dy, mut pixels) = (strip.x, strip.dy, 0);
        // One loop over all pixels: see the filter gradients of dense convolutions.
        loop {
            if pixels == 0 {
                if left == 0 {
                    break;
                }
                x = strip.x.wrapping_add((*segment).x + channel);
                dy = strip.dy.wrapping_add((*segment).dy + channel);
                pixels = (*segment).pixels;
                segment = segment.add(1);
                left -= 1;
            }
            // Neighbours share inputs: 4 pixels read 3 more vectors than they have taps.
            if x_step == tap_step && pixels >= 4 {
                unroll!(J < VECTORS, {
                    let x = x.wrapping_add(J * S::LANES);
                    let dy = dy.wrapping_add(J * S::LANES);
                    let mut inputs = [S::zero(); 15];
                    unroll!(I in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], {
                        if I < TAPS + 3 {
                            inputs[I] = load!(x.wrapping_add(I * x_step));
                        }
                    });
                    unroll!(P < 4, {
                        let dy = load!(dy.wrapping_add(P * dy_step));
                        unroll!(I < TAPS, {
                            acc[I][J] = S::mul_add(inputs[P + I], dy, acc[I][J]);
                        });
                    });
                });
                x = x.wrapping_add(4 * x_step);
                dy = dy.wrapping_add(4 * dy_step);
                pixels -= 4;
            } else {
                unroll!(J < VECTORS, {
                    let dy = load!(dy.wrapping_add(J * S::LANES));
                    unroll!(I < TAPS, {
                        let x = load!(x.wrapping_add(I * tap_step + J * S::LANES));
                        acc[I][J] = S::mul_add(x, dy, acc[I][J]);
                    });
                });
                x = x.wrapping_add(x_step);
                dy = dy.wrapping_add(dy_step);
                pixels -= 1;
            }
        }
        unroll!(I < TAPS, {
            unroll!(J < VECTORS, {
                let sums = strip.sums.wrapping_add(I * strip.sums_step + J * S::LANES + channel);
                let sum = S::add(load!(sums.cast_const()), acc[I][J]);
                if MASKED {
                    S::store_masked(sums, mask, sum);
                } else {
                    S::store(sums, sum);
                }
            });
        });
    }
}

/// How the result is cut: strips of channels, and groups of kernel rows.
struct Plan {
    columns: usize,
    strips: usize,
    kernel_rows: usize,
    groups: usize,
    parts: usize,
    /// Elements of the sums of one part.
    each: usize,
}

fn plan<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> Plan {
    let Problem { geometry, images, channels, .. } = *problem;
    let columns = block_columns::<T>(isa);
    let strips = channels.div_ceil(columns);
    let kernel_rows = geometry.kernel[0].saturating_mul(geometry.kernel[1]);
    let [depth, height, width] = geometry.output;
    let work = [geometry.taps(), images, depth, height, width, channels];
    let work = work.into_iter().fold(1, usize::saturating_mul);
    let threads = threads.min((work / SERIAL_BELOW).max(1));
    // A group for each thread that has no strip of its own.
    let groups = threads.div_ceil(strips.max(1)).min(kernel_rows).max(1);
    let parts = threads.min(strips.saturating_mul(groups)).max(1);
    let rows = kernel_rows.div_ceil(groups).saturating_mul(geometry.kernel[2]);
    Plan { columns, strips, kernel_rows, groups, parts, each: rows.saturating_mul(columns) }
}

/// The bytes of scratch that [`super::filter_grad`] needs with a pool of `threads` threads.
pub fn filter_grad_scratch_bytes<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> usize {
    scratch::<T>(&plan::<T>(isa, problem, threads))
}

fn scratch<T>(plan: &Plan) -> usize {
    plan.each.saturating_mul(plan.parts).saturating_mul(size_of::<T>()).saturating_add(ALIGNMENT)
}

/// One gradient under way.
struct Filter<'a, T: Element> {
    kernels: [unsafe fn(&Strip<T>); 4],
    problem: &'a Problem,
    plan: &'a Plan,
    x: *const T,
    dy: *const T,
    sink: Sink<'a, T>,
    /// What runs epilogues on blocks.
    epilogues: &'static gemm::Kernels<T>,
    scratch: *mut T,
}

// SAFETY: threads read the operands, and write disjoint parts of the result and of the scratch.
unsafe impl<T: Element> Sync for Filter<'_, T> {}

/// See [`super::filter_grad`].
///
/// # Safety
/// As for [`super::filter_grad`].
pub unsafe fn filter_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    dy: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    if problem.channels == 0 || problem.geometry.taps() == 0 {
        return Ok(());
    }
    let plan = plan::<T>(isa, problem, pool.threads());
    let needed = self::scratch::<T>(&plan);
    KernelError::check_scratch("a depthwise filter gradient", needed, scratch.len())?;
    let scratch = scratch.as_mut_ptr();
    let filter = Filter {
        kernels: T::depthwise_kernels(isa).filters,
        problem,
        plan: &plan,
        x,
        dy,
        sink: Sink::new(epilogue),
        epilogues: T::kernels(isa),
        scratch: scratch.wrapping_add(scratch.align_offset(ALIGNMENT)).cast(),
    };
    pool.run(plan.parts, &|part| {
        for unit in share(plan.strips * plan.groups, plan.parts, part) {
            let kernel_rows = share(plan.kernel_rows, plan.groups, unit % plan.groups);
            // SAFETY: the caller's promise; units are disjoint.
            unsafe { filter.unit(unit / plan.groups, kernel_rows, part) };
        }
    })?;
    Ok(())
}

/// Which taps of a kernel row, over which output columns.
struct Taps {
    first: usize,
    count: usize,
    columns: Range<usize>,
}

impl<T: Element> Filter<'_, T> {
    /// Computes some kernel rows of a strip of channels.
    ///
    /// # Safety
    /// As for [`super::filter_grad`]; no other thread computes the same unit.
    unsafe fn unit(&self, strip: usize, kernel_rows: Range<usize>, part: usize) {
        let geometry = &self.problem.geometry;
        let columns = self.plan.columns;
        let channel0 = strip * columns;
        let channels = columns.min(self.problem.channels - channel0);
        let sums = self.scratch.wrapping_add(part * self.plan.each);
        let width = geometry.kernel[2];
        for element in 0..kernel_rows.len() * width * columns {
            // SAFETY: the part's scratch has room for all sums of a unit.
            unsafe { *sums.add(element) = T::default() };
        }
        let all = [self.problem.images, geometry.output[0], geometry.output[1]];
        let lines = all.into_iter().product::<usize>();
        // Columns where every tap is inside the input; none if the kernel is larger than that.
        let valid = |tap| valid(geometry, tap);
        let (start, end) = (valid(0).start, valid(width - 1).end);
        let interior = start..end.max(start);
        let block = (BLOCK_PIXELS / geometry.output[2].max(1)).clamp(1, MAX_SEGMENTS);
        for first in (0..lines).step_by(block) {
            let lines = first..(first + block).min(lines);
            for kernel_row in kernel_rows.clone() {
                let row_sums = sums.wrapping_add((kernel_row - kernel_rows.start) * width * columns);
                let mut tap = 0;
                while tap < width {
                    let index = TAPS.iter().rposition(|&taps| taps <= width - tap).unwrap_or(0);
                    let taps = Taps { first: tap, count: index, columns: interior.clone() };
                    // SAFETY: the taps are inside the input for these columns.
                    unsafe { self.sum(&taps, kernel_row, lines.clone(), (channel0, channels), row_sums) };
                    tap += TAPS[index];
                }
            }
        }
        for first in (0..lines).step_by(MAX_SEGMENTS / 2) {
            let lines = first..(first + MAX_SEGMENTS / 2).min(lines);
            for kernel_row in kernel_rows.clone() {
                let row_sums = sums.wrapping_add((kernel_row - kernel_rows.start) * width * columns);
                for tap in 0..width {
                    let columns = valid(tap);
                    let left = columns.start..columns.end.min(interior.start);
                    let right = columns.start.max(interior.end)..columns.end;
                    for columns in [left, right] {
                        let taps = Taps { first: tap, count: 0, columns };
                        // SAFETY: the tap is inside the input for these columns.
                        unsafe { self.sum(&taps, kernel_row, lines.clone(), (channel0, channels), row_sums) };
                    }
                }
            }
        }
        let row0 = kernel_rows.start * width;
        // SAFETY: the rows and channels of the unit.
        unsafe { self.finish(row0, kernel_rows.len() * width, (channel0, channels), sums, part) };
    }

    /// Adds the sums of some taps of a kernel row over some rows of pixels. `taps.count` is an index of
    /// [`TAPS`].
    ///
    /// # Safety
    /// As [`Filter::unit`]; the taps are inside the input for the columns.
    unsafe fn sum(
        &self,
        taps: &Taps,
        kernel_row: usize,
        lines: Range<usize>,
        (channel0, channels): (usize, usize),
        sums: *mut T,
    ) {
        if taps.columns.is_empty() {
            return;
        }
        let Problem { geometry, x, dy, .. } = self.problem;
        let (kernel_plane, kernel_line) = (kernel_row / geometry.kernel[1], kernel_row % geometry.kernel[1]);
        let [depth, height, _] = geometry.output;
        let mut segments = [Segment::default(); MAX_SEGMENTS];
        let mut count = 0;
        let start = taps.columns.start;
        let column = start * geometry.stride[2] + taps.first * geometry.dilation[2] - geometry.pad[2];
        for line in lines {
            let (row, plane, image) = (line % height, line / height % depth, line / height / depth);
            let inside = |dim: usize, output: usize, tap: usize| {
                let position = output * geometry.stride[dim] + tap * geometry.dilation[dim];
                position.checked_sub(geometry.pad[dim]).filter(|&position| position < geometry.input[dim])
            };
            let (Some(x_plane), Some(x_row)) = (inside(0, plane, kernel_plane), inside(1, row, kernel_line))
            else {
                continue;
            };
            let x_row = x_plane * x.strides[0] + x_row * x.strides[1];
            let dy_row = plane * dy.strides[0] + row * dy.strides[1];
            segments[count] = Segment {
                x: image * x.image_stride + x_row + column * x.strides[2],
                dy: image * dy.image_stride + dy_row + start * dy.strides[2],
                pixels: taps.columns.len(),
            };
            count += 1;
        }
        if count == 0 {
            return;
        }
        let strip = Strip {
            segments: segments.as_ptr(),
            count,
            channels,
            x: self.x.wrapping_add(channel0),
            x_step: geometry.stride[2] * x.strides[2],
            x_tap_step: geometry.dilation[2] * x.strides[2],
            dy: self.dy.wrapping_add(channel0),
            dy_step: dy.strides[2],
            sums: sums.wrapping_add(taps.first * self.plan.columns),
            sums_step: self.plan.columns,
        };
        // SAFETY: the segments' pixels exist, with all taps; sums are the part's own.
        unsafe { self.kernels[taps.count](&strip) }
    }

    /// # Safety
    /// The rows and channels are the result's, and their sums are in `sums`.
    unsafe fn finish(
        &self,
        row0: usize,
        rows: usize,
        (col0, cols): (usize, usize),
        sums: *mut T,
        thread: usize,
    ) {
        let ld = self.plan.columns;
        for row in (0..rows).step_by(BLOCK_ROWS) {
            let (acc, rows) = (sums.wrapping_add(row * ld), BLOCK_ROWS.min(rows - row));
            let block = TileCtx { thread, batch: 0, unit: 0, row0: row0 + row, rows, col0, cols, acc, ld };
            // SAFETY: the caller's promise.
            unsafe { finish_block(self.epilogues, &self.sink, &block) };
        }
    }
}

/// The output columns whose tap is inside the input.
fn valid(geometry: &Geometry, tap: usize) -> Range<usize> {
    let offset = tap * geometry.dilation[2];
    let (stride, pad, output) = (geometry.stride[2], geometry.pad[2], geometry.output[2]);
    let start = pad.saturating_sub(offset).div_ceil(stride).min(output);
    let end = (geometry.input[2] + pad).saturating_sub(offset).div_ceil(stride).min(output);
    start..end.max(start)
}
