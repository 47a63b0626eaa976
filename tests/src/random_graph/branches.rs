//! The moves that make branches, conditional loops and calls, whose bodies are grown like functions, and gradients
//! that are not derivatives.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Call, Cond, CustomGradient, ReverseGradient, StopGradient, StraightThrough, While};
use graphc_ir::{DType, Dim, Graph, ScalarFn, TensorType, ValueId};

use super::generator::{Generator, Move, Place, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 4, apply: cond },
    Move { weight: 2, apply: call },
    Move { weight: 3, apply: while_loop },
    Move { weight: 2, apply: custom_gradient },
    Move { weight: 2, apply: surrogate },
];

/// A few values of the pool.
fn operands(g: &mut Generator) -> Result<Vec<Value>> {
    let mut operands = vec![g.float(|_| true)?];
    for _ in 0..g.prng.below(3) {
        operands.extend(g.any(|t, _| t.rank() <= 3));
    }
    Ok(operands)
}

/// A body of these operands with a result of each of these dims.
fn body(g: &mut Generator, operands: &[Value], results: &[Vec<Dim>]) -> Result<(Graph, Vec<Value>)> {
    let mut body = g.body();
    for v in operands {
        let id = body.b.input(g.b.ty(v.id).clone())?;
        body.push(id, v.bound, v.exact);
    }
    for _ in 0..1 + g.prng.below(4) {
        body.random_move(Place::Body)?;
    }
    let mut found = Vec::new();
    for dims in results {
        let v = body.float(|_| true)?;
        found.push(body.fit(v, dims)?);
    }
    let ids: Vec<ValueId> = found.iter().map(|v| v.id).collect();
    let graph = body.b.finish(&ids)?.pruned()?;
    Ok((graph, found))
}

/// Dims that results have: those of operands, or new ones.
fn results(g: &mut Generator, operands: &[Value]) -> Vec<Vec<Dim>> {
    let mut all = vec![g.b.ty(operands[0].id).dims.clone()];
    if g.prng.chance(0.4) {
        all.push(g.dims(0, 2));
    }
    all
}

/// A bool that every device agrees on: whether the sum of some integers is above a number.
fn condition(g: &mut Generator) -> Result<ValueId> {
    let v = g.exact(DType::I32)?;
    let axes: Vec<usize> = (0..g.b.ty(v.id).rank()).collect();
    let sum = g.b.sum(v.id, &axes)?;
    let limit = g.b.full_like(sum, g.prng.below(5) as f64 - 2.0)?;
    g.b.map(ScalarFn::Gt, &[sum, limit])
}

fn cond(g: &mut Generator) -> Result<()> {
    let (operands, condition) = (operands(g)?, condition(g)?);
    let dims = results(g, &operands);
    let (then, of_then) = body(g, &operands, &dims)?;
    let (otherwise, of_otherwise) = body(g, &operands, &dims)?;
    let ins: Vec<ValueId> = std::iter::once(condition).chain(operands.iter().map(|v| v.id)).collect();
    let outs = g.b.op(Cond { then: Arc::new(then), otherwise: Arc::new(otherwise) }, &ins)?;
    for ((o, a), b) in outs.iter().zip(of_then).zip(of_otherwise) {
        g.push(*o, a.bound.max(b.bound), a.exact && b.exact);
    }
    Ok(())
}

fn call(g: &mut Generator) -> Result<()> {
    let operands = operands(g)?;
    let dims = results(g, &operands);
    let (graph, found) = body(g, &operands, &dims)?;
    let ins: Vec<ValueId> = operands.iter().map(|v| v.id).collect();
    let outs = g.b.op(Call { body: Arc::new(graph) }, &ins)?;
    for (o, v) in outs.iter().zip(found) {
        g.push(*o, v.bound, v.exact);
    }
    Ok(())
}

/// A few iterations by a counter; carries are brought below 1. It has no gradient, so none is asked for.
fn while_loop(g: &mut Generator) -> Result<()> {
    let mut operands = operands(g)?;
    for v in &mut operands {
        if g.b.ty(v.id).dtype.is_float() {
            v.id = g.b.op1(StopGradient {}, &[v.id])?;
        }
    }
    let dims = vec![g.b.ty(operands[0].id).dims.clone()];
    let counter = TensorType::fixed(DType::I32, &[]);
    let inputs = |b: &mut graphc_ir::Builder, outer: &Generator| -> Result<Vec<ValueId>> {
        let types = operands[1..].iter().chain(&operands[..1]).map(|v| outer.b.ty(v.id).clone());
        types.chain([counter.clone()]).map(|t| b.input(t)).collect()
    };
    let mut condition = graphc_ir::Builder::new();
    let x = inputs(&mut condition, g)?;
    let limit = condition.scalar(DType::I32, g.prng.below(4) as f64)?;
    let goes_on = condition.map(ScalarFn::Lt, &[x[operands.len()], limit])?;
    let condition = condition.finish(&[goes_on])?;
    // The carry's magnitude is at most 1 after an iteration.
    let mut given: Vec<Value> = operands[1..].iter().chain(&operands[..1]).copied().collect();
    if let Some(carry) = given.last_mut() {
        (carry.bound, carry.exact) = (carry.bound.max(1.0), false);
    }
    let (step, _) = body(g, &given, &dims)?;
    let mut b = graphc_ir::Builder::with_infer(step.infer().clone());
    let x = inputs(&mut b, g)?;
    let next = b.inline(&step, &x[..operands.len()])?;
    let next = b.map(ScalarFn::Tanh, &[next[0]])?;
    let one = b.scalar(DType::I32, 1.0)?;
    let count = b.map(ScalarFn::Add, &[x[operands.len()], one])?;
    let iteration = b.finish(&[next, count])?;
    let zero = g.b.scalar(DType::I32, 0.0)?;
    let ins: Vec<ValueId> = given.iter().map(|v| v.id).chain([zero]).collect();
    let op = While { condition: Arc::new(condition), body: Arc::new(iteration), carries: 2 };
    let outs = g.b.op(op, &ins)?;
    g.push(outs[0], operands[0].bound.max(1.0), false);
    g.push(outs[1], 4.0, true);
    Ok(())
}

/// Of one value; its gradient is grown as well, from the operand, the result and what comes in, all of one type.
fn custom_gradient(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let dims = [g.b.ty(x.id).dims.clone()];
    let (forward, found) = body(g, &[x], &dims)?;
    let (backward, _) = body(g, &[x, x, x], &dims)?;
    let op = CustomGradient { body: Arc::new(forward), backward: Arc::new(backward) };
    let y = g.b.op1(op, &[x.id])?;
    g.push(y, found[0].bound, found[0].exact);
    Ok(())
}

fn surrogate(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.dtype.is_compute_float())?;
    if g.prng.chance(0.5) {
        let scale = Real(g.prng.pick(&[0.5, 1.0]));
        let y = g.b.op1(ReverseGradient { scale }, &[x.id])?;
        g.push_like(y, x);
    } else {
        let dims = g.b.ty(x.id).dims.clone();
        let hard = g.partner(g.float, &dims, false)?;
        let y = g.b.op1(StraightThrough {}, &[x.id, hard.id])?;
        g.push_like(y, hard);
    }
    Ok(())
}
