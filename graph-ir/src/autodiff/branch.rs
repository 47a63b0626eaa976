//! The gradient of a branch: a branch of gradients.

use std::sync::Arc;

use super::{backward, copy_input, copy_inputs};
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{Cond, VjpCx};

/// Gradients of a branch's operands: the same condition chooses between the bodies' gradients, which compute
/// what they need of the way forward again.
pub(crate) fn branch_gradients(op: &Cond, cx: &mut VjpCx<'_>) -> Result<Vec<Option<ValueId>>> {
    let live: Vec<usize> = (0..cx.outs.len()).filter(|i| cx.grads[*i].is_some()).collect();
    let found = [reach(&op.then, &live)?, reach(&op.otherwise, &live)?];
    let reached: Vec<usize> =
        (0..cx.ins.len() - 1).filter(|i| found.iter().any(|reached| reached.contains(i))).collect();
    let mut grads = vec![None; cx.ins.len()];
    if reached.is_empty() {
        return Ok(grads);
    }
    let branch = Cond {
        then: Arc::new(gradient(&op.then, &live, &reached)?),
        otherwise: Arc::new(gradient(&op.otherwise, &live, &reached)?),
    };
    let operands: Vec<ValueId> =
        cx.ins.iter().copied().chain(live.iter().filter_map(|i| cx.grads[*i])).collect();
    for (i, g) in reached.iter().zip(cx.b.op(branch, &operands)?) {
        grads[1 + i] = Some(g);
    }
    Ok(grads)
}

/// A body's inputs, and their gradients for gradients of the results `live`.
fn pulled_back(
    b: &mut Builder,
    body: &Graph,
    live: &[usize],
) -> Result<(Vec<ValueId>, Vec<Option<ValueId>>)> {
    let x = copy_inputs(b, body)?;
    let incoming =
        live.iter().map(|i| copy_input(b, body, body.results()[*i])).collect::<Result<Vec<_>>>()?;
    let y = b.inline(body, &x)?;
    let seeds: Vec<(ValueId, ValueId)> = live.iter().map(|i| y[*i]).zip(incoming).collect();
    let found = backward(b, &seeds, &x)?;
    Ok((x, found))
}

/// Which operands a body's gradient reaches.
fn reach(body: &Graph, live: &[usize]) -> Result<Vec<usize>> {
    let mut b = Builder::with_infer(body.infer().clone());
    let (_, found) = pulled_back(&mut b, body, live)?;
    Ok((0..found.len()).filter(|i| found[*i].is_some()).collect())
}

/// From operands and gradients of results to the gradients of the operands `reached`.
fn gradient(body: &Graph, live: &[usize], reached: &[usize]) -> Result<Graph> {
    let mut b = Builder::with_infer(body.infer().clone());
    let (x, found) = pulled_back(&mut b, body, live)?;
    let results = reached
        .iter()
        .map(|i| found[*i].map_or_else(|| b.zeros_like(x[*i]), Ok))
        .collect::<Result<Vec<_>>>()?;
    b.finish(&results)?.rebuild(|b, _, node, ins| b.op(node.op.clone(), ins))
}
