//! From a function and its feeds to compiled code, by way of the cache.

use std::sync::Arc;

use graphc_ir::dim::Binding;
use graphc_ir::ops::Op;
use graphc_ir::{Function, Graph, Tensor, ValueId};
use graphc_optimizer::driver;
use graphc_optimizer::remarks::Remarks;

use super::cache::{Fixed, Specialization};
use super::{Session, feeds};
use crate::error::{Error, Result, compiling};
use crate::executor::Source;
use crate::memory;

impl Session {
    /// What was compiled for feeds of these shapes, or is now.
    pub(super) fn specialization(
        &self,
        name: &str,
        feeds: &[(&str, &Tensor)],
    ) -> Result<Arc<Specialization>> {
        let (index, function) = self.find(name)?;
        if let Some(found) = self.cache().find(index, &function.inputs, feeds) {
            return Ok(found);
        }
        let binding = feeds::bind(name, function, feeds, self.state.dims())?;
        if let Some(found) = self.cache().get(index, &binding) {
            return Ok(found);
        }
        let compiled = Arc::new(self.specialize(name, index, function, binding)?);
        self.cache().insert(compiled.clone());
        Ok(compiled)
    }

    fn specialize(
        &self,
        name: &str,
        index: usize,
        function: &Function,
        binding: Binding,
    ) -> Result<Specialization> {
        let bound = self.bind(name, function, &binding)?;
        let code = self.executor.compile(&self.source(name, index, function, &bound, &binding)?)?;
        let fixed = |v: &ValueId| (bound.ty(*v).dtype, bound.ty(*v).static_shape());
        let outputs: Vec<Fixed> = bound.results()[..function.outputs.len()].iter().map(fixed).collect();
        memory::check_tensors("an output", &outputs)?;
        let inputs = bound.inputs().iter().map(fixed).collect();
        Ok(Specialization { function: index, binding, inputs, outputs, reads: state_reads(function), code })
    }

    /// What executors need to compile a function.
    pub(super) fn source<'a>(
        &'a self,
        name: &str,
        index: usize,
        function: &'a Function,
        bound: &'a Graph,
        binding: &'a Binding,
    ) -> Result<Source<'a>> {
        let outputs = &bound.results()[..function.outputs.len()];
        let fed = bound.inputs().iter().chain(outputs).filter_map(|v| memory::tensor_bytes(bound.ty(*v)));
        let other_bytes = fed.fold(self.state_bytes(function, binding), usize::saturating_add);
        let (options, memory_limit) = (&self.options, self.memory_limit);
        let optimized = self.optimized(name, index, function)?;
        Ok(Source { function, bound, optimized, binding, options, memory_limit, other_bytes })
    }

    /// Bytes of the state that is there while a function runs.
    pub(super) fn state_bytes(&self, function: &Function, binding: &Binding) -> usize {
        let reads = state_reads(function);
        let used = |i: usize| reads.binary_search(&i).is_ok() || function.updates.contains(&i);
        self.state.bytes(&self.module, used, binding)
    }

    /// The built graph with numbers for dims, all of whose values can exist.
    pub(super) fn bind(&self, name: &str, function: &Function, binding: &Binding) -> Result<Graph> {
        let bound = function.graph.bind(binding).map_err(|e| {
            let hint =
                if e.message.contains("is not known") { "; give it, as with `--dim B=32`" } else { "" };
            Error::Data(format!("function `{name}`: {e}{hint}"))
        })?;
        memory::live_bytes(&bound)?;
        Ok(bound)
    }

    /// The optimized graph of a function, with symbolic dims.
    pub(super) fn optimized(&self, name: &str, index: usize, function: &Function) -> Result<&Graph> {
        if let Some(graph) = self.optimized[index].get() {
            return Ok(graph);
        }
        // The passes hold a few graphs at a time, whatever the sizes of tensors are.
        let bytes = function.graph.len().saturating_mul(memory::COMPILED_NODE);
        let what = format!("compiling function `{name}` of {} nodes", function.graph.len());
        memory::check(&what, bytes, self.memory_limit)?;
        graphc_ir::stage::check_divisors(&function.graph)
            .map_err(|e| Error::Data(format!("function `{name}`: {e}")))?;
        let graph = driver::optimize(function, &self.options.optimizer, &mut Remarks::default())
            .map_err(|e| compiling(&format!("function `{name}` cannot be optimized: "), &e))?;
        Ok(self.optimized[index].get_or_init(|| graph))
    }
}

/// State variables that a function's results depend on.
pub(super) fn state_reads(function: &Function) -> Vec<usize> {
    let graph = &function.graph;
    let live = graph.live_nodes();
    let mut reads: Vec<usize> = graph
        .nodes()
        .filter(|(id, _)| live[id.index()])
        .filter_map(|(_, node)| if let Op::StateRead(s) = &node.op { Some(s.index) } else { None })
        .collect();
    reads.sort_unstable();
    reads.dedup();
    reads
}
