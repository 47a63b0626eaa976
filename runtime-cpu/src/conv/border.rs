//! Sums that padding made NaN.
//!
//! Padding is no term of a convolution's sums. Neighbouring pixels are summed together, though, with the taps that any of
//! them has, and what a pixel lacks reads zeros; so do the copies of thin inputs. A zero adds nothing to a sum unless the
//! filter's element is infinite or NaN. Then the sum is NaN, and is made again here from the taps that the pixel has.

use super::Problem;
use crate::gemm::Element;

/// Makes the sums of one output pixel again where they are NaN; `sums` are those of some columns of a panel.
///
/// # Safety
/// `x` is the first channel of the group in the first image that pixels are counted from, and every pixel that the
/// problem describes can be read from there. `filters` has a row of `width` elements for each tap and channel of the
/// group, and `sums` are at most as many.
pub(super) unsafe fn without_padding<T: Element>(
    problem: &Problem,
    x: *const T,
    pixel: usize,
    filters: *const T,
    width: usize,
    sums: &mut [T],
) {
    if !any_nan(sums) {
        return;
    }
    let Problem { cin, geometry, transposed, image_stride, pixel_strides, .. } = *problem;
    let [depth, height, columns] = geometry.output;
    let at = [pixel / columns / height % depth, pixel / columns % height, pixel % columns];
    let x = x.wrapping_add(pixel / columns / height / depth * image_stride);
    // The input coordinate that an output coordinate and a tap meet, unless that is padding.
    let read = |dim: usize, tap: usize| {
        let offset = tap * geometry.dilation[dim];
        let position = if transposed {
            let position = (at[dim] + geometry.pad[dim]).checked_sub(offset)?;
            if position % geometry.stride[dim] != 0 {
                return None;
            }
            position / geometry.stride[dim]
        } else {
            (at[dim] * geometry.stride[dim] + offset).checked_sub(geometry.pad[dim])?
        };
        (position < geometry.input[dim]).then_some(position * pixel_strides[dim])
    };
    let [_, rows, taps] = geometry.kernel;
    for (column, sum) in sums.iter_mut().enumerate().filter(|(_, sum)| sum.is_nan()) {
        *sum = T::default();
        for tap in 0..geometry.taps() {
            let place = (read(0, tap / taps / rows), read(1, tap / taps % rows), read(2, tap % taps));
            let (Some(d), Some(h), Some(w)) = place else { continue };
            for channel in 0..cin {
                // SAFETY: a pixel inside the image and one of its channels; a row of the filters.
                unsafe {
                    let element = *x.add(d + h + w + channel);
                    let factor = *filters.add((tap * cin + channel) * width + column);
                    *sum = element.times_plus(factor, *sum);
                }
            }
            if sum.is_nan() {
                // Of what the pixel has itself.
                break;
            }
        }
    }
}

/// Whether some number is NaN; without leaving early, so that the loop is one of vectors.
fn any_nan<T: Element>(numbers: &[T]) -> bool {
    numbers.iter().fold(false, |any, x| any | x.is_nan())
}
