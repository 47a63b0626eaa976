//! Pooling over windows of pixels, channels-last, in `f32` and `f64`: maxima, means, and their gradients.
//!
//! Every result is computed in gather form, one result pixel after the other and vectors over channels, so
//! that there are no atomics and no zeroing. Real-valued results go through a [`gemm::Epilogue`](Epilogue) whose
//! rows are the result's pixels (image, depth, height, width; its batch is 0) and whose columns are channels.
//!
//! *Invariant:* the order of every sum is a function of the shapes. Threads split outputs only.

mod extents;
mod kernels;
pub(crate) mod sweep;

use thiserror::Error;

use crate::conv_grad::Pixels;
use crate::gemm::Epilogue;
use crate::isa::Isa;
use crate::pool::{Pool, PoolError};
use kernels::{AvgPool, AvgPoolGrad, Call, Gather, MaxPool, Pooled, Scatter};
use sweep::Sweep;

pub use sweep::scratch_bytes;

/// Types of elements: `f32` and `f64`.
pub trait Element: crate::gemm::Element + kernels::Real {}

impl Element for f32 {}
impl Element for f64 {}

/// The spatial sizes of a pooling, from the slowest dimension to the fastest. Where there are fewer than
/// three, the first ones have size, kernel, stride and dilation 1 and padding 0.
///
/// Window p covers the input positions `p * stride - pad_lo + t * dilation` for t below the kernel's size;
/// those outside of the input are padding. Windows may run past the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sizes of the input.
    pub input: [usize; 3],
    /// Sizes of the output: how many windows.
    pub output: [usize; 3],
    /// Sizes of the windows; at least 1. All windows have less than 2^31 positions.
    pub kernel: [usize; 3],
    /// Input positions from one window to the next; at least 1.
    pub stride: [usize; 3],
    /// Input positions from one position of a window to the next; at least 1.
    pub dilation: [usize; 3],
    /// Positions of padding before the first input position.
    pub pad_lo: [usize; 3],
    /// Positions of padding after the last input position; only divisors depend on it.
    pub pad_hi: [usize; 3],
}

/// The shapes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Spatial sizes.
    pub geometry: Geometry,
    /// How many images.
    pub images: usize,
    /// How many channels.
    pub channels: usize,
}

/// Images to read. Channels are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Images<T> {
    /// The first element.
    pub data: *const T,
    /// Where the pixels are.
    pub pixels: Pixels,
}

/// What a mean divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The positions of the window that are not past the padding.
    WithPadding,
    /// The positions of the window that are inside the input.
    Elements,
}

/// Why a pooling failed.
#[derive(Debug, Error)]
pub enum WindowError {
    /// The scratch is smaller than [`scratch_bytes`] says.
    #[error("a pooling needs {needed} bytes of scratch, but was given {given}")]
    Scratch {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// A thread panicked, in an [`Epilogue::Tile`] function.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// The largest element of each window, and where it is.
///
/// `winner` gets, for each result pixel and channel (dense, channels-last), the offset of the first maximum
/// in the window, in row-major order. The first NaN wins over all. Padding never wins while the window
/// has an element; a window without any has value -infinity and winner 0.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Safety
/// The machine has `isa`. Every element of the images, the winners, the bias and the result that the problem
/// and the epilogue describe lies in its array, and results overlap nothing else.
pub unsafe fn max_pool<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: Images<T>,
    winner: *mut i32,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), WindowError> {
    let call = Call { images: x, winner_to: winner, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.output);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<MaxPool>(isa, call), epilogue, scratch) }
}

/// The sum, for each input position, of the `g` of those windows whose winner it is, in the windows'
/// row-major order. A winner that is padding adds nowhere. The epilogue's rows are input pixels.
///
/// # Errors
/// As [`max_pool`].
///
/// # Safety
/// As [`max_pool`]; `g` and `winner` have the output's sizes.
pub unsafe fn window_scatter<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    g: Images<T>,
    winner: Images<i32>,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), WindowError> {
    let call = Call { images: g, winner, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.input);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<Scatter>(isa, call), epilogue, scratch) }
}

/// The element of `x` that each window's winner names; 0 where that is padding.
///
/// # Errors
/// As [`max_pool`].
///
/// # Safety
/// As [`max_pool`]; `winner` has the output's sizes.
pub unsafe fn window_gather<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: Images<T>,
    winner: Images<i32>,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), WindowError> {
    let call = Call { images: x, winner, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.output);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<Gather>(isa, call), epilogue, scratch) }
}

/// The sum of each window's elements, divided as `divisor` says. Where the divisor is 0 the mean is 0.
///
/// # Errors
/// As [`max_pool`].
///
/// # Safety
/// As [`max_pool`].
pub unsafe fn avg_pool<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    divisor: Divisor,
    x: Images<T>,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), WindowError> {
    let call = Call { images: x, divisor, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.output);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<AvgPool>(isa, call), epilogue, scratch) }
}

/// The adjoint of [`avg_pool`]: for each input position the sum of `g / divisor` over the windows that contain
/// it, in row-major order. The epilogue's rows are input pixels.
///
/// # Errors
/// As [`max_pool`].
///
/// # Safety
/// As [`max_pool`]; `g` has the output's sizes.
pub unsafe fn avg_pool_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    divisor: Divisor,
    g: Images<T>,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), WindowError> {
    let call = Call { images: g, divisor, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.input);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<AvgPoolGrad>(isa, call), epilogue, scratch) }
}
