//! The gradient of a branch: a branch of gradients.

use std::sync::Arc;

use super::backward;
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{Cond, VjpCx};

/// Gradients of a branch's operands: the same condition chooses between the bodies' gradients, which compute
/// what they need of the way forward again.
pub(crate) fn branch_gradients(op: &Cond, cx: &mut VjpCx<'_>) -> Result<Vec<Option<ValueId>>> {
    let live: Vec<usize> = (0..cx.outs.len()).filter(|i| cx.grads[*i].is_some()).collect();
    let (then, otherwise) = (Pulled::new(&op.then, &live)?, Pulled::new(&op.otherwise, &live)?);
    let reached: Vec<usize> = (0..cx.ins.len() - 1)
        .filter(|i| then.gradients[*i].is_some() || otherwise.gradients[*i].is_some())
        .collect();
    let mut grads = vec![None; cx.ins.len()];
    if reached.is_empty() {
        return Ok(grads);
    }
    let branch =
        Cond { then: Arc::new(then.finish(&reached)?), otherwise: Arc::new(otherwise.finish(&reached)?) };
    let operands: Vec<ValueId> =
        cx.ins.iter().copied().chain(live.iter().filter_map(|i| cx.grads[*i])).collect();
    for (i, g) in reached.iter().zip(cx.b.op(branch, &operands)?) {
        grads[1 + i] = Some(g);
    }
    Ok(grads)
}

/// A body's gradient: from its operands and the gradients of some results to those of the operands.
struct Pulled {
    b: Builder,
    x: Vec<ValueId>,
    gradients: Vec<Option<ValueId>>,
}

impl Pulled {
    /// For gradients of the results `live`.
    fn new(body: &Graph, live: &[usize]) -> Result<Pulled> {
        let mut b = Builder::with_infer(body.infer().clone());
        let x = b.inputs_like(body)?;
        let incoming =
            live.iter().map(|i| b.input_like(body, body.results()[*i])).collect::<Result<Vec<_>>>()?;
        let y = b.inline(body, &x)?;
        let seeds: Vec<(ValueId, ValueId)> = live.iter().map(|i| y[*i]).zip(incoming).collect();
        let gradients = backward(&mut b, &seeds, &x)?;
        Ok(Pulled { b, x, gradients })
    }

    /// The gradients of the operands `reached`, zeros where this body does not look at one.
    fn finish(self, reached: &[usize]) -> Result<Graph> {
        let Pulled { mut b, x, gradients } = self;
        let results = reached
            .iter()
            .map(|i| gradients[*i].map_or_else(|| b.zeros_like(x[*i]), Ok))
            .collect::<Result<Vec<_>>>()?;
        // The branch itself checks what its bodies check.
        b.finish(&results)?.of_results()
    }
}
