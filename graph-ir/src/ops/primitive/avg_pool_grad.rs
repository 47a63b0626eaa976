use std::ops::RangeInclusive;

use super::avg_pool::{applications, avg_like};
use super::conv::{rounded, types_of};
use super::max_pool::windows_of;
use super::spatial::{Image, Layout};
use super::window::Geometry;
use super::{AvgPool, map_all};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// The adjoint of [`AvgPool`].
    AvgPoolGrad {
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
        /// Spatial dims of the image.
        size: Vec<Dim>,
    }
}

impl AvgPoolGrad {
    /// The pool that this is the adjoint of.
    pub fn pool(&self) -> AvgPool {
        avg_like!(self => AvgPool {})
    }

    /// All sizes, those of the pool: the image is the result.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = ins;
        self.pool().geometry_of(&outs[0])
    }
}

impl OpDef for AvgPoolGrad {
    const NAME: &'static str = "avg_pool_grad";
    const SIGNATURE: &'static str = "avg_pool_grad{kernel, strides = [], pads_lo = [], pads_hi = [], ceil = false, \
        count_pad = true, layout = \"channels_first\", size}(g [N, C, p..]) -> x [N, C, size..]";
    const DOC: &'static str = "The adjoint of `avg_pool` with the same attributes for an image whose spatial dims are \
        `size`: each element is the sum of g / divisor over the windows that it lies in.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let g = self.layout.image(&ins[0])?;
        let image = Image { spatial: self.size.clone(), ..g };
        let x = TensorType::new(ins[0].dtype, image.dims(self.layout));
        let made = windows_of(Self::NAME, self.layout, &self.pool().window()?, &x, cx)?;
        let why = "there is one number for each window over an image of `size`";
        cx.same(&ins[0].dims, &made.dims(self.layout), why)?;
        Ok(vec![x])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let mut sums = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.windows(|position, at, taps| {
            let count = geometry.divisor(at, self.count_pad) as f64;
            for n in 0..geometry.batch {
                for c in 0..geometry.channels {
                    let share = ins[0].get(geometry.output_at(n, c, position)).as_f64() / count;
                    for (_, pixel) in taps {
                        sums[geometry.image_at(n, c, *pixel)] += share;
                    }
                }
            }
        });
        Ok(rounded(&sums, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let u = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.op1(self.pool(), &[u])?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(AvgPoolGrad { size: map_all(&self.size, f)?, ..self.clone() })
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let taps = self.geometry(ins, outs).ok()?.window.taps();
        ins[0].shape().map(|s| s.iter().map(|d| *d as f64).product::<f64>() * taps as f64)
    }

    fn samples() -> Vec<Sample> {
        let sample = |(op, image): (AvgPool, Vec<usize>)| {
            let size = image[op.layout.spatial_axes(image.len())].iter().map(|d| Dim::from(*d)).collect();
            let made = op.infer(&[TensorType::fixed(DType::F64, &image)], &mut Infer::default());
            let windows = made.map(|m| m[0].static_shape()).unwrap_or_default();
            Sample::new(avg_like!(op => AvgPoolGrad { size }), vec![sample_tensor(&windows, 1)])
        };
        applications().into_iter().map(sample).collect()
    }
}
