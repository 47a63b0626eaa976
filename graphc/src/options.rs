//! Choices that hold for a whole session.

use std::fmt;
use std::str::FromStr;

use graphc_optimizer::driver;

use crate::error::Error;

/// Where functions run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// SIMD kernels on the threads of this machine.
    #[default]
    Cpu,
    /// A graphics processor.
    Gpu,
    /// The reference interpreter: slow, and the definition of every operation.
    Reference,
}

impl Device {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Gpu => "gpu",
            Device::Reference => "reference",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device, Error> {
        [Device::Cpu, Device::Gpu, Device::Reference].into_iter().find(|d| d.name() == name).ok_or_else(
            || Error::Usage(format!("there is no device `{name}`; the devices are cpu, gpu and reference")),
        )
    }
}

/// What compilation may do and how much memory a session may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options of the optimizer.
    pub optimizer: driver::Options,
    /// Bytes that state, staged values and one run may need together; more is refused before anything
    /// is allocated. `None`: what this process may have.
    pub memory_limit: Option<usize>,
    /// Bytes of compiled functions that are kept; the least recently used go first. The one in use stays
    /// whatever its size.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { optimizer: driver::Options::default(), memory_limit: None, cache_bytes: 1 << 30 }
    }
}
