//! Where a check of the model does not hold. Kernels tell only that it does not: the first element is looked for afterwards.

use graphc_ir::builder::Builder;
use graphc_ir::ops::Op;
use graphc_ir::text::visible;
use graphc_ir::{Graph, Scalar, Tensor, ValueId, interp};

use super::cache::Specialization;
use super::{Session, feeds};
use crate::error::Error;
use crate::memory;

/// Operations and elements up to which looking takes no time that anybody notices.
const WORK: f64 = 1e8;

impl Session {
    /// The error of a run, with the first element for which its check does not hold, if that follows from the feeds alone.
    pub(super) fn located(
        &self,
        specialization: &Specialization,
        feeds: &[(&str, &Tensor)],
        e: Error,
    ) -> Error {
        let Error::Data(message) = &e else { return e };
        match self.first_wrong(specialization, feeds, message) {
            Some(found) => Error::Data(format!("{message}: {found}")),
            None => e,
        }
    }

    fn first_wrong(&self, s: &Specialization, feeds: &[(&str, &Tensor)], message: &str) -> Option<String> {
        let (_, function) = self.entry(s);
        let graph = self.optimized[s.function].get()?.bind(&s.binding).ok()?;
        let live = graph.live_nodes();
        let inputs: Vec<&Tensor> = function
            .inputs
            .iter()
            .enumerate()
            .map(|(i, name)| feeds::find(feeds, i, name))
            .collect::<Option<_>>()?;
        graph.nodes().filter(|(id, _)| live[id.index()]).find_map(|(_, node)| {
            let Op::Check(check) = &node.op else { return None };
            if !message.ends_with(&*visible(&check.message)) {
                return None;
            }
            let alone = computing(&graph, &node.ins)?;
            let results = interp::eval(&alone, &inputs, &[]).ok()?;
            let (x, holds) = (&results[0], &results[1]);
            let at = (0..holds.len()).find(|i| !holds.get(*i).as_bool())?;
            (x.shape() == holds.shape()).then(|| described(x, at))
        })
    }
}

/// The part of a graph that computes some of its values, if inputs are all that it needs, and it is little work.
fn computing(graph: &Graph, values: &[ValueId]) -> Option<Graph> {
    let mut b = Builder::with_infer(graph.infer().clone());
    let inputs: Vec<ValueId> =
        graph.inputs().iter().map(|v| b.input(graph.ty(*v).clone()).ok()).collect::<Option<_>>()?;
    let all = b.inline_all(graph, &inputs).ok()?;
    let wanted: Vec<ValueId> = values.iter().map(|v| all[v.index()]).collect();
    // Without the checks of the rest, one of which fails.
    let alone = b.finish(&wanted).ok()?.of_results().ok()?;
    let live = alone.live_nodes();
    let mut work = 0.0;
    for (id, node) in alone.nodes().filter(|(id, _)| live[id.index()]) {
        if matches!(node.op, Op::StateRead(_)) || node.op.has_bodies() {
            return None;
        }
        let types = |v: ValueId| alone.ty(v).clone();
        let ins: Vec<_> = node.ins.iter().map(|v| types(*v)).collect();
        let outs: Vec<_> = alone.node(id).outs().map(types).collect();
        work += node.op.flops(&ins, &outs).unwrap_or(WORK);
        work += outs.iter().filter_map(memory::tensor_bytes).sum::<usize>() as f64;
    }
    (work <= WORK).then_some(alone)
}

/// "element [3, 0] is 12".
fn described(t: &Tensor, at: usize) -> String {
    let mut index = vec![0; t.shape().len()];
    let mut rest = at;
    for (i, size) in index.iter_mut().zip(t.shape()).rev() {
        (*i, rest) = (rest % size, rest / size);
    }
    let value = match t.get(at) {
        Scalar::F(v) => v.to_string(),
        Scalar::I(v) => v.to_string(),
        Scalar::B(v) => v.to_string(),
    };
    if index.is_empty() { format!("it is {value}") } else { format!("element {index:?} is {value}") }
}
