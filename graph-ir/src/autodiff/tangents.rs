//! Forward mode through loops and branches: their bodies compute values and tangents together.

use std::sync::Arc;

use super::{Dual, forward};
use crate::builder::Builder;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::ops::{Cond, JvpCx, Scan, While};

/// Which inputs and results of a body have tangents.
struct Active {
    inputs: Vec<bool>,
    results: Vec<bool>,
}

/// A body that takes each input with its tangent after it, if it has one, and gives each result so.
struct Pushed {
    b: Builder,
    results: Vec<Dual>,
}

impl Pushed {
    fn new(body: &Graph, inputs: &[bool]) -> Result<Pushed> {
        let mut b = Builder::with_infer(body.infer().clone());
        let (mut x, mut wrt, mut tangents) = (Vec::new(), Vec::new(), Vec::new());
        for (v, active) in body.inputs().iter().zip(inputs) {
            x.push(b.input_like(body, *v)?);
            if *active {
                wrt.push(x[x.len() - 1]);
                tangents.push(b.input(body.ty(*v).clone())?);
            }
        }
        let y = b.inline(body, &x)?;
        let results = forward(&mut b, &y, &wrt, &tangents)?;
        Ok(Pushed { b, results })
    }

    /// Which results have tangents of their own.
    fn active(&self) -> Vec<bool> {
        self.results.iter().map(|dual| dual.tangent.is_some()).collect()
    }

    /// The body; a result without a tangent of its own gets zeros if it is `active`.
    fn finish(self, active: &[bool]) -> Result<Graph> {
        let Pushed { mut b, results: duals } = self;
        let mut results = Vec::new();
        for (dual, active) in duals.into_iter().zip(active) {
            results.push(dual.value);
            if *active {
                results.push(dual.tangent.map_or_else(|| b.zeros_like(dual.value), Ok)?);
            }
        }
        b.finish(&results)?.pruned()
    }
}

/// A loop's body with tangents. A carry has one if it starts with one or gets one from an iteration.
fn loop_body(body: &Graph, first_carry: usize, carries: usize, given: Vec<bool>) -> Result<(Graph, Active)> {
    let mut inputs = given;
    loop {
        let pushed = Pushed::new(body, &inputs)?;
        let mut results = pushed.active();
        let mut grown = false;
        for (starts, gets) in inputs[first_carry..].iter_mut().zip(&mut results[..carries]) {
            grown |= *gets && !*starts;
            *starts |= *gets;
            *gets = *starts;
        }
        if !grown {
            return Ok((pushed.finish(&results)?, Active { inputs, results }));
        }
    }
}

/// Operands with their tangents; zeros where one must be and is not.
fn operands(cx: &mut JvpCx<'_>, ins: std::ops::Range<usize>, active: &[bool]) -> Result<Vec<ValueId>> {
    let mut all = Vec::new();
    for (i, active) in ins.zip(active) {
        all.push(cx.ins[i]);
        if *active {
            all.push(match cx.tangents[i] {
                Some(t) => t,
                None => cx.b.zeros_like(cx.ins[i])?,
            });
        }
    }
    Ok(all)
}

fn duals(results: Vec<ValueId>, active: &[bool]) -> Vec<Dual> {
    let mut results = results.into_iter();
    let pair = |active: &bool| {
        let value = results.next()?;
        Some(Dual { value, tangent: if *active { results.next() } else { None } })
    };
    active.iter().map_while(pair).collect()
}

fn count(active: &[bool]) -> usize {
    active.len() + active.iter().filter(|a| **a).count()
}

/// Forward mode through a scan.
pub(crate) fn scan_tangents(op: &Scan, cx: &mut JvpCx<'_>) -> Result<Vec<Dual>> {
    let first_carry = cx.ins.len() - op.carries - op.stacks;
    let given = cx.tangents.iter().map(Option::is_some).collect();
    let (body, active) = loop_body(&op.body, first_carry, op.carries, given)?;
    let ins = operands(cx, 0..cx.ins.len(), &active.inputs)?;
    let dual = Scan {
        body: Arc::new(body),
        carries: count(&active.results[..op.carries]),
        stacks: count(&active.inputs[first_carry + op.carries..]),
        ..op.clone()
    };
    Ok(duals(cx.b.op(dual, &ins)?, &active.results))
}

/// Forward mode through a while loop.
pub(crate) fn while_tangents(op: &While, cx: &mut JvpCx<'_>) -> Result<Vec<Dual>> {
    let first_carry = cx.ins.len() - op.carries;
    let given = cx.tangents.iter().map(Option::is_some).collect();
    let (body, active) = loop_body(&op.body, first_carry, op.carries, given)?;
    let ins = operands(cx, 0..cx.ins.len(), &active.inputs)?;
    // The condition sees the tangents and does not look at them.
    let mut b = Builder::with_infer(op.condition.infer().clone());
    let mut x = Vec::new();
    for (v, active) in op.condition.inputs().iter().zip(&active.inputs) {
        x.push(b.input_like(&op.condition, *v)?);
        if *active {
            b.input(op.condition.ty(*v).clone())?;
        }
    }
    let goes_on = b.inline(&op.condition, &x)?;
    let dual = While {
        condition: Arc::new(b.finish(&goes_on)?),
        body: Arc::new(body),
        carries: count(&active.results),
    };
    Ok(duals(cx.b.op(dual, &ins)?, &active.results))
}

/// Forward mode through a branch.
pub(crate) fn branch_tangents(op: &Cond, cx: &mut JvpCx<'_>) -> Result<Vec<Dual>> {
    let inputs: Vec<bool> = cx.tangents[1..].iter().map(Option::is_some).collect();
    let (then, otherwise) = (Pushed::new(&op.then, &inputs)?, Pushed::new(&op.otherwise, &inputs)?);
    let results: Vec<bool> = then.active().iter().zip(otherwise.active()).map(|(a, b)| *a || b).collect();
    let mut ins = vec![cx.ins[0]];
    ins.extend(operands(cx, 1..cx.ins.len(), &inputs)?);
    let dual =
        Cond { then: Arc::new(then.finish(&results)?), otherwise: Arc::new(otherwise.finish(&results)?) };
    Ok(duals(cx.b.op(dual, &ins)?, &results))
}
