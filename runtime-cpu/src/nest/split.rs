//! Cuts a body in two: what a sweep over all elements computes, and what follows its column folds.

use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, FoldAxis, Inst, InstOp, Reg, Store, View};
use graphc_ir::tensor::row_major;

use super::source::{PortSpec, Source};
use super::sweep::DownFold;

/// A source, and the numbers that its checks have in the nest.
pub struct Half {
    pub source: Source,
    pub checks: Vec<usize>,
}

/// What comes before the results of the column folds: the source with the other stores and checks
/// left out.
///
/// # Errors
/// When a column fold depends on another one.
pub fn sweep_of(source: &Source) -> Result<Half> {
    let body = &source.body;
    let nested = |inst: &Inst| {
        matches!(inst.op, InstOp::Fold(_, FoldAxis::Rows)) && inst.args.iter().any(|r| body.inst(*r).post)
    };
    if body.insts.iter().any(nested) {
        return Err(Error::new("a fold down the columns depends on another one; cut the nest in two"));
    }
    let mut source = source.clone();
    source.body.stores.retain(|s| !body_post(&source.body.insts, s.reg));
    let checks = checks(body, false);
    source.body.checks = checks.iter().map(|c| body.checks[*c].clone()).collect();
    Ok(Half { source, checks })
}

/// What follows the folds, over a single row: their results are loaded from `results`, a port each.
pub fn post_of(source: &Source, folds: &[DownFold], results: Vec<PortSpec>) -> Half {
    let body = &source.body;
    let checks = checks(body, true);
    let mut needed = vec![false; body.insts.len()];
    for store in body.stores.iter().filter(|s| body_post(&body.insts, s.reg)) {
        needed[store.reg.index()] = true;
    }
    checks.iter().for_each(|c| needed[body.checks[*c].reg.index()] = true);
    let fold_of = |inst: usize| folds.iter().position(|fold| fold.inst == inst);
    for i in (0..body.insts.len()).rev() {
        if needed[i] && fold_of(i).is_none() {
            body.insts[i].args.iter().for_each(|r| needed[r.index()] = true);
        }
    }
    let mut out = Body::default();
    let mut map: Vec<Option<Reg>> = vec![None; body.insts.len()];
    let rows = source.rows.len();
    for (i, inst) in body.insts.iter().enumerate().filter(|(i, _)| needed[*i]) {
        let op = match (&inst.op, fold_of(i)) {
            (_, Some(fold)) => InstOp::Load(source.reads.len() + fold),
            (InstOp::Index(strides), None) => InstOp::Index(strides[rows..].to_vec()),
            (op, None) => op.clone(),
        };
        let args = if fold_of(i).is_some() {
            Vec::new()
        } else {
            inst.args.iter().filter_map(|r| map[r.index()]).collect()
        };
        out.insts.push(Inst { op, args, dtype: inst.dtype, level: inst.level, post: false });
        map[i] = Some(Reg(out.insts.len() as u32 - 1));
    }
    for store in &body.stores {
        if let (Some(reg), true) = (map[store.reg.index()], body_post(&body.insts, store.reg)) {
            out.stores.push(Store { reg, write: store.write });
        }
    }
    for check in &checks {
        let mut check = body.checks[*check].clone();
        if let Some(reg) = map[check.reg.index()] {
            check.reg = reg;
            out.checks.push(check);
        }
    }
    let columns_of = |port: &PortSpec| PortSpec { view: without_rows(&port.view, rows), ..port.clone() };
    let source = Source {
        rows: Vec::new(),
        columns: source.columns.clone(),
        body: out,
        reads: source.reads.iter().map(columns_of).chain(results).collect(),
        writes: source.writes.iter().map(columns_of).collect(),
    };
    Half { source, checks }
}

/// The view of a fold's results: one a column, or one in all.
pub fn results_view(fold: &DownFold, columns: &[usize]) -> View {
    let one = fold.level == graphc_ir::program::Level::Scalar;
    let strides = if one { vec![0; columns.len()] } else { row_major(columns) };
    View { offset: 0, strides, guard: None }
}

fn body_post(insts: &[Inst], reg: Reg) -> bool {
    insts[reg.index()].post
}

fn checks(body: &Body, post: bool) -> Vec<usize> {
    (0..body.checks.len()).filter(|c| body_post(&body.insts, body.checks[*c].reg) == post).collect()
}

fn without_rows(view: &View, rows: usize) -> View {
    let mut view = view.clone();
    view.strides.drain(..rows);
    if let Some(guard) = &mut view.guard {
        guard.lo.drain(..rows);
        guard.hi.drain(..rows);
    }
    view
}
