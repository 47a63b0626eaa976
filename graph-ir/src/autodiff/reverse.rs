//! Reverse mode: gradients pulled back from results to operands.

use super::copied;
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{NodeId, ValueId};
use crate::ops::{Op, Vjp, VjpCx};
use crate::scalar::ScalarFn;

/// Gradients of the sum of `seed · value` over `seeds` (pairs of a value and its gradient) with
/// respect to each of `wrt`; `None` where no differentiable path leads there.
///
/// # Errors
/// If the only paths go through an operation that has no derivative: the node and the reason.
pub fn backward(
    b: &mut Builder,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let Some(last) = seeds.iter().map(|(v, _)| b.graph().value(*v).node).max() else {
        return Ok(vec![None; wrt.len()]);
    };
    let depends = depends_on(b, wrt, last);
    let mut grads: Vec<Option<ValueId>> = vec![None; b.graph().value_count()];
    for (v, g) in seeds {
        if depends[v.index()] {
            accumulate(b, &mut grads, *v, *g)?;
        }
    }
    for i in (0..=last.index()).rev() {
        let id = NodeId(i as u32);
        let node = b.graph().node(id).clone();
        let outs: Vec<ValueId> = node.outs().collect();
        let out_grads: Vec<Option<ValueId>> = outs.iter().map(|o| grads[o.index()]).collect();
        let active = node.ins.iter().any(|v| depends[v.index()]);
        if !active || out_grads.iter().all(Option::is_none) {
            continue;
        }
        let outer = b.current_origins().clone();
        b.set_origins(b.graph().origins(id).derived("gradient of"));
        let place = b.graph().describe(id);
        let node_grads = node_gradients(b, &node.op, &node.ins, &outs, &out_grads).map_err(|e| e.at(&place));
        for (v, g) in node.ins.iter().zip(node_grads?) {
            if let Some(g) = g.filter(|_| depends[v.index()]) {
                accumulate(b, &mut grads, *v, g)?;
            }
        }
        b.set_origins(outer);
    }
    Ok(wrt.iter().map(|v| grads.get(v.index()).copied().flatten()).collect())
}

/// Which values depend on `wrt`, among the nodes up to `last`.
fn depends_on(b: &Builder, wrt: &[ValueId], last: NodeId) -> Vec<bool> {
    let graph = b.graph();
    let mut depends = vec![false; graph.value_count()];
    // Nothing smooth goes through integers and booleans.
    for v in wrt {
        depends[v.index()] = graph.ty(*v).dtype.is_float();
    }
    for (id, node) in graph.nodes() {
        if id > last {
            break;
        }
        // What a gradient is stopped at depends on nothing.
        if !matches!(node.op, Op::StopGradient(_)) && node.ins.iter().any(|v| depends[v.index()]) {
            for o in node.outs() {
                depends[o.index()] = graph.ty(o).dtype.is_float();
            }
        }
    }
    depends
}

fn accumulate(b: &mut Builder, grads: &mut [Option<ValueId>], v: ValueId, g: ValueId) -> Result<()> {
    grads[v.index()] = Some(match grads[v.index()] {
        Some(sum) => add(b, sum, g)?,
        None => g,
    });
    Ok(())
}

/// The sum of two gradients; of storage types, which have no arithmetic, in f32.
pub(crate) fn add(b: &mut Builder, x: ValueId, y: ValueId) -> Result<ValueId> {
    let dtype = b.ty(x).dtype;
    let (x, y) = (widened(b, x)?, widened(b, y)?);
    let sum = b.map(ScalarFn::Add, &[x, y])?;
    b.cast(sum, dtype)
}

/// The sum of a gradient over axes; of storage types in f32.
pub(crate) fn sum(b: &mut Builder, g: ValueId, axes: &[usize]) -> Result<ValueId> {
    if axes.is_empty() {
        return Ok(g);
    }
    let dtype = b.ty(g).dtype;
    let wide = widened(b, g)?;
    let sum = b.sum(wide, axes)?;
    b.cast(sum, dtype)
}

fn widened(b: &mut Builder, v: ValueId) -> Result<ValueId> {
    if b.ty(v).dtype.is_compute_float() { Ok(v) } else { b.cast(v, DType::F32) }
}

/// Gradients of one node's operands.
fn node_gradients(
    b: &mut Builder,
    op: &Op,
    ins: &[ValueId],
    outs: &[ValueId],
    grads: &[Option<ValueId>],
) -> Result<Vec<Option<ValueId>>> {
    // Integers and booleans carry no gradient, whatever operation they belong to.
    let live: Vec<Option<ValueId>> =
        outs.iter().zip(grads).map(|(o, g)| g.filter(|_| b.ty(*o).dtype.is_float())).collect();
    if live.iter().all(Option::is_none) {
        return Ok(vec![None; ins.len()]);
    }
    match op.vjp(&mut VjpCx { b, ins, outs, grads: &live })? {
        Vjp::Grads(g) => Ok(g),
        Vjp::None(reason) => {
            Err(Error::new(format!("there is no gradient through `{}`: {reason}", op.name()))
                .help("put a stop_gradient before it if its gradient is meant to be zero"))
        }
        Vjp::Expand => expansion_gradients(b, op, ins, &live),
    }
}

/// Differentiates a composite's expansion in a graph of its own and copies the outcome in.
fn expansion_gradients(
    b: &mut Builder,
    op: &Op,
    ins: &[ValueId],
    grads: &[Option<ValueId>],
) -> Result<Vec<Option<ValueId>>> {
    let mut inner = Builder::with_infer(b.graph().infer().clone());
    let args = ins.iter().map(|v| inner.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let Some(outs) = op.expand(&mut inner, &args)? else {
        fail!("`{}` has neither a gradient nor an expansion", op.name());
    };
    let mut seeds = Vec::new();
    let mut operands = ins.to_vec();
    for (out, g) in outs.iter().zip(grads) {
        if let Some(g) = g {
            seeds.push((*out, inner.input(b.ty(*g).clone())?));
            operands.push(*g);
        }
    }
    let found = backward(&mut inner, &seeds, &args)?;
    copied(b, inner, &found, &operands)
}
