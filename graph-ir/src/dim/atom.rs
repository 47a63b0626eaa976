//! The variables of a polynomial and their products.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::poly::{Dim, Failure, MAX_WEIGHT};
use super::symbol::Symbol;

/// A variable of a polynomial.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Atom {
    Symbol(Symbol),
    Floor(Floor),
}

/// `floor(numerator / divisor)`, in lowest terms: made by [`Dim::floor_div`] only, which leaves the
/// numerator's coefficients in `0..divisor` and nothing that could be taken out of the floor. As
/// symbols are never negative, neither is the numerator, nor the floor.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Floor {
    pub(super) numerator: Dim,
    pub(super) divisor: i64,
}

impl Atom {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Symbol(_) => 1,
            Self::Floor(floor) => 1 + floor.numerator.weight(),
        }
    }

    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Symbol(_) => 0,
            Self::Floor(floor) => 1 + floor.numerator.depth(),
        }
    }
}

/// A product of powers of distinct atoms, at least one. Products of higher degree order first,
/// which is also the order of printing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Monomial {
    degree: Reverse<u32>,
    factors: Arc<[(Atom, u32)]>,
}

impl Monomial {
    pub(super) fn atom(atom: Atom) -> Self {
        Self { degree: Reverse(1), factors: Arc::from([(atom, 1)]) }
    }

    /// The atoms in order, each with its exponent (at least 1).
    pub(super) fn factors(&self) -> &[(Atom, u32)] {
        &self.factors
    }

    /// The one atom that this monomial is, when it is one.
    pub(super) fn as_atom(&self) -> Option<&Atom> {
        match &*self.factors {
            [(atom, 1)] => Some(atom),
            _ => None,
        }
    }

    pub(super) fn weight(&self) -> usize {
        let powers = self.factors.iter();
        1 + powers
            .map(|(atom, exponent)| atom.weight().saturating_mul(*exponent as usize))
            .fold(0, usize::saturating_add)
    }

    pub(super) fn depth(&self) -> usize {
        let depths = self.factors.iter().map(|(atom, _)| atom.depth());
        depths.max().unwrap_or(0)
    }

    pub(super) fn has_floor(&self) -> bool {
        self.depth() > 0
    }

    pub(super) fn mul(&self, other: &Self) -> Result<Self, Failure> {
        // Both degrees are at most MAX_WEIGHT, so the sum cannot wrap.
        let degree = self.degree.0 + other.degree.0;
        if degree as usize > MAX_WEIGHT {
            return Err(Failure::TooComplex);
        }
        let mut factors = Vec::with_capacity(self.factors.len() + other.factors.len());
        let (mut left, mut right) = (&*self.factors, &*other.factors);
        while let ([(a, m), left_rest @ ..], [(b, n), right_rest @ ..]) = (left, right) {
            match a.cmp(b) {
                Ordering::Less => {
                    factors.push((a.clone(), *m));
                    left = left_rest;
                }
                Ordering::Greater => {
                    factors.push((b.clone(), *n));
                    right = right_rest;
                }
                Ordering::Equal => {
                    factors.push((a.clone(), m + n));
                    left = left_rest;
                    right = right_rest;
                }
            }
        }
        factors.extend_from_slice(left);
        factors.extend_from_slice(right);
        Ok(Self { degree: Reverse(degree), factors: factors.into() })
    }

    /// What is left after taking out one power of the factor at `index`; `None` when that is 1.
    pub(super) fn without(&self, index: usize) -> Option<Self> {
        let mut factors = self.factors.to_vec();
        if factors[index].1 > 1 {
            factors[index].1 -= 1;
        } else {
            factors.remove(index);
        }
        (!factors.is_empty()).then(|| Self { degree: Reverse(self.degree.0 - 1), factors: factors.into() })
    }
}
