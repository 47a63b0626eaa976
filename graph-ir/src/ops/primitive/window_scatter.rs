use std::ops::RangeInclusive;

use super::conv::{rounded, types_of};
use super::max_pool::{applications, pool_like, windows_of};
use super::spatial::{Image, Layout};
use super::window::Geometry;
use super::{MaxPool, WindowGather, map_all};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Adds one number for each window to the element that its winner names.
    WindowScatter {
        /// Size of the window in each spatial dim.
        kernel: Vec<usize>,
        /// Steps between windows; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a window; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Elements added before the image; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Elements added after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Whether a last window may reach beyond the padding.
        ceil: bool = false,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
        /// Spatial dims of the image.
        size: Vec<Dim>,
    }
}

impl WindowScatter {
    /// The pool whose windows these are.
    pub fn pool(&self) -> MaxPool {
        pool_like!(self => MaxPool {})
    }

    /// All sizes, those of the pool: the image is the result.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = ins;
        self.pool().geometry_of(&outs[0])
    }
}

/// Checks the type of winners.
pub(super) fn check_winner(winner: &TensorType, dims: &[Dim], cx: &mut Infer) -> Result<()> {
    if winner.dtype != DType::I32 {
        fail!("winners are i32, but got {winner}");
    }
    cx.same(&winner.dims, dims, "there is one winner for each window")
}

impl OpDef for WindowScatter {
    const NAME: &'static str = "window_scatter";
    const SIGNATURE: &'static str = "window_scatter{kernel, strides = [], dilations = [], pads_lo = [], pads_hi = [], \
        ceil = false, layout = \"channels_first\", size}(g [N, C, p..], winner i32 [N, C, p..]) -> x [N, C, size..]";
    const DOC: &'static str = "The gradient of `max_pool` with the same attributes for an image whose spatial dims are \
        `size`: each element is the sum of g over the windows, in row-major order, whose winner it is. A winner that \
        is no element of the image adds nowhere.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let g = self.layout.image(&ins[0])?;
        let image = Image { spatial: self.size.clone(), ..g };
        let x = TensorType::new(ins[0].dtype, image.dims(self.layout));
        let made = windows_of(Self::NAME, self.layout, &self.pool().window()?, &x, cx)?;
        let dims = made.dims(self.layout);
        cx.same(&ins[0].dims, &dims, "there is one number for each window over an image of `size`")?;
        check_winner(&ins[1], &dims, cx)?;
        Ok(vec![x])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let mut sums = vec![0.0; outs[0].static_shape().iter().product()];
        geometry.windows(|position, _, taps| {
            for n in 0..geometry.batch {
                for c in 0..geometry.channels {
                    let at = geometry.output_at(n, c, position);
                    let winner = ins[1].get(at).as_int();
                    if let Some((_, pixel)) = taps.iter().find(|(tap, _)| *tap as i128 == winner) {
                        sums[geometry.image_at(n, c, *pixel)] += ins[0].get(at).as_f64();
                    }
                }
            }
        });
        Ok(rounded(&sums, &outs[0]))
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let u = cx.g();
        let dg = cx.b.op1(pool_like!(self => WindowGather {}), &[u, cx.ins[1]])?;
        Ok(Vjp::Grads(vec![Some(dg), None]))
    }

    fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Self> {
        Ok(WindowScatter { size: map_all(&self.size, f)?, ..self.clone() })
    }

    fn flops(&self, ins: &[TensorType], _: &[TensorType]) -> Option<f64> {
        ins[0].shape().map(|s| s.iter().map(|d| *d as f64).product())
    }

    fn samples() -> Vec<Sample> {
        let sample = |(op, image): (MaxPool, Vec<usize>)| {
            let size = image[op.layout.spatial_axes(image.len())].iter().map(|d| Dim::from(*d)).collect();
            let windows = pooled(&op, &image);
            let winner = sample_indices(&windows, op.kernel.iter().product(), 2);
            Sample::new(pool_like!(op => WindowScatter { size }), vec![sample_tensor(&windows, 1), winner])
        };
        applications().into_iter().map(sample).collect()
    }
}

/// Shape of a pool's results.
pub(super) fn pooled(op: &MaxPool, image: &[usize]) -> Vec<usize> {
    let outs = op.infer(&[TensorType::fixed(DType::F64, image)], &mut Infer::default());
    outs.map(|o| o[0].static_shape()).unwrap_or_default()
}
