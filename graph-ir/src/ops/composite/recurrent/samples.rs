//! Samples of recurrent networks: the same arrangements for each kind of cell.

use super::Cell;
use crate::ops::{Op, Sample, sample_tensor};
use crate::tensor::Tensor;

/// One arrangement of cells over one batch of sequences.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub layers: usize,
    pub bidirectional: bool,
    pub bias: bool,
    pub batch_first: bool,
    /// Steps, sequences, elements of an input, units.
    sizes: [usize; 4],
    /// Whether initial states are given.
    initial: bool,
    lengths: Option<&'static [i32]>,
}

const PLAIN: Case = Case {
    layers: 1,
    bidirectional: false,
    bias: true,
    batch_first: false,
    sizes: [3, 2, 3, 2],
    initial: false,
    lengths: None,
};

const CASES: [Case; 7] = [
    Case { sizes: [1, 1, 1, 1], ..PLAIN },
    Case { sizes: [0, 2, 1, 3], initial: true, ..PLAIN },
    Case { sizes: [2, 0, 3, 1], ..PLAIN },
    Case { bias: false, initial: true, ..PLAIN },
    Case { layers: 2, bias: false, batch_first: true, ..PLAIN },
    Case { bidirectional: true, sizes: [4, 3, 2, 1], lengths: Some(&[4, 0, 2]), ..PLAIN },
    Case { layers: 2, bidirectional: true, sizes: [2, 1, 1, 2], initial: true, lengths: Some(&[1]), ..PLAIN },
];

/// The samples of one kind of cell.
pub(super) fn of<C: Cell + Into<Op>>(make: impl Fn(Case) -> C) -> Vec<Sample> {
    CASES.iter().map(|case| sample(make(*case), case)).collect()
}

fn sample<C: Cell + Into<Op>>(cell: C, case: &Case) -> Sample {
    let (a, [steps, batch, inputs, units]) = (cell.arrangement(), case.sizes);
    let mut ins: Vec<Tensor> = Vec::new();
    let mut push = |shape: &[usize]| {
        // Halves keep the gates away from where they are flat.
        let t = sample_tensor(shape, ins.len() as u64 + 1);
        ins.push(Tensor::from_fn(t.dtype(), shape, |i| crate::scalar::Scalar::F(t.get(i).as_f64() / 2.0)));
    };
    push(&if a.batch_first { [batch, steps, inputs] } else { [steps, batch, inputs] });
    let gates = C::GATES * units;
    for k in 0..a.cells() {
        let rows = if k < a.directions() { inputs } else { a.directions() * units };
        push(&[rows, gates]);
        push(&[units, gates]);
        if a.bias {
            push(&[gates]);
            push(&[gates]);
        }
    }
    if case.initial {
        (0..C::STATES).for_each(|_| push(&[a.cells(), batch, units]));
    }
    ins.extend(case.lengths.map(|l| Tensor::from_slice(&[l.len()], l)));
    Sample::new(cell, ins)
}
