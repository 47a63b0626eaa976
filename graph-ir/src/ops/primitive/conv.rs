use std::ops::RangeInclusive;

use super::spatial::{Filters, Image, Layout};
use super::window::{Geometry, Slide, Window};
use super::{ConvFilterGrad, ConvInputGrad};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Convolution over 1, 2 or 3 spatial dims.
    Conv {
        /// Steps between windows, one a spatial dim; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a filter; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Zeros added before the image; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Zeros added after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Groups of channels that do not mix.
        groups: usize = 1,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

impl Default for Conv {
    fn default() -> Conv {
        let none = Vec::new;
        let layout = Layout::ChannelsFirst;
        Conv { strides: none(), dilations: none(), pads_lo: none(), pads_hi: none(), groups: 1, layout }
    }
}

/// Another convolution operation with the attributes that all of them have.
macro_rules! conv_like {
    ($op:expr => $t:ident { $($extra:ident),* }) => {
        $t {
            strides: $op.strides.clone(),
            dilations: $op.dilations.clone(),
            pads_lo: $op.pads_lo.clone(),
            pads_hi: $op.pads_hi.clone(),
            groups: $op.groups,
            layout: $op.layout,
            $($extra,)*
        }
    };
}
pub(crate) use conv_like;

impl Conv {
    pub(in crate::ops) fn window(&self, kernel: &[usize]) -> Result<Window> {
        let Conv { strides, dilations, pads_lo, pads_hi, .. } = self;
        Window::new(kernel, &Slide { strides, dilations, pads_lo, pads_hi, ceil: false })
    }

    /// All sizes, for the types of operands and results with dims that are numbers.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = outs;
        self.geometry_of(&ins[0], &ins[1])
    }

    pub(super) fn geometry_of(&self, image: &TensorType, filters: &TensorType) -> Result<Geometry> {
        let filters = self.layout.filters(filters)?;
        let window = self.window(&filters.kernel)?;
        Geometry::of_conv(self.layout, image, &filters, self.groups, window)
    }

    /// Checks that filters fit the channels of an image.
    pub(super) fn check_groups(&self, channels: &Dim, filters: &Filters, cx: &mut Infer) -> Result<()> {
        self.check_divides(&filters.outputs, "groups divide the filters' output channels", cx)?;
        let read = filters.inputs.mul(&Dim::from(self.groups))?;
        cx.eq(channels, &read, "an image has as many channels as all groups of the filters read")
    }

    /// Checks that the groups divide a number of channels.
    pub(super) fn check_divides(&self, channels: &Dim, why: &str, cx: &mut Infer) -> Result<()> {
        let groups = i64::try_from(self.groups).unwrap_or(i64::MAX);
        if groups < 1 {
            fail!("a convolution has at least 1 group");
        }
        Ok(cx.requires.require_divisible(channels, groups, why, &cx.bounds)?)
    }
}

/// The result's type for two operands of one float type: f64, else f32.
pub(in crate::ops) fn accumulator(name: &str, ins: &[TensorType]) -> Result<DType> {
    if ins[0].dtype != ins[1].dtype || !ins[0].dtype.is_float() {
        fail!("{name} takes two operands of one float type, but got {} and {}; add a cast", ins[0], ins[1]);
    }
    if ins[0].rank() != ins[1].rank() {
        fail!("{name} takes two operands of one rank, but got {} and {}", ins[0], ins[1]);
    }
    Ok(if ins[0].dtype == DType::F64 { DType::F64 } else { DType::F32 })
}

/// Types of tensors.
pub(super) fn types_of(ins: &[&Tensor]) -> Vec<TensorType> {
    ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect()
}

/// Converts an operand to the type of a gradient that it is combined with.
pub(super) fn cast_like(b: &mut Builder, v: ValueId, like: ValueId) -> Result<ValueId> {
    let dtype = b.ty(like).dtype;
    b.cast(v, dtype)
}

/// Sums of products in f64, rounded once.
pub(super) fn rounded(sums: &[f64], ty: &TensorType) -> Vec<Tensor> {
    vec![Tensor::from_fn(ty.dtype, &ty.static_shape(), |i| Scalar::F(sums[i]))]
}

impl OpDef for Conv {
    const NAME: &'static str = "conv";
    const SIGNATURE: &'static str = "conv{strides = [], dilations = [], pads_lo = [], pads_hi = [], groups = 1, \
        layout = \"channels_first\"}(x [N, C, s..], w [O, C / groups, k..]) -> y [N, O, p..]";
    const DOC: &'static str = "Cross-correlation over 1 to 3 spatial dims: y[n, o, p] is the sum over c and t of \
        x[n, c, p * stride - lo + t * dilation] * w[o, c, t] where that lies in x: padding is no term of the sum. An \
        empty list is 1 (strides, dilations) or 0 (padding) for every dim. Group j reads the j-th part of the channels and makes \
        the j-th part of the results. channels_last: x [N, s.., C], w [k.., C / groups, O], y [N, p.., O]. \
        p = floor((s + lo + hi - dilation * (k - 1) - 1) / stride) + 1. f16 and bf16 are accumulated in f32 and \
        give f32.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let dtype = accumulator(Self::NAME, ins)?;
        let (image, filters) = (self.layout.image(&ins[0])?, self.layout.filters(&ins[1])?);
        self.check_groups(&image.channels, &filters, cx)?;
        let spatial = self.window(&filters.kernel)?.positions(&image.spatial, cx)?;
        let out = Image { batch: image.batch, channels: filters.outputs, spatial };
        Ok(vec![TensorType::new(dtype, out.dims(self.layout))])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let (x, w) = (ins[0].to_f64(), ins[1].to_f64());
        let mut sums = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.products(|y, image, filter| sums[y] += x[image] * w[filter]);
        Ok(rounded(&sums, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, w, g) = (cx.ins[0], cx.ins[1], cx.g());
        let size = self.layout.image(cx.b.ty(x))?.spatial;
        let kernel = self.layout.filters(cx.b.ty(w))?.kernel;
        let (wide_x, wide_w) = (cast_like(cx.b, x, g)?, cast_like(cx.b, w, g)?);
        let dx = cx.b.op1(conv_like!(self => ConvInputGrad { size }), &[g, wide_w])?;
        let dw = cx.b.op1(conv_like!(self => ConvFilterGrad { kernel }), &[wide_x, g])?;
        Ok(Vjp::Grads(vec![Some(cast_like(cx.b, dx, x)?), Some(cast_like(cx.b, dw, w)?)]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        self.geometry(ins, outs).ok().map(|g| 2.0 * g.multiplications())
    }

    fn samples() -> Vec<Sample> {
        applications()
            .into_iter()
            .map(|a| Sample::new(a.op, vec![sample_tensor(&a.image, 1), sample_tensor(&a.filters, 2)]))
            .collect()
    }
}

/// A convolution with the shapes of its operands, for samples.
pub(crate) struct Application {
    pub op: Conv,
    pub image: Vec<usize>,
    pub filters: Vec<usize>,
}

impl Application {
    pub fn types(&self) -> [TensorType; 2] {
        [&self.image, &self.filters].map(|s| TensorType::fixed(DType::F64, s))
    }

    /// Shape of the result.
    pub fn result(&self) -> Vec<usize> {
        let outs = self.op.infer(&self.types(), &mut Infer::default());
        outs.map(|o| o[0].static_shape()).unwrap_or_default()
    }
}

/// Convolutions over which every attribute varies.
pub(crate) fn applications() -> Vec<Application> {
    let case = |op: Conv, image: &[usize], filters: &[usize]| Application {
        op,
        image: image.to_vec(),
        filters: filters.to_vec(),
    };
    let last = || Conv { layout: Layout::ChannelsLast, ..Conv::default() };
    let uneven = Conv {
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads_lo: vec![1, 0],
        pads_hi: vec![0, 3],
        ..Conv::default()
    };
    vec![
        case(Conv::default(), &[2, 1, 5], &[3, 1, 3]),
        case(Conv::default(), &[0, 2, 3], &[1, 2, 1]),
        case(Conv::default(), &[1, 2, 3, 1], &[3, 2, 2, 1]),
        case(uneven.clone(), &[1, 2, 5, 4], &[3, 2, 2, 3]),
        case(Conv { groups: 2, ..Conv::default() }, &[2, 4, 3, 3], &[4, 2, 2, 2]),
        case(Conv { groups: 3, pads_lo: vec![1, 1], ..last() }, &[1, 3, 2, 3], &[2, 2, 1, 6]),
        case(Conv { groups: 2, strides: vec![2, 2], ..last() }, &[1, 5, 4, 4], &[3, 2, 2, 2]),
        case(Conv { layout: Layout::ChannelsLast, ..uneven }, &[1, 5, 4, 2], &[2, 3, 2, 1]),
        case(Conv { pads_hi: vec![0, 1, 0], ..Conv::default() }, &[1, 1, 3, 2, 2], &[2, 1, 2, 2, 1]),
        case(last(), &[1, 2, 3, 2, 2], &[1, 2, 2, 2, 1]),
    ]
}
