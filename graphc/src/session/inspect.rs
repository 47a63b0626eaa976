//! Looking into functions: their symbols, and their graphs between the passes.

use std::collections::BTreeSet;

use graphc_ir::stage::Stage;
use graphc_ir::{Dim, Function, Graph, Module, Tensor};
use graphc_optimizer::driver;

use super::{Session, feeds};
use crate::error::{Result, compiling};

impl Session {
    /// The symbols that a function's dims are made of, by name.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if there is no such function.
    pub fn symbols(&self, name: &str) -> Result<Vec<String>> {
        Ok(symbols(function_dims(self.function(name)?)))
    }

    /// The sizes of all symbols of a function: those that the session knows, those that feeds tell, and for the others `fill`, or their
    /// least size if that is larger.
    ///
    /// # Errors
    /// Those of [`Session::run`] that can be told of the feeds.
    pub fn sizes(&self, name: &str, feeds: &[(&str, &Tensor)], fill: usize) -> Result<Vec<(String, usize)>> {
        let function = self.function(name)?;
        let binding = feeds::bind(name, function, feeds, self.dims())?;
        let bounds = &function.graph.infer().bounds;
        let size = |symbol: String| {
            let filled = || bounds.lower(&symbol).max(i64::try_from(fill).unwrap_or(i64::MAX));
            let size = binding.get(&symbol).unwrap_or_else(filled);
            (symbol, usize::try_from(size).unwrap_or_default())
        };
        Ok(self.symbols(name)?.into_iter().map(size).collect())
    }

    /// A function's graph after a stage of compilation for this session's device. From [`Stage::Bound`] on,
    /// the session must know the sizes of all symbols.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if there is no such function, [`crate::Error::Data`] if sizes are not known or do not fit.
    pub fn graph_at(&self, name: &str, stage: Stage) -> Result<Graph> {
        let function = self.function(name)?;
        let binding = self.dims();
        if stage >= Stage::Bound {
            self.bind(name, function, binding)?;
        }
        driver::at_stage(function, stage, Some(binding), self.executor.target(), &self.options.optimizer)
            .map_err(|e| compiling("", &e))
    }
}

/// The symbols of a module, by name.
pub(crate) fn module_symbols(module: &Module) -> Vec<String> {
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
