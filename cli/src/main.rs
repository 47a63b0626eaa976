//! The `graphc` binary.
fn main() {}
