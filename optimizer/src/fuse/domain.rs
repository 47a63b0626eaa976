//! The iteration domain of a set of nodes: which dims of which values are the same axis, which axes
//! are rows and which columns, and whether one sweep over the domain can compute them all.

use std::collections::{BTreeMap, BTreeSet};

use graphc_ir::Dim;
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::Op;

use super::anchor::{folds_rows, order};

/// Axes of a domain as a bit set.
pub type AxisSet = u64;

/// A domain and how values lie in it.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Sizes of the axes, outermost first; for a nest none is 1.
    pub sizes: Vec<usize>,
    /// The axes that are columns; the others are rows.
    pub cols: AxisSet,
    /// For every value: the axis of each of its dims; `None` for dims of size 1.
    pub axes: BTreeMap<ValueId, Vec<Option<usize>>>,
}

impl Domain {
    /// All axes.
    pub fn all(&self) -> AxisSet {
        full(self.sizes.len())
    }

    /// The axes over which a value varies.
    pub fn set(&self, v: ValueId) -> AxisSet {
        self.axes[&v].iter().flatten().fold(0, |s, a| s | 1 << a)
    }
}

fn full(rank: usize) -> AxisSet {
    (1 << rank) - 1
}

/// Why nodes cannot share a sweep.
pub type Rejected = &'static str;

/// Whether a movement operation only renames axes: a register passes through it unchanged.
pub fn renames_axes(graph: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Broadcast(_) | Op::Transpose(_) => true,
        Op::Reshape(_) => {
            let keep = |v: ValueId| sizes_of(graph, v).filter(|d| *d != 1);
            keep(node.ins[0]).eq(keep(node.out(0)))
        }
        _ => false,
    }
}

/// The sizes of a bound graph's value; this is asked so often that it makes no list of them.
fn sizes_of(graph: &Graph, v: ValueId) -> impl Iterator<Item = usize> {
    let size = |d: &Dim| d.as_const().and_then(|n| usize::try_from(n).ok());
    graph.ty(v).dims.iter().map(move |d| size(d).expect("dims are numbers after binding"))
}

/// Dims of values, partitioned into axes.
struct Classes {
    parent: Vec<usize>,
    size: Vec<usize>,
    first: BTreeMap<ValueId, usize>,
}

impl Classes {
    fn find(&mut self, mut i: usize) -> usize {
        while self.parent[i] != i {
            self.parent[i] = self.parent[self.parent[i]];
            i = self.parent[i];
        }
        i
    }

    fn add(&mut self, graph: &Graph, v: ValueId) {
        if !self.first.contains_key(&v) {
            self.first.insert(v, self.parent.len());
            for d in sizes_of(graph, v) {
                self.parent.push(self.parent.len());
                self.size.push(d);
            }
        }
    }

    fn dim(&self, v: ValueId, d: usize) -> usize {
        self.first[&v] + d
    }

    fn unite(&mut self, a: usize, b: usize) -> Result<(), Rejected> {
        let (a, b) = (self.find(a), self.find(b));
        if self.size[a] != self.size[b] {
            return Err("axes of different sizes");
        }
        let (low, high) = (a.min(b), a.max(b));
        self.parent[high] = low;
        Ok(())
    }
}

/// The axes that a fold removes.
pub fn fold_axes(op: &Op) -> Option<&[usize]> {
    match op {
        Op::Reduce(r) => Some(&r.axes),
        Op::Moments(m) => Some(&m.axes),
        _ => None,
    }
}

/// Finds the domain of nodes (in topological order), or why there is none.
///
/// With an anchor the domain is that of its result's dims, one of which is the only column: a dot's last,
/// an image's channels.
///
/// `stored` says which values are needed outside.
pub fn analyze(
    graph: &Graph,
    members: &[NodeId],
    anchor: Option<NodeId>,
    stored: &dyn Fn(ValueId) -> bool,
) -> Result<Domain, Rejected> {
    let mut classes = Classes { parent: Vec::new(), size: Vec::new(), first: BTreeMap::new() };
    for id in members {
        let node = graph.node(*id);
        // An anchor's operands and a random key are not elements of the domain.
        if Some(*id) != anchor && !matches!(node.op, Op::RandomBits(_)) {
            node.ins.iter().for_each(|v| classes.add(graph, *v));
        }
        node.outs().for_each(|v| classes.add(graph, v));
    }
    if let Some(anchor) = anchor.map(|id| graph.node(id)) {
        // A pool's winners lie as its values do.
        for (out, d) in anchor.outs().skip(1).flat_map(|o| (0..graph.ty(o).rank()).map(move |d| (o, d))) {
            let (a, b) = (classes.dim(anchor.out(0), d), classes.dim(out, d));
            classes.unite(a, b)?;
        }
    }
    for id in members.iter().filter(|id| Some(**id) != anchor) {
        unite_node(graph, graph.node(*id), &mut classes)?;
    }
    let seed = match anchor {
        Some(id) => graph.node(id).out(0),
        None => members
            .iter()
            .map(|id| {
                let node = graph.node(*id);
                if fold_axes(&node.op).is_some() { node.ins[0] } else { node.out(0) }
            })
            // The widest; among equals the first.
            .rev()
            .max_by_key(|v| {
                let rank = sizes_of(graph, *v).filter(|d| *d != 1).count();
                (rank, sizes_of(graph, *v).product::<usize>())
            })
            .ok_or("nothing to compute")?,
    };
    let shape = graph.ty(seed).static_shape();
    let mut sizes = Vec::new();
    let mut axis_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (d, size) in shape.iter().enumerate() {
        let class = classes.dim(seed, d);
        let class = classes.find(class);
        if anchor.is_none() && *size == 1 {
            continue;
        }
        if *size != 1 && axis_of.insert(class, sizes.len()).is_some() {
            return Err("one axis would be met twice");
        }
        sizes.push(*size);
    }
    if sizes.len() > 16 {
        return Err("too many axes");
    }
    place_other_classes(&mut classes, &sizes, &mut axis_of)?;
    let mut axes = BTreeMap::new();
    let values: Vec<ValueId> = classes.first.keys().copied().collect();
    for v in values {
        let map: Vec<Option<usize>> = sizes_of(graph, v)
            .enumerate()
            .map(|(d, size)| {
                let class = classes.dim(v, d);
                let class = classes.find(class);
                (size != 1).then(|| axis_of[&class])
            })
            .collect();
        axes.insert(v, map);
    }
    let mut domain = Domain { sizes, cols: 0, axes };
    if let Some(anchor) = anchor {
        domain.cols =
            order(&graph.node(anchor).op, domain.sizes.len()).last().map_or(0, |column| 1 << column);
        check_epilogue(graph, members, anchor, &domain, stored)?;
    } else {
        domain.cols = choose_columns(graph, members, &domain);
        check_sweep(graph, members, &domain, stored)?;
    }
    Ok(domain)
}

/// Says which dims of a node's operands and results are the same axis.
fn unite_node(graph: &Graph, node: &Node, classes: &mut Classes) -> Result<(), Rejected> {
    let dims = |v: ValueId| &graph.ty(v).dims[..];
    let mut unite = |a: (ValueId, usize), b: (ValueId, usize)| {
        let (x, y) = (classes.dim(a.0, a.1), classes.dim(b.0, b.1));
        classes.unite(x, y)
    };
    match &node.op {
        Op::Map(_) | Op::Cast(_) | Op::Check(_) => {
            for v in &node.ins {
                // The condition of a check may have a shape of its own.
                if dims(*v) == dims(node.out(0)) {
                    for d in 0..dims(*v).len() {
                        unite((*v, d), (node.out(0), d))?;
                    }
                } else if !matches!(node.op, Op::Check(_)) {
                    return Err("operands of different shapes");
                }
            }
        }
        Op::Broadcast(op) => {
            for (i, a) in op.axes.iter().enumerate() {
                unite((node.ins[0], i), (node.out(0), *a))?;
            }
        }
        Op::Transpose(op) => {
            for (i, p) in op.perm.iter().enumerate() {
                unite((node.ins[0], *p), (node.out(0), i))?;
            }
        }
        Op::Reshape(_) => {
            let wide = |v: ValueId| sizes_of(graph, v).enumerate().filter(|(_, s)| *s != 1).map(|(d, _)| d);
            for (a, b) in wide(node.ins[0]).zip(wide(node.out(0))) {
                unite((node.ins[0], a), (node.out(0), b))?;
            }
        }
        Op::Reduce(_) | Op::Moments(_) => {
            let folded = fold_axes(&node.op).unwrap_or(&[]);
            let kept = (0..dims(node.ins[0]).len()).filter(|d| !folded.contains(d));
            for (k, d) in kept.enumerate() {
                for o in node.outs() {
                    unite((node.ins[0], d), (o, k))?;
                }
            }
        }
        Op::Iota(_) | Op::Const(_) | Op::RandomBits(_) => {}
        _ => return Err("not elementwise"),
    }
    Ok(())
}

/// Gives axes to classes that the seed does not have: a broadcast's new axis, for instance, is the
/// axis of the same size that was reduced away before, unless some value has both.
fn place_other_classes(
    classes: &mut Classes,
    sizes: &[usize],
    axis_of: &mut BTreeMap<usize, usize>,
) -> Result<(), Rejected> {
    let values: Vec<(usize, usize)> = {
        let mut starts: Vec<usize> = classes.first.values().copied().collect();
        starts.sort_unstable();
        let ends = starts.iter().skip(1).copied().chain([classes.parent.len()]).collect::<Vec<_>>();
        starts.into_iter().zip(ends).collect()
    };
    let mut together: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (start, end) in values {
        let roots: Vec<usize> = (start..end).map(|i| classes.find(i)).collect();
        for r in roots.iter().filter(|r| classes.size[**r] != 1 && !axis_of.contains_key(r)) {
            together.entry(*r).or_default().extend(roots.iter().filter(|o| *o != r));
        }
        let mut distinct: Vec<usize> = roots.iter().copied().filter(|r| classes.size[*r] != 1).collect();
        distinct.sort_unstable();
        if distinct.windows(2).any(|w| w[0] == w[1]) {
            return Err("one axis would be met twice");
        }
    }
    for (class, others) in together {
        let taken: Vec<usize> = others.iter().filter_map(|c| axis_of.get(c).copied()).collect();
        let free = (0..sizes.len()).find(|a| sizes[*a] == classes.size[class] && !taken.contains(a));
        axis_of.insert(class, free.ok_or("an axis outside the domain")?);
    }
    Ok(())
}

/// The axes that each fold removes, in the domain.
fn folds(graph: &Graph, members: &[NodeId], domain: &Domain) -> Vec<(NodeId, AxisSet, AxisSet)> {
    members
        .iter()
        .filter(|id| fold_axes(&graph.node(**id).op).is_some())
        .map(|id| {
            let node = graph.node(*id);
            (*id, domain.set(node.ins[0]), domain.set(node.out(0)))
        })
        .collect()
}

/// Columns are what the first partial fold removes if that includes the innermost axis (its result
/// may then return to the row), else what it keeps.
fn choose_columns(graph: &Graph, members: &[NodeId], domain: &Domain) -> AxisSet {
    let rank = domain.sizes.len();
    let all = domain.all();
    if rank == 0 {
        return 0;
    }
    let last = 1 << (rank - 1);
    let folds = folds(graph, members, domain);
    for (_, from, to) in &folds {
        if *from == all && *to != 0 && from != to {
            let removed = from & !to;
            return if removed & last != 0 { removed } else { *to };
        }
    }
    let whole = folds
        .iter()
        .any(|(id, from, to)| *from == all && *to == 0 && matches!(graph.node(*id).op, Op::Moments(_)));
    if whole {
        return all;
    }
    // Enough columns for vector instructions, the rest rows for threads.
    let (mut cols, mut width) = (last, domain.sizes[rank - 1]);
    for a in (0..rank - 1).rev() {
        if width >= 64 || (folds.is_empty() && a == 0) {
            break;
        }
        cols |= 1 << a;
        width *= domain.sizes[a];
    }
    if folds.is_empty() { last } else { cols }
}

/// Checks that one sweep suffices: values vary over all axes, the rows, the columns, or nothing;
/// folds remove rows or columns; and what is folded down the columns never returns to a row.
fn check_sweep(
    graph: &Graph,
    members: &[NodeId],
    domain: &Domain,
    stored: &dyn Fn(ValueId) -> bool,
) -> Result<(), Rejected> {
    let (all, cols) = (domain.all(), domain.cols);
    let rows = all & !cols;
    let mut post: BTreeMap<ValueId, bool> = BTreeMap::new();
    for id in members {
        let node = graph.node(*id);
        let mut after = node.ins.iter().any(|v| post.get(v).copied().unwrap_or(false));
        if fold_axes(&node.op).is_some() {
            let (from, to) = (domain.set(node.ins[0]), domain.set(node.out(0)));
            let removed = from & !to;
            let moments = matches!(node.op, Op::Moments(_));
            let down = removed & rows != 0;
            if (down && removed & rows != rows) || (removed & cols != 0 && removed & cols != cols) {
                return Err("a fold over other axes than the rows or the columns");
            }
            if moments && down && removed & cols != 0 {
                return Err("moments over rows and columns at once");
            }
            if after && down {
                return Err("a second fold down the columns");
            }
            after |= down;
        }
        for o in node.outs() {
            let set = domain.set(o);
            if stored(o) && set != all && set != rows && set != cols && set != 0 {
                return Err("a result over part of the rows or columns");
            }
            if after && set & rows != 0 {
                return Err("the result of a fold down the columns would return to the rows");
            }
            post.insert(o, after);
        }
    }
    Ok(())
}

/// Checks an epilogue: elementwise work that gives whole results, and folds of all rows, whose results are one a
/// column or one in all, as is what follows them.
fn check_epilogue(
    graph: &Graph,
    members: &[NodeId],
    anchor: NodeId,
    domain: &Domain,
    stored: &dyn Fn(ValueId) -> bool,
) -> Result<(), Rejected> {
    let wide = domain.sizes.iter().enumerate().filter(|(_, s)| **s != 1).fold(0, |s, (a, _)| s | 1 << a);
    let (rows, cols) = (wide & !domain.cols, wide & domain.cols);
    let first = graph.node(anchor).out(0);
    let mut post: BTreeSet<ValueId> = BTreeSet::new();
    for id in members.iter().filter(|id| **id != anchor) {
        let node = graph.node(*id);
        let elementwise = matches!(node.op, Op::Map(_) | Op::Cast(_) | Op::Const(_) | Op::Iota(_));
        let folds = fold_axes(&node.op).is_some() && folds_rows(&graph.node(anchor).op);
        if !elementwise && !folds && !renames_axes(graph, node) {
            return Err("only elementwise work may follow a kernel");
        }
        if node.ins.iter().any(|v| graph.value(*v).node == anchor && *v != first) {
            return Err("a pool's winners are stored, not worked on");
        }
        let mut after = node.ins.iter().any(|v| post.contains(v));
        if folds {
            if after || rows == 0 || domain.set(node.ins[0]) != wide || domain.set(node.out(0)) != cols {
                return Err("an epilogue folds whole results down their columns, once");
            }
            after = true;
        }
        for o in node.outs() {
            let set = domain.set(o);
            if after && set & rows != 0 {
                return Err("the result of a fold down the columns would return to the rows");
            }
            // What belongs to no fold would be stored once for each block of rows.
            if stored(o) && set != wide && !(after && set == cols) {
                return Err("an epilogue gives whole results");
            }
            if after {
                post.insert(o);
            }
        }
    }
    Ok(())
}
