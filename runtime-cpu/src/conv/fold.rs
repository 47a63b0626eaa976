//! Thin inputs: where a pixel has few channels, a whole row of the filter is taken as one tap.
//!
//! Channels and pixels of an image's row are contiguous, so a window's row is one run of
//! `kernel width * channels` elements. Padding along the row has to be there then: the images are copied
//! with it, some at a time.

use super::Problem;
use crate::Geometry;
use crate::gemm::Element;
use crate::pool::{Pool, PoolError, share};
use crate::threshold::thresholds;

thresholds! {
    /// Steps of k in a row of the filter up to which a tap is a whole row. More keep the microkernel busy
    /// for long enough without.
    const MAX_STEPS: usize = 64, of Conv [Window, Channels];
    /// Bytes of images that are copied at a time; they stay in the second cache.
    const COPY_BYTES: usize = 1 << 20, of Conv [Images, Rows, Channels, Bytes];
    /// A copy takes about as long as a fork below this many elements.
    const SERIAL_BELOW: usize = 64 * 1024, of Conv [Rows, Channels];
}

/// How rows of the images become rows of a copy, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Images that are copied at a time.
    pub images: usize,
    /// Zeros at a row's begin, pixels that are copied, and elements of a row with what follows.
    pub before: usize,
    pub pixels: usize,
    pub row: usize,
    /// Elements of one copied image.
    pub image: usize,
}

/// The same convolution with a whole row of the filter as one tap, and the copy of the images that it
/// reads; or none where taps are better as they are.
pub fn fold(problem: &Problem, size: usize) -> Option<(Fold, Problem)> {
    let Problem { images, groups, cin, cout, geometry, transposed, .. } = *problem;
    let Geometry { input, output, kernel, stride, dilation, pad } = geometry;
    let steps = kernel[2].checked_mul(cin)?;
    if groups != 1 || transposed || dilation[2] != 1 || kernel[2] == 1 || cin == 0 || steps > MAX_STEPS {
        return None;
    }
    let row_pixels = (output[2] - 1).checked_mul(stride[2])?.checked_add(kernel[2])?;
    let row = row_pixels.checked_mul(cin)?;
    let image = row.checked_mul(input[0])?.checked_mul(input[1])?;
    let at_a_time = (COPY_BYTES / size / image.max(1)).clamp(1, images);
    let fold = Fold {
        images: at_a_time,
        before: pad[2].min(row_pixels) * cin,
        pixels: input[2].min(row_pixels.saturating_sub(pad[2])),
        row,
        image,
    };
    let folded = Problem {
        images: at_a_time,
        groups: 1,
        cin: steps,
        cout,
        geometry: Geometry {
            input: [input[0], input[1], output[2]],
            output,
            kernel: [kernel[0], kernel[1], 1],
            stride: [stride[0], stride[1], 1],
            dilation: [dilation[0], dilation[1], 1],
            pad: [pad[0], pad[1], 0],
        },
        transposed,
        image_stride: image,
        pixel_strides: [input[1].saturating_mul(row), row, stride[2] * cin],
    };
    Some((fold, folded))
}

impl Fold {
    /// Copies images, the first of which is at `x`, to the copy.
    ///
    /// # Errors
    /// When a thread panicked, which copying itself never does.
    ///
    /// # Safety
    /// `x` and the problem are as for [`super::conv`]; the copy has room for the images.
    pub unsafe fn copy<T: Element>(
        &self,
        pool: &Pool,
        problem: &Problem,
        x: *const T,
        images: usize,
        to: *mut T,
    ) -> Result<(), PoolError> {
        struct Shared<T>(*const T, *mut T);
        // SAFETY: threads read the images and write disjoint rows.
        unsafe impl<T: Sync> Sync for Shared<T> {}

        let shared = &Shared(x, to);
        let [depth, height, _] = problem.geometry.input;
        let rows = images * depth * height;
        let parts = if rows * self.row < SERIAL_BELOW { 1 } else { pool.threads().min(rows) };
        pool.run(parts, &|part| {
            for row in share(rows, parts, part) {
                let (image, rest) = (row / (depth * height), row % (depth * height));
                let (d, h) = (rest / height, rest % height);
                let [stride_d, stride_h, stride_w] = problem.pixel_strides;
                // SAFETY: a row of the images, and its place in the copy.
                unsafe {
                    let from = shared.0.add(image * problem.image_stride + d * stride_d + h * stride_h);
                    self.copy_row(from, stride_w, problem.cin, shared.1.add(row * self.row));
                }
            }
        })
    }

    /// # Safety
    /// `from` has the row's pixels, and `to` room for a row.
    unsafe fn copy_row<T: Element>(&self, from: *const T, pixel_stride: usize, cin: usize, to: *mut T) {
        let end = self.before + self.pixels * cin;
        // SAFETY: the caller's promise.
        unsafe {
            for i in (0..self.before).chain(end..self.row) {
                *to.add(i) = T::default();
            }
            let to = to.add(self.before);
            if pixel_stride == cin {
                from.copy_to_nonoverlapping(to, self.pixels * cin);
            } else {
                for pixel in 0..self.pixels {
                    from.add(pixel * pixel_stride).copy_to_nonoverlapping(to.add(pixel * cin), cin);
                }
            }
        }
    }
}
