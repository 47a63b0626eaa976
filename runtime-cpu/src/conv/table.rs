//! A block of output pixels: cut into register tiles whose rows use the same taps as far as can be, with
//! a table of where each row reads with each tap.

use super::Problem;
use super::microkernel::{MAX_ROWS, Tap};
use super::reach::{Along, Reach};
use crate::gemm::BLOCK_ROWS;

/// A register tile of a block.
#[derive(Clone, Copy, Debug)]
pub struct RowTile {
    /// Which rows of the block, and how many.
    pub to: [u8; MAX_ROWS],
    pub rows: usize,
    /// The tile's part of the block's table, in the order of taps.
    pub first_tap: usize,
    pub taps: usize,
}

/// What the tables of all blocks of a group of channels are made from.
#[derive(Debug)]
pub struct Tables<'a, T> {
    problem: &'a Problem,
    tile_rows: usize,
    along: [Along; 3],
    /// Elements from what one tap reads to what the next one reads.
    tap_strides: [isize; 3],
    /// How each coordinate is reached, and in how many different ways.
    reaches: [&'a [Reach]; 3],
    classes: [usize; 3],
    /// As many zeros as a group has channels: what padding reads.
    zeros: *const T,
}

/// An output pixel of the block.
#[derive(Clone, Copy)]
struct Row<T> {
    /// Equal for pixels that the same taps reach.
    class: usize,
    at: [usize; 3],
    /// Where its first tap reads.
    base: *const T,
    index: u8,
}

/// The taps that reach a pixel, or some pixels; along each dim the first and how many.
#[derive(Clone, Copy)]
struct Extent {
    ranges: [(usize, usize); 3],
    taps: usize,
}

impl<'a, T: Copy> Tables<'a, T> {
    pub fn new(
        problem: &'a Problem,
        tile_rows: usize,
        reaches: [&'a [Reach]; 3],
        classes: [usize; 3],
        zeros: *const T,
    ) -> Tables<'a, T> {
        let along = [0, 1, 2].map(|dim| Along::new(&problem.geometry, dim));
        let tap_strides = [0, 1, 2].map(|dim| along[dim].input_step * problem.pixel_strides[dim] as isize);
        Tables { problem, tile_rows, along, tap_strides, reaches, classes, zeros }
    }

    /// Makes the tiles and the table of `rows` pixels from `row0` on, for the channels that begin at `x`.
    /// Returns how many tiles there are, and the length of the table.
    ///
    /// `tiles` has room for [`BLOCK_ROWS`], and `table` for as many times all taps.
    pub fn block(
        &self,
        x: *const T,
        row0: usize,
        rows: usize,
        tiles: &mut [RowTile],
        table: &mut [Tap<T>],
    ) -> (usize, usize) {
        let empty = Row { class: 0, at: [0; 3], base: self.zeros, index: 0 };
        let mut list = [empty; BLOCK_ROWS];
        let list = &mut list[..rows];
        self.find(x, row0, list);
        let mut lengths = [0u8; BLOCK_ROWS];
        let count = if list.iter().all(|row| row.class == list[0].class) || !self.worth_sorting(list) {
            cut_evenly(rows, self.tile_rows, &mut lengths)
        } else {
            // Stable, so that rows that can stay neighbours do.
            insertion_sort(list);
            self.cut_by_taps(list, &mut lengths)
        };
        let (mut first_row, mut first_tap) = (0, 0);
        for (tile, &length) in tiles.iter_mut().zip(&lengths[..count]) {
            let of_tile = &list[first_row..first_row + usize::from(length)];
            let mut to = [0; MAX_ROWS];
            for (to, row) in to.iter_mut().zip(of_tile) {
                *to = row.index;
            }
            let taps = self.fill(of_tile, &mut table[first_tap..]);
            *tile = RowTile { to, rows: of_tile.len(), first_tap, taps };
            first_row += of_tile.len();
            first_tap += taps;
        }
        (count, first_tap)
    }

    /// Finds where each pixel reads.
    fn find(&self, x: *const T, row0: usize, list: &mut [Row<T>]) {
        let [_, height, width] = self.problem.geometry.output;
        let depth = self.problem.geometry.output[0];
        let (mut w, rest) = (row0 % width, row0 / width);
        let (mut h, rest) = (rest % height, rest / height);
        let (mut d, mut image) = (rest % depth, rest / depth);
        let [strides_d, strides_h, strides_w] = self.problem.pixel_strides;
        for (index, row) in list.iter_mut().enumerate() {
            let [reach_d, reach_h, reach_w] = [&self.reaches[0][d], &self.reaches[1][h], &self.reaches[2][w]];
            let offset = image * self.problem.image_stride
                + reach_d.input * strides_d
                + reach_h.input * strides_h
                + reach_w.input * strides_w;
            *row = Row {
                class: (reach_d.class * self.classes[1] + reach_h.class) * self.classes[2] + reach_w.class,
                at: [d, h, w],
                base: x.wrapping_add(offset),
                index: index as u8,
            };
            w += 1;
            if w == width {
                (w, h) = (0, h + 1);
            }
            if h == height {
                (h, d) = (0, d + 1);
            }
            if d == depth {
                (d, image) = (0, image + 1);
            }
        }
    }

    fn extent(&self, row: &Row<T>) -> Extent {
        let ranges = [0, 1, 2].map(|dim| {
            let reach = &self.reaches[dim][row.at[dim]];
            (reach.first, reach.count)
        });
        Extent { ranges, taps: ranges.iter().map(|range| range.1).product() }
    }

    /// The taps that reach either, or about so many: taps of all dims that are in both ranges count.
    fn joined(&self, a: &Extent, b: &Extent) -> Extent {
        if a.taps == 0 || b.taps == 0 {
            return if a.taps == 0 { *b } else { *a };
        }
        let mut ranges = [(0, 0); 3];
        for (dim, range) in ranges.iter_mut().enumerate() {
            let step = self.along[dim].tap_step;
            let ((first_a, count_a), (first_b, count_b)) = (a.ranges[dim], b.ranges[dim]);
            if first_a % step != first_b % step {
                return Extent { ranges: a.ranges, taps: a.taps + b.taps };
            }
            let first = first_a.min(first_b);
            let end = (first_a + count_a * step).max(first_b + count_b * step);
            *range = (first, (end - first) / step);
        }
        Extent { ranges, taps: ranges.iter().map(|range| range.1).product() }
    }

    /// Whether more than a tenth of the work is in taps that read padding, if rows stay in order.
    fn worth_sorting(&self, list: &[Row<T>]) -> bool {
        let mut all = self.extent(&list[0]);
        let mut useful = 0;
        for row in list {
            let own = self.extent(row);
            useful += own.taps;
            all = self.joined(&all, &own);
        }
        10 * useful < 9 * all.taps * list.len()
    }

    /// Cuts sorted rows where tiles do not have to read much padding, and are not left with few rows.
    fn cut_by_taps(&self, list: &[Row<T>], lengths: &mut [u8; BLOCK_ROWS]) -> usize {
        let full = self.tile_rows;
        // Short tiles take as long as half a tile.
        let cost = |rows: usize| match rows % full {
            0 => rows,
            left => rows - left + left.max(full / 2),
        };
        let mut count = 0;
        // A tile that is not full yet, and the taps that reach it.
        let (mut open, mut taps) = (0, Extent { ranges: [(0, 0); 3], taps: 0 });
        let mut emit = |rows: usize| {
            lengths[count] = rows as u8;
            count += 1;
        };
        let mut i = 0;
        while i < list.len() {
            let run = list[i..].iter().take_while(|row| row.class == list[i].class).count();
            i += run;
            let mut left = run;
            let own = self.extent(&list[i - run]);
            if open > 0 {
                let taken = run.min(full - open);
                let both = self.joined(&taps, &own);
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

    /// Writes the table of a tile, and returns its length.
    fn fill(&self, rows: &[Row<T>], table: &mut [Tap<T>]) -> usize {
        let [kernel_d, kernel_h, kernel_w] = self.problem.geometry.kernel;
        let cin = self.problem.cin;
        let first = self.extent(&rows[0]);
        if rows.iter().all(|row| row.class == rows[0].class) {
            let mut bases = [self.zeros; MAX_ROWS];
            for (base, row) in bases.iter_mut().zip(rows) {
                *base = row.base;
            }
            let mut entries = table.iter_mut();
            self.each_tap(&first, |tap, offset| {
                if let Some(entry) = entries.next() {
                    *entry = Tap { rows: bases.map(|base| base.wrapping_offset(offset)), step: tap * cin };
                }
            });
            return first.taps;
        }
        const UNUSED: usize = usize::MAX;
        let table = &mut table[..kernel_d * kernel_h * kernel_w];
        table.fill(Tap { rows: [self.zeros; MAX_ROWS], step: UNUSED });
        for (i, row) in rows.iter().enumerate() {
            self.each_tap(&self.extent(row), |tap, offset| {
                table[tap].rows[i] = row.base.wrapping_offset(offset);
                table[tap].step = tap * cin;
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
        let [step_d, step_h, step_w] = [0, 1, 2].map(|dim| self.along[dim].tap_step);
        let [stride_d, stride_h, stride_w] = self.tap_strides;
        let [(first_d, count_d), (first_h, count_h), (first_w, count_w)] = extent.ranges;
        for d in 0..count_d {
            for h in 0..count_h {
                let tap = ((first_d + d * step_d) * kernel_h + first_h + h * step_h) * kernel_w + first_w;
                let offset = d as isize * stride_d + h as isize * stride_h;
                for w in 0..count_w {
                    visit(tap + w * step_w, offset + w as isize * stride_w);
                }
            }
        }
    }
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

fn insertion_sort<T: Copy>(list: &mut [Row<T>]) {
    for i in 1..list.len() {
        let row = list[i];
        let mut to = i;
        while to > 0 && list[to - 1].class > row.class {
            list[to] = list[to - 1];
            to -= 1;
        }
        list[to] = row;
    }
}
