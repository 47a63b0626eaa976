//! Differentiates, rewrites, fuses and lowers graphs to Programs.
