//! Kernel benchmarks and the runner against other systems.

pub mod kills;
