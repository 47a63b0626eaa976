//! Windows that slide over images: sizes of results, and which elements each window covers.

use super::coordinates;
use super::spatial::{Filters, Layout};
use crate::dim::Dim;
use crate::error::{Error, Result};
use crate::types::{Infer, TensorType};

/// A window that slides over the spatial dims of an image; every list has one entry a dim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its elements.
    pub kernel: Vec<usize>,
    /// Steps between neighbouring windows.
    pub strides: Vec<usize>,
    /// Steps between neighbouring elements of the window.
    pub dilations: Vec<usize>,
    /// Elements added before the image.
    pub pads_lo: Vec<usize>,
    /// Elements added after it.
    pub pads_hi: Vec<usize>,
    /// Whether a last window may reach beyond the padding.
    pub ceil: bool,
}

/// The attributes of a [`Window`] as an operation has them: an empty list is 1 or 0 for every dim.
pub(super) struct Slide<'a> {
    pub strides: &'a [usize],
    pub dilations: &'a [usize],
    pub pads_lo: &'a [usize],
    pub pads_hi: &'a [usize],
    pub ceil: bool,
}

/// Largest entry of a list, so that products of two of them fit in 64 bits.
const MAX_SIZE: usize = i32::MAX as usize;

impl Window {
    pub(super) fn new(kernel: &[usize], slide: &Slide<'_>) -> Result<Window> {
        let full = |name: &str, given: &[usize], least: usize| -> Result<Vec<usize>> {
            let list = if given.is_empty() { vec![least; kernel.len()] } else { given.to_vec() };
            if list.len() != kernel.len() {
                fail!("{name} {list:?} has {} entries for {} spatial dims", list.len(), kernel.len());
            }
            match list.iter().find(|v| !(least..=MAX_SIZE).contains(v)) {
                Some(v) => fail!("entries of {name} lie in {least}..={MAX_SIZE}, but {list:?} has {v}"),
                None => Ok(list),
            }
        };
        let window = Window {
            kernel: full("kernel", kernel, 1)?,
            strides: full("strides", slide.strides, 1)?,
            dilations: full("dilations", slide.dilations, 1)?,
            pads_lo: full("pads_lo", slide.pads_lo, 0)?,
            pads_hi: full("pads_hi", slide.pads_hi, 0)?,
            ceil: slide.ceil,
        };
        let elements = kernel.iter().try_fold(1usize, |n, k| n.checked_mul(*k));
        if elements.is_none_or(|n| n > MAX_SIZE) {
            fail!("a window of {kernel:?} has more than {MAX_SIZE} elements");
        }
        Ok(window)
    }

    /// As [`Window::new`] for a pool, whose windows all touch the image.
    pub(super) fn pool(kernel: &[usize], slide: &Slide<'_>) -> Result<Window> {
        if kernel.is_empty() {
            fail!("kernel has no entries; a pool needs the window's size in each spatial dim");
        }
        let window = Window::new(kernel, slide)?;
        for (i, pads) in window.pads_lo.iter().zip(&window.pads_hi).enumerate() {
            let extent = window.extent(i);
            if *pads.0 >= extent || *pads.1 >= extent {
                fail!(
                    "the padding of a pool is smaller than its window, but in spatial dim {i} {} and {} pad \
                     a window that spans {extent} ({})",
                    pads.0,
                    pads.1,
                    window.describe(i)
                );
            }
        }
        Ok(window)
    }

    /// Elements that the window spans along a spatial dim: dilation * (kernel - 1) + 1.
    pub fn extent(&self, dim: usize) -> usize {
        self.dilations[dim] * (self.kernel[dim] - 1) + 1
    }

    /// Number of elements of the window.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn describe(&self, dim: usize) -> String {
        format!("kernel {}, dilation {}", self.kernel[dim], self.dilations[dim])
    }

    /// Number of windows along each spatial dim: `floor((n + lo + hi - extent) / stride) + 1`. With
    /// `ceil` the division rounds up, and windows that start behind the image and its low padding are
    /// left out: `min(ceil((n + lo + hi - extent) / stride) + 1, ceil((n + lo) / stride))`, of which
    /// the attributes alone decide the smaller.
    ///
    /// # Errors
    /// A window that does not fit; where sizes are symbols it is recorded as a requirement.
    pub(crate) fn positions(&self, spatial: &[Dim], cx: &mut Infer) -> Result<Vec<Dim>> {
        if spatial.len() != self.kernel.len() {
            fail!("a window of {:?} slides over {} spatial dims", self.kernel, spatial.len());
        }
        let mut positions = Vec::with_capacity(spatial.len());
        for (i, n) in spatial.iter().enumerate() {
            let (stride, extent) = (self.strides[i] as i64, self.extent(i) as i64);
            let (lo, hi) = (self.pads_lo[i] as i64, self.pads_hi[i] as i64);
            cx.at_least(n, 0, "a size is not negative")?;
            let room = n.add(&Dim::from(lo + hi - extent))?;
            let count = if !self.ceil {
                room.floor_div(stride)?.add(&Dim::from(1i64))?
            } else if extent - hi >= stride {
                room.ceil_div(stride)?.add(&Dim::from(1i64))?
            } else {
                n.add(&Dim::from(lo))?.ceil_div(stride)?
            };
            if count.as_const().is_some_and(|c| c < 1) {
                fail!(
                    "the window spans {extent} ({}), but spatial dim {i} has {n} elements with {lo} and {hi} of \
                     padding: there is no place for it",
                    self.describe(i)
                );
            }
            cx.at_least(&count, 1, "there is place for a window in each spatial dim")?;
            positions.push(count);
        }
        Ok(positions)
    }
}

/// All sizes of one convolution or pool over a bound image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Order of the axes.
    pub layout: Layout,
    /// Images.
    pub batch: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Channels of what the windows give; those of the image for a pool.
    pub outputs: usize,
    /// Groups of a convolution; 1 for a pool.
    pub groups: usize,
    /// Spatial sizes of the image.
    pub image: Vec<usize>,
    /// Number of windows along each spatial dim: the spatial sizes of what they give.
    pub positions: Vec<usize>,
    /// The window.
    pub window: Window,
}

fn numbers(dims: &[Dim]) -> Result<Vec<usize>> {
    let size = |d: &Dim| d.as_const().and_then(|v| usize::try_from(v).ok());
    dims.iter().map(size).collect::<Option<_>>().ok_or_else(|| Error::new("a size is not bound to a number"))
}

impl Geometry {
    pub(super) fn of_pool(layout: Layout, image: &TensorType, window: Window) -> Result<Geometry> {
        let image = layout.image(image)?;
        let positions = window.positions(&image.spatial, &mut Infer::default())?;
        let channels = numbers(&[image.batch, image.channels])?;
        Ok(Geometry {
            layout,
            batch: channels[0],
            channels: channels[1],
            outputs: channels[1],
            groups: 1,
            image: numbers(&image.spatial)?,
            positions: numbers(&positions)?,
            window,
        })
    }

    pub(super) fn of_conv(
        layout: Layout,
        image: &TensorType,
        filters: &Filters,
        groups: usize,
        window: Window,
    ) -> Result<Geometry> {
        let outputs = numbers(std::slice::from_ref(&filters.outputs))?[0];
        Ok(Geometry { outputs, groups, ..Geometry::of_pool(layout, image, window)? })
    }

    /// Axis of the channels, of the image and of what the windows give.
    pub fn channel_axis(&self) -> usize {
        self.layout.channel_axis(self.image.len() + 2)
    }

    /// Row-major index of an element of the image; `pixel` counts its spatial dims row-major.
    pub fn image_at(&self, n: usize, channel: usize, pixel: usize) -> usize {
        element(self.layout, n, (channel, self.channels), (pixel, self.image.iter().product()))
    }

    /// Row-major index of an element of what the windows give; `position` counts windows row-major.
    pub fn output_at(&self, n: usize, channel: usize, position: usize) -> usize {
        element(self.layout, n, (channel, self.outputs), (position, self.positions.iter().product()))
    }

    /// Row-major index of an element of the filters; `channel` counts within a group.
    pub fn filter_at(&self, output: usize, channel: usize, tap: usize) -> usize {
        let inputs = self.channels / self.groups;
        match self.layout {
            Layout::ChannelsFirst => (output * inputs + channel) * self.window.taps() + tap,
            Layout::ChannelsLast => (tap * inputs + channel) * self.outputs + output,
        }
    }

    /// Visits all windows in row-major order: number, coordinates, and the elements that lie inside
    /// the image as pairs (row-major offset in the window, pixel), in order of the offset.
    pub(crate) fn windows(&self, mut visit: impl FnMut(usize, &[usize], &[(usize, usize)])) {
        let mut taps = Vec::new();
        coordinates(&self.positions, |position, at| {
            taps.clear();
            coordinates(&self.window.kernel, |tap, offset| {
                let mut pixel = Some(0);
                for d in 0..offset.len() {
                    let padded = at[d] * self.window.strides[d] + offset[d] * self.window.dilations[d];
                    let inside = padded.checked_sub(self.window.pads_lo[d]).filter(|p| *p < self.image[d]);
                    pixel = pixel.zip(inside).map(|(flat, p)| flat * self.image[d] + p);
                }
                taps.extend(pixel.map(|p| (tap, p)));
            });
            visit(position, at, &taps);
        });
    }

    /// What the sum over the window at these coordinates is divided by for its mean: its elements inside
    /// the image, and with `count_pad` those inside the padding too.
    pub fn divisor(&self, at: &[usize], count_pad: bool) -> usize {
        let inside = |d: usize| {
            let (lo, n) = (self.window.pads_lo[d], self.image[d]);
            let (first, last) = if count_pad { (0, lo + n + self.window.pads_hi[d]) } else { (lo, lo + n) };
            let place = |t: usize| at[d] * self.window.strides[d] + t * self.window.dilations[d];
            (0..self.window.kernel[d]).filter(|t| (first..last).contains(&place(*t))).count()
        };
        (0..at.len()).map(inside).product()
    }

    /// Visits every product of a convolution as the elements of its result, image and filters.
    pub(crate) fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (inputs, made) = (self.channels / self.groups, self.outputs / self.groups);
        // From one channel to the next both operands advance by a fixed step.
        let image_step = self.image_at(0, 1, 0) - self.image_at(0, 0, 0);
        let filter_step = self.filter_at(0, 1, 0) - self.filter_at(0, 0, 0);
        self.windows(|position, _, taps| {
            for n in 0..self.batch {
                for o in 0..self.outputs {
                    let output = self.output_at(n, o, position);
                    for (tap, pixel) in taps {
                        let image = self.image_at(n, o / made * inputs, *pixel);
                        let filter = self.filter_at(o, 0, *tap);
                        for c in 0..inputs {
                            visit(output, image + c * image_step, filter + c * filter_step);
                        }
                    }
                }
            }
        });
    }

    /// Multiplications of a convolution, those with padding included.
    pub fn multiplications(&self) -> f64 {
        let sizes = [self.batch, self.outputs, self.channels / self.groups, self.window.taps()];
        sizes.iter().chain(&self.positions).map(|s| *s as f64).product()
    }
}

fn element(layout: Layout, n: usize, channel: (usize, usize), place: (usize, usize)) -> usize {
    match layout {
        Layout::ChannelsFirst => (n * channel.1 + channel.0) * place.1 + place.0,
        Layout::ChannelsLast => (n * place.1 + place.0) * channel.1 + channel.0,
    }
}
