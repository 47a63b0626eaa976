use std::ops::RangeInclusive;

use super::infer_expansion;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::primitive::conv::{applications, conv_like};
use crate::ops::{Conv, Layout, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// [`Conv`] and one number for each output channel.
    ConvBias {
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

impl Default for ConvBias {
    fn default() -> ConvBias {
        conv_like!(Conv::default() => ConvBias {})
    }
}

/// Checks a bias against the output channels.
pub(super) fn check_bias(bias: &TensorType, channels: &Dim, cx: &mut Infer) -> Result<()> {
    if bias.rank() != 1 || !bias.dtype.is_float() {
        fail!("a bias has one number for each output channel, but got {bias}");
    }
    cx.eq(&bias.dims[0], channels, "there is one bias for each output channel")
}

/// Adds a bias along the channels of an image.
pub(super) fn add_bias(b: &mut Builder, y: ValueId, bias: ValueId, layout: Layout) -> Result<ValueId> {
    let ty = b.ty(y).clone();
    let bias = b.cast(bias, ty.dtype)?;
    let wide = b.broadcast(bias, &ty.dims, &[layout.channel_axis(ty.rank())])?;
    b.map(ScalarFn::Add, &[y, wide])
}

impl OpDef for ConvBias {
    const NAME: &'static str = "conv_bias";
    const SIGNATURE: &'static str = "conv_bias{strides = [], dilations = [], pads_lo = [], pads_hi = [], groups = 1, \
        layout = \"channels_first\"}(x [N, C, s..], w [O, C / groups, k..], b [O]) -> y [N, O, p..]";
    const DOC: &'static str = "`conv` with the same attributes, plus b[o] in output channel o.";
    const ARITY: RangeInclusive<usize> = 3..=3;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_bias(&ins[2], &self.layout.filters(&ins[1])?.outputs, cx)?;
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let y = b.op1(conv_like!(self => Conv {}), &ins[..2])?;
        Ok(Some(vec![add_bias(b, y, ins[2], self.layout)?]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let conv = conv_like!(self => Conv {});
        let sums: f64 = outs[0].shape()?.iter().map(|d| *d as f64).product();
        Some(conv.flops(ins, outs)? + sums)
    }

    fn samples() -> Vec<Sample> {
        let sample = |a: crate::ops::primitive::conv::Application| {
            let result = a.result();
            let bias = sample_tensor(&[result[a.op.layout.channel_axis(result.len())]], 3);
            let ins = vec![sample_tensor(&a.image, 1), sample_tensor(&a.filters, 2), bias];
            Sample::new(conv_like!(a.op => ConvBias {}), ins)
        };
        applications().into_iter().map(sample).collect()
    }
}
