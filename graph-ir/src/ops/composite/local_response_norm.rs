use std::ops::RangeInclusive;

use super::{check_float, infer_expansion};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{AvgPool, Layout, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Normalization over neighbouring channels (Krizhevsky, Sutskever and Hinton 2012).
    LocalResponseNorm {
        /// Number of channels of a neighbourhood.
        size: usize,
        /// Factor of the mean of the squares.
        alpha: Real = Real(1e-4),
        /// Exponent.
        beta: Real = Real(0.75),
        /// Added to it.
        k: Real = Real(1.0),
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

impl OpDef for LocalResponseNorm {
    const NAME: &'static str = "local_response_norm";
    const SIGNATURE: &'static str = "local_response_norm{size, alpha = 1e-4, beta = 0.75, k = 1, layout = \
        \"channels_first\"}(x [N, C, s..]) -> y";
    const DOC: &'static str = "y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta over the channels j from \
        c - floor(size / 2) to c + floor((size - 1) / 2) that exist (as in PyTorch; the paper's alpha is alpha / size \
        here).";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        check_float(Self::NAME, &ins[0])?;
        self.layout.image(&ins[0])?;
        if self.size == 0 {
            fail!("a neighbourhood has at least 1 channel, but size is 0");
        }
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = b.ty(ins[0]).clone();
        let size = Dim::product_of(&ty.dims[self.layout.spatial_axes(ty.rank())])?;
        let (batch, channels) = (ty.dims[0].clone(), ty.dims[self.layout.channel_axis(ty.rank())].clone());
        // Neighbouring channels are neighbours in space if channels and spatial dims change places, as
        // they do when the same elements are read in the other layout.
        let (flat, layout) = match self.layout {
            Layout::ChannelsFirst => ([batch, channels, size], Layout::ChannelsLast),
            Layout::ChannelsLast => ([batch, size, channels], Layout::ChannelsFirst),
        };
        let pool = AvgPool {
            strides: vec![1],
            pads_lo: vec![self.size / 2],
            pads_hi: vec![(self.size - 1) / 2],
            layout,
            ..AvgPool::new(&[self.size])
        };
        let scope = Scope::new(b);
        let x = scope.expr(ins[0]);
        let mean = (x * x).reshape(&flat).op(pool, &[]).reshape(&ty.dims);
        let base = mean * self.alpha.0 + self.k.0;
        let y = (x / base.pow(base.literal(self.beta.0))).id();
        scope.finish()?;
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        let case = |shape: &[usize], size, alpha, beta, k, layout| {
            let (alpha, beta, k) = (Real(alpha), Real(beta), Real(k));
            Sample::new(LocalResponseNorm { size, alpha, beta, k, layout }, vec![sample_tensor(shape, 1)])
        };
        vec![
            case(&[2, 5, 3], 3, 1e-4, 0.75, 1.0, Layout::ChannelsFirst),
            case(&[0, 3, 2], 1, 1.0, 0.75, 1.0, Layout::ChannelsFirst),
            case(&[1, 5, 2, 1], 4, 0.5, 0.5, 2.0, Layout::ChannelsFirst),
            case(&[1, 3, 1, 4], 5, 2.0, 0.75, 2.0, Layout::ChannelsLast),
            case(&[1, 2, 1, 2, 3], 2, 1.0, 1.5, 1.0, Layout::ChannelsLast),
        ]
    }
}
