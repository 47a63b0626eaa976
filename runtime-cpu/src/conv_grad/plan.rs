//! How a filter gradient is cut: into blocks of pixels, chunks of rows, and parts for threads.

use super::kernels::Kernels;
use super::{Element, Problem};
use crate::Geometry;
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::threshold::thresholds;

thresholds! {
    /// Output pixels that are summed in registers at a time.
    const BLOCK_PIXELS: usize = 512, of FilterGrad [Width];
    /// The largest number of segments of a block: rows of pixels, or pieces of them.
    pub const MAX_SEGMENTS: usize = 64, of FilterGrad [Images];
    /// Rows of the result whose sums wait for the next block of pixels; with the block's input and gradient
    /// they stay in the second cache.
    const CHUNK_ROWS: usize = 960, of FilterGrad [Channels];
    /// The gradient of a block is copied for at least this many rows: a copy costs as much as about 4.
    const PACK_ROWS: usize = 96, of FilterGrad [Channels];
    /// The largest copy of a block's input rows, in elements, where kernel columns are folded into rows.
    const FOLD_ELEMENTS: usize = 1 << 16, of FilterGrad [Window, Width, Channels];
    /// Multiply-adds below which waking other threads does not pay (about 10 us of one core).
    const SERIAL_BELOW: usize = 500_000, of FilterGrad [Rows, Channels, Columns];
    /// Pixels are cut into splits until there are this many register tiles to share among threads.
    const SPREAD_TILES: usize = 64, of FilterGrad [Window, Window];
    /// A split has this many pixels at least.
    const SPLIT_PIXELS: usize = 1024, of FilterGrad [Rows];
}

/// What a filter gradient does, from its shapes, its strides and the number of threads alone.
///
/// Output rows are cut into pieces of at most [`BLOCK_PIXELS`], numbered by image, depth, piece and
/// height. *Runs* of pieces are cut into blocks.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The problem, with dimensions merged where they can be.
    pub problem: Problem,
    /// The copy of input rows, where kernel columns are folded into the rows of the result.
    pub fold: Option<Fold>,
    /// Whether a block's gradient is copied first, so that its pixels are next to each other: elsewhere they may
    /// fall on the same few cache sets.
    pub pack_dy: bool,
    /// Kernel sizes; the last is 1 where it is folded.
    pub taps: [usize; 3],
    /// Rows of one tap: channels, or kernel columns times channels.
    pub channels: usize,
    /// Pieces of an output row.
    pub pieces: usize,
    /// Pixels of each piece but the last.
    pub piece: usize,
    /// Pieces of one run.
    pub run: usize,
    /// Pieces of each block but the last of a run.
    pub block: usize,
    /// Blocks of all runs.
    pub blocks: usize,
    /// Parts that the blocks are cut into, whose sums are added up at the end.
    pub splits: usize,
    /// Taps, and rows of each, of one chunk.
    pub chunk: (usize, usize),
    /// Parts for threads.
    pub parts: usize,
    /// Elements of scratch that all parts share: the sums of all splits.
    pub shared: usize,
    /// Elements of scratch of each part.
    pub each: usize,
}

/// A copy of the input rows of a block, with their padding.
#[derive(Clone, Copy, Debug)]
pub struct Fold {
    /// Rows of each kernel plane.
    pub rows: usize,
    /// Elements of a row.
    pub row_len: usize,
}

/// The bytes of scratch that [`super::conv_filter_grad`] needs with a pool of `threads` threads.
pub fn scratch_bytes<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> usize {
    plan::<T>(isa, problem, threads).scratch_bytes::<T>()
}

impl Plan {
    pub fn scratch_bytes<T>(&self) -> usize {
        let elements = self.each.saturating_mul(self.parts).saturating_add(self.shared);
        elements.saturating_mul(size_of::<T>()).saturating_add(ALIGNMENT)
    }

    /// Elements from one row of the shared sums to the next.
    pub fn shared_stride<T>(&self) -> usize {
        whole_lines::<T>(self.problem.cout)
    }

    /// Elements of the sums of one chunk.
    pub fn sums<T>(&self, columns: usize) -> usize {
        if self.splits > 1 { 0 } else { whole_lines::<T>(product([self.chunk.0, self.chunk.1, columns])) }
    }

    /// Elements of the copy of a block's gradient.
    pub fn packed_dy<T>(&self, columns: usize) -> usize {
        if self.pack_dy { whole_lines::<T>(product([self.block, self.piece, columns])) } else { 0 }
    }

    /// Chunks of taps, and chunks of each tap's rows.
    pub fn chunks(&self) -> (usize, usize) {
        (product(self.taps).div_ceil(self.chunk.0), self.channels.div_ceil(self.chunk.1))
    }
}

pub fn plan<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> Plan {
    let kernels = T::filter_grad_kernels(isa);
    let problem = folded_in_place(kernels, &merged(problem));
    let Problem { geometry, images, groups, cin, cout, .. } = problem;
    let [depth, height, width] = geometry.output;
    let pieces = width.div_ceil(BLOCK_PIXELS).max(1);
    let piece = width.div_ceil(pieces);
    let mut of_block = (BLOCK_PIXELS / piece.max(1)).clamp(1, MAX_SEGMENTS);
    let all_pieces = product([images, depth, pieces, height]);
    let fold = fold(kernels, &problem, piece, of_block.min(height)).map(|(fold, pieces)| {
        of_block = pieces;
        fold
    });
    let (run, runs) = match fold {
        Some(_) => (height, product([images, depth, pieces])),
        None => (all_pieces, 1),
    };
    let blocks = runs.saturating_mul(run.div_ceil(of_block));
    let (taps, channels) = match fold {
        Some(_) => ([geometry.kernel[0], geometry.kernel[1], 1], geometry.kernel[2] * cin),
        None => (geometry.kernel, cin),
    };

    let pixels = product([images, depth, height, width]);
    let panels = groups.saturating_mul(cout.div_ceil(kernels.columns));
    let tiles = product([panels, product(taps), channels.div_ceil(kernels.rows)]);
    let work = product([pixels, product(taps), channels, groups, cout]);
    let splits = SPREAD_TILES.div_ceil(tiles.max(1)).min(pixels / SPLIT_PIXELS).min(blocks).max(1);
    let splits = if work < SERIAL_BELOW { 1 } else { splits };
    let threads = threads.min((work / SERIAL_BELOW).max(1));
    let bases = panels.saturating_mul(splits);
    let chunk = chunk(kernels, product(taps), channels, bases, threads);
    let pack_dy = problem.dy.strides[2] > kernels.columns && product([chunk.0, chunk.1]) >= PACK_ROWS;
    let mut plan = Plan {
        problem,
        fold,
        pack_dy,
        taps,
        channels,
        pieces,
        piece,
        run,
        block: of_block,
        blocks,
        splits,
        chunk,
        parts: 1,
        shared: 0,
        each: 0,
    };
    let (tap_chunks, channel_chunks) = plan.chunks();
    plan.parts = threads.min(product([bases, tap_chunks, channel_chunks])).max(1);
    if splits > 1 {
        plan.shared = product([splits, groups, problem.rows(), plan.shared_stride::<T>()]);
    }
    let copy = fold.map_or(0, |fold| product([geometry.kernel[0], fold.rows, fold.row_len]));
    plan.each =
        [plan.sums::<T>(kernels.columns), plan.packed_dy::<T>(kernels.columns), whole_lines::<T>(copy)]
            .into_iter()
            .fold(0, usize::saturating_add);
    plan
}

/// The same problem with kernel columns and channels as one, where they follow each other in the input and
/// nothing is padded.
fn folded_in_place<T>(kernels: &Kernels<T>, problem: &Problem) -> Problem {
    let Geometry { input, output, kernel, stride, dilation, pad } = problem.geometry;
    let Some(outputs) = output[2].checked_sub(1) else { return *problem };
    let end = outputs.saturating_mul(stride[2]).saturating_add(kernel[2]);
    let dense = problem.groups == 1 && problem.x.strides[2] == problem.cin && dilation[2] == 1;
    if !thin(kernels, problem) || kernel[2] == 0 || pad[2] > 0 || end > input[2] || !dense {
        return *problem;
    }
    let mut folded = *problem;
    folded.cin = problem.cin.saturating_mul(kernel[2]);
    folded.geometry.input[2] = input[2] - (kernel[2] - 1);
    folded.geometry.kernel[2] = 1;
    folded
}

/// Whether register tiles of one kernel column would be far from full.
fn thin<T>(kernels: &Kernels<T>, problem: &Problem) -> bool {
    problem.cin < 2 * kernels.rows && !problem.cin.is_multiple_of(kernels.rows)
}

/// Whether, and how, kernel columns are folded into rows, and the pieces of a block, at most `block`: few
/// channels would leave register tiles empty.
fn fold<T>(kernels: &Kernels<T>, problem: &Problem, piece: usize, block: usize) -> Option<(Fold, usize)> {
    let Geometry { kernel, stride, dilation, .. } = problem.geometry;
    let gaps = dilation[2] > 1 || stride[1] > kernel[1].saturating_mul(dilation[1]);
    if !thin(kernels, problem) || gaps || kernel[2] <= 1 || piece == 0 {
        return None;
    }
    let span = |outputs: usize, dim: usize| {
        let last = (outputs - 1).saturating_mul(stride[dim]);
        last.saturating_add((kernel[dim].max(1) - 1).saturating_mul(dilation[dim])).saturating_add(1)
    };
    let row_len = span(piece, 2).saturating_mul(problem.cin);
    (1..=block).rev().find_map(|block| {
        let rows = span(block, 1).min(problem.geometry.input[1]);
        let fits = product([kernel[0], rows, row_len]) <= FOLD_ELEMENTS;
        fits.then_some((Fold { rows, row_len }, block))
    })
}

/// Taps and rows of each tap of a chunk, such that the part with most to do takes as little time as can be:
/// a register tile takes 12 cycles a pixel, and reading an element that is not in the near caches about one.
fn chunk<T>(
    kernels: &Kernels<T>,
    taps: usize,
    channels: usize,
    bases: usize,
    threads: usize,
) -> (usize, usize) {
    let tile_rows = kernels.rows;
    let tiles = channels.div_ceil(tile_rows).max(1);
    let most_tiles = (CHUNK_ROWS / tile_rows).max(1);
    let all = product([bases, taps, tiles]);
    let mut best = (usize::MAX, (1, 1));
    let mut try_chunk = |tap_chunk: usize, tile_chunk: usize| {
        let chunks = taps.div_ceil(tap_chunk).saturating_mul(tiles.div_ceil(tile_chunk));
        let units = bases.saturating_mul(chunks).div_ceil(threads);
        let computed = product([units, tap_chunk, tile_chunk]).min(all);
        let read = units.saturating_mul(tile_chunk * tile_rows + kernels.columns);
        let cost = computed.saturating_mul(12).saturating_add(read);
        if cost < best.0 {
            best = (cost, (tap_chunk, tile_chunk));
        }
    };
    for pieces in tiles.div_ceil(most_tiles)..=tiles.min(most_tiles) {
        let tile_chunk = tiles.div_ceil(pieces);
        let mut tap_chunk = (most_tiles / tile_chunk).min(taps);
        while tap_chunk > 0 {
            try_chunk(tap_chunk, tile_chunk);
            tap_chunk /= 2;
        }
    }
    let (tap_chunk, tile_chunk) = best.1;
    (tap_chunk, (tile_chunk * tile_rows).min(channels.max(1)))
}

/// The same problem with as few and as long rows of pixels as can be: a dimension whose kernel does
/// nothing, and whose pixels follow each other in both arrays, joins the one before it.
fn merged(problem: &Problem) -> Problem {
    let mut merged = *problem;
    let plain = |g: &Geometry, dim: usize| {
        g.kernel[dim] == 1 && g.stride[dim] == 1 && g.pad[dim] == 0 && g.input[dim] == g.output[dim]
    };
    for (outer, inner) in [(1, 2), (0, 2)] {
        let Problem { geometry: g, x, dy, .. } = &mut merged;
        let follows =
            |strides: &[usize; 3], size: usize| strides[outer] == strides[inner].saturating_mul(size);
        let size = g.input[inner];
        let one = g.output[outer] == 1 && g.input[outer] == 1;
        if plain(g, outer)
            && plain(g, inner)
            && (one || follows(&x.strides, size) && follows(&dy.strides, size))
        {
            for sizes in [&mut g.input, &mut g.output] {
                sizes[inner] = sizes[inner].saturating_mul(sizes[outer]);
                sizes[outer] = 1;
            }
        } else {
            return merged;
        }
    }
    let Problem { geometry: g, x, dy, images, .. } = &mut merged;
    let image = |strides: &[usize; 3]| strides[2].saturating_mul(g.input[2]);
    if x.image_stride == image(&x.strides) && dy.image_stride == image(&dy.strides) {
        let all = g.input[2].saturating_mul(*images);
        (g.input[2], g.output[2], *images) = (all, all, 1);
    }
    merged
}

pub fn product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

/// Elements rounded up to whole cache lines, so that what follows is aligned.
pub fn whole_lines<T>(elements: usize) -> usize {
    let line = ALIGNMENT / size_of::<T>();
    elements.div_ceil(line).saturating_mul(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv_grad::Pixels;

    fn problem(size: usize, kernel: usize, cin: usize, cout: usize) -> Problem {
        let spatial = [1, size, size];
        Problem {
            geometry: Geometry {
                input: spatial,
                output: spatial,
                kernel: [1, kernel, kernel],
                stride: [1; 3],
                dilation: [1; 3],
                pad: [0, kernel / 2, kernel / 2],
            },
            images: 2,
            groups: 1,
            cin,
            cout,
            x: Pixels::dense(spatial, cin),
            dy: Pixels::dense(spatial, cout),
        }
    }

    #[test]
    fn pointwise_problems_become_one_row() {
        let merged = merged(&problem(10, 1, 8, 8));
        assert_eq!(
            (merged.images, merged.geometry.input, merged.geometry.output),
            (1, [1, 1, 200], [1, 1, 200])
        );
        let mut gaps = problem(10, 1, 8, 8);
        gaps.dy.strides[1] += 1;
        assert_eq!(super::merged(&gaps).geometry, gaps.geometry);
        let spread = problem(10, 3, 8, 8);
        assert_eq!(super::merged(&spread), spread);
    }

    #[test]
    fn order_of_sums_does_not_depend_on_threads() {
        for (size, kernel, cin, cout) in [(56, 3, 64, 64), (28, 1, 64, 64), (112, 7, 3, 64), (7, 3, 512, 512)]
        {
            let problem = problem(size, kernel, cin, cout);
            for isa in Isa::ALL {
                let plans = [1, 2, 64].map(|threads| plan::<f32>(isa, &problem, threads));
                for other in &plans[1..] {
                    let [one, other] =
                        [&plans[0], other].map(|plan| (plan.block, plan.blocks, plan.run, plan.splits));
                    assert_eq!(one, other);
                }
                assert!(plans[1].parts == 2 && plans[2].parts > 8, "{isa} {size} {kernel} {cin} {cout}");
            }
        }
    }

    #[test]
    fn huge_shapes_ask_for_huge_scratch_without_overflow() {
        let huge = Problem {
            geometry: Geometry {
                input: [usize::MAX; 3],
                output: [usize::MAX / 2; 3],
                kernel: [usize::MAX / 3; 3],
                stride: [usize::MAX; 3],
                dilation: [usize::MAX; 3],
                pad: [usize::MAX; 3],
            },
            images: usize::MAX,
            groups: usize::MAX,
            cin: usize::MAX,
            cout: usize::MAX,
            x: Pixels::dense([usize::MAX; 3], 7),
            dy: Pixels::dense([usize::MAX; 3], 7),
        };
        for isa in Isa::ALL {
            // Chunks bound what each part needs.
            assert!(scratch_bytes::<f32>(isa, &huge, 64) > 0);
            let few = Problem { groups: 1, cin: 1, cout: usize::MAX, ..huge };
            assert!(scratch_bytes::<f64>(isa, &few, 64) > 0);
        }
    }
}
