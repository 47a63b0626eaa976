use std::ops::RangeInclusive;

use super::conv_bias::{add_bias, check_bias};
use super::infer_expansion;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::primitive::conv::conv_like;
use crate::ops::{Conv, ConvInputGrad, Layout, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Transposed convolution: the gradient of [`Conv`] in its image, as a layer (Zeiler et al. 2010).
    ConvTranspose {
        /// Steps between the places where filters are added, one a spatial dim; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a filter; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Elements cut off before the result; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Elements cut off after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Elements added after the result, fewer than the stride; empty for 0.
        output_pads: Vec<usize> = Vec::new(),
        /// Groups of channels that do not mix.
        groups: usize = 1,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

impl Default for ConvTranspose {
    fn default() -> ConvTranspose {
        let output_pads = Vec::new();
        conv_like!(Conv::default() => ConvTranspose { output_pads })
    }
}

impl ConvTranspose {
    /// Spatial dims of the result: `(n - 1) * stride + dilation * (k - 1) + 1 + output_pad - lo - hi`.
    fn size(&self, x: &TensorType, w: &TensorType) -> Result<Vec<Dim>> {
        let window = conv_like!(self => Conv {}).window(&self.layout.filters(w)?.kernel)?;
        let spatial = self.layout.image(x)?.spatial;
        let pads = &self.output_pads;
        if spatial.len() != window.kernel.len() || !(pads.is_empty() || pads.len() == spatial.len()) {
            fail!("x, w and output_pads have one number of spatial dims, but got {x}, {w} and {pads:?}");
        }
        let mut size = Vec::new();
        for (i, n) in spatial.iter().enumerate() {
            let (stride, extra) = (window.strides[i], pads.get(i).copied().unwrap_or(0));
            if extra >= stride {
                fail!(
                    "output_pads are smaller than the strides, but in spatial dim {i} {extra} is not below {stride}"
                );
            }
            let steps = n.sub(&Dim::from(1usize))?.mul(&Dim::from(stride))?;
            let cut = Dim::from(window.pads_lo[i] + window.pads_hi[i]);
            size.push(steps.add(&Dim::from(window.extent(i) + extra))?.sub(&cut)?);
        }
        Ok(size)
    }
}

impl OpDef for ConvTranspose {
    const NAME: &'static str = "conv_transpose";
    const SIGNATURE: &'static str = "conv_transpose{strides = [], dilations = [], pads_lo = [], pads_hi = [], output_pads \
        = [], groups = 1, layout = \"channels_first\"}(x [N, C, s..], w [C, O / groups, k..], b [O] = 0) -> y [N, O, \
        q..]";
    const DOC: &'static str = "Transposed convolution: `conv_input_grad` of x with an image of \
        q = (s - 1) * stride + dilation * (k - 1) + 1 + output_pad - lo - hi, plus b[o] in output channel o. \
        output_pad is smaller than the stride. channels_last: x [N, s.., C], w [k.., O / groups, C].";
    const ARITY: RangeInclusive<usize> = 2..=3;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if let Some(bias) = ins.get(2) {
            let made = self.layout.filters(&ins[1])?.inputs.mul(&Dim::from(self.groups))?;
            check_bias(bias, &made, cx)?;
        }
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let size = self.size(b.ty(ins[0]), b.ty(ins[1]))?;
        let y = b.op1(conv_like!(self => ConvInputGrad { size }), &ins[..2])?;
        Ok(Some(vec![match ins.get(2) {
            Some(bias) => add_bias(b, y, *bias, self.layout)?,
            None => y,
        }]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let size = self.size(&ins[0], &ins[1]).ok()?;
        conv_like!(self => ConvInputGrad { size }).flops(ins, outs)
    }

    fn samples() -> Vec<Sample> {
        let case = |op: ConvTranspose, x: &[usize], w: &[usize], bias: Option<usize>| {
            let mut ins = vec![sample_tensor(x, 1), sample_tensor(w, 2)];
            ins.extend(bias.map(|n| sample_tensor(&[n], 3)));
            Sample::new(op, ins)
        };
        let plain = ConvTranspose::default;
        let uneven = ConvTranspose {
            strides: vec![2, 3],
            dilations: vec![2, 1],
            pads_lo: vec![1, 0],
            pads_hi: vec![0, 1],
            output_pads: vec![1, 2],
            ..plain()
        };
        let last = ConvTranspose { layout: Layout::ChannelsLast, ..uneven.clone() };
        vec![
            case(plain(), &[2, 1, 3], &[1, 3, 2], Some(3)),
            case(plain(), &[0, 2, 3], &[2, 1, 1], Some(1)),
            case(uneven, &[1, 2, 2, 3], &[2, 2, 2, 3], None),
            case(ConvTranspose { groups: 2, ..plain() }, &[1, 4, 2, 2], &[4, 3, 2, 1], Some(6)),
            case(ConvTranspose { groups: 2, ..last }, &[1, 2, 2, 2], &[2, 2, 3, 2], Some(6)),
            case(
                ConvTranspose { strides: vec![1, 2, 1], ..plain() },
                &[1, 1, 2, 2, 1],
                &[1, 2, 1, 2, 3],
                None,
            ),
        ]
    }
}
