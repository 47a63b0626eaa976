//! The instructions of a compiled sweep.

use graphc_ir::program::Level;

use crate::tile::fold::{Finish, FoldFn, MergeFn};
use crate::tile::map::MapFn;
use crate::tile::movement::Movement;

/// A value of a sweep: an index into the table of pointers that each part of a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// How far an operand moves from one row of a tile to the next: `fixed + columns * each` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowStep {
    pub fixed: usize,
    pub each: usize,
}

/// One operation on the tile at hand.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// The value is in a buffer: reads go there, or writes.
    Bind { access: usize, value: ValueId, level: Level },
    /// Copies a port's elements.
    Load { access: usize, value: ValueId, level: Level },
    /// Writes the numbers of a progression.
    Index { progression: usize, value: ValueId, level: Level },
    /// One call for the whole tile.
    Map { kernel: MapFn, value: ValueId, args: [ValueId; 3], splat: [bool; 3], level: Level },
    /// One call a row.
    MapRows {
        kernel: MapFn,
        value: ValueId,
        size: usize,
        args: [ValueId; 3],
        splat: [bool; 3],
        steps: [RowStep; 3],
    },
    /// Repeats a value of a lower level all over a tile.
    Spread { value: ValueId, source: ValueId, from: Level, to: Level, size: usize, movement: Movement },
    /// Folds each row into its state.
    Along(Along),
    /// `value` is made of the state's arrays and the number of elements, when the whole row has been folded.
    Finish { finish: Finish, value: ValueId, state: ValueId, arrays: usize, size: usize, count: ValueId },
    /// Folds the columns into the chunk's states.
    Down { kernel: FoldFn, tile: ValueId, fold: usize },
    /// Copies to a port.
    Store { access: usize, value: ValueId, level: Level },
    /// All elements must be true.
    Check { value: ValueId, level: Level, check: usize },
}

/// A fold along rows, which may take several tiles.
#[derive(Clone, Copy, Debug)]
pub struct Along {
    pub kernel: FoldFn,
    pub merge: MergeFn,
    pub state: ValueId,
    /// Where the states of tiles after the first go, before they are merged.
    pub partial: ValueId,
    pub tile: ValueId,
    /// What an empty row's states hold.
    pub identity: ValueId,
    pub arrays: usize,
    pub movement: Movement,
}

impl Op {
    /// Calls a function with each value that the operation reads or writes.
    pub fn visit(&self, mut f: impl FnMut(ValueId)) {
        match *self {
            Op::Bind { value, .. }
            | Op::Load { value, .. }
            | Op::Index { value, .. }
            | Op::Store { value, .. }
            | Op::Check { value, .. } => f(value),
            Op::Map { value, args, .. } | Op::MapRows { value, args, .. } => {
                f(value);
                args.into_iter().for_each(f);
            }
            Op::Spread { value, source, .. } => [value, source].into_iter().for_each(f),
            Op::Along(Along { state, partial, tile, identity, .. }) => {
                [state, partial, tile, identity].into_iter().for_each(f);
            }
            Op::Finish { value, state, count, .. } => [value, state, count].into_iter().for_each(f),
            Op::Down { tile, .. } => f(tile),
        }
    }
}
