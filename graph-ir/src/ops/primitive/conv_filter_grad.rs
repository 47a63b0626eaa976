use std::ops::RangeInclusive;

use super::conv::{accumulator, applications, cast_like, conv_like, rounded, types_of};
use super::spatial::{Filters, Layout};
use super::window::Geometry;
use super::{Conv, ConvInputGrad};
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// The adjoint of [`Conv`] in the filters.
    ConvFilterGrad {
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
        /// Spatial sizes of the filters.
        kernel: Vec<usize>,
    }
}

impl ConvFilterGrad {
    /// The convolution that this is the adjoint of.
    pub fn conv(&self) -> Conv {
        conv_like!(self => Conv {})
    }

    /// All sizes, those of the convolution: the filters are the result.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        self.conv().geometry_of(&ins[0], &outs[0])
    }
}

impl OpDef for ConvFilterGrad {
    const NAME: &'static str = "conv_filter_grad";
    const SIGNATURE: &'static str = "conv_filter_grad{strides = [], dilations = [], pads_lo = [], pads_hi = [], groups = \
        1, layout = \"channels_first\", kernel}(x [N, C, s..], g [N, O, p..]) -> w [O, C / groups, kernel..]";
    const DOC: &'static str = "The adjoint of `conv` with the same attributes in its filters, whose spatial sizes are \
        `kernel`: w[o, c, t] is the sum over n and p of x[n, c, p * stride - lo + t * dilation] * g[n, o, p]. g has \
        the dims that `conv` gives.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let dtype = accumulator(Self::NAME, ins)?;
        let conv = self.conv();
        let (image, g) = (self.layout.image(&ins[0])?, self.layout.image(&ins[1])?);
        conv.check_divides(&image.channels, "groups divide the image's channels", cx)?;
        conv.check_divides(&g.channels, "groups divide the gradient's channels", cx)?;
        cx.eq(&image.batch, &g.batch, "image and gradient are of one batch")?;
        let positions = conv.window(&self.kernel)?.positions(&image.spatial, cx)?;
        cx.same(
            &g.spatial,
            &positions,
            "a gradient has the dims of the convolution with filters of `kernel`",
        )?;
        let inputs = image.channels.floor_div(self.groups as i64)?;
        let filters = Filters { outputs: g.channels, inputs, kernel: self.kernel.clone() };
        Ok(vec![TensorType::new(dtype, filters.dims(self.layout))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let (x, g) = (ins[0].to_f64(), ins[1].to_f64());
        let mut sums = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.products(|y, image, filter| sums[filter] += x[image] * g[y]);
        Ok(rounded(&sums, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, g, v) = (cx.ins[0], cx.ins[1], cx.g());
        let size = self.layout.image(cx.b.ty(x))?.spatial;
        let (wide_x, wide_g) = (cast_like(cx.b, x, v)?, cast_like(cx.b, g, v)?);
        let dx = cx.b.op1(conv_like!(self => ConvInputGrad { size }), &[wide_g, v])?;
        let dg = cx.b.op1(self.conv(), &[wide_x, v])?;
        Ok(Vjp::Grads(vec![Some(cast_like(cx.b, dx, x)?), Some(cast_like(cx.b, dg, g)?)]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        self.geometry(ins, outs).ok().map(|g| 2.0 * g.multiplications())
    }

    fn samples() -> Vec<Sample> {
        let sample = |a: super::conv::Application| {
            let kernel = a.filters[a.op.layout.kernel_axes(a.filters.len())].to_vec();
            let ins = vec![sample_tensor(&a.image, 1), sample_tensor(&a.result(), 3)];
            Sample::new(conv_like!(a.op => ConvFilterGrad { kernel }), ins)
        };
        applications().into_iter().map(sample).collect()
    }
}
