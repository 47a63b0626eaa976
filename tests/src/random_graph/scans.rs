//! The move that makes a loop, whose body is grown like a function.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::ops::Scan;
use graphc_ir::{Dim, ScalarFn, TensorType};

use super::generator::{Generator, Move, Place, Value};

pub(super) const MOVES: &[Move] = &[Move { weight: 9, apply: scan }];

/// Carries are bounded by 1 or by their start; stacked operands and invariants are taken as they are.
fn scan(g: &mut Generator) -> Result<()> {
    let stack = g.float(|t| t.rank() > 0)?;
    let length = g.b.ty(stack.id).dims[0].clone();
    if g.least(&length) > 8 {
        return Ok(());
    }
    let (invariants, carries, stacks) = operands(g, stack, &length)?;
    let mut body = g.body();
    let mut declare = |g: &Generator, v: &Value, sliced: bool| -> Result<Value> {
        let ty = g.b.ty(v.id);
        let dims = ty.dims[usize::from(sliced)..].to_vec();
        let id = body.b.input(TensorType::new(ty.dtype, dims))?;
        // A carry that went through an iteration is a rounded one.
        Ok(body.push(id, v.bound.max(1.0), v.exact && !carries.iter().any(|c| c.id == v.id)))
    };
    for v in &invariants {
        declare(g, v, false)?;
    }
    let inner = carries.iter().map(|v| declare(g, v, false)).collect::<Result<Vec<_>>>()?;
    for v in &stacks {
        declare(g, v, true)?;
    }
    for _ in 0..2 + g.prng.below(5) {
        body.random_move(Place::Body)?;
    }
    let mut results = Vec::new();
    for v in &inner {
        let dims = body.b.ty(v.id).dims.clone();
        let next = body.float(|_| true)?;
        let next = body.fit(next, &dims)?;
        results.push(body.b.map(ScalarFn::Tanh, &[next.id])?);
    }
    let mut stacked = Vec::new();
    for _ in 0..1 + g.prng.below(2) {
        if let Some(v) = body.any(|t, _| t.rank() <= 3) {
            results.push(v.id);
            stacked.push(v);
        }
    }
    let graph = body.b.finish(&results)?.pruned()?;
    let op = Scan {
        body: Arc::new(graph),
        carries: carries.len(),
        stacks: stacks.len(),
        reverse: g.prng.chance(0.3),
        recompute: g.prng.chance(0.3),
        length,
    };
    let ins: Vec<_> = invariants.iter().chain(&carries).chain(&stacks).map(|v| v.id).collect();
    let outs = g.b.op(op, &ins)?;
    for (o, c) in outs.iter().zip(&carries) {
        g.push(*o, c.bound.max(1.0), false);
    }
    for (o, v) in outs[carries.len()..].iter().zip(stacked) {
        if g.small(&g.b.ty(*o).dims.clone()) {
            g.push(*o, v.bound, v.exact);
        }
    }
    Ok(())
}

/// Invariants, carries and stacks: some of each, carries at least one.
fn operands(g: &mut Generator, stack: Value, length: &Dim) -> Result<(Vec<Value>, Vec<Value>, Vec<Value>)> {
    let slice = g.b.ty(stack.id).dims[1..].to_vec();
    let mut invariants = Vec::new();
    for _ in 0..g.prng.below(3) {
        let dims = if g.prng.chance(0.5) { slice.clone() } else { g.dims(0, 2) };
        invariants.push(g.partner(g.float, &dims, false)?);
    }
    let mut carries = Vec::new();
    for _ in 0..1 + g.prng.below(2) {
        let dims = if g.prng.chance(0.7) { slice.clone() } else { g.dims(0, 2) };
        let start = g.partner(g.float, &dims, false)?;
        carries.push(g.tame(start, 1.0)?);
    }
    let mut stacks = vec![stack];
    if g.prng.chance(0.4) {
        let mut dims = vec![length.clone()];
        dims.extend(g.dims(0, 1));
        stacks.push(g.partner(g.float, &dims, false)?);
    }
    Ok((invariants, carries, stacks))
}
