//! Hand-built Programs, run and broken.

mod describe;
mod execute;
mod fixtures;
mod kernels;
mod refuse;
mod refuse_body;
