//! Lower and upper bounds of a dimension over all values of its symbols.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::atom::{Atom, Floor, Monomial};
use super::bind::Binding;
use super::divide::gcd;
use super::error::DimError;
use super::poly::{Dim, Failure, Sum};
use super::symbol::Symbol;

/// Declared lower bounds of symbols. A symbol without one is at least 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Shared until it changes, as it is copied for every definition that is expanded.
    lower: Arc<BTreeMap<Symbol, i64>>,
}

impl Bounds {
    /// No declarations: every symbol is at least 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares `symbol >= lower`. The strongest declaration counts; one below 1 says nothing new.
    pub fn declare(&mut self, symbol: &Symbol, lower: i64) {
        if lower > self.lower(symbol.as_str()) {
            Arc::make_mut(&mut self.lower).insert(symbol.clone(), lower);
        }
    }

    /// The least value that a symbol may have.
    #[must_use]
    pub fn lower(&self, symbol: &str) -> i64 {
        self.lower.get(symbol).copied().unwrap_or(0)
    }

    /// The symbols that are declared to be at least 1 or more, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Symbol, i64)> {
        self.lower.iter().map(|(symbol, lower)| (symbol, *lower))
    }

    /// Checks the values in a binding against the declarations.
    ///
    /// # Errors
    /// [`DimError::UnderBound`] for every bound symbol whose value is too small.
    pub fn check(&self, binding: &Binding) -> Result<(), Vec<DimError>> {
        let mut errors = Vec::new();
        for (symbol, lower) in self.iter() {
            let bound = binding.get(symbol.as_str()).zip(binding.place(symbol.as_str()));
            if let Some((value, place)) = bound
                && value < lower
            {
                errors.push(DimError::UnderBound {
                    symbol: symbol.clone(),
                    value,
                    place: place.to_owned(),
                    lower,
                });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

impl Dim {
    /// A number that this dimension is never below, the greatest that could be found; `None` when
    /// none was.
    #[must_use]
    pub fn lower_bound(&self, bounds: &Bounds) -> Option<i64> {
        if let Some(value) = self.as_const() {
            return Some(value);
        }
        // Where the shift overflows, bounds of 0 are still bounds.
        let shifted = self.shifted_to_zero(bounds);
        greatest_lower_bound(shifted.unwrap_or_else(|_| self.clone()))
    }

    /// A number that this dimension is never above, the least that could be found; `None` when none
    /// was.
    #[must_use]
    pub fn upper_bound(&self, bounds: &Bounds) -> Option<i64> {
        if let Some(value) = self.as_const() {
            return Some(value);
        }
        let negated = Self::ZERO.add_scaled(self, -1).ok()?;
        negated.lower_bound(bounds)?.checked_neg()
    }

    /// Writes every symbol `s >= l` as `s + l`, so that all symbols start from 0 and terms of
    /// opposite sign, as in `B*B-B` for `B>=1`, cancel.
    fn shifted_to_zero(&self, bounds: &Bounds) -> Result<Self, Failure> {
        if bounds.lower.is_empty() {
            return Ok(self.clone());
        }
        self.replace(&|symbol| {
            let lower = Self::constant(bounds.lower.get(symbol).copied()?);
            Self::from(symbol.clone()).add_scaled(&lower, 1).ok()
        })
    }
}

/// The best of the lower bounds seen while floors are opened one after the other, for symbols that
/// start from 0.
fn greatest_lower_bound(dim: Dim) -> Option<i64> {
    let mut best = None;
    let (mut opened, mut scale) = (dim, 1_i64);
    loop {
        // No atom is ever negative (see `Floor`), and all of them can be 0 or grow without limit.
        if opened.terms().iter().all(|(_, coefficient)| *coefficient > 0) {
            // Rounded up, as the dimension is an integer that is at least this fraction.
            let bound = -(-i128::from(opened.constant_term())).div_euclid(scale.into());
            best = best.max(i64::try_from(bound).ok());
        }
        let Some((next, by)) = open_floors(&opened) else {
            return best;
        };
        let Some(product) = scale.checked_mul(by) else {
            return best;
        };
        (opened, scale) = (next, product);
    }
}

/// A polynomial `p` and a scale `s` with `s * dim >= p`, from `n-c+1 <= c*floor(n/c) <= n` for one
/// floor in each term that has any. So `floor(B/2) <= B` is seen, although either may be large.
/// `None` when there is no floor or the result does not fit. Each opened term is lighter than it
/// was, so repeating this ends.
fn open_floors(dim: &Dim) -> Option<(Dim, i64)> {
    let mut scale = 1_i64;
    for (_, floor) in dim.terms().iter().filter_map(|(term, _)| floor_in(term)) {
        scale = (scale / gcd(scale, floor.divisor)).checked_mul(floor.divisor)?;
    }
    if scale == 1 {
        return None;
    }
    let mut sum = Sum::default();
    sum.add(&Dim::constant(dim.constant_term()), scale).ok()?;
    for (monomial, coefficient) in dim.terms() {
        let Some((index, floor)) = floor_in(monomial) else {
            let amount = i128::from(*coefficient) * i128::from(scale);
            sum.add_term(monomial.clone(), amount).ok()?;
            continue;
        };
        let slack = if *coefficient > 0 { floor.divisor - 1 } else { 0 };
        let slack = Dim::constant(slack);
        let opened = floor.numerator.add_scaled(&slack, -1).ok()?;
        let factor = coefficient.checked_mul(scale / floor.divisor)?;
        let others = monomial.without(index);
        sum.add_multiple(&opened, others.as_ref(), factor).ok()?;
    }
    Some((sum.finish().ok()?, scale))
}

fn floor_in(monomial: &Monomial) -> Option<(usize, &Floor)> {
    let mut factors = monomial.factors().iter().enumerate();
    factors.find_map(|(index, (atom, _))| match atom {
        Atom::Floor(floor) => Some((index, floor)),
        Atom::Symbol(_) => None,
    })
}
