//! What tests of kernels share: element types, random numbers, and offsets in channels-last images.

#![allow(dead_code, reason = "each test file uses a part")]

use graphc_cpu::gemm::Element;

/// What no kernel may write to.
pub const UNTOUCHED: f64 = -77.0;

pub trait Float: Element + Into<f64> + std::fmt::Debug {
    const EPSILON: f64;
    fn from_f64(x: f64) -> Self;
    fn bits(self) -> u64;
}

impl Float for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Float for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(x: f64) -> f64 {
        x
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Numbers in [-1, 1) from a linear congruential generator (Knuth's MMIX constants).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        (((self.draw() + 1.0) / 2.0) * end as f64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn array<T: Float>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::from_f64(self.draw())).collect()
    }
}

/// All positions of a grid, in row-major order.
pub fn positions(sizes: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [a, b, c] = sizes;
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k])))
}

/// Strides of images of `channels` channels: (image, pixels). `gap` elements follow each pixel, row, plane
/// and image.
pub fn strides(sizes: [usize; 3], channels: usize, gap: usize) -> (usize, [usize; 3]) {
    let pixel = channels + gap;
    let row = sizes[2] * pixel + gap;
    let plane = sizes[1] * row + gap;
    (sizes[0] * plane + gap, [plane, row, pixel])
}

pub fn offset(position: [usize; 3], strides: [usize; 3]) -> usize {
    (0..3).map(|dim| position[dim] * strides[dim]).sum()
}

/// The input position that an output position and a tap meet, unless it is padding.
pub fn meets(
    output: [usize; 3],
    tap: [usize; 3],
    (stride, dilation, pad): ([usize; 3], [usize; 3], [usize; 3]),
    input: [usize; 3],
) -> Option<[usize; 3]> {
    let mut at = [0; 3];
    for dim in 0..3 {
        let position = (output[dim] * stride[dim] + tap[dim] * dilation[dim]).checked_sub(pad[dim])?;
        if position >= input[dim] {
            return None;
        }
        at[dim] = position;
    }
    Some(at)
}
