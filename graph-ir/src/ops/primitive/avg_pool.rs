use std::ops::RangeInclusive;

use super::AvgPoolGrad;
use super::conv::{rounded, types_of};
use super::max_pool::windows_of;
use super::spatial::Layout;
use super::window::{Geometry, Slide, Window};
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Mean of each window.
    AvgPool {
        /// Size of the window in each spatial dim.
        kernel: Vec<usize>,
        /// Steps between windows; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Zeros added before the image; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Zeros added after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Whether a last window may reach beyond the padding.
        ceil: bool = false,
        /// Whether padding counts as elements.
        count_pad: bool = true,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

/// Another operation with the attributes of [`AvgPool`].
macro_rules! avg_like {
    ($op:expr => $t:ident { $($extra:ident),* }) => {
        $t {
            kernel: $op.kernel.clone(),
            strides: $op.strides.clone(),
            pads_lo: $op.pads_lo.clone(),
            pads_hi: $op.pads_hi.clone(),
            ceil: $op.ceil,
            count_pad: $op.count_pad,
            layout: $op.layout,
            $($extra,)*
        }
    };
}
pub(super) use avg_like;

impl AvgPool {
    /// Windows of `kernel` that touch each other, without padding, channels first.
    pub fn new(kernel: &[usize]) -> AvgPool {
        AvgPool {
            kernel: kernel.to_vec(),
            strides: kernel.to_vec(),
            pads_lo: Vec::new(),
            pads_hi: Vec::new(),
            ceil: false,
            count_pad: true,
            layout: Layout::ChannelsFirst,
        }
    }

    pub(super) fn window(&self) -> Result<Window> {
        let AvgPool { strides, pads_lo, pads_hi, ceil, .. } = self;
        Window::pool(&self.kernel, &Slide { strides, dilations: &[], pads_lo, pads_hi, ceil: *ceil })
    }

    /// All sizes, for the types of operands and results with dims that are numbers.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = outs;
        self.geometry_of(&ins[0])
    }

    pub(super) fn geometry_of(&self, image: &TensorType) -> Result<Geometry> {
        Geometry::of_pool(self.layout, image, self.window()?)
    }
}

impl OpDef for AvgPool {
    const NAME: &'static str = "avg_pool";
    const SIGNATURE: &'static str = "avg_pool{kernel, strides = [], pads_lo = [], pads_hi = [], ceil = false, count_pad \
        = true, layout = \"channels_first\"}(x [N, C, s..]) -> y [N, C, p..]";
    const DOC: &'static str = "The mean of each window, which are those of `max_pool`. The sum is divided by the number of \
        the window's elements inside the image and, with `count_pad`, inside its padding; what lies beyond both, as \
        with `ceil`, is not counted (as in PyTorch).";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let out = windows_of(Self::NAME, self.layout, &self.window()?, &ins[0], cx)?;
        Ok(vec![TensorType::new(ins[0].dtype, out.dims(self.layout))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let x = ins[0].to_f64();
        let mut means = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.windows(|position, at, taps| {
            let count = geometry.divisor(at, self.count_pad) as f64;
            for n in 0..geometry.batch {
                for c in 0..geometry.channels {
                    let at = |pixel: usize| x[geometry.image_at(n, c, pixel)];
                    // Not `sum`, which starts from -0.0.
                    let sum = taps.iter().fold(0.0, |sum, (_, pixel)| sum + at(*pixel));
                    means[geometry.output_at(n, c, position)] = sum / count;
                }
            }
        });
        Ok(rounded(&means, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let size = self.layout.image(cx.b.ty(cx.ins[0]))?.spatial;
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.op1(avg_like!(self => AvgPoolGrad { size }), &[g])?)]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let taps = self.geometry(ins, outs).ok()?.window.taps();
        outs[0].shape().map(|s| s.iter().map(|d| *d as f64).product::<f64>() * taps as f64)
    }

    fn samples() -> Vec<Sample> {
        applications()
            .into_iter()
            .map(|(op, shape)| Sample::new(op, vec![sample_tensor(&shape, 1)]))
            .collect()
    }
}

/// Pools over which every attribute varies, with the shape of an image.
pub(super) fn applications() -> Vec<(AvgPool, Vec<usize>)> {
    let padded = AvgPool {
        strides: vec![2, 2],
        pads_lo: vec![1, 0],
        pads_hi: vec![1, 1],
        ceil: true,
        ..AvgPool::new(&[2, 3])
    };
    let last = AvgPool { layout: Layout::ChannelsLast, count_pad: false, ..padded.clone() };
    vec![
        (AvgPool { strides: Vec::new(), ..AvgPool::new(&[3]) }, vec![2, 1, 5]),
        (AvgPool::new(&[2]), vec![0, 3, 4]),
        (padded.clone(), vec![1, 2, 3, 5]),
        (AvgPool { count_pad: false, ceil: false, ..padded }, vec![1, 2, 4, 3]),
        (last, vec![2, 4, 3, 3]),
        (AvgPool::new(&[2, 1, 3]), vec![1, 2, 3, 2, 3]),
    ]
}
