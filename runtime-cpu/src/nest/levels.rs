//! Where each register of a body varies, in which pass it is known, and who needs it.

use graphc_ir::dtype::DType;
use graphc_ir::program::{Body, FoldAxis, InstOp, Level};
use graphc_ir::scalar::ScalarFn;

use super::access::{Access, Progression};
use super::source::Source;
use super::sweep::Tiling;
use crate::tile::map::has_pair;

/// Facts of a body over a domain.
#[derive(Debug)]
pub struct Analysis {
    /// Where each register varies, from the strides of what it depends on.
    pub levels: Vec<Level>,
    /// How many complete rows have to be seen, one after the other, before the register's own elements.
    depths: Vec<usize>,
    one_row: bool,
    /// The instruction that computes an instruction along with itself, for want of other users.
    pub fused: Vec<Option<usize>>,
}

impl Analysis {
    /// Analyzes a body; `accesses` are those of its read ports, and then others.
    pub fn new(source: &Source, accesses: &[Access], tiling: &Tiling) -> Analysis {
        let count = source.body.insts.len();
        let one_row = tiling.rows == 1;
        let mut analysis = Analysis {
            levels: Vec::with_capacity(count),
            depths: Vec::with_capacity(count),
            one_row,
            fused: Vec::new(),
        };
        for inst in &source.body.insts {
            let joined = inst.args.iter().fold(Level::Scalar, |l, r| l.join(analysis.levels[r.index()]));
            let level = match &inst.op {
                InstOp::Load(port) if source.reads[*port].empty => Level::Scalar,
                InstOp::Load(port) => {
                    let access = &accesses[*port];
                    analysis.level_of(access.varies_by_row(), access.varies_by_column())
                }
                InstOp::Index(strides) => {
                    let progression = Progression::new(strides, &source.rows, &source.columns);
                    analysis.level_of(progression.varies_by_row(), progression.varies_by_column())
                }
                InstOp::Acc => Level::Elem,
                // One result a row, even if all are equal: rows are folded tile by tile.
                InstOp::Fold(_, FoldAxis::Cols) => Level::Row,
                InstOp::Fold(_, FoldAxis::Rows) => joined.without_rows(),
                InstOp::Const(_) | InstOp::Fn(_) | InstOp::Cast | InstOp::RandomBits => joined,
            };
            analysis.levels.push(analysis.normalized(level));
            let depth = inst.args.iter().map(|r| {
                let folded = matches!(source.body.inst(*r).op, InstOp::Fold(_, FoldAxis::Cols));
                analysis.depths[r.index()] + usize::from(folded)
            });
            analysis.depths.push(depth.max().unwrap_or(0));
        }
        analysis.fused = analysis.pairs(&source.body);
        analysis
    }

    /// Pairs of functions of all elements that one kernel computes: the first has no other user.
    fn pairs(&self, body: &Body) -> Vec<Option<usize>> {
        let mut users = vec![0; body.insts.len()];
        body.insts.iter().flat_map(|inst| &inst.args).for_each(|arg| users[arg.index()] += 1);
        body.stores.iter().for_each(|store| users[store.reg.index()] += 1);
        body.checks.iter().for_each(|check| users[check.reg.index()] += 1);
        let mut fused: Vec<Option<usize>> = vec![None; body.insts.len()];
        let mut is_pair = vec![false; body.insts.len()];
        for (i, inst) in body.insts.iter().enumerate() {
            let InstOp::Fn(second) = inst.op else { continue };
            let partner = inst.args.iter().enumerate().find(|(position, arg)| {
                let first = arg.index();
                let InstOp::Fn(function) = body.insts[first].op else { return false };
                let elements = self.levels[first] == Level::Elem && body.insts[first].dtype == DType::F32;
                elements && users[first] == 1 && !is_pair[first] && has_pair(function, second, *position == 1)
            });
            if let Some((_, first)) = partner {
                fused[first.index()] = Some(i);
                is_pair[i] = true;
            }
        }
        fused
    }

    /// The level of what varies so.
    pub fn level_of(&self, by_row: bool, by_column: bool) -> Level {
        self.normalized(match (by_row, by_column) {
            (true, true) => Level::Elem,
            (true, false) => Level::Row,
            (false, true) => Level::Col,
            (false, false) => Level::Scalar,
        })
    }

    /// Over a single row, what varies by column varies by element.
    pub fn normalized(&self, level: Level) -> Level {
        if self.one_row && level == Level::Col { Level::Elem } else { level }
    }

    /// Passes that a row of several tiles takes.
    pub fn passes(&self, body: &Body) -> usize {
        let needed = self.needed(body, None);
        let last = |i: usize| self.depths[i] + usize::from(is_along(body, i));
        (0..body.insts.len()).filter(|i| needed[*i]).map(last).max().unwrap_or(0) + 1
    }

    /// The instructions that a pass computes; with `None` there is a single pass, which computes all.
    ///
    /// A pass folds what the passes before made known; the last one also checks, stores and folds down.
    pub fn needed(&self, body: &Body, pass: Option<(usize, bool)>) -> Vec<bool> {
        let mut needed = vec![false; body.insts.len()];
        let (depth, last) = pass.unwrap_or((usize::MAX, true));
        for (i, inst) in body.insts.iter().enumerate() {
            let is_down = matches!(inst.op, InstOp::Fold(_, FoldAxis::Rows));
            needed[i] = last && is_down || is_along(body, i) && self.depths[i] == depth && !inst.post;
        }
        if last {
            for reg in body.stores.iter().map(|s| s.reg).chain(body.checks.iter().map(|c| c.reg)) {
                needed[reg.index()] |=
                    !(is_along(body, reg.index()) && self.depths[reg.index()] < depth && pass.is_some());
            }
        }
        for i in (0..body.insts.len()).rev() {
            if needed[i] {
                for arg in &body.insts[i].args {
                    let known =
                        pass.is_some() && is_along(body, arg.index()) && self.depths[arg.index()] < depth;
                    needed[arg.index()] |= !known;
                }
            }
        }
        needed
    }

    /// How many instructions over all elements take ten times as long as an addition.
    pub fn slow_functions(&self, body: &Body) -> usize {
        let slow = |inst: &graphc_ir::program::Inst| match inst.op {
            InstOp::RandomBits => true,
            InstOp::Fn(f) => {
                use ScalarFn as F;
                let cheap = [F::Floor, F::Ceil, F::Round, F::Sqrt, F::Rsqrt, F::Recip];
                f.def().class == graphc_ir::scalar::Class::Float && !cheap.contains(&f) || f == F::Rem
            }
            _ => false,
        };
        body.insts
            .iter()
            .zip(&self.levels)
            .filter(|(inst, level)| **level == Level::Elem && slow(inst))
            .count()
    }
}

fn is_along(body: &Body, i: usize) -> bool {
    matches!(body.insts[i].op, InstOp::Fold(_, FoldAxis::Cols))
}
