//! Means and variances, corrected for what rounding left of a first mean.
//!
//! A first pass gives a mean m. A second one gives the sums of the deviations d from it and of their squares: the mean
//! is m + sum(d) / n, and the sum of squared deviations from that is sum(d^2) - sum(d)^2 / n (the corrected two-pass
//! algorithm; Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983). The deviations of elements
//! near m are exact, so that of equal elements the mean is that element and the variance is 0.
//!
//! States are means, and for variances sums of squared deviations directly after them: `ARRAYS` is 1 or 2.

use std::marker::PhantomData;

use super::fold::{FoldArgs, MergeArgs, SHORT, STRIP, Sum, fold_row};
use super::kernel::Kernel;
use super::number::{Number, Real};

/// Accumulators of each of the two sums of a long row.
const LANES: usize = STRIP / 2;

#[inline(always)]
fn is_finite<T: Number>(x: T) -> bool {
    x.sub(x) == T::ZERO
}

/// Mean and sum of squares after the correction; an infinite mean has no deviations to be corrected by.
#[inline(always)]
fn corrected<T: Real>(first: T, deviations: T, squares: T, count: T) -> [T; 2] {
    let shift = deviations.div(count);
    let finite = is_finite(shift);
    let mean = if finite { first.add(shift) } else { first };
    let less = squares.sub(deviations.mul(shift));
    let less = if less < T::ZERO { T::ZERO } else { less };
    [mean, if finite { less } else { squares }]
}

/// Sums over a row of what `f` makes of each element.
#[inline(always)]
fn sum_pairs<T: Real, const LANES: usize>(row: &[T], f: impl Fn(T) -> [T; 2]) -> [T; 2] {
    let (mut first, mut second) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for ((a, b), x) in first.iter_mut().zip(&mut second).zip(chunk) {
            let [p, q] = f(*x);
            (*a, *b) = (a.add(p), b.add(q));
        }
    }
    for ((a, b), x) in first.iter_mut().zip(&mut second).zip(rest) {
        let [p, q] = f(*x);
        (*a, *b) = (a.add(p), b.add(q));
    }
    [first, second].map(|mut lanes| {
        let mut width = LANES / 2;
        while width > 0 {
            let (low, high) = lanes.split_at_mut(width);
            for (a, b) in low.iter_mut().zip(high.iter()) {
                *a = a.add(*b);
            }
            width /= 2;
        }
        lanes[0]
    })
}

/// Mean and, if `ARRAYS` is 2, sum of squared deviations of some elements.
#[inline(always)]
fn moments<T: Real, const ARRAYS: usize>(row: &[T]) -> [T; 2] {
    let count = T::from_count(row.len());
    let mut first = fold_row::<T, Sum>(row, |x| x).div(count);
    if !is_finite(first) {
        // A sum may overflow where the mean does not.
        first = fold_row::<T, Sum>(row, |x| x.div(count));
    }
    if ARRAYS == 1 {
        return corrected(first, fold_row::<T, Sum>(row, |x| x.sub(first)), T::ZERO, count);
    }
    let about = |mean: T| {
        let pair = |x: T| pair(x.sub(mean));
        if row.len() < STRIP { sum_pairs::<T, SHORT>(row, pair) } else { sum_pairs::<T, LANES>(row, pair) }
    };
    let [deviations, squares] = about(first);
    let found = corrected(first, deviations, squares, count);
    if !is_blurred(first, found, squares) {
        return found;
    }
    let [deviations, squares] = about(found[0]);
    corrected(found[0], deviations, squares, count)
}

/// Whether the squares of deviations tell of the first mean's error rather than of the data: it is most of them, so that
/// little is left after the correction, or they overflowed (the rounding of a mean of 1e30 alone has a square beyond the
/// largest f32). Then they are summed again, about the better mean.
#[inline(always)]
fn is_blurred<T: Real>(first: T, found: [T; 2], squares: T) -> bool {
    let lost = !is_finite(squares) || found[1].mul(T::from_count(64)) < squares;
    lost && is_finite(found[0]) && found[0] != first
}

pub(super) struct MomentsAlong<T, const ARRAYS: usize>(PhantomData<T>);

impl<T: Real, const ARRAYS: usize> Kernel for MomentsAlong<T, ARRAYS> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        // SAFETY: the arguments' promise: so many arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(ARRAYS * args.rows)) };
        for (i, row) in tile.chunks_exact(args.columns).enumerate() {
            let found = moments::<T, ARRAYS>(row);
            for (array, value) in found[..ARRAYS].iter().enumerate() {
                states[array * args.rows + i] = *value;
            }
        }
    }
}

/// Sums `K` values of each element down the columns of `rows` rows of `width <= STRIP` elements each, `pitch` apart. The
/// function gets an element's place in its row; the elements end with the last row.
#[inline(always)]
fn sum_rows<T: Real, const K: usize>(
    elements: &[T],
    rows: usize,
    width: usize,
    pitch: usize,
    f: impl Fn(usize, T) -> [T; K],
) -> [[T; STRIP]; K] {
    let mut strips = [[T::ZERO; STRIP]; K];
    for row in 0..rows {
        let from = &elements[row * pitch..];
        // Full strips may read beyond their row, into rows that follow; what they sum there is not used.
        match from.first_chunk::<STRIP>() {
            Some(from) => {
                for (lane, x) in from.iter().enumerate() {
                    for (strip, value) in strips.iter_mut().zip(f(lane, *x)) {
                        strip[lane] = strip[lane].add(value);
                    }
                }
            }
            None => {
                for (lane, x) in from[..width].iter().enumerate() {
                    for (strip, value) in strips.iter_mut().zip(f(lane, *x)) {
                        strip[lane] = strip[lane].add(value);
                    }
                }
            }
        }
    }
    strips
}

/// As [`sum_rows`] for narrow rows, `columns <= STRIP / 2` wide: several rows side by side fill a strip. The function gets
/// an element's place in the strip, where columns repeat.
#[inline(always)]
fn sum_narrow<T: Real, const K: usize>(
    tile: &[T],
    columns: usize,
    f: impl Fn(usize, T) -> [T; K],
) -> [[T; STRIP]; K] {
    let rows = tile.len() / columns;
    let group = (STRIP / columns).min(rows);
    let (wide, groups) = (group * columns, rows / group);
    let (whole, rest) = tile.split_at(groups * wide);
    let strips = sum_rows(whole, groups, wide, wide, &f);
    let mut sums = [[T::ZERO; STRIP]; K];
    for (sums, strip) in sums.iter_mut().zip(&strips) {
        for row in strip[..wide].chunks_exact(columns) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum = sum.add(*x);
            }
        }
    }
    for row in rest.chunks_exact(columns) {
        for (lane, x) in row.iter().enumerate() {
            for (sums, value) in sums.iter_mut().zip(f(lane, *x)) {
                sums[lane] = sums[lane].add(value);
            }
        }
    }
    sums
}

pub(super) struct MomentsDown<T, const ARRAYS: usize>(PhantomData<T>);

impl<T: Real, const ARRAYS: usize> MomentsDown<T, ARRAYS> {
    /// The moments of the columns of a part of a tile; `sum` and `sums` sum one and two values of each element.
    #[inline(always)]
    fn of_strip(
        width: usize,
        count: T,
        repeat: impl Fn([T; STRIP]) -> [T; STRIP],
        sum: impl Fn(&dyn Fn(usize, T) -> T) -> [T; STRIP],
        one: impl Fn(&[T; STRIP]) -> [T; STRIP],
        two: impl Fn(&[T; STRIP]) -> [[T; STRIP]; 2],
        plain: impl Fn() -> [T; STRIP],
    ) -> [[T; STRIP]; 2] {
        let mut first = plain().map(|sum| sum.div(count));
        if !first[..width].iter().all(|x| is_finite(*x)) {
            // A sum may overflow where the mean does not.
            first = sum(&|_, x| x.div(count));
        }
        let lanes = repeat(first);
        let [deviations, squares] = if ARRAYS == 1 { [one(&lanes), [T::ZERO; STRIP]] } else { two(&lanes) };
        let correct = |first: &[T; STRIP], deviations: &[T; STRIP], squares: &[T; STRIP]| {
            let mut found = [[T::ZERO; STRIP]; 2];
            let sums = deviations.iter().zip(squares);
            for (lane, (first, (deviations, squares))) in first.iter().zip(sums).enumerate() {
                [found[0][lane], found[1][lane]] = corrected(*first, *deviations, *squares, count);
            }
            found
        };
        let found = correct(&first, &deviations, &squares);
        let blurred = |lane: usize| is_blurred(first[lane], [found[0][lane], found[1][lane]], squares[lane]);
        if ARRAYS == 1 || !(0..width).any(blurred) {
            return found;
        }
        let [deviations, squares] = two(&repeat(found[0]));
        correct(&found[0], &deviations, &squares)
    }
}

impl<T: Real, const ARRAYS: usize> Kernel for MomentsDown<T, ARRAYS> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        let FoldArgs { rows, columns, seen, .. } = *args;
        // SAFETY: the arguments' promise: so many arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(ARRAYS * columns)) };
        let mut put = |column: usize, found: [T; 2]| {
            let mut state = [states[column], T::ZERO];
            if ARRAYS == 2 {
                state[1] = states[columns + column];
            }
            let merged = merge_moments(state, found, [seen, rows]);
            for (array, value) in merged[..ARRAYS].iter().enumerate() {
                states[array * columns + column] = *value;
            }
        };
        if columns == 1 {
            put(0, moments::<T, ARRAYS>(tile));
            return;
        }
        let count = T::from_count(rows);
        if columns <= STRIP / 2 {
            let repeat = |mean: [T; STRIP]| {
                let mut lanes = [T::ZERO; STRIP];
                for row in lanes.chunks_exact_mut(columns) {
                    row.copy_from_slice(&mean[..columns]);
                }
                lanes
            };
            let [means, squares] = Self::of_strip(
                columns,
                count,
                repeat,
                |f| sum_narrow(tile, columns, |lane, x| [f(lane, x)])[0],
                |mean| sum_narrow(tile, columns, |lane, x| [x.sub(mean[lane])])[0],
                |mean| sum_narrow(tile, columns, |lane, x| pair(x.sub(mean[lane]))),
                || sum_narrow(tile, columns, |_, x| [x])[0],
            );
            (0..columns).for_each(|column| put(column, [means[column], squares[column]]));
            return;
        }
        for start in (0..columns).step_by(STRIP) {
            let (from, width) = (&tile[start..], STRIP.min(columns - start));
            let [means, squares] = Self::of_strip(
                width,
                count,
                |mean| mean,
                |f| sum_rows(from, rows, width, columns, |lane, x| [f(lane, x)])[0],
                |mean| sum_rows(from, rows, width, columns, |lane, x| [x.sub(mean[lane])])[0],
                |mean| sum_rows(from, rows, width, columns, |lane, x| pair(x.sub(mean[lane]))),
                || sum_rows(from, rows, width, columns, |_, x| [x])[0],
            );
            (0..width).for_each(|lane| put(start + lane, [means[lane], squares[lane]]));
        }
    }
}

#[inline(always)]
fn pair<T: Real>(d: T) -> [T; 2] {
    [d, d.mul(d)]
}

/// Mean and sum of squared deviations of two samples together (Chan, Golub and LeVeque 1983).
#[inline(always)]
fn merge_moments<T: Real>(a: [T; 2], b: [T; 2], counts: [usize; 2]) -> [T; 2] {
    if counts[0] == 0 {
        return b;
    }
    if counts[1] == 0 {
        return a;
    }
    let weight = T::from_count(counts[1]).div(T::from_count(counts[0] + counts[1]));
    let between = T::from_count(counts[0]).mul(weight);
    let delta = b[0].sub(a[0]);
    // Two infinite means have no difference, and that of large ones may overflow.
    let apart = a[0].mul(T::ONE.sub(weight)).add(b[0].mul(weight));
    let mean = if is_finite(delta) { a[0].add(delta.mul(weight)) } else { apart };
    [mean, a[1].add(b[1]).add(delta.mul(delta).mul(between))]
}

pub(super) struct MergeMoments<T, const ARRAYS: usize>(PhantomData<T>);

impl<T: Real, const ARRAYS: usize> Kernel for MergeMoments<T, ARRAYS> {
    type Args = MergeArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MergeArgs) {
        let len = args.len;
        // SAFETY: both have so many arrays of `len` elements.
        let (states, others) = unsafe { args.slices::<T>(ARRAYS * len) };
        for i in 0..len {
            let second = |of: &[T]| if ARRAYS == 2 { of[len + i] } else { T::ZERO };
            let (a, b) = ([states[i], second(states)], [others[i], second(others)]);
            let merged = merge_moments(a, b, args.counts);
            for (array, value) in merged[..ARRAYS].iter().enumerate() {
                states[array * len + i] = *value;
            }
        }
    }
}
