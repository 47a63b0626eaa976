use std::ops::RangeInclusive;

use super::conv::{accumulator, applications, cast_like, conv_like, rounded, types_of};
use super::map_all;
use super::spatial::{Image, Layout};
use super::window::Geometry;
use super::{Conv, ConvFilterGrad};
use crate::dim::Dim;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// The adjoint of [`Conv`] in the image; also known as transposed convolution.
    ConvInputGrad {
        /// Steps between windows, one a spatial dim; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a filter; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Zeros that the convolution adds before the image; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Zeros that it adds after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Groups of channels that do not mix.
        groups: usize = 1,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
        /// Spatial dims of the image.
        size: Vec<Dim>,
    }
}

impl ConvInputGrad {
    /// The convolution that this is the adjoint of.
    pub fn conv(&self) -> Conv {
        conv_like!(self => Conv {})
    }

    /// All sizes, those of the convolution: the image is the result.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        self.conv().geometry_of(&outs[0], &ins[1])
    }
}

impl OpDef for ConvInputGrad {
    const NAME: &'static str = "conv_input_grad";
    const SIGNATURE: &'static str = "conv_input_grad{strides = [], dilations = [], pads_lo = [], pads_hi = [], groups = \
        1, layout = \"channels_first\", size}(g [N, O, p..], w [O, C / groups, k..]) -> x [N, C, size..]";
    const DOC: &'static str = "The adjoint of `conv` with the same attributes in its image, whose spatial dims are `size`: \
        x[n, c, s] is the sum of g[n, o, p] * w[o, c, t] over all o, p and t with p * stride - lo + t * dilation = s. \
        g has the dims that `conv` gives.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let dtype = accumulator(Self::NAME, ins)?;
        let conv = self.conv();
        let (g, filters) = (self.layout.image(&ins[0])?, self.layout.filters(&ins[1])?);
        let channels = filters.inputs.mul(&Dim::from(self.groups))?;
        conv.check_groups(&channels, &filters, cx)?;
        cx.eq(&g.channels, &filters.outputs, "a gradient has the filters' output channels")?;
        let positions = conv.window(&filters.kernel)?.positions(&self.size, cx)?;
        cx.same(&g.spatial, &positions, "a gradient has the dims of the convolution of an image of `size`")?;
        let image = Image { batch: g.batch, channels, spatial: self.size.clone() };
        Ok(vec![TensorType::new(dtype, image.dims(self.layout))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let (g, w) = (ins[0].to_f64(), ins[1].to_f64());
        let mut sums = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.products(|y, image, filter| sums[image] += g[y] * w[filter]);
        Ok(rounded(&sums, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (g, w, u) = (cx.ins[0], cx.ins[1], cx.g());
        let kernel = self.layout.filters(cx.b.ty(w))?.kernel;
        let (wide_g, wide_w) = (cast_like(cx.b, g, u)?, cast_like(cx.b, w, u)?);
        let dg = cx.b.op1(self.conv(), &[u, wide_w])?;
        let dw = cx.b.op1(conv_like!(self => ConvFilterGrad { kernel }), &[u, wide_g])?;
        Ok(Vjp::Grads(vec![Some(cast_like(cx.b, dg, g)?), Some(cast_like(cx.b, dw, w)?)]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(ConvInputGrad { size: map_all(&self.size, f)?, ..self.clone() })
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        self.geometry(ins, outs).ok().map(|g| 2.0 * g.multiplications())
    }

    fn samples() -> Vec<Sample> {
        let sample = |a: super::conv::Application| {
            let size =
                a.image[a.op.layout.spatial_axes(a.image.len())].iter().map(|d| Dim::from(*d)).collect();
            let ins = vec![sample_tensor(&a.result(), 3), sample_tensor(&a.filters, 2)];
            Sample::new(conv_like!(a.op => ConvInputGrad { size }), ins)
        };
        applications().into_iter().map(sample).collect()
    }
}
