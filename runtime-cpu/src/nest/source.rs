//! A nest as it is compiled: its ports, and the forms that make it run well.

use graphc_ir::dtype::DType;
use graphc_ir::program::{Body, FoldAxis, InstOp, Level, Reg, View};

use super::access::Base;

use crate::threshold::thresholds;

thresholds! {
    const LONG: usize = 1 << 15, of Nest [Columns];
}

/// A port of a step.
#[derive(Clone, Debug)]
pub struct PortSpec {
    pub base: Base,
    pub dtype: DType,
    pub view: View,
    /// Whether the buffer holds no element, so that no load may touch it.
    pub empty: bool,
}

/// A body over `rows` by `columns`, with its ports.
#[derive(Clone, Debug)]
pub struct Source {
    pub rows: Vec<usize>,
    pub columns: Vec<usize>,
    pub body: Body,
    pub reads: Vec<PortSpec>,
    pub writes: Vec<PortSpec>,
}

impl Source {
    /// The same work in the form that runs best: maps with as many dims as possible joined, and
    /// reductions along the dims that are contiguous.
    pub fn normalized(self) -> Source {
        let (along, down) = (self.body.folds(FoldAxis::Cols), self.body.folds(FoldAxis::Rows));
        match (along, down) {
            (false, false) => self.resplit(),
            (true, false) if self.is_reduction() && (self.reads_down() || self.is_one_long_row()) => {
                self.exchanged()
            }
            (false, true) if self.reads_down() && !self.is_flat() => self.exchanged(),
            _ => self,
        }
    }

    /// Whether nothing that depends on a fold varies along the columns again.
    fn is_reduction(&self) -> bool {
        let mut folded = vec![false; self.body.insts.len()];
        for (i, inst) in self.body.insts.iter().enumerate() {
            let fold = matches!(inst.op, InstOp::Fold(..));
            let after = inst.args.iter().any(|r| folded[r.index()]);
            if after && (fold || matches!(inst.level, Level::Elem | Level::Col)) {
                return false;
            }
            folded[i] = fold || after;
        }
        true
    }

    /// A single row cannot be cut by rows; its columns, made rows, can.
    fn is_one_long_row(&self) -> bool {
        self.rows.iter().product::<usize>() == 1 && self.columns.iter().product::<usize>() >= LONG
    }

    /// Whether there is one column or none, so that rows are contiguous whichever way they are read.
    fn is_flat(&self) -> bool {
        self.columns.iter().product::<usize>() <= 1
    }

    /// Whether more of the loaded elements have their neighbours in the next row than in the next column.
    fn reads_down(&self) -> bool {
        let mut balance = 0;
        for inst in &self.body.insts {
            if let (InstOp::Load(port), Level::Elem) = (&inst.op, inst.level) {
                let strides = &self.reads[*port].view.strides;
                let innermost = |sizes: &[usize], strides: &[isize]| {
                    let dim = sizes.iter().zip(strides).rev().find(|(size, _)| **size > 1);
                    dim.map_or(0, |(_, stride)| stride.unsigned_abs())
                };
                let row = innermost(&self.rows, &strides[..self.rows.len()]);
                let column = innermost(&self.columns, &strides[self.rows.len()..]);
                balance += i32::from(row == 1 && column > 1) - i32::from(column == 1);
            }
        }
        balance > 0
    }

    /// Rows become columns and columns rows.
    fn exchanged(mut self) -> Source {
        let rows = self.rows.len();
        for port in self.reads.iter_mut().chain(&mut self.writes) {
            port.view.strides.rotate_left(rows);
            if let Some(guard) = &mut port.view.guard {
                guard.lo.rotate_left(rows);
                guard.hi.rotate_left(rows);
            }
        }
        for i in 0..self.body.insts.len() {
            let post = self.body.insts[i].args.iter().any(|r: &Reg| self.body.insts[r.index()].post);
            let inst = &mut self.body.insts[i];
            inst.level = match inst.level {
                Level::Row => Level::Col,
                Level::Col => Level::Row,
                same => same,
            };
            inst.post = post;
            match &mut inst.op {
                InstOp::Fold(_, axis @ FoldAxis::Cols) => {
                    *axis = FoldAxis::Rows;
                    inst.post = true;
                }
                InstOp::Fold(_, axis) => *axis = FoldAxis::Cols,
                InstOp::Index(strides) => strides.rotate_left(rows),
                _ => {}
            }
        }
        std::mem::swap(&mut self.rows, &mut self.columns);
        self
    }

    /// Moves the border between the rows and the columns of a map outwards over all dims that every port
    /// can join, or inwards to the innermost dims that all can.
    fn resplit(mut self) -> Source {
        let level = |r: Reg| self.body.inst(r).level;
        let plain = self.body.stores.iter().all(|s| level(s.reg) == Level::Elem);
        if !plain || !self.body.checks.iter().all(|c| level(c.reg) == Level::Elem) {
            return self;
        }
        let mut dims = std::mem::take(&mut self.rows);
        dims.append(&mut self.columns);
        let mut border = dims.len().saturating_sub(1);
        while border > 0 && self.joins(&dims, border) {
            border -= 1;
        }
        self.columns = dims.split_off(border);
        self.rows = dims;
        self
    }

    /// Whether dim `outer = border - 1` and the dims from `border` on are one dim to all ports.
    fn joins(&self, dims: &[usize], border: usize) -> bool {
        let outer = border - 1;
        if dims[outer] == 1 {
            return true;
        }
        // The next dim of more than one coordinate; the stride of the others says nothing.
        let Some(inner) = (border..dims.len()).find(|i| dims[*i] != 1) else {
            return true;
        };
        let views_join = self.reads.iter().chain(&self.writes).all(|port| {
            let strides = &port.view.strides;
            port.view.guard.is_none() && strides[outer] == strides[inner] * dims[inner] as isize
        });
        let indices_join = self.body.insts.iter().all(|inst| match &inst.op {
            InstOp::Index(strides) => strides[outer] == strides[inner] * dims[inner] as i64,
            _ => true,
        });
        views_join && indices_join
    }
}
