//! The operations of folds.

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{FoldKind, InstOp, Level};
use graphc_ir::scalar::Scalar;

use super::Builder;
use crate::nest::op::{Along, Op};
use crate::nest::sweep::DownFold;
use crate::tile::fold::{along, down, finish, identity, merge, state_arrays};
use crate::tile::movement::movement;

impl Builder<'_> {
    pub(super) fn fold_along(&mut self, i: usize, kind: FoldKind) -> Result<()> {
        let inst = &self.source.body.insts[i];
        let (tile, dtype) = self.at_level(inst.args[0], Level::Elem)?;
        let (Some(kernel), Some(merge)) = (along(self.isa, kind, dtype), merge(self.isa, kind, dtype)) else {
            return Err(no_fold(kind, dtype));
        };
        let (size, arrays) = (dtype.size(), state_arrays(kind, dtype));
        let state = self.value(Level::Row, size * arrays);
        let partial =
            if self.sweep.tiling.column_tiles() > 1 { self.value(Level::Row, size * arrays) } else { state };
        let identity = self.constant(identity(kind, dtype), dtype);
        let movement = movement(dtype);
        self.sweep.folds_rows = true;
        self.pass.push(Op::Along(Along { kernel, merge, state, partial, tile, identity, arrays, movement }));
        let value = match finish(self.isa, kind, dtype) {
            Some(finish) => {
                let value = self.value(Level::Row, size);
                let count = self.constant(Scalar::F(self.sweep.tiling.columns as f64), dtype);
                self.pass.push(Op::Finish { finish, value, state, arrays, size, count });
                value
            }
            None => state,
        };
        self.values[i] = Some(value);
        self.row_values.insert(i, value);
        if kind == FoldKind::Var {
            self.row_states.insert(i, state);
        }
        Ok(())
    }

    /// Takes the mean that instruction `i` makes from the states of a variance.
    pub(super) fn share(&mut self, i: usize, variance: usize) {
        if let Some(state) = self.row_states.get(&variance) {
            self.values[i] = Some(*state);
            self.row_values.insert(i, *state);
        }
        let of_variance = |fold: &DownFold| fold.inst == variance;
        if let Some(fold) = self.sweep.downs.iter().copied().find(of_variance) {
            self.sweep.downs.push(DownFold { kind: FoldKind::Mean, inst: i, shared: true, ..fold });
        }
    }

    /// The variance of what instruction `i` makes the mean of, if the pass folds that too: its states hold the mean.
    pub(super) fn variance_of(&self, i: usize, needed: &[bool]) -> Option<usize> {
        let insts = &self.source.body.insts;
        let InstOp::Fold(FoldKind::Mean, axis) = insts[i].op else { return None };
        let variance = InstOp::Fold(FoldKind::Var, axis);
        (i + 1..insts.len())
            .find(|j| needed[*j] && insts[*j].op == variance && insts[*j].args == insts[i].args)
    }

    pub(super) fn fold_down(&mut self, i: usize, kind: FoldKind) -> Result<()> {
        let arg = self.source.body.insts[i].args[0];
        let level = match self.level(arg.index()) {
            Level::Elem | Level::Col => Level::Elem,
            Level::Row | Level::Scalar => Level::Row,
        };
        let (tile, dtype) = self.at_level(arg, level)?;
        let kernel = down(self.isa, kind, dtype).ok_or_else(|| no_fold(kind, dtype))?;
        let fold = DownFold {
            kind,
            dtype,
            level: level.without_rows(),
            offset: self.sweep.state_bytes,
            inst: i,
            shared: false,
        };
        self.sweep.state_bytes += fold.state_bytes(self.sweep.tiling.columns).next_multiple_of(64);
        self.pass.push(Op::Down { kernel, tile, fold: self.sweep.downs.len() });
        self.sweep.downs.push(fold);
        Ok(())
    }
}

fn no_fold(kind: FoldKind, dtype: DType) -> Error {
    Error::new(format!("the CPU has no {kind:?} reduction of {dtype}"))
        .help("insert a cast to a type that the reduction takes")
}
