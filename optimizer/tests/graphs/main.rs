//! What graphs become: the steps of their Programs, counted, and what these compute.

mod common;
mod convolution_networks;
mod four_graphs;
mod recurrent;
