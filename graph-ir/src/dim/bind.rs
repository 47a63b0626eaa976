//! Values for symbols, evaluation and substitution.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::atom::Atom;
use super::error::DimError;
use super::poly::{Dim, Failure, Sum};
use super::symbol::Symbol;

/// The values of symbols, each with the place it came from.
///
/// Two bindings are equal, and hash alike, when they give the same symbols the same values; where
/// the values came from does not count. That makes a binding the key of a specialization.
#[derive(Debug, Clone, Default)]
pub struct Binding {
    bound: BTreeMap<Symbol, Bound>,
}

#[derive(Debug, Clone)]
struct Bound {
    value: i64,
    place: Arc<str>,
}

impl Binding {
    /// A binding of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `symbol` a value; `place` says for messages where it came from. Giving the same value
    /// again changes nothing.
    ///
    /// # Errors
    /// [`DimError::Contradiction`] when it has another value, [`DimError::NegativeSymbol`] when the
    /// value is below 0.
    pub fn set(&mut self, symbol: &Symbol, value: i64, place: &str) -> Result<(), DimError> {
        if value < 0 {
            return Err(DimError::NegativeSymbol { symbol: symbol.clone(), value, place: place.to_owned() });
        }
        match self.bound.get(symbol) {
            Some(bound) if bound.value != value => Err(DimError::Contradiction {
                symbol: symbol.clone(),
                value,
                place: place.to_owned(),
                earlier: bound.value,
                earlier_place: bound.place.to_string(),
            }),
            Some(_) => Ok(()),
            None => {
                let place = Arc::from(place);
                self.bound.insert(symbol.clone(), Bound { value, place });
                Ok(())
            }
        }
    }

    /// The value of a symbol.
    #[must_use]
    pub fn get(&self, symbol: &str) -> Option<i64> {
        self.bound.get(symbol).map(|bound| bound.value)
    }

    /// Where a symbol's value came from.
    #[must_use]
    pub fn place(&self, symbol: &str) -> Option<&str> {
        self.bound.get(symbol).map(|bound| &*bound.place)
    }

    /// The symbols and their values, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Symbol, i64)> {
        self.bound.iter().map(|(symbol, bound)| (symbol, bound.value))
    }

    /// How many symbols have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bound.len()
    }

    /// Whether no symbol has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// The values that `dims` read, with their places, for messages: ``B = 4 by axis 0 of `x` ``.
    pub(super) fn given<'a>(&self, dims: impl IntoIterator<Item = &'a Dim>) -> String {
        let symbols: BTreeSet<_> = dims.into_iter().flat_map(Dim::symbols).collect();
        let describe = |symbol: &Symbol| {
            let Bound { value, place } = self.bound.get(symbol)?;
            Some(format!("{symbol} = {value} by {place}"))
        };
        let parts: Vec<_> = symbols.iter().filter_map(describe).collect();
        parts.join(", ")
    }
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Binding {}

impl Hash for Binding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|pair| pair.hash(state));
    }
}

impl Dim {
    /// The value under a binding of all its symbols.
    ///
    /// # Errors
    /// [`DimError::Unbound`] names the first symbol without a value; [`DimError::Overflow`] when
    /// the value leaves the 64-bit integers.
    pub fn bind(&self, binding: &Binding) -> Result<i64, DimError> {
        if let Some(value) = self.as_const() {
            return Ok(value);
        }
        if let Some(symbol) = self.symbols().into_iter().find(|symbol| binding.get(symbol.as_str()).is_none())
        {
            let dim = self.clone();
            return Err(DimError::Unbound { symbol, dim });
        }
        let value = evaluate(self, binding).and_then(|wide| i64::try_from(wide).ok());
        value.ok_or_else(|| {
            let given = binding.given([self]);
            Failure::Overflow.at(format!("{self} (with {given})"))
        })
    }

    /// The value under a binding, as the size of an axis.
    ///
    /// # Errors
    /// Those of [`Dim::bind`], and [`DimError::NegativeSize`] when the value is below 0.
    pub fn bind_size(&self, binding: &Binding) -> Result<usize, DimError> {
        let value = self.bind(binding)?;
        usize::try_from(value).map_err(|_| {
            let (dim, given) = (self.clone(), binding.given([self]));
            DimError::NegativeSize { dim, value, given }
        })
    }

    /// This dimension with some symbols replaced; symbols without a replacement stay.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn substitute(&self, replacements: &BTreeMap<Symbol, Self>) -> Result<Self, DimError> {
        self.replace(&|symbol| replacements.get(symbol).cloned())
            .map_err(|failure| failure.at(format!("{self} (after substitution)")))
    }

    /// This dimension with the values of the symbols that `binding` knows.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn bind_partially(&self, binding: &Binding) -> Result<Self, DimError> {
        self.replace(&|symbol| binding.get(symbol.as_str()).map(Self::constant)).map_err(|failure| {
            let given = binding.given([self]);
            failure.at(format!("{self} (with {given})"))
        })
    }

    pub(super) fn replace(&self, with: &dyn Fn(&Symbol) -> Option<Self>) -> Result<Self, Failure> {
        let mut sum = Sum::default();
        sum.add(&Self::constant(self.constant_term()), 1)?;
        for (monomial, coefficient) in self.terms() {
            let mut product = Self::ONE;
            for (atom, exponent) in monomial.factors() {
                let factor = match atom {
                    Atom::Symbol(symbol) => with(symbol).unwrap_or_else(|| Self::from(symbol.clone())),
                    Atom::Floor(floor) => {
                        let numerator = floor.numerator.replace(with)?;
                        numerator.floor_quotient(floor.divisor)?
                    }
                };
                product = product.product(&factor.power(*exponent)?)?;
            }
            sum.add(&product, *coefficient)?;
        }
        sum.finish()
    }
}

/// `None` when an intermediate value leaves 128 bits or a symbol has no value.
fn evaluate(dim: &Dim, binding: &Binding) -> Option<i128> {
    let mut sum = i128::from(dim.constant_term());
    for (monomial, coefficient) in dim.terms() {
        let mut product = i128::from(*coefficient);
        let mut overflowed = false;
        for (atom, exponent) in monomial.factors() {
            let base = match atom {
                Atom::Symbol(symbol) => binding.get(symbol.as_str())?.into(),
                Atom::Floor(floor) => evaluate(&floor.numerator, binding)?.div_euclid(floor.divisor.into()),
            };
            if base == 0 {
                // Zero wins over an overflow in the other factors.
                (product, overflowed) = (0, false);
                break;
            }
            let power = base.checked_pow(*exponent);
            match power.and_then(|power| product.checked_mul(power)) {
                Some(exact) => product = exact,
                None => overflowed = true,
            }
        }
        if overflowed {
            return None;
        }
        sum = sum.checked_add(product)?;
    }
    Some(sum)
}
