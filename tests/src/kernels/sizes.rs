//! Sizes of single kernels, drawn at the thresholds that their code has.

use std::collections::BTreeMap;

use graphc_cpu::threshold::{Axis, Kernels, Threshold};

use crate::random_graph::Prng;

/// Multiply-adds of a case, about, at most, because the interpreter has to do them, too: first few are tried for,
/// and more where a threshold lies high.
const MAX_WORK: [usize; 2] = [1 << 17, 1 << 23];
/// Elements of an operand, at most, likewise.
const MAX_ELEMENTS: [usize; 2] = [1 << 14, 1 << 21];

/// The sizes of a kernel's problem.
#[derive(Clone, Debug)]
pub struct Sizes(BTreeMap<Axis, usize>);

const AXES: [Axis; 8] = [
    Axis::Rows,
    Axis::Columns,
    Axis::Depth,
    Axis::Images,
    Axis::Width,
    Axis::Channels,
    Axis::Window,
    Axis::Links,
];

impl Sizes {
    /// The size along an axis.
    pub fn get(&self, axis: Axis) -> usize {
        if axis == Axis::Bytes { 4 } else { self.0.get(&axis).copied().unwrap_or(1) }
    }

    fn product(&self, axes: &[Axis]) -> usize {
        axes.iter().map(|axis| self.get(*axis)).fold(1, usize::saturating_mul)
    }

    /// Sizes of kernels on one side of a threshold, or at it: `side` is -1, 0 or 1. The others are drawn, some
    /// of them at thresholds of their own. Says whether they are large ones.
    pub fn at(threshold: &Threshold, side: isize, all: &[Threshold], prng: &mut Prng) -> (Sizes, bool) {
        let mut axes: Vec<Axis> = threshold.axes.iter().copied().filter(|a| *a != Axis::Bytes).collect();
        axes.sort_unstable();
        axes.dedup();
        let solved = prng.pick(&axes);
        // Large sizes by chance make the problem too large to be checked: then smaller ones are drawn.
        for attempt in 0..64 {
            let mut sizes = Sizes(BTreeMap::new());
            for axis in AXES {
                sizes.0.insert(axis, ordinary(threshold.kernels, axis, all, attempt, prng));
            }
            // An axis that stands twice is solved by its root.
            let power = threshold.axes.iter().filter(|a| **a == solved).count() as i32;
            let others: Vec<Axis> = threshold.axes.iter().copied().filter(|a| *a != solved).collect();
            let rest = sizes.product(&others).max(1);
            let quotient = (threshold.value as f64 / rest as f64).powf(1.0 / f64::from(power));
            let size = (quotient.floor() as usize).saturating_add_signed(side).max(1);
            sizes.0.insert(solved, size);
            let large = attempt / 48;
            if sizes.fits(threshold.kernels, MAX_WORK[large], MAX_ELEMENTS[large]) {
                return (sizes, large > 0);
            }
        }
        let mut sizes = Sizes(AXES.into_iter().map(|axis| (axis, 1)).collect());
        sizes.0.insert(solved, threshold.value.saturating_add_signed(side).clamp(1, MAX_ELEMENTS[1]));
        (sizes, true)
    }

    /// Whether the interpreter can be asked for the result.
    fn fits(&self, kernels: Kernels, most: usize, elements: usize) -> bool {
        let of = |axes: &[Axis]| self.product(axes);
        use Axis::{Channels, Columns, Depth, Rows, Window};
        let (work, largest) = match kernels {
            Kernels::Dot => (
                of(&[Rows, Columns, Depth]),
                of(&[Rows, Depth]).max(of(&[Depth, Columns])).max(of(&[Rows, Columns])),
            ),
            Kernels::Conv | Kernels::FilterGrad => (
                // Elements of a window are dear.
                of(&[Rows, Channels, Columns, Window, Window]).saturating_mul(2),
                of(&[Window, Window, Channels, Columns]).max(of(&[Rows, Columns])).max(of(&[Rows, Channels])),
            ),
            Kernels::Depthwise | Kernels::Window => {
                (of(&[Rows, Columns, Window, Window]).saturating_mul(2), of(&[Rows, Columns]))
            }
            Kernels::Nest | Kernels::Gather | Kernels::ArgReduce => {
                (of(&[Rows, Columns]).saturating_mul(4), of(&[Rows, Columns]))
            }
        };
        work <= most && largest <= elements
    }
}

/// A size from nothing in particular: small ones, or one at some threshold of that axis.
fn ordinary(kernels: Kernels, axis: Axis, all: &[Threshold], attempt: usize, prng: &mut Prng) -> usize {
    let small: &[usize] = match axis {
        Axis::Window => &[1, 2, 3, 3, 3, 5],
        Axis::Images => &[1, 1, 2, 3],
        Axis::Links => &[1, 2, 3],
        _ => &[1, 2, 3, 5, 7, 8, 9, 13, 20, 30, 40, 57, 100],
    };
    // Long chains are no problem of their own for any kernel.
    if attempt % 56 < 44 && axis != Axis::Links && prng.chance(0.6) {
        let lone: Vec<usize> =
            all.iter().filter(|t| t.kernels == kernels && t.axes == [axis]).map(|t| t.value).collect();
        if !lone.is_empty() {
            let side = prng.pick(&[-1, 0, 1, 1]);
            return prng.pick(&lone).saturating_add_signed(side).max(1);
        }
    }
    prng.pick(small)
}
