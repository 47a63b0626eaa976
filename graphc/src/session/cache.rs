//! Compiled functions, the least recently used of which are dropped when they take too many bytes.

use std::sync::Arc;

use graphc_ir::dim::Binding;
use graphc_ir::{DType, Tensor};

use super::feeds;
use crate::error::Result;
use crate::executor::Code;
use crate::memory;

/// Element type and sizes.
pub(crate) type Fixed = (DType, Vec<usize>);

/// A function compiled for one binding of its dims.
#[derive(Debug)]
pub(crate) struct Specialization {
    /// Position of the function in the module.
    pub function: usize,
    pub binding: Binding,
    /// Types of the inputs, in order.
    pub inputs: Vec<Fixed>,
    /// Types of the outputs, in order.
    pub outputs: Vec<Fixed>,
    /// State variables that must have a value.
    pub reads: Vec<usize>,
    pub code: Code,
}

impl Specialization {
    /// Tensors for the outputs of a run. That they fit the process was found when the function was compiled: a run
    /// must not ask the system how much memory there is, which costs more than a small function does.
    pub fn new_outputs(&self) -> Result<Vec<Tensor>> {
        let zeros = |(dtype, shape): &Fixed| {
            memory::check_room("an output", *dtype, shape)?;
            Ok(Tensor::zeros(*dtype, shape))
        };
        self.outputs.iter().map(zeros).collect()
    }
}

/// The compiled functions of a session.
#[derive(Debug)]
pub(crate) struct Cache {
    /// The most recently used comes last.
    entries: Vec<Arc<Specialization>>,
    most_bytes: usize,
}

impl Cache {
    pub fn new(most_bytes: usize) -> Cache {
        Cache { entries: Vec::new(), most_bytes }
    }

    /// What was compiled for feeds of exactly these names, types and shapes. Allocates nothing.
    pub fn find(
        &mut self,
        function: usize,
        names: &[String],
        feeds: &[(&str, &Tensor)],
    ) -> Option<Arc<Specialization>> {
        let fits = |s: &Arc<Specialization>| {
            s.function == function
                && feeds.len() == names.len()
                && names.iter().zip(&s.inputs).enumerate().all(|(i, (name, (dtype, shape)))| {
                    feeds::find(feeds, i, name).is_some_and(|t| t.dtype() == *dtype && t.shape() == shape)
                })
        };
        self.used(fits)
    }

    /// What was compiled for a binding.
    pub fn get(&mut self, function: usize, binding: &Binding) -> Option<Arc<Specialization>> {
        self.used(|s| s.function == function && s.binding == *binding)
    }

    fn used(&mut self, wanted: impl Fn(&Arc<Specialization>) -> bool) -> Option<Arc<Specialization>> {
        let at = self.entries.iter().rposition(wanted)?;
        self.entries[at..].rotate_left(1);
        self.entries.last().cloned()
    }

    /// Adds a specialization and drops old ones until the rest fits.
    pub fn insert(&mut self, specialization: Arc<Specialization>) {
        self.entries.push(specialization);
        let mut bytes: usize = self.entries.iter().map(|s| s.code.bytes()).sum();
        while bytes > self.most_bytes && self.entries.len() > 1 {
            bytes -= self.entries.remove(0).code.bytes();
        }
    }
}
