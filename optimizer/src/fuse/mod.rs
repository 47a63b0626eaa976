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
mod order;

use std::collections::{BTreeSet, HashSet};

use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, NodeId, ValueId};
use graphc_ir::ops::{FuseKind, Op};
use graphc_ir::scalar::Class;

use crate::remarks::Remarks;
use anchor::is_anchor;
use cycle::Seen;
use domain::{analyze, fold_axes, renames_axes};
use order::{Order, Place};

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

/// Inline nodes on top of each other: every user computes all of them.
const MAX_INLINE_DEPTH: usize = 4;

/// A group of nodes on its way to become a step.
#[derive(Clone, Debug)]
struct Cluster {
    /// Members in topological order.
    members: Vec<NodeId>,
    /// The dot, convolution or pool whose epilogue the others are.
    anchor: Option<NodeId>,
    /// Where it stands among all units: at the place of one of its members.
    place: Place,
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
    /// The units in an order in which operands come first; the place of a node is its number.
    order: Order,
    seen: Seen,
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
        let of = vec![None; graph.len()];
        let (order, seen) = (Order::of(graph.len()), Seen::of(graph.len()));
        let list = Vec::new();
        let mut clusters =
            Clusters { graph, users, of, list, is_result, is_update, inline, order, seen, options };
        clusters.find_inline(options.enabled);
        clusters.store_what_users_cannot_compute();
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
        // Each user computes all that is inline behind it: of a long chain of comparisons some are stored.
        let mut depth = vec![0; self.graph.len()];
        for (id, node) in self.graph.nodes() {
            if self.inline[id.index()] {
                let behind = node.ins.iter().map(|v| depth[self.graph.value(self.behind(*v)).node.index()]);
                // Numbers and coordinates have nothing behind them, and cost nothing.
                depth[id.index()] = usize::from(!node.ins.is_empty()) + behind.max().unwrap_or(0);
                if depth[id.index()] > MAX_INLINE_DEPTH {
                    self.inline[id.index()] = false;
                    depth[id.index()] = 0;
                }
            }
        }
    }

    /// Takes back what is inline where a user cannot compute it in its own sweep.
    fn store_what_users_cannot_compute(&mut self) {
        let graph = self.graph;
        let mut pending: BTreeSet<NodeId> = graph.nodes().map(|(id, _)| id).collect();
        while let Some(id) = pending.pop_first() {
            let op = &graph.node(id).op;
            let anchor = is_anchor(op).then_some(id);
            if (anchor.is_none() && !computes(op)) || self.inline[id.index()] {
                continue;
            }
            let alone = BTreeSet::from([id]);
            let linked = self.with_links(&alone);
            let computed = |n: &&NodeId| self.inline[n.index()] && computes(&graph.node(**n).op);
            let inline: Vec<NodeId> = linked.iter().filter(computed).copied().collect();
            if inline.is_empty() || analyze(graph, &linked, anchor, &|v| self.stored(v, &alone)).is_ok() {
                continue;
            }
            for n in inline {
                self.inline[n.index()] = false;
                pending.insert(n);
                // What uses it has another operand now.
                let mut stack: Vec<NodeId> = self.users_of(n).copied().collect();
                while let Some(user) = stack.pop() {
                    if renames_axes(graph, graph.node(user)) || self.inline[user.index()] {
                        stack.extend(self.users_of(user));
                    } else {
                        pending.insert(user);
                    }
                }
            }
        }
    }

    fn users_of(&self, id: NodeId) -> impl Iterator<Item = &NodeId> {
        self.graph.node(id).outs().flat_map(|o| self.users[o.index()].iter())
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
        let mut stack = vec![v];
        while let Some(v) = stack.pop() {
            if self.is_result[v.index()] {
                return false;
            }
            for u in &self.users[v.index()] {
                let node = self.graph.node(*u);
                if renames_axes(self.graph, node) {
                    stack.push(node.out(0));
                } else if !computes(&node.op) {
                    return false;
                }
            }
        }
        true
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
        let mut inline = BTreeSet::new();
        while let Some(id) = stack.pop() {
            for v in &self.graph.node(id).ins {
                let source = self.graph.value(self.behind(*v)).node;
                if self.inline[source.index()] {
                    if inline.insert(source) {
                        stack.push(source);
                    }
                } else {
                    found.extend(self.of[source.index()]);
                }
            }
        }
        found
    }

    fn open(&mut self, id: NodeId, anchor: Option<NodeId>) -> usize {
        self.of[id.index()] = Some(self.list.len());
        self.list.push(Some(Cluster { members: vec![id], anchor, place: id.0 }));
        self.list.len() - 1
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
        self.reads_of(&self.with_links(members))
    }

    /// The values that members, given with their links in order, read from outside.
    fn reads_of(&self, linked: &[NodeId]) -> Vec<ValueId> {
        let mut reads = Vec::new();
        let mut seen = HashSet::new();
        for v in linked.iter().flat_map(|id| &self.graph.node(*id).ins) {
            if linked.binary_search(&self.graph.value(*v).node).is_err() && seen.insert(*v) {
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
        let sources = fixed.map(|v| self.graph.value(self.behind(*v)).node);
        if sources.into_iter().any(|n| linked.binary_search(&n).is_ok()) {
            return Err("a kernel's operand or a random key would be made in its own step");
        }
        let domain = analyze(self.graph, &linked, anchor, &|v| self.stored(v, &members))?;
        if domain.sizes.contains(&0) && members.iter().any(checks) {
            return Err("a check would be made over nothing");
        }
        if self.ports(&members, &linked) > self.options.max_ports {
            return Err("the step would have too many operands");
        }
        let mut seen = std::mem::take(&mut self.seen);
        let merge = cycle::without_cycle(self, &mut seen, into, other);
        self.seen = seen;
        let Some(merge) = merge else {
            return Err("a value between them is computed outside");
        };
        let place = merge.apply(self);
        for id in &members {
            self.of[id.index()] = Some(into);
        }
        self.list[other] = None;
        self.list[into] = Some(Cluster { members: members.into_iter().collect(), anchor, place });
        Ok(())
    }

    fn ports(&self, members: &BTreeSet<NodeId>, linked: &[NodeId]) -> usize {
        let writes =
            |id: &NodeId| self.graph.node(*id).outs().filter(|o| self.needed_outside(*o, members)).count();
        self.reads_of(linked).len() + members.iter().map(writes).sum::<usize>()
    }

    /// Whether a value is a member's and needed outside.
    fn stored(&self, v: ValueId, members: &BTreeSet<NodeId>) -> bool {
        members.contains(&self.graph.value(v).node) && self.needed_outside(v, members)
    }

    /// Whether a member's result is used by anything but members.
    fn needed_outside(&self, v: ValueId, members: &BTreeSet<NodeId>) -> bool {
        let mut stack = vec![v];
        while let Some(v) = stack.pop() {
            // A check that nothing depends on stores what it guards, because a step stores something.
            let check = || matches!(self.graph.def(v).op, Op::Check(_));
            if self.is_result[v.index()] || self.users[v.index()].is_empty() && check() {
                return true;
            }
            for u in self.users[v.index()].iter().filter(|u| !members.contains(u)) {
                // A renaming or an inline node is no use of its own: its users are.
                let node = self.graph.node(*u);
                if !self.inline[u.index()] && !renames_axes(self.graph, node) {
                    return true;
                }
                stack.push(node.out(0));
            }
        }
        false
    }
}

/// Groups the nodes of a bound graph of primitives into clusters.
pub fn fuse(graph: &Graph, options: FuseOptions, remarks: &mut Remarks) -> Result<Graph> {
    debug_assert!(options.outputs <= graph.results().len());
    let clusters = group(graph, options, remarks);
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

/// Clusters in one pass over the nodes.
fn group<'g>(graph: &'g Graph, options: FuseOptions, remarks: &mut Remarks) -> Clusters<'g> {
    let mut clusters = Clusters::new(graph, options);
    for (id, node) in graph.nodes() {
        let anchor = is_anchor(&node.op).then_some(id);
        if (anchor.is_none() && !computes(&node.op)) || clusters.inline[id.index()] {
            continue;
        }
        let mut home = clusters.open(id, anchor);
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
    clusters
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
    let mut wide: Vec<Option<Option<Vec<usize>>>> = vec![None; clusters.list.len()];
    // Looked up only. Clusters of as many members are the same ones.
    let mut tried = HashSet::new();
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
        let mut readers = readers.into_iter();
        let Some(mut a) = readers.next() else { continue };
        for b in readers {
            let (x, y) = (clusters.cluster(a).members.len(), clusters.cluster(b).members.len());
            // Two clusters meet at each value that both read.
            if x + y > MAX_MEMBERS || !tried.insert((a, b, x, y)) {
                a = b;
                continue;
            }
            for c in [a, b] {
                wide[c].get_or_insert_with(|| sizes(clusters, c));
            }
            let same =
                matches!((&wide[a], &wide[b]), (Some(Some(x)), Some(Some(y))) if x == y && !x.is_empty());
            if same && clusters.merge(a, b).is_ok() {
                wide[a] = None;
            } else {
                a = b;
            }
        }
    }
}

/// The sizes of a cluster's domain.
fn sizes(clusters: &Clusters<'_>, c: usize) -> Option<Vec<usize>> {
    let members: BTreeSet<NodeId> = clusters.cluster(c).members.iter().copied().collect();
    let stored = |v| clusters.stored(v, &members);
    analyze(clusters.graph, &clusters.with_links(&members), None, &stored).map(|d| d.sizes).ok()
}
