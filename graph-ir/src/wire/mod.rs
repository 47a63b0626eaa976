//! The file format: versioned JSON with the weights beside it.

pub mod json;
pub mod suggest;
