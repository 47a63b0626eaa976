use std::ops::RangeInclusive;

use super::axis::{check_matrix, combine, number};
use super::check_float;
use crate::attr_enum;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{Layout, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

attr_enum! {
    /// How new elements are made of their neighbours.
    Interpolation {
        /// Each element is repeated.
        Nearest = "nearest",
        /// Linearly along each spatial dim: bilinear for two of them.
        Linear = "linear",
    }
}

op_struct! {
    /// An image with more elements.
    Upsample {
        /// Factor of each spatial size.
        scale: Vec<usize>,
        /// How new elements are made.
        mode: Interpolation = Interpolation::Nearest,
        /// Whether the outermost elements stay where they are, instead of the outer edges.
        align_corners: bool = false,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

/// Where element `o` of `outputs` lies among `inputs` elements.
fn place(o: usize, inputs: usize, outputs: usize, align_corners: bool) -> f64 {
    if align_corners {
        let steps = outputs.saturating_sub(1).max(1);
        return (o * (inputs - 1)) as f64 / steps as f64;
    }
    let at = (o as f64 + 0.5) * inputs as f64 / outputs as f64 - 0.5;
    at.max(0.0)
}

impl Upsample {
    /// Repeats every element along an axis.
    fn repeat(&self, b: &mut Builder, x: ValueId, axis: usize, scale: usize) -> Result<ValueId> {
        let mut dims = b.ty(x).dims.clone();
        let kept: Vec<usize> = (0..=dims.len()).filter(|a| *a != axis + 1).collect();
        dims.insert(axis + 1, Dim::from(scale));
        let y = b.broadcast(x, &dims, &kept)?;
        let merged = dims[axis].mul(&dims[axis + 1])?;
        dims.splice(axis..axis + 2, [merged]);
        b.reshape(y, &dims)
    }

    fn interpolate(&self, b: &mut Builder, x: ValueId, axis: usize, scale: usize) -> Result<ValueId> {
        let ty = b.ty(x).clone();
        let inputs = number("linear upsampling", &ty, axis)?;
        let outputs = inputs * scale;
        combine(b, x, axis, outputs, |o, i| {
            let at = place(o, inputs, outputs, self.align_corners);
            let low = (at.floor() as usize).min(inputs - 1);
            // Beyond the last element it is repeated: both neighbours are the same.
            let high = (low + 1).min(inputs - 1);
            let share = at - low as f64;
            let weight = |place: usize, w: f64| if place == i { w } else { 0.0 };
            weight(low, 1.0 - share) + weight(high, share)
        })
    }
}

impl OpDef for Upsample {
    const NAME: &'static str = "upsample";
    const SIGNATURE: &'static str = "upsample{scale, mode = \"nearest\", align_corners = false, layout = \
        \"channels_first\"}(x [N, C, s..]) -> y [N, C, scale * s..]";
    const DOC: &'static str = "Every spatial dim becomes `scale` times as large. nearest repeats elements. linear \
        interpolates along each spatial dim at (o + 0.5) / scale - 0.5, or with align_corners at \
        o * (s - 1) / (scale * s - 1), and repeats the outermost elements (as in PyTorch); then spatial sizes are \
        numbers.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        let spatial = self.layout.image(&ins[0])?.spatial.len();
        if self.scale.len() != spatial || self.scale.contains(&0) {
            let scale = &self.scale;
            fail!(
                "upsample needs a scale of at least 1 for each of {spatial} spatial dims, but got {scale:?}"
            );
        }
        if self.align_corners && self.mode == Interpolation::Nearest {
            fail!("align_corners is about linear upsampling; nearest has no corners to align");
        }
        let mut dims = ins[0].dims.clone();
        for (axis, scale) in self.layout.spatial_axes(dims.len()).zip(&self.scale) {
            if self.mode == Interpolation::Linear && *scale > 1 {
                let n = number("linear upsampling", &ins[0], axis)?;
                cx.at_least(&dims[axis], 1, "there is something to interpolate")?;
                check_matrix(Self::NAME, n, n.saturating_mul(*scale))?;
            }
            dims[axis] = dims[axis].mul(&Dim::from(*scale))?;
        }
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let mut y = ins[0];
        let axes = self.layout.spatial_axes(b.ty(y).rank());
        for (axis, scale) in axes.zip(&self.scale).filter(|(_, s)| **s > 1) {
            y = match self.mode {
                Interpolation::Nearest => self.repeat(b, y, axis, *scale)?,
                Interpolation::Linear => self.interpolate(b, y, axis, *scale)?,
            };
        }
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], scale: &[usize], mode, align_corners, layout| {
            let op = Upsample { scale: scale.to_vec(), mode, align_corners, layout };
            Sample::new(op, vec![sample_tensor(shape, 1)])
        };
        let (nearest, linear) = (Interpolation::Nearest, Interpolation::Linear);
        vec![
            case(&[2, 1, 3], &[2], nearest, false, Layout::ChannelsFirst),
            case(&[0, 3, 2], &[2], linear, false, Layout::ChannelsFirst),
            case(&[1, 2, 3, 2], &[2, 3], nearest, false, Layout::ChannelsLast),
            case(&[1, 2, 3, 1], &[3, 2], linear, false, Layout::ChannelsFirst),
            case(&[1, 3, 2, 2], &[2, 2], linear, true, Layout::ChannelsLast),
            case(&[1, 1, 2, 1, 3], &[2, 2, 1], linear, true, Layout::ChannelsFirst),
        ]
    }
}
