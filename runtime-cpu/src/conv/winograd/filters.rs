//! Transformed filters in panels.
//!
//! A panel holds the 16 matrices of its columns, one after the other, each as products have the panels of
//! B: one row for each channel read.

use std::ops::Range;

use super::MATRICES;
use super::transform::Filters;
use crate::conv::FilterSource;
use crate::conv::pack::{self, in_parallel};
use crate::gemm::{Element, PackSource, block_columns, pack_b, panels};
use crate::isa::Isa;
use crate::pool::{Pool, PoolError};

/// Channels read whose filters are transformed at a time.
const CHANNELS: usize = 16;

/// The widest panel of any instruction set.
const MAX_COLUMNS: usize = 64;

/// Taps of a filter.
const TAPS: usize = 9;

/// The length, in elements, of transformed filters.
pub fn packed_filters_len<T: Element>(isa: Isa, cin: usize, cout: usize) -> usize {
    pack::packed_filters_len::<T>(isa, 1, MATRICES, cin, cout)
}

/// Transforms filters into `to`, which has room for [`packed_filters_len`] elements. `transposed` is that
/// of the convolution's geometry.
///
/// # Panics
/// When the source has not one group of 9 taps.
///
/// # Safety
/// The machine has `isa`; every element of `source` lies in its array, and `to` overlaps none of them.
pub unsafe fn pack_filters<T: Element>(isa: Isa, source: &FilterSource<T>, transposed: bool, to: *mut T) {
    assert_eq!((source.groups, source.taps), (1, TAPS), "filters of another algorithm");
    // SAFETY: the caller's promise, for all panels.
    unsafe { pack_panels(isa, source, transposed, 0..panels::<T>(isa, source.cout), to) }
}

/// Transforms filters with the threads of a pool.
///
/// # Errors
/// When a thread panicked, which transforming itself never does.
///
/// # Panics
/// As for [`pack_filters`].
///
/// # Safety
/// As for [`pack_filters`].
pub unsafe fn pack_filters_parallel<T: Element>(
    pool: &Pool,
    isa: Isa,
    source: &FilterSource<T>,
    transposed: bool,
    to: *mut T,
) -> Result<(), PoolError> {
    assert_eq!((source.groups, source.taps), (1, TAPS), "filters of another algorithm");
    let len = packed_filters_len::<T>(isa, source.cin, source.cout);
    in_parallel(pool, panels::<T>(isa, source.cout), len, source, to, |source, to, panels| {
        // SAFETY: the caller's promise; shares are disjoint.
        unsafe { pack_panels(isa, source, transposed, panels, to) }
    })
}

/// # Safety
/// As for [`pack_filters`]; no other thread writes the same panels.
unsafe fn pack_panels<T: Element>(
    isa: Isa,
    source: &FilterSource<T>,
    transposed: bool,
    of_panels: Range<usize>,
    to: *mut T,
) {
    let FilterSource { cin, cout, .. } = *source;
    let (columns, lanes) = (block_columns::<T>(isa), T::kernels(isa).lanes);
    debug_assert!(columns <= MAX_COLUMNS);
    // The filters of some channels in panels, tap after tap.
    let mut taps = [T::default(); TAPS * CHANNELS * MAX_COLUMNS];
    let tap_stride = CHANNELS * MAX_COLUMNS;
    for panel in of_panels {
        let first = panel * columns;
        let n = columns.min(cout - first);
        let width = n.next_multiple_of(lanes);
        for channel in (0..cin).step_by(CHANNELS) {
            let k = CHANNELS.min(cin - channel);
            // SAFETY: taps and channels of the source; `k * width` elements of a tap fit its place, and
            // matrices of the panel have `cin * width` elements each.
            unsafe {
                for tap in 0..TAPS {
                    let offset =
                        tap * source.tap_stride + channel * source.in_stride + first * source.out_stride;
                    let b = source.filters.add(offset);
                    let (k_stride, n_stride) = (source.in_stride, source.out_stride);
                    let source = PackSource { b, k_stride, n_stride, k, n };
                    pack_b(isa, &source, taps.as_mut_ptr().add(tap * tap_stride));
                }
                // The gradient in the input is the convolution with turned filters.
                let (first_tap, step) = if transposed { (TAPS - 1, -1) } else { (0, 1) };
                (T::conv_kernels(isa).filters)(&Filters {
                    from: taps.as_ptr().add(first_tap * tap_stride),
                    tap_stride: step * tap_stride as isize,
                    vectors: k * width / lanes,
                    to: to.add(MATRICES * first * cin + channel * width),
                    matrix_stride: cin * width,
                });
            }
        }
    }
}
