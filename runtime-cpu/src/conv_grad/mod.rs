//! The gradient of a convolution in its filters, channels-last, in `f32` and `f64`.
//!
//! For each group it is a matrix: one row for each kernel offset (*tap*) and input channel, one column for each
//! output channel. Register tiles of it (6 channels x 64 columns with AVX-512 in `f32`) are summed over
//! output pixels: along a row of pixels the input and the output's gradient both advance by a fixed step, so
//! that nothing is gathered or copied. Pixels whose tap falls into the padding are left out.
//!
//! *Invariant:* the order of every sum is a function of the shapes, the strides and the instruction set.
//! Threads split outputs only, so their number never changes a bit of a result.

mod border;
mod driver;
mod kernels;
mod microkernel;
mod plan;
mod segments;

use crate::Geometry;
use crate::KernelError;
use crate::gemm::Epilogue;
use crate::isa::Isa;
use crate::pool::Pool;
use crate::threshold::Threshold;

pub use plan::scratch_bytes;

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[plan::THRESHOLDS];

/// Types of elements: `f32` and `f64`.
pub trait Element: crate::gemm::Element + kernels::HasKernels {}

impl Element for f32 {}
impl Element for f64 {}

/// Where the pixels of a batch of images are. Channels are contiguous; strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// From one image to the next.
    pub image_stride: usize,
    /// From one position to the next of each spatial dimension.
    pub strides: [usize; 3],
}

impl Pixels {
    /// Dense images of `channels` channels.
    pub fn dense(sizes: [usize; 3], channels: usize) -> Pixels {
        let row = sizes[2].saturating_mul(channels);
        let plane = sizes[1].saturating_mul(row);
        Pixels { image_stride: sizes[0].saturating_mul(plane), strides: [plane, row, channels] }
    }
}

/// The shapes and strides of a filter gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Spatial sizes.
    pub geometry: Geometry,
    /// How many images.
    pub images: usize,
    /// How many groups of channels.
    pub groups: usize,
    /// Input channels of one group.
    pub cin: usize,
    /// Output channels of one group.
    pub cout: usize,
    /// Where the input is: group g has the channels from `g * cin` on.
    pub x: Pixels,
    /// Where the gradient of the output is: group g has the channels from `g * cout` on.
    pub dy: Pixels,
}

impl Problem {
    /// Rows of each group's matrix.
    pub fn rows(&self) -> usize {
        self.geometry.taps().saturating_mul(self.cin)
    }
}

/// Computes the gradient of a convolution in its filters.
///
/// Element (`tap * cin + c`, `o`) of group g's matrix is the sum, over images n and output pixels p, of
/// `x[n, p * stride - pad + tap * dilation, g * cin + c] * dy[n, p, g * cout + o]` whose position is inside of the
/// input: an infinite or NaN `dy` makes nothing of the taps that meet padding there.
/// The epilogue takes the groups as its batch. Small problems run on the calling thread alone. Nothing is
/// allocated.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Safety
/// The machine has `isa`. Every element of the input, the output's gradient, the bias and the result that
/// the problem and the epilogue describe lies in its array, and no result overlaps an operand, another
/// row or another group's result.
pub unsafe fn conv_filter_grad<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    dy: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { driver::conv_filter_grad(pool, isa, problem, x, dy, epilogue, scratch) }
}
