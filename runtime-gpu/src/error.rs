//! Why a device cannot be opened or used.

use std::time::Duration;

use thiserror::Error;

use crate::cache::CACHE_VARIABLE;

/// How long a run may take before the device is given up.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Why a device cannot be opened or used.
#[derive(Clone, Debug, Error)]
pub enum GpuError {
    /// There is none.
    #[error("no GPU adapter is there; install a Vulkan, Metal or DirectX 12 driver, or run on the cpu")]
    NoAdapter,
    /// None has this name.
    #[error("no GPU adapter is named like `{wanted}`; there are {known}")]
    Unknown {
        /// The name that was asked for.
        wanted: String,
        /// The names that there are.
        known: String,
    },
    /// The driver refused.
    #[error("the GPU {adapter} cannot be opened: {reason}")]
    Open {
        /// Its name.
        adapter: String,
        /// What the driver says.
        reason: String,
    },
    /// A tensor is larger than a memory may be.
    #[error(
        "a tensor of {needed} bytes is larger than the {limit} bytes that a memory of this GPU may have; use smaller dims, \
         such as a smaller batch"
    )]
    TooLarge {
        /// Bytes of the tensor.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// A shader reads and writes more arrays than it may bind.
    #[error("a step binds {needed} arrays, but a shader of this GPU binds {limit} at most; run on the cpu")]
    TooMany {
        /// Arrays.
        needed: usize,
        /// The limit.
        limit: usize,
    },
    /// Loops would be ended by the driver.
    #[error(
        "a shader goes through its loops {turns} times, but this GPU's driver ends them after {limit} times; use smaller dims, such \
         as a smaller batch, or run on the cpu"
    )]
    TooLong {
        /// Turns of an invocation's loops.
        turns: usize,
        /// The limit.
        limit: usize,
    },
    /// Memory is exhausted.
    #[error("the GPU has no memory for {what}; use smaller dims, such as a smaller batch")]
    OutOfMemory {
        /// For what.
        what: String,
    },
    /// The device is gone.
    #[error("the GPU was lost: {0}; open the session again")]
    Lost(String),
    /// A run took too long.
    #[error("the GPU did not finish within {} seconds", TIMEOUT.as_secs())]
    Timeout,
    /// The folder for compiled pipelines is of no use.
    #[error(
        "the folder for compiled pipelines cannot be used: {path}: {reason}; name another one in {CACHE_VARIABLE}, or leave it \
         out"
    )]
    Cache {
        /// The folder or a file in it.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A bug of ours or of the driver.
    #[error("{what} was refused by the GPU's driver: {message}")]
    Refused {
        /// What.
        what: String,
        /// What it says.
        message: String,
    },
}
