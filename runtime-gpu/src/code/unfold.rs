//! Folds along rows of which no shader can see one whole: parts of rows are folded first, then what they gave, and what
//! needs the results reads them.

use std::ops::Range;

use graphc_ir::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Body, FoldAxis, FoldKind, Inst, InstOp, Kernel, Level, Nest, Reg, Store, View};
use graphc_ir::scalar::{Scalar, ScalarFn};

use super::Builder;
use super::axes::{Axes, Cut};
use super::pieces::{grid, piece};
use crate::kernels::Work;
use crate::place::{Mem, Place};
use crate::wgsl::{Leaf, needed};

/// Steps that do the work of one, and the memory in which they leave values for each other.
pub struct Unfolded {
    pub steps: Vec<Work>,
    pub memory: Vec<Mem>,
}

impl Builder {
    /// The steps that a step is: itself, or what it is unfolded to.
    pub fn unfolded(&mut self, work: Work) -> Result<Unfolded> {
        let mut axes = Axes::of(&work);
        let mut nest = match &work.kernel {
            Kernel::Nest(nest) if nest.body.folds(FoldAxis::Cols) && self.sizes(&work, &axes).is_err() => {
                nest.clone()
            }
            _ => return Ok(Unfolded { steps: vec![work], memory: Vec::new() }),
        };
        let cols = nest.rows.len()..axes.axes.len();
        axes.axes[cols.clone()].iter_mut().for_each(|axis| axis.cut = Cut::Results);
        let sizes = self.sizes(&work, &axes)?;
        // Rows are whole here.
        let whole = nest.rows.iter().map(|size| (*size, *size));
        let parts = grid(whole.chain(nest.cols.iter().copied().zip(sizes[cols].iter().copied())));
        let mut unfolding =
            Unfolding { b: self, work, parts, unfolded: Unfolded { steps: Vec::new(), memory: Vec::new() } };
        for i in 0..nest.body.insts.len() {
            if let InstOp::Fold(kind, FoldAxis::Cols) = nest.body.insts[i].op {
                nest.body.insts[i] = unfolding.fold(&nest, i, kind);
            }
        }
        let Unfolding { work, mut unfolded, .. } = unfolding;
        unfolded.steps.push(Work { kernel: Kernel::Nest(nest), ..work });
        Ok(unfolded)
    }
}

/// A nest on the way.
struct Unfolding<'a> {
    b: &'a mut Builder,
    /// The nest as it was, and ports of the values that were made, too.
    work: Work,
    parts: Vec<Vec<Range<usize>>>,
    unfolded: Unfolded,
}

impl Unfolding<'_> {
    /// Adds the steps of the fold that an instruction is, and gives the instruction that reads its result.
    fn fold(&mut self, nest: &Nest, i: usize, kind: FoldKind) -> Inst {
        let mut body = nest.body.clone();
        let Inst { args, dtype, .. } = body.insts[i].clone();
        let mut x = args[0];
        if kind == FoldKind::Var {
            let mean = self.fold(nest, i, FoldKind::Mean);
            body.insts.push(mean);
            let mean = Reg(body.insts.len() as u32 - 1);
            let difference = body.push(InstOp::Fn(ScalarFn::Sub), &[x, mean], dtype, Level::Scalar);
            x = body.push(InstOp::Fn(ScalarFn::Mul), &[difference; 2], dtype, Level::Scalar);
        }
        let of_parts = match kind {
            FoldKind::Mean | FoldKind::Var => FoldKind::Sum,
            other => other,
        };
        let fold = |body: &mut Body, x: Reg| {
            body.push(InstOp::Fold(of_parts, FoldAxis::Cols), &[x], dtype, Level::Scalar)
        };
        let mut before = body.clone();
        let last = fold(&mut body, x);
        let result = self.made(nest, body, last, of_parts, (kind != of_parts).then_some(None));
        let InstOp::Load(port) = result.op else { return result };
        if kind != FoldKind::Mean {
            return result;
        }
        // What the sum lost is the mean of what is left without it: equal values have that value for their mean.
        let mean = self.work.reads[port].0.clone();
        before.insts.push(result);
        let all = Reg(before.insts.len() as u32 - 1);
        let rest = before.push(InstOp::Fn(ScalarFn::Sub), &[x, all], dtype, Level::Scalar);
        let last = fold(&mut before, rest);
        self.made(nest, before, last, of_parts, Some(Some(mean)))
    }

    /// Adds the steps of a fold that a body has: of each part of the rows, and of what those give, which is shared by the
    /// number of columns if asked, and added to what a place has if that is asked too. Gives the instruction that reads the
    /// result.
    fn made(
        &mut self,
        nest: &Nest,
        mut body: Body,
        last: Reg,
        kind: FoldKind,
        shared: Option<Option<Place>>,
    ) -> Inst {
        let fold = body.inst(last).clone();
        let by_row = fold.level == Level::Row;
        // Without a value for each row there is one.
        let rows = if by_row { nest.rows.clone() } else { Vec::new() };
        let (count, parts) = (rows.iter().product::<usize>(), self.parts.len());
        let dtype = fold.dtype;
        let mut memory = |words: usize| {
            let mem = self.b.take(words);
            self.unfolded.memory.push(mem);
            Place::whole(mem, dtype)
        };
        let (of_parts, result) = (memory(count * parts), memory(count));
        let view = |each: usize, offset: usize| {
            let mut view = View::dense(&rows);
            view.offset = offset as isize;
            view.strides.iter_mut().for_each(|stride| *stride *= each as isize);
            let missing = nest.rows.len() + nest.cols.len() - view.strides.len();
            view.strides.extend(vec![0; missing]);
            view
        };

        // What others store and fold is none of this step's business.
        let own = needed(&body, [last], &|_| false, &Leaf::new());
        for (i, inst) in body.insts.iter_mut().enumerate() {
            if own.binary_search(&i).is_err() {
                let op = InstOp::Const(Scalar::zero(inst.dtype));
                *inst = Inst { op, args: Vec::new(), dtype: inst.dtype, level: Level::Scalar, post: false };
            }
        }
        (body.stores, body.checks) = (vec![Store { reg: last, write: 0 }], Vec::new());
        let kernel = Kernel::Nest(Nest { body, ..nest.clone() });
        let of_part = |i: usize| {
            let writes = vec![(of_parts.clone(), view(parts, i))];
            Work { kernel: kernel.clone(), writes, ..self.work.clone() }
        };
        let axes = Axes::of(&of_part(0));
        let pieces = self.parts.iter().enumerate().map(|(i, ranges)| piece(&of_part(i), &axes, ranges));
        self.unfolded.steps.extend(pieces);

        let shape = [&rows[..], &[parts]].concat();
        let mut merge = Body::default();
        let x = merge.push(InstOp::Load(0), &[], dtype, Level::Elem);
        let mut y = merge.push(InstOp::Fold(kind, FoldAxis::Cols), &[x], dtype, Level::Row);
        let mut to = View::dense(&rows);
        to.strides.push(0);
        let mut reads = vec![(of_parts, View::dense(&shape))];
        if let Some(more) = shared {
            let columns: usize = nest.cols.iter().product();
            let columns = InstOp::Const(Scalar::F(columns as f64).cast(dtype));
            let columns = merge.push(columns, &[], dtype, Level::Scalar);
            y = merge.push(InstOp::Fn(ScalarFn::Div), &[y, columns], dtype, Level::Row);
            if let Some(place) = more {
                // Of an infinite mean nothing is left to add.
                reads.push((place, to.clone()));
                let all = merge.push(InstOp::Load(1), &[], dtype, Level::Row);
                let sum = merge.push(InstOp::Fn(ScalarFn::Add), &[all, y], dtype, Level::Row);
                let size = merge.push(InstOp::Fn(ScalarFn::Abs), &[y], dtype, Level::Row);
                let most = InstOp::Const(Scalar::F(f64::from(f32::MAX)).cast(dtype));
                let most = merge.push(most, &[], dtype, Level::Scalar);
                let finite = merge.push(InstOp::Fn(ScalarFn::Le), &[size, most], DType::Bool, Level::Row);
                y = merge.push(InstOp::Fn(ScalarFn::Select), &[finite, sum, all], dtype, Level::Row);
            }
        }
        merge.stores.push(Store { reg: y, write: 0 });
        self.unfolded.steps.push(Work {
            kernel: Kernel::Nest(Nest { rows: rows.clone(), cols: vec![parts], body: merge }),
            reads,
            writes: vec![(result.clone(), to)],
            failures: Vec::new(),
            ..self.work.clone()
        });
        let port = self.work.reads.len();
        self.work.reads.push((result, view(1, 0)));
        Inst { op: InstOp::Load(port), args: Vec::new(), ..fold }
    }
}
