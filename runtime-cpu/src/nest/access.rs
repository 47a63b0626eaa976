//! How the elements of a port are addressed by flat row and column numbers.

use graphc_ir::dtype::DType;
use graphc_ir::program::View;

use crate::tile::movement::{Block, Movement, movement, scalar_bytes};

/// The largest number of dims that a domain's rows, or columns, may have.
pub const MAX_DIMS: usize = 16;

/// The memory that a port's elements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A buffer of the Program, by index.
    Buffer(usize),
    /// The step's scratch, from this byte on.
    Scratch(usize),
}

/// A part of a domain: rows `row .. row + rows`, columns `column .. column + columns`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tile {
    pub row: usize,
    pub rows: usize,
    pub column: usize,
    pub columns: usize,
}

/// One dim: its size, its stride in elements, and the coordinates that are inside the guard.
#[derive(Clone, Copy, Debug)]
struct Dim {
    size: usize,
    stride: isize,
    lo: usize,
    hi: usize,
}

impl Dim {
    fn guarded(&self) -> bool {
        self.lo > 0 || self.hi < self.size
    }
}

/// A port's view, with the dims of rows and of columns collapsed as far as its strides allow.
#[derive(Clone, Debug)]
pub struct Access {
    pub base: Base,
    pub dtype: DType,
    offset: isize,
    rows: Vec<Dim>,
    columns: Vec<Dim>,
    fill: [u8; 8],
    movement: Movement,
}

/// A stretch of one collapsed dim: `len` coordinates from tile position `at`, the first at `offset`.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: usize,
    len: usize,
    offset: isize,
    stride: isize,
    inside: bool,
}

impl Access {
    /// The access of a view over `rows` and `columns`.
    pub fn new(base: Base, dtype: DType, view: &View, rows: &[usize], columns: &[usize]) -> Access {
        let sizes: Vec<usize> = rows.iter().chain(columns).copied().collect();
        let dims: Vec<Dim> = (0..sizes.len())
            .map(|i| {
                let (lo, hi) =
                    view.guard.as_ref().map_or((0, sizes[i]), |g| (g.lo[i], g.hi[i].min(sizes[i])));
                Dim { size: sizes[i], stride: view.strides[i], lo: lo.min(hi), hi }
            })
            .collect();
        let (row_dims, column_dims) = dims.split_at(rows.len());
        Access {
            base,
            dtype,
            offset: view.offset,
            rows: collapse(row_dims),
            columns: collapse(column_dims),
            fill: view.guard.as_ref().map_or([0; 8], |g| scalar_bytes(g.fill, dtype)),
            movement: movement(dtype),
        }
    }

    /// Whether elements differ from row to row.
    pub fn varies_by_row(&self) -> bool {
        varies(&self.rows)
    }

    /// Whether elements differ from column to column.
    pub fn varies_by_column(&self) -> bool {
        varies(&self.columns)
    }

    /// Stride from one column to the next, if there is one stride; of a single column 1.
    fn column_stride(&self) -> Option<isize> {
        single_stride(&self.columns)
    }

    /// Stride from one row to the next, if there is one stride.
    fn row_stride(&self) -> Option<isize> {
        single_stride(&self.rows)
    }

    /// Whether neighbours in memory are in neighbouring rows rather than columns.
    pub fn is_transposed(&self) -> bool {
        let last = |dims: &[Dim]| dims.last().map_or(0, |d| d.stride.unsigned_abs());
        let (row, column) = (last(&self.rows), last(&self.columns));
        row > 0 && column > 1 && row < column
    }

    /// Whether the elements of every tile of `rows` by `columns` elements (at least two in a dim that
    /// the tile is not the whole of) lie one after the other, row after row.
    pub fn is_contiguous(&self, rows: usize, columns: usize) -> bool {
        if self.guarded() {
            return false;
        }
        let along = columns <= 1 || self.column_stride() == Some(1);
        let down = rows <= 1 || self.row_stride() == Some(columns as isize);
        along && down
    }

    /// Whether the elements of the rows, which do not vary by column, lie one after the other.
    pub fn is_contiguous_down(&self) -> bool {
        !self.guarded() && self.row_stride() == Some(1)
    }

    /// Whether any part of the domain lies outside the guard.
    fn guarded(&self) -> bool {
        self.rows.iter().chain(&self.columns).any(Dim::guarded)
    }

    /// Byte offset of an element of an access without a guard.
    pub fn byte_offset(&self, row: usize, column: usize) -> isize {
        (self.offset + element_offset(&self.rows, row) + element_offset(&self.columns, column))
            * self.dtype.size() as isize
    }

    /// Copies a tile from memory, row after row.
    ///
    /// # Safety
    /// `memory` is the buffer's; `to` has room for the tile and is no part of it.
    pub unsafe fn load(&self, memory: *const u8, tile: Tile, to: *mut u8) {
        let size = self.dtype.size();
        let mut runs = Runs::new(&self.rows, tile.row, tile.rows);
        while let Some(down) = runs.next() {
            let mut runs = Runs::new(&self.columns, tile.column, tile.columns);
            while let Some(along) = runs.next() {
                // SAFETY: the runs stay inside the tile, and the view inside its buffer where it is
                // inside the guard, as the verifier found.
                unsafe {
                    let to = to.add((down.at * tile.columns + along.at) * size);
                    if down.inside && along.inside {
                        let first = (self.offset + down.offset + along.offset) * size as isize;
                        (self.movement.gather)(to, tile.columns, memory.offset(first), block(down, along));
                    } else {
                        for row in 0..down.len {
                            (self.movement.fill)(
                                to.add(row * tile.columns * size),
                                self.fill.as_ptr(),
                                along.len,
                            );
                        }
                    }
                }
            }
        }
    }

    /// Copies a tile to memory. The access has no guard.
    ///
    /// # Safety
    /// As [`Access::load`], with the directions exchanged.
    pub unsafe fn store(&self, memory: *mut u8, tile: Tile, from: *const u8) {
        let size = self.dtype.size();
        let mut runs = Runs::new(&self.rows, tile.row, tile.rows);
        while let Some(down) = runs.next() {
            let mut runs = Runs::new(&self.columns, tile.column, tile.columns);
            while let Some(along) = runs.next() {
                let first = (self.offset + down.offset + along.offset) * size as isize;
                // SAFETY: as in `load`.
                unsafe {
                    let from = from.add((down.at * tile.columns + along.at) * size);
                    (self.movement.scatter)(from, tile.columns, memory.offset(first), block(down, along));
                }
            }
        }
    }
}

fn block(down: Run, along: Run) -> Block {
    Block { rows: down.len, columns: along.len, row_stride: down.stride, column_stride: along.stride }
}

fn varies(dims: &[Dim]) -> bool {
    dims.iter().any(|d| d.size > 1 && d.stride != 0 || d.guarded())
}

fn single_stride(dims: &[Dim]) -> Option<isize> {
    match dims {
        [] => Some(1),
        [dim] => Some(dim.stride),
        _ => None,
    }
}

/// Drops dims of one coordinate, or none, and joins neighbours that are one stride apart.
fn collapse(dims: &[Dim]) -> Vec<Dim> {
    let mut out: Vec<Dim> = Vec::new();
    for &dim in dims {
        if dim.size <= 1 && !dim.guarded() {
            continue;
        }
        match out.last_mut() {
            Some(last)
                if !last.guarded() && !dim.guarded() && last.stride == dim.stride * dim.size as isize =>
            {
                let size = last.size * dim.size;
                *last = Dim { size, stride: dim.stride, lo: 0, hi: size };
            }
            _ => out.push(dim),
        }
    }
    out
}

fn element_offset(dims: &[Dim], mut index: usize) -> isize {
    let Some((outermost, inner)) = dims.split_first() else { return 0 };
    let mut offset = 0;
    for dim in inner.iter().rev() {
        offset += (index % dim.size.max(1)) as isize * dim.stride;
        index /= dim.size.max(1);
    }
    offset + index as isize * outermost.stride
}

/// Walks a range of flat indices in stretches of the innermost dim, cut where the guard begins and ends.
struct Runs<'a> {
    dims: &'a [Dim],
    coordinates: [usize; MAX_DIMS],
    at: usize,
    len: usize,
}

impl<'a> Runs<'a> {
    fn new(dims: &'a [Dim], start: usize, len: usize) -> Runs<'a> {
        let mut coordinates = [0; MAX_DIMS];
        let mut index = start;
        for (i, dim) in dims.iter().enumerate().skip(1).rev() {
            coordinates[i] = index % dim.size.max(1);
            index /= dim.size.max(1);
        }
        coordinates[0] = index;
        Runs { dims, coordinates, at: 0, len }
    }

    fn next(&mut self) -> Option<Run> {
        let left = self.len - self.at;
        if left == 0 {
            return None;
        }
        let at = self.at;
        let Some((inner, outer)) = self.dims.split_last() else {
            self.at = self.len;
            return Some(Run { at, len: left, offset: 0, stride: 0, inside: true });
        };
        let mut inside = true;
        let mut offset = 0;
        for (dim, &coordinate) in outer.iter().zip(&self.coordinates) {
            inside &= (dim.lo..dim.hi).contains(&coordinate);
            offset += coordinate as isize * dim.stride;
        }
        let coordinate = &mut self.coordinates[outer.len()];
        let (end, within) = if *coordinate < inner.lo {
            (inner.lo, false)
        } else if *coordinate < inner.hi {
            (inner.hi, true)
        } else {
            (inner.size, false)
        };
        let len = (end - *coordinate).min(left);
        offset += *coordinate as isize * inner.stride;
        *coordinate += len;
        self.at += len;
        self.carry();
        Some(Run { at, len, offset, stride: inner.stride, inside: inside && within })
    }

    /// Moves full inner coordinates on to the next outer one.
    fn carry(&mut self) {
        for i in (1..self.dims.len()).rev() {
            if self.coordinates[i] < self.dims[i].size {
                return;
            }
            self.coordinates[i] = 0;
            self.coordinates[i - 1] += 1;
        }
    }
}

/// The progression `sum(coordinate * stride)` over flat row and column numbers.
#[derive(Clone, Debug)]
pub struct Progression {
    rows: Vec<Dim>,
    columns: Vec<Dim>,
}

impl Progression {
    /// Strides are over `rows` and then `columns`.
    pub fn new(strides: &[i64], rows: &[usize], columns: &[usize]) -> Progression {
        let dim = |(&size, &stride): (&usize, &i64)| Dim { size, stride: stride as isize, lo: 0, hi: size };
        Progression {
            rows: collapse(&rows.iter().zip(strides).map(dim).collect::<Vec<_>>()),
            columns: collapse(&columns.iter().zip(&strides[rows.len()..]).map(dim).collect::<Vec<_>>()),
        }
    }

    /// Whether values differ from row to row.
    pub fn varies_by_row(&self) -> bool {
        varies(&self.rows)
    }

    /// Whether values differ from column to column.
    pub fn varies_by_column(&self) -> bool {
        varies(&self.columns)
    }

    /// Writes a tile's values, row after row.
    ///
    /// # Safety
    /// `to` has room for them.
    pub unsafe fn write(&self, tile: Tile, to: *mut i64) {
        let mut runs = Runs::new(&self.rows, tile.row, tile.rows);
        while let Some(down) = runs.next() {
            let mut runs = Runs::new(&self.columns, tile.column, tile.columns);
            while let Some(along) = runs.next() {
                for row in 0..down.len {
                    let first = (down.offset + row as isize * down.stride + along.offset) as i64;
                    let stride = along.stride as i64;
                    for column in 0..along.len {
                        // SAFETY: the runs stay inside the tile.
                        unsafe {
                            to.add((down.at + row) * tile.columns + along.at + column)
                                .write(first + column as i64 * stride);
                        }
                    }
                }
            }
        }
    }
}
