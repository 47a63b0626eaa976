//! Depthwise convolutions and their gradients, channels-last, in `f32` and `f64`: each channel has filters of
//! its own, and makes one output channel.
//!
//! Vectors go over channels. The forward convolution and the gradient of the input sum 8 pixels of a row at
//! a time, so that a vector of weights is read once for all of them; pixels that meet padding are computed
//! apart, from the taps that are inside. Filters are `[taps][channels]`, taps in row-major order.
//!
//! *Invariant:* the order of every sum is a function of the shapes, the strides and the instruction set.
//! Threads split outputs only, so their number never changes a bit of a result.

mod filter;
mod kernels;
mod lines;
mod rows;

use crate::Geometry;
use crate::KernelError;
use crate::conv_grad::Pixels;
use crate::gemm::Epilogue;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::threshold::Threshold;
use crate::window::sweep::{self, Sweep};
use lines::Direction;
use rows::Rows;

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[filter::THRESHOLDS, rows::THRESHOLDS];

/// Types of elements: `f32` and `f64`.
pub trait Element: crate::gemm::Element + kernels::HasKernels {}

impl Element for f32 {}
impl Element for f64 {}

/// The shapes and strides of a depthwise convolution. All strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Spatial sizes.
    pub geometry: Geometry,
    /// How many images.
    pub images: usize,
    /// How many channels.
    pub channels: usize,
    /// Where the input, which has the geometry's input sizes, is read.
    pub x: Pixels,
    /// Where the output's gradient, which has the geometry's output sizes, is read.
    pub dy: Pixels,
    /// From one tap's filters to the next one's.
    pub tap_stride: usize,
}

/// The bytes of scratch that [`forward`] and [`input_grad`] need with a pool of `threads` threads.
pub fn scratch_bytes<T: Element>(isa: Isa, threads: usize) -> usize {
    sweep::scratch_bytes::<T>(isa, threads)
}

pub use filter::filter_grad_scratch_bytes;

/// Computes `y[n, p, c]`, the sum over taps of `x[n, p * stride - pad + tap * dilation, c] * w[tap, c]`, where
/// taps outside of the input are left out.
///
/// The epilogue's rows are the output's pixels (image, depth, height, width; its batch is 0), and its columns
/// are channels. Small problems run on the calling thread alone. Nothing is allocated.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Safety
/// The machine has `isa`. Every element of the operands, the bias and the result that the problem and the
/// epilogue describe lies in its array, and the result overlaps nothing else.
pub unsafe fn forward<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    w: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { images(pool, isa, problem, Direction::Forward, x, w, epilogue, scratch) }
}

/// Computes the adjoint of [`forward`] in its input. The epilogue's rows are the input's pixels.
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
pub unsafe fn input_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    dy: *const T,
    w: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { images(pool, isa, problem, Direction::Backward, dy, w, epilogue, scratch) }
}

/// Computes the adjoint of [`forward`] in its filters: for each tap and channel the sum of
/// `x[n, p * stride - pad + tap * dilation, c] * dy[n, p, c]` over images and output pixels. The epilogue's
/// rows are taps.
///
/// # Errors
/// When the scratch is smaller than [`filter_grad_scratch_bytes`] says, or an epilogue panicked.
///
/// # Safety
/// As [`forward`].
pub unsafe fn filter_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    dy: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { filter::filter_grad(pool, isa, problem, x, dy, epilogue, scratch) }
}

/// # Safety
/// As [`forward`].
#[expect(clippy::too_many_arguments, reason = "those of the two functions above, and which of them it is")]
unsafe fn images<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    direction: Direction,
    from: *const T,
    w: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    let Problem { geometry, images, channels, .. } = *problem;
    let (sizes, stride) = match direction {
        Direction::Forward => (geometry.output, geometry.stride[2]),
        Direction::Backward => (geometry.input, 1),
    };
    let sweep = Sweep { images, sizes, channels, kernel: geometry.kernel, stride };
    let rows = Rows { kernel: T::depthwise_kernels(isa).rows, problem, direction, from, w };
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &rows, epilogue, scratch)? };
    Ok(())
}
