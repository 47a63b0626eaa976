//! Writes the clustered graph: every cluster becomes one fused node with a body.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use graphc_ir::Builder;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::{FuseKind, Fused, Op};
use graphc_ir::origin::Origins;

use super::Clusters;
use super::domain::renames_axes;

/// Emits the clusters in an order that the contracted graph allows.
pub(super) fn rebuild(clusters: &Clusters<'_>, made: impl FnMut(FuseKind, &[NodeId])) -> Result<Graph> {
    let graph = clusters.graph;
    let live = graph.live_nodes();
    let mut emitter = Emitter {
        clusters,
        b: Builder::with_infer(graph.infer().clone()),
        map: vec![None; graph.value_count()],
        done: vec![false; graph.len()],
        made,
    };
    for v in graph.inputs() {
        emitter.emit(&[graph.value(*v).node], &[])?;
    }
    // Depth first over units (a cluster or a lone node), iteratively: a unit is emitted once all
    // units that it reads from are.
    // Renamings and constants are emitted where something outside the clusters asks for them.
    let on_demand = |id: NodeId, node: &Node| {
        clusters.inline[id.index()] || renames_axes(graph, node) || matches!(node.op, Op::Const(_))
    };
    let wanted: Vec<NodeId> = graph
        .nodes()
        .filter(|(id, node)| live[id.index()] && !on_demand(*id, node))
        .map(|(id, _)| id)
        .chain(graph.results().iter().map(|r| graph.value(*r).node))
        .collect();
    for id in wanted {
        let mut stack = vec![id];
        let mut waiting = BTreeSet::new();
        while let Some(at) = stack.last().copied() {
            if emitter.done[at.index()] {
                stack.pop();
                continue;
            }
            let unit = match clusters.of[at.index()] {
                Some(c) => clusters.cluster(c).members.clone(),
                None => vec![at],
            };
            let reads = external_reads(clusters, &unit);
            let sources = reads.iter().map(|v| graph.value(*v).node);
            let missing: Vec<NodeId> = sources.filter(|n| !emitter.done[n.index()]).collect();
            if missing.is_empty() {
                emitter.emit(&unit, &reads)?;
            } else if waiting.insert(unit[0]) {
                stack.extend(missing);
            } else {
                return Err(Error::new("clusters depend on each other"));
            }
        }
    }
    let results: Vec<ValueId> = graph.results().iter().map(|r| emitter.operand(*r)).collect();
    emitter.b.finish(&results)
}

/// The values that a unit reads from outside, in order of first use.
fn external_reads(clusters: &Clusters<'_>, unit: &[NodeId]) -> Vec<ValueId> {
    match clusters.of[unit[0].index()] {
        None => clusters.graph.node(unit[0]).ins.clone(),
        Some(_) => clusters.reads(&unit.iter().copied().collect()),
    }
}

struct Emitter<'c, 'g, F> {
    clusters: &'c Clusters<'g>,
    b: Builder,
    map: Vec<Option<ValueId>>,
    done: Vec<bool>,
    made: F,
}

impl<F: FnMut(FuseKind, &[NodeId])> Emitter<'_, '_, F> {
    fn operand(&self, v: ValueId) -> ValueId {
        self.map[v.index()].expect("units are emitted after those that they read from")
    }

    fn emit(&mut self, unit: &[NodeId], reads: &[ValueId]) -> Result<()> {
        let graph = self.clusters.graph;
        for id in unit {
            self.done[id.index()] = true;
        }
        let operands: Vec<ValueId> = reads.iter().map(|v| self.operand(*v)).collect();
        let Some(c) = self.clusters.of[unit[0].index()] else {
            self.b.set_origins(graph.origins(unit[0]).clone());
            let node = graph.node(unit[0]);
            let outs = self.b.op(node.op.clone(), &operands)?;
            for (old, new) in node.outs().zip(outs) {
                self.map[old.index()] = Some(new);
            }
            return Ok(());
        };
        let members: BTreeSet<NodeId> = unit.iter().copied().collect();
        let mut body = Builder::new();
        let mut inner: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for v in reads {
            inner.insert(*v, body.input(graph.ty(*v).clone())?);
        }
        let mut origins = Origins::default();
        for id in self.clusters.with_links(&members) {
            let node = graph.node(id);
            let ins: Vec<ValueId> = node.ins.iter().map(|v| inner[v]).collect();
            body.set_origins(graph.origins(id).clone());
            if members.contains(&id) {
                origins.extend(graph.origins(id));
            }
            for (old, new) in node.outs().zip(body.op(node.op.clone(), &ins)?) {
                inner.insert(old, new);
            }
        }
        let all = unit.iter().flat_map(|id| graph.node(*id).outs());
        let outs: Vec<ValueId> = all.filter(|o| self.clusters.needed_outside(*o, &members)).collect();
        let results: Vec<ValueId> = outs.iter().map(|o| inner[o]).collect();
        let kind =
            if self.clusters.cluster(c).anchor.is_some() { FuseKind::Anchored } else { FuseKind::Nest };
        (self.made)(kind, unit);
        self.b.set_origins(origins);
        let fused = self.b.op(Fused { kind, body: Arc::new(body.finish(&results)?) }, &operands)?;
        for (old, new) in outs.into_iter().zip(fused) {
            self.map[old.index()] = Some(new);
        }
        Ok(())
    }
}
