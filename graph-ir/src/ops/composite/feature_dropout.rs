use std::ops::RangeInclusive;

use super::{Uniform, check_float};
use crate::builder::Builder;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{Layout, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Dropout of whole channels of an image (Tompson et al. 2015).
    FeatureDropout {
        /// Probability that a channel of an image becomes 0.
        p: Real = Real(0.5),
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

impl OpDef for FeatureDropout {
    const NAME: &'static str = "feature_dropout";
    const SIGNATURE: &'static str =
        "feature_dropout{p = 0.5, layout = \"channels_first\"}(x [N, C, s..], key u32[2]) -> y";
    const DOC: &'static str = "Each channel of each image is 0 with probability p, else x / (1 - p). Inference leaves the \
        node out. One draw for each channel of each image, in the order [N, C] in both layouts.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        self.layout.image(&ins[0])?;
        if !(0.0..1.0).contains(&self.p.0) {
            fail!("the probability p of feature_dropout is at least 0 and below 1, but is {}", self.p.0);
        }
        if ins[1] != TensorType::fixed(DType::U32, &[2]) {
            fail!("a key is u32[2], but got {}", ins[1]);
        }
        Ok(vec![ins[0].clone()])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = b.ty(ins[0]).clone();
        let channels = self.layout.channel_axis(ty.rank());
        let dims = vec![ty.dims[0].clone(), ty.dims[channels].clone()];
        let draw = Uniform { dtype: DType::F32, dims, lo: Real(0.0), hi: Real(1.0) };
        let u = b.op1(draw, &[ins[1]])?;
        let scope = Scope::new(b);
        let (x, u) = (scope.expr(ins[0]), scope.expr(u));
        let spatial: Vec<usize> = self.layout.spatial_axes(ty.rank()).collect();
        let kept = u.ge(u.literal(self.p.0)).unreduce(x, &spatial);
        let y = kept.select(x * (1.0 / (1.0 - self.p.0)), x.zero_like()).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], p, layout| {
            let key = Tensor::from_slice(&[2], &[3u32, 5]);
            Sample::new(FeatureDropout { p: Real(p), layout }, vec![sample_tensor(shape, 1), key])
        };
        vec![
            case(&[3, 5, 2], 0.5, Layout::ChannelsFirst),
            case(&[0, 3, 1], 0.5, Layout::ChannelsFirst),
            case(&[2, 1, 3, 5], 0.25, Layout::ChannelsLast),
            case(&[1, 2, 1, 2, 4], 0.0, Layout::ChannelsLast),
        ]
    }
}
