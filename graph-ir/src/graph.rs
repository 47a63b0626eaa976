//! The graph: dense ids, operands on the node, order by construction.

use std::hash::{Hash, Hasher};

use crate::builder::Builder;
use crate::dim::{Binding, Dim};
use crate::error::Result;
use crate::ops::Op;
use crate::origin::Origins;
use crate::types::{Infer, TensorType};

/// A node of a [`Graph`]; operands have smaller ids, so the ids are a topological order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// A result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl NodeId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An operation on values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation with its attributes.
    pub op: Op,
    /// Operands.
    pub ins: Vec<ValueId>,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Node {
    /// The results.
    pub fn outs(&self) -> impl ExactSizeIterator<Item = ValueId> + use<> {
        (self.first..self.first + self.count).map(ValueId)
    }

    /// Result `k`.
    pub fn out(&self, k: usize) -> ValueId {
        debug_assert!(k < self.count as usize);
        ValueId(self.first + k as u32)
    }
}

/// A value's type and the node that makes it.
#[derive(Clone, Debug)]
pub struct ValueInfo {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub index: u32,
    /// Type.
    pub ty: TensorType,
}

/// A pure graph: nodes in topological order, inputs and results.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) origins: Vec<Origins>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) results: Vec<ValueId>,
    pub(crate) infer: Infer,
    /// Whether some node can fail a run; see [`Op::can_fail`].
    pub(crate) can_fail: bool,
}

impl PartialEq for Graph {
    /// Structural equality; origins do not count.
    fn eq(&self, other: &Graph) -> bool {
        self.inputs == other.inputs
            && self.results == other.results
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(|(a, b)| a.op == b.op && a.ins == b.ins)
    }
}

impl Eq for Graph {}

impl Hash for Graph {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inputs.hash(state);
        self.results.hash(state);
        for n in &self.nodes {
            n.op.hash(state);
            n.ins.hash(state);
        }
    }
}

impl Graph {
    /// The nodes in topological order with their ids.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of values.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A value's information.
    pub fn value(&self, id: ValueId) -> &ValueInfo {
        &self.values[id.index()]
    }

    /// A value's type.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    /// The node that makes a value.
    pub fn def(&self, id: ValueId) -> &Node {
        self.node(self.value(id).node)
    }

    /// Where a node came from.
    pub fn origins(&self, id: NodeId) -> &Origins {
        &self.origins[id.index()]
    }

    /// The node in words, for messages: the user's names, else its operation.
    pub fn describe(&self, id: NodeId) -> String {
        let (op, o) = (self.node(id).op.name(), self.origins(id));
        if o.is_empty() { format!("a `{op}` node") } else { format!("`{op}` node {o}") }
    }

    /// Input values in the order of the function's inputs.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Result values.
    pub fn results(&self) -> &[ValueId] {
        &self.results
    }

    /// What was assumed and what is still to be checked about the dims.
    pub fn infer(&self) -> &Infer {
        &self.infer
    }

    /// How many operands and results refer to each value.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut uses = vec![0; self.values.len()];
        for v in self.nodes.iter().flat_map(|n| &n.ins).chain(&self.results) {
            uses[v.index()] += 1;
        }
        uses
    }

    /// Whether a run can fail at a node of it, or of a body of it, for what the data are.
    pub fn can_fail(&self) -> bool {
        self.can_fail
    }

    /// Which nodes a run computes: those that can fail it, and what they or a result depend on.
    pub fn live_nodes(&self) -> Vec<bool> {
        let mut live: Vec<bool> = self.nodes.iter().map(|n| self.can_fail && n.op.can_fail()).collect();
        self.mark_live(&mut live);
        live
    }

    /// Adds what results and the nodes marked already depend on.
    fn mark_live(&self, live: &mut [bool]) {
        for r in &self.results {
            live[self.value(*r).node.index()] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            if live[i] {
                for v in &self.nodes[i].ins {
                    live[self.value(*v).node.index()] = true;
                }
            }
        }
    }

    /// The one rewriting primitive: emits every live node anew, in order, through `f`, which gets
    /// the node with its operands in the new graph and returns its results there.
    ///
    /// Nodes that no run computes vanish, equal nodes merge, inputs stay. Requirements on dims are carried over.
    pub fn rebuild<F>(&self, f: F) -> Result<Graph>
    where
        F: FnMut(&mut Builder, NodeId, &Node, &[ValueId]) -> Result<Vec<ValueId>>,
    {
        self.rebuild_live(&self.live_nodes(), f)
    }

    fn rebuild_live<F>(&self, live: &[bool], mut f: F) -> Result<Graph>
    where
        F: FnMut(&mut Builder, NodeId, &Node, &[ValueId]) -> Result<Vec<ValueId>>,
    {
        let mut b = Builder::with_infer(self.infer.clone());
        let mut map: Vec<Option<ValueId>> = vec![None; self.values.len()];
        let mut ins = Vec::new();
        for (id, node) in self.nodes() {
            if !live[id.index()] && !matches!(node.op, Op::Input(_)) {
                continue;
            }
            ins.clear();
            ins.extend(node.ins.iter().map(|v| map[v.index()].expect("operands come first")));
            b.set_origins(self.origins(id).clone());
            let outs = f(&mut b, id, node, &ins).map_err(|e| e.at(self.describe(id)))?;
            for (old, new) in node.outs().zip(outs) {
                map[old.index()] = Some(new);
            }
        }
        let results =
            self.results.iter().map(|r| map[r.index()].expect("results are live")).collect::<Vec<_>>();
        b.finish(&results)
    }

    /// The graph without nodes that no run computes.
    pub fn pruned(&self) -> Result<Graph> {
        self.rebuild(|b, _, node, ins| b.op(node.op.clone(), ins))
    }

    /// The graph with nothing but what results depend on. What fails elsewhere fails no more: this is for copies of what
    /// another graph computes and checks too.
    ///
    /// # Errors
    /// None for a graph that verifies.
    pub fn of_results(&self) -> Result<Graph> {
        let mut live = vec![false; self.nodes.len()];
        self.mark_live(&mut live);
        self.rebuild_live(&live, |b, _, node, ins| b.op(node.op.clone(), ins))
    }

    /// Replaces every symbol by its number and checks all requirements.
    pub fn bind(&self, binding: &Binding) -> Result<Graph> {
        let bounds = self.infer.bounds.check(binding);
        if let Err(errors) = bounds.and_then(|()| self.infer.requires.check(binding)) {
            let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
            fail!("{}", all.join("; "));
        }
        let mut bound = self.map_dims(&mut |d: &Dim| Ok(Dim::from(d.bind_size(binding)?)))?;
        bound.infer = Infer::default();
        Ok(bound)
    }

    /// Rewrites every dim in attributes, inputs and states.
    pub fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Graph> {
        self.rebuild(|b, _, node, ins| {
            let op = node.op.map_dims(f)?;
            b.op(op, ins)
        })
    }
}
