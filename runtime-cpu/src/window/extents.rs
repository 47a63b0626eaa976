//! Which positions of a window are inside the input, and which windows contain a position.

use crate::Geometry;
use std::ops::Range;

use super::Divisor;

impl Geometry {
    /// The offsets, along one dimension, of the positions of a window that are inside the input.
    #[inline(always)]
    pub(super) fn inside(&self, dim: usize, window: usize) -> Range<usize> {
        let (start, dilation) = (window * self.stride[dim], self.dilation[dim]);
        let below = |end: usize| end.saturating_sub(start).div_ceil(dilation).min(self.kernel[dim]);
        let first = below(self.pad[dim]);
        first..below(self.pad[dim] + self.input[dim]).max(first)
    }

    /// The input position at an offset that [`Geometry::inside`] gave.
    #[inline(always)]
    pub(super) fn position(&self, dim: usize, window: usize, tap: usize) -> usize {
        window * self.stride[dim] + tap * self.dilation[dim] - self.pad[dim]
    }

    /// The windows, along one dimension, that may contain an input position.
    #[inline(always)]
    pub(super) fn windows(&self, dim: usize, position: usize) -> Range<usize> {
        let padded = position + self.pad[dim];
        let reach = (self.kernel[dim] - 1) * self.dilation[dim];
        let first = padded.saturating_sub(reach).div_ceil(self.stride[dim]).min(self.output[dim]);
        first..(padded / self.stride[dim] + 1).min(self.output[dim]).max(first)
    }

    /// The offset of an input position in one of its [`Geometry::windows`], unless dilation skips it.
    #[inline(always)]
    pub(super) fn tap(&self, dim: usize, window: usize, position: usize) -> Option<usize> {
        let distance = position + self.pad[dim] - window * self.stride[dim];
        let dilation = self.dilation[dim];
        if dilation == 1 {
            return Some(distance);
        }
        distance.is_multiple_of(dilation).then(|| distance / dilation)
    }

    /// The positions of a window that its divisor counts, along one dimension.
    #[inline(always)]
    pub(super) fn counted(&self, dim: usize, window: usize, divisor: Divisor) -> usize {
        match divisor {
            Divisor::Elements => self.inside(dim, window).len(),
            Divisor::WithPadding(after) => {
                let end = self.pad[dim] + self.input[dim] + after[dim];
                let reached = end.saturating_sub(window * self.stride[dim]);
                reached.div_ceil(self.dilation[dim]).min(self.kernel[dim])
            }
        }
    }
}
