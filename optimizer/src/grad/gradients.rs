//! Gradients of one number, or why there are none.

use graphc_ir::autodiff;
use graphc_ir::builder::Builder;
use graphc_ir::error::{Error, Result};
use graphc_ir::fail;
use graphc_ir::graph::{Graph, Node, ValueId};
use graphc_ir::ops::Op;

use super::replay::canonical_values;

/// Gradients of the rank-0 value `loss` with respect to each of `wrt`, appended to the graph. With
/// respect to inputs and state they are those of the loss in its canonical form.
///
/// # Errors
/// A loss that is not one number; a value of `wrt` that is of no float type, that the loss does not
/// depend on, or whose every path to the loss goes through a node without a gradient: that node and
/// the reason.
pub fn gradients(b: &mut Builder, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<ValueId>> {
    let ty = b.ty(loss);
    if ty.rank() != 0 || !ty.dtype.is_float() {
        let problem = format!("a loss is one number of a float type, but {} is {ty}", describe(b, loss));
        return Err(Error::new(problem).help("reduce it, such as to its mean"));
    }
    for v in wrt {
        if !b.ty(*v).dtype.is_float() {
            fail!(
                "there is no gradient with respect to {}: it is {}, which is no float type",
                describe(b, *v),
                b.ty(*v)
            );
        }
    }
    // Between leaves and the loss everything may be rewritten; what lies between must stay as it is.
    let leaves = wrt.iter().all(|v| matches!(b.graph().def(*v).op, Op::Input(_) | Op::StateRead(_)));
    let loss = if leaves { canonical_values(b, &[loss])?[0] } else { loss };
    let one = b.full_like(loss, 1.0)?;
    let found = autodiff::backward(b, &[(loss, one)], wrt)?;
    wrt.iter().zip(found).map(|(v, g)| g.ok_or_else(|| why_none(b.graph(), loss, *v))).collect()
}

fn describe(b: &Builder, v: ValueId) -> String {
    b.graph().describe(b.graph().value(v).node)
}

/// The sentence for a loss that no differentiable path leads to.
fn why_none(graph: &Graph, loss: ValueId, wrt: ValueId) -> Error {
    let name = graph.describe(graph.value(wrt).node);
    let last = graph.value(loss).node;
    let reaches = leads_to(graph, loss);
    if !reaches[wrt.index()] {
        return Error::new(format!("the loss does not depend on {name}"))
            .help("leave it out of the list of what is trained, or choose another loss");
    }
    // `smooth`: reached from `wrt` with a gradient all the way.
    let mut smooth = vec![false; graph.value_count()];
    smooth[wrt.index()] = true;
    for (id, node) in graph.nodes().take(last.index() + 1) {
        if !node.ins.iter().any(|v| smooth[v.index()]) || !node.outs().any(|o| reaches[o.index()]) {
            continue;
        }
        match passes(graph, node, &smooth) {
            Ok(()) => {
                for o in node.outs() {
                    smooth[o.index()] = graph.ty(o).dtype.is_float();
                }
            }
            Err(reason) => {
                let problem = format!("no gradient leads from the loss to {name}: {reason}");
                return Error::new(problem).at(graph.describe(id));
            }
        }
    }
    Error::new(format!("no gradient leads from the loss to {name}"))
}

/// Which values the loss depends on, in whatever way.
fn leads_to(graph: &Graph, loss: ValueId) -> Vec<bool> {
    let mut reaches = vec![false; graph.value_count()];
    reaches[loss.index()] = true;
    for (_, node) in graph.nodes().rev() {
        if node.outs().any(|o| reaches[o.index()]) {
            for v in &node.ins {
                reaches[v.index()] = true;
            }
        }
    }
    reaches
}

/// Whether a node passes a gradient on to an operand in `smooth`, tried out in a graph of its own.
fn passes(graph: &Graph, node: &Node, smooth: &[bool]) -> std::result::Result<(), String> {
    if matches!(node.op, Op::StopGradient(_)) {
        return Err("this stops it on purpose".into());
    }
    let attempt = || -> Result<bool> {
        let mut b = Builder::with_infer(graph.infer().clone());
        let ins = node.ins.iter().map(|v| b.input(graph.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
        let outs = b.op(node.op.clone(), &ins)?;
        let mut seeds = Vec::new();
        for o in outs {
            if b.ty(o).dtype.is_float() {
                seeds.push((o, b.full_like(o, 1.0)?));
            }
        }
        let wrt: Vec<ValueId> =
            ins.iter().zip(&node.ins).filter(|(_, v)| smooth[v.index()]).map(|(i, _)| *i).collect();
        Ok(autodiff::backward(&mut b, &seeds, &wrt)?.iter().any(Option::is_some))
    };
    if node.outs().all(|o| !graph.ty(o).dtype.is_float()) {
        return Err(format!("its result is {}, which does not change smoothly", graph.ty(node.out(0))));
    }
    match attempt() {
        Ok(true) => Ok(()),
        Ok(false) => Err("its derivative is zero everywhere".into()),
        Err(e) => Err(e.message),
    }
}
