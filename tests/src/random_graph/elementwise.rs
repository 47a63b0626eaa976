//! Moves that apply scalar functions.

use graphc_ir::ScalarFn as F;
use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Cast, Check, Elu, Gelu, HardTanh, LeakyRelu, Silu, StopGradient};
use graphc_ir::{DType, Op, ValueId};

use super::generator::{Generator, Move, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 10, apply: smooth },
    Move { weight: 8, apply: of_positive },
    Move { weight: 5, apply: stepwise },
    Move { weight: 10, apply: binary },
    Move { weight: 6, apply: quotient },
    Move { weight: 6, apply: compare_and_select },
    Move { weight: 5, apply: integers },
    Move { weight: 5, apply: bits },
    Move { weight: 4, apply: logic },
    Move { weight: 6, apply: cast },
    Move { weight: 3, apply: check },
    Move { weight: 2, apply: stop_gradient },
    Move { weight: 8, apply: activation },
];

/// Functions of all reals, with the operand kept where they are tame.
fn smooth(g: &mut Generator) -> Result<()> {
    let fs =
        [F::Neg, F::Abs, F::Exp, F::Expm1, F::Tanh, F::Sigmoid, F::Relu, F::Softplus, F::Sin, F::Cos, F::Erf];
    let f = g.prng.pick(&fs);
    let v = g.float(|_| true)?;
    let v = if matches!(f, F::Neg | F::Abs | F::Relu) { v } else { g.tame(v, 2.0)? };
    let id = g.b.map(f, &[v.id])?;
    match f {
        F::Neg | F::Abs | F::Relu => g.push_like(id, v),
        F::Exp | F::Expm1 => g.push(id, 7.4, false),
        F::Softplus => g.push(id, 2.2, false),
        _ => g.push(id, 1.0, false),
    };
    Ok(())
}

/// Something in 0.25..5.
fn positive(g: &mut Generator, v: Value) -> Result<ValueId> {
    let v = g.tame(v, 2.0)?;
    let base = match g.prng.below(3) {
        0 => g.b.map(F::Softplus, &[v.id])?,
        1 => g.b.map(F::Mul, &[v.id, v.id])?,
        _ => g.b.map(F::Sigmoid, &[v.id])?,
    };
    let offset = g.b.full_like(base, 0.25)?;
    g.b.map(F::Add, &[base, offset])
}

fn of_positive(g: &mut Generator) -> Result<()> {
    let f = g.prng.pick(&[F::Log, F::Log1p, F::Sqrt, F::Rsqrt, F::Recip]);
    let v = g.float(|_| true)?;
    let p = positive(g, v)?;
    let id = g.b.map(f, &[p])?;
    g.push(id, 4.0, false);
    Ok(())
}

/// Functions with jumps, of what is exact.
fn stepwise(g: &mut Generator) -> Result<()> {
    let v = g.exact(g.float)?;
    let f = g.prng.pick(&[F::Sign, F::Floor, F::Ceil, F::Round, F::Rem]);
    if f == F::Rem {
        // No multiple of it is a multiple of 1/8, so that the quotient is no integer where it jumps.
        let divisor = g.b.full_like(v.id, 0.737)?;
        let id = g.b.map(f, &[v.id, divisor])?;
        g.push(id, 0.737, false);
        return Ok(());
    }
    let id = g.b.map(f, &[v.id])?;
    g.push(id, v.bound + 1.0, true);
    Ok(())
}

fn binary(g: &mut Generator) -> Result<()> {
    let f = g.prng.pick(&[F::Add, F::Sub, F::Mul, F::Max, F::Min]);
    let x = g.float(|_| true)?;
    let x = g.tame(x, 8.0)?;
    let dims = g.b.ty(x.id).dims.clone();
    let y = g.partner(g.float, &dims, false)?;
    let y = g.tame(y, 8.0)?;
    let id = g.b.map(f, &[x.id, y.id])?;
    match f {
        F::Mul => g.push(id, x.bound * y.bound, false),
        F::Max | F::Min => g.push(id, x.bound.max(y.bound), x.exact && y.exact),
        _ => g.push(id, x.bound + y.bound, false),
    };
    Ok(())
}

/// Quotients and powers, with a positive second or first operand.
fn quotient(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let dims = g.b.ty(x.id).dims.clone();
    let y = g.partner(g.float, &dims, false)?;
    if g.prng.chance(0.6) {
        let x = g.tame(x, 4.0)?;
        let p = positive(g, y)?;
        let id = g.b.map(F::Div, &[x.id, p])?;
        g.push(id, 16.0, false);
        return Ok(());
    }
    let p = positive(g, x)?;
    let exponent = if g.prng.chance(0.5) {
        let e = g.prng.pick(&[2.0, 0.5, 3.0, -1.0, 1.5]);
        g.b.full_like(p, e)?
    } else {
        g.tame(y, 1.0)?.id
    };
    let id = g.b.map(F::Pow, &[p, exponent])?;
    g.push(id, 125.0, false);
    Ok(())
}

fn compare_and_select(g: &mut Generator) -> Result<()> {
    let f = g.prng.pick(&[F::Eq, F::Ne, F::Lt, F::Le, F::Gt, F::Ge]);
    let dtype = g.prng.pick(&[g.float, g.float, DType::I32]);
    let x = g.exact(dtype)?;
    let dims = g.b.ty(x.id).dims.clone();
    let y = g.partner(dtype, &dims, true)?;
    let c = g.b.map(f, &[x.id, y.id])?;
    g.push(c, 1.0, true);
    if g.prng.chance(0.7) {
        let a = g.partner(g.float, &dims, false)?;
        let b = g.partner(g.float, &dims, false)?;
        let id = g.b.map(F::Select, &[c, a.id, b.id])?;
        g.push(id, a.bound.max(b.bound), a.exact && b.exact);
    }
    Ok(())
}

fn integers(g: &mut Generator) -> Result<()> {
    let dtype =
        g.prng.pick(&[DType::I32, DType::I32, DType::I64, DType::U32, DType::I8, DType::U8, DType::I16]);
    let f = g.prng.pick(&[
        F::Add,
        F::Sub,
        F::Mul,
        F::Div,
        F::Rem,
        F::Max,
        F::Min,
        F::Neg,
        F::Abs,
        F::Sign,
        F::Relu,
    ]);
    let x = g.exact(dtype)?;
    let dims = g.b.ty(x.id).dims.clone();
    let id = if f.def().arity == 1 {
        g.b.map(f, &[x.id])?
    } else {
        let mut y = g.partner(dtype, &dims, true)?.id;
        if matches!(f, F::Div | F::Rem) {
            y = g.divisor(y)?;
        }
        g.b.map(f, &[x.id, y])?
    };
    g.push(id, dtype.int_range().1 as f64, true);
    Ok(())
}

fn bits(g: &mut Generator) -> Result<()> {
    let dtype = g.prng.pick(&[DType::I32, DType::U32, DType::U32, DType::I64, DType::U8, DType::I16]);
    let f = g.prng.pick(&[F::And, F::Or, F::Xor, F::Not, F::Shl, F::Shr]);
    let x = g.exact(dtype)?;
    let dims = g.b.ty(x.id).dims.clone();
    let id = match f {
        F::Not => g.b.map(f, &[x.id])?,
        F::Shl | F::Shr => {
            // At times beyond the width.
            let by = g.prng.below(dtype.bits() as usize + 3);
            let by = g.b.full_like(x.id, by as f64)?;
            g.b.map(f, &[x.id, by])?
        }
        _ => {
            let y = g.partner(dtype, &dims, true)?;
            g.b.map(f, &[x.id, y.id])?
        }
    };
    g.push(id, dtype.int_range().1 as f64, true);
    Ok(())
}

fn logic(g: &mut Generator) -> Result<()> {
    let x = g.exact(DType::Bool)?;
    let f = g.prng.pick(&[F::And, F::Or, F::Xor, F::Not]);
    let dims = g.b.ty(x.id).dims.clone();
    let id = if f == F::Not {
        g.b.map(f, &[x.id])?
    } else {
        let y = g.partner(DType::Bool, &dims, true)?;
        g.b.map(f, &[x.id, y.id])?
    };
    g.push(id, 1.0, true);
    Ok(())
}

fn cast(g: &mut Generator) -> Result<()> {
    let float = g.float;
    let Some(v) = g.any(|t, v| t.dtype == float || v.exact) else { return Ok(()) };
    let from = g.b.ty(v.id).dtype;
    let to = if from == float && v.exact {
        g.prng.pick(&DType::ALL)
    } else if from == float {
        // The other type of arithmetic only: a storage type or an integer would jump.
        if float == DType::F32 { DType::F64 } else { DType::F32 }
    } else {
        g.prng.pick(&[float, float, DType::I32, DType::Bool])
    };
    if to == from {
        return Ok(());
    }
    let id = g.b.op1(Cast { to }, &[v.id])?;
    let limit = if to.is_int() { to.int_range().1 as f64 } else { f64::INFINITY };
    let bound = if to == DType::Bool { 1.0 } else { v.bound.max(1.0).min(limit) };
    // Integers beyond 2^24 round, but the same everywhere. Wrapped ones are below the limit.
    let bound = if from.is_int() && to.is_int() { limit } else { bound };
    let w = g.push(id, bound, v.exact);
    if to.is_float() && to != float {
        let back = g.b.op1(Cast { to: float }, &[w.id])?;
        g.push(back, bound, v.exact);
    }
    Ok(())
}

/// A condition that holds, since bounds are generous.
fn check(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let limit = g.b.full_like(x.id, x.bound * 2.0 + 1.0)?;
    let holds = g.b.map(F::Le, &[x.id, limit])?;
    let guarded = g.any(|_, _| true).unwrap_or(x);
    let message = format!("element above {}", x.bound * 2.0 + 1.0);
    let id = g.b.op1(Check { message }, &[guarded.id, holds])?;
    g.push_like(id, guarded);
    Ok(())
}

fn stop_gradient(g: &mut Generator) -> Result<()> {
    let x = g.float(|_| true)?;
    let id = g.b.op1(StopGradient {}, &[x.id])?;
    g.push_like(id, x);
    Ok(())
}

fn activation(g: &mut Generator) -> Result<()> {
    let ops: [Op; 7] = [
        LeakyRelu { slope: Real(0.125) }.into(),
        Elu { alpha: Real(0.75) }.into(),
        Gelu { tanh: false }.into(),
        Gelu { tanh: true }.into(),
        Silu {}.into(),
        Silu {}.into(),
        HardTanh { lo: Real(-0.8), hi: Real(1.1) }.into(),
    ];
    let op = g.prng.pick(&ops);
    let x = g.float(|_| true)?;
    let x = g.tame(x, 8.0)?;
    let id = g.b.op1(op, &[x.id])?;
    g.push(id, x.bound.max(1.1), false);
    Ok(())
}
