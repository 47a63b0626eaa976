//! The levels of compilation at which a function can run.

use std::fmt;

use graphc_ir::dim::Binding;
use graphc_ir::program::reference::execute_in_arena;
use graphc_ir::stage::Stage;
use graphc_ir::target::Reference;
use graphc_ir::{DType, Function, Module, Scalar, Tensor, interp};
use graphc_optimizer::driver;
use graphc_optimizer::remarks::Remarks;

use crate::error::{Error, Result};
use crate::options::{Device, Options};
use crate::session::{Session, State, binding_of, feeds, module_symbols};

/// How far a function is compiled, and what runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The graph as built, interpreted: the definition.
    Built,
    /// The optimized graph with bound dims, interpreted.
    Optimized,
    /// The graph with clusters, interpreted.
    Fused,
    /// The Program, in the reference executor, on planned memory.
    Program,
    /// The Program for the CPU, there.
    Cpu,
    /// The Program for a GPU, there.
    Gpu,
}

impl Level {
    /// Every level but the definition, and but for a GPU, which not every machine has.
    pub const COMPILED: [Level; 4] = [Level::Optimized, Level::Fused, Level::Program, Level::Cpu];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Built => "built",
            Level::Optimized => "optimized",
            Level::Fused => "fused",
            Level::Program => "program",
            Level::Cpu => "cpu",
            Level::Gpu => "gpu",
        }
    }

    /// Outputs and updated state of one run, by name.
    pub(super) fn results(
        self,
        module: &Module,
        name: &str,
        given: Given<'_>,
        options: &Options,
    ) -> Result<Vec<(String, Tensor)>> {
        let function = module.function(name).map_err(|e| Error::Usage(e.to_string()))?;
        let results = match self {
            Level::Built => on_device(module, name, function, given, options, Device::Reference)?,
            Level::Cpu => on_device(module, name, function, given, options, Device::Cpu)?,
            Level::Gpu => on_device(module, name, function, given, options, Device::Gpu)?,
            _ => self.interpreted(module, name, function, given, options)?,
        };
        let outputs = function.outputs.iter().map(|o| o.name.clone());
        let updates = function.updates.iter().map(|i| format!("state `{}`", module.state[*i].name));
        Ok(outputs.chain(updates).zip(results).collect())
    }

    fn interpreted(
        self,
        module: &Module,
        name: &str,
        function: &Function,
        given: Given<'_>,
        options: &Options,
    ) -> Result<Vec<Tensor>> {
        let Bound { binding, inputs, mut values } = bind(module, name, function, given)?;
        if self == Level::Program {
            return program(function, &binding, &inputs, &mut values, options).map_err(|e| self.broken(&e));
        }
        let stage = if self == Level::Fused { Stage::Fused } else { Stage::Layout };
        let graph = driver::at_stage(function, stage, Some(&binding), &Reference, &options.optimizer)
            .map_err(|e| self.broken(&e))?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let values: Vec<&Tensor> = values.iter().collect();
        interp::eval(&graph, &inputs, &values).map_err(|e| self.broken(&e))
    }

    fn broken(self, e: &graphc_ir::Error) -> Error {
        Error::Internal(format!("level `{}` fails where the definition does not: {e}", self.name()))
    }
}

/// What a function runs on: feeds by name, and sizes of dims.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub feeds: &'a [(&'a str, &'a Tensor)],
    pub dims: &'a [(&'a str, usize)],
}

impl Given<'_> {
    /// The sizes of dims that a module has.
    fn dims_of(&self, module: &Module) -> Result<Binding> {
        let known = module_symbols(module);
        let dims = self.dims.iter().filter(|(name, _)| known.iter().any(|k| k == name));
        binding_of(dims.copied(), "the given dims")
    }
}

/// What the interpreter needs.
struct Bound {
    binding: Binding,
    /// In the function's order.
    inputs: Vec<Tensor>,
    /// Of the state, in the module's order.
    values: Vec<Tensor>,
}

fn bind(module: &Module, name: &str, function: &Function, given: Given<'_>) -> Result<Bound> {
    let state = State::new(module, given.dims_of(module)?)?;
    let binding = feeds::bind(name, function, given.feeds, state.dims())?;
    let named = function.inputs.iter().enumerate();
    let inputs = named.filter_map(|(i, n)| feeds::find(given.feeds, i, n).cloned()).collect();
    let mut values = Vec::with_capacity(module.state.len());
    for (decl, value) in module.state.iter().zip(state.values()) {
        values.push(match value {
            Some(value) => Tensor::clone(value),
            // It is not read, or the definition would have failed; it may be written.
            None => {
                let shape =
                    decl.ty.dims.iter().map(|d| d.bind_size(&binding).ok()).collect::<Option<Vec<_>>>();
                Tensor::zeros(decl.ty.dtype, &shape.unwrap_or_else(|| vec![0]))
            }
        });
    }
    Ok(Bound { binding, inputs, values })
}

/// How far each result of a function moves when every value on the way is moved by its last bit, up or down at random
/// (D. S. Parker, Monte Carlo Arithmetic, 1997): the L2 norm of the difference, the largest of a few trials. What is smaller is
/// no property of the function, but of the numbers that it is computed with.
pub(super) fn noise(module: &Module, name: &str, given: Given<'_>) -> Result<Vec<f64>> {
    const TRIALS: u64 = 3;
    let function = module.function(name).map_err(|e| Error::Usage(e.to_string()))?;
    let Bound { binding, inputs, values } = bind(module, name, function, given)?;
    let failed = |e: graphc_ir::Error| Error::Data(e.to_string());
    let graph = function.graph.bind(&binding).map_err(failed)?;
    let (inputs, values): (Vec<&Tensor>, Vec<&Tensor>) = (inputs.iter().collect(), values.iter().collect());
    let exact = interp::eval(&graph, &inputs, &values).map_err(failed)?;
    let mut most = vec![0.0f64; exact.len()];
    for trial in 0..TRIALS {
        let mut count = trial << 48;
        // A trial that a check of the model ends tells nothing.
        let Ok(moved) = interp::eval_with(&graph, &inputs, &values, &mut |t| jitter(t, &mut count)) else {
            continue;
        };
        for ((most, exact), moved) in most.iter_mut().zip(&exact).zip(&moved) {
            let apart = (0..exact.len()).map(|i| exact.get(i).as_f64() - moved.get(i).as_f64());
            let sum: f64 = apart.filter(|d| d.is_finite()).map(|d| d * d).sum();
            *most = most.max(sum.sqrt());
        }
    }
    Ok(most)
}

/// Moves every float by one unit of its last place, relative to its size, up or down.
fn jitter(t: &mut Tensor, count: &mut u64) {
    let unit = match t.dtype() {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 1.0 / 1024.0,
        DType::Bf16 => 1.0 / 128.0,
        _ => return,
    };
    for i in 0..t.len() {
        *count += 1;
        // SplitMix64: one mixed bit for each element.
        let mut z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let by = if (z >> 63) == 0 { 1.0 + unit } else { 1.0 - unit };
        t.set(i, Scalar::F(t.get(i).as_f64() * by));
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn on_device(
    module: &Module,
    name: &str,
    function: &Function,
    given: Given<'_>,
    options: &Options,
    device: Device,
) -> Result<Vec<Tensor>> {
    let mut builder = Session::from_module(module.clone()).device(device).options(options.clone());
    for (symbol, size) in given.dims_of(module)?.iter() {
        builder = builder.dim(symbol.as_str(), usize::try_from(size).unwrap_or_default());
    }
    let mut session = builder.build()?;
    let mut results: Vec<Tensor> = session.run(name, given.feeds.iter().copied())?.into_values().collect();
    for i in &function.updates {
        results.extend(session.state(&module.state[*i].name)?.cloned());
    }
    Ok(results)
}

fn program(
    function: &Function,
    binding: &Binding,
    inputs: &[Tensor],
    state: &mut [Tensor],
    options: &Options,
) -> graphc_ir::Result<Vec<Tensor>> {
    let remarks = &mut Remarks::default();
    let optimized = driver::optimize(function, &options.optimizer, remarks)?;
    let compiled = driver::compile(&optimized, function, binding, &Reference, &options.optimizer, remarks)?;
    let staged = match &compiled.prepare {
        Some(prepare) => execute_in_arena(&prepare.program, &[], state, &[])?,
        None => Vec::new(),
    };
    let mut results = execute_in_arena(&compiled.main, inputs, state, &staged)?;
    results.extend(function.updates.iter().map(|i| state[*i].clone()));
    Ok(results)
}
