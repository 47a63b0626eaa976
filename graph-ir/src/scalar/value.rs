//! One element as the reference semantics sees it: computed wide, rounded once.

use std::hash::{Hash, Hasher};

use super::narrow;
use crate::dtype::DType;

/// An element value: floats in f64, integers in i128 (which holds i64 and u64), booleans.
///
/// Equality and hashing are of the bits, so that a NaN equals itself and `-0.0` differs from `0.0`.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// A floating-point value.
    F(f64),
    /// A signed or unsigned integer value.
    I(i128),
    /// A boolean.
    B(bool),
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Scalar::F(a), Scalar::F(b)) => a.to_bits() == b.to_bits(),
            (Scalar::I(a), Scalar::I(b)) => a == b,
            (Scalar::B(a), Scalar::B(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Scalar::F(v) => v.to_bits().hash(state),
            Scalar::I(v) => v.hash(state),
            Scalar::B(v) => v.hash(state),
        }
    }
}

impl Scalar {
    /// The value as f64; integers convert, booleans are 0 or 1.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::F(v) => v,
            Scalar::I(v) => v as f64,
            Scalar::B(v) => f64::from(u8::from(v)),
        }
    }

    /// The value as an integer: floats truncate and saturate, NaN is 0.
    pub fn as_int(self) -> i128 {
        match self {
            Scalar::F(v) => v as i128,
            Scalar::I(v) => v,
            Scalar::B(v) => i128::from(v),
        }
    }

    /// Whether the value differs from zero (NaN does).
    pub fn as_bool(self) -> bool {
        match self {
            Scalar::F(v) => v != 0.0,
            Scalar::I(v) => v != 0,
            Scalar::B(v) => v,
        }
    }

    /// Zero of a type (`false` for booleans).
    pub fn zero(dtype: DType) -> Scalar {
        Scalar::F(0.0).cast(dtype)
    }

    /// One of a type (`true` for booleans).
    pub fn one(dtype: DType) -> Scalar {
        Scalar::F(1.0).cast(dtype)
    }

    /// Conversion with the rules of the `cast` operation: what becomes a float is rounded once, to nearest
    /// even; float to integer truncates and saturates with NaN to 0, integer to integer wraps, anything to
    /// boolean asks whether it differs from zero.
    pub fn cast(self, to: DType) -> Scalar {
        match (self, to) {
            (v, DType::Bool) => Scalar::B(v.as_bool()),
            (Scalar::I(v), t) if t.is_float() => Scalar::F(narrow::round_int(v, t)),
            (v, t) if t.is_float() => Scalar::F(v.as_f64()).round_to(t),
            (Scalar::F(v), t) => {
                let (lo, hi) = t.int_range();
                Scalar::I((v as i128).clamp(lo, hi))
            }
            (v, t) => Scalar::I(v.as_int()).round_to(t),
        }
    }

    /// Rounds (floats) or wraps (integers) to the precision of `dtype`, of the same kind.
    pub fn round_to(self, dtype: DType) -> Scalar {
        match self {
            Scalar::F(v) => Scalar::F(narrow::round(v, dtype)),
            Scalar::I(v) => {
                let bits = dtype.bits();
                let low = v & ((1i128 << bits) - 1);
                let negative = dtype.is_signed_int() && low >> (bits - 1) & 1 == 1;
                Scalar::I(if negative { low - (1i128 << bits) } else { low })
            }
            b => b,
        }
    }
}
