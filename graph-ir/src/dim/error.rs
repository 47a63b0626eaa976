//! What can go wrong with dimensions, each as one sentence.

use thiserror::Error;

use super::poly::{Dim, MAX_DEPTH, MAX_WEIGHT};
use super::symbol::{MAX_SYMBOL, Symbol};

/// An error of dimension arithmetic, binding or checking.
///
/// A `place` says where a number came from, such as ``axis 0 of `x` ``; `given` lists the values of
/// the symbols involved, each with its place, and is empty when there are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant tells what its fields are")]
pub enum DimError {
    /// A coefficient or a value left the 64-bit integers.
    #[error("the dimension {expression} does not fit a 64-bit integer")]
    Overflow { expression: String },
    /// A result would exceed the limits on size or nesting.
    #[error(
        "the dimension {expression} is too complex (at most {MAX_WEIGHT} parts and {MAX_DEPTH} \
         nested floors): give some of its symbols fixed sizes"
    )]
    TooComplex { expression: String },
    /// A text is not a symbol name.
    #[error(
        "`{name}` is not a symbol name: use a letter or `_`, then letters, digits or `_`, at most \
         {MAX_SYMBOL} in all, and not `floor`"
    )]
    BadSymbol { name: String },
    /// A divisor is 0 or negative.
    #[error("{dim} cannot be divided by {divisor}: a divisor must be at least 1")]
    BadDivisor { dim: Dim, divisor: i64 },
    /// A symbol has no value.
    #[error("the size of `{symbol}` is not known, so {dim} has no value: bind `{symbol}`")]
    Unbound { symbol: Symbol, dim: Dim },
    /// A dimension that must be a size came out negative.
    #[error("the size {dim} is {value}, below 0{}", with(.given))]
    NegativeSize { dim: Dim, value: i64, given: String },
    /// One symbol was given two values.
    #[error("`{symbol}` is {value} by {place}, but {earlier} by {earlier_place}")]
    Contradiction { symbol: Symbol, value: i64, place: String, earlier: i64, earlier_place: String },
    /// A symbol was given a negative value.
    #[error("`{symbol}` is {value} by {place}, but a symbol is never negative")]
    NegativeSymbol { symbol: Symbol, value: i64, place: String },
    /// A symbol's value is under its declared lower bound.
    #[error("`{symbol}` is {value} by {place}, but is declared `{symbol}>={lower}`")]
    UnderBound { symbol: Symbol, value: i64, place: String, lower: i64 },
    /// A size differs from the value of its dimension.
    #[error("{place} has size {found}, but is declared {dim}{}{}", which_is(.dim, *.expected), with(.given))]
    SizeMismatch { place: String, found: i64, dim: Dim, expected: i64, given: String },
    /// An equation for a symbol has no solution in the integers from 0.
    #[error(
        "{place} has size {found}, but {dim} = {found} has no solution for `{symbol}` among the \
         integers from 0{}", with(.given)
    )]
    NoSolution { place: String, found: i64, dim: Dim, symbol: Symbol, given: String },
    /// An equation does not determine its symbols.
    #[error(
        "{place} has size {found}, but {dim} = {found} does not determine {unknown}{}: let another \
         input have {unknown} as an axis", with(.given)
    )]
    Undetermined { place: String, found: i64, dim: Dim, unknown: String, given: String },
    /// A fed size is larger than any dimension can be.
    #[error("{place} has size {found}, which does not fit a 64-bit signed integer")]
    SizeTooLarge { place: String, found: usize },
    /// A fed shape has the wrong number of axes.
    #[error("`{name}` has rank {found} (shape {shape}), but is declared [{declared}] of rank {expected}")]
    RankMismatch { name: String, found: usize, shape: String, declared: String, expected: usize },
    /// A requirement is false whatever the sizes are.
    #[error("{statement} can never hold; it is required by {why}")]
    Impossible { statement: String, why: String },
    /// A requirement is false for the bound sizes.
    #[error("{statement} does not hold: {numbers}{}; it is required by {why}", with(.given))]
    Violated { statement: String, numbers: String, given: String, why: String },
}

fn which_is(dim: &Dim, value: i64) -> String {
    match dim.as_const() {
        Some(_) => String::new(),
        None => format!(", which is {value}"),
    }
}

fn with(given: &str) -> String {
    if given.is_empty() { String::new() } else { format!(" (with {given})") }
}

/// A text that is not a dimension or a type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} (at byte {at})")]
pub struct DimParseError {
    /// Byte offset in the text where the problem starts.
    pub at: usize,
    /// What is wrong there.
    pub message: String,
}
