//! Conditions on dimensions that have to wait for the sizes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use super::bind::Binding;
use super::bounds::Bounds;
use super::error::DimError;
use super::poly::Dim;
use super::prove::{Truth, proves_divisible, proves_eq, proves_le};
use super::symbol::Symbol;

/// A condition on dimensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Requirement {
    /// The two are equal.
    Equal(Dim, Dim),
    /// The dimension is a multiple of the number, which is at least 1.
    Divisible(Dim, i64),
    /// The dimension is at least the number.
    AtLeast(Dim, i64),
    /// The dimension is at most the number.
    AtMost(Dim, i64),
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(a, b) => write!(f, "{a} = {b}"),
            Self::Divisible(dim, divisor) => write!(f, "{dim} divisible by {divisor}"),
            Self::AtLeast(dim, least) => write!(f, "{dim} >= {least}"),
            Self::AtMost(dim, most) => write!(f, "{dim} <= {most}"),
        }
    }
}

impl Requirement {
    /// Whether it holds for all sizes, for none, or depends on them.
    #[must_use]
    pub fn truth(&self, bounds: &Bounds) -> Truth {
        match self {
            Self::Equal(a, b) => proves_eq(a, b, bounds),
            Self::Divisible(dim, divisor) => proves_divisible(dim, *divisor),
            Self::AtLeast(dim, least) => proves_le(&Dim::constant(*least), dim, bounds),
            Self::AtMost(dim, most) => proves_le(dim, &Dim::constant(*most), bounds),
        }
    }

    /// Checks it for known sizes; `why` is told in the error.
    ///
    /// # Errors
    /// [`DimError::Violated`], or an error of [`Dim::bind`].
    pub fn check(&self, binding: &Binding, why: &str) -> Result<(), DimError> {
        let (holds, numbers, given) = match self {
            Self::Equal(a, b) => {
                let (left, right) = (a.bind(binding)?, b.bind(binding)?);
                let numbers = format!("{left} is not {right}");
                (left == right, numbers, binding.given([a, b]))
            }
            Self::Divisible(dim, divisor) => {
                let value = dim.bind(binding)?;
                let numbers = format!("{value} is not a multiple of {divisor}");
                let holds = *divisor > 0 && value % divisor == 0;
                (holds, numbers, binding.given([dim]))
            }
            Self::AtLeast(dim, least) => {
                let value = dim.bind(binding)?;
                let numbers = format!("{value} is below {least}");
                (value >= *least, numbers, binding.given([dim]))
            }
            Self::AtMost(dim, most) => {
                let value = dim.bind(binding)?;
                let numbers = format!("{value} is above {most}");
                (value <= *most, numbers, binding.given([dim]))
            }
        };
        if holds {
            return Ok(());
        }
        Err(DimError::Violated { statement: self.to_string(), numbers, given, why: why.to_owned() })
    }

    fn substitute(&self, replacements: &BTreeMap<Symbol, Dim>) -> Result<Self, DimError> {
        Ok(match self {
            Self::Equal(a, b) => Self::Equal(a.substitute(replacements)?, b.substitute(replacements)?),
            Self::Divisible(dim, divisor) => Self::Divisible(dim.substitute(replacements)?, *divisor),
            Self::AtLeast(dim, least) => Self::AtLeast(dim.substitute(replacements)?, *least),
            Self::AtMost(dim, most) => Self::AtMost(dim.substitute(replacements)?, *most),
        })
    }
}

/// The requirements that could not be proved, without repetition, in the order of recording, each
/// with the reason it was first recorded for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requires {
    /// Shared until it changes: what a graph requires is copied for every definition that is expanded in it.
    recorded: Arc<IndexMap<Requirement, String>>,
}

impl Requires {
    /// No requirements.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires `a == b`; `why` names what asks for it, such as ``the operands of `add` ``.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when they are proved to differ.
    pub fn require_eq(&mut self, a: &Dim, b: &Dim, why: &str, bounds: &Bounds) -> Result<(), DimError> {
        self.require(Requirement::Equal(a.clone(), b.clone()), why, bounds)
    }

    /// Requires `dim` to be a multiple of `divisor`.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when it is proved not to be, [`DimError::BadDivisor`] when
    /// `divisor` is below 1.
    pub fn require_divisible(
        &mut self,
        dim: &Dim,
        divisor: i64,
        why: &str,
        bounds: &Bounds,
    ) -> Result<(), DimError> {
        if divisor < 1 {
            let dim = dim.clone();
            return Err(DimError::BadDivisor { dim, divisor });
        }
        self.require(Requirement::Divisible(dim.clone(), divisor), why, bounds)
    }

    /// Requires `dim >= least`.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when it is proved to be below.
    pub fn require_at_least(
        &mut self,
        dim: &Dim,
        least: i64,
        why: &str,
        bounds: &Bounds,
    ) -> Result<(), DimError> {
        self.require(Requirement::AtLeast(dim.clone(), least), why, bounds)
    }

    /// Requires `dim <= most`.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when it is proved to be above.
    pub fn require_at_most(
        &mut self,
        dim: &Dim,
        most: i64,
        why: &str,
        bounds: &Bounds,
    ) -> Result<(), DimError> {
        self.require(Requirement::AtMost(dim.clone(), most), why, bounds)
    }

    /// Records a requirement unless it is proved.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when it is disproved.
    pub fn require(&mut self, requirement: Requirement, why: &str, bounds: &Bounds) -> Result<(), DimError> {
        match requirement.truth(bounds) {
            Truth::Yes => Ok(()),
            Truth::No => {
                Err(DimError::Impossible { statement: requirement.to_string(), why: why.to_owned() })
            }
            Truth::Unknown => {
                self.record(requirement, why);
                Ok(())
            }
        }
    }

    fn record(&mut self, requirement: Requirement, why: &str) {
        if let Requirement::Equal(a, b) = &requirement
            && self.recorded.contains_key(&Requirement::Equal(b.clone(), a.clone()))
        {
            return;
        }
        if !self.recorded.contains_key(&requirement) {
            Arc::make_mut(&mut self.recorded).insert(requirement, why.to_owned());
        }
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        for (requirement, why) in other.recorded.iter() {
            self.record(requirement.clone(), why);
        }
    }

    /// These requirements with symbols replaced, as where a call is inlined; what can now be proved
    /// is dropped.
    ///
    /// # Errors
    /// [`DimError::Impossible`] when one is now disproved, or an error of [`Dim::substitute`].
    pub fn substitute(
        &self,
        replacements: &BTreeMap<Symbol, Dim>,
        bounds: &Bounds,
    ) -> Result<Self, DimError> {
        let mut result = Self::new();
        for (requirement, why) in self.recorded.iter() {
            result.require(requirement.substitute(replacements)?, why, bounds)?;
        }
        Ok(result)
    }

    /// Checks every requirement for known sizes.
    ///
    /// # Errors
    /// One error for each that does not hold or cannot be evaluated, in order.
    pub fn check(&self, binding: &Binding) -> Result<(), Vec<DimError>> {
        let check = |(requirement, why): (&Requirement, &String)| requirement.check(binding, why);
        let results = self.recorded.iter().map(check);
        let errors: Vec<_> = results.filter_map(Result::err).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The requirements and their reasons, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Requirement, &str)> {
        self.recorded.iter().map(|(requirement, why)| (requirement, why.as_str()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recorded.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }
}
