//! The loops over a block of result pixels: vectors over channels, and all positions of a window inside.

use std::marker::PhantomData;
use std::ops::{Add, Div, Mul};

use super::sweep::{Block, Body};
use super::{Divisor, Images, Problem};
use crate::Geometry;
use crate::conv_grad::Pixels;
use crate::isa::Isa;
use crate::tile::kernel::{Kernel, TileFn, compiled};

/// Real numbers, and integers as wide, so that both fill the same vectors.
pub trait Real:
    Copy + Default + PartialOrd + Add<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Send + Sync
{
    type Index: Copy + PartialEq;
    const LOWEST: Self;
    fn is_nan(self) -> bool;
    fn from_count(count: usize) -> Self;
    fn index(index: usize) -> Self::Index;
    fn to_i32(index: Self::Index) -> i32;
    fn from_i32(index: i32) -> Self::Index;
}

macro_rules! real {
    ($t:ty, $index:ty) => {
        impl Real for $t {
            type Index = $index;
            const LOWEST: $t = <$t>::NEG_INFINITY;

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            #[inline(always)]
            fn from_count(count: usize) -> $t {
                count as $t
            }

            #[inline(always)]
            fn index(index: usize) -> $index {
                index as $index
            }

            #[inline(always)]
            fn to_i32(index: $index) -> i32 {
                index as i32
            }

            #[inline(always)]
            fn from_i32(index: i32) -> $index {
                <$index>::from(index)
            }
        }
    };
}
real!(f32, i32);
real!(f64, i64);

/// The arguments of every kernel of this file: operands at their first image and channel.
#[derive(Clone, Copy, Debug)]
pub struct Call<T> {
    pub geometry: Geometry,
    pub channels: usize,
    pub images: Images<T>,
    pub winner: Images<i32>,
    /// Dense.
    pub winner_to: *mut i32,
    pub divisor: Divisor,
}

impl<T> Call<T> {
    /// Without operands.
    pub fn new(problem: &Problem) -> Call<T> {
        let pixels = Pixels { image_stride: 0, strides: [0; 3] };
        Call {
            geometry: problem.geometry,
            channels: problem.channels,
            images: Images { data: std::ptr::null(), pixels },
            winner: Images { data: std::ptr::null(), pixels },
            winner_to: std::ptr::null_mut(),
            divisor: Divisor::Elements,
        }
    }
}

/// One block of a call.
pub struct Args<T> {
    call: Call<T>,
    block: Block,
    to: *mut T,
    ld: usize,
}

/// What one pixel's channels are.
pub trait Pixel<T: Real>: 'static {
    /// Computes `W` channels, from `channel` of the block on, of the pixel at `width`.
    ///
    /// # Safety
    /// The block has the pixel and the channels.
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize);
}

/// The kernel that computes all pixels of a block.
struct Each<T, P>(PhantomData<fn() -> (T, P)>);

impl<T: Real, P: Pixel<T>> Kernel for Each<T, P> {
    type Args = Args<T>;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &Args<T>) {
        for width in args.block.columns.clone() {
            // SAFETY: the caller's promise; vectors are not wider than the block.
            unsafe {
                match args.block.channels {
                    32.. => vectors::<T, P, 32>(args, width),
                    8.. => vectors::<T, P, 8>(args, width),
                    _ => vectors::<T, P, 1>(args, width),
                }
            }
        }
    }
}

/// Computes a pixel by vectors of `W` channels. The last one may overlap the one before: what a pixel is
/// depends on the operands alone.
///
/// # Safety
/// As [`Pixel::pixel`]; the block has `W` channels at least.
#[inline(always)]
unsafe fn vectors<T: Real, P: Pixel<T>, const W: usize>(args: &Args<T>, width: usize) {
    let channels = args.block.channels;
    // SAFETY: the caller's promise.
    unsafe {
        for channel in (0..channels / W * W).step_by(W) {
            P::pixel::<W>(args, width, channel);
        }
        if !channels.is_multiple_of(W) {
            P::pixel::<W>(args, width, channels - W);
        }
    }
}

/// A kernel, compiled, with its operands.
pub struct Pooled<T> {
    call: Call<T>,
    function: TileFn<Args<T>>,
}

// SAFETY: threads read the operands, and write disjoint blocks.
unsafe impl<T: Sync> Sync for Pooled<T> {}

impl<T: Real> Pooled<T> {
    pub fn new<P: Pixel<T>>(isa: Isa, call: Call<T>) -> Pooled<T> {
        Pooled { call, function: compiled::<Each<T, P>>(isa) }
    }
}

impl<T: Real> Body<T> for Pooled<T> {
    unsafe fn block(&self, block: &Block, to: *mut T, ld: usize) {
        // SAFETY: the caller's promise; the kernel was compiled for an instruction set of this machine.
        unsafe { (self.function)(&Args { call: self.call, block: block.clone(), to, ld }) }
    }
}

impl<T: Real> Args<T> {
    /// Where `W` channels of the result at `width` go.
    #[inline(always)]
    fn result<const W: usize>(&self, width: usize, channel: usize) -> *mut [T; W] {
        self.to.wrapping_add((width - self.block.columns.start) * self.ld + channel).cast()
    }

    /// # Safety
    /// The images have the pixel and `W` channels.
    #[inline(always)]
    unsafe fn load<U: Copy, const W: usize>(
        &self,
        images: &Images<U>,
        [depth, height, width]: [usize; 3],
        channel: usize,
    ) -> [U; W] {
        let Pixels { image_stride, strides } = images.pixels;
        let plane = self.block.image * image_stride + depth * strides[0];
        let offset = plane + height * strides[1] + width * strides[2] + self.block.channel0 + channel;
        // SAFETY: the caller's promise.
        unsafe { images.data.add(offset).cast::<[U; W]>().read_unaligned() }
    }

    /// Calls a function with the input position and the offset of each element of the window at `width`, in
    /// row-major order.
    #[inline(always)]
    fn each_tap(&self, width: usize, mut tap: impl FnMut([usize; 3], usize)) {
        let geometry = &self.call.geometry;
        let columns = geometry.inside(2, width);
        for plane in geometry.inside(0, self.block.depth) {
            let depth = geometry.position(0, self.block.depth, plane);
            for row in geometry.inside(1, self.block.height) {
                let height = geometry.position(1, self.block.height, row);
                let offset = (plane * geometry.kernel[1] + row) * geometry.kernel[2];
                for column in columns.clone() {
                    tap([depth, height, geometry.position(2, width, column)], offset + column);
                }
            }
        }
    }

    /// Calls a function with each window that contains the input position at `width`, and the position's
    /// offset in it, in row-major order of the windows.
    #[inline(always)]
    fn each_window(&self, width: usize, mut window: impl FnMut([usize; 3], usize)) {
        let geometry = &self.call.geometry;
        let columns = geometry.windows(2, width);
        for plane in geometry.windows(0, self.block.depth) {
            let Some(depth) = geometry.tap(0, plane, self.block.depth) else { continue };
            for row in geometry.windows(1, self.block.height) {
                let Some(height) = geometry.tap(1, row, self.block.height) else { continue };
                let offset = (depth * geometry.kernel[1] + height) * geometry.kernel[2];
                for column in columns.clone() {
                    let Some(tap) = geometry.tap(2, column, width) else { continue };
                    window([plane, row, column], offset + tap);
                }
            }
        }
    }

    /// The number that a window's sum is divided by.
    #[inline(always)]
    fn divisor(&self, window: [usize; 3]) -> usize {
        let counted = |dim: usize| self.call.geometry.counted(dim, window[dim], self.call.divisor);
        counted(0) * counted(1) * counted(2)
    }
}

/// See [`super::max_pool`].
pub struct MaxPool;

impl<T: Real> Pixel<T> for MaxPool {
    #[inline(always)]
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize) {
        let mut best = [T::LOWEST; W];
        let mut winner = [T::index(0); W];
        let mut empty = true;
        args.each_tap(width, |at, offset| {
            // SAFETY: an element of the input.
            let x: [T; W] = unsafe { args.load(&args.call.images, at, channel) };
            let offset = T::index(offset);
            if empty {
                // Where all elements are the lowest number, the first of them wins.
                winner = [offset; W];
                empty = false;
            }
            for i in 0..W {
                let more = x[i] > best[i];
                let take = !best[i].is_nan() & (more | x[i].is_nan());
                best[i] = if take { x[i] } else { best[i] };
                winner[i] = if take { offset } else { winner[i] };
            }
        });
        let Block { row0, columns, channel0, .. } = &args.block;
        let pixel = row0 + width - columns.start;
        // SAFETY: the block's result, and the winners of all pixels and channels.
        unsafe {
            args.result::<W>(width, channel).write_unaligned(best);
            let to = args.call.winner_to.add(pixel * args.call.channels + channel0 + channel);
            to.cast::<[i32; W]>().write_unaligned(winner.map(T::to_i32));
        }
    }
}

/// See [`super::window_gather`].
pub struct Gather;

impl<T: Real> Pixel<T> for Gather {
    #[inline(always)]
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize) {
        let window = [args.block.depth, args.block.height, width];
        // SAFETY: a window of the output.
        let winner: [i32; W] = unsafe { args.load(&args.call.winner, window, channel) };
        let winner = winner.map(T::from_i32);
        let mut found = [T::default(); W];
        args.each_tap(width, |at, offset| {
            // SAFETY: an element of the input.
            let x: [T; W] = unsafe { args.load(&args.call.images, at, channel) };
            let offset = T::index(offset);
            for i in 0..W {
                found[i] = if winner[i] == offset { x[i] } else { found[i] };
            }
        });
        // SAFETY: the block's result.
        unsafe { args.result::<W>(width, channel).write_unaligned(found) };
    }
}

/// See [`super::window_scatter`].
pub struct Scatter;

impl<T: Real> Pixel<T> for Scatter {
    #[inline(always)]
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize) {
        let mut sum = [T::default(); W];
        args.each_window(width, |window, offset| {
            // SAFETY: a window of the output.
            let (g, winner): ([T; W], [i32; W]) = unsafe {
                (args.load(&args.call.images, window, channel), args.load(&args.call.winner, window, channel))
            };
            let offset = T::index(offset);
            for i in 0..W {
                let added = sum[i] + g[i];
                sum[i] = if T::from_i32(winner[i]) == offset { added } else { sum[i] };
            }
        });
        // SAFETY: the block's result.
        unsafe { args.result::<W>(width, channel).write_unaligned(sum) };
    }
}

/// See [`super::avg_pool`].
pub struct AvgPool;

impl<T: Real> Pixel<T> for AvgPool {
    #[inline(always)]
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize) {
        let geometry = &args.call.geometry;
        let Block { depth, height, .. } = args.block;
        let columns = geometry.inside(2, width);
        let mut sum = [T::default(); W];
        for plane in geometry.inside(0, depth) {
            let plane = geometry.position(0, depth, plane);
            for line in geometry.inside(1, height) {
                let line = geometry.position(1, height, line);
                // Rows of the window are summed apart: a sum of sums rounds less.
                let mut row = [T::default(); W];
                for column in columns.clone() {
                    let at = [plane, line, geometry.position(2, width, column)];
                    // SAFETY: an element of the input.
                    let x: [T; W] = unsafe { args.load(&args.call.images, at, channel) };
                    for i in 0..W {
                        row[i] = row[i] + x[i];
                    }
                }
                for i in 0..W {
                    sum[i] = sum[i] + row[i];
                }
            }
        }
        let count = args.divisor([args.block.depth, args.block.height, width]).max(1);
        let count = T::from_count(count);
        let mut mean = [T::default(); W];
        for i in 0..W {
            mean[i] = sum[i] / count;
        }
        // SAFETY: the block's result.
        unsafe { args.result::<W>(width, channel).write_unaligned(mean) };
    }
}

/// See [`super::avg_pool_grad`].
pub struct AvgPoolGrad;

impl<T: Real> Pixel<T> for AvgPoolGrad {
    #[inline(always)]
    unsafe fn pixel<const W: usize>(args: &Args<T>, width: usize, channel: usize) {
        let mut sum = [T::default(); W];
        args.each_window(width, |window, _| {
            // SAFETY: a window of the output.
            let g: [T; W] = unsafe { args.load(&args.call.images, window, channel) };
            let share = T::from_count(1) / T::from_count(args.divisor(window));
            for i in 0..W {
                sum[i] = sum[i] + g[i] * share;
            }
        });
        // SAFETY: the block's result.
        unsafe { args.result::<W>(width, channel).write_unaligned(sum) };
    }
}
