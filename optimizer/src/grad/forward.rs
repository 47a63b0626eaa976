//! A copy of the forward function, in its training form where that is asked for.

use graphc_ir::builder::Builder;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, ValueId};
use graphc_ir::module::Function;
use graphc_ir::ops::{BatchNorm, BatchNormInference, Op};
use graphc_ir::scalar::ScalarFn;

use super::replay::replay;
use super::spec::Mode;

/// How much of the batch's statistics a step mixes into the running ones. It is the value with which
/// the common frameworks train; an inference graph does not tell its own.
const RUNNING_MOMENTUM: f64 = 0.1;

/// The copied values and what the copy assigns to state.
pub(super) struct Forward {
    pub outputs: Vec<ValueId>,
    pub updates: Vec<(usize, ValueId)>,
}

/// Copies a function into an empty builder.
pub(super) fn copy(b: &mut Builder, function: &Function, mode: Mode) -> Result<Forward> {
    let graph = &function.graph;
    let mut running = Vec::new();
    let map = replay(b, graph, |b, id, node, ins| match (&node.op, mode) {
        (Op::BatchNormInference(op), Mode::Train) => {
            let (y, updates) = batch_norm(b, op, graph, node, ins).map_err(|e| e.at(graph.describe(id)))?;
            running.extend(updates);
            Ok(vec![y])
        }
        (op, _) => b.op(op.clone(), ins),
    })?;
    let own = function.updates.iter().copied().zip(function.update_values().iter().map(|v| map[v.index()]));
    let updates = own.chain(running).collect();
    Ok(Forward { outputs: function.output_values().iter().map(|v| map[v.index()]).collect(), updates })
}

/// Normalization with the batch's statistics, and the running ones' updates: the mean, and the
/// unbiased variance.
fn batch_norm(
    b: &mut Builder,
    op: &BatchNormInference,
    graph: &Graph,
    node: &Node,
    ins: &[ValueId],
) -> Result<(ValueId, [(usize, ValueId); 2])> {
    let state = |v: ValueId| match &graph.def(v).op {
        Op::StateRead(read) => Ok(read.index),
        _ => {
            Err(Error::new("the running statistics are not state variables, so training cannot update them")
                .help("use the mode `frozen`"))
        }
    };
    let (mean_state, var_state) = (state(node.ins[3])?, state(node.ins[4])?);
    let outs = b.op(BatchNorm { axis: op.axis, eps: op.eps }, &ins[..3])?;
    let (x, mean, var) = (ins[0], outs[1], outs[2]);
    let over: Vec<usize> = (0..b.ty(x).rank()).filter(|a| *a != op.axis).collect();
    let n = b.count_along(x, &over)?;
    let one = b.full_like(n, 1.0)?;
    // A batch of one element has no unbiased variance; its biased one, 0, is kept.
    let free = b.map(ScalarFn::Sub, &[n, one])?;
    let free = b.map(ScalarFn::Max, &[free, one])?;
    let correction = b.map(ScalarFn::Div, &[n, free])?;
    let unbiased = b.map(ScalarFn::Mul, &[var, correction])?;
    let mean = blend(b, ins[3], mean)?;
    let var = blend(b, ins[4], unbiased)?;
    Ok((outs[0], [(mean_state, mean), (var_state, var)]))
}

fn blend(b: &mut Builder, running: ValueId, new: ValueId) -> Result<ValueId> {
    let (keep, take) = (b.full_like(running, 1.0 - RUNNING_MOMENTUM)?, b.full_like(new, RUNNING_MOMENTUM)?);
    let (old, new) = (b.map(ScalarFn::Mul, &[keep, running])?, b.map(ScalarFn::Mul, &[take, new])?);
    b.map(ScalarFn::Add, &[old, new])
}
