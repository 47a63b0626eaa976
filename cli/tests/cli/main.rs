//! The binary as a user meets it: exit codes, messages, files. Every command runs under a limit of 2 GiB
//! of address space, so that memory taken before a check fails it.

mod bounds;
mod command;
mod data_files;
mod documents;
mod graphs;
mod images;
mod outputs;
mod runs;
mod values;
mod verbs;
mod weights;
