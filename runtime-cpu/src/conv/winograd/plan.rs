//! How tiles are cut into blocks and for threads, and the scratch that they need.

use super::MATRICES;
use crate::conv::Problem;
use crate::conv::plan::{is_empty, whole_lines};
use crate::gemm::{Element, RowBlocks, SERIAL_BELOW, Split, block_columns, split};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::threshold::thresholds;

thresholds! {
    /// Bytes of transformed filters that stay in the second cache.
    const FILTER_BYTES: usize = 1 << 20, of Conv [Channels, Columns, Bytes] at FILTER_BYTES / MATRICES;
}

/// How large a block is at most: its tiles, and the bytes of transformed windows and of sums.
struct Limits {
    tiles: usize,
    bytes: usize,
}

/// While the filters stay in the second cache, small blocks do so too.
const SMALL: Limits = Limits { tiles: 24, bytes: 1 << 20 };

/// Filters that each block has to fetch again are worth large blocks, which are read in long runs.
const LARGE: Limits = Limits { tiles: 96, bytes: 8 << 20 };

/// What a convolution does, from its shapes and the number of threads alone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tiles along the height and the width of an image.
    pub tiles: [usize; 2],
    /// Tiles of all images.
    pub all_tiles: usize,
    /// Tiles of a block.
    pub block: usize,
    pub split: Split,
    /// Elements from one row of transformed windows to the next, and from one matrix to the next: of the
    /// windows and of the sums.
    pub window_stride: usize,
    pub window_matrix: usize,
    pub sums_matrix: usize,
    /// Elements of a part's scratch: zeros for the padding, windows, sums and pixels.
    pub zeros: usize,
    pub windows: usize,
    pub sums: usize,
    pub pixels: usize,
    element: usize,
}

/// The bytes of scratch that [`super::conv`] needs with a pool of `threads` threads.
pub fn scratch_bytes<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> usize {
    if is_empty(problem) { 0 } else { plan::<T>(isa, problem, threads).scratch_bytes() }
}

/// The blocks that [`super::conv`] makes of the output pixels.
pub fn row_blocks<T: Element>(isa: Isa, problem: &Problem) -> RowBlocks {
    if is_empty(problem) { RowBlocks { sets: 0, blocks: 0 } } else { plan::<T>(isa, problem, 1).row_blocks() }
}

impl Plan {
    pub fn row_blocks(&self) -> RowBlocks {
        RowBlocks { sets: 1, blocks: self.all_tiles.div_ceil(self.block) }
    }

    /// Elements of a part's scratch.
    pub fn each(&self) -> usize {
        [self.zeros, self.windows, self.sums, self.pixels].into_iter().fold(0, usize::saturating_add)
    }

    pub fn scratch_bytes(&self) -> usize {
        let elements = self.each().saturating_mul(self.split.parts());
        elements.saturating_mul(self.element).saturating_add(ALIGNMENT)
    }
}

pub fn plan<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> Plan {
    let Problem { images, cin, cout, geometry, .. } = *problem;
    let (columns, lanes, size) = (block_columns::<T>(isa), T::kernels(isa).lanes, size_of::<T>());
    let tiles = [geometry.output[1].div_ceil(2), geometry.output[2].div_ceil(2)];
    let all_tiles = images.saturating_mul(tiles[0]).saturating_mul(tiles[1]);

    let filter_bytes = cin.saturating_mul(cout).saturating_mul(MATRICES * size);
    let limits = if filter_bytes <= FILTER_BYTES { SMALL } else { LARGE };
    let tile_bytes = cin.saturating_add(columns).saturating_mul(MATRICES * size);
    // Multiples of the register tile's rows, and blocks of about the same size.
    let most = (limits.bytes / tile_bytes / 6 * 6).clamp(6, limits.tiles);
    let blocks = all_tiles.div_ceil(most);
    let block = all_tiles.div_ceil(blocks).next_multiple_of(6);

    let line = ALIGNMENT / size;
    let window_stride = cin.div_ceil(lanes).saturating_mul(lanes);
    // One line more, so that the 16 places of a transform do not fall on the same cache sets.
    let matrix = |row: usize| whole_lines(row.saturating_mul(block * size)) / size + line;
    let (window_matrix, sums_matrix) = (matrix(window_stride), matrix(columns));
    let work = [images, geometry.pixels(), 4, cin.max(1), cout].into_iter().fold(1, usize::saturating_mul);
    let threads = threads.min((work / SERIAL_BELOW).max(1));
    Plan {
        tiles,
        all_tiles,
        block,
        split: split(threads, 1, blocks, cout.div_ceil(columns)),
        window_stride,
        window_matrix,
        sums_matrix,
        zeros: whole_lines(window_stride.saturating_mul(size)) / size,
        windows: window_matrix.saturating_mul(MATRICES),
        sums: sums_matrix * MATRICES,
        pixels: 4 * block * columns,
        element: size,
    }
}
