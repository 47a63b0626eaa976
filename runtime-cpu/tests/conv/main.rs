//! Convolutions on every instruction set of this machine, against naive sums in `f64`.

mod accuracy;
mod case;
mod direct;
#[path = "../support/mod.rs"]
mod support;
mod winograd;
