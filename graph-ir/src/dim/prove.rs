//! What can be said about dimensions before their symbols have values.

use super::bounds::Bounds;
use super::divide::gcd_of_coefficients;
use super::poly::Dim;

/// The answer to a question about all values that the symbols may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    /// It holds for all of them.
    Yes,
    /// It holds for none of them.
    No,
    /// Neither could be proved.
    Unknown,
}

/// Whether `a == b`.
///
/// Yes when the difference is the constant 0 or bounded to it; no when it is another constant, keeps
/// one sign, or cannot be 0 by divisibility (as in `2*A = 2*B+1`).
#[must_use]
pub fn proves_eq(a: &Dim, b: &Dim, bounds: &Bounds) -> Truth {
    let Ok(difference) = a.sub(b) else {
        return Truth::Unknown;
    };
    if let Some(value) = difference.as_const() {
        return if value == 0 { Truth::Yes } else { Truth::No };
    }
    let lower = difference.lower_bound(bounds);
    let upper = difference.upper_bound(bounds);
    if lower.is_some_and(|lower| lower > 0) || upper.is_some_and(|upper| upper < 0) {
        Truth::No
    } else if lower == Some(0) && upper == Some(0) {
        Truth::Yes
    } else if never_zero_by_divisibility(&difference) {
        Truth::No
    } else {
        Truth::Unknown
    }
}

/// Whether the coefficients share a divisor that the constant term does not have.
fn never_zero_by_divisibility(dim: &Dim) -> bool {
    let constant = dim.constant_term();
    let Some(magnitude) = constant.checked_abs().filter(|magnitude| *magnitude > 0) else {
        return false;
    };
    let first = dim.terms().first().and_then(|(_, k)| k.checked_abs());
    first.is_some_and(|first| magnitude % gcd_of_coefficients(dim, first) != 0)
}

/// Whether `a <= b`.
#[must_use]
pub fn proves_le(a: &Dim, b: &Dim, bounds: &Bounds) -> Truth {
    let Ok(difference) = b.sub(a) else {
        return Truth::Unknown;
    };
    let lower = difference.lower_bound(bounds);
    let upper = difference.upper_bound(bounds);
    if lower.is_some_and(|lower| lower >= 0) {
        Truth::Yes
    } else if upper.is_some_and(|upper| upper < 0) {
        Truth::No
    } else {
        Truth::Unknown
    }
}

/// Whether `dim` is a multiple of `divisor`; no for a divisor below 1.
#[must_use]
pub fn proves_divisible(dim: &Dim, divisor: i64) -> Truth {
    if divisor < 1 {
        return Truth::No;
    }
    let common = gcd_of_coefficients(dim, divisor);
    if dim.constant_term() % common != 0 {
        Truth::No
    } else if common == divisor {
        Truth::Yes
    } else {
        Truth::Unknown
    }
}
