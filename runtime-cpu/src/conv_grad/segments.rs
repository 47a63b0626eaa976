//! Which pixels a tap sums over, and the copy of input rows where kernel columns are folded into rows.

use crate::Geometry;
use std::ops::Range;

use super::microkernel::Segment;
use super::plan::{Fold, MAX_SEGMENTS, Plan};

/// A piece of an output row.
pub(super) struct Piece {
    pub image: usize,
    pub depth: usize,
    pub height: usize,
    pub columns: Range<usize>,
}

impl Plan {
    /// The pieces of a block.
    pub fn pieces(&self, block: usize) -> Range<usize> {
        let of_run = self.run.div_ceil(self.block);
        let start = block / of_run * self.run;
        let first = block % of_run * self.block;
        start + first..start + (first + self.block).min(self.run)
    }

    pub(super) fn piece(&self, index: usize) -> Piece {
        let [depth, height, width] = self.problem.geometry.output;
        let (row, rest) = (index % height, index / height);
        let (piece, rest) = (rest % self.pieces, rest / self.pieces);
        let start = piece * self.piece;
        let columns = start..(start + self.piece).min(width);
        Piece { image: rest / depth, depth: rest % depth, height: row, columns }
    }

    /// Lists the segments of a block for one tap, for a group and a panel at the arrays' (or the copies')
    /// start; returns how many there are. Segments that follow each other are joined.
    pub fn segments(
        &self,
        block: Range<usize>,
        tap: usize,
        columns: usize,
        list: &mut [Segment; MAX_SEGMENTS],
    ) -> usize {
        let geometry = &self.problem.geometry;
        let [_, tap_rows, tap_columns] = self.taps;
        let tap = [tap / tap_columns / tap_rows, tap / tap_columns % tap_rows, tap % tap_columns];
        let (x_step, dy_step) = self.steps(columns);
        let first_row = self.first_row(block.start);
        let (mut count, mut packed) = (0, 0);
        for index in block {
            let piece = self.piece(index);
            let before = packed;
            packed += piece.columns.len();
            let (Some(depth), Some(height)) =
                (inside(geometry, 0, piece.depth, tap[0]), inside(geometry, 1, piece.height, tap[1]))
            else {
                continue;
            };
            let (columns, x) = match self.fold {
                Some(fold) => {
                    let row = tap[0] * fold.rows + height - first_row;
                    (piece.columns.clone(), row * fold.row_len)
                }
                None => {
                    let columns = valid(geometry, &piece.columns, tap[2]);
                    let Some(column) = inside(geometry, 2, columns.start, tap[2]) else { continue };
                    let x = &self.problem.x;
                    let plane = piece.image * x.image_stride + depth * x.strides[0];
                    (columns, plane + height * x.strides[1] + column * x.strides[2])
                }
            };
            if columns.is_empty() {
                continue;
            }
            let dy = if self.pack_dy {
                (before + columns.start - piece.columns.start) * dy_step
            } else {
                self.dy_offset(&piece) + (columns.start - piece.columns.start) * dy_step
            };
            if count > 0 {
                let last = &mut list[count - 1];
                if (last.x + last.pixels * x_step, last.dy + last.pixels * dy_step) == (x, dy) {
                    last.pixels += columns.len();
                    continue;
                }
            }
            list[count] = Segment { x, dy, pixels: columns.len() };
            count += 1;
        }
        count
    }

    pub(super) fn dy_offset(&self, piece: &Piece) -> usize {
        let dy = &self.problem.dy;
        let plane = piece.image * dy.image_stride + piece.depth * dy.strides[0];
        plane + piece.height * dy.strides[1] + piece.columns.start * dy.strides[2]
    }

    /// Elements from pixel to pixel of a segment, in the input and in the gradient, or in their copies.
    pub fn steps(&self, columns: usize) -> (usize, usize) {
        let pixel = if self.fold.is_some() { self.problem.cin } else { self.problem.x.strides[2] };
        let dy = if self.pack_dy { columns } else { self.problem.dy.strides[2] };
        (self.problem.geometry.stride[2].wrapping_mul(pixel), dy)
    }

    /// Copies some columns of a block's gradient, `columns` elements from pixel to pixel.
    ///
    /// # Safety
    /// `dy` is the gradient at the first of `used` columns, and `to` has room for the copy.
    pub unsafe fn pack_dy<T: Copy>(
        &self,
        block: Range<usize>,
        dy: *const T,
        used: usize,
        columns: usize,
        mut to: *mut T,
    ) {
        for index in block {
            let piece = self.piece(index);
            let mut from = dy.wrapping_add(self.dy_offset(&piece));
            for _ in piece.columns {
                // SAFETY: pixels of the block; the copy has room for all of them.
                unsafe { from.copy_to_nonoverlapping(to, used) };
                from = from.wrapping_add(self.problem.dy.strides[2]);
                to = to.wrapping_add(columns);
            }
        }
    }

    /// The first input row that the block which begins with this piece reads.
    fn first_row(&self, piece: usize) -> usize {
        let geometry = &self.problem.geometry;
        let height = piece % geometry.output[1].max(1);
        (height * geometry.stride[1]).saturating_sub(geometry.pad[1])
    }

    /// Copies the input rows of a block, for each kernel plane, with their padding left and right.
    ///
    /// # Safety
    /// `x` is the input at a group's first channel, and `to` has room for the copy.
    pub unsafe fn copy_rows<T: Copy + Default>(
        &self,
        fold: Fold,
        block: Range<usize>,
        x: *const T,
        to: *mut T,
    ) {
        let Some(last) = block.clone().last() else { return };
        let geometry = &self.problem.geometry;
        let (cin, pixels) = (self.problem.cin, &self.problem.x);
        let piece = self.piece(block.start);
        let first_row = self.first_row(block.start);
        let last_row =
            self.piece(last).height * geometry.stride[1] + (geometry.kernel[1] - 1) * geometry.dilation[1];
        let rows = first_row..geometry.input[1].min((last_row + 1).saturating_sub(geometry.pad[1]));

        let width = (piece.columns.len() - 1) * geometry.stride[2] + geometry.kernel[2];
        let start = piece.columns.start * geometry.stride[2];
        let left = geometry.pad[2].saturating_sub(start).min(width);
        let first = start.saturating_sub(geometry.pad[2]);
        let inner = geometry.input[2].saturating_sub(first).min(width - left);
        for plane in 0..geometry.kernel[0] {
            let Some(depth) = inside(geometry, 0, piece.depth, plane) else { continue };
            for row in rows.clone() {
                // SAFETY: rows and columns of the input; the copy has `fold.rows` rows of `row_len`
                // elements for each plane, and a row has `width` pixels.
                unsafe {
                    let to = to.add((plane * fold.rows + row - first_row) * fold.row_len);
                    to.write_bytes(0, left * cin);
                    if inner > 0 {
                        let offset = piece.image * pixels.image_stride + depth * pixels.strides[0];
                        let from = x.add(offset + row * pixels.strides[1] + first * pixels.strides[2]);
                        copy_pixels(from, pixels.strides[2], inner, cin, to.add(left * cin));
                    }
                    to.add((left + inner) * cin).write_bytes(0, (width - left - inner) * cin);
                }
            }
        }
    }
}

/// # Safety
/// `pixels` pixels of `channels` elements can be read, and written one next to the other.
unsafe fn copy_pixels<T: Copy>(from: *const T, stride: usize, pixels: usize, channels: usize, to: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        if stride == channels {
            from.copy_to_nonoverlapping(to, pixels * channels);
            return;
        }
        for pixel in 0..pixels {
            for channel in 0..channels {
                *to.add(pixel * channels + channel) = *from.add(pixel * stride + channel);
            }
        }
    }
}

/// The input position that an output and a tap meet, unless it is padding.
pub(super) fn inside(geometry: &Geometry, dim: usize, output: usize, tap: usize) -> Option<usize> {
    let position = output * geometry.stride[dim] + tap * geometry.dilation[dim];
    position.checked_sub(geometry.pad[dim]).filter(|&position| position < geometry.input[dim])
}

/// The outputs of a row piece whose tap is inside the input.
fn valid(geometry: &Geometry, columns: &Range<usize>, tap: usize) -> Range<usize> {
    let Geometry { input, stride, dilation, pad, .. } = geometry;
    let offset = tap * dilation[2];
    let start = pad[2].saturating_sub(offset).div_ceil(stride[2]).max(columns.start);
    let end = (input[2] + pad[2]).saturating_sub(offset).div_ceil(stride[2]).min(columns.end);
    start..end.max(start)
}
