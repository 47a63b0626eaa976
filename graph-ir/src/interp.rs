//! The reference interpreter: slow, obvious, and the definition of the language.

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ops::Op;
use crate::tensor::Tensor;

/// Evaluates a graph whose dims are numbers.
///
/// `inputs` and `state` are in the order of the graph's inputs and of the module's state. Every node
/// computes in f64 (or integers) and rounds once to its type.
pub fn eval(graph: &Graph, inputs: &[&Tensor], state: &[&Tensor]) -> Result<Vec<Tensor>> {
    eval_with(graph, inputs, state, &mut |_| {})
}

/// As [`eval`], but `each` may change every value when it is made, those of inputs and state included, before anything reads it.
pub fn eval_with(
    graph: &Graph,
    inputs: &[&Tensor],
    state: &[&Tensor],
    each: &mut dyn FnMut(&mut Tensor),
) -> Result<Vec<Tensor>> {
    let mut all = eval_all(graph, inputs, state, false, each)?;
    // A result may be listed twice, so values are copied unless it is their last mention.
    let results = graph.results();
    Ok(results
        .iter()
        .enumerate()
        .map(|(i, r)| {
            let again = results[i + 1..].contains(r);
            let slot = &mut all[r.index()];
            let value = if again { slot.clone() } else { slot.take() };
            value.expect("results are live")
        })
        .collect())
}

/// Evaluates a graph and keeps every live value, for comparisons node by node.
pub fn eval_keep(graph: &Graph, inputs: &[&Tensor], state: &[&Tensor]) -> Result<Vec<Option<Tensor>>> {
    eval_all(graph, inputs, state, true, &mut |_| {})
}

fn eval_all(
    graph: &Graph,
    inputs: &[&Tensor],
    state: &[&Tensor],
    keep: bool,
    each: &mut dyn FnMut(&mut Tensor),
) -> Result<Vec<Option<Tensor>>> {
    let live = graph.live_nodes();
    let mut uses = graph.use_counts();
    let mut values: Vec<Option<Tensor>> = vec![None; graph.value_count()];
    for (id, node) in graph.nodes() {
        if !live[id.index()] {
            continue;
        }
        let external = match &node.op {
            Op::Input(op) => Some((inputs.get(op.index), "input")),
            Op::StateRead(op) => Some((state.get(op.index), "state variable")),
            _ => None,
        };
        if let Some((tensor, what)) = external {
            let Some(tensor) = tensor else {
                return Err(Error::new(format!("{what} has no value")).at(graph.describe(id)));
            };
            let ty = graph.ty(node.out(0));
            if ty.dtype != tensor.dtype() || ty.shape().as_deref() != Some(tensor.shape()) {
                fail!("{what} is {ty}, but was given {}{:?}", tensor.dtype(), tensor.shape());
            }
            let mut value = (*tensor).clone();
            each(&mut value);
            values[node.out(0).index()] = Some(value);
            continue;
        }
        let types: Vec<_> = node.outs().map(|o| graph.ty(o).clone()).collect();
        if types.iter().any(|t| t.shape().is_none()) {
            fail!("{} has symbolic dims; bind them before evaluating", graph.describe(id));
        }
        let ins: Vec<&Tensor> =
            node.ins.iter().map(|v| values[v.index()].as_ref().expect("operands come first")).collect();
        let outs = node.op.eval(&ins, &types).map_err(|e| e.at(graph.describe(id)))?;
        for (o, mut t) in node.outs().zip(outs) {
            debug_assert_eq!((t.dtype(), Some(t.shape().to_vec())), (graph.ty(o).dtype, graph.ty(o).shape()));
            each(&mut t);
            values[o.index()] = Some(t);
        }
        for v in &node.ins {
            uses[v.index()] -= 1;
            if !keep && uses[v.index()] == 0 {
                values[v.index()] = None;
            }
        }
    }
    Ok(values)
}

/// Floating-point operations of a bound graph.
pub fn flops(graph: &Graph) -> Option<f64> {
    let live = graph.live_nodes();
    let mut total = 0.0;
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        let _ = id;
        let ins: Vec<_> = node.ins.iter().map(|v| graph.ty(*v).clone()).collect();
        let outs: Vec<_> = node.outs().map(|v| graph.ty(v).clone()).collect();
        total += node.op.flops(&ins, &outs)?;
    }
    Some(total)
}
