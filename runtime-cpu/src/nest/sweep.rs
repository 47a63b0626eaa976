//! A sweep: straight-line code over the tiles of a domain.

use std::mem::size_of;

use graphc_ir::dtype::DType;
use graphc_ir::program::{FoldKind, Level};

use super::access::{Access, Progression};
use super::op::{Op, ValueId};
use crate::threshold::thresholds;
use crate::tile::fold::{identity, state_arrays};
use crate::tile::movement::{Movement, movement, scalar_bytes};

/// How a domain is cut into tiles.
#[derive(Clone, Copy, Debug)]
pub struct Tiling {
    pub rows: usize,
    pub columns: usize,
    pub tile_rows: usize,
    pub tile_columns: usize,
}

thresholds! {
    /// Elements of a tile.
    pub const TILE: usize = 1024, of Nest [Columns];
    /// A row that is folded is one tile up to this length.
    const LONG_ROW: usize = 4096, of Nest [Columns];
}

/// Edges of a tile that is read across its rows.
const SQUARE: (usize, usize) = (32, 64);

impl Tiling {
    /// The tiling for a sweep; `folds_rows` says that rows are folded, `folds_down` that columns are,
    /// `transposed` that neighbours in memory are in neighbouring rows for some port.
    pub fn choose(
        rows: usize,
        columns: usize,
        folds_rows: bool,
        folds_down: bool,
        transposed: bool,
    ) -> Tiling {
        // Tall tiles merge fewer states of columns.
        let elements = if folds_down { 4 * TILE } else { TILE };
        let whole = if folds_rows { LONG_ROW } else { TILE };
        let (tile_rows, tile_columns) = if transposed && !folds_rows && rows > 1 {
            (SQUARE.0, columns.min(SQUARE.1))
        } else if columns <= whole {
            let least = if transposed { 8 } else { 1 };
            ((elements / columns.max(1)).max(least), columns)
        } else {
            (1, columns.div_ceil(columns.div_ceil(TILE)).next_multiple_of(16))
        };
        Tiling { rows, columns, tile_rows: tile_rows.min(rows.max(1)), tile_columns: tile_columns.max(1) }
    }

    /// Tiles one below the other; an empty domain has one, empty tile.
    pub fn row_tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows).max(1)
    }

    /// Tiles side by side.
    pub fn column_tiles(&self) -> usize {
        self.columns.div_ceil(self.tile_columns).max(1)
    }

    /// The largest number of elements of a level in a tile.
    pub fn elements(&self, level: Level) -> usize {
        match level {
            Level::Scalar => 1,
            Level::Row => self.tile_rows,
            Level::Col => self.tile_columns,
            Level::Elem => self.tile_rows * self.tile_columns,
        }
    }
}

/// What the table of pointers holds for a value when a part of a run begins.
#[derive(Clone, Copy, Debug)]
pub enum Initial {
    /// An array of the part's scratch, from this byte on.
    Scratch(usize),
    /// A constant, by index.
    Constant(usize),
    /// Whatever the first operation on the value says.
    Unbound,
}

/// A fold down the columns: states in scratch for each chunk of rows.
#[derive(Clone, Copy, Debug)]
pub struct DownFold {
    pub kind: FoldKind,
    pub dtype: DType,
    /// One state a column, or one in all.
    pub level: Level,
    /// First byte of its states in a chunk's.
    pub offset: usize,
    /// Instruction of the body that it is.
    pub inst: usize,
    /// Whether it is a mean whose states are the first arrays of those of a variance, which comes before it.
    pub shared: bool,
}

/// Straight-line code over the tiles of a domain.
#[derive(Clone, Debug)]
pub struct Sweep {
    pub tiling: Tiling,
    pub accesses: Vec<Access>,
    pub progressions: Vec<Progression>,
    pub constants: Vec<[u8; 8]>,
    pub initial: Vec<Initial>,
    /// Once for each part of a run.
    pub launch: Vec<Op>,
    /// When the columns of the tile change.
    pub column: Vec<Op>,
    /// For each tile. Several passes go over a row that is folded and longer than a tile.
    pub passes: Vec<Vec<Op>>,
    pub downs: Vec<DownFold>,
    /// The check of the nest that each of this body's checks is.
    pub checks: Vec<usize>,
    /// Bytes of the states of all [`Sweep::downs`] for one chunk.
    pub state_bytes: usize,
    /// Whether tiles go down the columns first, because something is computed for each column.
    pub columns_outer: bool,
    /// Whether any operation folds rows.
    pub folds_rows: bool,
    /// Work for an element, in units of one addition.
    pub weight: usize,
    /// Bytes of scratch for a part: the table, then the arrays.
    pub region_bytes: usize,
    /// The dot product's elements, in its epilogue.
    pub acc: Option<ValueId>,
}

impl Sweep {
    /// Bytes of the table of pointers, rounded up to a cache line.
    pub fn table_bytes(values: usize) -> usize {
        (values * size_of::<*mut u8>()).next_multiple_of(64)
    }

    /// Units of work that may run at the same time.
    pub fn units(&self) -> usize {
        if self.passes.len() > 1 || self.folds_rows {
            self.tiling.row_tiles()
        } else {
            self.tiling.row_tiles() * self.tiling.column_tiles()
        }
    }
}

impl DownFold {
    /// Arrays that its state has.
    pub fn arrays(&self) -> usize {
        if self.shared {
            state_arrays(FoldKind::Var, self.dtype)
        } else {
            state_arrays(self.kind, self.dtype)
        }
    }

    /// What the states of no rows hold.
    pub fn identity(&self) -> [u8; 8] {
        scalar_bytes(identity(self.kind, self.dtype), self.dtype)
    }

    /// Moves of its elements.
    pub fn movement(&self) -> Movement {
        movement(self.dtype)
    }

    /// Results of a domain of so many columns.
    pub fn results(&self, columns: usize) -> usize {
        if self.level == Level::Col { columns } else { 1 }
    }

    /// Bytes of its states for one chunk of rows.
    pub fn state_bytes(&self, columns: usize) -> usize {
        self.results(columns) * self.dtype.size() * self.arrays()
    }

    /// First byte of the states of a tile's columns in those of a chunk, and their number.
    ///
    /// Each tile's states lie together: first one array of all its columns, then the next.
    pub fn states(&self, column: usize, columns: usize) -> (usize, usize) {
        match self.level {
            Level::Col => (self.offset + column * self.dtype.size() * self.arrays(), columns),
            _ if column == 0 => (self.offset, 1),
            _ => (self.offset, 0),
        }
    }
}
