//! Sums that padding made NaN.
//!
//! Where kernel columns are folded into rows, the copy of an input row has zeros for its padding, and they are
//! multiplied. That adds nothing unless the output's gradient is infinite or NaN there. Then the sum is NaN, and is made
//! again here from the pixels whose tap is inside.

use std::ops::Range;

use super::Element;
use super::plan::Plan;
use super::segments::inside;

/// Which sums are made again: some rows of a folded tap, over the pixels of some blocks.
pub(super) struct Rows {
    pub tap: usize,
    pub rows: Range<usize>,
    pub blocks: Range<usize>,
}

impl Plan {
    /// Makes sums again where they are NaN; each row has `columns` of them, and rows are `stride` apart.
    ///
    /// # Safety
    /// `x` is the input at the group's first channel and `dy` the gradient at the sums' first column; every element that
    /// the problem describes can be read from there, and so can the sums be read and written.
    pub(super) unsafe fn leave_padding_out<T: Element>(
        &self,
        of: &Rows,
        x: *const T,
        dy: *const T,
        (sums, stride, columns): (*mut T, usize, usize),
    ) {
        for (i, row) in of.rows.clone().enumerate() {
            // SAFETY: a row of the sums.
            let sums = unsafe { std::slice::from_raw_parts_mut(sums.add(i * stride), columns) };
            if !sums.iter().fold(false, |any, sum| any | sum.is_nan()) {
                continue;
            }
            for (column, sum) in sums.iter_mut().enumerate().filter(|(_, sum)| sum.is_nan()) {
                // SAFETY: the caller's promise.
                *sum = unsafe { self.sum_inside(of, row, x, dy.wrapping_add(column)) };
            }
        }
    }

    /// One sum over the pixels whose tap is inside.
    ///
    /// # Safety
    /// As for [`Plan::leave_padding_out`]; `dy` is the gradient at the sum's column.
    unsafe fn sum_inside<T: Element>(&self, of: &Rows, row: usize, x: *const T, dy: *const T) -> T {
        let (geometry, cin) = (&self.problem.geometry, self.problem.cin);
        let tap = [of.tap / self.taps[1], of.tap % self.taps[1], row / cin];
        let pixels = &self.problem.x;
        let mut sum = T::default();
        for index in of.blocks.clone().flat_map(|block| self.pieces(block)) {
            let piece = self.piece(index);
            let place = (inside(geometry, 0, piece.depth, tap[0]), inside(geometry, 1, piece.height, tap[1]));
            let (Some(depth), Some(height)) = place else { continue };
            let x = x.wrapping_add(
                piece.image * pixels.image_stride + depth * pixels.strides[0] + height * pixels.strides[1],
            );
            let dy = dy.wrapping_add(self.dy_offset(&piece));
            for (i, output) in piece.columns.clone().enumerate() {
                let Some(column) = inside(geometry, 2, output, tap[2]) else { continue };
                // SAFETY: a pixel of the input and one of the gradient.
                unsafe {
                    let element = *x.add(column * pixels.strides[2] + row % cin);
                    sum = element.times_plus(*dy.add(i * self.problem.dy.strides[2]), sum);
                }
                if sum.is_nan() {
                    return sum;
                }
            }
        }
        sum
    }
}
