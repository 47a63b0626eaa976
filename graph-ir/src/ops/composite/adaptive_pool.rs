use std::ops::{Range, RangeInclusive};

use super::axis::{check_matrix, choose, combine, number};
use super::{GlobalAvgPool, GlobalMaxPool, check_float};
use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::Result;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{AvgPool, Layout, MaxPool, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

op_struct! {
    /// Means of nearly equal parts.
    AdaptiveAvgPool {
        /// Spatial sizes of the result.
        size: Vec<usize>,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

op_struct! {
    /// Largest elements of nearly equal parts.
    AdaptiveMaxPool {
        /// Spatial sizes of the result.
        size: Vec<usize>,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

/// Elements `floor(o * n / count)..ceil((o + 1) * n / count)` of an axis belong to part `o`, as in
/// PyTorch; neighbouring parts may overlap by one element.
fn part(n: usize, count: usize, o: usize) -> Range<usize> {
    o * n / count..((o + 1) * n).div_ceil(count)
}

/// How an image is pooled to a size.
enum Parts {
    /// All of it is one part, whatever its size.
    Whole,
    /// Windows of these sizes, each its own stride.
    Windows(Vec<usize>),
    /// Sizes of the image, which the parts do not divide.
    Uneven(Vec<usize>),
}

fn parts(name: &str, size: &[usize], layout: Layout, ty: &TensorType) -> Result<Parts> {
    check_float(name, ty)?;
    let spatial = layout.image(ty)?.spatial.len();
    if size.len() != spatial || size.contains(&0) {
        fail!(
            "{name} needs a size of at least 1 for each of the {spatial} spatial dims of {ty}, but got {size:?}"
        );
    }
    if size.iter().all(|s| *s == 1) {
        return Ok(Parts::Whole);
    }
    let image = layout.spatial_axes(ty.rank()).map(|a| number(name, ty, a)).collect::<Result<Vec<_>>>()?;
    if image.contains(&0) {
        fail!("{name} has nothing to pool in {ty}");
    }
    image.iter().zip(size).try_for_each(|(n, size)| check_matrix(name, *n, *size))?;
    if image.iter().zip(size).all(|(n, s)| n % s == 0) {
        return Ok(Parts::Windows(image.iter().zip(size).map(|(n, s)| n / s).collect()));
    }
    Ok(Parts::Uneven(image))
}

/// Not by expansion, whose constants are as large as the image.
fn infer(
    name: &str,
    size: &[usize],
    layout: Layout,
    ty: &TensorType,
    cx: &mut Infer,
) -> Result<Vec<TensorType>> {
    parts(name, size, layout, ty)?;
    let mut dims = ty.dims.clone();
    for (axis, size) in layout.spatial_axes(ty.rank()).zip(size) {
        cx.at_least(&ty.dims[axis], 1, "a pool has something to pool")?;
        dims[axis] = Dim::from(*size);
    }
    Ok(vec![TensorType::new(ty.dtype, dims)])
}

fn samples<O: Into<crate::ops::Op>>(make: impl Fn(Vec<usize>, Layout) -> O) -> Vec<Sample> {
    let case = |shape: &[usize], size: &[usize], layout| {
        Sample::new(make(size.to_vec(), layout), vec![sample_tensor(shape, 1)])
    };
    vec![
        case(&[2, 1, 5], &[3], Layout::ChannelsFirst),
        case(&[0, 3, 2], &[2], Layout::ChannelsFirst),
        case(&[1, 2, 4, 3], &[2, 3], Layout::ChannelsFirst),
        case(&[1, 2, 3, 5], &[1, 1], Layout::ChannelsFirst),
        case(&[1, 5, 3, 2], &[2, 4], Layout::ChannelsLast),
        case(&[1, 4, 2, 3], &[2, 1], Layout::ChannelsLast),
        case(&[1, 1, 3, 2, 2], &[2, 2, 1], Layout::ChannelsFirst),
    ]
}

impl OpDef for AdaptiveAvgPool {
    const NAME: &'static str = "adaptive_avg_pool";
    const SIGNATURE: &'static str =
        "adaptive_avg_pool{size, layout = \"channels_first\"}(x [N, C, s..]) -> y [N, C, size..]";
    const DOC: &'static str = "The mean of x over size[0] x size[1] x … parts; part o of a dim of s elements has the \
        elements floor(o * s / size) to ceil((o + 1) * s / size) - 1 (as in PyTorch). The spatial sizes of x are \
        numbers, unless every size is 1.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        infer(Self::NAME, &self.size, self.layout, &ins[0], cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (ty, layout) = (b.ty(ins[0]).clone(), self.layout);
        let y = match parts(Self::NAME, &self.size, layout, &ty)? {
            Parts::Whole => b.op1(GlobalAvgPool { layout }, ins)?,
            Parts::Windows(kernel) => b.op1(AvgPool { layout, ..AvgPool::new(&kernel) }, ins)?,
            // The mean over a box is the mean along one axis after the other.
            Parts::Uneven(image) => {
                let mut y = ins[0];
                let axes = layout.spatial_axes(ty.rank());
                for (axis, (n, size)) in axes.zip(image.iter().zip(&self.size)).filter(|(_, (n, s))| n != s) {
                    y = combine(b, y, axis, *size, |o, i| {
                        let part = part(*n, *size, o);
                        if part.contains(&i) { 1.0 / part.len() as f64 } else { 0.0 }
                    })?;
                }
                y
            }
        };
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        samples(|size, layout| AdaptiveAvgPool { size, layout })
    }
}

impl OpDef for AdaptiveMaxPool {
    const NAME: &'static str = "adaptive_max_pool";
    const SIGNATURE: &'static str =
        "adaptive_max_pool{size, layout = \"channels_first\"}(x [N, C, s..]) -> y [N, C, size..]";
    const DOC: &'static str = "The largest element of each of the parts of `adaptive_avg_pool`; NaN if there is one. The \
        gradient goes to the first of equal elements. The spatial sizes of x are numbers, unless every size is 1.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        infer(Self::NAME, &self.size, self.layout, &ins[0], cx)
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let (ty, layout) = (b.ty(ins[0]).clone(), self.layout);
        let y = match parts(Self::NAME, &self.size, layout, &ty)? {
            Parts::Whole => b.op1(GlobalMaxPool { layout }, ins)?,
            Parts::Windows(kernel) => b.op(MaxPool { layout, ..MaxPool::new(&kernel) }, ins)?[0],
            // Shorter parts are filled up with their last element, which changes neither the maximum
            // nor its first place; then all windows have one size.
            Parts::Uneven(image) => {
                let (mut y, mut kernel) = (ins[0], Vec::new());
                let axes = layout.spatial_axes(ty.rank());
                for (axis, (n, size)) in axes.zip(image.iter().zip(&self.size)) {
                    let parts: Vec<Range<usize>> = (0..*size).map(|o| part(*n, *size, o)).collect();
                    let length = parts.iter().map(ExactSizeIterator::len).max().unwrap_or(1);
                    let places: Vec<usize> = parts
                        .iter()
                        .flat_map(|p| (0..length).map(|k| (p.start + k).min(p.end - 1)))
                        .collect();
                    if !places.iter().copied().eq(0..*n) {
                        y = choose(b, y, axis, &places)?;
                    }
                    kernel.push(length);
                }
                b.op(MaxPool { layout, ..MaxPool::new(&kernel) }, &[y])?[0]
            }
        };
        Ok(Some(vec![y]))
    }

    fn samples() -> Vec<Sample> {
        samples(|size, layout| AdaptiveMaxPool { size, layout })
    }
}
