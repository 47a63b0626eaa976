//! Convolutions and their gradients in the input, in `f32` and `f64`, for images whose channels are
//! contiguous.
//!
//! A convolution is a matrix product whose A is never made: a row is an output pixel, and its steps of k
//! are the channels of the input pixels that the taps of the filter reach. Tables of pointers, one for
//! each row and tap, tell the register tiles where those channels are.
//!
//! *Invariant:* the order of every sum is a function of the shapes, the strides and the instruction set.
//! Threads split outputs only, so their number never changes a bit of a result.

mod border;
mod driver;
mod fold;
mod kernels;
mod microkernel;
mod pack;
mod plan;
mod reach;
mod table;
pub mod winograd;

use crate::Geometry;
use crate::KernelError;
use crate::gemm::{Element, Epilogue};
use crate::isa::Isa;
use crate::pool::Pool;
use crate::threshold::Threshold;

pub(crate) use kernels::HasKernels;
pub use pack::{FilterSource, pack_filters, pack_filters_parallel, packed_filters_len};
pub use plan::{row_blocks, scratch_bytes};

/// The thresholds of these kernels, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] =
    &[plan::THRESHOLDS, pack::THRESHOLDS, fold::THRESHOLDS, table::THRESHOLDS, winograd::THRESHOLDS];

/// The shapes and strides of a convolution. All strides are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How many images.
    pub images: usize,
    /// How many groups of channels, each with filters of its own. Those of group `g` begin at `g * cin` of
    /// the channels read, and at `g * cout` of the channels made.
    pub groups: usize,
    /// Channels that a group reads; 0 makes every sum zero.
    pub cin: usize,
    /// Channels that a group makes.
    pub cout: usize,
    /// Which pixels are read: input and output are what the convolution reads and makes.
    pub geometry: Geometry,
    /// Without it output pixel `p` reads, with tap `t`, input pixel `p * stride - pad + t * dilation`.
    /// With it, as gradients in the input do, it reads `(p + pad - t * dilation) / stride` where that is
    /// whole. Pixels outside the input read as zeros.
    pub transposed: bool,
    /// From one image that is read to the next.
    pub image_stride: usize,
    /// From one pixel that is read to the next along each dim. Channels are contiguous.
    pub pixel_strides: [usize; 3],
}

/// Computes `epilogue(conv(x, filters))`.
///
/// Rows of the epilogue's C are the output pixels, image after image; columns are the channels of all
/// groups. A [`Epilogue::Tile`] function sees blocks of consecutive pixels, and product 0 of the batch.
/// Small convolutions run on the calling thread alone. Nothing is allocated.
///
/// A tap that falls into the padding is left out: a filter element that is infinite or NaN makes nothing of the pixels
/// that have only padding there.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Safety
/// The machine has `isa`. `x` is the first image's first channel; every element of it that the problem
/// describes lies in its array, and so does every element of the bias and C. `filters` are as
/// [`pack_filters`] left them for the same instruction set. C overlaps neither.
pub unsafe fn conv<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    filters: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    // SAFETY: the caller's promise.
    unsafe { driver::conv(pool, isa, problem, x, filters, epilogue, scratch) }
}
