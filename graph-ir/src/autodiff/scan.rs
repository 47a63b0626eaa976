//! The gradient of a counted loop: a loop the other way.

use std::sync::Arc;

use super::residuals::Cut;
use super::{add, backward};
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{Op, Scan, VjpCx};

/// One iteration forward and back. Results: the gradients of float carries, then what the iteration adds to
/// the gradients of `invariants`, then the gradients of the slices of `stacks`.
struct Draft {
    graph: Graph,
    /// The body's inputs and results.
    x: Vec<ValueId>,
    y: Vec<ValueId>,
    /// Gradients that come in: of the float carries' next values, and of slices of stacked results.
    g_carries: Vec<ValueId>,
    g_slices: Vec<ValueId>,
    /// Numbers of the carries that are floats, and of the operands that a gradient is found for.
    carries: Vec<usize>,
    invariants: Vec<usize>,
    stacks: Vec<usize>,
}

/// Gradients of a scan's operands.
///
/// The loop back carries the gradients of the carries and the sums for the invariants. It takes the carries as each
/// iteration found them, and what else of the iteration was costly to compute; the loop forward is written again
/// with these among its stacks, and the two become one when the graph is simplified.
pub(crate) fn scan_gradients(op: &Scan, cx: &mut VjpCx<'_>) -> Result<Vec<Option<ValueId>>> {
    let first_carry = cx.ins.len() - op.carries - op.stacks;
    let first_stack = first_carry + op.carries;
    // Gradients of stacked results that do not exist are zero and take no part.
    let live: Vec<usize> = (op.carries..op.body.results().len()).filter(|i| cx.grads[*i].is_some()).collect();
    let draft = Draft::new(op, first_carry, &live)?;
    let cut = Cut::new(
        &draft.graph,
        |v| draft.x[..first_carry].contains(&v),
        |v| draft.g_carries.contains(&v) || draft.g_slices.contains(&v),
        op.recompute,
    );
    let needed = |range: std::ops::Range<usize>| -> Vec<usize> {
        range.filter(|i| cut.needed[draft.x[*i].index()]).collect()
    };
    let (invariants, carries) = (needed(0..first_carry), needed(first_carry..first_stack));
    let stacks = needed(first_stack..draft.x.len());

    // What the way forward stacks: its own results, the carries that are needed, the stored values.
    let own = |v: &ValueId| draft.y[op.carries..].iter().position(|y| y == v).map(|k| op.carries + k);
    let extra: Vec<ValueId> = (carries.iter().map(|i| draft.x[*i]))
        .chain(cut.stored.iter().copied().filter(|v| own(v).is_none()))
        .collect();
    let forward = if extra.is_empty() {
        cx.outs.to_vec()
    } else {
        let body = Arc::new(draft.forward(op, &extra, &cut)?);
        cx.b.op(Scan { body, ..op.clone() }, cx.ins)?
    };
    let stacked = |v: &ValueId| {
        let place = own(v).or_else(|| extra.iter().position(|x| x == v).map(|k| draft.y.len() + k));
        forward[place.expect("it is stacked")]
    };

    let mut operands: Vec<ValueId> = invariants.iter().map(|i| cx.ins[*i]).collect();
    for c in &draft.carries {
        operands.push(cx.grad_or_zero(*c)?);
    }
    for i in &draft.invariants {
        operands.push(cx.b.zeros_like(cx.ins[*i])?);
    }
    operands.extend(carries.iter().map(|i| stacked(&draft.x[*i])));
    operands.extend(stacks.iter().map(|i| cx.ins[*i]));
    operands.extend(cut.stored.iter().map(stacked));
    operands.extend(live.iter().filter_map(|i| cx.grads[*i]));
    let body = Arc::new(draft.reverse(&invariants, &[&carries[..], &stacks].concat(), &cut)?);
    let sums = draft.carries.len() + draft.invariants.len();
    let reverse = Scan {
        carries: sums,
        stacks: carries.len() + stacks.len() + cut.stored.len() + live.len(),
        body,
        reverse: !op.reverse,
        length: op.length.clone(),
        recompute: op.recompute,
    };
    let results = cx.b.op(reverse, &operands)?;
    let mut grads = vec![None; cx.ins.len()];
    let found = draft.carries.iter().map(|c| first_carry + c);
    let found = found.chain(draft.invariants.iter().copied()).chain(draft.stacks.iter().copied());
    for (operand, g) in found.zip(results) {
        grads[operand] = Some(g);
    }
    Ok(grads)
}

impl Draft {
    fn new(op: &Scan, first_carry: usize, live: &[usize]) -> Result<Draft> {
        let body = &*op.body;
        let first_stack = first_carry + op.carries;
        let mut b = Builder::with_infer(body.infer().clone());
        let x = b.inputs_like(body)?;
        let y = b.inline(body, &x)?;
        let is_float = |b: &Builder, v: ValueId| b.ty(v).dtype.is_float();
        let carries: Vec<usize> = (0..op.carries).filter(|c| is_float(&b, y[*c])).collect();
        let mut incoming = |places: &[usize]| -> Result<Vec<ValueId>> {
            places.iter().map(|i| b.input(body.ty(body.results()[*i]).clone())).collect()
        };
        let (g_carries, g_slices) = (incoming(&carries)?, incoming(live)?);
        let seeds: Vec<(ValueId, ValueId)> = (carries.iter().chain(live).map(|i| y[*i]))
            .zip(g_carries.iter().chain(&g_slices).copied())
            .collect();
        let found = backward(&mut b, &seeds, &x)?;
        let mut results = Vec::new();
        for c in &carries {
            let (v, g) = (x[first_carry + c], found[first_carry + c]);
            results.push(g.map_or_else(|| b.zeros_like(v), Ok)?);
        }
        let reached =
            |range: std::ops::Range<usize>| -> Vec<usize> { range.filter(|i| found[*i].is_some()).collect() };
        let (invariants, stacks) = (reached(0..first_carry), reached(first_stack..x.len()));
        results.extend(invariants.iter().chain(&stacks).filter_map(|i| found[*i]));
        let graph = b.finish(&results)?;
        Ok(Draft { graph, x, y, g_carries, g_slices, carries, invariants, stacks })
    }

    /// The body that also gives `extra`.
    fn forward(&self, op: &Scan, extra: &[ValueId], cut: &Cut) -> Result<Graph> {
        let mut b = Builder::with_infer(self.graph.infer().clone());
        let inputs = b.inputs_like(&op.body)?;
        let mut map: Vec<Option<ValueId>> = vec![None; self.graph.value_count()];
        self.x.iter().zip(&inputs).for_each(|(v, i)| map[v.index()] = Some(*i));
        self.emit(&mut b, &mut map, |v| !cut.backward[v.index()])?;
        let results = self.y.iter().chain(extra).map(|v| map[v.index()].expect("it is on the way forward"));
        let results: Vec<ValueId> = results.collect();
        b.finish(&results)?.pruned()
    }

    /// The body of the loop back. `slices` are the operands that are taken slice by slice, which go before the
    /// stored values.
    fn reverse(&self, invariants: &[usize], slices: &[usize], cut: &Cut) -> Result<Graph> {
        let mut b = Builder::with_infer(self.graph.infer().clone());
        let mut map: Vec<Option<ValueId>> = vec![None; self.graph.value_count()];
        let mut declare = |b: &mut Builder, v: ValueId| -> Result<()> {
            map[v.index()] = Some(b.input_like(&self.graph, v)?);
            Ok(())
        };
        invariants.iter().try_for_each(|i| declare(&mut b, self.x[*i]))?;
        self.g_carries.iter().try_for_each(|v| declare(&mut b, *v))?;
        let sums: Vec<ValueId> =
            self.invariants.iter().map(|i| b.input_like(&self.graph, self.x[*i])).collect::<Result<_>>()?;
        slices.iter().try_for_each(|i| declare(&mut b, self.x[*i]))?;
        cut.stored.iter().try_for_each(|v| declare(&mut b, *v))?;
        self.g_slices.iter().try_for_each(|v| declare(&mut b, *v))?;
        self.emit(&mut b, &mut map, |v| cut.needed[v.index()])?;
        let mut results: Vec<ValueId> =
            self.graph.results().iter().map(|r| map[r.index()].expect("results are needed")).collect();
        for (sum, g) in sums.iter().zip(&mut results[self.carries.len()..]) {
            *g = add(&mut b, *sum, *g)?;
        }
        b.finish(&results)?.pruned()
    }

    /// Emits the nodes some of whose results are wanted and have no counterpart yet.
    fn emit(
        &self,
        b: &mut Builder,
        map: &mut [Option<ValueId>],
        wanted: impl Fn(ValueId) -> bool,
    ) -> Result<()> {
        for (id, node) in self.graph.nodes() {
            let has_work = node.outs().any(|o| wanted(o) && map[o.index()].is_none());
            if matches!(node.op, Op::Input(_)) || !has_work {
                continue;
            }
            let ins: Vec<ValueId> =
                node.ins.iter().map(|v| map[v.index()].expect("what is wanted has its operands")).collect();
            b.set_origins(self.graph.origins(id).clone());
            for (o, new) in node.outs().zip(b.op(node.op.clone(), &ins)?) {
                map[o.index()].get_or_insert(new);
            }
        }
        Ok(())
    }
}
