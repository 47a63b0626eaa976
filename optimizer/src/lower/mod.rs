//! Lowering: a clustered graph becomes a Program. Every cluster is one step, movement becomes views.

mod anchored;
mod body;
mod copy;
mod dot;
mod loops;
mod nest;
pub mod view;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, Node, NodeId, ValueId};
use graphc_ir::ops::{ArgKind, FuseKind, Op};
use graphc_ir::origin::Origins;
use graphc_ir::program::{
    BufferDecl, BufferId, BufferKind, Choice, FilterForm, Form, Kernel, Port, Program, Step, View,
};
use graphc_ir::target::Target;
use graphc_ir::{DType, Tensor, TensorType};

use crate::compile::CompileOptions;

/// A value in memory.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub buffer: BufferId,
    /// Over the value's dims.
    pub view: View,
}

pub(crate) struct Lowering<'a> {
    pub graph: &'a Graph,
    pub target: &'a dyn Target,
    pub options: &'a CompileOptions,
    pub program: Program,
    sources: Vec<Option<Source>>,
    /// Values that are outputs live in the output's buffer from the start.
    homes: BTreeMap<ValueId, usize>,
    states: BTreeMap<usize, BufferId>,
    /// Copies already made of values whose views do not serve.
    dense: BTreeMap<ValueId, BufferId>,
    /// Packed forms already made.
    packed: BTreeMap<ValueId, BufferId>,
    /// Filters in forms of the device already made.
    filters: BTreeMap<(ValueId, FilterForm), BufferId>,
    /// Copies already made of images, with their channels last; looked up, never gone through.
    images: HashMap<(BufferId, View, Vec<usize>), BufferId>,
    /// Values that depend on constants and on state that the function does not assign.
    stable: Vec<bool>,
}

/// Lowers a fused graph whose first `outputs` results are outputs and whose others are assigned to
/// the state variables `updates`. The first `invariants` inputs are known to be the same in every run.
pub fn lower(
    graph: &Graph,
    outputs: usize,
    updates: &[usize],
    invariants: usize,
    target: &dyn Target,
    options: &CompileOptions,
) -> Result<Program> {
    let mut l = Lowering {
        graph,
        target,
        options,
        program: Program::default(),
        sources: vec![None; graph.value_count()],
        homes: BTreeMap::new(),
        states: BTreeMap::new(),
        dense: BTreeMap::new(),
        packed: BTreeMap::new(),
        filters: BTreeMap::new(),
        images: HashMap::new(),
        stable: stable_values(graph, updates, invariants),
    };
    for v in graph.inputs() {
        let buffer = l.external(graph.ty(*v), BufferKind::Input(l.program.inputs.len()));
        l.program.inputs.push(buffer);
    }
    for (i, v) in graph.results()[..outputs].iter().enumerate() {
        let buffer = l.external(graph.ty(*v), BufferKind::Output(i));
        l.program.outputs.push(buffer);
        if computes_buffer(&graph.def(*v).op) {
            l.homes.entry(*v).or_insert(i);
        }
    }
    for (id, node) in graph.nodes() {
        l.node(id, node).map_err(|e| e.at(graph.describe(id)))?;
    }
    for (i, v) in graph.results()[..outputs].iter().enumerate() {
        if l.homes.get(v) != Some(&i) {
            let source = l.source(*v).clone();
            let to = l.program.outputs[i];
            l.copy(&source, *v, to);
        }
    }
    l.commit(&graph.results()[outputs..], updates);
    let mut program = l.program;
    program.commit = program.steps.len();
    Ok(program)
}

/// Which values depend on constants, on invariants and on state that is not assigned alone.
fn stable_values(graph: &Graph, updates: &[usize], invariants: usize) -> Vec<bool> {
    let mut stable = vec![false; graph.value_count()];
    let assigned: BTreeSet<usize> = updates.iter().copied().collect();
    for (_, node) in graph.nodes() {
        let is = match &node.op {
            Op::Input(input) => input.index < invariants,
            Op::StateRead(s) => !assigned.contains(&s.index),
            _ => node.ins.iter().all(|v| stable[v.index()]),
        };
        for o in node.outs() {
            stable[o.index()] = is;
        }
    }
    stable
}

fn computes_buffer(op: &Op) -> bool {
    matches!(
        op,
        Op::Fused(_)
            | Op::ArgReduce(_)
            | Op::Gather(_)
            | Op::ScatterAdd(_)
            | Op::Concat(_)
            | Op::Scan(_)
            | Op::While(_)
            | Op::Cond(_)
    )
}

impl Lowering<'_> {
    fn external(&mut self, ty: &TensorType, kind: BufferKind) -> BufferId {
        self.declare(ty.dtype, ty.static_shape(), Form::Dense, kind)
    }

    pub(crate) fn declare(
        &mut self,
        dtype: DType,
        shape: Vec<usize>,
        form: Form,
        kind: BufferKind,
    ) -> BufferId {
        self.program.buffers.push(BufferDecl { dtype, shape, form, kind });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    pub(crate) fn temp(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        self.declare(dtype, shape.to_vec(), Form::Dense, BufferKind::Temp)
    }

    /// Where a value is.
    pub(crate) fn source(&self, v: ValueId) -> &Source {
        self.sources[v.index()].as_ref().expect("operands are lowered first")
    }

    pub(crate) fn shape(&self, v: ValueId) -> Vec<usize> {
        self.graph.ty(v).static_shape()
    }

    /// A fresh dense buffer for a computed value: the output's own where it is one.
    pub(crate) fn result(&mut self, v: ValueId) -> BufferId {
        let shape = self.shape(v);
        let buffer = match self.homes.get(&v) {
            Some(i) => self.program.outputs[*i],
            None => self.temp(self.graph.ty(v).dtype, &shape),
        };
        self.sources[v.index()] = Some(Source { buffer, view: View::dense(&shape) });
        buffer
    }

    pub(crate) fn push(&mut self, kernel: Kernel, reads: Vec<Port>, writes: Vec<Port>, origins: Origins) {
        let mut step = Step { kernel, reads, writes, choice: Choice::default(), origins };
        step.choice = self.target.choose(&self.program, &step);
        step.choice.scratch_bytes = step.choice.scratch_bytes.max(loops::scratch(&step.kernel));
        self.program.steps.push(step);
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let out = node.outs().next();
        let operand = |l: &Self| l.source(node.ins[0]).clone();
        let source = match &node.op {
            Op::Input(op) => {
                let shape = self.shape(node.out(0));
                Source { buffer: self.program.inputs[op.index], view: View::dense(&shape) }
            }
            Op::StateRead(op) => {
                let buffer = self.state(op.index, self.graph.ty(node.out(0)));
                Source { buffer, view: View::dense(&self.shape(node.out(0))) }
            }
            Op::Const(op) => {
                let buffer = self.constant(op.value.clone());
                Source { buffer, view: View::dense(op.value.shape()) }
            }
            Op::StopGradient(_) => operand(self),
            Op::Broadcast(op) => {
                let (s, shape) = (operand(self), self.shape(node.out(0)));
                Source { buffer: s.buffer, view: view::broadcast(&s.view, shape.len(), &op.axes, &shape) }
            }
            Op::Transpose(op) => {
                let s = operand(self);
                Source { buffer: s.buffer, view: view::transpose(&s.view, &op.perm) }
            }
            Op::Slice(op) => {
                let (s, shape) = (operand(self), self.shape(node.out(0)));
                let starts = constants(&op.starts);
                Source { buffer: s.buffer, view: view::slice(&s.view, &starts, &shape) }
            }
            Op::Pad(op) => {
                let inner = self.shape(node.ins[0]);
                let fill = op.value.of(self.graph.ty(node.out(0)).dtype)?;
                let lo = constants(&op.lo);
                if inner.contains(&0) {
                    // Nothing but border.
                    let shape = self.shape(node.out(0));
                    let buffer = self.constant(Tensor::scalar(self.graph.ty(node.out(0)).dtype, fill).into());
                    let view = View { offset: 0, strides: vec![0; shape.len()], guard: None };
                    self.sources[node.out(0).index()] = Some(Source { buffer, view });
                    return Ok(());
                }
                let s = operand(self);
                let view = view::pad(&s.view, &lo, &inner, fill);
                self.or_dense(node.ins[0], s, view, |v| view::pad(v, &lo, &inner, fill))
            }
            Op::Reshape(_) => {
                let (from, to) = (self.shape(node.ins[0]), self.shape(node.out(0)));
                let s = operand(self);
                let view = view::reshape(&s.view, &from, &to);
                self.or_dense(node.ins[0], s, view, |v| view::reshape(v, &from, &to))
            }
            _ => {
                self.compute(id, node)?;
                return Ok(());
            }
        };
        if let Some(out) = out {
            self.sources[out.index()] = Some(source);
        }
        Ok(())
    }

    /// The view, or the same view of a dense copy.
    fn or_dense(
        &mut self,
        v: ValueId,
        s: Source,
        view: Option<View>,
        again: impl Fn(&View) -> Option<View>,
    ) -> Source {
        if let Some(view) = view {
            return Source { buffer: s.buffer, view };
        }
        let dense = self.dense(v);
        let view = again(&dense.view).expect("every movement of a dense buffer is a view");
        Source { buffer: dense.buffer, view }
    }

    fn compute(&mut self, id: NodeId, node: &Node) -> Result<()> {
        let origins = self.graph.origins(id).clone();
        match &node.op {
            Op::Fused(op) if op.kind == FuseKind::Anchored => self.anchored(node, &op.body, origins),
            Op::Fused(op) => self.nest(node, &op.body, origins),
            Op::Concat(op) => {
                let to = self.result(node.out(0));
                let shape = self.shape(node.out(0));
                let mut at = 0;
                for v in &node.ins {
                    let part = self.shape(*v);
                    let mut starts = vec![0; shape.len()];
                    starts[op.axis] = at;
                    at += part[op.axis];
                    let view = view::slice(&View::dense(&shape), &starts, &part);
                    let source = self.source(*v).clone();
                    self.copy_into(&source, &part, Port { buffer: to, view }, origins.clone());
                }
                Ok(())
            }
            Op::ArgReduce(op) => {
                let shape = self.shape(node.ins[0]);
                // The axis goes last; the view makes that free.
                let mut perm: Vec<usize> = (0..shape.len()).filter(|d| *d != op.axis).collect();
                perm.push(op.axis);
                let s = self.unguarded(node.ins[0]);
                let read = Port { buffer: s.buffer, view: view::transpose(&s.view, &perm) };
                let buffer = self.result(node.out(0));
                let rows = self.shape(node.out(0));
                let write = Port { buffer, view: View::dense(&rows) };
                let kernel = Kernel::ArgReduce { max: op.kind == ArgKind::Max, rows, cols: shape[op.axis] };
                self.push(kernel, vec![read], vec![write], origins);
                Ok(())
            }
            Op::Gather(op) => {
                let (outer, axis, inner, count) = self.indexed(node, op.axis);
                self.dense_step(Kernel::Gather { outer, axis, inner, count }, node, origins);
                Ok(())
            }
            Op::ScatterAdd(op) => {
                let (outer, axis, inner, count) = self.indexed(node, op.axis);
                self.dense_step(Kernel::ScatterAdd { outer, axis, inner, count }, node, origins);
                Ok(())
            }
            Op::Scan(op) => self.scan(node, op, origins),
            Op::While(op) => self.while_loop(node, op, origins),
            Op::Cond(op) => self.cond(node, op, origins),
            other => Err(Error::new(format!("`{}` has no lowering outside a cluster", other.name()))),
        }
    }

    fn constant(&mut self, value: Arc<Tensor>) -> BufferId {
        let (dtype, shape) = (value.dtype(), value.shape().to_vec());
        self.program.constants.push(value);
        let kind = BufferKind::Const(self.program.constants.len() - 1);
        self.declare(dtype, shape, Form::Dense, kind)
    }

    /// Elements before, along and after the indexed axis of the first operand, and number of indices.
    fn indexed(&self, node: &Node, axis: usize) -> (usize, usize, usize, usize) {
        let shape = self.shape(node.ins[0]);
        let (before, after) = (&shape[..axis], &shape[axis + 1..]);
        let count = self.shape(node.ins[1]).iter().product();
        (before.iter().product(), shape[axis], after.iter().product(), count)
    }

    /// A step whose operands and results are all dense.
    fn dense_step(&mut self, kernel: Kernel, node: &Node, origins: Origins) {
        let reads = node
            .ins
            .iter()
            .map(|v| {
                let buffer = self.dense(*v).buffer;
                Port { buffer, view: View::dense(&self.program.buffer(buffer).shape) }
            })
            .collect();
        let writes = node
            .outs()
            .map(|o| {
                let buffer = self.result(o);
                Port { buffer, view: View::dense(&self.shape(o)) }
            })
            .collect();
        self.push(kernel, reads, writes, origins);
    }

    fn state(&mut self, index: usize, ty: &TensorType) -> BufferId {
        if let Some(b) = self.states.get(&index) {
            return *b;
        }
        let b = self.external(ty, BufferKind::State(index));
        self.states.insert(index, b);
        b
    }

    /// Assigns the updates at the end, all at once: from temporaries, so that none sees another's.
    fn commit(&mut self, values: &[ValueId], updates: &[usize]) {
        let mut copies = Vec::new();
        for (v, index) in values.iter().zip(updates) {
            let shape = self.shape(*v);
            let source = self.source(*v).clone();
            let to = self.state(*index, self.graph.ty(*v));
            if source.buffer == to && view::is_dense(&source.view, &shape) {
                continue;
            }
            let own = self.program.buffer(source.buffer).kind == BufferKind::Temp;
            let from = if own && view::is_dense(&source.view, &shape) {
                source
            } else {
                let buffer = self.temp(self.graph.ty(*v).dtype, &shape);
                self.copy_into(
                    &source,
                    &shape,
                    Port { buffer, view: View::dense(&shape) },
                    Origins::default(),
                );
                Source { buffer, view: View::dense(&shape) }
            };
            copies.push((from, shape, to));
        }
        for (from, shape, to) in copies {
            let port = Port { buffer: to, view: View::dense(&shape) };
            self.copy_into(&from, &shape, port, Origins::default());
        }
    }
}

/// Bound dims as numbers.
pub(crate) fn constants(dims: &[graphc_ir::Dim]) -> Vec<usize> {
    TensorType::new(DType::I64, dims.to_vec()).static_shape()
}
