//! The append-only builder: checks arity, infers types, shares equal nodes.

use std::collections::HashMap;

use crate::dim::Bounds;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, ValueId, ValueInfo};
use crate::ops::{Input, Op, StateRead};
use crate::origin::Origins;
use crate::types::{Infer, TensorType};

/// Builds a [`Graph`] node by node.
///
/// Equal operations on equal operands become one node, so common sub-expressions never arise.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    // Looked up only, never iterated: its order cannot reach a result.
    index: HashMap<(Op, Vec<ValueId>), NodeId>,
    current: Origins,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// An empty graph that starts with what another one knew of its dims.
    pub fn with_infer(infer: Infer) -> Builder {
        Builder { graph: Graph { infer, ..Graph::default() }, ..Builder::default() }
    }

    /// What is known of symbols.
    pub fn bounds_mut(&mut self) -> &mut Bounds {
        &mut self.graph.infer.bounds
    }

    /// What is known and required of dims.
    pub(crate) fn infer_mut(&mut self) -> &mut Infer {
        &mut self.graph.infer
    }

    /// Origins given to the nodes that follow.
    pub fn set_origins(&mut self, origins: Origins) {
        self.current = origins;
    }

    /// The origins that nodes get at present.
    pub fn current_origins(&self) -> &Origins {
        &self.current
    }

    /// Adds an origin to the node of a value.
    pub fn add_origin(&mut self, v: ValueId, origin: &Origins) {
        let node = self.graph.value(v).node;
        self.graph.origins[node.index()].extend(origin);
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A value's type.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        self.graph.ty(v)
    }

    /// Adds an operation, or finds the equal one, and returns its results.
    pub fn op(&mut self, op: impl Into<Op>, ins: &[ValueId]) -> Result<Vec<ValueId>> {
        let op = op.into();
        let key = (op, ins.to_vec());
        if let Some(id) = self.index.get(&key) {
            self.graph.origins[id.index()].extend(&self.current);
            return Ok(self.graph.node(*id).outs().collect());
        }
        let (op, ins) = key;
        let arity = op.arity();
        if !arity.contains(&ins.len()) {
            let takes = if arity.start() == arity.end() {
                arity.start().to_string()
            } else {
                format!("{} to {}", arity.start(), arity.end())
            };
            return Err(Error::new(format!("`{}` takes {takes} operands, but got {}", op.name(), ins.len()))
                .help(format!("its signature is {}", op.signature())));
        }
        let types: Vec<TensorType> = ins.iter().map(|v| self.graph.ty(*v).clone()).collect();
        let outs = op.infer(&types, &mut self.graph.infer).map_err(|e| {
            let given: Vec<_> = types.iter().map(ToString::to_string).collect();
            let mut e = e;
            if e.help.is_none() && !given.is_empty() {
                e.help = Some(format!("{} was given {}", op.signature(), given.join(", ")));
            }
            e
        })?;
        let id = NodeId(self.graph.nodes.len() as u32);
        let first = self.graph.values.len() as u32;
        let count = outs.len() as u32;
        for (index, ty) in outs.into_iter().enumerate() {
            self.graph.values.push(ValueInfo { node: id, index: index as u32, ty });
        }
        if matches!(op, Op::Input(_)) {
            self.graph.inputs.push(ValueId(first));
        }
        self.graph.can_fail |= op.can_fail();
        self.graph.nodes.push(Node { op: op.clone(), ins: ins.clone(), first, count });
        self.graph.origins.push(self.current.clone());
        self.index.insert((op, ins), id);
        Ok((first..first + count).map(ValueId).collect())
    }

    /// As [`Builder::op`], for operations with one result.
    pub fn op1(&mut self, op: impl Into<Op>, ins: &[ValueId]) -> Result<ValueId> {
        Ok(self.op(op, ins)?[0])
    }

    /// The next input of the function.
    pub fn input(&mut self, ty: TensorType) -> Result<ValueId> {
        let index = self.graph.inputs.len();
        self.op1(Input { index, dtype: ty.dtype, dims: ty.dims }, &[])
    }

    /// An input of the type and the names of a graph's value.
    pub fn input_like(&mut self, of: &Graph, v: ValueId) -> Result<ValueId> {
        let outer = std::mem::replace(&mut self.current, of.origins(of.value(v).node).clone());
        let input = self.input(of.ty(v).clone());
        self.current = outer;
        input
    }

    /// Inputs like a graph's, in their order.
    pub fn inputs_like(&mut self, of: &Graph) -> Result<Vec<ValueId>> {
        of.inputs().iter().map(|v| self.input_like(of, *v)).collect()
    }

    /// The value of a state variable before the run.
    pub fn state(&mut self, index: usize, ty: TensorType) -> Result<ValueId> {
        self.op1(StateRead { index, dtype: ty.dtype, dims: ty.dims }, &[])
    }

    /// Copies a whole graph in, with its inputs replaced; returns its results.
    pub fn inline(&mut self, graph: &Graph, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let all = self.inline_all(graph, inputs)?;
        Ok(graph.results.iter().map(|r| all[r.index()]).collect())
    }

    /// As [`Builder::inline`], but returns every value's counterpart.
    pub fn inline_all(&mut self, graph: &Graph, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let mut map: Vec<ValueId> = Vec::with_capacity(graph.values.len());
        for (_, node) in graph.nodes() {
            if let Op::Input(input) = &node.op {
                map.push(inputs[input.index]);
                continue;
            }
            let ins: Vec<ValueId> = node.ins.iter().map(|v| map[v.index()]).collect();
            map.extend(self.op(node.op.clone(), &ins)?);
        }
        Ok(map)
    }

    /// Closes the graph with these results; nodes that no result needs stay until a rebuild.
    pub fn finish(mut self, results: &[ValueId]) -> Result<Graph> {
        self.graph.results = results.to_vec();
        Ok(self.graph)
    }
}
