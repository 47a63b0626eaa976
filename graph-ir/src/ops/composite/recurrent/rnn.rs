use std::ops::RangeInclusive;

use super::{Arrangement, Cell, Gates, recurrent, samples};
use crate::attr_enum;
use crate::builder::Builder;
use crate::error::Result;
use crate::expr::Expr;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx};
use crate::types::{Infer, TensorType};

attr_enum! {
    /// What makes a state of a sum.
    RnnActivation {
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// Rectifier.
        Relu = "relu",
    }
}

op_struct! {
    /// Recurrent network of Elman (1990).
    Rnn {
        /// Layers, each over the results of the one before.
        layers: usize = 1,
        /// Whether each layer also goes from the end to the beginning.
        bidirectional: bool = false,
        /// Whether there are biases among the operands.
        bias: bool = true,
        /// Whether x and y are `[b, t, ..]`.
        batch_first: bool = false,
        /// What makes a state of a sum.
        activation: RnnActivation = RnnActivation::Tanh,
    }
}

impl Cell for Rnn {
    const NAME: &'static str = "rnn";
    const GATES: usize = 1;
    const STATES: usize = 1;

    fn arrangement(&self) -> Arrangement {
        let Rnn { layers, bidirectional, bias, batch_first, .. } = *self;
        Arrangement { layers, bidirectional, bias, batch_first }
    }

    fn step<'s>(&self, input: Gates<'s>, product: Gates<'s>, _: &[Expr<'s>]) -> Vec<Expr<'s>> {
        let sum = input.plus(&product).all;
        vec![match self.activation {
            RnnActivation::Tanh => sum.tanh(),
            RnnActivation::Relu => sum.relu(),
        }]
    }
}

recurrent!(
    Rnn,
    "rnn",
    "rnn{layers = 1, bidirectional = false, bias = true, batch_first = false, activation = \"tanh\"}(x [t, b, i], \
     (w_ih [i, h], w_hh [h, h], b_ih [h], b_hh [h])…, h0 [l, b, h] = 0, lengths int [b] = t) -> (y [t, b, h], h [l, b, h])",
    "h' = tanh(x · w_ih + b_ih + h · w_hh + b_hh), or relu of it, over the steps of x; y has h' of every step, h the last. \
     Weights are given for every layer and, forward first, direction; l is their number, h in y that of both directions. \
     Steps at and beyond a sequence's length give 0 and leave the state as it is, also backwards. (PyTorch stores the \
     weights transposed.)",
    samples::of(|s| Rnn {
        layers: s.layers,
        bidirectional: s.bidirectional,
        bias: s.bias,
        batch_first: s.batch_first,
        activation: if s.bias { RnnActivation::Tanh } else { RnnActivation::Relu },
    })
);
