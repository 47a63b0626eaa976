//! What a loop's gradient needs of the iterations that went before, and which of it is stored.

use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::scalar::ScalarFn;

/// One iteration forward and back, in one graph, and how it is cut in two.
pub(super) struct Cut {
    /// Whether a value depends on the gradients that come in.
    pub backward: Vec<bool>,
    /// Whether the way back computes a value, or takes it as an operand if it is an input.
    pub needed: Vec<bool>,
    /// Values that the way forward stores for the way back, in order.
    pub stored: Vec<ValueId>,
}

impl Cut {
    /// Decides what of `draft`, whose results are gradients, is computed on the way back. `constant` and
    /// `gradient` say which inputs are the same in every iteration and which are gradients. With `recompute`
    /// nothing is stored but what an iteration begins with.
    pub fn new(
        draft: &Graph,
        constant: impl Fn(ValueId) -> bool,
        gradient: impl Fn(ValueId) -> bool,
        recompute: bool,
    ) -> Cut {
        let count = draft.value_count();
        let (mut backward, mut invariant) = (vec![false; count], vec![false; count]);
        for (_, node) in draft.nodes() {
            for o in node.outs() {
                if let Op::Input(_) = node.op {
                    backward[o.index()] = gradient(o);
                    invariant[o.index()] = constant(o);
                } else {
                    backward[o.index()] = node.ins.iter().any(|v| backward[v.index()]);
                    invariant[o.index()] = node.ins.iter().all(|v| invariant[v.index()]);
                }
            }
        }
        let mut needed = vec![false; count];
        draft.results().iter().for_each(|r| needed[r.index()] = true);
        let mut stored = Vec::new();
        for (_, node) in draft.nodes().rev() {
            let wanted: Vec<ValueId> = node.outs().filter(|o| needed[o.index()]).collect();
            let Some(first) = wanted.first() else { continue };
            let again =
                recompute || backward[first.index()] || invariant[first.index()] || is_cheap(&node.op);
            if again || matches!(node.op, Op::Input(_)) {
                node.ins.iter().for_each(|v| needed[v.index()] = true);
            } else {
                stored.extend(wanted);
            }
        }
        stored.reverse();
        Cut { backward, needed, stored }
    }
}

/// Whether computing an operation's results again costs no more than storing and loading them.
fn is_cheap(op: &Op) -> bool {
    use ScalarFn::{
        Abs, Add, And, Eq, Ge, Gt, Le, Lt, Max, Min, Mul, Ne, Neg, Not, Or, Relu, Select, Sign, Sub,
    };
    match op {
        Op::Map(map) => matches!(
            map.f,
            Abs | Add
                | And
                | Eq
                | Ge
                | Gt
                | Le
                | Lt
                | Max
                | Min
                | Mul
                | Ne
                | Neg
                | Not
                | Or
                | Relu
                | Select
                | Sign
                | Sub
        ),
        Op::Const(_)
        | Op::Iota(_)
        | Op::RandomBits(_)
        | Op::Cast(_)
        | Op::Check(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::StopGradient(_) => true,
        _ => false,
    }
}
