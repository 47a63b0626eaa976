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

use crate::Geometry;
use crate::KernelError;
use crate::conv_grad::Pixels;
use crate::gemm::Epilogue;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::threshold::Threshold;
use kernels::{AvgPool, AvgPoolGrad, Call, Gather, MaxPool, Pooled, Scatter};
use sweep::Sweep;

pub use sweep::scratch_bytes;

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[sweep::THRESHOLDS];

/// Types of elements: `f32` and `f64`.
pub trait Element: crate::gemm::Element + kernels::Real {}

impl Element for f32 {}
impl Element for f64 {}

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
    /// The positions of the window that are not past the padding, which has so many positions after the last input
    /// position, along each dim.
    WithPadding([usize; 3]),
    /// The positions of the window that are inside the input.
    Elements,
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
) -> Result<(), KernelError> {
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
) -> Result<(), KernelError> {
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
) -> Result<(), KernelError> {
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
) -> Result<(), KernelError> {
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
) -> Result<(), KernelError> {
    let call = Call { images: g, divisor, ..Call::new(problem) };
    let sweep = Sweep::new(problem, problem.geometry.input);
    // SAFETY: the caller's promise.
    unsafe { sweep.run(pool, isa, &Pooled::new::<AvgPoolGrad>(isa, call), epilogue, scratch) }
}
