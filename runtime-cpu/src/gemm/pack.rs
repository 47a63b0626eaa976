//! B in panels: the order in which the microkernels read it.
//!
//! A panel holds one register tile's columns for all k: `[k][columns]`. Panels follow each other; the
//! last one is as wide as its columns, rounded up to whole vectors, and padded with zeros.

use std::ops::Range;

use super::Element;
use super::simd::Simd;
use crate::isa::Isa;
use crate::pool::{Pool, PoolError};
use crate::threshold::thresholds;

thresholds! {
    /// A copy takes about as long as a fork below this many elements.
    const SERIAL_BELOW: usize = 64 * 1024, of Dot [Depth, Columns];
}

/// The number of panels of a B with `n` columns.
pub fn panels<T: Element>(isa: Isa, n: usize) -> usize {
    n.div_ceil(T::kernels(isa).columns)
}

/// The length, in elements, of a packed B of `k` rows and `n` columns.
pub fn packed_len<T: Element>(isa: Isa, k: usize, n: usize) -> usize {
    k.saturating_mul(n.next_multiple_of(T::kernels(isa).lanes))
}

/// A matrix B to pack: `k` rows, `n` columns; the strides are the distances, in elements, between two
/// steps of k and between two columns.
#[derive(Clone, Copy, Debug)]
pub struct PackSource<T> {
    /// The first element.
    pub b: *const T,
    /// Elements between two steps of k.
    pub k_stride: usize,
    /// Elements between two columns.
    pub n_stride: usize,
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
}

/// Packs all of B into `to`, which has room for [`packed_len`] elements.
///
/// # Safety
/// The machine has `isa`; every element of `source` lies in its array, and `to` overlaps none of them.
pub unsafe fn pack_b<T: Element>(isa: Isa, source: &PackSource<T>, to: *mut T) {
    // SAFETY: the caller's promise, for all panels.
    unsafe { pack_b_panels(isa, source, 0..panels::<T>(isa, source.n), to) }
}

/// Packs some panels into the `to` of the whole packed B, so that threads can share the work.
///
/// # Safety
/// As for [`pack_b`]; no other thread writes the same panels.
pub unsafe fn pack_b_panels<T: Element>(isa: Isa, source: &PackSource<T>, panels: Range<usize>, to: *mut T) {
    let kernels = T::kernels(isa);
    for panel in panels {
        let first = panel * kernels.columns;
        let columns = kernels.columns.min(source.n - first);
        let width = columns.next_multiple_of(kernels.lanes);
        // SAFETY: the panel's columns are columns of the source; the panels before it fill
        // `first * k` elements, and it fills `width * k`, within `packed_len`.
        unsafe {
            let from = source.b.add(first * source.n_stride);
            let to = to.add(first * source.k);
            if source.n_stride == 1 {
                copy_panel(from, source.k_stride, source.k, columns, to, width);
            } else if source.k_stride == 1 {
                (kernels.transpose_panel)(from, source.n_stride, source.k, columns, to, width);
            } else {
                let strides = (source.k_stride, source.n_stride);
                gather(from, strides, 0..source.k, 0..columns, to, width);
                pad(source.k, columns, to, width);
            }
        }
    }
}

/// Packs all of B with the threads of a pool.
///
/// # Errors
/// When a thread panicked, which packing itself never does.
///
/// # Safety
/// As for [`pack_b`].
pub unsafe fn pack_b_parallel<T: Element>(
    pool: &Pool,
    isa: Isa,
    source: &PackSource<T>,
    to: *mut T,
) -> Result<(), PoolError> {
    struct Shared<T>(PackSource<T>, *mut T);
    // SAFETY: threads read the source and write disjoint panels.
    unsafe impl<T: Sync> Sync for Shared<T> {}

    let shared = Shared(*source, to);
    let shared = &shared;
    let panels = panels::<T>(isa, source.n);
    let small = source.k.saturating_mul(source.n) < SERIAL_BELOW;
    let parts = if small { 1 } else { panels.min(pool.threads()) };
    pool.run(parts, &|part| {
        let share = crate::pool::share(panels, parts, part);
        // SAFETY: the caller's promise; shares are disjoint.
        unsafe { pack_b_panels(isa, &shared.0, share, shared.1) }
    })
}

/// # Safety
/// Rows of `columns` elements `stride` apart can be read, and `k * width` elements written.
unsafe fn copy_panel<T: Element>(
    mut from: *const T,
    stride: usize,
    k: usize,
    columns: usize,
    mut to: *mut T,
    width: usize,
) {
    for _ in 0..k {
        // SAFETY: a row of the source, and its place in the panel; the padding is at its end.
        unsafe {
            from.copy_to_nonoverlapping(to, columns);
            for j in columns..width {
                *to.add(j) = T::default();
            }
        }
        from = from.wrapping_add(stride);
        to = to.wrapping_add(width);
    }
}

/// Packs one panel of a B that is contiguous along k, `stride` elements from column to column.
///
/// # Safety
/// What `Simd` asks for; `columns` runs of `k` elements can be read and `k * width` elements written.
#[inline(always)]
pub unsafe fn transpose_panel<S: Simd>(
    from: *const S::Elem,
    stride: usize,
    k: usize,
    columns: usize,
    to: *mut S::Elem,
    width: usize,
) where
    S::Elem: Default,
{
    let (whole_k, whole_columns) = (k / S::LANES * S::LANES, columns / S::LANES * S::LANES);
    // SAFETY: blocks of LANES x LANES inside `whole_k` x `whole_columns`, then the two strips that are
    // left, then the padding up to `width`.
    unsafe {
        // Along k inside, so that no more columns than lanes are read at a time.
        for j in (0..whole_columns).step_by(S::LANES) {
            for step in (0..whole_k).step_by(S::LANES) {
                S::transpose(from.add(j * stride + step), stride, to.add(step * width + j), width);
            }
        }
        gather(from, (1, stride), whole_k..k, 0..whole_columns, to, width);
        gather(from, (1, stride), 0..k, whole_columns..columns, to, width);
        pad(k, columns, to, width);
    }
}

/// Copies single elements of any strides (of k and of columns) to a panel.
///
/// # Safety
/// The elements can be read, and `steps.end * width` elements written.
#[inline(always)]
unsafe fn gather<T: Copy>(
    from: *const T,
    (k_stride, n_stride): (usize, usize),
    steps: Range<usize>,
    columns: Range<usize>,
    to: *mut T,
    width: usize,
) {
    for step in steps {
        for j in columns.clone() {
            // SAFETY: the caller's promise.
            unsafe { *to.add(step * width + j) = *from.add(step * k_stride + j * n_stride) };
        }
    }
}

/// Writes zeros to the columns of a panel that are not in B.
///
/// # Safety
/// `k * width` elements can be written.
#[inline(always)]
unsafe fn pad<T: Copy + Default>(k: usize, columns: usize, to: *mut T, width: usize) {
    for step in 0..k {
        for j in columns..width {
            // SAFETY: the caller's promise.
            unsafe { *to.add(step * width + j) = T::default() };
        }
    }
}
