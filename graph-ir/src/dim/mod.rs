//! Symbolic dimensions: the sizes of axes as integer polynomials in named symbols.
//!
//! A [`Dim`] is a polynomial with 64-bit coefficients whose variables are symbols (`B`) and opaque
//! atoms `floor(d/c)`. It is kept in normal form, so equality, hashing and ordering are structural.
//! A symbol stands for an integer that is never negative; [`Bounds`] may raise that lower bound.
//!
//! * [`proves_eq`], [`proves_le`], [`proves_divisible`] answer with a [`Truth`];
//! * [`Requires`] records what could not be proved, to be checked once sizes are known;
//! * [`unify`] and [`bind_shapes`] read the symbols of declared shapes off the shapes that were fed;
//! * [`Dim::parse`] and `Display` are the text form, [`parse_type`] that of a whole type.

mod atom;
mod bind;
mod bounds;
mod divide;
mod error;
#[cfg(test)]
mod laws;
mod parse;
mod poly;
mod print;
mod prove;
mod require;
mod solve;
mod symbol;
#[cfg(test)]
mod tests;

pub use bind::Binding;
pub use bounds::Bounds;
pub use error::{DimError, DimParseError};
pub use parse::{MAX_TEXT, format_type, parse_type};
pub use poly::{Dim, MAX_DEPTH, MAX_WEIGHT};
pub use prove::{Truth, proves_divisible, proves_eq, proves_le};
pub use require::{Requirement, Requires};
pub use solve::{InputShape, bind_shape, bind_shapes, unify};
pub use symbol::{MAX_SYMBOL, Symbol};
