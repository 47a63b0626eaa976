//! Scalar values and the scalar functions: the one place where an elementwise operation is defined.

pub mod erf;
mod functions;
pub mod narrow;
mod number;
mod product;
mod table;
mod value;

pub use functions::{Class, Derivative, Domain, ScalarDef};
pub use number::Number;
pub use product::Product;
pub use table::ScalarFn;
pub use value::Scalar;
