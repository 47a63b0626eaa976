//! The Program verifier: everything that a runtime relies on without checking it again.
//!
//! What it leaves to the run are the data: indices of gathers and scatters, and conditions of checks.

mod access;
mod body;
mod buffers;
mod in_place;
mod kernel;
mod nested;
mod order;
mod plan;
mod region;
mod written;

use super::{Program, Step};
use crate::error::Result;

/// Checks a Program; the error names the step by its index, kind and origins.
pub(super) fn verify(program: &Program) -> Result<()> {
    buffers::check(program)?;
    for (i, step) in program.steps.iter().enumerate() {
        kernel::check(program, step).map_err(|e| e.at(place(i, step)))?;
    }
    order::check(program)?;
    plan::check(program)
}

/// How errors name a step.
fn place(index: usize, step: &Step) -> String {
    if step.origins.is_empty() {
        format!("step {index} ({})", step.kind())
    } else {
        format!("step {index} ({}, from {})", step.kind(), step.origins)
    }
}
