//! Which source positions and taps make a result position, along one dimension.

use crate::Geometry;
use std::ops::Range;

/// What is computed from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Outputs from inputs.
    Forward,
    /// Gradients of inputs from gradients of outputs.
    Backward,
}

/// The terms of one result position: term j takes the source at `first + j * source_step` and the tap
/// `tap + j * tap_step`; positions in the source's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub first: isize,
    pub source_step: usize,
    pub tap: usize,
    pub tap_step: isize,
    pub terms: usize,
    /// The source's size.
    pub size: usize,
}

impl Direction {
    /// Result positions with the same taps are this far apart.
    pub fn phases(self, geometry: &Geometry, dim: usize) -> usize {
        match self {
            Direction::Forward => 1,
            Direction::Backward => geometry.stride[dim],
        }
    }

    /// Source positions from one result position of a phase to the next.
    pub fn advance(self, geometry: &Geometry, dim: usize) -> usize {
        match self {
            Direction::Forward => geometry.stride[dim],
            Direction::Backward => 1,
        }
    }

    pub fn line(self, geometry: &Geometry, dim: usize, position: usize) -> Line {
        let (stride, dilation) = (geometry.stride[dim], geometry.dilation[dim]);
        let (kernel, pad) = (geometry.kernel[dim], geometry.pad[dim]);
        match self {
            Direction::Forward => Line {
                first: (position * stride) as isize - pad as isize,
                source_step: dilation,
                tap: 0,
                tap_step: 1,
                terms: kernel,
                size: geometry.input[dim],
            },
            Direction::Backward => {
                let padded = position + pad;
                // Window p and tap t meet here where p * stride + t * dilation is `padded`. Every `period`th
                // tap does.
                let common = greatest_common_divisor(stride, dilation);
                let period = stride / common;
                let meets = |tap: &usize| {
                    (padded as isize - (tap * dilation) as isize).rem_euclid(stride as isize) == 0
                };
                let Some(least) = (0..period.min(kernel)).find(meets) else {
                    return Line { first: 0, source_step: 1, tap: 0, tap_step: 0, terms: 0, size: 0 };
                };
                let terms = (kernel - least).div_ceil(period);
                let tap = least + (terms - 1) * period;
                let window = (padded as isize - (tap * dilation) as isize) / stride as isize;
                Line {
                    first: window,
                    source_step: dilation / common,
                    tap,
                    tap_step: -(period as isize),
                    terms,
                    size: geometry.output[dim],
                }
            }
        }
    }
}

impl Line {
    /// The terms whose source position exists, when the line is moved by `offset` source positions.
    pub fn valid(&self, offset: usize) -> Range<usize> {
        let first = self.first + offset as isize;
        let below =
            |end: isize| (end - first).max(0).unsigned_abs().div_ceil(self.source_step).min(self.terms);
        let start = below(0);
        start..below(self.size as isize).max(start)
    }

    /// The first `count` of the lines that are moved by multiples of `advance`: those all of whose terms
    /// exist.
    pub fn interior(&self, advance: usize, count: usize) -> Range<usize> {
        let below = |end: isize| steps(end - self.first, advance).min(count);
        if self.terms == 0 {
            return 0..0;
        }
        let reach = ((self.terms - 1) * self.source_step) as isize;
        let start = below(0);
        start..below(self.size as isize - reach).max(start)
    }

    /// The source position and the tap of a term that exists.
    pub fn term(&self, term: usize) -> (usize, usize) {
        let (position, tap) = self.place(term, 0);
        (position.unsigned_abs(), tap)
    }

    /// The source position, which may not exist, and the tap of a term when the line is moved.
    pub fn place(&self, term: usize, moved: usize) -> (isize, usize) {
        let position = self.first + (moved + term * self.source_step) as isize;
        let tap = self.tap as isize + term as isize * self.tap_step;
        (position, tap.unsigned_abs())
    }
}

/// Steps, from 0 on, that do not reach a distance.
fn steps(distance: isize, step: usize) -> usize {
    let distance = distance.max(0).unsigned_abs();
    // Divisions take as long as a row of a kernel.
    if step == 1 { distance } else { distance.div_ceil(step) }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_list_exactly_the_terms_of_the_definition() {
        for (input, kernel, stride, dilation, pad) in [
            (7, 3, 1, 1, 1),
            (9, 3, 2, 1, 1),
            (8, 4, 3, 2, 3),
            (5, 5, 2, 2, 6),
            (6, 2, 4, 2, 0),
            (3, 7, 6, 4, 9),
        ] {
            let output = (input + 3 * pad) / stride;
            let of = |size: usize| [1, 1, size];
            let geometry = Geometry {
                input: of(input),
                output: of(output),
                kernel: of(kernel),
                stride: of(stride),
                dilation: of(dilation),
                pad: [0, 0, pad],
            };
            let mut expected: Vec<(usize, usize, usize)> = Vec::new();
            for window in 0..output {
                for tap in 0..kernel {
                    if let Some(at) = (window * stride + tap * dilation).checked_sub(pad)
                        && at < input
                    {
                        expected.push((at, window, tap));
                    }
                }
            }
            expected.sort_unstable();
            for direction in [Direction::Forward, Direction::Backward] {
                let size = if direction == Direction::Forward { output } else { input };
                let phases = direction.phases(&geometry, 2);
                let mut found = Vec::new();
                for result in 0..size {
                    let line = direction.line(&geometry, 2, result);
                    for term in line.valid(0) {
                        let (source, tap) = line.term(term);
                        let (at, window) =
                            if direction == Direction::Forward { (source, result) } else { (result, source) };
                        found.push((at, window, tap));
                    }
                    // The same line, reached from the first of its phase.
                    let first = direction.line(&geometry, 2, result % phases);
                    let moved = result / phases * direction.advance(&geometry, 2);
                    assert_eq!(first.valid(moved), line.valid(0), "{direction:?} {result}");
                    let interior = first.interior(direction.advance(&geometry, 2), size);
                    let whole = line.valid(0).len() == line.terms && line.terms > 0;
                    assert_eq!(interior.contains(&(result / phases)), whole, "{direction:?} {result}");
                }
                found.sort_unstable();
                assert_eq!(found, expected, "{direction:?} {geometry:?}");
            }
        }
    }
}
