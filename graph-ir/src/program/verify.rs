//! The Program verifier.
use super::Program;
use crate::error::Result;

pub(super) fn verify(_program: &Program) -> Result<()> {
    Ok(())
}
