//! Folds over tiles. The order of every sum is a function of the tile's shape alone.
//!
//! A fold's *state* is what partial results are kept and merged in: one value for sums, extrema and means, and for
//! products of integers; two arrays for a variance, means and sums of squared deviations, and for a product of floats,
//! mantissas and exponents. See [`super::moments`] and [`super::product`].

use std::marker::PhantomData;

use graphc_ir::dtype::DType;
use graphc_ir::program::FoldKind;
use graphc_ir::scalar::{Scalar, ScalarFn};

use super::kernel::{Kernel, TileFn, Tuned, with_ordered, with_real};
use super::map::{MapArgs, MapFn, map};
use super::moments::{MergeMoments, MomentsAlong, MomentsDown};
use super::number::Number;
use super::product::{MergeProducts, ProductAlong, ProductDown, Scaled};
use crate::isa::Isa;
use crate::threshold::thresholds;

/// A tile of `rows` by `columns` elements (neither 0), row after row, and a state.
///
/// [`along`] writes the states of the rows, [`down`] merges into the states of the columns. Where a state has two arrays
/// the second lies directly after the first.
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
pub(super) trait Operation<T> {
    type Value: Copy;
    const IDENTITY: Self::Value;
    fn of(x: T) -> Self::Value;
    fn join(a: Self::Value, b: Self::Value) -> Self::Value;
    fn result(value: Self::Value) -> T;
}

pub(super) struct Sum;
pub(super) struct Product;
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
    pub(super) const STRIP: usize = 64, of Nest [Columns];
    /// Accumulators of a short row.
    pub(super) const SHORT: usize = 8, of Nest [Columns];
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
pub(super) fn fold_row<T: Number, O: Operation<T>>(row: &[T], f: impl Fn(T) -> T) -> T {
    if row.len() < STRIP { fold_lanes::<T, O, SHORT>(row, f) } else { fold_lanes::<T, O, STRIP>(row, f) }
}

impl FoldArgs {
    /// The tile's elements.
    ///
    /// # Safety
    /// The tile has that many elements of the type.
    #[inline(always)]
    pub(super) unsafe fn elements<'a, T>(&self) -> &'a [T] {
        // SAFETY: the caller's promise; tiles are aligned to their elements.
        unsafe { std::slice::from_raw_parts(self.tile.cast(), self.rows * self.columns) }
    }

    /// The states: `len` elements.
    ///
    /// # Safety
    /// The state has that many elements of the type, which nobody else uses.
    #[inline(always)]
    pub(super) unsafe fn states<'a, T>(&self, len: usize) -> &'a mut [T] {
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

/// Joins `rows` rows of `width <= STRIP` elements each, `pitch` apart, element by element. The elements
/// end with the last row.
#[inline(always)]
pub(super) fn join_rows<T: Number, O: Operation<T>>(
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

impl MergeArgs {
    /// # Safety
    /// Both have `len` elements of the type.
    #[inline(always)]
    pub(super) unsafe fn slices<'a, T>(&self, len: usize) -> (&'a mut [T], &'a [T]) {
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
    ($isa:expr, $kind:expr, $dtype:expr, $plain:ident, $moments:ident, $product:ident) => {
        match $kind {
            FoldKind::Sum | FoldKind::Prod if $dtype == DType::Bool => None,
            FoldKind::Sum => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Sum>>($isa)),
            FoldKind::Prod if $dtype.is_float() => {
                with_real!($dtype, T => <T as Tuned>::version::<$product<T>>($isa))
            }
            FoldKind::Prod => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Product>>($isa)),
            FoldKind::Max => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Largest>>($isa)),
            FoldKind::Min => with_ordered!($dtype, T => <T as Tuned>::version::<$plain<T, Smallest>>($isa)),
            FoldKind::Mean => with_real!($dtype, T => <T as Tuned>::version::<$moments<T, 1>>($isa)),
            FoldKind::Var => with_real!($dtype, T => <T as Tuned>::version::<$moments<T, 2>>($isa)),
        }
    };
}

/// The kernel that folds each row of a tile into a state of its own.
pub fn along(isa: Isa, kind: FoldKind, dtype: DType) -> Option<FoldFn> {
    by_kind!(isa, kind, dtype, Along, MomentsAlong, ProductAlong)
}

/// The kernel that folds the columns of a tile into their states.
pub fn down(isa: Isa, kind: FoldKind, dtype: DType) -> Option<FoldFn> {
    by_kind!(isa, kind, dtype, Down, MomentsDown, ProductDown)
}

/// The kernel that merges states.
pub fn merge(isa: Isa, kind: FoldKind, dtype: DType) -> Option<MergeFn> {
    by_kind!(isa, kind, dtype, Merge, MergeMoments, MergeProducts)
}

/// What makes results of states: their last array divided by the number of elements, or their two arrays together.
#[derive(Clone, Copy, Debug)]
pub enum Finish {
    /// The last array, divided by the number of elements that were folded.
    Divide(MapFn),
    /// A function of the first and the second array.
    Join(MapFn),
}

impl Finish {
    /// Makes `len` results of `size` bytes each of the arrays of a state; `count` is the number of elements.
    ///
    /// # Safety
    /// The state has so many arrays of `len` elements each, the first of at least one, and `dst` has room for `len`.
    pub unsafe fn run(
        &self,
        dst: *mut u8,
        state: *const u8,
        (arrays, len, size): (usize, usize, usize),
        count: *const u8,
    ) {
        let last = state.wrapping_add((arrays - 1) * len * size);
        let (kernel, operands, splat) = match self {
            Finish::Divide(kernel) => (kernel, [last, count, std::ptr::null()], [false, true, false]),
            Finish::Join(kernel) => (kernel, [state, last, std::ptr::null()], [false; 3]),
        };
        // SAFETY: the caller's promise; the count is one element.
        unsafe { kernel(&MapArgs { dst, operands, splat, len }) };
    }
}

/// How results are made of states, if they are not the states' one array.
pub fn finish(isa: Isa, kind: FoldKind, dtype: DType) -> Option<Finish> {
    match kind {
        FoldKind::Var => map(isa, ScalarFn::Div, dtype).map(Finish::Divide),
        FoldKind::Prod => with_real!(dtype, T => Finish::Join(<T as Tuned>::version::<Scaled<T>>(isa))),
        _ => None,
    }
}

/// Arrays in the state of a fold.
pub fn state_arrays(kind: FoldKind, dtype: DType) -> usize {
    match kind {
        FoldKind::Var => 2,
        FoldKind::Prod if dtype.is_float() => 2,
        _ => 1,
    }
}

/// What the states of an empty fold hold, in each array.
pub fn identity(kind: FoldKind, dtype: DType) -> Scalar {
    match kind {
        FoldKind::Sum => Scalar::zero(dtype),
        FoldKind::Mean | FoldKind::Var => Scalar::F(f64::NAN),
        FoldKind::Prod => Scalar::one(dtype),
        // Conversions to integers saturate; as a boolean an infinity would be true.
        FoldKind::Max if dtype == DType::Bool => Scalar::B(false),
        FoldKind::Max => Scalar::F(f64::NEG_INFINITY).cast(dtype),
        FoldKind::Min => Scalar::F(f64::INFINITY).cast(dtype),
    }
}
