//! Reading a module.

use std::path::Path;

use super::diagnostic::{Diagnostic, Report};
use super::link::link;
use super::{json, migrate, v1};
use crate::module::Module;

/// What a file may cost; checked before memory is taken.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of the JSON text.
    pub json: json::Limits,
    /// Elements of tensors in the module itself.
    pub elements: usize,
    /// Bytes of tensors in weights files, each counted as often as it is read.
    pub weights: usize,
    /// Problems that are told; the others are counted.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { json: json::Limits::default(), elements: 1 << 20, weights: usize::MAX, problems: 100 }
    }
}

/// How a module is read.
#[derive(Clone, Debug)]
pub struct DecodeOptions<'o> {
    /// The file's name, for messages.
    pub file: &'o str,
    /// What it may cost.
    pub limits: Limits,
    /// The folder of its weights; without one, state with weights in a file has no value, and a constant
    /// in a file is an error.
    pub folder: Option<&'o Path>,
}

impl Default for DecodeOptions<'_> {
    fn default() -> Self {
        DecodeOptions { file: "module", limits: Limits::default(), folder: None }
    }
}

/// Reads and checks a module in time linear in its size.
///
/// # Errors
/// All independent problems of the file, in its order.
pub fn decode(bytes: &[u8], options: &DecodeOptions<'_>) -> Result<Module, Vec<Diagnostic>> {
    let mut report = Report::new(options.file, bytes, options.limits.problems.max(1));
    let root = match json::parse(bytes, &options.limits.json) {
        Ok(root) => root,
        Err(e) => {
            report.json(&e);
            return Err(report.finish());
        }
    };
    if !migrate::gate(&root, &mut report) {
        return Err(report.finish());
    }
    let wire = v1::read(&root, &mut report);
    let module = link(&wire, &mut report, options.folder, &options.limits);
    if report.count() == 0 { Ok(module) } else { Err(report.finish()) }
}
