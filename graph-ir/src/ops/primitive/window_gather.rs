use std::ops::RangeInclusive;

use super::conv::types_of;
use super::max_pool::{applications, pool_like, windows_of};
use super::spatial::Layout;
use super::window::Geometry;
use super::window_scatter::{check_winner, pooled};
use super::{MaxPool, WindowScatter};
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_indices, sample_tensor};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// The element of each window that its winner names.
    WindowGather {
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
    }
}

impl WindowGather {
    /// The pool whose windows these are.
    pub fn pool(&self) -> MaxPool {
        pool_like!(self => MaxPool {})
    }

    /// All sizes, those of the pool.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = outs;
        self.pool().geometry_of(&ins[0])
    }
}

impl OpDef for WindowGather {
    const NAME: &'static str = "window_gather";
    const SIGNATURE: &'static str = "window_gather{kernel, strides = [], dilations = [], pads_lo = [], pads_hi = [], ceil \
        = false, layout = \"channels_first\"}(x [N, C, s..], winner i32 [N, C, p..]) -> y [N, C, p..]";
    const DOC: &'static str = "The element of each window, as in `max_pool` with the same attributes, whose row-major \
        offset in the window is the winner; 0 where that is no element of x.";
    const ARITY: RangeInclusive<usize> = 2..=2;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let out = windows_of(Self::NAME, self.layout, &self.pool().window()?, &ins[0], cx)?;
        let y = TensorType::new(ins[0].dtype, out.dims(self.layout));
        check_winner(&ins[1], &y.dims, cx)?;
        Ok(vec![y])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let mut out = Tensor::zeros(outs[0].dtype, &outs[0].static_shape());
        geometry.windows(|position, _, taps| {
            for n in 0..geometry.batch {
                for c in 0..geometry.channels {
                    let at = geometry.output_at(n, c, position);
                    let winner = ins[1].get(at).as_int();
                    if let Some((_, pixel)) = taps.iter().find(|(tap, _)| *tap as i128 == winner) {
                        out.set(at, ins[0].get(geometry.image_at(n, c, *pixel)));
                    }
                }
            }
        });
        Ok(vec![out])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let size = self.layout.image(cx.b.ty(cx.ins[0]))?.spatial;
        let g = cx.g();
        let dx = cx.b.op1(pool_like!(self => WindowScatter { size }), &[g, cx.ins[1]])?;
        Ok(Vjp::Grads(vec![Some(dx), None]))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let sample = |(op, image): (MaxPool, Vec<usize>)| {
            let winner = sample_indices(&pooled(&op, &image), op.kernel.iter().product(), 2);
            Sample::new(pool_like!(op => WindowGather {}), vec![sample_tensor(&image, 1), winner])
        };
        applications().into_iter().map(sample).collect()
    }
}
