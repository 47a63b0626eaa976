//! Graphs copied node by node, with their origins.

use graphc_ir::builder::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::Op;
use graphc_ir::origin::Origins;

use crate::driver::in_bodies;
use crate::remarks::Remarks;
use crate::rules;

/// Emits every node of a graph through `emit`, which gets it with its operands in the builder;
/// returns the counterpart of every value.
pub(super) fn replay(
    b: &mut Builder,
    graph: &Graph,
    mut emit: impl FnMut(&mut Builder, NodeId, &Node, &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Vec<ValueId>> {
    let outer = b.current_origins().clone();
    let mut map: Vec<ValueId> = Vec::with_capacity(graph.value_count());
    for (id, node) in graph.nodes() {
        b.set_origins(graph.origins(id).clone());
        let ins: Vec<ValueId> = node.ins.iter().map(|v| map[v.index()]).collect();
        map.extend(emit(b, id, node, &ins)?);
    }
    b.set_origins(outer);
    Ok(map)
}

/// The graph in its canonical forms, whose gradients are the stable ones.
pub fn canonical(graph: &Graph) -> Result<Graph> {
    in_bodies(graph, &mut |g| rules::sweep(g, rules::CANONICAL.iter(), &mut Remarks::default()))
}

/// Appends the canonical forms of what values are computed by, and returns them.
pub(super) fn canonical_values(b: &mut Builder, values: &[ValueId]) -> Result<Vec<ValueId>> {
    let mut apart = Builder::with_infer(b.graph().infer().clone());
    let map = replay(&mut apart, b.graph(), |b, _, node, ins| b.op(node.op.clone(), ins))?;
    let results: Vec<ValueId> = values.iter().map(|v| map[v.index()]).collect();
    let graph = canonical(&apart.finish(&results)?)?;
    let inputs = b.graph().inputs().to_vec();
    let map = replay(b, &graph, |b, _, node, ins| match &node.op {
        Op::Input(input) => Ok(vec![inputs[input.index]]),
        op => b.op(op.clone(), ins),
    })?;
    Ok(graph.results().iter().map(|r| map[r.index()]).collect())
}

/// Origins of one name while `f` appends nodes.
pub(super) fn named<R>(b: &mut Builder, name: &str, f: impl FnOnce(&mut Builder) -> Result<R>) -> Result<R> {
    let outer = b.current_origins().clone();
    b.set_origins(Origins::named(name));
    let result = f(b);
    b.set_origins(outer);
    result
}
