use std::ops::RangeInclusive;

use super::WindowScatter;
use super::conv::types_of;
use super::spatial::{Image, Layout};
use super::window::{Geometry, Slide, Window};
use crate::dtype::DType;
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::Scalar;
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Largest element of each window, and where it is.
    MaxPool {
        /// Size of the window in each spatial dim.
        kernel: Vec<usize>,
        /// Steps between windows; empty for 1.
        strides: Vec<usize> = Vec::new(),
        /// Steps between the elements of a window; empty for 1.
        dilations: Vec<usize> = Vec::new(),
        /// Elements added before the image, which never win; empty for 0.
        pads_lo: Vec<usize> = Vec::new(),
        /// Elements added after it; empty for 0.
        pads_hi: Vec<usize> = Vec::new(),
        /// Whether a last window may reach beyond the padding.
        ceil: bool = false,
        /// Order of the axes.
        layout: Layout = Layout::ChannelsFirst,
    }
}

/// Another operation on windows with the attributes of [`MaxPool`].
macro_rules! pool_like {
    ($op:expr => $t:ident { $($extra:ident),* }) => {
        $t {
            kernel: $op.kernel.clone(),
            strides: $op.strides.clone(),
            dilations: $op.dilations.clone(),
            pads_lo: $op.pads_lo.clone(),
            pads_hi: $op.pads_hi.clone(),
            ceil: $op.ceil,
            layout: $op.layout,
            $($extra,)*
        }
    };
}
pub(crate) use pool_like;

impl MaxPool {
    /// Windows of `kernel` that touch each other, without padding, channels first.
    pub fn new(kernel: &[usize]) -> MaxPool {
        let none = Vec::new;
        MaxPool {
            kernel: kernel.to_vec(),
            strides: kernel.to_vec(),
            dilations: none(),
            pads_lo: none(),
            pads_hi: none(),
            ceil: false,
            layout: Layout::ChannelsFirst,
        }
    }

    pub(in crate::ops) fn window(&self) -> Result<Window> {
        let MaxPool { strides, dilations, pads_lo, pads_hi, ceil, .. } = self;
        Window::pool(&self.kernel, &Slide { strides, dilations, pads_lo, pads_hi, ceil: *ceil })
    }

    /// All sizes, for the types of operands and results with dims that are numbers.
    ///
    /// # Errors
    /// Types that inference refuses, or symbolic dims.
    pub fn geometry(&self, ins: &[TensorType], outs: &[TensorType]) -> Result<Geometry> {
        let _ = outs;
        self.geometry_of(&ins[0])
    }

    pub(super) fn geometry_of(&self, image: &TensorType) -> Result<Geometry> {
        Geometry::of_pool(self.layout, image, self.window()?)
    }
}

/// Dims of what the windows over an image give.
pub(super) fn windows_of(
    name: &str,
    layout: Layout,
    window: &Window,
    ty: &TensorType,
    cx: &mut Infer,
) -> Result<Image> {
    if !ty.dtype.is_compute_float() {
        fail!("{name} takes floats, but got {ty}; add a cast");
    }
    let image = layout.image(ty)?;
    Ok(Image { spatial: window.positions(&image.spatial, cx)?, ..image })
}

impl OpDef for MaxPool {
    const NAME: &'static str = "max_pool";
    const SIGNATURE: &'static str = "max_pool{kernel, strides = [], dilations = [], pads_lo = [], pads_hi = [], ceil = \
        false, layout = \"channels_first\"}(x [N, C, s..]) -> (values [N, C, p..], winner i32)";
    const DOC: &'static str = "The largest element of each window, and its row-major offset in the window. Of equal \
        elements the first wins, and the first NaN wins over all. Padding wins never; a window without any element \
        has the value -inf and winner 0. Empty strides are 1, not the kernel. Windows are counted as in `conv`; with \
        `ceil` the division rounds up, without windows that start behind the image (as in PyTorch). Padding is \
        smaller than the window's span.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let out = windows_of(Self::NAME, self.layout, &self.window()?, &ins[0], cx)?;
        let values = TensorType::new(ins[0].dtype, out.dims(self.layout));
        let winner = values.with_dtype(DType::I32);
        Ok(vec![values, winner])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let geometry = self.geometry(&types_of(ins), outs)?;
        let shape = outs[0].static_shape();
        let (mut values, mut winner) =
            (Tensor::zeros(outs[0].dtype, &shape), Tensor::zeros(DType::I32, &shape));
        geometry.windows(|position, _, taps| {
            for n in 0..geometry.batch {
                for c in 0..geometry.channels {
                    let mut best: Option<(f64, usize)> = None;
                    for (tap, pixel) in taps {
                        let v = ins[0].get(geometry.image_at(n, c, *pixel)).as_f64();
                        let wins = best.is_none_or(|(old, _)| !old.is_nan() && (v.is_nan() || v > old));
                        if wins {
                            best = Some((v, *tap));
                        }
                    }
                    let (value, tap) = best.unwrap_or((f64::NEG_INFINITY, 0));
                    let at = geometry.output_at(n, c, position);
                    values.set(at, Scalar::F(value));
                    winner.set(at, Scalar::I(tap as i128));
                }
            }
        });
        Ok(vec![values, winner])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let size = self.layout.image(cx.b.ty(cx.ins[0]))?.spatial;
        let scatter = pool_like!(self => WindowScatter { size });
        let g = cx.g();
        Ok(Vjp::Grads(vec![Some(cx.b.op1(scatter, &[g, cx.outs[1]])?)]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let taps = self.geometry(ins, outs).ok()?.window.taps();
        outs[0].shape().map(|s| s.iter().map(|d| *d as f64).product::<f64>() * taps as f64)
    }

    fn samples() -> Vec<Sample> {
        applications()
            .into_iter()
            .map(|(op, shape)| Sample::new(op, vec![sample_tensor(&shape, 1)]))
            .collect()
    }
}

/// Pools over which every attribute varies, with the shape of an image.
pub(super) fn applications() -> Vec<(MaxPool, Vec<usize>)> {
    let uneven = MaxPool {
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads_lo: vec![1, 0],
        pads_hi: vec![0, 2],
        ..MaxPool::new(&[3, 2])
    };
    vec![
        (MaxPool { strides: Vec::new(), ..MaxPool::new(&[3]) }, vec![2, 1, 5]),
        (MaxPool::new(&[2]), vec![0, 3, 4]),
        (uneven.clone(), vec![1, 2, 5, 3]),
        (MaxPool { ceil: true, ..MaxPool::new(&[2, 2]) }, vec![1, 2, 3, 5]),
        (MaxPool { layout: Layout::ChannelsLast, ceil: true, ..uneven }, vec![2, 4, 3, 3]),
        (MaxPool { pads_lo: vec![1, 0, 0], ..MaxPool::new(&[2, 1, 3]) }, vec![1, 2, 3, 2, 3]),
    ]
}
