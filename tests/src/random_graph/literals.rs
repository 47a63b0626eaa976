//! Moves that combine a value with one number, on either side: what rules of algebra look for.

use graphc_ir::error::Result;
use graphc_ir::{DType, ScalarFn as F};

use super::generator::{Generator, Move};

pub(super) const MOVES: &[Move] =
    &[Move { weight: 9, apply: float_literal }, Move { weight: 4, apply: integer_literal }];

fn float_literal(g: &mut Generator) -> Result<()> {
    let f = g.prng.pick(&[F::Add, F::Sub, F::Sub, F::Mul, F::Div, F::Div, F::Max, F::Min]);
    let x = g.float(|_| true)?;
    let x = g.tame(x, 8.0)?;
    let left = g.prng.chance(0.5);
    if f == F::Div && left {
        // Above 0, and exactly rounded wherever x is: the quotient is not.
        let size = g.b.map(F::Abs, &[x.id])?;
        let half = g.b.full_like(size, 0.5)?;
        let positive = g.b.map(F::Max, &[size, half])?;
        let number = g.prng.pick(&[0.0, 1.0, 2.0, -1.0]);
        let number = g.b.full_like(positive, number)?;
        let id = g.b.map(F::Div, &[number, positive])?;
        g.push(id, 4.0, false);
        return Ok(());
    }
    let numbers: &[f64] = match f {
        F::Div => &[1.0, 2.0, 0.5, -1.0, 4.0],
        // What should be equal to a round number may be off by its rounding, which would decide a gradient.
        F::Max | F::Min if !x.exact => &[0.3, -0.7],
        _ => &[0.0, 1.0, 2.0, 0.5, -1.0, 0.0, 1.0],
    };
    let number = g.prng.pick(numbers);
    let literal = g.b.full_like(x.id, number)?;
    let ins = if left { [literal, x.id] } else { [x.id, literal] };
    let id = g.b.map(f, &ins)?;
    // All numbers are powers of two; a division need not be rounded exactly everywhere.
    let scaled = matches!(f, F::Mul | F::Max | F::Min) || number == 0.0;
    let bound = match f {
        F::Mul => x.bound * number.abs(),
        F::Div => x.bound / number.abs(),
        F::Max | F::Min => x.bound.max(number.abs()),
        _ => x.bound + number.abs(),
    };
    g.push(id, bound, x.exact && scaled);
    Ok(())
}

/// Also divisions of a number.
fn integer_literal(g: &mut Generator) -> Result<()> {
    let dtype = g.prng.pick(&[DType::I32, DType::I32, DType::I64, DType::U32, DType::I8, DType::U8]);
    let f =
        g.prng.pick(&[F::Add, F::Sub, F::Sub, F::Mul, F::Div, F::Rem, F::And, F::Or, F::Xor, F::Max, F::Min]);
    let x = g.exact(dtype)?;
    let left = g.prng.chance(0.5);
    let divisor = matches!(f, F::Div | F::Rem) && !left;
    let number = g.prng.pick(if divisor { &[1.0, 2.0, 3.0] } else { &[0.0, 1.0, 2.0] });
    let literal = g.b.full_like(x.id, number)?;
    let mut ins = if left { [literal, x.id] } else { [x.id, literal] };
    if matches!(f, F::Div | F::Rem) {
        ins[1] = g.divisor(ins[1])?;
    }
    let id = g.b.map(f, &ins)?;
    g.push(id, dtype.int_range().1 as f64, true);
    Ok(())
}
