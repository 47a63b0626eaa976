//! From a bound graph to verified Programs.

use graphc_ir::error::Result;
use graphc_ir::graph::Graph;
use graphc_ir::program::{Program, VerifiedProgram};
use graphc_ir::stage::Stage;
use graphc_ir::target::Target;

use crate::fuse::{self, FuseOptions};
use crate::lower;
use crate::plan::{PlanOptions, plan};
use crate::remarks::Remarks;
use crate::staging::{self, Staged};

/// What compilation may do; all on by default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CompileOptions {
    /// Clusters of more than one node.
    pub fusion: bool,
    /// Results in the memory of operands that die.
    pub in_place: bool,
    /// Memory used by more than one temporary.
    pub reuse: bool,
    /// What depends on state and constants alone is computed once and kept.
    pub staging: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions { fusion: true, in_place: true, reuse: true, staging: true }
    }
}

/// A function compiled for fixed sizes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The Program of every run.
    pub main: VerifiedProgram,
    /// What it needs computed once, if anything.
    pub prepare: Option<Staged>,
}

/// Groups the nodes of a bound graph, whose first `outputs` results are outputs, into clusters.
pub fn fuse_graph(
    graph: &Graph,
    outputs: usize,
    target: &dyn Target,
    options: &CompileOptions,
    remarks: &mut Remarks,
) -> Result<Graph> {
    let caps = target.caps();
    let (max_ports, folds_in_epilogues) = (caps.max_ports, caps.folds_in_epilogues);
    let fuse_options = FuseOptions { enabled: options.fusion, max_ports, folds_in_epilogues, outputs };
    let fused = fuse::fuse(graph, fuse_options, remarks)?;
    Stage::Fused.check(&fused)?;
    Ok(fused)
}

/// Compiles a fused graph whose first `outputs` results are outputs and whose others are assigned to
/// the state variables `updates`.
pub fn compile_fused(
    graph: &Graph,
    outputs: usize,
    updates: &[usize],
    target: &dyn Target,
    options: &CompileOptions,
) -> Result<Compiled> {
    let program = lower::lower(graph, outputs, updates, 0, target, options)?;
    let (program, prepare) = if options.staging { staging::split(program)? } else { (program, None) };
    let plan_options = plan_options(target, options);
    let prepare = match prepare {
        Some(p) => Some(Staged { program: plan(p.program, &plan_options)?.verify()?, states: p.states }),
        None => None,
    };
    Ok(Compiled { main: plan(program, &plan_options)?.verify()?, prepare })
}

/// Lowers the body of a loop or a branch, whose first `invariants` inputs do not change.
pub(crate) fn lower_body(
    graph: &Graph,
    invariants: usize,
    target: &dyn Target,
    options: &CompileOptions,
) -> Result<Program> {
    let fused = fuse_graph(graph, graph.results().len(), target, options, &mut Remarks::default())?;
    lower::lower(&fused, fused.results().len(), &[], invariants, target, options)
}

/// Plans and verifies a lowered body.
pub(crate) fn finish_body(
    program: Program,
    target: &dyn Target,
    options: &CompileOptions,
) -> Result<VerifiedProgram> {
    plan(program, &plan_options(target, options))?.verify()
}

fn plan_options(target: &dyn Target, options: &CompileOptions) -> PlanOptions {
    PlanOptions { in_place: options.in_place, reuse: options.reuse, alignment: target.caps().alignment }
}
