//! Whether merging two clusters would make the contracted graph cyclic.

use std::collections::BTreeSet;

use graphc_ir::graph::NodeId;

use super::Clusters;

/// A search that sees more nodes than this gives up and forbids the merge.
const LIMIT: usize = 4096;

/// Whether a path leads from one cluster to the other through something outside both.
pub(super) fn would_arise(clusters: &Clusters<'_>, a: usize, b: usize) -> bool {
    let graph = clusters.graph;
    let inside = |id: NodeId| {
        let c = clusters.of[id.index()];
        c == Some(a) || c == Some(b)
    };
    let oldest = clusters.cluster(a).members[0].min(clusters.cluster(b).members[0]);
    let may_depend = |id: NodeId| clusters.horizon[id.index()] >= oldest;
    let members: BTreeSet<NodeId> =
        clusters.cluster(a).members.iter().chain(&clusters.cluster(b).members).copied().collect();
    let reads = clusters.reads(&members).into_iter().map(|v| graph.value(v).node);
    let mut seen: BTreeSet<NodeId> = reads.filter(|source| may_depend(*source)).collect();
    // Walk back from what the two read from outside; meeting them again closes a cycle.
    let mut stack: Vec<NodeId> = seen.iter().copied().collect();
    while let Some(id) = stack.pop() {
        // An outside node belongs to a cluster of its own: entering it means entering all of it.
        let group: &[NodeId] = match clusters.of[id.index()] {
            Some(c) => &clusters.cluster(c).members,
            None => &[id],
        };
        for v in group.iter().flat_map(|member| &graph.node(*member).ins) {
            let source = graph.value(*v).node;
            if inside(source) {
                return true;
            }
            if may_depend(source) && seen.insert(source) {
                stack.push(source);
            }
        }
        if seen.len() > LIMIT {
            return true;
        }
    }
    false
}
