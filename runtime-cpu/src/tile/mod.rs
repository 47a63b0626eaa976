//! Functions over tiles: arrays of a few thousand elements that stay in the first cache.
//!
//! Every function is one generic loop over scalar, branch-free code; [`kernel::compiled`] makes a
//! version of it for each instruction set, which the compiler vectorizes.
//!
//! *Boundary:* nothing here knows of programs, views or threads.

pub mod cast;
pub mod fold;
pub mod kernel;
pub mod map;
mod math32;
mod math64;
mod moments;
pub mod movement;
mod number;
mod product;
pub mod random;
mod sweep;

#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod tests;

pub(crate) use kernel::with_number;

use crate::threshold::Threshold;

/// The thresholds of the loops, by module.
pub(crate) const THRESHOLDS: &[&[Threshold]] = &[sweep::THRESHOLDS, fold::THRESHOLDS];
