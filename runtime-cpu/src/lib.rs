//! Runs Programs with SIMD kernels and threads.

pub mod gemm;
pub mod isa;
pub mod memory;
pub mod pool;
mod tile;
