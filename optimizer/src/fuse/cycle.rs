//! Whether merging two clusters would make the contracted graph cyclic.
//!
//! All units stand in an order in which operands come first ([`order`](super::order)). A path from the earlier cluster
//! to the later one runs through units between the two, so only those are looked at. Where there is none, the units
//! between that the later cluster depends on move before the earlier one, and the merged cluster stands in its place.

use graphc_ir::graph::{NodeId, ValueId};

use super::Clusters;
use super::domain::renames_axes;
use super::order::Place;

/// A search that sees more units than this gives up and forbids the merge.
const LIMIT: usize = 4096;

/// The limit once all searches together have seen more than [`BUDGET`] units for each node of the graph, or as many as
/// [`FREE`] in a small one: a search may be long, but not every one.
const LATE_LIMIT: usize = 64;

/// See [`LATE_LIMIT`].
const BUDGET: usize = 256;

/// See [`LATE_LIMIT`]. Graphs of two thousand nodes cannot use it up.
const FREE: usize = 1 << 22;

/// Something with a place in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Cluster(usize),
    Node(NodeId),
}

/// What makes one cluster of two: the place of the earlier one, that of the later one, and those that have to come
/// before both.
pub(super) struct Merge {
    place: Place,
    left: Place,
    before: Vec<Place>,
}

/// What has been seen, by node; each search has a number of its own.
#[derive(Debug, Default)]
pub(super) struct Seen {
    marks: Vec<u64>,
    search: u64,
    /// Units that all searches have seen.
    pub units: usize,
}

impl Seen {
    /// Nothing yet, of so many nodes.
    pub fn of(nodes: usize) -> Seen {
        Seen { marks: vec![0; nodes], search: 0, units: 0 }
    }

    /// Whether a node or a place is seen for the first time in a search.
    fn first(&mut self, at: Place, search: u64) -> bool {
        std::mem::replace(&mut self.marks[at as usize], search) != search
    }
}

/// The units to move if two clusters are merged; `None` if a path leads from one to the other through something
/// outside both, or the search was given up.
pub(super) fn without_cycle(clusters: &Clusters<'_>, seen: &mut Seen, a: usize, b: usize) -> Option<Merge> {
    let place = |c: usize| clusters.cluster(c).place;
    let label = |p: Place| clusters.order.label(p);
    let (early, late) = if label(place(a)) < label(place(b)) { (a, b) } else { (b, a) };
    let floor = label(place(early));
    let budget = FREE.max(BUDGET * clusters.graph.len());
    let limit = if seen.units > budget { LATE_LIMIT } else { LIMIT };
    // Links have a number for the later cluster and one for all others: what it reads through one may be the earlier
    // cluster's, what they read may not.
    seen.search += 2;
    let search = seen.search;
    let mut between: Vec<Place> = Vec::new();
    let mut stack = vec![Unit::Cluster(late)];
    let mut sources = Vec::new();
    while let Some(unit) = stack.pop() {
        let links = search + u64::from(unit != Unit::Cluster(late));
        read_by(clusters, unit, &mut sources, &mut |id| seen.first(id.0, links));
        for source in sources.drain(..) {
            // What the later cluster reads of the earlier one itself is between members then.
            if source == Unit::Cluster(early) && unit != Unit::Cluster(late) {
                return None;
            }
            let at = clusters.place_of(source);
            if source == unit || label(at) <= floor || !seen.first(at, search) {
                continue;
            }
            seen.units += 1;
            between.push(at);
            stack.push(source);
            if between.len() > limit {
                return None;
            }
        }
    }
    // In the order that they have: none moves past one that it depends on.
    between.sort_unstable_by_key(|p| label(*p));
    Some(Merge { place: place(early), left: place(late), before: between })
}

impl Merge {
    /// Moves what has to move; gives the place of the merged cluster.
    pub fn apply(self, clusters: &mut Clusters<'_>) -> Place {
        for place in self.before {
            clusters.order.move_before(place, self.place);
        }
        clusters.order.remove(self.left);
        self.place
    }
}

/// The units that a unit reads from, itself and repetitions among them. Renamings and inline nodes are no units: what
/// they read is read by those that use them. `first` says whether one is to be looked through.
fn read_by(
    clusters: &Clusters<'_>,
    unit: Unit,
    found: &mut Vec<Unit>,
    first: &mut dyn FnMut(NodeId) -> bool,
) {
    let graph = clusters.graph;
    let mut stack: Vec<ValueId> = match unit {
        Unit::Cluster(c) => {
            clusters.cluster(c).members.iter().flat_map(|id| &graph.node(*id).ins).copied().collect()
        }
        Unit::Node(id) => graph.node(id).ins.clone(),
    };
    while let Some(v) = stack.pop() {
        let id = graph.value(v).node;
        match clusters.of[id.index()] {
            Some(c) => found.push(Unit::Cluster(c)),
            None if clusters.inline[id.index()] || renames_axes(graph, graph.node(id)) => {
                if first(id) {
                    stack.extend(&graph.node(id).ins);
                }
            }
            None => found.push(Unit::Node(id)),
        }
    }
}

impl Clusters<'_> {
    fn place_of(&self, unit: Unit) -> Place {
        match unit {
            Unit::Cluster(c) => self.cluster(c).place,
            Unit::Node(id) => id.0,
        }
    }
}
