use std::ops::RangeInclusive;

use super::infer_expansion;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::primitive::max_pool::pool_like;
use crate::ops::{Layout, MaxPool, OpDef, Sample, Vjp, VjpCx, WindowScatter, sample_indices, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Elements back at the places where [`MaxPool`] found them (Zeiler and Fergus 2014).
    MaxUnpool {
        /// Size of the window in each spatial dim.
        kernel: Vec<usize>,
        /// Steps between windows; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a window; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Padding of the pool before the image; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Padding after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Whether the pool's last window may reach beyond the padding.
        ceil: bool = false,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
        /// Spatial dims of the result; empty for the smallest image that has these windows.
        size: Vec<Dim> = Vec::new(),
    }
}

impl MaxUnpool {
    /// `(p - 1) * stride + extent - lo - hi` for p windows, unless `size` says otherwise.
    fn sizes(&self, x: &TensorType) -> Result<Vec<Dim>> {
        if !self.size.is_empty() {
            return Ok(self.size.clone());
        }
        let window = pool_like!(self => MaxPool {}).window()?;
        let spatial = self.layout.image(x)?.spatial;
        if spatial.len() != window.kernel.len() {
            fail!("a window of {:?} does not slide over the spatial dims of {x}", self.kernel);
        }
        let mut sizes = Vec::new();
        for (i, p) in spatial.iter().enumerate() {
            let steps = p.sub(&Dim::from(1usize))?.mul(&Dim::from(window.strides[i]))?;
            let pads = Dim::from(window.pads_lo[i] + window.pads_hi[i]);
            sizes.push(steps.add(&Dim::from(window.extent(i)))?.sub(&pads)?);
        }
        Ok(sizes)
    }
}

impl OpDef for MaxUnpool {
    const NAME: &'static str = "max_unpool";
    const SIGNATURE: &'static str = "max_unpool{kernel, strides = [], dilations = [], pads_lo = [], pads_hi = [], ceil = \
        false, layout = \"channels_first\", size = []}(x [N, C, p..], winner i32 [N, C, p..]) -> y [N, C, size..]";
    const DOC: &'static str = "Zeros, with each element of x at the place that its winner names; winner and attributes are \
        those of a `max_pool`. Elements of overlapping windows that share a place are added. Without `size` the result \
        has (p - 1) * stride + dilation * (kernel - 1) + 1 - lo - hi elements along each spatial dim.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        infer_expansion(self, ins, cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let size = self.sizes(b.ty(ins[0]))?;
        Ok(Some(vec![b.op1(pool_like!(self => WindowScatter { size }), ins)?]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(MaxUnpool { size: self.size.iter().map(f).collect::<Result<_>>()?, ..self.clone() })
    }

    fn samples() -> Vec<Sample> {
        let case = |op: MaxPool, windows: &[usize], size: &[usize]| {
            let size = size.iter().map(|d| Dim::from(*d)).collect();
            let winner = sample_indices(windows, op.kernel.iter().product(), 2);
            Sample::new(pool_like!(op => MaxUnpool { size }), vec![sample_tensor(windows, 1), winner])
        };
        let uneven = MaxPool {
            strides: vec![2, 1],
            dilations: vec![1, 2],
            pads_lo: vec![1, 0],
            pads_hi: vec![0, 2],
            ..MaxPool::new(&[3, 2])
        };
        vec![
            case(MaxPool::new(&[2]), &[2, 1, 3], &[]),
            case(MaxPool::new(&[2]), &[0, 3, 2], &[5]),
            case(MaxPool { strides: Vec::new(), ..MaxPool::new(&[1, 2]) }, &[1, 2, 3, 2], &[]),
            case(uneven.clone(), &[1, 2, 2, 3], &[]),
            case(MaxPool { ceil: true, layout: Layout::ChannelsLast, ..uneven }, &[1, 3, 3, 3], &[5, 3]),
        ]
    }
}
