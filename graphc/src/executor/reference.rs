//! The reference interpreter as a device.

use std::sync::Arc;

use graphc_ir::interp;
use graphc_ir::{DType, Graph, Tensor};

use super::{Run, Source, StateAccess, failed};
use crate::error::Result;
use crate::memory;
use crate::session::feeds;

/// The bound graph, if its values fit the memory limit.
pub(super) fn compile(source: &Source<'_>) -> Result<Graph> {
    let bytes = memory::live_bytes(source.bound)?.saturating_add(source.other_bytes);
    memory::check("a run on the reference device", bytes, source.memory_limit)?;
    Ok(source.bound.clone())
}

/// Evaluates the graph, then assigns the updates all at once.
pub(super) fn run(graph: &Graph, run: Run<'_>) -> Result<()> {
    let Run { function, feeds, outputs, state, .. } = run;
    let inputs: Vec<&Tensor> =
        function.inputs.iter().enumerate().filter_map(|(i, name)| feeds::find(feeds, i, name)).collect();
    // A variable without a value is not read: the session has checked that.
    let nothing = Tensor::zeros(DType::Bool, &[0]);
    let values: Vec<&Tensor> =
        state.get().values().iter().map(|v| v.as_deref().unwrap_or(&nothing)).collect();
    let mut results = interp::eval(graph, &inputs, &values).map_err(failed)?;
    let updates = results.split_off(outputs.len());
    for (output, result) in outputs.iter_mut().zip(results) {
        *output = result;
    }
    if let StateAccess::Exclusive(state) = state {
        for (i, value) in function.updates.iter().zip(updates) {
            state.assign(*i, Arc::new(value));
        }
    }
    Ok(())
}
