//! Test suites that cross crates.
