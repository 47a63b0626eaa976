//! What the test suites share: comparisons, devices, registry checks, oracle vectors, random graphs.
//!
//! * [`compare`] says when two tensors are equal enough;
//! * [`device`] runs a function of a module on anything that can;
//! * [`kernels`] makes problems of single kernels at the sizes where those go another way;
//! * [`registry`] turns an operation's samples into graphs, gradients and finite differences;
//! * [`vectors`] reads `vectors/*.json`, numbers from outside graphc, as modules that any device runs;
//! * [`scale`] makes functions of any number of nodes;
//! * [`random_graph`] makes random well-typed modules and shrinks the ones that fail.

pub mod compare;
pub mod device;
pub mod gpu;
pub mod kernels;
pub mod narrow;
pub mod program;
pub mod random_graph;
pub mod registry;
pub mod scale;
pub mod vectors;
