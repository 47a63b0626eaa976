//! Division by a positive constant, rounding down.

use super::atom::{Atom, Floor, Monomial};
use super::error::DimError;
use super::poly::{Dim, Failure, Sum};

impl Dim {
    /// `floor(self / divisor)`, rounding towards negative infinity.
    ///
    /// Whatever divides leaves the floor: `(4*B)/2` is `2*B`, `floor((4*B+3)/4)` is `B`. A common
    /// factor is cancelled: `floor((2*B+1)/4)` is `floor(B/2)`. A floor within a floor is flattened
    /// by `floor((floor(x/a)+r)/b) = floor((x+a*r)/(a*b))` for integers `a`, `b` > 0 and `r`
    /// (Graham, Knuth, Patashnik, *Concrete Mathematics*, section 3.2).
    ///
    /// # Errors
    /// [`DimError::BadDivisor`] when `divisor` is below 1; otherwise see [`Dim`].
    pub fn floor_div(&self, divisor: i64) -> Result<Self, DimError> {
        if divisor < 1 {
            return Err(DimError::BadDivisor { dim: self.clone(), divisor });
        }
        self.floor_quotient(divisor).map_err(|failure| failure.at(format!("floor(({self})/{divisor})")))
    }

    /// `ceil(self / divisor)`, as `floor((self + divisor - 1) / divisor)`.
    ///
    /// # Errors
    /// Those of [`Dim::floor_div`].
    pub fn ceil_div(&self, divisor: i64) -> Result<Self, DimError> {
        self.add(&Self::constant(divisor.saturating_sub(1)))?.floor_div(divisor)
    }

    /// `divisor` must be at least 1.
    pub(super) fn floor_quotient(&self, divisor: i64) -> Result<Self, Failure> {
        let mut whole = Sum::default();
        let mut rest = Sum::default();
        for (monomial, coefficient) in self.terms() {
            whole.add_term(monomial.clone(), coefficient.div_euclid(divisor).into())?;
            rest.add_term(monomial.clone(), coefficient.rem_euclid(divisor).into())?;
        }
        let constant = self.constant_term();
        whole.add(&Self::constant(constant.div_euclid(divisor)), 1)?;
        rest.add(&Self::constant(constant.rem_euclid(divisor)), 1)?;

        let rest = rest.finish()?;
        if !rest.terms().is_empty() {
            whole.add(&floor_of_remainder(&rest, divisor)?, 1)?;
        }
        whole.finish()
    }
}

/// The floor of a non-constant numerator whose coefficients are all in `0..divisor`.
fn floor_of_remainder(rest: &Dim, divisor: i64) -> Result<Dim, Failure> {
    let common = gcd_of_coefficients(rest, divisor);
    let divisor = divisor / common;
    let mut numerator = Sum::default();
    for (monomial, coefficient) in rest.terms() {
        numerator.add_term(monomial.clone(), (coefficient / common).into())?;
    }
    numerator.add(&Dim::constant(rest.constant_term() / common), 1)?;
    let numerator = numerator.finish()?;

    if let Some((inner, others)) = sole_floor(&numerator)
        && let Some(divisor) = inner.divisor.checked_mul(divisor)
        && let Ok(numerator) = inner.numerator.add_scaled(&others, inner.divisor)
    {
        return numerator.floor_quotient(divisor);
    }
    Dim::atom(Atom::Floor(Floor { numerator, divisor }))
}

/// Splits `floor(x/a) + r`, where `r` has no floors, into the two.
fn sole_floor(numerator: &Dim) -> Option<(&Floor, Dim)> {
    let has_floor = |(monomial, _): &&(Monomial, i64)| monomial.has_floor();
    let mut with_floor = numerator.terms().iter().filter(has_floor);
    let (monomial, 1) = with_floor.next()? else {
        return None;
    };
    let Some(Atom::Floor(floor)) = monomial.as_atom() else {
        return None;
    };
    if with_floor.next().is_some() {
        return None;
    }
    let mut others = Sum::default();
    others.add(numerator, 1).ok()?;
    others.add_term(monomial.clone(), -1).ok()?;
    Some((floor, others.finish().ok()?))
}

/// The greatest common divisor of `start` (at least 1) and all coefficients but the constant term.
pub(super) fn gcd_of_coefficients(dim: &Dim, start: i64) -> i64 {
    let coefficients = dim.terms().iter().map(|(_, coefficient)| *coefficient);
    // The result divides `start`, so the magnitudes fit when they are taken modulo it first.
    coefficients.fold(start, |common, coefficient| gcd(common, coefficient.rem_euclid(common)))
}

pub(super) fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
