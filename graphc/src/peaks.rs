//! What the processor can do at most, measured.

use graphc_cpu::isa::Isa;
use graphc_cpu::peak;

use crate::error::{Error, Result};

/// Peaks of one core.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// `f32` operations a second, a multiply-add counting as two.
    pub flops: f64,
    /// Bytes a second that are read from memory, or from a cache that holds 64 MiB.
    pub bandwidth: f64,
}

impl Peaks {
    /// Measures this machine, with the instruction set that runs use.
    ///
    /// # Errors
    /// [`Error::Device`] if the instruction set that was asked for is not there, or memory is refused.
    pub fn measure() -> Result<Peaks> {
        let isa = Isa::detect().map_err(|e| Error::Device(e.to_string()))?;
        let bandwidth = peak::bandwidth().map_err(|e| Error::Device(e.to_string()))?;
        Ok(Peaks { flops: peak::flops(isa), bandwidth })
    }
}
