//! Differentiates, rewrites, fuses and lowers graphs to Programs.

pub mod compile;
pub mod driver;
pub mod expand;
pub mod fold_norm;
pub mod fuse;
pub mod grad;
pub mod layout;
pub mod lower;
pub mod plan;
pub mod remarks;
pub mod rules;
pub mod staging;
