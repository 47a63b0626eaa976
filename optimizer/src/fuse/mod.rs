//! Fusion: groups nodes into clusters, each of which becomes one step.
//!
//! A node joins the clusters of its operands if one sweep over one domain can compute them all
//! ([`domain`]) and the graph with all clusters contracted stays acyclic. Dots, convolutions and pools gather
//! epilogues, reductions gather the maps before and after them; row clusters such as softmax,
//! cross-entropy and their gradients are found so, never by name.

pub mod anchor;
mod build;
mod cycle;
pub mod domain;

use std::collections::BTreeSet;

use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, NodeId, ValueId};
use graphc_ir::ops::{FuseKind, Op};
use graphc_ir::scalar::Class;

use crate::remarks::Remarks;
use anchor::is_anchor;
use domain::{analyze, fold_axes, renames_axes};

/// What fusion may do.
#[derive(Clone, Copy, Debug)]
pub struct FuseOptions {
    /// Off: every computing node becomes a cluster of its own.
    pub enabled: bool,
    /// Largest number of operands and results of a cluster.
    pub max_ports: usize,
    /// Whether kernels fold their results.
    pub folds_in_epilogues: bool,
    /// Results of the graph from this one on are assigned to state.
    pub outputs: usize,
}

/// More nodes than this in one cluster only press on registers.
const MAX_MEMBERS: usize = 96;

/// A group of nodes on its way to become a step.
#[derive(Clone, Debug)]
struct Cluster {
    /// Members in topological order.
    members: Vec<NodeId>,
    /// The dot, convolution or pool whose epilogue the others are.
    anchor: Option<NodeId>,
}

/// The clustering of a graph.
pub(crate) struct Clusters<'g> {
    graph: &'g Graph,
    users: Vec<Vec<NodeId>>,
    /// Cluster of every node; merged clusters forward to their heir.
    of: Vec<Option<usize>>,
    list: Vec<Option<Cluster>>,
    is_result: Vec<bool>,
    is_update: Vec<bool>,
    inline: Vec<bool>,
    /// The latest node among everything that a node's unit depends on, itself included: a unit whose
    /// horizon lies before a cluster cannot depend on it.
    horizon: Vec<NodeId>,
    options: FuseOptions,
}

/// Whether a node computes, and so becomes part of a cluster.
fn computes(op: &Op) -> bool {
    matches!(
        op,
        Op::Map(_)
            | Op::Cast(_)
            | Op::Check(_)
            | Op::Reduce(_)
            | Op::Moments(_)
            | Op::RandomBits(_)
            | Op::Iota(_)
    )
}

impl<'g> Clusters<'g> {
    fn new(graph: &'g Graph, options: FuseOptions) -> Clusters<'g> {
        let mut users = vec![Vec::new(); graph.value_count()];
        for (id, node) in graph.nodes() {
            for v in &node.ins {
                users[v.index()].push(id);
            }
        }
        let mut is_result = vec![false; graph.value_count()];
        let mut is_update = vec![false; graph.value_count()];
        for (i, r) in graph.results().iter().enumerate() {
            is_result[r.index()] = true;
            is_update[r.index()] |= i >= options.outputs;
        }
        let inline = vec![false; graph.len()];
        let horizon = vec![NodeId(0); graph.len()];
        let of = vec![None; graph.len()];
        let mut clusters =
            Clusters { graph, users, of, list: Vec::new(), is_result, is_update, inline, horizon, options };
        clusters.find_inline(options.enabled);
        clusters
    }

    /// Marks nodes that are computed again wherever they are used: constants of one element, and
    /// (with fusion) coordinates and comparisons, which cost less than the memory they would take.
    fn find_inline(&mut self, enabled: bool) {
        for i in (0..self.graph.len()).rev() {
            let node = self.graph.node(NodeId(i as u32));
            let cheap = match &node.op {
                Op::Const(c) => c.value.shape().is_empty(),
                Op::Iota(_) => enabled,
                Op::Map(m) => enabled && m.f.def().class == Class::Compare,
                _ => false,
            };
            self.inline[i] = cheap && (matches!(node.op, Op::Const(_)) || self.feeds_clusters(node.out(0)));
        }
    }

    /// Whether all that a node's result is used for is to be folded.
    fn only_folded(&self, id: NodeId) -> bool {
        let out = self.graph.node(id).out(0);
        let users = &self.users[out.index()];
        let folds = |u: &NodeId| fold_axes(&self.graph.node(*u).op).is_some();
        !self.is_result[out.index()] && !users.is_empty() && users.iter().all(folds)
    }

    /// Whether a value is used by computing nodes alone.
    fn feeds_clusters(&self, v: ValueId) -> bool {
        !self.is_result[v.index()]
            && self.users[v.index()].iter().all(|u| {
                let node = self.graph.node(*u);
                computes(&node.op) || (renames_axes(self.graph, node) && self.feeds_clusters(node.out(0)))
            })
    }

    fn cluster(&self, c: usize) -> &Cluster {
        self.list[c].as_ref().expect("merged clusters are not referred to")
    }

    /// The value behind operations that only rename axes.
    fn behind(&self, mut v: ValueId) -> ValueId {
        loop {
            let node = self.graph.def(v);
            if !renames_axes(self.graph, node) {
                return v;
            }
            v = node.ins[0];
        }
    }

    /// The clusters that make a node's operands, seen through renamed axes and inline nodes.
    fn producers(&self, id: NodeId) -> Vec<usize> {
        let mut stack = vec![id];
        let mut found = Vec::new();
        while let Some(id) = stack.pop() {
            for v in &self.graph.node(id).ins {
                let source = self.graph.value(self.behind(*v)).node;
                if self.inline[source.index()] {
                    stack.push(source);
                } else {
                    found.extend(self.of[source.index()]);
                }
            }
        }
        found
    }

    fn open(&mut self, id: NodeId, anchor: Option<NodeId>) -> usize {
        self.of[id.index()] = Some(self.list.len());
        self.list.push(Some(Cluster { members: vec![id], anchor }));
        self.list.len() - 1
    }

    /// Computes the horizon of a node whose operands have theirs.
    fn look(&mut self, id: NodeId) {
        let operands =
            self.graph.node(id).ins.iter().map(|v| self.horizon[self.graph.value(*v).node.index()]);
        self.horizon[id.index()] = operands.fold(id, NodeId::max);
    }

    /// Raises the horizon of a merged cluster and of everything already seen that depends on it.
    fn raise_horizon(&mut self, c: usize) {
        let members = &self.cluster(c).members;
        let far = members.iter().map(|m| self.horizon[m.index()]).max().unwrap_or(NodeId(0));
        let mut stack = members.clone();
        while let Some(id) = stack.pop() {
            if self.horizon[id.index()] < far {
                self.horizon[id.index()] = far;
                if let Some(c) = self.of[id.index()] {
                    stack.extend(&self.cluster(c).members);
                }
            } else if !self.cluster(c).members.contains(&id) {
                continue;
            }
            let users = self.graph.node(id).outs().flat_map(|o| self.users[o.index()].iter());
            // Nodes not seen yet have a horizon of 0 and compute it when they are.
            stack.extend(users.filter(|u| {
                let h = self.horizon[u.index()];
                h != NodeId(0) && h < far
            }));
        }
    }

    /// Operands that a node reads as they lie in memory: they cannot be made in its own cluster.
    fn fixed_operands(&self, id: NodeId) -> &[ValueId] {
        let node = self.graph.node(id);
        if is_anchor(&node.op) || matches!(node.op, Op::RandomBits(_)) { &node.ins } else { &[] }
    }

    /// The members with the inline nodes that they use and the renamings between them all, in order.
    fn with_links(&self, members: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let mut all = members.clone();
        let mut stack: Vec<NodeId> = members.iter().copied().collect();
        while let Some(id) = stack.pop() {
            if !self.fixed_operands(id).is_empty() {
                continue;
            }
            for v in &self.graph.node(id).ins {
                let source = self.graph.value(self.behind(*v)).node;
                let inline = self.inline[source.index()];
                if !inline && !members.contains(&source) {
                    continue;
                }
                let mut at = self.graph.value(*v).node;
                while at != source {
                    all.insert(at);
                    at = self.graph.value(self.graph.node(at).ins[0]).node;
                }
                if inline && all.insert(source) {
                    stack.push(source);
                }
            }
        }
        all.into_iter().collect()
    }

    /// The values that members and their inline nodes read from outside.
    fn reads(&self, members: &BTreeSet<NodeId>) -> Vec<ValueId> {
        let inner: BTreeSet<NodeId> = self.with_links(members).into_iter().collect();
        let mut reads = Vec::new();
        let mut seen = BTreeSet::new();
        for v in inner.iter().flat_map(|id| &self.graph.node(*id).ins) {
            if !inner.contains(&self.graph.value(*v).node) && seen.insert(*v) {
                reads.push(*v);
            }
        }
        reads
    }

    /// Tries to make one cluster of two; says why not.
    fn merge(&mut self, into: usize, other: usize) -> std::result::Result<(), &'static str> {
        let (a, b) = (self.cluster(into), self.cluster(other));
        if a.members.len() + b.members.len() > MAX_MEMBERS {
            return Err("the cluster would be too large");
        }
        let anchor = match (a.anchor, b.anchor) {
            (Some(_), Some(_)) => return Err("two kernels with epilogues"),
            (x, y) => x.or(y),
        };
        let members: BTreeSet<NodeId> = a.members.iter().chain(&b.members).copied().collect();
        let folds = |id: &NodeId| fold_axes(&self.graph.node(*id).op).is_some();
        if anchor.is_some() && !self.options.folds_in_epilogues && members.iter().any(folds) {
            return Err("kernels of this device fold no results");
        }
        let checks = |id: &NodeId| matches!(self.graph.node(*id).op, Op::Check(_));
        let updates = |id: &NodeId| self.graph.node(*id).outs().any(|o| self.is_update[o.index()]);
        if members.iter().any(checks) && members.iter().any(updates) {
            return Err("a step that can fail assigns no state");
        }
        let linked = self.with_links(&members);
        let fixed = linked.iter().flat_map(|id| self.fixed_operands(*id));
        if fixed.map(|v| self.graph.value(self.behind(*v)).node).any(|n| linked.contains(&n)) {
            return Err("a kernel's operand or a random key would be made in its own step");
        }
        let domain = analyze(self.graph, &linked, anchor, &|v| self.stored(v, &members))?;
        if domain.sizes.contains(&0) && members.iter().any(checks) {
            return Err("a check would be made over nothing");
        }
        if self.ports(&members) > self.options.max_ports {
            return Err("the step would have too many operands");
        }
        if cycle::would_arise(self, into, other) {
            return Err("a value between them is computed outside");
        }
        for id in &members {
            self.of[id.index()] = Some(into);
        }
        self.list[other] = None;
        self.list[into] = Some(Cluster { members: members.into_iter().collect(), anchor });
        self.raise_horizon(into);
        Ok(())
    }

    fn ports(&self, members: &BTreeSet<NodeId>) -> usize {
        let writes =
            |id: &NodeId| self.graph.node(*id).outs().filter(|o| self.needed_outside(*o, members)).count();
        self.reads(members).len() + members.iter().map(writes).sum::<usize>()
    }

    /// Whether a value is a member's and needed outside.
    fn stored(&self, v: ValueId, members: &BTreeSet<NodeId>) -> bool {
        members.contains(&self.graph.value(v).node) && self.needed_outside(v, members)
    }

    /// Whether a member's result is used by anything but members.
    fn needed_outside(&self, v: ValueId, members: &BTreeSet<NodeId>) -> bool {
        // A check that nothing depends on stores what it guards, because a step stores something.
        let node = self.graph.def(v);
        if self.is_result[v.index()] || (self.users[v.index()].is_empty() && matches!(node.op, Op::Check(_)))
        {
            return true;
        }
        self.users[v.index()].iter().any(|u| {
            if members.contains(u) {
                return false;
            }
            // A renaming or an inline node is no use of its own: its users are.
            let node = self.graph.node(*u);
            let passes = self.inline[u.index()] || renames_axes(self.graph, node);
            !passes || self.needed_outside(node.out(0), members)
        })
    }
}

/// Groups the nodes of a bound graph of primitives into clusters.
pub fn fuse(graph: &Graph, options: FuseOptions, remarks: &mut Remarks) -> Result<Graph> {
    debug_assert!(options.outputs <= graph.results().len());
    let mut stored = BTreeSet::new();
    let clusters = loop {
        match group(graph, options, &stored, remarks) {
            Ok(clusters) => break clusters,
            // Their users cannot compute them in their own sweep: store them, and start again.
            Err(inline) => stored.extend(inline),
        }
    };
    build::rebuild(&clusters, |kind, members| {
        remarks.applied("fuse", || {
            let names: Vec<String> = members.iter().map(|m| graph.describe(*m)).collect();
            format!(
                "one {} of {}",
                if kind == FuseKind::Anchored { "kernel" } else { "nest" },
                names.join(", ")
            )
        });
    })
}

/// Clusters in one pass over the nodes; fails with inline nodes that must be stored instead.
fn group<'g>(
    graph: &'g Graph,
    options: FuseOptions,
    stored: &BTreeSet<NodeId>,
    remarks: &mut Remarks,
) -> std::result::Result<Clusters<'g>, Vec<NodeId>> {
    let mut clusters = Clusters::new(graph, options);
    for id in stored {
        clusters.inline[id.index()] = false;
    }
    for (id, node) in graph.nodes() {
        clusters.look(id);
        let anchor = is_anchor(&node.op).then_some(id);
        if (anchor.is_none() && !computes(&node.op)) || clusters.inline[id.index()] {
            continue;
        }
        let mut home = clusters.open(id, anchor);
        let alone = BTreeSet::from([id]);
        let linked = clusters.with_links(&alone);
        if analyze(graph, &linked, anchor, &|v| clusters.stored(v, &alone)).is_err() {
            let computed = |n: &NodeId| clusters.inline[n.index()] && computes(&graph.node(*n).op);
            let inline: Vec<NodeId> = linked.into_iter().filter(computed).collect();
            if !inline.is_empty() {
                return Err(inline);
            }
        }
        if !options.enabled || anchor.is_some() {
            continue;
        }
        // The latest anchor first: a map with two possible ones joins the later one.
        let mut candidates = clusters.producers(id);
        candidates.sort_unstable_by_key(|c| {
            let cluster = clusters.cluster(*c);
            (cluster.anchor.is_none(), std::cmp::Reverse(cluster.anchor), std::cmp::Reverse(*c))
        });
        candidates.dedup();
        let folded = clusters.only_folded(id);
        for c in candidates {
            if folded && clusters.cluster(c).anchor.is_some() {
                // An epilogue would have to store what the fold can compute from the epilogue's other results.
                continue;
            }
            match clusters.merge(c, home) {
                Ok(()) => home = c,
                Err(reason) => remarks.missed("fuse", || {
                    format!("{} stays apart from its operand's cluster: {reason}", graph.describe(id))
                }),
            }
        }
        if fold_axes(&node.op).is_some() {
            join_kernel(&mut clusters, home);
        }
    }
    if options.enabled {
        merge_siblings(&mut clusters);
    }
    Ok(clusters)
}

/// Merges a cluster of folds, with the work before them, into the latest kernel that makes an operand of theirs: they
/// are then folded while the kernel's results are hot.
fn join_kernel(clusters: &mut Clusters<'_>, home: usize) {
    let producers = |id: &NodeId| clusters.producers(*id);
    let mut kernels: Vec<usize> = clusters.cluster(home).members.iter().flat_map(producers).collect();
    kernels.retain(|c| *c != home && clusters.cluster(*c).anchor.is_some());
    kernels.sort_unstable_by_key(|c| std::cmp::Reverse(clusters.cluster(*c).anchor));
    kernels.dedup();
    for c in kernels {
        if clusters.cluster(home).anchor.is_some() || clusters.merge(c, home).is_ok() {
            return;
        }
    }
}

/// Merges clusters over one domain that read the same value: one pass over it instead of two.
fn merge_siblings(clusters: &mut Clusters<'_>) {
    for v in 0..clusters.graph.value_count() {
        let mut readers: Vec<usize> =
            clusters.users[v].iter().filter_map(|u| clusters.of[u.index()]).collect();
        // Users of a renamed value read the same memory.
        for u in clusters.users[v].clone() {
            let node = clusters.graph.node(u);
            if renames_axes(clusters.graph, node) {
                let next = &clusters.users[node.out(0).index()];
                readers.extend(next.iter().filter_map(|u| clusters.of[u.index()]));
            }
        }
        readers.sort_unstable();
        readers.dedup();
        readers.retain(|c| clusters.cluster(*c).anchor.is_none());
        let wide = |clusters: &Clusters<'_>, c: usize| {
            let members: BTreeSet<NodeId> = clusters.cluster(c).members.iter().copied().collect();
            let stored = |v| clusters.stored(v, &members);
            analyze(clusters.graph, &clusters.with_links(&members), None, &stored).map(|d| d.sizes)
        };
        let mut i = 0;
        while i + 1 < readers.len() {
            let (a, b) = (readers[i], readers[i + 1]);
            let same =
                matches!((wide(clusters, a), wide(clusters, b)), (Ok(x), Ok(y)) if x == y && !x.is_empty());
            if a != b && same && clusters.merge(a, b).is_ok() {
                readers.remove(i + 1);
            } else {
                i += 1;
            }
        }
    }
}
