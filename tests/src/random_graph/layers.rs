//! Moves that apply products, losses, normalizations and draws.

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    BatchNorm, BatchNormInference, CrossEntropy, Dot, Dropout, Linear, LogSoftmax, Mse, Normal, RandomBits,
    Reduction, Softmax, Uniform,
};
use graphc_ir::{DType, Dim, ScalarFn, TensorType};

use super::generator::{Generator, Move, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 8, apply: dot },
    Move { weight: 8, apply: linear },
    Move { weight: 7, apply: softmax },
    Move { weight: 4, apply: batch_norm },
    Move { weight: 4, apply: batch_norm_inference },
    Move { weight: 4, apply: mse },
    Move { weight: 4, apply: cross_entropy },
    Move { weight: 4, apply: dropout },
    Move { weight: 4, apply: draw },
    Move { weight: 2, apply: iota },
];

fn dot(g: &mut Generator) -> Result<()> {
    let a = g.float(|t| t.rank() >= 2)?;
    let a = g.tame(a, 2.0)?;
    let dims = g.b.ty(a.id).dims.clone();
    let r = dims.len();
    let (left, right, k): (Value, Value, &Dim) = match g.prng.below(3) {
        0 => {
            let mut other = dims.clone();
            (other[r - 2], other[r - 1]) = (dims[r - 1].clone(), g.size());
            let c = g.partner(g.float, &other, false)?;
            (a, g.tame(c, 2.0)?, &dims[r - 1])
        }
        which => {
            let c = g.partner(g.float, &dims, false)?;
            let c = g.tame(c, 2.0)?;
            if which == 1 {
                let t = g.b.swap_last(c.id)?;
                (a, Value { id: t, ..c }, &dims[r - 1])
            } else {
                let t = g.b.swap_last(a.id)?;
                (Value { id: t, ..a }, c, &dims[r - 2])
            }
        }
    };
    let count = g.elements(&TensorType::new(DType::Bool, vec![k.clone()])) as f64;
    let id = g.b.op1(Dot {}, &[left.id, right.id])?;
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push(id, 2.0 * count * left.bound * right.bound, false);
    }
    Ok(())
}

fn linear(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.dims.last().is_some_and(|d| d.as_const().is_some()))?;
    let x = g.tame(x, 2.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let k = dims[dims.len() - 1].clone();
    let n = g.size();
    let w = g.fresh(g.float, vec![k.clone(), n.clone()])?;
    let w = g.tame(w, 2.0)?;
    let mut ins = vec![x.id, w.id];
    if g.prng.chance(0.7) {
        let bias = g.fresh(g.float, vec![n])?;
        ins.push(g.tame(bias, 2.0)?.id);
    }
    let id = g.b.op1(Linear {}, &ins)?;
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push(id, k.as_const().unwrap_or(1) as f64 * 4.0 + 2.0, false);
    }
    Ok(())
}

fn softmax(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.rank() > 0)?;
    let x = g.tame(x, 4.0)?;
    let axis = g.prng.below(g.b.ty(x.id).rank());
    if g.prng.chance(0.5) {
        let id = g.b.op1(Softmax { axis }, &[x.id])?;
        g.push(id, 1.0, false);
    } else {
        let id = g.b.op1(LogSoftmax { axis }, &[x.id])?;
        g.push(id, 16.0, false);
    }
    Ok(())
}

/// One value a channel, in -2..2.
fn per_channel(g: &mut Generator, c: &Dim) -> Result<Value> {
    let v = g.fresh(g.float, vec![c.clone()])?;
    g.tame(v, 2.0)
}

fn batch_norm(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.rank() >= 2 && !t.dims.contains(&Dim::ZERO))?;
    let x = g.tame(x, 4.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let axis = g.prng.below(dims.len());
    let (gamma, beta) = (per_channel(g, &dims[axis])?, per_channel(g, &dims[axis])?);
    let op = BatchNorm { axis, eps: Real(g.prng.pick(&[0.0625, 0.5])) };
    let outs = g.b.op(op, &[x.id, gamma.id, beta.id])?;
    g.push(outs[0], 4.0 * x.bound * gamma.bound + beta.bound, false);
    g.push(outs[1], x.bound, false);
    g.push(outs[2], x.bound * x.bound, false);
    Ok(())
}

fn batch_norm_inference(g: &mut Generator) -> Result<()> {
    let x = g.float(|t| t.rank() >= 1)?;
    let x = g.tame(x, 4.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let axis = g.prng.below(dims.len());
    let c = &dims[axis];
    let (gamma, beta, mean) = (per_channel(g, c)?, per_channel(g, c)?, per_channel(g, c)?);
    let var = per_channel(g, c)?;
    let var = g.b.map(ScalarFn::Softplus, &[var.id])?;
    let op = BatchNormInference { axis, eps: Real(g.prng.pick(&[0.0625, 0.5])) };
    let id = g.b.op1(op, &[x.id, gamma.id, beta.id, mean.id, var])?;
    g.push(id, 24.0, false);
    Ok(())
}

/// A reduction of losses; no mean of what may be empty.
fn reduction(g: &mut Generator, dims: &[Dim]) -> Reduction {
    let all = [Reduction::Sum, Reduction::None, Reduction::Mean];
    let choices = if dims.contains(&Dim::ZERO) { &all[..2] } else { &all };
    g.prng.pick(choices)
}

fn mse(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let x = g.tame(x, 2.0)?;
    let ty = g.b.ty(x.id).clone();
    let y = g.partner(g.float, &ty.dims, false)?;
    let y = g.tame(y, 2.0)?;
    let op = Mse { reduction: reduction(g, &ty.dims) };
    let id = g.b.op1(op, &[x.id, y.id])?;
    g.push(id, 16.0 * 2.0 * g.elements(&ty).max(1) as f64, false);
    Ok(())
}

fn cross_entropy(g: &mut Generator) -> Result<()> {
    let positive = |d: &Dim| d.as_const().is_some_and(|n| n > 0);
    let x = g.float(|t| t.dims.last().is_some_and(positive))?;
    let x = g.tame(x, 4.0)?;
    let ty = g.b.ty(x.id).clone();
    let (lead, last) = ty.dims.split_at(ty.rank() - 1);
    let classes = g.least(&last[0]);
    let labels = g.indices(classes, Some(lead))?;
    let op = CrossEntropy { reduction: reduction(g, lead) };
    let id = g.b.op1(op, &[x.id, labels])?;
    g.push(id, 16.0 * 2.0 * g.elements(&ty).max(1) as f64, false);
    Ok(())
}

fn dropout(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let key = g.key()?;
    let p = g.prng.pick(&[0.0, 0.25, 0.5]);
    let id = g.b.op1(Dropout { p: Real(p) }, &[x.id, key])?;
    g.push(id, x.bound * 2.0, false);
    Ok(())
}

fn draw(g: &mut Generator) -> Result<()> {
    let (key, dims) = (g.key()?, g.dims(0, 3));
    match g.prng.below(3) {
        0 => {
            let id = g.b.op1(RandomBits { dims }, &[key])?;
            g.push(id, f64::from(u32::MAX), true);
        }
        1 => {
            let op = Uniform { dtype: g.float, dims, lo: Real(-1.0), hi: Real(2.0) };
            let id = g.b.op1(op, &[key])?;
            g.push(id, 2.0, false);
        }
        _ => {
            let op = Normal { dtype: g.float, dims, mean: Real(0.0), std: Real(1.0) };
            let id = g.b.op1(op, &[key])?;
            g.push(id, 6.0, false);
        }
    }
    Ok(())
}

fn iota(g: &mut Generator) -> Result<()> {
    let dims = g.dims(1, 3);
    let dtype = g.prng.pick(&[g.float, DType::I32, DType::I64, DType::U8]);
    let axis = g.prng.below(dims.len());
    g.iota(dtype, dims, axis)?;
    Ok(())
}
