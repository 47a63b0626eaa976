//! The polynomial itself: construction, normal form and ring arithmetic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::atom::{Atom, Monomial};
use super::error::DimError;
use super::symbol::Symbol;

/// The most parts (terms, and atoms counted with their powers) that a dimension may have. The
/// shapes of real models have some tens; the limit bounds the cost of every operation.
pub const MAX_WEIGHT: usize = 256;

/// The deepest nesting of floors within floors.
pub const MAX_DEPTH: usize = 16;

/// The size of an axis: an integer polynomial in symbols and `floor(d/c)` atoms, in normal form.
///
/// Two dimensions are equal when their normal forms are; [`proves_eq`](super::proves_eq) knows
/// more. Cloning copies an integer or a pointer. The arithmetic is checked: every operation returns
/// [`DimError::Overflow`] when a coefficient leaves the 64-bit integers, and
/// [`DimError::TooComplex`] beyond [`MAX_WEIGHT`] or [`MAX_DEPTH`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    /// Never without terms: that is a `Const`.
    Poly(Arc<Poly>),
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Poly {
    /// Sorted, with distinct monomials and no zero coefficient.
    terms: Vec<(Monomial, i64)>,
    constant: i64,
    weight: usize,
    depth: usize,
}

/// Why an operation has no result, before it is known how to show the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Overflow,
    TooComplex,
}

impl Failure {
    pub(super) fn at(self, expression: String) -> DimError {
        match self {
            Self::Overflow => DimError::Overflow { expression },
            Self::TooComplex => DimError::TooComplex { expression },
        }
    }
}

impl Dim {
    /// The size 0.
    pub const ZERO: Self = Self::constant(0);
    /// The size 1.
    pub const ONE: Self = Self::constant(1);

    /// A known number.
    #[must_use]
    pub const fn constant(value: i64) -> Self {
        Self(Repr::Const(value))
    }

    /// An unknown, by name.
    ///
    /// # Errors
    /// [`DimError::BadSymbol`] when `name` is not a symbol name.
    pub fn symbol(name: &str) -> Result<Self, DimError> {
        Ok(Self::from(Symbol::new(name)?))
    }

    pub(super) fn atom(atom: Atom) -> Result<Self, Failure> {
        Self::from_terms(vec![(Monomial::atom(atom), 1)], 0)
    }

    /// The number this is, when it has no symbols.
    #[must_use]
    pub fn as_const(&self) -> Option<i64> {
        match &self.0 {
            Repr::Const(value) => Some(*value),
            Repr::Poly(_) => None,
        }
    }

    /// The symbol this is, when it is nothing but one symbol.
    #[must_use]
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms() {
            [(monomial, 1)] if self.constant_term() == 0 => match monomial.as_atom() {
                Some(Atom::Symbol(symbol)) => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// All symbols in it, those within floors included.
    #[must_use]
    pub fn symbols(&self) -> BTreeSet<Symbol> {
        let mut found = BTreeSet::new();
        self.collect_symbols(&mut found);
        found
    }

    fn collect_symbols(&self, found: &mut BTreeSet<Symbol>) {
        let monomials = self.terms().iter().map(|(monomial, _)| monomial);
        for (atom, _) in monomials.flat_map(Monomial::factors) {
            match atom {
                Atom::Symbol(symbol) => {
                    found.insert(symbol.clone());
                }
                Atom::Floor(floor) => floor.numerator.collect_symbols(found),
            }
        }
    }

    /// `self + other`.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn add(&self, other: &Self) -> Result<Self, DimError> {
        self.add_scaled(other, 1).map_err(|failure| failure.at(format!("({self})+({other})")))
    }

    /// `self - other`.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn sub(&self, other: &Self) -> Result<Self, DimError> {
        self.add_scaled(other, -1).map_err(|failure| failure.at(format!("({self})-({other})")))
    }

    /// `self * other`.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn mul(&self, other: &Self) -> Result<Self, DimError> {
        self.product(other).map_err(|failure| failure.at(format!("({self})*({other})")))
    }

    /// The product of all factors, 1 when there are none: the element count of a shape.
    ///
    /// # Errors
    /// See [`Dim`].
    pub fn product_of<'a>(factors: impl IntoIterator<Item = &'a Self>) -> Result<Self, DimError> {
        let mut factors = factors.into_iter();
        factors.try_fold(Self::ONE, |product, factor| product.mul(factor))
    }

    pub(super) fn add_scaled(&self, other: &Self, scale: i64) -> Result<Self, Failure> {
        let mut sum = Sum::default();
        sum.add(self, 1)?;
        sum.add(other, scale)?;
        sum.finish()
    }

    pub(super) fn product(&self, other: &Self) -> Result<Self, Failure> {
        match (self.as_const(), other.as_const()) {
            (Some(1), _) => return Ok(other.clone()),
            (_, Some(1)) => return Ok(self.clone()),
            _ => {}
        }
        let mut sum = Sum::default();
        for (monomial, coefficient) in self.terms() {
            sum.add_multiple(other, Some(monomial), *coefficient)?;
        }
        sum.add(other, self.constant_term())?;
        sum.finish()
    }

    pub(super) fn power(&self, exponent: u32) -> Result<Self, Failure> {
        let mut result = Self::ONE;
        // Exponents are at most MAX_WEIGHT, so the plain loop is short.
        for _ in 0..exponent {
            result = result.product(self)?;
        }
        Ok(result)
    }

    /// The non-constant terms in normal order, each with its coefficient (never 0).
    pub(super) fn terms(&self) -> &[(Monomial, i64)] {
        match &self.0 {
            Repr::Const(_) => &[],
            Repr::Poly(poly) => &poly.terms,
        }
    }

    pub(super) fn constant_term(&self) -> i64 {
        match &self.0 {
            Repr::Const(value) => *value,
            Repr::Poly(poly) => poly.constant,
        }
    }

    pub(super) fn weight(&self) -> usize {
        match &self.0 {
            Repr::Const(_) => 1,
            Repr::Poly(poly) => poly.weight,
        }
    }

    pub(super) fn depth(&self) -> usize {
        match &self.0 {
            Repr::Const(_) => 0,
            Repr::Poly(poly) => poly.depth,
        }
    }

    /// `terms` must be sorted, distinct and without zero coefficients.
    fn from_terms(terms: Vec<(Monomial, i64)>, constant: i64) -> Result<Self, Failure> {
        if terms.is_empty() {
            return Ok(Self::constant(constant));
        }
        let monomials = || terms.iter().map(|(monomial, _)| monomial);
        let weight = monomials().map(Monomial::weight).fold(1, usize::saturating_add);
        let depth = monomials().map(Monomial::depth).max().unwrap_or(0);
        if weight > MAX_WEIGHT || depth > MAX_DEPTH {
            return Err(Failure::TooComplex);
        }
        Ok(Self(Repr::Poly(Arc::new(Poly { terms, constant, weight, depth }))))
    }
}

impl From<Symbol> for Dim {
    fn from(symbol: Symbol) -> Self {
        let monomial = Monomial::atom(Atom::Symbol(symbol));
        let weight = 1 + monomial.weight();
        Self(Repr::Poly(Arc::new(Poly { terms: vec![(monomial, 1)], constant: 0, weight, depth: 0 })))
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Self {
        Self::constant(value)
    }
}

impl From<i32> for Dim {
    fn from(value: i32) -> Self {
        Self::constant(value.into())
    }
}

/// A size above `i64::MAX`, which no memory can hold, becomes `i64::MAX`.
impl From<usize> for Dim {
    fn from(value: usize) -> Self {
        Self::constant(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// Collects terms into normal form. Coefficients are 128 bits wide on the way, so that terms which
/// cancel do not overflow.
#[derive(Default)]
pub(super) struct Sum {
    terms: BTreeMap<Monomial, i128>,
    constant: i128,
}

impl Sum {
    /// Adds `scale * dim`.
    pub(super) fn add(&mut self, dim: &Dim, scale: i64) -> Result<(), Failure> {
        self.add_multiple(dim, None, scale)
    }

    /// Adds `scale * monomial * dim`, where no monomial means 1.
    pub(super) fn add_multiple(
        &mut self,
        dim: &Dim,
        monomial: Option<&Monomial>,
        scale: i64,
    ) -> Result<(), Failure> {
        let scale = i128::from(scale);
        for (own, coefficient) in dim.terms() {
            let product = match monomial {
                Some(monomial) => monomial.mul(own)?,
                None => own.clone(),
            };
            self.add_term(product, scale * i128::from(*coefficient))?;
        }
        let constant = scale * i128::from(dim.constant_term());
        match monomial {
            Some(monomial) => self.add_term(monomial.clone(), constant),
            None => {
                let sum = self.constant.checked_add(constant);
                self.constant = sum.ok_or(Failure::Overflow)?;
                Ok(())
            }
        }
    }

    pub(super) fn add_term(&mut self, monomial: Monomial, amount: i128) -> Result<(), Failure> {
        if amount == 0 {
            return Ok(());
        }
        let coefficient = self.terms.entry(monomial).or_insert(0);
        *coefficient = coefficient.checked_add(amount).ok_or(Failure::Overflow)?;
        if self.terms.len() > MAX_WEIGHT {
            return Err(Failure::TooComplex);
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Dim, Failure> {
        let narrow = |wide: i128| i64::try_from(wide).map_err(|_| Failure::Overflow);
        let mut terms = Vec::with_capacity(self.terms.len());
        for (monomial, coefficient) in self.terms {
            if coefficient != 0 {
                terms.push((monomial, narrow(coefficient)?));
            }
        }
        Dim::from_terms(terms, narrow(self.constant)?)
    }
}
