//! Winograd's algorithm F(2x2, 3x3): convolutions with filters of 3 x 3 and stride 1, forward and for the
//! gradient in the input, with 4 multiplications for each output of 9 taps.
//!
//! Tiles of 2 x 2 output pixels read 4 x 4 input pixels. Both the windows and the filters are transformed
//! to 16 values, whose products are summed over channels by 16 matrix products; the sums are transformed
//! back. Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks* (2016), section 4.1.
//!
//! Sums are as accurate as direct ones, but not the same, and one that is not finite makes its whole tile
//! so. The order of every sum is a function of the shapes and the instruction set alone.

mod driver;
mod filters;
mod plan;
pub(super) mod transform;

use super::Problem;
use crate::KernelError;
use crate::gemm::{Element, Epilogue};
use crate::isa::Isa;
use crate::pool::Pool;

pub use filters::{pack_filters, pack_filters_parallel, packed_filters_len};
pub(super) use plan::THRESHOLDS;
pub use plan::{row_blocks, scratch_bytes};

/// Bound of the error, as a multiple of that of sums that add all products one after the other, for operands of
/// magnitude 1.
///
/// A value of the result is the sum of 16 products of a transformed window and filter, whose magnitudes add up to 8 along
/// each dim (the absolute values of the three transforms multiplied out) instead of the 3 of the taps themselves. These
/// 64 are rounded in sums of `cin` and about 10 terms, the 9 in a sum of `9 * cin` (Higham, *Accuracy and Stability of
/// Numerical Algorithms*, 3.1).
pub fn error_class(cin: usize) -> f32 {
    let cin = cin.max(1) as f32;
    64.0 * (cin + 10.0) / (9.0 * 9.0 * cin)
}

/// Values of a transformed window or filter.
pub(super) const MATRICES: usize = 16;

/// Whether the algorithm computes this convolution: two-dimensional, of one group, with a filter of 3 x 3
/// and strides and dilations of 1. Whether it is faster is another question: the transforms take their
/// time where there are few channels.
pub fn applies(problem: &Problem) -> bool {
    let geometry = &problem.geometry;
    problem.groups == 1
        && geometry.kernel == [1, 3, 3]
        && geometry.stride == [1; 3]
        && geometry.dilation == [1; 3]
        && geometry.pad[0] == 0
        && (geometry.input[0], geometry.output[0]) == (1, 1)
}

/// Computes `epilogue(conv(x, filters))`, as [`super::conv`] does.
///
/// Blocks that a [`Epilogue::Tile`] function sees are neighbours in one row of pixels.
///
/// # Errors
/// When the scratch is too small, or an epilogue panicked.
///
/// # Panics
/// When the algorithm does not apply; see [`applies`].
///
/// # Safety
/// As for [`super::conv`], with filters as this module's [`pack_filters`] left them, for the problem's
/// `transposed`.
pub unsafe fn conv<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    filters: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    assert!(applies(problem), "Winograd's algorithm was asked for a convolution that it cannot compute");
    // SAFETY: the caller's promise.
    unsafe { driver::conv(pool, isa, problem, x, filters, epilogue, scratch) }
}
