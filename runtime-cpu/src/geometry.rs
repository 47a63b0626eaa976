//! The spatial sizes that convolutions, their gradients and pools have in common.

/// Windows over the positions of an input, along three spatial dims from the slowest to the fastest. Where there are
/// fewer dims, the first ones have size, kernel, stride and dilation 1 and padding 0.
///
/// Window `p` has, with tap `t`, input position `p * stride - pad + t * dilation`; those outside of the input are
/// padding. What is after the last position follows from the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Sizes of the input.
    pub input: [usize; 3],
    /// Sizes of the output: how many windows.
    pub output: [usize; 3],
    /// Taps of a window. All windows have less than 2^31.
    pub kernel: [usize; 3],
    /// Input positions from one window to the next; at least 1.
    pub stride: [usize; 3],
    /// Input positions from one tap to the next; at least 1.
    pub dilation: [usize; 3],
    /// Positions of padding before the first input position.
    pub pad: [usize; 3],
}

impl Geometry {
    /// Taps of a window in all dims.
    pub fn taps(&self) -> usize {
        self.kernel.into_iter().fold(1, usize::saturating_mul)
    }

    /// Positions of one output image.
    pub fn pixels(&self) -> usize {
        self.output.into_iter().fold(1, usize::saturating_mul)
    }
}
