//! Which taps of the filter reach an output coordinate, and where they read, along one dim.

use crate::Geometry;

/// The taps that read inside the input for one output coordinate. They are [`Along::tap_step`] apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The first tap that reads a whole input coordinate, be it inside or not.
    pub phase: usize,
    /// Such taps that read outside the input before the first that is inside, and those inside.
    pub skipped: usize,
    pub count: usize,
    /// The input coordinate that the first of them reads.
    pub input: usize,
    /// Equal for coordinates of equal taps, and below the number of coordinates.
    pub class: usize,
    /// How many coordinates, from this one on, are of its class.
    pub run: usize,
}

impl Reach {
    fn taps(&self) -> [usize; 3] {
        [self.phase, self.skipped, self.count]
    }
}

/// How the taps that reach a coordinate follow each other, which is the same for all coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Along {
    /// From one tap to the next that reads a whole input coordinate.
    pub tap_step: usize,
    /// Input coordinates between the two.
    pub input_step: isize,
}

impl Along {
    pub fn new(geometry: &Geometry, transposed: bool, dim: usize) -> Along {
        let (stride, dilation) = (geometry.stride[dim], geometry.dilation[dim]);
        if transposed {
            let common = greatest_common_divisor(stride, dilation);
            Along { tap_step: stride / common, input_step: -((dilation / common) as isize) }
        } else {
            Along { tap_step: 1, input_step: dilation as isize }
        }
    }
}

/// The taps that reach coordinate `at` along `dim`, in a class and a run of its own.
pub fn reach(geometry: &Geometry, transposed: bool, dim: usize, at: usize) -> Reach {
    let along = Along::new(geometry, transposed, dim);
    let (kernel, input) = (geometry.kernel[dim], geometry.input[dim] as isize);
    let (stride, dilation) = (geometry.stride[dim] as isize, geometry.dilation[dim] as isize);
    let (at, pad) = (at as isize, geometry.pad[dim] as isize);
    let step = along.input_step.abs();
    let none = Reach { run: 1, ..Reach::default() };
    // The first tap that reads a whole coordinate, where that is, and how far it is outside.
    let (tap, read, outside) = if transposed {
        let position = at + pad;
        let whole = |tap: &usize| (position - *tap as isize * dilation).rem_euclid(stride) == 0;
        let Some(tap) = (0..along.tap_step.min(kernel)).find(whole) else { return none };
        let read = (position - tap as isize * dilation).div_euclid(stride);
        (tap, read, read - (input - 1))
    } else {
        let read = at * stride - pad;
        (0, read, -read)
    };
    let skipped = if outside > 0 { (outside + step - 1) / step } else { 0 };
    let read = read + skipped * along.input_step;
    let skipped = skipped as usize;
    let first = tap + skipped * along.tap_step;
    if first >= kernel || read < 0 || read >= input {
        return none;
    }
    let inside = if transposed { read / step } else { (input - 1 - read) / step } as usize + 1;
    let count = inside.min((kernel - 1 - first) / along.tap_step + 1);
    Reach { phase: tap, skipped, count, input: read as usize, class: 0, run: 1 }
}

/// Finds the reach of each coordinate along `dim`, and says how many classes there are.
pub fn fill(geometry: &Geometry, transposed: bool, dim: usize, reaches: &mut [Reach]) -> usize {
    let mut classes = 0;
    for at in 0..reaches.len() {
        let mut found = reach(geometry, transposed, dim, at);
        let same = |other: &&Reach| other.taps() == found.taps();
        found.class = match reaches[..at].iter().rev().find(same) {
            Some(other) => other.class,
            None => {
                classes += 1;
                classes - 1
            }
        };
        reaches[at] = found;
    }
    for at in (1..reaches.len()).rev() {
        if reaches[at - 1].class == reaches[at].class {
            reaches[at - 1].run = reaches[at].run + 1;
        }
    }
    classes
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaches_are_what_the_definition_says() {
        for index in 0..7 * 6 * 5 * 4 * 4 * 2 {
            let (input, rest) = (index % 7 + 1, index / 7);
            let (kernel, rest) = (rest % 6 + 1, rest / 6);
            let (pad, rest) = (rest % 5, rest / 5);
            let (stride, rest) = (rest % 4 + 1, rest / 4);
            let (dilation, transposed) = (rest % 4 + 1, rest / 4 == 1);
            let dims = |size| [1, 1, size];
            let geometry = Geometry {
                input: dims(input),
                output: dims(12),
                kernel: dims(kernel),
                stride: dims(stride),
                dilation: dims(dilation),
                pad: [0, 0, pad],
            };
            let along = Along::new(&geometry, transposed, 2);
            for at in 0..12 {
                let expected: Vec<(usize, isize)> = (0..kernel)
                    .map(|tap| (tap, tap as isize * dilation as isize))
                    .filter_map(|(tap, offset)| {
                        let (at, pad, stride) = (at as isize, pad as isize, stride as isize);
                        let read = if !transposed {
                            at * stride - pad + offset
                        } else if (at + pad - offset) % stride == 0 {
                            (at + pad - offset) / stride
                        } else {
                            -1
                        };
                        (0..input as isize).contains(&read).then_some((tap, read))
                    })
                    .collect();
                let found = reach(&geometry, transposed, 2, at);
                let listed: Vec<(usize, isize)> = (0..found.count)
                    .map(|i| {
                        (
                            found.phase + (found.skipped + i) * along.tap_step,
                            found.input as isize + i as isize * along.input_step,
                        )
                    })
                    .collect();
                assert_eq!(listed, expected, "{geometry:?} at {at}");
            }
        }
    }

    #[test]
    fn coordinates_of_equal_taps_share_a_class() {
        let geometry = Geometry {
            input: [1, 1, 6],
            output: [1, 1, 6],
            kernel: [1, 1, 3],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0, 0, 1],
        };
        let mut reaches = [Reach::default(); 6];
        assert_eq!(fill(&geometry, false, 2, &mut reaches), 3);
        assert_eq!(reaches.map(|reach| reach.class), [0, 1, 1, 1, 1, 2]);
        assert_eq!(reaches.map(|reach| reach.run), [1, 4, 3, 2, 1, 1]);
    }
}
