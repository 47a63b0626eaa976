//! The pipeline, in one list, and the driver that runs and checks it.

use graphc_ir::dim::Binding;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::Graph;
use graphc_ir::module::Function;
use graphc_ir::stage::{self, Stage};
use graphc_ir::target::Target;

use crate::compile::{self, CompileOptions, Compiled};
use crate::remarks::Remarks;
use crate::{expand, fold_norm, layout, rules};

/// What the optimizer may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options {
    /// From the bound graph on.
    pub compile: CompileOptions,
    /// Bisection: only so many of the optional passes run. Expansion and binding always do.
    pub limit: Option<usize>,
}

/// One pass over a symbolic graph.
pub struct Pass {
    /// Name.
    pub name: &'static str,
    /// The stage of the graph after it.
    pub after: Stage,
    /// Whether the graph is right without it, so that a bisection may leave it out.
    pub optional: bool,
    run: fn(&Graph, &mut Remarks) -> Result<Graph>,
}

/// The passes from a built graph to a simplified one, in order.
pub static PIPELINE: &[Pass] = &[
    Pass { name: "canonicalize", after: Stage::Canonical, optional: true, run: canonicalize },
    Pass { name: "expand", after: Stage::Simplified, optional: false, run: |g, _| expand::expand(g) },
    Pass { name: "simplify", after: Stage::Simplified, optional: true, run: simplify },
    Pass { name: "fold-norm", after: Stage::Simplified, optional: true, run: fold_norm },
];

/// The passes once sizes are numbers: simplification again, then the order of images' axes.
pub static BOUND_PIPELINE: &[Pass] = &[
    Pass { name: "simplify-bound", after: Stage::Bound, optional: true, run: simplify },
    Pass { name: "layout", after: Stage::Layout, optional: true, run: layout },
];

/// Names of the optional passes in order, for bisection: a limit of `n` runs the first `n`.
pub fn passes() -> Vec<&'static str> {
    let graph_passes = PIPELINE.iter().chain(BOUND_PIPELINE).filter(|p| p.optional).map(|p| p.name);
    graph_passes.chain(["fuse", "staging", "in-place", "reuse"]).collect()
}

fn canonicalize(graph: &Graph, remarks: &mut Remarks) -> Result<Graph> {
    in_bodies(graph, &mut |g| rules::sweep(g, rules::CANONICAL.iter(), remarks))
}

fn simplify(graph: &Graph, remarks: &mut Remarks) -> Result<Graph> {
    in_bodies(graph, &mut |g| rules::sweep(g, rules::simplifying(), remarks))
}

fn fold_norm(graph: &Graph, remarks: &mut Remarks) -> Result<Graph> {
    in_bodies(graph, &mut |g| fold_norm::fold(g, remarks))
}

fn layout(graph: &Graph, _: &mut Remarks) -> Result<Graph> {
    in_bodies(graph, &mut |g| layout::channels_last(g))
}

/// Applies a rewrite to the bodies of loops and branches, innermost first, then to the graph.
pub(crate) fn in_bodies(graph: &Graph, f: &mut dyn FnMut(&Graph) -> Result<Graph>) -> Result<Graph> {
    let inner = if graph.nodes().any(|(_, n)| n.op.has_bodies()) {
        graph.rebuild(|b, _, node, ins| b.op(node.op.map_bodies(&mut |body| in_bodies(body, f))?, ins))?
    } else {
        graph.clone()
    };
    f(&inner)
}

/// Runs passes, checking the graph after each.
fn run(
    passes: &[Pass],
    graph: &Graph,
    done: &mut usize,
    options: &Options,
    until: Stage,
    remarks: &mut Remarks,
) -> Result<Graph> {
    let mut graph = graph.clone();
    for pass in passes.iter().filter(|p| p.after <= until) {
        if pass.optional {
            *done += 1;
            if options.limit.is_some_and(|limit| *done > limit) {
                continue;
            }
        }
        graph = (pass.run)(&graph, remarks)?;
        let checked = stage::verify(&graph).and_then(|()| pass.after.check(&graph));
        checked.map_err(|e| e.told(format!("pass `{}` broke the graph: {e}", pass.name)))?;
    }
    Ok(graph)
}

fn count_optional(passes: &[Pass]) -> usize {
    passes.iter().filter(|p| p.optional).count()
}

/// Canonicalizes, expands and simplifies a function; dims stay symbolic.
///
/// # Errors
/// A division of integers by a constant 0, and bugs of passes.
pub fn optimize(function: &Function, options: &Options, remarks: &mut Remarks) -> Result<Graph> {
    stage::check_divisors(&function.graph)?;
    run(PIPELINE, &function.graph, &mut 0, options, Stage::Simplified, remarks)
}

/// Replaces symbols by numbers and simplifies again, up to a stage.
pub fn bind(
    graph: &Graph,
    binding: &Binding,
    options: &Options,
    until: Stage,
    remarks: &mut Remarks,
) -> Result<Graph> {
    let bound = graph.bind(binding)?;
    run(BOUND_PIPELINE, &bound, &mut count_optional(PIPELINE), options, until, remarks)
}

/// The compile options that a bisection limit leaves.
fn limited(options: &Options) -> CompileOptions {
    let before = count_optional(PIPELINE) + count_optional(BOUND_PIPELINE);
    let allowed = |n: usize| options.limit.is_none_or(|limit| limit >= before + n);
    CompileOptions {
        fusion: options.compile.fusion && allowed(1),
        staging: options.compile.staging && allowed(2),
        in_place: options.compile.in_place && allowed(3),
        reuse: options.compile.reuse && allowed(4),
    }
}

/// Compiles an optimized function for fixed sizes.
pub fn compile(
    graph: &Graph,
    function: &Function,
    binding: &Binding,
    target: &dyn Target,
    options: &Options,
    remarks: &mut Remarks,
) -> Result<Compiled> {
    let bound = bind(graph, binding, options, Stage::Layout, remarks)?;
    let compile_options = limited(options);
    let fused = compile::fuse_graph(&bound, function.outputs.len(), target, &compile_options, remarks)?;
    compile::compile_fused(&fused, function.outputs.len(), &function.updates, target, &compile_options)
}

/// The graph as it is after a stage; from `Bound` on a binding is needed.
pub fn at_stage(
    function: &Function,
    stage: Stage,
    binding: Option<&Binding>,
    target: &dyn Target,
    options: &Options,
) -> Result<Graph> {
    let remarks = &mut Remarks::default();
    if stage == Stage::Built {
        return Ok(function.graph.clone());
    }
    let graph = run(PIPELINE, &function.graph, &mut 0, options, stage, remarks)?;
    if stage <= Stage::Simplified {
        return Ok(graph);
    }
    let Some(binding) = binding else {
        return Err(Error::new(format!("stage `{}` needs sizes for all symbols", stage.name())));
    };
    let bound = bind(&graph, binding, options, stage.min(Stage::Layout), remarks)?;
    if stage <= Stage::Layout {
        return Ok(bound);
    }
    compile::fuse_graph(&bound, function.outputs.len(), target, &limited(options), remarks)
}
