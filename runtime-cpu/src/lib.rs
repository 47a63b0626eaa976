//! Runs Programs with SIMD kernels and threads.

pub mod conv;
pub mod conv_grad;
pub mod depthwise;
mod error;
mod exec;
pub mod gemm;
mod geometry;
pub mod heap;
pub mod isa;
pub mod memory;
mod nest;
pub mod peak;
pub mod pool;
mod target;
pub mod threshold;
mod tile;
pub mod window;

pub use error::KernelError;
pub use exec::{Binding, CpuOptions, Executable, Role, RunError, Workspace};
pub use geometry::Geometry;
pub use target::CpuTarget;
