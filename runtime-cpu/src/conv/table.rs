//! A block of output pixels: cut into register tiles whose rows use the same taps as far as can be, with
//! a table of where each row reads with each tap.

use super::Problem;
use super::microkernel::{MAX_ROWS, SharedTap, Tap};
use super::reach::{Along, Reach};
use crate::gemm::BLOCK_ROWS;
use crate::threshold::thresholds;

/// A register tile of a block.
#[derive(Clone, Copy, Debug)]
pub struct RowTile {
    /// Which rows of the block, and how many.
    pub to: [u8; MAX_ROWS],
    pub rows: usize,
    /// The tile's part of the block's table, in the order of taps; where all rows have the same taps, one entry.
    pub first_tap: usize,
    pub taps: usize,
    /// Where those taps begin in the list of the classes' taps.
    pub shared: Option<usize>,
}

/// What was made of a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// How many tiles, and entries of the table.
    pub tiles: usize,
    pub taps: usize,
    /// Whether rows are in the order of pixels.
    pub in_order: bool,
}

/// What the tables of all blocks of a group of channels are made from.
#[derive(Debug)]
pub struct Tables<'a, T> {
    problem: &'a Problem,
    tile_rows: usize,
    along: [Along; 3],
    /// Elements from what one tap reads to what the next one reads.
    tap_strides: [isize; 3],
    /// Elements from what a pixel reads to what its neighbour in a row reads, if the same taps reach it.
    row_stride: usize,
    /// How each coordinate is reached, and in how many different ways.
    reaches: [&'a [Reach]; 3],
    classes: [usize; 3],
    /// Rows of full tiles that take as long as each number of rows, cut in the best way.
    costs: [u8; BLOCK_ROWS + 1],
    /// As many zeros as a group has channels: what padding reads.
    zeros: *const T,
}

/// The output pixels of a block.
struct Rows<T> {
    /// Where the first tap of each reads.
    bases: [*const T; BLOCK_ROWS],
    /// Equal for pixels that the same taps reach.
    classes: [usize; BLOCK_ROWS],
    /// In the order of tiles.
    order: [u8; BLOCK_ROWS],
    first: usize,
    len: usize,
    /// Whether all are of the class of the first one; then only that is known.
    one_class: bool,
}

/// The taps that reach a pixel, or some pixels. Along each dim they have a phase, and are some of that
/// phase's taps; see [`Reach`].
#[derive(Clone, Copy)]
struct Extent {
    phases: [usize; 3],
    skipped: [usize; 3],
    counts: [usize; 3],
    taps: usize,
}

thresholds! {
    /// Classes whose taps are kept, at most; the taps of others are in the tables of their tiles.
    pub const KEPT_CLASSES: usize = 16, of Conv [Window, Window];
}

/// The taps of some classes of pixels.
#[derive(Debug)]
pub struct ClassTaps<'a> {
    /// Has room for all taps of each class that is kept.
    pub list: &'a mut [SharedTap],
    room: usize,
    /// The class, and how many taps it has, of each place in the list.
    kept: [(usize, usize); KEPT_CLASSES],
    count: usize,
}

impl<'a> ClassTaps<'a> {
    /// A list of nothing yet, of problems with `room` taps.
    pub fn new(list: &'a mut [SharedTap], room: usize) -> ClassTaps<'a> {
        ClassTaps { list, room, kept: [(0, 0); KEPT_CLASSES], count: 0 }
    }

    /// Where a class's taps begin and how many there are; they are listed by `fill`, which returns their number,
    /// when the class is met first. `None` if no more are kept.
    fn find(&mut self, class: usize, fill: impl FnOnce(&mut [SharedTap]) -> usize) -> Option<(usize, usize)> {
        let place = match self.kept[..self.count].iter().position(|(kept, _)| *kept == class) {
            Some(place) => place,
            None if self.count == KEPT_CLASSES => return None,
            None => {
                let place = self.count;
                let list = &mut self.list[place * self.room..(place + 1) * self.room];
                self.kept[place] = (class, fill(list));
                self.count += 1;
                place
            }
        };
        Some((place * self.room, self.kept[place].1))
    }
}

impl<'a, T: Copy> Tables<'a, T> {
    pub fn new(
        problem: &'a Problem,
        tile_rows: usize,
        reaches: [&'a [Reach]; 3],
        classes: [usize; 3],
        zeros: *const T,
    ) -> Tables<'a, T> {
        let along = [0, 1, 2].map(|dim| Along::new(&problem.geometry, problem.transposed, dim));
        let costs = std::array::from_fn(|rows| match rows % tile_rows {
            0 => rows as u8,
            // Short tiles take as long as half a tile.
            left => (rows - left + left.max(tile_rows / 2)) as u8,
        });
        let tap_strides = [0, 1, 2].map(|dim| along[dim].input_step * problem.pixel_strides[dim] as isize);
        let stride = if problem.transposed { 1 } else { problem.geometry.stride[2] };
        let row_stride = stride.wrapping_mul(problem.pixel_strides[2]);
        Tables { problem, tile_rows, along, tap_strides, reaches, classes, costs, row_stride, zeros }
    }

    /// Makes the tiles and the table of `rows` pixels from `row0` on, for the channels that begin at `x`.
    ///
    /// `tiles` has room for [`BLOCK_ROWS`], and `table` for as many times all taps.
    pub fn block(
        &self,
        x: *const T,
        row0: usize,
        rows: usize,
        class_taps: &mut ClassTaps<'_>,
        tiles: &mut [RowTile],
        table: &mut [Tap<T>],
    ) -> Made {
        let mut found = self.find(x, row0, rows);
        let mut lengths = [0u8; BLOCK_ROWS];
        let in_order = found.one_class || !self.worth_sorting(&found);
        let count = if !in_order {
            found.sort();
            self.cut_by_taps(&found, &mut lengths)
        } else {
            cut_evenly(rows, self.tile_rows, &mut lengths)
        };
        let (mut first_row, mut first_tap) = (0, 0);
        for (tile, &length) in tiles.iter_mut().zip(&lengths[..count]) {
            let of_tile = &found.order[first_row..first_row + usize::from(length)];
            let mut to = [of_tile[0]; MAX_ROWS];
            to[..of_tile.len()].copy_from_slice(of_tile);
            let table = &mut table[first_tap..];
            let class = found.class(to[0]);
            let alike = |&row: &u8| found.classes[usize::from(row)] == class;
            let same = found.one_class || to.iter().all(alike);
            let shared = if same { self.fill_class(&found, &to, class_taps, table) } else { None };
            let (shared, taps, entries) = match shared {
                Some((first, taps)) => (Some(first), taps, taps.min(1)),
                None => {
                    let taps = self.fill_mixed(&found, &to, table);
                    (None, taps, taps)
                }
            };
            *tile = RowTile { to, rows: of_tile.len(), first_tap, taps, shared };
            first_row += of_tile.len();
            first_tap += entries;
        }
        Made { tiles: count, taps: first_tap, in_order }
    }

    /// Finds where each pixel reads.
    fn find(&self, x: *const T, first: usize, len: usize) -> Rows<T> {
        let mut rows = Rows {
            bases: [x; BLOCK_ROWS],
            classes: [0; BLOCK_ROWS],
            order: std::array::from_fn(|index| index as u8),
            first,
            len,
            one_class: true,
        };
        let [depth, height, width] = self.problem.geometry.output;
        let [stride_d, stride_h, stride_w] = self.problem.pixel_strides;
        let (mut image, [mut d, mut h, mut w]) = self.place(first);
        let (mut index, mut mixed) = (0, false);
        while index < len {
            // Pixels of one row of the image.
            let (reach_d, reach_h) = (&self.reaches[0][d], &self.reaches[1][h]);
            let offset =
                image * self.problem.image_stride + reach_d.input * stride_d + reach_h.input * stride_h;
            let base = x.wrapping_add(offset);
            let class = (reach_d.class * self.classes[1] + reach_h.class) * self.classes[2];
            let end = len.min(index + (width - w));
            let reaches = &self.reaches[2][w..w + (end - index)];
            let bases = &mut rows.bases[index..end];
            if index == 0 {
                rows.classes[0] = class + reaches[0].class;
            }
            rows.one_class &= reaches[0].run >= reaches.len() && rows.classes[0] == class + reaches[0].class;
            if rows.one_class {
                // Neighbours of a class read at even distances.
                let mut offset = reaches[0].input * stride_w;
                for base_of_row in bases {
                    *base_of_row = base.wrapping_add(offset);
                    offset = offset.wrapping_add(self.row_stride);
                }
            } else {
                // What came before were pixels of the first one's class.
                let first_class = rows.classes[0];
                if !mixed {
                    rows.classes[..index].fill(first_class);
                    mixed = true;
                }
                let row = bases.iter_mut().zip(&mut rows.classes[index..end]);
                for ((base_of_row, class_of_row), reach) in row.zip(reaches) {
                    *base_of_row = base.wrapping_add(reach.input * stride_w);
                    *class_of_row = class + reach.class;
                }
            }
            (index, w, h) = (end, 0, h + 1);
            if h == height {
                (h, d) = (0, d + 1);
            }
            if d == depth {
                (d, image) = (0, image + 1);
            }
        }
        rows
    }

    /// The image and the coordinates of an output pixel.
    fn place(&self, pixel: usize) -> (usize, [usize; 3]) {
        let [depth, height, width] = self.problem.geometry.output;
        let (row, plane) = (pixel / width, pixel / width / height);
        (plane / depth, [plane % depth, row % height, pixel % width])
    }

    fn extent(&self, rows: &Rows<T>, index: u8) -> Extent {
        let (_, [d, h, w]) = self.place(rows.first + usize::from(index));
        let (d, h, w) = (&self.reaches[0][d], &self.reaches[1][h], &self.reaches[2][w]);
        Extent {
            phases: [d.phase, h.phase, w.phase],
            skipped: [d.skipped, h.skipped, w.skipped],
            counts: [d.count, h.count, w.count],
            taps: d.count * h.count * w.count,
        }
    }

    /// Whether more than a tenth of the work is in taps that read padding, if rows stay in order.
    fn worth_sorting(&self, rows: &Rows<T>) -> bool {
        let classes = &rows.classes[..rows.len];
        if classes.iter().all(|class| *class == classes[0]) {
            return false;
        }
        let mut own = self.extent(rows, 0);
        let (mut all, mut useful) = (own, own.taps);
        for index in 1..rows.len {
            if classes[index] != classes[index - 1] {
                own = self.extent(rows, index as u8);
                all = joined(&all, &own);
            }
            useful += own.taps;
        }
        10 * useful < 9 * all.taps * rows.len
    }

    /// Cuts sorted rows where tiles do not have to read much padding, and are not left with few rows.
    fn cut_by_taps(&self, rows: &Rows<T>, lengths: &mut [u8; BLOCK_ROWS]) -> usize {
        let full = self.tile_rows;
        let order = &rows.order[..rows.len];
        let class = |index: usize| rows.classes[usize::from(order[index])];
        let cost = |rows: usize| usize::from(self.costs[rows]);
        let mut count = 0;
        // A tile that is not full yet, and the taps that reach it.
        let (mut open, mut taps) = (0, Extent { phases: [0; 3], skipped: [0; 3], counts: [0; 3], taps: 0 });
        let mut emit = |rows: usize| {
            lengths[count] = rows as u8;
            count += 1;
        };
        let mut i = 0;
        while i < order.len() {
            let run = (i..order.len()).take_while(|&index| class(index) == class(i)).count();
            let own = self.extent(rows, order[i]);
            let mut left = run;
            i += run;
            if open > 0 {
                let taken = run.min(full - open);
                let both = joined(&taps, &own);
                let joined = both.taps * cost(open + taken) + own.taps * cost(run - taken);
                if joined <= taps.taps * cost(open) + own.taps * cost(run) {
                    (open, taps, left) = (open + taken, both, run - taken);
                    if left == 0 && open < full {
                        continue;
                    }
                }
                emit(open);
            }
            while left >= 2 * full || left == full {
                emit(full);
                left -= full;
            }
            if left > full {
                // Two tiles of about the same height, rather than a full one and a low one.
                let rows = if left - full < full / 2 { left.div_ceil(2) } else { full };
                emit(rows);
                left -= rows;
            }
            (open, taps) = (left, own);
        }
        if open > 0 {
            emit(open);
        }
        count
    }

    /// Writes where the rows of a tile, which the same taps reach, read with the first one. Returns where the taps
    /// begin in the classes' list, and how many there are, if they are kept there.
    fn fill_class(
        &self,
        rows: &Rows<T>,
        to: &[u8; MAX_ROWS],
        class_taps: &mut ClassTaps<'_>,
        table: &mut [Tap<T>],
    ) -> Option<(usize, usize)> {
        let found = class_taps.find(rows.class(to[0]), |list| {
            let mut entries = list.iter_mut();
            let extent = self.extent(rows, to[0]);
            self.each_tap(&extent, |tap, offset| {
                if let Some(entry) = entries.next() {
                    *entry = SharedTap { offset, step: tap * self.problem.cin };
                }
            });
            extent.taps
        })?;
        // Of no taps there is no first one to be read.
        if let Some(entry) = table.first_mut() {
            *entry = Tap { rows: to.map(|row| rows.bases[usize::from(row)]), step: 0 };
        }
        Some(found)
    }

    /// Writes the table of any tile, and returns its length. Rows that a tap does not reach read zeros
    /// with it.
    fn fill_mixed(&self, rows: &Rows<T>, to: &[u8; MAX_ROWS], table: &mut [Tap<T>]) -> usize {
        const UNUSED: usize = usize::MAX;
        let table = &mut table[..self.problem.geometry.taps()];
        table.fill(Tap { rows: [self.zeros; MAX_ROWS], step: UNUSED });
        for (i, &row) in to.iter().enumerate() {
            let base = rows.bases[usize::from(row)];
            self.each_tap(&self.extent(rows, row), |tap, offset| {
                table[tap].rows[i] = base.wrapping_offset(offset);
                table[tap].step = tap * self.problem.cin;
            });
        }
        let mut used = 0;
        for tap in 0..table.len() {
            if table[tap].step != UNUSED {
                table[used] = table[tap];
                used += 1;
            }
        }
        used
    }

    /// Calls `visit` with each tap of an extent, in order, and how far from the first one it reads.
    #[inline(always)]
    fn each_tap(&self, extent: &Extent, mut visit: impl FnMut(usize, isize)) {
        let [_, kernel_h, kernel_w] = self.problem.geometry.kernel;
        let [along_d, along_h, along_w] = &self.along;
        let [stride_d, stride_h, stride_w] = self.tap_strides;
        let tap = |dim: usize, along: &Along, i: usize| {
            extent.phases[dim] + (extent.skipped[dim] + i) * along.tap_step
        };
        for d in 0..extent.counts[0] {
            for h in 0..extent.counts[1] {
                let row = (tap(0, along_d, d) * kernel_h + tap(1, along_h, h)) * kernel_w;
                let offset = d as isize * stride_d + h as isize * stride_h;
                for w in 0..extent.counts[2] {
                    visit(row + tap(2, along_w, w), offset + w as isize * stride_w);
                }
            }
        }
    }
}

/// The taps that reach either, or about so many: in each dim, all from the first to the last one count.
fn joined(a: &Extent, b: &Extent) -> Extent {
    if a.taps == 0 || b.taps == 0 {
        return if a.taps == 0 { *b } else { *a };
    }
    if a.phases != b.phases {
        return Extent { taps: a.taps + b.taps, ..*a };
    }
    let mut both = Extent { taps: 1, ..*a };
    for dim in 0..3 {
        let skipped = a.skipped[dim].min(b.skipped[dim]);
        let end = (a.skipped[dim] + a.counts[dim]).max(b.skipped[dim] + b.counts[dim]);
        (both.skipped[dim], both.counts[dim]) = (skipped, end - skipped);
        both.taps *= end - skipped;
    }
    both
}

fn cut_evenly(rows: usize, tile_rows: usize, lengths: &mut [u8; BLOCK_ROWS]) -> usize {
    let (mut count, mut left) = (0, rows);
    while left > 0 {
        let length = crate::gemm::rows_of_tile(left, tile_rows);
        lengths[count] = length as u8;
        (count, left) = (count + 1, left - length);
    }
    count
}

impl<T> Rows<T> {
    fn class(&self, index: u8) -> usize {
        self.classes[if self.one_class { 0 } else { usize::from(index) }]
    }

    /// Orders the rows by class. Stable, so that rows that can stay neighbours do.
    fn sort(&mut self) {
        for i in 1..self.len {
            let row = self.order[i];
            let class = self.classes[usize::from(row)];
            let mut to = i;
            while to > 0 && self.classes[usize::from(self.order[to - 1])] > class {
                self.order[to] = self.order[to - 1];
                to -= 1;
            }
            self.order[to] = row;
        }
    }
}
