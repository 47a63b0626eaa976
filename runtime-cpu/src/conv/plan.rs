//! Which way a convolution goes, how it is cut for threads, and the scratch that it needs.

use super::Problem;
use super::fold::{Fold, fold};
use super::microkernel::{SharedTap, Tap};
use super::reach::Reach;
use super::table::{KEPT_CLASSES, RowTile};
use crate::gemm::{
    self, ALayout, BLOCK_ROWS, BLayout, Element, MAX_K_BLOCK, RowBlocks, SERIAL_BELOW, Split, split,
};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::threshold::thresholds;

thresholds! {
    /// Bytes of input that stay in the second cache while the panels of filters pass.
    const INPUT_BYTES: usize = 512 << 10, of Conv [Channels, Bytes] at INPUT_BYTES / BLOCK_ROWS / MAX_GROUP;
    /// Bytes of tables for the blocks that the panels of filters pass over together.
    const TABLE_BYTES: usize = 256 << 10, of Conv [Window, Window] at TABLE_BYTES / (BLOCK_ROWS * size_of::<Tap<f32>>());
    /// Blocks that the panels of filters pass over together, at most.
    pub const MAX_GROUP: usize = 10, of Conv [Rows] at MAX_GROUP * BLOCK_ROWS;
}

/// What a convolution does, from its shapes, its strides and the number of threads alone.
#[expect(clippy::large_enum_variant, reason = "a plan lives on the stack of one call")]
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Pixels are rows of A where they lie.
    Product(gemm::Problem),
    /// Register tiles over tables of pointers.
    Taps(Taps),
}

#[derive(Clone, Copy, Debug)]
pub struct Taps {
    /// What is computed at a time: the problem itself, or some images of it with folded taps.
    pub problem: Problem,
    pub fold: Option<Fold>,
    /// Blocks of output pixels between two passes over the panels.
    pub group: usize,
    /// Blocks that each sum is cut into: whole taps, or some channels of one tap.
    pub k_blocks: usize,
    pub taps_of_block: usize,
    pub channels_of_block: usize,
    pub split: Split,
    /// Bytes of scratch for the copied images, and of each part.
    pub shared: usize,
    pub each: Regions,
}

/// Bytes of a part's scratch, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Regions {
    pub zeros: usize,
    pub reaches: usize,
    pub sums: usize,
    pub class_taps: usize,
    pub tiles: usize,
    pub table: usize,
}

impl Regions {
    pub fn bytes(&self) -> usize {
        [self.zeros, self.reaches, self.sums, self.class_taps, self.tiles, self.table]
            .into_iter()
            .fold(0, usize::saturating_add)
    }
}

/// The bytes of scratch that [`super::conv`] needs with a pool of `threads` threads.
pub fn scratch_bytes<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> usize {
    if is_empty(problem) {
        return 0;
    }
    match plan::<T>(isa, problem, threads) {
        Plan::Product(product) => gemm::scratch_bytes::<T>(isa, &product, threads),
        Plan::Taps(taps) => taps.scratch_bytes(),
    }
}

/// The blocks that [`super::conv`] makes of the output pixels.
pub fn row_blocks<T: Element>(isa: Isa, problem: &Problem) -> RowBlocks {
    if is_empty(problem) {
        return RowBlocks { sets: 0, blocks: 0 };
    }
    match plan::<T>(isa, problem, 1) {
        Plan::Product(product) => RowBlocks { sets: 1, blocks: product.m.div_ceil(BLOCK_ROWS) },
        Plan::Taps(taps) => taps.row_blocks(problem.images),
    }
}

impl Taps {
    pub fn scratch_bytes(&self) -> usize {
        let parts = self.each.bytes().saturating_mul(self.split.parts());
        parts.saturating_add(self.shared).saturating_add(ALIGNMENT)
    }

    /// Blocks of all output pixels, a set for the images that are computed at a time.
    pub fn row_blocks(&self, images: usize) -> RowBlocks {
        RowBlocks { sets: images.div_ceil(self.problem.images), blocks: self.blocks(self.problem.images) }
    }

    /// Blocks of output pixels in `images` images.
    pub fn blocks(&self, images: usize) -> usize {
        images.saturating_mul(self.problem.geometry.pixels()).div_ceil(BLOCK_ROWS)
    }
}

/// Whether nothing is made.
pub fn is_empty(problem: &Problem) -> bool {
    problem.images == 0 || problem.groups == 0 || problem.cout == 0 || problem.geometry.pixels() == 0
}

pub fn plan<T: Element>(isa: Isa, problem: &Problem, threads: usize) -> Plan {
    if let Some(product) = product(problem) {
        return Plan::Product(product);
    }
    let (fold, problem) = match fold(problem, size_of::<T>()) {
        Some((fold, problem)) => (Some(fold), problem),
        None => (None, *problem),
    };
    let Problem { images, groups, cin, cout, geometry, .. } = problem;
    let (taps, pixels) = (geometry.taps(), geometry.pixels());
    let columns = gemm::block_columns::<T>(isa);
    let panels = cout.div_ceil(columns);
    let blocks = images.saturating_mul(pixels).div_ceil(BLOCK_ROWS);

    let (k_blocks, taps_of_block, channels_of_block) = if cin > MAX_K_BLOCK {
        let of_channels = cin.div_ceil(MAX_K_BLOCK);
        (taps.saturating_mul(of_channels), 1, cin.div_ceil(of_channels).next_multiple_of(4))
    } else {
        let of_taps = taps.saturating_mul(cin).div_ceil(MAX_K_BLOCK).max(1);
        let taps_of_block = taps.div_ceil(of_taps).max(1);
        (taps.div_ceil(taps_of_block).max(1), taps_of_block, cin)
    };

    let table = BLOCK_ROWS.saturating_mul(taps).saturating_mul(size_of::<Tap<T>>());
    let strides = if problem.transposed { [1; 3] } else { geometry.stride };
    let input = strides.into_iter().fold(cin.max(1), usize::saturating_mul);
    let input = input.saturating_mul(BLOCK_ROWS * size_of::<T>());
    let group = if panels == 1 && k_blocks == 1 {
        1
    } else {
        (INPUT_BYTES / input).min(TABLE_BYTES / table.max(1)).clamp(1, MAX_GROUP)
    };
    let waiting = if k_blocks > 1 { group } else { 1 };
    let coordinates = geometry.output.into_iter().fold(0, usize::saturating_add);
    let each = Regions {
        zeros: whole_lines(cin.saturating_mul(size_of::<T>())),
        reaches: whole_lines(coordinates.saturating_mul(size_of::<Reach>())),
        sums: waiting * BLOCK_ROWS * columns * size_of::<T>(),
        class_taps: whole_lines(taps.saturating_mul(KEPT_CLASSES * size_of::<SharedTap>())),
        tiles: whole_lines(group * BLOCK_ROWS * size_of::<RowTile>()),
        table: whole_lines(table.saturating_mul(group)),
    };

    let work = [images, pixels, groups, taps.max(1), cin.max(1), cout]
        .into_iter()
        .fold(1usize, usize::saturating_mul);
    let threads = threads.min((work / SERIAL_BELOW).max(1));
    let copied = fold.map_or(0, |fold| fold.image.saturating_mul(fold.images));
    Plan::Taps(Taps {
        problem,
        fold,
        group,
        k_blocks,
        taps_of_block,
        channels_of_block,
        split: split(threads, groups, blocks, panels),
        shared: whole_lines(copied.saturating_mul(size_of::<T>())),
        each,
    })
}

/// The convolution as a product, where each output pixel reads the input pixel of the same place alone
/// and pixels are evenly spaced.
fn product(problem: &Problem) -> Option<gemm::Problem> {
    let Problem { images, groups, cin, cout, geometry, image_stride, pixel_strides, .. } = *problem;
    let alone = geometry.kernel == [1; 3] && geometry.stride == [1; 3] && geometry.pad == [0; 3];
    if groups != 1 || !alone || geometry.input != geometry.output {
        return None;
    }
    // The stride of pixels is that of the innermost dim that has several.
    let (mut row_stride, mut spanned) = (None, 1usize);
    let [d, h, w] = geometry.output;
    let [stride_d, stride_h, stride_w] = pixel_strides;
    for (size, stride) in [(w, stride_w), (h, stride_h), (d, stride_d), (images, image_stride)] {
        if size == 1 {
            continue;
        }
        let expected = row_stride.get_or_insert(stride).checked_mul(spanned)?;
        if expected != stride {
            return None;
        }
        spanned = spanned.checked_mul(size)?;
    }
    let a = ALayout { row_stride: row_stride.unwrap_or(cin), k_stride: 1, batch_stride: 0 };
    Some(gemm::Problem { m: spanned, n: cout, k: cin, batch: 1, a, b: BLayout::Packed, b_batch_stride: 0 })
}

/// Bytes rounded up to whole cache lines, so that what follows is aligned.
pub fn whole_lines(bytes: usize) -> usize {
    bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT)
}
