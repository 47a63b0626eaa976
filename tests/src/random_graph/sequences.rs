//! Moves that apply what transformers and recurrent networks are made of.

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    Embedding, Gru, LayerNorm, Lstm, RmsNorm, Rnn, RnnActivation, ScaledDotProductAttention,
};
use graphc_ir::{Dim, Op, ScalarFn, TensorType, ValueId};

use super::generator::{Generator, Move, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 5, apply: norm },
    Move { weight: 4, apply: embedding },
    Move { weight: 5, apply: attention },
    Move { weight: 4, apply: recurrent },
];

fn parameter(g: &mut Generator, dims: &[Dim], limit: f64) -> Result<Value> {
    let v = g.fresh(g.float, dims.to_vec())?;
    g.tame(v, limit)
}

fn norm(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.rank() >= 1 && !t.dims.contains(&Dim::ZERO))?;
    let x = g.tame(x, 4.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let axes = 1 + g.prng.below(dims.len().min(2));
    let over = &dims[dims.len() - axes..];
    let eps = Real(g.prng.pick(&[0.0625, 0.5]));
    let (rms, params) = (g.prng.chance(0.3), g.prng.below(3));
    let mut ins = vec![x.id];
    for _ in 0..params.min(if rms { 1 } else { 2 }) {
        ins.push(parameter(g, over, 2.0)?.id);
    }
    let op: Op = if rms { RmsNorm { axes, eps }.into() } else { LayerNorm { axes, eps }.into() };
    let id = g.b.op1(op, &ins)?;
    // x is at most 4, and the root of eps at least 1/4.
    g.push(id, 8.0 * x.bound * 2.0 + 2.0, false);
    Ok(())
}

fn embedding(g: &mut Generator) -> Result<()> {
    let float = g.float;
    let rows = |t: &TensorType| t.dims.first().and_then(Dim::as_const).is_some_and(|n| n > 0);
    let table = match g.any(|t, _| t.dtype == float && t.rank() == 2 && rows(t)) {
        Some(table) => table,
        None => {
            let dims = vec![Dim::from(1 + g.prng.below(5)), g.size()];
            g.fresh(float, dims)?
        }
    };
    let rows = g.least(&g.b.ty(table.id).dims[0].clone());
    let indices = g.indices(rows, None)?;
    let padding = if g.prng.chance(0.3) { vec![g.prng.below(rows)] } else { Vec::new() };
    let id = g.b.op1(Embedding { padding }, &[indices, table.id])?;
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push_like(id, table);
    }
    Ok(())
}

fn attention(g: &mut Generator) -> Result<()> {
    let q = g.float(|t| t.rank() >= 2)?;
    let q = g.tame(q, 2.0)?;
    let dims = g.b.ty(q.id).dims.clone();
    let rank = dims.len();
    let (keys, elements) = (g.size(), g.size());
    let shape = |last: &Dim| [&dims[..rank - 2], &[keys.clone(), last.clone()]].concat();
    let k = g.partner(g.float, &shape(&dims[rank - 1]), false)?;
    let k = g.tame(k, 2.0)?;
    let v = g.partner(g.float, &shape(&elements), false)?;
    let mut ins = vec![q.id, k.id, v.id];
    let pairs = [dims[rank - 2].clone(), keys.clone()];
    match g.prng.below(4) {
        0 => {
            // What is compared has the same bits everywhere, and so has the mask.
            let m = g.partner(g.float, &pairs, true)?;
            let zero = g.b.zeros_like(m.id)?;
            ins.push(g.b.map(ScalarFn::Gt, &[m.id, zero])?);
        }
        1 => {
            let m = g.partner(g.float, &pairs[1..], false)?;
            ins.push(g.tame(m, 4.0)?.id);
        }
        _ => {}
    }
    let scale = Real(if g.prng.chance(0.7) { 0.0 } else { 0.5 });
    let op = ScaledDotProductAttention { causal: g.prng.chance(0.4), scale };
    let id = g.b.op1(op, &ins)?;
    if g.small(&g.b.ty(id).dims.clone()) && g.small(&[&dims[..rank - 1], &pairs[1..]].concat()) {
        g.push(id, v.bound * 1.01, false);
    }
    Ok(())
}

/// One layer of any kind of cell; states stay within 1, but for the cells of an LSTM, which may grow by 1 a step.
fn recurrent(g: &mut Generator) -> Result<()> {
    let float = g.float;
    let x = match g.any(|t, _| t.dtype == float && t.rank() == 3) {
        Some(x) => x,
        None => {
            let dims = g.dims(3, 3);
            g.fresh(float, dims)?
        }
    };
    let x = g.tame(x, 2.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let batch_first = g.prng.chance(0.2);
    let (time, batch) = if batch_first { (&dims[1], &dims[0]) } else { (&dims[0], &dims[1]) };
    let units = Dim::from(1 + g.prng.below(3));
    let (bidirectional, bias) = (g.prng.chance(0.3), g.prng.chance(0.7));
    let (gates, states, op): (usize, usize, Op) = match g.prng.below(3) {
        0 => {
            let activation = RnnActivation::Tanh;
            (1, 1, Rnn { layers: 1, bidirectional, bias, batch_first, activation }.into())
        }
        1 => (4, 2, Lstm { layers: 1, bidirectional, bias, batch_first }.into()),
        _ => (3, 1, Gru { layers: 1, bidirectional, bias, batch_first }.into()),
    };
    let directions = 1 + usize::from(bidirectional);
    let result = [time.clone(), batch.clone(), units.mul(&Dim::from(gates * directions))?];
    if g.least(time) > 8 || !g.small(&result) {
        return Ok(());
    }
    let wide = units.mul(&Dim::from(gates))?;
    let mut ins: Vec<ValueId> = vec![x.id];
    for _ in 0..directions {
        ins.push(parameter(g, &[dims[2].clone(), wide.clone()], 1.0)?.id);
        ins.push(parameter(g, &[units.clone(), wide.clone()], 1.0)?.id);
        for _ in 0..if bias { 2 } else { 0 } {
            ins.push(parameter(g, std::slice::from_ref(&wide), 1.0)?.id);
        }
    }
    if g.prng.chance(0.5) {
        for _ in 0..states {
            ins.push(parameter(g, &[Dim::from(directions), batch.clone(), units.clone()], 1.0)?.id);
        }
    }
    if let Some(steps) = time.as_const().filter(|_| g.prng.chance(0.3)) {
        ins.push(g.indices(steps as usize + 1, Some(std::slice::from_ref(batch)))?);
    }
    let outs = g.b.op(op, &ins)?;
    for (k, out) in outs.into_iter().enumerate() {
        g.push(out, if k == 2 { 16.0 } else { 1.0 }, false);
    }
    Ok(())
}
