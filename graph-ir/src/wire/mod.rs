//! The file format: versioned JSON with the weights beside it. `docs/format.md` is its description.
//!
//! [`decode`] checks everything and tells all problems at once; [`encode`] writes the canonical form;
//! [`load`] and [`save`] do so with files, weights included.

mod attrs;
mod data;
mod decode;
mod diagnostic;
mod encode;
mod folder;
mod function;
mod ids;
pub mod json;
mod link;
mod linker;
mod lint;
mod migrate;
mod name;
mod normal;
mod order;
pub mod safetensors;
mod schema;
mod store;
pub mod suggest;
mod v1;

pub use decode::{DecodeOptions, Limits, decode};
pub use diagnostic::Diagnostic;
pub use encode::{EncodeOptions, INLINE_ELEMENTS, encode, weights_of};
pub use lint::{Warning, warnings};
pub use migrate::{FORMAT, PRODUCER, VERSION};
pub use name::MAX_NAME;
pub use schema::{ops_reference, schema};
pub use store::{Claim, LoadError, SaveError, claim, load, load_with, save};
