//! Convolutions on every instruction set of this machine, against naive sums in `f64`.

mod case;
mod direct;
mod winograd;
