//! The graph of graphc: its types and operations, the reference interpreter, the file format, and
//! the Program language that runtimes execute.
//!
//! Nothing here knows the optimizer or a device.

// First, for its macro.
#[macro_use]
pub mod error;

pub mod autodiff;
pub mod builder;
pub mod control;
pub mod dim;
pub mod dot;
pub mod dtype;
pub mod expr;
pub mod graph;
pub mod interp;
pub mod module;
pub mod ops;
pub mod origin;
pub mod print;
pub mod program;
pub mod random;
pub mod scalar;
pub mod stage;
mod sugar;
pub mod target;
pub mod tensor;
pub mod text;
pub mod types;
pub mod wire;

pub use builder::Builder;
pub use dim::{Binding, Dim};
pub use dtype::DType;
pub use error::{Error, Result};
pub use expr::{Expr, Scope};
pub use graph::{Graph, Node, NodeId, ValueId};
pub use module::{Function, Module, StateDecl, StateRole};
pub use ops::Op;
pub use origin::Origins;
pub use scalar::{Number, Scalar, ScalarFn};
pub use tensor::{Element, Tensor};
pub use types::TensorType;
