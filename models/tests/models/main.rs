//! The models against their files and against independent implementations.

mod classifiers;
mod common;
mod convolutional;
mod layers;
mod sequences;
mod shipped;
mod stress;
mod two_layer;
