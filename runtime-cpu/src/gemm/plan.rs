//! Which way a product goes, how it is cut for threads, and the scratch that it needs.

use super::gemv::MAX_VECTORS;
use super::kernels::Kernels;
use super::{ALayout, BLOCK_ROWS, BLayout, Element, Problem, RowBlocks, packed_len};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::threshold::thresholds;

thresholds! {
    /// Steps of k that are summed in registers at a time; more steps are cut into equal blocks of at most
    /// this many. A panel of B for that many steps stays in the second cache.
    pub const MAX_K_BLOCK: usize = 2048, of Dot [Depth];
    /// Bytes of A that stay in the second cache while the panels of B pass.
    const A_BLOCK_BYTES: usize = 256 << 10, of Dot [Depth, Rows, Bytes];
    /// The largest copy of a block of rows of A; longer rows are read where they lie.
    const MAX_COPY_BYTES: usize = 4 << 20, of Dot [Rows, Depth, Bytes];
    /// Sums of a product of few rows that are under way at a time, so that they stay in the first caches.
    const STRIP_SUMS: usize = 4096, of Dot [Rows, Columns];
    /// Columns of a strip that several groups of vectors pass over.
    const STRIP_OF_GROUPS: usize = 16, of Dot [Columns];
    /// Multiply-adds below which waking other threads does not pay (about 10 us of one core).
    pub const SERIAL_BELOW: usize = 500_000, of Dot [Rows, Columns, Depth];
    /// B is read where it lies for at most this many rows: packing is one more pass over B.
    const UNPACKED_ROWS: usize = 48, of Dot [Rows];
    /// Shorter dot products than this take too long to add up their lanes.
    const MIN_DOT: usize = 256, of Dot [Depth];
    /// B is read where it lies up to this many bytes, if its rows do not fall on the same cache sets.
    const UNPACKED_BYTES: usize = 256 << 10, of Dot [Depth, Columns, Bytes];
}

/// What a product does, from its shapes, its strides and the number of threads alone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub path: Path,
    pub pack: PackB,
    pub split: Split,
    /// Elements of scratch that all threads share: B packed by all of them.
    pub shared: usize,
    /// Elements of scratch of each part.
    pub each: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum Path {
    /// Register tiles over panels of B.
    Panels(Panels),
    /// Few rows, or one column, times a matrix that is read once.
    Skinny(Skinny),
}

/// How register tiles go over C.
#[derive(Clone, Copy, Debug)]
pub struct Panels {
    /// Rows between two passes over the panels.
    pub row_block: usize,
    /// Whether a row block of A is copied first, with the rows of each step next to each other.
    pub copy_a: bool,
    /// Blocks that k is cut into; at least one.
    pub k_blocks: usize,
    /// Steps of each block but the last.
    pub k_block: usize,
}

/// A product of a few vectors with a matrix; see [`super::skinny`].
#[derive(Clone, Copy, Debug)]
pub struct Skinny {
    /// The vectors: rows of A, or the one column of B.
    pub vectors: usize,
    /// Whether the vector is B's and the matrix A.
    pub column: bool,
    /// Whether the matrix is contiguous along k.
    pub dot: bool,
    /// Elements from one row of the matrix, along which it is contiguous, to the next.
    pub matrix_stride: usize,
    /// Columns of the matrix.
    pub len: usize,
    /// Columns of the matrix whose sums are finished before the next ones': whole blocks of an epilogue's.
    pub strip: usize,
    /// Columns of a strip that all groups of vectors pass over before the next ones.
    pub pass: usize,
    /// From one vector to the next, and from one step of k to the next.
    pub vector_strides: (usize, usize),
}

impl Skinny {
    /// Whether the vectors have to be copied to be contiguous along k.
    pub fn copies_vectors(&self) -> bool {
        self.dot && self.vector_strides.1 != 1
    }

    /// Elements from the sums of one vector to the next: whole vectors of any instruction set.
    pub fn sums_stride<T>(&self) -> usize {
        whole_lines::<T>(self.strip)
    }

    /// Elements of scratch for the sums.
    pub fn sums<T>(&self) -> usize {
        self.vectors * self.sums_stride::<T>()
    }
}

/// When and where B is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackB {
    /// It is packed already, or read where it lies.
    No,
    /// All threads pack the only B, then all multiply.
    Once,
    /// For one product after the other, all threads pack, then all multiply.
    EachProduct,
    /// Each thread packs the B of its own products.
    EachThread,
}

/// The numbers of parts that the batch, the rows and the columns are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub batch: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Split {
    pub fn parts(self) -> usize {
        self.batch * self.rows * self.columns
    }
}

/// The bytes of scratch that [`super::gemm`] needs with a pool of `threads` threads.
pub fn scratch_bytes<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> usize {
    plan::<T>(isa, problem, threads).scratch_bytes::<T>()
}

/// The blocks that [`super::gemm`] makes of the rows, if it keeps units of them together.
pub fn row_blocks(problem: &Problem) -> Option<RowBlocks> {
    let blocks = RowBlocks { sets: problem.batch, blocks: problem.m.div_ceil(BLOCK_ROWS) };
    // Whether the way is that of few rows does not depend on the columns of a block.
    skinny(problem, 1).is_none().then_some(blocks)
}

impl Plan {
    pub fn scratch_bytes<T>(&self) -> usize {
        let elements = self.each.saturating_mul(self.split.parts()).saturating_add(self.shared);
        elements.saturating_mul(size_of::<T>()).saturating_add(ALIGNMENT)
    }
}

pub fn plan<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> Plan {
    let kernels = T::kernels(isa);
    let work = [problem.m, problem.n, problem.k.max(1), problem.batch]
        .into_iter()
        .fold(1usize, usize::saturating_mul);
    let threads = threads.min((work / SERIAL_BELOW).max(1));
    match skinny(problem, kernels.columns) {
        Some(skinny) => skinny_plan(kernels, problem, skinny, threads),
        None => panels_plan(isa, kernels, problem, threads),
    }
}

/// The way of few rows or one column, if that is the problem's. Blocks of an epilogue have `columns` columns.
fn skinny(problem: &Problem, columns: usize) -> Option<Skinny> {
    let Problem { m, n, k, a: ALayout { row_stride, k_stride, .. }, b, .. } = *problem;
    if n == 1 && m > MAX_VECTORS {
        let b_step = match b {
            BLayout::RowMajor { stride } => stride,
            BLayout::Transposed { .. } => 1,
            BLayout::Packed => return None,
        };
        let (dot, matrix_stride) = match (row_stride, k_stride) {
            (_, 1) => (true, row_stride),
            (1, _) => (false, k_stride),
            _ => return None,
        };
        let (vectors, strip, vector_strides) = (1, STRIP_SUMS, (0, b_step));
        let (len, pass) = (m, strip);
        return Some(Skinny { vectors, column: true, dot, matrix_stride, len, strip, pass, vector_strides });
    }
    let few = (1..=MAX_VECTORS).contains(&m);
    let (dot, matrix_stride) = match b {
        BLayout::RowMajor { stride } if few => (false, stride),
        BLayout::Transposed { stride } if few || m <= UNPACKED_ROWS && k >= MIN_DOT => (true, stride),
        _ => return None,
    };
    // A strip ends where a block of the epilogue does, so that no block is cut in two.
    let (strip, pass) = if few {
        let strip = (STRIP_SUMS / m / columns * columns).max(columns);
        (strip, strip)
    } else {
        (STRIP_OF_GROUPS.next_multiple_of(columns), STRIP_OF_GROUPS)
    };
    let vector_strides = (row_stride, k_stride);
    Some(Skinny { vectors: m, column: false, dot, matrix_stride, len: n, strip, pass, vector_strides })
}

fn skinny_plan<T>(kernels: &Kernels<T>, problem: &Problem, skinny: Skinny, threads: usize) -> Plan {
    let units = skinny.len.div_ceil(kernels.columns);
    let split = split(threads, problem.batch, 1, units);
    let copied = if skinny.copies_vectors() { skinny.vectors.saturating_mul(problem.k) } else { 0 };
    let each = skinny.sums::<T>().saturating_add(whole_lines::<T>(copied));
    Plan { path: Path::Skinny(skinny), pack: PackB::No, split, shared: 0, each }
}

fn panels_plan<T: Element>(isa: Isa, kernels: &Kernels<T>, problem: &Problem, threads: usize) -> Plan {
    let Problem { m, n, k, batch, .. } = *problem;
    let size = size_of::<T>();
    let panel_units = n.div_ceil(kernels.columns);
    let row_units = m.div_ceil(kernels.rows);

    let fitting = A_BLOCK_BYTES / size / k.max(1) / BLOCK_ROWS * BLOCK_ROWS;
    let row_block = fitting.clamp(BLOCK_ROWS, 10 * BLOCK_ROWS).min(m.max(1));
    // With rows next to each other a step of k would touch a cache line, or a page, of its own.
    let copy_a = problem.a.k_stride != 1
        && panel_units > 1
        && row_block.saturating_mul(k).saturating_mul(size) <= MAX_COPY_BYTES;

    let packs = match problem.b {
        BLayout::Packed => false,
        BLayout::Transposed { .. } => true,
        BLayout::RowMajor { stride } => {
            let fits = k.saturating_mul(n).saturating_mul(size) <= UNPACKED_BYTES;
            let aliases = stride.saturating_mul(size).is_multiple_of(4096);
            m > UNPACKED_ROWS && (aliases || !fits)
        }
    };
    let k_blocks = k.div_ceil(MAX_K_BLOCK).max(1);
    let k_block = k.div_ceil(k_blocks).next_multiple_of(4);
    let one_b = batch == 1 || problem.b_batch_stride == 0;
    let mut split_of_all = split(threads, batch, row_units, panel_units);
    let pack = match (packs, one_b, split_of_all) {
        (false, ..) => PackB::No,
        (true, true, _) => PackB::Once,
        (true, false, Split { rows: 1, columns: 1, .. }) => PackB::EachThread,
        (true, false, _) => PackB::EachProduct,
    };
    if pack == PackB::EachProduct {
        split_of_all = split(threads, 1, row_units, panel_units);
    }

    let packed = whole_lines::<T>(packed_len::<T>(isa, k, n));
    let block = whole_lines::<T>(row_block.max(BLOCK_ROWS) * kernels.columns);
    let copied = if copy_a { whole_lines::<T>(row_block * k) } else { 0 };
    let own = if pack == PackB::EachThread { packed } else { 0 };
    Plan {
        path: Path::Panels(Panels { row_block, copy_a, k_blocks, k_block }),
        pack,
        split: split_of_all,
        shared: if matches!(pack, PackB::Once | PackB::EachProduct) { packed } else { 0 },
        each: block.saturating_add(copied).saturating_add(own),
    }
}

/// Cuts the work so that the largest part is as small as it can be with `threads` parts at most. Of
/// equal cuts it takes the one with the most cuts of the batch, then of rows: the operands of such parts
/// overlap least.
pub fn split(threads: usize, batch: usize, rows: usize, columns: usize) -> Split {
    let mut best = (usize::MAX, Split { batch: 1, rows: 1, columns: 1 });
    for by_batch in (1..=threads.min(batch)).rev() {
        for by_rows in (1..=(threads / by_batch).min(rows)).rev() {
            let by_columns = (threads / by_batch / by_rows).min(columns).max(1);
            let largest = [(batch, by_batch), (rows, by_rows), (columns, by_columns)]
                .into_iter()
                .fold(1usize, |largest, (units, cuts)| largest.saturating_mul(units.div_ceil(cuts)));
            if largest < best.0 {
                best = (largest, Split { batch: by_batch, rows: by_rows, columns: by_columns });
            }
        }
    }
    best.1
}

/// Elements rounded up to whole cache lines, so that what follows is aligned.
pub fn whole_lines<T>(elements: usize) -> usize {
    let line = ALIGNMENT / size_of::<T>();
    elements.div_ceil(line).saturating_mul(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_balanced_and_prefer_the_batch_then_rows() {
        let cases = [
            ((2, 1, 100, 10), (1, 2, 1)),
            ((2, 8, 100, 10), (2, 1, 1)),
            ((2, 1, 1, 10), (1, 1, 2)),
            ((2, 1, 3, 10), (1, 1, 2)),
            ((8, 2, 4, 9), (2, 4, 1)),
            ((16, 3, 100, 16), (1, 4, 4)),
            ((5, 1, 1, 1), (1, 1, 1)),
            ((4, 0, 0, 0), (1, 1, 1)),
        ];
        for ((threads, batch, rows, columns), (by_batch, by_rows, by_columns)) in cases {
            let expected = Split { batch: by_batch, rows: by_rows, columns: by_columns };
            assert_eq!(split(threads, batch, rows, columns), expected, "{threads} {batch} {rows} {columns}");
        }
    }

    #[test]
    fn huge_shapes_ask_for_huge_scratch_without_overflow() {
        let problem = Problem {
            m: usize::MAX,
            n: usize::MAX / 2,
            k: usize::MAX / 3,
            batch: 7,
            a: ALayout { row_stride: 1, k_stride: usize::MAX, batch_stride: 1 },
            b: BLayout::RowMajor { stride: usize::MAX },
            b_batch_stride: 1,
        };
        for isa in Isa::ALL {
            assert_eq!(scratch_bytes::<f32>(isa, &problem, 64), usize::MAX);
        }
    }
}
