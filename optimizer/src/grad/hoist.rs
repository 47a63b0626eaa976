//! What of a graph stays the same while some of its inputs change.

use graphc_ir::builder::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, NodeId, ValueId};
use graphc_ir::ops::Op;

/// Where a node belongs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// It depends on constants alone: it is written wherever it is used.
    Constant,
    /// It depends on inputs that stay the same: it is computed before the loop.
    Fixed,
    /// It depends on inputs that change: it is computed in the loop.
    Moving,
}

/// A graph divided into what is computed before a loop and what is computed in it.
pub(super) struct Hoisted<'g> {
    graph: &'g Graph,
    /// Level of each node.
    levels: Vec<Level>,
    /// The first of the inputs that change.
    first: usize,
    /// Fixed values that are used in the loop.
    boundary: Vec<ValueId>,
}

impl<'g> Hoisted<'g> {
    /// Divides a graph whose inputs change from number `first` on.
    pub fn new(graph: &'g Graph, first: usize) -> Hoisted<'g> {
        let mut levels: Vec<Level> = Vec::with_capacity(graph.len());
        let mut used = vec![false; graph.value_count()];
        for (_, node) in graph.nodes() {
            let of = |v: &ValueId| levels[graph.value(*v).node.index()];
            let level = match &node.op {
                Op::Input(input) if input.index < first => Level::Fixed,
                Op::Input(_) => Level::Moving,
                // A loop's body reads no state.
                Op::StateRead(_) => Level::Fixed,
                _ => node.ins.iter().map(of).max().unwrap_or(Level::Constant),
            };
            if level == Level::Moving {
                node.ins.iter().filter(|v| of(v) == Level::Fixed).for_each(|v| used[v.index()] = true);
            }
            levels.push(level);
        }
        for r in graph.results() {
            used[r.index()] |= levels[graph.value(*r).node.index()] == Level::Fixed;
        }
        let values = graph.nodes().flat_map(|(_, node)| node.outs());
        let boundary = values.filter(|v| used[v.index()]).collect();
        Hoisted { graph, levels, first, boundary }
    }

    /// Appends what is computed before the loop to `b`, in which `args` are the inputs that stay the same; returns the
    /// values that [`Hoisted::inside`] wants.
    pub fn outside(&self, b: &mut Builder, args: &[ValueId]) -> Result<Vec<ValueId>> {
        let mut map: Vec<Option<ValueId>> = vec![None; self.graph.value_count()];
        for (id, node) in self.graph.nodes() {
            match &node.op {
                Op::Input(input) if input.index < self.first => {
                    map[node.out(0).index()] = Some(args[input.index])
                }
                _ if self.levels[id.index()] == Level::Moving => {}
                _ => self.append(b, id, &mut map)?,
            }
        }
        Ok(self.boundary.iter().filter_map(|v| map[v.index()]).collect())
    }

    /// Appends what is computed in the loop; `fixed` are the counterparts of the values from [`Hoisted::outside`], `moving`
    /// the inputs that change. Returns the graph's results.
    pub fn inside(&self, b: &mut Builder, fixed: &[ValueId], moving: &[ValueId]) -> Result<Vec<ValueId>> {
        let mut map: Vec<Option<ValueId>> = vec![None; self.graph.value_count()];
        for (v, given) in self.boundary.iter().zip(fixed) {
            map[v.index()] = Some(*given);
        }
        for (id, node) in self.graph.nodes() {
            match &node.op {
                Op::Input(input) if input.index >= self.first => {
                    map[node.out(0).index()] = Some(moving[input.index - self.first]);
                }
                _ if self.levels[id.index()] == Level::Fixed => {}
                _ => self.append(b, id, &mut map)?,
            }
        }
        Ok(self.graph.results().iter().filter_map(|r| map[r.index()]).collect())
    }

    /// Appends a node whose operands have counterparts.
    fn append(&self, b: &mut Builder, id: NodeId, map: &mut [Option<ValueId>]) -> Result<()> {
        let node = self.graph.node(id);
        let ins: Vec<ValueId> = node.ins.iter().filter_map(|v| map[v.index()]).collect();
        let outer = b.current_origins().clone();
        b.set_origins(self.graph.origins(id).clone());
        let outs = b.op(node.op.clone(), &ins);
        b.set_origins(outer);
        for (o, value) in node.outs().zip(outs?) {
            map[o.index()] = Some(value);
        }
        Ok(())
    }
}
