//! The optimizer and the devices against the definition: the built graph in the reference interpreter.
//!
//! A function runs at every level of compilation on the same feeds and state. Where a level differs, the
//! pass is found by running fewer and fewer of them, and the node by asking for the value of each node
//! of the built graph in turn.

mod compare;
mod level;

use graphc_ir::builder::Builder;
use graphc_ir::module::OutputDecl;
use graphc_ir::{Function, Module, Tensor, ValueId};
use graphc_optimizer::driver;

use crate::error::{Error, Result};
use crate::options::{Device, Options};

pub use compare::Deviation;
use level::Given;
pub use level::Level;

/// A function with what it runs on.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The module; its state must have values.
    pub module: &'a Module,
    /// Name of the function.
    pub function: &'a str,
    /// Feeds by name.
    pub feeds: &'a [(&'a str, &'a Tensor)],
    /// Sizes of dims, at least of those that neither feeds nor state tell.
    pub dims: &'a [(&'a str, usize)],
    /// Largest relative L2 error of floats; other types must be equal. What the last bits of the values on the way make of a result is
    /// no error.
    pub tolerance: f64,
    /// Whether that is only so for results that are nothing else, and any other must keep to the tolerance.
    pub strict: bool,
    /// A device that is compared besides the CPU and the interpreter.
    pub device: Device,
}

/// How one level of compilation compares with the definition.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The level.
    pub level: Level,
    /// The result that differs most.
    pub worst: Deviation,
    /// Where it goes wrong, if it differs by more than the tolerance.
    pub culprit: Option<Culprit>,
}

/// Where a difference comes from.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// The first pass with which the difference appears; `None` if it is there without any of them.
    pub pass: Option<&'static str>,
    /// The first node of the built graph whose value differs, in the user's words; `None` if each alone
    /// is right, so that the difference comes with the context.
    pub node: Option<String>,
    /// The difference of that node.
    pub deviation: Option<Deviation>,
}

/// Runs a function at every level and compares.
///
/// # Errors
/// Those of running the function on the reference device, and whatever a level cannot compile or run.
pub fn verify(case: &Case<'_>, options: &Options) -> Result<Vec<Verdict>> {
    let expected = Level::Built.results(case.module, case.function, case.given(), options)?;
    let gpu = (case.device == Device::Gpu).then_some(Level::Gpu);
    Level::COMPILED.into_iter().chain(gpu).map(|level| judge(case, level, &expected, options)).collect()
}

impl Case<'_> {
    fn given(&self) -> Given<'_> {
        Given { feeds: self.feeds, dims: self.dims }
    }

    /// The result that differs most of a level. Where one differs by more than the tolerance, what lies within the reach of the last
    /// bits of the values on the way is no difference: it cannot be told before, and costs a few runs of the definition.
    fn worst(
        &self,
        module: &Module,
        expected: &[(String, Tensor)],
        actual: &[(String, Tensor)],
    ) -> Result<Deviation> {
        let worst = compare::worst(expected, actual, &[], self.strict);
        if !worst.exceeds(self.tolerance) {
            return Ok(worst);
        }
        Ok(compare::worst(expected, actual, &level::noise(module, self.function, self.given())?, self.strict))
    }
}

fn judge(case: &Case<'_>, level: Level, expected: &[(String, Tensor)], options: &Options) -> Result<Verdict> {
    let actual = level.results(case.module, case.function, case.given(), options)?;
    let worst = case.worst(case.module, expected, &actual)?;
    let culprit =
        if worst.exceeds(case.tolerance) { Some(find(case, level, expected, options)?) } else { None };
    Ok(Verdict { level, worst, culprit })
}

fn find(case: &Case<'_>, level: Level, expected: &[(String, Tensor)], options: &Options) -> Result<Culprit> {
    let (node, deviation) = first_node(case, level, options)?.unzip();
    Ok(Culprit { pass: first_pass(case, level, expected, options)?, node, deviation })
}

/// The last pass of the shortest pipeline whose result differs.
fn first_pass(
    case: &Case<'_>,
    level: Level,
    expected: &[(String, Tensor)],
    options: &Options,
) -> Result<Option<&'static str>> {
    for (limit, _) in driver::passes().iter().enumerate() {
        let mut limited = options.clone();
        limited.optimizer.limit = Some(limit);
        let actual = level.results(case.module, case.function, case.given(), &limited)?;
        if case.worst(case.module, expected, &actual)?.exceeds(case.tolerance) {
            return Ok(limit.checked_sub(1).map(|i| driver::passes()[i]));
        }
    }
    Ok(driver::passes().last().copied())
}

/// The first node, in topological order, whose value differs when it is the function's only result.
fn first_node(case: &Case<'_>, level: Level, options: &Options) -> Result<Option<(String, Deviation)>> {
    let function = case.module.function(case.function).map_err(|e| Error::Usage(e.to_string()))?;
    let graph = &function.graph;
    let live = graph.live_nodes();
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.index()]) {
        for value in node.outs() {
            let alone = alone(case.module, case.function, function, value)?;
            let expected = Level::Built.results(&alone, case.function, case.given(), options)?;
            let actual = level.results(&alone, case.function, case.given(), options)?;
            let deviation = case.worst(&alone, &expected, &actual)?;
            if deviation.exceeds(case.tolerance) {
                return Ok(Some((graph.describe(id), deviation)));
            }
        }
    }
    Ok(None)
}

/// The module with one function that computes one value of another's graph.
fn alone(module: &Module, name: &str, function: &Function, value: ValueId) -> Result<Module> {
    let graph = &function.graph;
    let mut b = Builder::with_infer(graph.infer().clone());
    let build = |b: &mut Builder| {
        let inputs = graph
            .inputs()
            .iter()
            .map(|v| b.input(graph.ty(*v).clone()))
            .collect::<graphc_ir::Result<Vec<_>>>()?;
        b.inline_all(graph, &inputs)
    };
    let values = build(&mut b).map_err(|e| Error::Internal(e.to_string()))?;
    // Without what else may fail in the function.
    let graph = b.finish(&[values[value.index()]]).and_then(|graph| graph.of_results());
    let graph = graph.map_err(|e| Error::Internal(e.to_string()))?;
    let outputs = vec![OutputDecl { name: "value".into(), mark: None }];
    let function = Function { inputs: function.inputs.clone(), outputs, updates: Vec::new(), graph };
    let mut alone = Module { functions: Default::default(), ..module.clone() };
    alone.functions.insert(name.to_owned(), function);
    Ok(alone)
}
