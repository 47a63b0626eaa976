//! Folds over tiles. The order of every sum is a function of the tile's shape alone.
//!
//! A fold's *state* is what partial results are kept and merged in: one value for sums, products and
//! extrema; the sum for a mean; two arrays, means and sums of squared deviations, for a variance.

use std::marker::PhantomData;

use graphc_ir::dtype::DType;
use graphc_ir::program::FoldKind;
use graphc_ir::scalar::Scalar;

use super::kernel::{Kernel, TileFn, Tuned, with_ordered, with_real};
use super::number::{Number, Real};
use crate::isa::Isa;
use crate::threshold::thresholds;

/// A tile of `rows` by `columns` elements (neither 0), row after row, and a state.
///
/// [`along`] writes the states of the rows, [`down`] merges into the states of the columns. States of a
/// variance are an array of means and, directly after it, one of sums of squares.
#[derive(Clone, Copy, Debug)]
pub struct FoldArgs {
    pub state: *mut u8,
    pub tile: *const u8,
    pub rows: usize,
    pub columns: usize,
    /// For [`down`]: how many rows the state holds already.
    pub seen: usize,
}

/// A fold of a tile.
pub type FoldFn = TileFn<FoldArgs>;

/// Merges `len` states into others: `state[i] = state[i] + other[i]`.
#[derive(Clone, Copy, Debug)]
pub struct MergeArgs {
    pub state: *mut u8,
    pub other: *const u8,
    pub len: usize,
    /// Elements that each of `state` and `other` hold, neither 0.
    pub counts: [usize; 2],
}

/// A merge of states.
pub type MergeFn = TileFn<MergeArgs>;

/// An associative operation on values of a type of its own.
trait Operation<T> {
    type Value: Copy;
    const IDENTITY: Self::Value;
    fn of(x: T) -> Self::Value;
    fn join(a: Self::Value, b: Self::Value) -> Self::Value;
    fn result(value: Self::Value) -> T;
}

struct Sum;
struct Product;
/// Extrema of ranks: integers have one instruction for them, and a NaN stays what it is.
struct Largest;
struct Smallest;

macro_rules! operation {
    ($name:ident, $value:ty, $identity:expr, |$x:ident| $of:expr, |$a:ident, $b:ident| $join:expr, |$v:ident| $result:expr) => {
        impl<T: Number> Operation<T> for $name {
            type Value = $value;
            const IDENTITY: $value = $identity;
            #[inline(always)]
            fn of($x: T) -> $value {
                $of
            }
            #[inline(always)]
            fn join($a: $value, $b: $value) -> $value {
                $join
            }
            #[inline(always)]
            fn result($v: $value) -> T {
                $result
            }
        }
    };
}
operation!(Sum, T, T::ZERO, |x| x, |a, b| a.add(b), |v| v);
operation!(Product, T, T::ONE, |x| x, |a, b| a.mul(b), |v| v);
operation!(Largest, T::Rank, T::LOWEST, |x| x.rank(true), |a, b| a.max(b), |v| T::of_rank(v));
operation!(Smallest, T::Rank, T::HIGHEST, |x| x.rank(false), |a, b| a.min(b), |v| T::of_rank(v));

thresholds! {
    /// Columns that are folded at a time, so that their states stay in registers.
    const STRIP: usize = 64, of Nest [Columns];
    /// Accumulators of a short row.
    const SHORT: usize = 8, of Nest [Columns];
}

/// Folds `f` of the elements of a row: `LANES` accumulators take elements in turn, a tree joins them.
#[inline(always)]
fn fold_lanes<T: Number, O: Operation<T>, const LANES: usize>(row: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [O::IDENTITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = O::join(*lane, O::of(f(*x)));
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = O::join(*lane, O::of(f(*x)));
    }
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        for (a, b) in low.iter_mut().zip(high.iter()) {
            *a = O::join(*a, *b);
        }
        width /= 2;
    }
    O::result(lanes[0])
}

#[inline(always)]
fn fold_row<T: Number, O: Operation<T>>(row: &[T], f: impl Fn(T) -> T) -> T {
    if row.len() < STRIP { fold_lanes::<T, O, SHORT>(row, f) } else { fold_lanes::<T, O, STRIP>(row, f) }
}

impl FoldArgs {
    /// The tile's elements.
    ///
    /// # Safety
    /// The tile has that many elements of the type.
    #[inline(always)]
    unsafe fn elements<'a, T>(&self) -> &'a [T] {
        // SAFETY: the caller's promise; tiles are aligned to their elements.
        unsafe { std::slice::from_raw_parts(self.tile.cast(), self.rows * self.columns) }
    }

    /// The states: `len` elements.
    ///
    /// # Safety
    /// The state has that many elements of the type, which nobody else uses.
    #[inline(always)]
    unsafe fn states<'a, T>(&self, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.state.cast(), len) }
    }
}

struct Along<T, O>(PhantomData<(T, O)>);

impl<T: Number, O: Operation<T>> Kernel for Along<T, O> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        // SAFETY: the arguments' promise: a state for each row.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(args.rows)) };
        for (row, state) in tile.chunks_exact(args.columns).zip(states) {
            *state = fold_row::<T, O>(row, |x| x);
        }
    }
}

/// Two passes over each row.
struct MomentsAlong<T>(PhantomData<T>);

impl<T: Real> Kernel for MomentsAlong<T> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        // SAFETY: the arguments' promise: two arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(2 * args.rows)) };
        let (means, squares) = states.split_at_mut(args.rows);
        for ((row, mean), squares) in tile.chunks_exact(args.columns).zip(means).zip(squares) {
            [*mean, *squares] = moments(row);
        }
    }
}

/// Mean and sum of squared deviations of some elements.
#[inline(always)]
fn moments<T: Real>(row: &[T]) -> [T; 2] {
    let mean = fold_row::<T, Sum>(row, |x| x).div(T::from_count(row.len()));
    [mean, fold_row::<T, Sum>(row, |x| x.sub(mean).mul(x.sub(mean)))]
}

/// Joins `rows` rows of `width <= STRIP` elements each, `pitch` apart, element by element. The elements
/// end with the last row.
#[inline(always)]
fn join_rows<T: Number, O: Operation<T>>(
    elements: &[T],
    rows: usize,
    width: usize,
    pitch: usize,
    f: impl Fn(usize, T) -> T,
) -> [O::Value; STRIP] {
    let mut strip = [O::IDENTITY; STRIP];
    for row in 0..rows {
        let from = &elements[row * pitch..];
        // Full strips may read beyond their row, into rows that follow; what they join there is not used.
        match from.first_chunk::<STRIP>() {
            Some(from) => {
                for (lane, (state, x)) in strip.iter_mut().zip(from).enumerate() {
                    *state = O::join(*state, O::of(f(lane, *x)));
                }
            }
            None => {
                for (lane, (state, x)) in strip.iter_mut().zip(&from[..width]).enumerate() {
                    *state = O::join(*state, O::of(f(lane, *x)));
                }
            }
        }
    }
    strip
}

/// Sums narrow rows, `columns <= STRIP / 2` wide, of `f` of the elements: several rows side by side fill a strip. The
/// function gets an element's place in the strip, where columns repeat.
#[inline(always)]
fn fold_narrow<T: Number>(tile: &[T], columns: usize, f: impl Fn(usize, T) -> T) -> [T; STRIP] {
    let rows = tile.len() / columns;
    let group = (STRIP / columns).min(rows);
    let (wide, groups) = (group * columns, rows / group);
    let (whole, rest) = tile.split_at(groups * wide);
    let strip = join_rows::<T, Sum>(whole, groups, wide, wide, &f);
    let mut sums = [T::ZERO; STRIP];
    for row in strip[..wide].chunks_exact(columns) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum = sum.add(*x);
        }
    }
    for row in rest.chunks_exact(columns) {
        for (lane, (sum, x)) in sums.iter_mut().zip(row).enumerate() {
            *sum = sum.add(f(lane, *x));
        }
    }
    sums
}

struct Down<T, O>(PhantomData<(T, O)>);

impl<T: Number, O: Operation<T>> Kernel for Down<T, O> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        let FoldArgs { rows, columns, .. } = *args;
        // SAFETY: the arguments' promise: a state for each column.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(columns)) };
        if columns > STRIP / 2 {
            for (strip, states) in states.chunks_mut(STRIP).enumerate() {
                let from = &tile[strip * STRIP..];
                let sums = join_rows::<T, O>(from, rows, states.len(), columns, |_, x| x);
                for (state, sum) in states.iter_mut().zip(sums) {
                    *state = O::result(O::join(O::of(*state), sum));
                }
            }
            return;
        }
        // Several narrow rows side by side fill a strip.
        let group = (STRIP / columns).min(rows);
        let (wide, groups) = (group * columns, rows / group);
        let sums = join_rows::<T, O>(&tile[..groups * wide], groups, wide, wide, |_, x| x);
        for row in sums[..wide].chunks_exact(columns) {
            for (state, sum) in states.iter_mut().zip(row) {
                *state = O::result(O::join(O::of(*state), *sum));
            }
        }
        for row in tile[groups * wide..].chunks_exact(columns) {
            for (state, x) in states.iter_mut().zip(row) {
                *state = O::result(O::join(O::of(*state), O::of(*x)));
            }
        }
    }
}

/// Two passes over each strip of columns, merged into the state.
struct MomentsDown<T>(PhantomData<T>);

impl<T: Real> Kernel for MomentsDown<T> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        let FoldArgs { rows, columns, seen, .. } = *args;
        // SAFETY: the arguments' promise: two arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(2 * columns)) };
        let (means, squares) = states.split_at_mut(columns);
        if columns == 1 {
            [means[0], squares[0]] = merge_moments([means[0], squares[0]], moments(tile), [seen, rows]);
            return;
        }
        let count = T::from_count(rows);
        if columns <= STRIP / 2 {
            let mean = fold_narrow(tile, columns, |_, x| x).map(|sum| sum.div(count));
            let mut of_lanes = [T::ZERO; STRIP];
            for of_row in of_lanes.chunks_exact_mut(columns) {
                of_row.copy_from_slice(&mean[..columns]);
            }
            let deviations =
                fold_narrow(tile, columns, |lane, x| x.sub(of_lanes[lane]).mul(x.sub(of_lanes[lane])));
            for column in 0..columns {
                let (state, tile) = ([means[column], squares[column]], [mean[column], deviations[column]]);
                [means[column], squares[column]] = merge_moments(state, tile, [seen, rows]);
            }
            return;
        }
        for (strip, (means, squares)) in means.chunks_mut(STRIP).zip(squares.chunks_mut(STRIP)).enumerate() {
            let (from, width) = (&tile[strip * STRIP..], means.len());
            let mean = join_rows::<T, Sum>(from, rows, width, columns, |_, x| x).map(|sum| sum.div(count));
            let deviations = join_rows::<T, Sum>(from, rows, width, columns, |lane, x| {
                x.sub(mean[lane]).mul(x.sub(mean[lane]))
            });
            for lane in 0..width {
                [means[lane], squares[lane]] =
                    merge_moments([means[lane], squares[lane]], [mean[lane], deviations[lane]], [seen, rows]);
            }
        }
    }
}

/// Mean and sum of squared deviations of two samples together (Chan, Golub and LeVeque 1979).
#[inline(always)]
fn merge_moments<T: Real>(a: [T; 2], b: [T; 2], counts: [usize; 2]) -> [T; 2] {
    if counts[0] == 0 {
        return b;
    }
    let weight = T::from_count(counts[1]).div(T::from_count(counts[0] + counts[1]));
    let between = T::from_count(counts[0]).mul(weight);
    let delta = b[0].sub(a[0]);
    [a[0].add(delta.mul(weight)), a[1].add(b[1]).add(delta.mul(delta).mul(between))]
}

struct Merge<T, O>(PhantomData<(T, O)>);

impl<T: Number, O: Operation<T>> Kernel for Merge<T, O> {
    type Args = MergeArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MergeArgs) {
        // SAFETY: both have `len` states.
        let (states, others) = unsafe { args.slices::<T>(args.len) };
        for (state, other) in states.iter_mut().zip(others) {
            *state = O::result(O::join(O::of(*state), O::of(*other)));
        }
    }
}

struct MergeMoments<T>(PhantomData<T>);

impl<T: Real> Kernel for MergeMoments<T> {
    type Args = MergeArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MergeArgs) {
        let len = args.len;
        // SAFETY: both have two arrays of `len` elements.
        let (states, others) = unsafe { args.slices::<T>(2 * len) };
        for i in 0..len {
            let (a, b) = ([states[i], states[len + i]], [others[i], others[len + i]]);
            [states[i], states[len + i]] = merge_moments(a, b, args.counts);
        }
    }
}

impl MergeArgs {
    /// # Safety
    /// Both have `len` elements of the type.
    #[inline(always)]
    unsafe fn slices<'a, T>(&self, len: usize) -> (&'a mut [T], &'a [T]) {
        if len == 0 {
            return (&mut [], &[]);
        }
        // SAFETY: the caller's promise; they do not overlap.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.state.cast(), len),
                std::slice::from_raw_parts(self.other.cast(), len),
            )
        }
    }
}

macro_rules! by_kind {
    ($isa:expr, $kind:expr, $dtype:expr, $plain:ident, $moments:ident) => {
        match $kind {
            FoldKind::Sum | FoldKind::Prod if $dtype == DType::Bool => None,
            FoldKind::Sum => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Sum>>($isa)),
            FoldKind::Prod => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Product>>($isa)),
            FoldKind::Max => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Largest>>($isa)),
            FoldKind::Min => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Smallest>>($isa)),
            FoldKind::Mean => with_real!($dtype, T => <T as Tuned>::version::<$plain<T, Sum>>($isa)),
            FoldKind::Var => with_real!($dtype, T => <T as Tuned>::version::<$moments<T>>($isa)),
        }
    };
}

/// The kernel that folds each row of a tile into a state of its own.
pub fn along(isa: Isa, kind: FoldKind, dtype: DType) -> Option<FoldFn> {
    by_kind!(isa, kind, dtype, Along, MomentsAlong)
}

/// The kernel that folds the columns of a tile into their states.
pub fn down(isa: Isa, kind: FoldKind, dtype: DType) -> Option<FoldFn> {
    by_kind!(isa, kind, dtype, Down, MomentsDown)
}

/// The kernel that merges states.
pub fn merge(isa: Isa, kind: FoldKind, dtype: DType) -> Option<MergeFn> {
    by_kind!(isa, kind, dtype, Merge, MergeMoments)
}

/// Arrays in the state of a fold.
pub fn state_arrays(kind: FoldKind) -> usize {
    if kind == FoldKind::Var { 2 } else { 1 }
}

/// What the states of an empty fold hold.
pub fn identity(kind: FoldKind, dtype: DType) -> Scalar {
    match kind {
        FoldKind::Sum | FoldKind::Mean | FoldKind::Var => Scalar::zero(dtype),
        FoldKind::Prod => Scalar::one(dtype),
        // Conversions to integers saturate; as a boolean an infinity would be true.
        FoldKind::Max if dtype == DType::Bool => Scalar::B(false),
        FoldKind::Max => Scalar::F(f64::NEG_INFINITY).cast(dtype),
        FoldKind::Min => Scalar::F(f64::INFINITY).cast(dtype),
    }
}
