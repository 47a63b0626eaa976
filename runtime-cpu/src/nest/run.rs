//! Runs the operations of a sweep on tiles.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use graphc_ir::program::Level;

use super::access::{Base, Tile};
use super::op::{Along, Op, ValueId};
use super::sweep::{DownFold, Initial, Sweep};
use crate::tile::fold::{FoldArgs, MergeArgs};
use crate::tile::map::MapArgs;

/// The memory that a step runs on.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// First byte of each buffer of the Program.
    pub buffers: &'a [*mut u8],
    /// The step's scratch.
    pub scratch: *mut u8,
}

// SAFETY: parts of a step write different elements; whoever makes a `Memory` vouches for the buffers.
unsafe impl Sync for Memory<'_> {}
// SAFETY: as above; pointers are not bound to a thread.
unsafe impl Send for Memory<'_> {}

impl Memory<'_> {
    /// First byte of a port's memory.
    pub fn address(&self, base: Base) -> *mut u8 {
        match base {
            Base::Buffer(index) => self.buffers[index],
            Base::Scratch(offset) => self.scratch.wrapping_add(offset),
        }
    }
}

/// Where the first failing check of a run is noted: its index, or `usize::MAX`.
#[derive(Debug)]
pub struct Failures(AtomicUsize);

impl Failures {
    /// None yet.
    pub fn none() -> Failures {
        Failures(AtomicUsize::new(usize::MAX))
    }

    fn note(&self, check: usize) {
        self.0.fetch_min(check, Ordering::Relaxed);
    }

    /// The first check that failed.
    pub fn first(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|check| *check != usize::MAX)
    }
}

/// One thread's part of a run.
pub struct Part<'a> {
    sweep: &'a Sweep,
    memory: Memory<'a>,
    /// Pointers of the values; lies at the beginning of the part's scratch.
    table: *mut *mut u8,
    failures: &'a Failures,
    /// States of the chunk at hand, and the chunk's first row.
    states: *mut u8,
    chunk_row: usize,
}

impl<'a> Part<'a> {
    /// Makes the table and computes what is the same everywhere.
    ///
    /// # Safety
    /// `region` has [`Sweep::region_bytes`] bytes, aligned to a cache line, that only this part uses. The
    /// memory holds every buffer that the sweep's accesses name, as large as the verified Program says.
    pub unsafe fn new(
        sweep: &'a Sweep,
        memory: Memory<'a>,
        region: *mut u8,
        failures: &'a Failures,
    ) -> Part<'a> {
        let part =
            Part { sweep, memory, table: region.cast(), failures, states: ptr::null_mut(), chunk_row: 0 };
        for (value, initial) in sweep.initial.iter().enumerate() {
            let pointer = match *initial {
                // SAFETY: places are inside the region.
                Initial::Scratch(offset) => unsafe { region.add(offset) },
                Initial::Constant(index) => sweep.constants[index].as_ptr().cast_mut(),
                Initial::Unbound => ptr::null_mut(),
            };
            // SAFETY: the table has an entry for each value.
            unsafe { part.table.add(value).write(pointer) };
        }
        let tiling = sweep.tiling;
        let tile = Tile { row: 0, rows: tiling.tile_rows, column: 0, columns: tiling.tile_columns };
        part.ops(&sweep.launch, tile);
        part
    }

    /// A part whose table and values [`Part::new`] made before.
    ///
    /// # Safety
    /// As [`Part::new`], with the same arguments.
    pub unsafe fn resume(
        sweep: &'a Sweep,
        memory: Memory<'a>,
        region: *mut u8,
        failures: &'a Failures,
    ) -> Part<'a> {
        Part { sweep, memory, table: region.cast(), failures, states: ptr::null_mut(), chunk_row: 0 }
    }

    fn row_tile(&self, index: usize) -> (usize, usize) {
        let tiling = &self.sweep.tiling;
        let row = index * tiling.tile_rows;
        (row, tiling.tile_rows.min(tiling.rows - row))
    }

    fn column_tile(&self, index: usize) -> (usize, usize) {
        let tiling = &self.sweep.tiling;
        let column = index * tiling.tile_columns;
        (column, tiling.tile_columns.min(tiling.columns - column))
    }

    /// Runs a range of the units of a sweep without column folds; see [`Sweep::units`].
    pub fn units(&self, units: Range<usize>) {
        let (row_tiles, column_tiles) = (self.sweep.tiling.row_tiles(), self.sweep.tiling.column_tiles());
        if self.sweep.folds_rows {
            return self.row_tiles(units);
        }
        let mut current = usize::MAX;
        for unit in units {
            let (down, along) = if self.sweep.columns_outer {
                (unit % row_tiles, unit / row_tiles)
            } else {
                (unit / column_tiles, unit % column_tiles)
            };
            self.tile(0, down, along, &mut current);
        }
    }

    /// All passes over a range of the tiles of rows.
    fn row_tiles(&self, range: Range<usize>) {
        let column_tiles = self.sweep.tiling.column_tiles();
        let mut current = usize::MAX;
        for down in range {
            for pass in 0..self.sweep.passes.len() {
                for along in 0..column_tiles {
                    self.tile(pass, down, along, &mut current);
                }
            }
        }
    }

    fn tile(&self, pass: usize, down: usize, along: usize, current: &mut usize) {
        let (row, rows) = self.row_tile(down);
        let (column, columns) = self.column_tile(along);
        if *current != along {
            *current = along;
            self.column(column, columns);
        }
        self.ops(&self.sweep.passes[pass], Tile { row, rows, column, columns });
    }

    /// Computes what depends on the columns alone.
    pub fn column(&self, column: usize, columns: usize) {
        self.ops(&self.sweep.column, Tile { row: 0, rows: self.sweep.tiling.tile_rows, column, columns });
    }

    /// Runs a single-pass sweep on a tile of a dot product, whose rows of `row_bytes` bytes are `pitch`
    /// bytes apart from `acc` on.
    ///
    /// # Safety
    /// The rows can be read.
    pub unsafe fn block(&self, tile: Tile, acc: *mut u8, row_bytes: usize, pitch: usize) {
        if let Some(value) = self.sweep.acc {
            let mut rows = acc;
            if let (true, Initial::Scratch(offset)) =
                (row_bytes != pitch, self.sweep.initial[value.0 as usize])
            {
                rows = self.table.cast::<u8>().wrapping_add(offset);
                for row in 0..tile.rows {
                    // SAFETY: the value's array holds a tile of rows, one directly after the other.
                    unsafe {
                        ptr::copy_nonoverlapping(acc.add(row * pitch), rows.add(row * row_bytes), row_bytes);
                    }
                }
            }
            self.set(value, rows);
        }
        self.ops(&self.sweep.passes[0], tile);
    }

    /// As [`Part::block`], and folds the tile into `states`, which have `seen` rows of the tile's columns so far.
    ///
    /// # Safety
    /// As [`Part::block`]; `states` has [`Sweep::state_bytes`] bytes, and only this part uses those of the columns.
    pub unsafe fn folded_block(
        &mut self,
        tile: Tile,
        (acc, row_bytes, pitch): (*mut u8, usize, usize),
        (states, seen): (*mut u8, usize),
    ) {
        self.states = states;
        self.chunk_row = tile.row.wrapping_sub(seen);
        if seen == 0 {
            self.sweep.downs.iter().for_each(|fold| self.clear(fold, (tile.column, tile.columns)));
        }
        // SAFETY: the caller's promise.
        unsafe { self.block(tile, acc, row_bytes, pitch) };
    }

    /// Empties the states of a column of tiles.
    ///
    /// # Safety
    /// As [`Part::chunk`].
    pub unsafe fn empty(&mut self, states: *mut u8, along: usize) {
        self.states = states;
        let tile = self.column_tile(along);
        self.sweep.downs.iter().for_each(|fold| self.clear(fold, tile));
    }

    /// Folds the tiles of rows in `range` into the states of a chunk; with one pass only the column of
    /// tiles `along`, else all.
    ///
    /// # Safety
    /// `states` has [`Sweep::state_bytes`] bytes for this chunk, and only this part uses those of the
    /// columns that it folds.
    pub unsafe fn chunk(&mut self, states: *mut u8, range: Range<usize>, along: Option<usize>) {
        self.states = states;
        self.chunk_row = self.row_tile(range.start).0;
        let columns = along.map_or(0..self.sweep.tiling.column_tiles(), |along| along..along + 1);
        for fold in &self.sweep.downs {
            columns.clone().for_each(|along| self.clear(fold, self.column_tile(along)));
        }
        match along {
            None => self.row_tiles(range),
            Some(along) => {
                let mut current = usize::MAX;
                for down in range {
                    self.tile(0, down, along, &mut current);
                }
            }
        }
    }

    /// Empties the states of a fold in some columns.
    fn clear(&self, fold: &DownFold, (column, columns): (usize, usize)) {
        let (offset, len) = fold.states(column, columns);
        // SAFETY: the offset is inside the chunk's states, which have `len` elements there.
        unsafe {
            (fold.movement().fill)(self.states.add(offset), fold.identity().as_ptr(), len * fold.arrays())
        };
    }

    fn get(&self, value: ValueId) -> *mut u8 {
        // SAFETY: the table has an entry for each value of the sweep.
        unsafe { *self.table.add(value.0 as usize) }
    }

    fn set(&self, value: ValueId, pointer: *mut u8) {
        // SAFETY: the table has an entry for each value of the sweep.
        unsafe { self.table.add(value.0 as usize).write(pointer) };
    }

    /// Runs operations on a tile.
    fn ops(&self, ops: &[Op], tile: Tile) {
        for op in ops {
            self.op(op, tile);
        }
    }

    #[inline]
    fn op(&self, op: &Op, tile: Tile) {
        match *op {
            Op::Bind { access, value, level } => {
                let (access, tile) = (&self.sweep.accesses[access], part(tile, level));
                let offset = access.byte_offset(tile.row, tile.column);
                self.set(value, self.memory.address(access.base).wrapping_offset(offset));
            }
            Op::Load { access, value, level } => {
                let access = &self.sweep.accesses[access];
                // SAFETY: the value's array holds a tile of its level, in scratch or where this tile is
                // written to; the view lies inside its buffer.
                unsafe { access.load(self.memory.address(access.base), part(tile, level), self.get(value)) };
            }
            Op::Index { progression, value, level } => {
                let progression = &self.sweep.progressions[progression];
                // SAFETY: as for `Load`; indices are 64-bit integers.
                unsafe { progression.write(part(tile, level), self.get(value).cast()) };
            }
            Op::Map { kernel, value, args, splat, level } => {
                let operands = args.map(|arg| self.get(arg).cast_const());
                let tile = part(tile, level);
                // SAFETY: the arrays hold tiles of this level, or one element if they are splat; results
                // overlap no operand.
                unsafe {
                    kernel(&MapArgs { dst: self.get(value), operands, splat, len: tile.rows * tile.columns });
                }
            }
            Op::MapRows { kernel, value, size, args, splat, steps } => {
                let mut operands = args.map(|arg| self.get(arg).cast_const());
                let steps = steps.map(|step| step.fixed + step.each * tile.columns);
                let mut dst = self.get(value);
                for _ in 0..tile.rows {
                    // SAFETY: as for `Map`, row by row.
                    unsafe { kernel(&MapArgs { dst, operands, splat, len: tile.columns }) };
                    dst = dst.wrapping_add(tile.columns * size);
                    for (operand, step) in operands.iter_mut().zip(steps) {
                        *operand = operand.wrapping_add(step);
                    }
                }
            }
            Op::Spread { value, source, from, to, size, movement } => {
                let (from, to) = (part(tile, from), part(tile, to));
                let (source, value) = (self.get(source), self.get(value));
                for row in 0..to.rows {
                    // SAFETY: the source has a row for each, or one row; so with columns.
                    unsafe {
                        let source =
                            source.add(if from.rows == to.rows { row * from.columns * size } else { 0 });
                        let value = value.add(row * to.columns * size);
                        if from.columns == to.columns {
                            ptr::copy_nonoverlapping(source, value, to.columns * size);
                        } else {
                            (movement.fill)(value, source, to.columns);
                        }
                    }
                }
            }
            Op::Along(ref along) => self.along(along, tile),
            Op::Finish { finish, value, state, arrays, size, count } => {
                if tile.column + tile.columns == self.sweep.tiling.columns {
                    let (state, count) = (self.get(state).cast_const(), self.get(count).cast_const());
                    // SAFETY: each array of the states has an element for each row.
                    unsafe { finish.run(self.get(value), state, (arrays, tile.rows, size), count) };
                }
            }
            Op::Down { kernel, tile: source, fold } => {
                let fold = &self.sweep.downs[fold];
                let (offset, columns) = fold.states(tile.column, tile.columns);
                if tile.rows > 0 && columns > 0 {
                    // SAFETY: the chunk has states for these columns, and the tile its elements.
                    unsafe {
                        kernel(&FoldArgs {
                            state: self.states.add(offset),
                            tile: self.get(source),
                            rows: tile.rows,
                            columns,
                            seen: tile.row.wrapping_sub(self.chunk_row),
                        });
                    }
                }
            }
            Op::Store { access, value, level } => {
                if is_first(tile, level) {
                    let access = &self.sweep.accesses[access];
                    // SAFETY: the view lies inside its buffer; nothing that is still read is overwritten.
                    unsafe {
                        access.store(self.memory.address(access.base), part(tile, level), self.get(value))
                    };
                }
            }
            Op::Check { value, level, check } => {
                let tile = part(tile, level);
                // SAFETY: the array holds that many bytes.
                let holds = unsafe { std::slice::from_raw_parts(self.get(value), tile.rows * tile.columns) };
                if holds.contains(&0) {
                    self.failures.note(self.sweep.checks[check]);
                }
            }
        }
    }

    fn along(&self, along: &Along, tile: Tile) {
        let state = self.get(along.state);
        if tile.columns == 0 {
            // SAFETY: the states have an element for each row in each array.
            unsafe { (along.movement.fill)(state, self.get(along.identity), tile.rows * along.arrays) };
            return;
        }
        if tile.rows == 0 {
            return;
        }
        let first = tile.column == 0;
        let to = if first { state } else { self.get(along.partial) };
        let source = self.get(along.tile).cast_const();
        // SAFETY: the tile and the states have the sizes given, neither of which is 0.
        unsafe {
            (along.kernel)(&FoldArgs {
                state: to,
                tile: source,
                rows: tile.rows,
                columns: tile.columns,
                seen: 0,
            });
            if !first {
                (along.merge)(&MergeArgs {
                    state,
                    other: to,
                    len: tile.rows,
                    counts: [tile.column, tile.columns],
                });
            }
        }
    }
}

/// The part of a tile over which values of a level vary.
fn part(tile: Tile, level: Level) -> Tile {
    match level {
        Level::Elem => tile,
        Level::Row => Tile { column: 0, columns: 1, ..tile },
        Level::Col => Tile { row: 0, rows: 1, ..tile },
        Level::Scalar => Tile { row: 0, rows: 1, column: 0, columns: 1 },
    }
}

/// Whether no other tile has the same values of a level.
fn is_first(tile: Tile, level: Level) -> bool {
    let (row, column) = (tile.row == 0, tile.column == 0);
    match level {
        Level::Elem => true,
        Level::Row => column,
        Level::Col => row,
        Level::Scalar => row && column,
    }
}
