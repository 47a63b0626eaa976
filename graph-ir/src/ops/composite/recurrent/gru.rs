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
    /// Gated recurrent unit (Cho et al. 2014), with the reset gate after the product.
    Gru {
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

impl Cell for Gru {
    const NAME: &'static str = "gru";
    const GATES: usize = 3;
    const STATES: usize = 1;
    // The reset gate multiplies it.
    const INNER_BIAS: bool = true;

    fn arrangement(&self) -> Arrangement {
        let Gru { layers, bidirectional, bias, batch_first } = *self;
        Arrangement { layers, bidirectional, bias, batch_first }
    }

    fn step<'s>(&self, input: Gates<'s>, product: Gates<'s>, states: &[Expr<'s>]) -> Vec<Expr<'s>> {
        let sum = |k| input.gate(k) + product.gate(k);
        let (reset, keep) = (sum(0).sigmoid(), sum(1).sigmoid());
        let new = (input.gate(2) + reset * product.gate(2)).tanh();
        vec![new + keep * (states[0] - new)]
    }
}

recurrent!(
    Gru,
    "gru",
    "gru{layers = 1, bidirectional = false, bias = true, batch_first = false}(x [t, b, i], (w_ih [i, 3h], w_hh [h, 3h], \
     b_ih [3h], b_hh [3h])…, h0 [l, b, h] = 0, lengths int [b] = t) -> (y [t, b, h], h [l, b, h])",
    "With r, z, n the thirds in this order of both x · w_ih + b_ih and, primed, h · w_hh + b_hh: n'' = tanh(n + sigmoid(r + \
     r') * n') and h' = (1 - z'') * n'' + z'' * h with z'' = sigmoid(z + z'); y has h' of every step, h the last. Weights \
     are given for every layer and, forward first, direction; l is their number, h in y that of both directions. Steps at \
     and beyond a sequence's length give 0 and leave the state as it is, also backwards. (PyTorch stores the weights \
     transposed.)",
    samples::of(|s| Gru {
        layers: s.layers,
        bidirectional: s.bidirectional,
        bias: s.bias,
        batch_first: s.batch_first,
    })
);
