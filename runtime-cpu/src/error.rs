//! Why a kernel failed.

use thiserror::Error;

use crate::pool::PoolError;

/// Why a kernel failed.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The scratch is smaller than the kernel's module says.
    #[error("{kernel} needs {needed} bytes of scratch, but was given {given}")]
    Scratch {
        /// Which kernel.
        kernel: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        given: usize,
    },
    /// A thread panicked, in a function of an [`Epilogue`](crate::gemm::Epilogue).
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl KernelError {
    /// Fails unless there are as many bytes as needed.
    pub(crate) fn check_scratch(
        kernel: &'static str,
        needed: usize,
        given: usize,
    ) -> Result<(), KernelError> {
        if given < needed { Err(KernelError::Scratch { kernel, needed, given }) } else { Ok(()) }
    }
}

impl From<KernelError> for PoolError {
    /// A step gives its kernels the scratch that they ask for, so only threads fail.
    fn from(error: KernelError) -> PoolError {
        match error {
            KernelError::Pool(error) => error,
            other => PoolError::Panicked { message: other.to_string() },
        }
    }
}
