//! Filters in panels: the order in which the microkernels read them.
//!
//! Each group's filters are a matrix of one row for each channel of each tap, tap after tap, and one
//! column for each channel made. It is packed as products have theirs; groups follow each other.

use std::ops::Range;

use crate::gemm::{Element, PackSource, block_columns, pack_b, packed_len, panels};
use crate::isa::Isa;
use crate::pool::{Pool, PoolError, share};
use crate::threshold::thresholds;

thresholds! {
    /// A copy takes about as long as a fork below this many elements.
    const SERIAL_BELOW: usize = 64 * 1024, of Conv [Window, Window, Channels, Columns];
}

/// Filters to pack. Strides are in elements; with those of the channels exchanged, the filters of a
/// convolution become those of its gradient in the input.
#[derive(Clone, Copy, Debug)]
pub struct FilterSource<T> {
    /// The first element.
    pub filters: *const T,
    /// Groups of channels.
    pub groups: usize,
    /// Taps in all dims, in row-major order.
    pub taps: usize,
    /// Channels that a group reads.
    pub cin: usize,
    /// Channels that a group makes.
    pub cout: usize,
    /// Elements between two groups.
    pub group_stride: usize,
    /// Elements between two taps.
    pub tap_stride: usize,
    /// Elements between two channels that are read.
    pub in_stride: usize,
    /// Elements between two channels that are made.
    pub out_stride: usize,
}

/// The length, in elements, of packed filters: `cin` and `cout` are channels of one group.
pub fn packed_filters_len<T: Element>(
    isa: Isa,
    groups: usize,
    taps: usize,
    cin: usize,
    cout: usize,
) -> usize {
    packed_len::<T>(isa, taps.saturating_mul(cin), cout).saturating_mul(groups)
}

/// Packs filters into `to`, which has room for [`packed_filters_len`] elements.
///
/// # Safety
/// The machine has `isa`; every element of `source` lies in its array, and `to` overlaps none of them.
pub unsafe fn pack_filters<T: Element>(isa: Isa, source: &FilterSource<T>, to: *mut T) {
    let units = source.groups * panels::<T>(isa, source.cout);
    // SAFETY: the caller's promise, for the panels of all groups.
    unsafe { pack_panels(isa, source, 0..units, to) }
}

/// Packs filters with the threads of a pool.
///
/// # Errors
/// When a thread panicked, which packing itself never does.
///
/// # Safety
/// As for [`pack_filters`].
pub unsafe fn pack_filters_parallel<T: Element>(
    pool: &Pool,
    isa: Isa,
    source: &FilterSource<T>,
    to: *mut T,
) -> Result<(), PoolError> {
    let units = source.groups * panels::<T>(isa, source.cout);
    let len = packed_filters_len::<T>(isa, source.groups, source.taps, source.cin, source.cout);
    in_parallel(pool, units, len, source, to, |source, to, units| {
        // SAFETY: the caller's promise; shares are disjoint.
        unsafe { pack_panels(isa, source, units, to) }
    })
}

/// Has the threads of a pool pack shares of some panels, which are `len` elements together.
pub fn in_parallel<T: Element>(
    pool: &Pool,
    panels: usize,
    len: usize,
    source: &FilterSource<T>,
    to: *mut T,
    pack: impl Fn(&FilterSource<T>, *mut T, Range<usize>) + Sync,
) -> Result<(), PoolError> {
    struct Shared<'a, T>(&'a FilterSource<T>, *mut T);
    // SAFETY: threads read the source and write disjoint panels.
    unsafe impl<T: Sync> Sync for Shared<'_, T> {}

    let shared = &Shared(source, to);
    let parts = if len < SERIAL_BELOW { 1 } else { panels.min(pool.threads()) };
    pool.run(parts, &|part| pack(shared.0, shared.1, share(panels, parts, part)))
}

/// # Safety
/// As for [`pack_filters`]; no other thread writes the same panels, which are counted over all groups.
unsafe fn pack_panels<T: Element>(isa: Isa, source: &FilterSource<T>, units: Range<usize>, to: *mut T) {
    let FilterSource { taps, cin, cout, .. } = *source;
    let (columns, panels) = (block_columns::<T>(isa), panels::<T>(isa, cout));
    let group_len = packed_len::<T>(isa, taps * cin, cout);
    for unit in units {
        let (group, first) = (unit / panels, unit % panels * columns);
        let width = columns.min(cout - first);
        let tap_len = packed_len::<T>(isa, cin, width);
        // SAFETY: channels, taps and groups of the source. Panels before this one fill `first` columns
        // of all taps, and taps before fill `tap_len` each.
        unsafe {
            let to = to.add(group * group_len + first * taps * cin);
            let b = source.filters.add(group * source.group_stride + first * source.out_stride);
            let (k_stride, n_stride) = (source.in_stride, source.out_stride);
            if source.tap_stride == cin * k_stride {
                pack_b(isa, &PackSource { b, k_stride, n_stride, k: taps * cin, n: width }, to);
                continue;
            }
            for tap in 0..taps {
                let b = b.add(tap * source.tap_stride);
                pack_b(isa, &PackSource { b, k_stride, n_stride, k: cin, n: width }, to.add(tap * tap_len));
            }
        }
    }
}
