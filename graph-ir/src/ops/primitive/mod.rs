//! Primitive operations: what remains after expansion. One file each.

mod arg_reduce;
pub(super) mod avg_pool;
mod avg_pool_grad;
mod body;
mod broadcast;
mod cast;
mod check;
mod concat;
mod cond;
mod constant;
pub(super) mod conv;
mod conv_filter_grad;
mod conv_input_grad;
mod dot;
mod fused;
mod gather;
mod input;
mod iota;
mod map;
pub(super) mod max_pool;
mod moments;
mod pad;
mod random_bits;
mod reduce;
mod reshape;
mod scan;
mod scatter_add;
mod slice;
pub(super) mod spatial;
mod stop_gradient;
mod transpose;
mod while_loop;
mod window;
mod window_gather;
mod window_scatter;

pub use arg_reduce::{ArgKind, ArgReduce};
pub use avg_pool::AvgPool;
pub use avg_pool_grad::AvgPoolGrad;
pub(super) use body::{body_results, check_operands};
pub use broadcast::Broadcast;
pub use cast::Cast;
pub use check::Check;
pub use concat::Concat;
pub use cond::Cond;
pub use constant::Const;
pub use conv::Conv;
pub use conv_filter_grad::ConvFilterGrad;
pub use conv_input_grad::ConvInputGrad;
pub use dot::Dot;
pub use fused::{FuseKind, Fused};
pub use gather::Gather;
pub use input::{Input, StateRead};
pub use iota::Iota;
pub use map::Map;
pub use max_pool::MaxPool;
pub use moments::Moments;
pub use pad::Pad;
pub use random_bits::RandomBits;
pub use reduce::{Reduce, ReduceKind};
pub use reshape::Reshape;
pub use scan::Scan;
pub use scatter_add::ScatterAdd;
pub use slice::Slice;
pub use spatial::Layout;
pub use stop_gradient::StopGradient;
pub use transpose::Transpose;
pub(super) use transpose::inverse;
pub use while_loop::While;
pub use window::{Geometry, Window};
pub use window_gather::WindowGather;
pub use window_scatter::WindowScatter;

use crate::dim::Dim;
use crate::error::Result;
use crate::tensor::{Tensor, element_count};
use crate::types::TensorType;

/// Visits the coordinates of a shape in row-major order.
pub(crate) fn coordinates(shape: &[usize], mut visit: impl FnMut(usize, &[usize])) {
    let n = element_count(shape).unwrap_or(0);
    let mut at = vec![0; shape.len()];
    for i in 0..n {
        visit(i, &at);
        for d in (0..shape.len()).rev() {
            at[d] += 1;
            if at[d] < shape[d] {
                break;
            }
            at[d] = 0;
        }
    }
}

/// Row-major index of coordinates.
pub(crate) fn flat(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |n, (a, s)| n * s + a)
}

/// `out[coords] = x[pick(coords)]`.
pub(crate) fn rearrange(x: &Tensor, shape: &[usize], mut pick: impl FnMut(&[usize]) -> usize) -> Tensor {
    let mut out = Tensor::zeros(x.dtype(), shape);
    coordinates(shape, |i, at| out.set(i, x.get(pick(at))));
    out
}

/// Product of dims, checked.
pub(crate) fn product(dims: &[Dim]) -> Result<Dim> {
    let mut p = Dim::from(1usize);
    for d in dims {
        p = p.mul(d)?;
    }
    Ok(p)
}

/// Checks that axes are increasing, distinct and in range.
pub(crate) fn check_axes(axes: &[usize], ty: &TensorType) -> Result<()> {
    for (i, a) in axes.iter().enumerate() {
        if *a >= ty.rank() {
            fail!("axis {a} is out of range for {ty}, which has {} dims", ty.rank());
        }
        if i > 0 && axes[i - 1] >= *a {
            fail!("axes {axes:?} must be increasing without duplicates");
        }
    }
    Ok(())
}

/// The dims without some axes.
pub(crate) fn without(dims: &[Dim], axes: &[usize]) -> Vec<Dim> {
    dims.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect()
}

/// Replaces dims in an attribute.
pub(crate) fn map_all(dims: &[Dim], f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Vec<Dim>> {
    dims.iter().map(f).collect()
}
