//! Numbers that have no element type yet.

use std::fmt;

use super::Scalar;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// A number before it is given an element type: a count, a size, a literal, the value of a border.
///
/// [`Number::of`] is the way to make an element of it. There is no other, so that a number which does not fit its type is
/// an error where it is made. Equal numbers are equal here, whether they were written as 2 or as 2.0; -0 is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Int(i128),
    /// The bits of an f64 that is no integer, or none that an f64 is sure of.
    Real(u64),
}

/// Integers up to here are all numbers of f64.
const EXACT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;

impl From<f64> for Number {
    fn from(v: f64) -> Number {
        let is_int = v.fract() == 0.0 && v.abs() <= EXACT && (v != 0.0 || v.is_sign_positive());
        Number(if is_int { Kind::Int(v as i128) } else { Kind::Real(v.to_bits()) })
    }
}

macro_rules! from_integers {
    ($($t:ty),*) => { $( impl From<$t> for Number {
        fn from(v: $t) -> Number {
            Number(Kind::Int(v as i128))
        }
    } )* };
}
from_integers!(i32, i64, u32, u64, usize);

impl From<i128> for Number {
    fn from(v: i128) -> Number {
        Number(Kind::Int(v))
    }
}

/// As an f64 is written, with all digits of integers that an f64 may not hold.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_large_int() {
            Some(v) => v.fmt(f),
            None => write!(f, "{:?}", self.as_f64()),
        }
    }
}

impl Number {
    /// The value as f64, rounded.
    pub fn as_f64(self) -> f64 {
        match self.0 {
            Kind::Int(v) => v as f64,
            Kind::Real(bits) => f64::from_bits(bits),
        }
    }

    /// The value, if it is an integer that an f64 may not hold.
    pub fn as_large_int(self) -> Option<i128> {
        match self.0 {
            Kind::Int(v) if v.unsigned_abs() > EXACT as u128 => Some(v),
            _ => None,
        }
    }

    /// The number as an element of a type: exact in integers and booleans, rounded once in floats.
    ///
    /// # Errors
    /// A sentence: an integer type that does not hold the number, a float type of which it would become an infinity, a
    /// boolean that is neither 0 nor 1.
    pub fn of(self, dtype: DType) -> Result<Scalar> {
        let shown = match self.0 {
            Kind::Int(v) => v.to_string(),
            Kind::Real(bits) => format!("{:?}", f64::from_bits(bits)),
        };
        let kind = match self.0 {
            // Integers have one zero.
            Kind::Real(_) if !dtype.is_float() && self.as_f64() == 0.0 => Kind::Int(0),
            kind => kind,
        };
        match kind {
            Kind::Int(v) if dtype == DType::Bool => match v {
                0 | 1 => Ok(Scalar::B(v == 1)),
                _ => fail!("{shown} is no bool, which is 0 or 1"),
            },
            Kind::Int(v) if dtype.is_int() => {
                let (low, high) = dtype.int_range();
                if v < low || v > high {
                    fail!("{shown} does not fit {dtype}; it holds {low} to {high}");
                }
                Ok(Scalar::I(v))
            }
            Kind::Real(_) if !dtype.is_float() => {
                Err(Error::new(format!("{shown} is not an integer, as {dtype} needs")))
            }
            kind => {
                let wide = match kind {
                    Kind::Int(v) => Scalar::I(v),
                    Kind::Real(bits) => Scalar::F(f64::from_bits(bits)),
                };
                let value = wide.cast(dtype);
                if self.as_f64().is_finite() && !value.as_f64().is_finite() {
                    fail!("{shown} does not fit {dtype}; it would become an infinity");
                }
                Ok(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a type holds a number, asked of the number's own arithmetic.
    fn fits(v: f64, dtype: DType) -> bool {
        match dtype {
            DType::Bool => v == 0.0 || v == 1.0,
            t if t.is_int() => {
                let (low, high) = t.int_range();
                v.fract() == 0.0 && v >= low as f64 && v as i128 <= high
            }
            DType::F64 => true,
            DType::F32 => v.is_infinite() || v.is_nan() || v.abs() < 3.402_823_567_797_337e38,
            DType::F16 => !v.is_finite() || v.abs() < 65520.0,
            _ => !v.is_finite() || v.abs() < 3.396e38,
        }
    }

    /// Every number becomes an element of a type or an error, never another number.
    #[test]
    fn numbers_fit_or_are_refused() {
        let mut all =
            vec![0.0, -0.0, 0.5, 1.0, 2.0, -1.0, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, 1e39];
        for bits in [7, 8, 15, 16, 31, 32, 53] {
            let v = 2f64.powi(bits);
            all.extend([v - 1.0, v, v + 1.0, -v - 1.0, -v, -v + 1.0]);
        }
        for dtype in DType::ALL {
            for v in &all {
                match Number::from(*v).of(dtype) {
                    Ok(s) => {
                        assert!(fits(*v, dtype), "{v} of {dtype}");
                        assert_eq!(s, Scalar::F(*v).cast(dtype), "{v} of {dtype}");
                        assert_eq!(s, s.cast(dtype), "{v} of {dtype}");
                    }
                    Err(e) => assert!(!fits(*v, dtype), "{v} of {dtype}: {e}"),
                }
            }
        }
    }

    #[test]
    fn integers_beyond_f64_stay_exact() {
        let large = 9_007_199_254_740_993i64;
        assert_eq!(Number::from(large).of(DType::I64).expect("it fits"), Scalar::I(large.into()));
        assert_eq!(Number::from(u64::MAX).of(DType::U64).expect("it fits"), Scalar::I(u64::MAX.into()));
        assert!(Number::from(1e18).of(DType::I64).is_err(), "an f64 is not sure of all digits");
        assert_eq!(Number::from(2.0), Number::from(2usize));
        assert_ne!(Number::from(-0.0), Number::from(0.0));
        assert_eq!(Number::from(large).as_large_int(), Some(large.into()));
        assert_eq!(Number::from(3usize).as_large_int(), None);
    }
}
