//! Which operations may stand in a graph at which stage of compilation.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Map, Op};
use crate::scalar::ScalarFn;

/// A stage of compilation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// As built or decoded: composites, symbolic dims.
    Built,
    /// Canonical forms, differentiated.
    Canonical,
    /// Primitives, simplified; dims still symbolic.
    Simplified,
    /// Every dim is a number.
    Bound,
    /// Images with their channels last.
    Layout,
    /// Grouped into clusters.
    Fused,
}

impl Stage {
    /// Every stage in order.
    pub const ALL: [Stage; 6] =
        [Stage::Built, Stage::Canonical, Stage::Simplified, Stage::Bound, Stage::Layout, Stage::Fused];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Built => "built",
            Stage::Canonical => "grad",
            Stage::Simplified => "simplified",
            Stage::Bound => "bound",
            Stage::Layout => "layout",
            Stage::Fused => "fused",
        }
    }

    /// Whether an operation may stand at this stage.
    pub fn allows(self, op: &Op) -> bool {
        match op {
            Op::Fused(_) => self == Stage::Fused,
            Op::StopGradient(_) => self <= Stage::Canonical,
            op if op.is_composite() => self <= Stage::Canonical,
            _ => true,
        }
    }

    /// Checks a graph against the table.
    pub fn check(self, graph: &Graph) -> Result<()> {
        for (id, node) in graph.nodes() {
            // As a composite: what it computes in f32 is written out when composites are.
            let dtypes = node.ins.iter().map(|v| graph.ty(*v).dtype);
            let whole = self > Stage::Canonical && node.op.widens(dtypes);
            if !self.allows(&node.op) || whole {
                fail!("{} may not stand at stage `{}`", graph.describe(id), self.name());
            }
            let symbolic = self >= Stage::Bound && node.outs().any(|o| graph.ty(o).shape().is_none());
            if symbolic {
                fail!("{} has symbolic dims at stage `{}`", graph.describe(id), self.name());
            }
        }
        Ok(())
    }
}

/// Whether some element of a value is known to be the integer 0.
pub fn has_constant_zero(graph: &Graph, v: ValueId) -> bool {
    let mut node = graph.def(v);
    loop {
        match &node.op {
            Op::Const(c) => {
                let zero = |i: usize| c.value.get(i).as_f64() == 0.0;
                return c.value.dtype().is_int() && (0..c.value.len()).any(zero);
            }
            Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) => node = graph.def(node.ins[0]),
            _ => return false,
        }
    }
}

/// Checks that a node does not divide integers by a constant that is 0 or has a 0. Divided by a 0 that is
/// computed, an integer gives 0.
pub fn check_divisor(graph: &Graph, node: &Node) -> Result<()> {
    let Op::Map(Map { f: f @ (ScalarFn::Div | ScalarFn::Rem) }) = &node.op else { return Ok(()) };
    if has_constant_zero(graph, node.ins[1]) {
        return Err(Error::new(format!("`{}` divides integers by a constant 0", f.name()))
            .help("divide by another number, or by an input: x / 0 is 0 there"));
    }
    Ok(())
}

/// [`check_divisor`] for all nodes of a graph and of the loops in it.
pub fn check_divisors(graph: &Graph) -> Result<()> {
    for (id, node) in graph.nodes() {
        check_divisor(graph, node).map_err(|e| e.at(graph.describe(id)))?;
        node.op.bodies().iter().try_for_each(|(_, body)| check_divisors(body))?;
    }
    Ok(())
}

/// Checks a graph: operands before users, types as inferred again from nothing.
pub fn verify(graph: &Graph) -> Result<()> {
    let mut infer = graph.infer().clone();
    for (id, node) in graph.nodes() {
        let describe = || graph.describe(id);
        if node.ins.iter().any(|v| graph.value(*v).node >= id) {
            fail!("{} uses a value that is made later", describe());
        }
        let ins: Vec<_> = node.ins.iter().map(|v| graph.ty(*v).clone()).collect();
        if !node.op.arity().contains(&ins.len()) {
            fail!("{} has {} operands", describe(), ins.len());
        }
        let outs = node.op.infer(&ins, &mut infer).map_err(|e| e.at(describe()))?;
        if !outs.iter().eq(node.outs().map(|o| graph.ty(o))) {
            fail!("{} does not have the types that are inferred for it", describe());
        }
    }
    if graph.results().iter().any(|r| r.index() >= graph.value_count()) {
        fail!("a result is not a value of the graph");
    }
    Ok(())
}
