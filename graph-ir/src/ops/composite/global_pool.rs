use std::ops::RangeInclusive;

use super::check_float;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{ArgKind, ArgReduce, Iota, Layout, OpDef, ReduceKind, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::ScalarFn;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Mean of each channel.
    GlobalAvgPool {
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

op_struct! {
    /// Largest element of each channel.
    GlobalMaxPool {
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

/// The image's type with 1 for every spatial dim.
fn pooled(name: &str, layout: Layout, ty: &TensorType) -> Result<TensorType> {
    check_float(name, ty)?;
    layout.image(ty)?;
    let mut dims = ty.dims.clone();
    dims[layout.spatial_axes(ty.rank())].fill(Dim::from(1usize));
    Ok(TensorType::new(ty.dtype, dims))
}

fn samples<O: Into<crate::ops::Op>>(make: impl Fn(Layout) -> O) -> Vec<Sample> {
    let mut all = Vec::new();
    for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
        for shape in [&[0, 3, 2][..], &[2, 1, 5], &[2, 3, 2, 3], &[1, 2, 3, 1, 2]] {
            all.push(Sample::new(make(layout), vec![sample_tensor(shape, 1)]));
        }
    }
    all
}

impl OpDef for GlobalAvgPool {
    const NAME: &'static str = "global_avg_pool";
    const SIGNATURE: &'static str =
        "global_avg_pool{layout = \"channels_first\"}(x [N, C, s..]) -> y [N, C, 1..]";
    const DOC: &'static str =
        "The mean over all spatial dims, which become 1; NaN where there is no element.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        Ok(vec![pooled(Self::NAME, self.layout, &ins[0])?])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = pooled(Self::NAME, self.layout, b.ty(ins[0]))?;
        let axes: Vec<usize> = self.layout.spatial_axes(ty.rank()).collect();
        let mean = b.mean(ins[0], &axes)?;
        Ok(Some(vec![b.reshape(mean, &ty.dims)?]))
    }

    fn samples() -> Vec<Sample> {
        samples(|layout| GlobalAvgPool { layout })
    }
}

impl GlobalMaxPool {
    /// The image with one spatial axis, and that axis.
    fn flattened(&self, b: &mut Builder, x: ValueId) -> Result<(ValueId, usize)> {
        let ty = b.ty(x).clone();
        let spatial = self.layout.spatial_axes(ty.rank());
        let size = Dim::product_of(&ty.dims[spatial.clone()])?;
        let mut dims = ty.dims;
        let axis = spatial.start;
        dims.splice(spatial, [size]);
        Ok((b.reshape(x, &dims)?, axis))
    }
}

impl OpDef for GlobalMaxPool {
    const NAME: &'static str = "global_max_pool";
    const SIGNATURE: &'static str =
        "global_max_pool{layout = \"channels_first\"}(x [N, C, s..]) -> y [N, C, 1..]";
    const DOC: &'static str = "The largest element over all spatial dims, which become 1; NaN if there is one. The \
        gradient goes to the first of equal elements, as that of `max_pool`.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let ty = pooled(Self::NAME, self.layout, &ins[0])?;
        for d in &ins[0].dims[self.layout.spatial_axes(ty.rank())] {
            cx.at_least(d, 1, "there is no largest element of nothing")?;
        }
        Ok(vec![ty])
    }

    /// To the winner alone, where the gradient of a reduction is shared by ties.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (x, g) = (cx.ins[0], cx.g());
        let ty = cx.b.ty(x).clone();
        let (flat, axis) = self.flattened(cx.b, x)?;
        let dims = cx.b.ty(flat).dims.clone();
        let winner = cx.b.op1(ArgReduce { kind: ArgKind::Max, axis }, &[flat])?;
        let winner = cx.b.unreduce(winner, flat, &[axis])?;
        let place = cx.b.op1(Iota { dtype: DType::I64, dims, axis }, &[])?;
        let hit = cx.b.map(ScalarFn::Eq, &[place, winner])?;
        let (g, _) = self.flattened(cx.b, g)?;
        let g = cx.b.broadcast_to(g, &cx.b.ty(flat).dims.clone())?;
        let zero = cx.b.zeros_like(g)?;
        let dx = cx.b.map(ScalarFn::Select, &[hit, g, zero])?;
        Ok(Vjp::Grads(vec![Some(cx.b.reshape(dx, &ty.dims)?)]))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let ty = pooled(Self::NAME, self.layout, b.ty(ins[0]))?;
        let axes: Vec<usize> = self.layout.spatial_axes(ty.rank()).collect();
        let max = b.reduce(ReduceKind::Max, ins[0], &axes)?;
        Ok(Some(vec![b.reshape(max, &ty.dims)?]))
    }

    fn samples() -> Vec<Sample> {
        samples(|layout| GlobalMaxPool { layout })
    }
}
