use std::ops::RangeInclusive;

use super::{Arrangement, Cell, Gates, recurrent, samples};
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::Expr;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).
    Lstm {
        /// Layers, each over the results of the one before.
        layers: usize = 1,
        /// Whether each layer also goes from the end to the beginning.
        bidirectional: bool = false,
        /// Whether there are biases among the operands.
        bias: bool = true,
        /// Whether x and y are `[b, t, ..]`.
        batch_first: bool = false,
    }
}

impl Cell for Lstm {
    const NAME: &'static str = "lstm";
    const GATES: usize = 4;
    const STATES: usize = 2;

    fn arrangement(&self) -> Arrangement {
        let Lstm { layers, bidirectional, bias, batch_first } = *self;
        Arrangement { layers, bidirectional, bias, batch_first }
    }

    fn step<'s>(&self, input: Gates<'s>, product: Gates<'s>, states: &[Expr<'s>]) -> Vec<Expr<'s>> {
        let sum = input.plus(&product);
        let (enter, forget, value, leave) = (sum.gate(0), sum.gate(1), sum.gate(2), sum.gate(3));
        let c = forget.sigmoid() * states[1] + enter.sigmoid() * value.tanh();
        vec![leave.sigmoid() * c.tanh(), c]
    }
}

recurrent!(
    Lstm,
    "lstm",
    "lstm{layers = 1, bidirectional = false, bias = true, batch_first = false}(x [t, b, i], (w_ih [i, 4h], w_hh [h, 4h], \
     b_ih [4h], b_hh [4h])…, h0 [l, b, h] = 0, c0 [l, b, h] = 0, lengths int [b] = t) -> (y [t, b, h], h [l, b, h], \
     c [l, b, h])",
    "With i, f, g, o the quarters of x · w_ih + b_ih + h · w_hh + b_hh in this order, c' = sigmoid(f) * c + sigmoid(i) * \
     tanh(g) and h' = sigmoid(o) * tanh(c'); y has h' of every step, h and c are the last. Weights are given for every \
     layer and, forward first, direction; l is their number, h in y that of both directions. Steps at and beyond a \
     sequence's length give 0 and leave the state as it is, also backwards. (PyTorch stores the weights transposed.)",
    samples::of(|s| Lstm {
        layers: s.layers,
        bidirectional: s.bidirectional,
        bias: s.bias,
        batch_first: s.batch_first,
    })
);
