//! Looking into functions: their symbols, and their graphs between the passes.

use std::collections::BTreeSet;

use graphc_ir::stage::Stage;
use graphc_ir::{Dim, Function, Graph, Module};
use graphc_optimizer::driver;

use super::Session;
use crate::error::{Error, Result};

impl Session {
    /// The symbols that a function's dims are made of, by name.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such function.
    pub fn symbols(&self, name: &str) -> Result<Vec<String>> {
        Ok(symbols(function_dims(self.function(name)?)))
    }

    /// A function's graph after a stage of compilation for this session's device. From [`Stage::Bound`] on,
    /// the session must know the sizes of all symbols.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such function, [`Error::Data`] if sizes are not known or do not fit.
    pub fn graph_at(&self, name: &str, stage: Stage) -> Result<Graph> {
        let function = self.function(name)?;
        let binding = self.dims();
        if stage >= Stage::Bound {
            self.bind(name, function, binding)?;
        }
        driver::at_stage(function, stage, Some(binding), self.executor.target(), &self.options.optimizer)
            .map_err(|e| Error::Internal(e.to_string()))
    }
}

/// The symbols of a module, by name.
pub(super) fn module_symbols(module: &Module) -> Vec<String> {
    let state = module.state.iter().flat_map(|s| &s.ty.dims);
    symbols(state.chain(module.functions.values().flat_map(function_dims)))
}

fn function_dims(function: &Function) -> impl Iterator<Item = &Dim> {
    let graph = &function.graph;
    graph.nodes().flat_map(|(_, n)| n.outs()).flat_map(|v| &graph.ty(v).dims)
}

fn symbols<'d>(dims: impl Iterator<Item = &'d Dim>) -> Vec<String> {
    let names: BTreeSet<String> = dims.flat_map(Dim::symbols).map(|s| s.as_str().to_owned()).collect();
    names.into_iter().collect()
}
