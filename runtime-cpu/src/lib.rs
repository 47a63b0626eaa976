//! Runs Programs with SIMD kernels and threads.

pub mod conv;
pub mod conv_grad;
pub mod depthwise;
mod exec;
pub mod gemm;
pub mod isa;
pub mod memory;
mod nest;
pub mod peak;
pub mod pool;
mod target;
mod tile;
pub mod window;

pub use exec::{Binding, CpuOptions, Executable, Role, RunError, Workspace};
pub use target::CpuTarget;
