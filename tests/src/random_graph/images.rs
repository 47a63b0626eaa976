//! Moves of convolutional networks: convolutions, pools, their adjoints, and the layers made of them.

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, AvgPoolGrad, BatchNorm, Conv, ConvBias, ConvFilterGrad,
    ConvInputGrad, ConvTranspose, Dropout, FeatureDropout, GlobalAvgPool, GlobalMaxPool, Interpolation,
    Layout, LocalResponseNorm, MaxPool, MaxUnpool, PadMode, PadSource, StopGradient, Upsample, WindowGather,
    WindowScatter,
};
use graphc_ir::{DType, Dim, ScalarFn, TensorType, ValueId};

use super::generator::{Generator, Move, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 9, apply: conv },
    Move { weight: 3, apply: conv_bias },
    Move { weight: 4, apply: conv_transpose },
    Move { weight: 4, apply: residual_block },
    Move { weight: 8, apply: max_pool },
    Move { weight: 6, apply: avg_pool },
    Move { weight: 3, apply: global_pool },
    Move { weight: 4, apply: adaptive_pool },
    Move { weight: 3, apply: local_response_norm },
    Move { weight: 3, apply: feature_dropout },
    Move { weight: 4, apply: upsample },
    Move { weight: 4, apply: pad_mode },
];

/// An image and the order of its axes.
#[derive(Clone)]
struct Image {
    value: Value,
    layout: Layout,
    dims: Vec<Dim>,
}

impl Image {
    fn channels(&self) -> Dim {
        self.dims[self.layout.channel_axis(self.dims.len())].clone()
    }

    fn spatial(&self) -> Vec<Dim> {
        self.dims[self.layout.spatial_axes(self.dims.len())].to_vec()
    }

    /// The least that each spatial dim can be.
    fn least(&self, g: &Generator) -> Vec<usize> {
        self.spatial().iter().map(|d| g.least(d)).collect()
    }

    fn wrap(g: &Generator, value: Value, layout: Layout) -> Image {
        Image { value, layout, dims: g.b.ty(value.id).dims.clone() }
    }
}

fn layout(g: &mut Generator) -> Layout {
    g.prng.pick(&[Layout::ChannelsFirst, Layout::ChannelsFirst, Layout::ChannelsLast])
}

fn is_image(t: &TensorType) -> bool {
    (3..=5).contains(&t.rank())
}

/// A new image of 1 to 3 spatial dims.
fn fresh_image(g: &mut Generator, layout: Layout) -> Result<Value> {
    let spatial = g.prng.pick(&[1, 2, 2, 2, 3]);
    let largest = [9, 7, 4][spatial - 1];
    let batch = match g.batch.clone() {
        Some(batch) if g.prng.chance(0.5) => batch,
        _ => Dim::from(g.prng.pick(&[1usize, 1, 2, 3])),
    };
    let channels = Dim::from(g.prng.pick(&[1usize, 2, 2, 3, 4]));
    let mut sizes: Vec<usize> = (0..spatial).map(|_| 1 + g.prng.below(largest)).collect();
    loop {
        let spatial = sizes.iter().map(|s| Dim::from(*s));
        let mut dims = vec![batch.clone()];
        dims.extend(spatial);
        dims.insert(if layout == Layout::ChannelsFirst { 1 } else { dims.len() }, channels.clone());
        if g.small(&dims) {
            return g.fresh(g.float, dims);
        }
        sizes.iter_mut().for_each(|s| *s = s.div_ceil(2));
    }
}

/// An image of the arithmetic's float type, of the pool or new.
fn image(g: &mut Generator) -> Result<Image> {
    let (layout, float) = (layout(g), g.float);
    let found = if g.prng.chance(0.75) { g.any(|t, _| t.dtype == float && is_image(t)) } else { None };
    let value = match found {
        Some(v) => v,
        None => fresh_image(g, layout)?,
    };
    Ok(Image::wrap(g, value, layout))
}

/// An image whose largest elements no rounding error decides: one whose bits all devices agree on, or any
/// without gradients, since then only the values count and not where they are.
fn image_for_extremes(g: &mut Generator) -> Result<Image> {
    let (layout, float) = (layout(g), g.float);
    if g.prng.chance(0.3) {
        let v = image(g)?;
        if v.value.exact {
            return Ok(v);
        }
        // No gradient goes to a winner that another device may see elsewhere.
        let id = g.b.op1(StopGradient {}, &[v.value.id])?;
        return Ok(Image { value: Value { id, ..v.value }, ..v });
    }
    let found =
        if g.prng.chance(0.7) { g.any(|t, v| t.dtype == float && v.exact && is_image(t)) } else { None };
    let mut value = match found {
        Some(v) => v,
        None => fresh_image(g, layout)?,
    };
    if !value.exact {
        value.id = g.b.op1(StopGradient {}, &[value.id])?;
    }
    Ok(Image::wrap(g, value, layout))
}

/// Attributes of sliding windows, one entry a spatial dim.
struct Windows {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    lo: Vec<usize>,
    hi: Vec<usize>,
    ceil: bool,
}

impl Windows {
    /// Those of a convolution over an image of these least sizes; its padding may be any.
    fn of_conv(g: &mut Generator, least: &[usize]) -> Windows {
        let mut w = Windows::draw(g, least.len());
        for (d, n) in least.iter().enumerate() {
            let extent = w.dilations[d] * (w.kernel[d] - 1) + 1;
            w.hi[d] += extent.saturating_sub(n + w.lo[d] + w.hi[d]);
        }
        w
    }

    /// Those of a pool, none of which is without an element; `None` for an image that may be empty.
    fn of_pool(g: &mut Generator, least: &[usize]) -> Option<Windows> {
        if least.contains(&0) {
            return None;
        }
        let mut w = Windows::draw(g, least.len());
        w.ceil = g.prng.chance(0.3);
        for (d, n) in least.iter().enumerate() {
            // Steps over at most the image's size always meet it.
            w.dilations[d] = w.dilations[d].min(*n);
            let extent = |w: &Windows| w.dilations[d] * (w.kernel[d] - 1) + 1;
            (w.lo[d], w.hi[d]) = (w.lo[d].min(extent(&w) - 1), w.hi[d].min(extent(&w) - 1));
            while n + w.lo[d] + w.hi[d] < extent(&w) {
                w.kernel[d] -= 1;
                (w.lo[d], w.hi[d]) = (w.lo[d].min(extent(&w) - 1), w.hi[d].min(extent(&w) - 1));
            }
        }
        Some(w)
    }

    fn draw(g: &mut Generator, dims: usize) -> Windows {
        let mut list = |of: &[usize]| (0..dims).map(|_| g.prng.pick(of)).collect::<Vec<usize>>();
        Windows {
            kernel: list(&[1, 2, 3, 3, 4]),
            strides: list(&[1, 1, 1, 2, 3]),
            dilations: list(&[1, 1, 1, 2]),
            lo: list(&[0, 0, 1, 1, 2]),
            hi: list(&[0, 0, 1, 1, 2]),
            ceil: false,
        }
    }

    fn conv(&self, groups: usize, layout: Layout) -> Conv {
        Conv {
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            pads_lo: self.lo.clone(),
            pads_hi: self.hi.clone(),
            groups,
            layout,
        }
    }

    fn max_pool(&self, layout: Layout) -> MaxPool {
        MaxPool {
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            pads_lo: self.lo.clone(),
            pads_hi: self.hi.clone(),
            ceil: self.ceil,
            layout,
        }
    }

    fn taps(&self) -> f64 {
        self.kernel.iter().product::<usize>() as f64
    }
}

/// Groups that divide a number of channels.
fn groups(g: &mut Generator, channels: &Dim) -> usize {
    let c = channels.as_const().and_then(|c| usize::try_from(c).ok()).unwrap_or(1);
    let divisors: Vec<usize> = (1..=c).filter(|d| c.is_multiple_of(*d)).collect();
    if divisors.is_empty() || g.prng.chance(0.6) { 1 } else { g.prng.pick(&divisors) }
}

/// Dims of filters, each of which has `inputs` channels.
fn filter_dims(layout: Layout, outputs: Dim, inputs: Dim, kernel: &[usize]) -> Vec<Dim> {
    let kernel = kernel.iter().map(|k| Dim::from(*k));
    match layout {
        Layout::ChannelsFirst => [outputs, inputs].into_iter().chain(kernel).collect(),
        Layout::ChannelsLast => kernel.chain([inputs, outputs]).collect(),
    }
}

fn new_filters(g: &mut Generator, dims: Vec<Dim>) -> Result<Value> {
    let w = g.fresh(g.float, dims)?;
    g.tame(w, 1.0)
}

/// What one group of an image's channels has.
fn of_group(channels: &Dim, groups: usize) -> Dim {
    channels.as_const().map_or_else(|| channels.clone(), |c| Dim::from(c as usize / groups.max(1)))
}

/// Puts a result into the pool if it is small.
fn push(g: &mut Generator, id: ValueId, bound: f64, exact: bool) {
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push(id, bound, exact);
    }
}

/// Products that one element of a convolution sums.
fn products(g: &Generator, windows: &Windows, channels: &Dim) -> f64 {
    let channels = g.elements(&TensorType::new(DType::Bool, vec![channels.clone()]));
    windows.taps() * channels.max(1) as f64
}

/// A convolution, and at times its adjoints of something that has the dims of its result.
fn conv(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let x = Image { value: g.tame(x.value, 2.0)?, ..x };
    let windows = Windows::of_conv(g, &x.least(g));
    let groups = groups(g, &x.channels());
    let outputs = groups * (1 + g.prng.below(3));
    let inputs = of_group(&x.channels(), groups);
    let w = new_filters(g, filter_dims(x.layout, Dim::from(outputs), inputs, &windows.kernel))?;
    let op = windows.conv(groups, x.layout);
    let y = g.b.op1(op.clone(), &[x.value.id, w.id])?;
    let dims = g.b.ty(y).dims.clone();
    if !g.small(&dims) {
        return Ok(());
    }
    g.push(y, 2.0 * products(g, &windows, &x.channels()), false);
    let Conv { strides, dilations, pads_lo, pads_hi, groups, layout } = op;
    if g.prng.chance(0.25) {
        let u = g.partner(g.float, &dims, false)?;
        let u = g.tame(u, 2.0)?;
        let (strides, dilations) = (strides.clone(), dilations.clone());
        let (pads_lo, pads_hi) = (pads_lo.clone(), pads_hi.clone());
        let size = x.spatial();
        let op = ConvInputGrad { strides, dilations, pads_lo, pads_hi, groups, layout, size };
        let id = g.b.op1(op, &[u.id, w.id])?;
        push(g, id, 2.0 * windows.taps() * outputs as f64, false);
    }
    if g.prng.chance(0.25) {
        let u = g.partner(g.float, &dims, false)?;
        let u = g.tame(u, 1.0)?;
        let count = 2.0 * g.elements(&TensorType::new(DType::Bool, dims)).max(1) as f64;
        let kernel = windows.kernel.clone();
        let op = ConvFilterGrad { strides, dilations, pads_lo, pads_hi, groups, layout, kernel };
        let id = g.b.op1(op, &[x.value.id, u.id])?;
        push(g, id, 2.0 * count, false);
    }
    Ok(())
}

fn conv_bias(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let value = g.tame(x.value, 2.0)?;
    let windows = Windows::of_conv(g, &x.least(g));
    let groups = groups(g, &x.channels());
    let outputs = Dim::from(groups * (1 + g.prng.below(3)));
    let inputs = of_group(&x.channels(), groups);
    let w = new_filters(g, filter_dims(x.layout, outputs.clone(), inputs, &windows.kernel))?;
    let bias = g.fresh(g.float, vec![outputs])?;
    let bias = g.tame(bias, 2.0)?;
    let Conv { strides, dilations, pads_lo, pads_hi, groups, layout } = windows.conv(groups, x.layout);
    let op = ConvBias { strides, dilations, pads_lo, pads_hi, groups, layout };
    let id = g.b.op1(op, &[value.id, w.id, bias.id])?;
    push(g, id, 2.0 * products(g, &windows, &x.channels()) + 2.0, false);
    Ok(())
}

fn conv_transpose(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    // A transposed convolution of nothing would have no elements to lay its filters at.
    if x.least(g).contains(&0) {
        return Ok(());
    }
    let value = g.tame(x.value, 2.0)?;
    let mut windows = Windows::draw(g, x.spatial().len());
    let mut output_pads = Vec::new();
    for d in 0..windows.kernel.len() {
        // At least one element is left.
        let extent = windows.dilations[d] * (windows.kernel[d] - 1) + 1;
        windows.lo[d] = windows.lo[d].min(extent - 1);
        windows.hi[d] = windows.hi[d].min(extent - 1 - windows.lo[d]);
        output_pads.push(g.prng.below(windows.strides[d]));
    }
    let groups = groups(g, &x.channels());
    let made = 1 + g.prng.below(2);
    let w = new_filters(g, filter_dims(x.layout, x.channels(), Dim::from(made), &windows.kernel))?;
    let mut ins = vec![value.id, w.id];
    if g.prng.chance(0.5) {
        let bias = g.fresh(g.float, vec![Dim::from(made * groups)])?;
        ins.push(g.tame(bias, 2.0)?.id);
    }
    let Conv { strides, dilations, pads_lo, pads_hi, groups, layout } = windows.conv(groups, x.layout);
    let op = ConvTranspose { strides, dilations, pads_lo, pads_hi, output_pads, groups, layout };
    let id = g.b.op1(op, &ins)?;
    push(g, id, 2.0 * products(g, &windows, &x.channels()) + 2.0, false);
    Ok(())
}

/// relu(x + dropout(batch_norm(conv(x)))), as residual networks are made of.
fn residual_block(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let value = g.tame(x.value, 2.0)?;
    if x.dims.contains(&Dim::ZERO) {
        return Ok(());
    }
    let spatial = x.spatial().len();
    let reach = g.prng.below(2);
    let groups = groups(g, &x.channels());
    let inputs = of_group(&x.channels(), groups);
    let kernel = vec![2 * reach + 1; spatial];
    let w = new_filters(g, filter_dims(x.layout, x.channels(), inputs, &kernel))?;
    let pads = vec![reach; spatial];
    let (strides, dilations) = (Vec::new(), Vec::new());
    let conv = Conv { strides, dilations, pads_lo: pads.clone(), pads_hi: pads, groups, layout: x.layout };
    let mut y = g.b.op1(conv, &[value.id, w.id])?;
    let axis = x.layout.channel_axis(x.dims.len());
    let gamma = g.fresh(g.float, vec![x.channels()])?;
    let gamma = g.tame(gamma, 2.0)?;
    let beta = g.fresh(g.float, vec![x.channels()])?;
    let beta = g.tame(beta, 2.0)?;
    y = g.b.op(BatchNorm { axis, eps: Real(0.25) }, &[y, gamma.id, beta.id])?[0];
    if g.prng.chance(0.4) {
        let key = g.key()?;
        y = g.b.op1(Dropout { p: Real(0.25) }, &[y, key])?;
    }
    if g.prng.chance(0.5) {
        y = g.b.map(ScalarFn::Relu, &[y])?;
    }
    let ins = if g.prng.chance(0.5) { [value.id, y] } else { [y, value.id] };
    y = g.b.map(ScalarFn::Add, &ins)?;
    y = g.b.map(ScalarFn::Relu, &[y])?;
    g.push(y, 64.0, false);
    Ok(())
}

/// A max pool, and at times something gathered from its winners or scattered to them.
fn max_pool(g: &mut Generator) -> Result<()> {
    let x = image_for_extremes(g)?;
    let Some(windows) = Windows::of_pool(g, &x.least(g)) else { return Ok(()) };
    let op = windows.max_pool(x.layout);
    let outs = g.b.op(op.clone(), &[x.value.id])?;
    let dims = g.b.ty(outs[0]).dims.clone();
    if !g.small(&dims) {
        return Ok(());
    }
    g.push(outs[0], x.value.bound, x.value.exact);
    if !x.value.exact {
        return Ok(());
    }
    let winner = outs[1];
    g.push(winner, windows.taps(), true);
    let MaxPool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout } = op;
    match g.prng.below(4) {
        0 => {
            let from = g.partner(g.float, &x.dims, false)?;
            let op = WindowGather { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout };
            let id = g.b.op1(op, &[from.id, winner])?;
            g.push_like(id, from);
        }
        1 => {
            let u = g.partner(g.float, &dims, false)?;
            let size = x.spatial();
            let op = WindowScatter { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout, size };
            let id = g.b.op1(op, &[u.id, winner])?;
            push(g, id, u.bound * windows.taps(), false);
        }
        2 => {
            let u = g.partner(g.float, &dims, false)?;
            let size = if ceil || g.prng.chance(0.7) { x.spatial() } else { Vec::new() };
            let smallest = || {
                (0..kernel.len()).all(|d| {
                    let n = g.least(&dims[layout.spatial_axes(dims.len())][d]);
                    let extent = dilations[d] * (kernel[d] - 1) + 1;
                    (n.max(1) - 1) * strides[d] + extent > pads_lo[d] + pads_hi[d]
                })
            };
            if size.is_empty() && !smallest() {
                return Ok(());
            }
            let op = MaxUnpool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout, size };
            let id = g.b.op1(op, &[u.id, winner])?;
            push(g, id, u.bound * windows.taps(), false);
        }
        _ => {}
    }
    Ok(())
}

/// A pool of means, and at times its adjoint of something that has the dims of its result.
fn avg_pool(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let Some(mut windows) = Windows::of_pool(g, &x.least(g)) else { return Ok(()) };
    for d in 0..windows.kernel.len() {
        // Without dilation the window spans less, and so may its padding.
        windows.lo[d] = windows.lo[d].min(windows.kernel[d] - 1);
        windows.hi[d] = windows.hi[d].min(windows.kernel[d] - 1);
    }
    if x.least(g).iter().enumerate().any(|(d, n)| n + windows.lo[d] + windows.hi[d] < windows.kernel[d]) {
        return Ok(());
    }
    let Windows { kernel, strides, lo: pads_lo, hi: pads_hi, ceil, .. } = windows;
    let (layout, count_pad) = (x.layout, g.prng.chance(0.5));
    let taps = kernel.iter().product::<usize>() as f64;
    let op = AvgPool {
        kernel: kernel.clone(),
        strides: strides.clone(),
        pads_lo: pads_lo.clone(),
        pads_hi: pads_hi.clone(),
        ceil,
        count_pad,
        layout,
    };
    let y = g.b.op1(op, &[x.value.id])?;
    let dims = g.b.ty(y).dims.clone();
    if !g.small(&dims) {
        return Ok(());
    }
    g.push(y, x.value.bound, false);
    if g.prng.chance(0.4) {
        let u = g.partner(g.float, &dims, false)?;
        let size = x.spatial();
        let op = AvgPoolGrad { kernel, strides, pads_lo, pads_hi, ceil, count_pad, layout, size };
        let id = g.b.op1(op, &[u.id])?;
        push(g, id, u.bound * taps, false);
    }
    Ok(())
}

fn global_pool(g: &mut Generator) -> Result<()> {
    if g.prng.chance(0.5) {
        let x = image_for_extremes(g)?;
        if x.least(g).contains(&0) {
            return Ok(());
        }
        let id = g.b.op1(GlobalMaxPool { layout: x.layout }, &[x.value.id])?;
        g.push_like(id, x.value);
        return Ok(());
    }
    let x = image(g)?;
    if x.least(g).contains(&0) {
        return Ok(());
    }
    let id = g.b.op1(GlobalAvgPool { layout: x.layout }, &[x.value.id])?;
    g.push(id, x.value.bound, false);
    Ok(())
}

fn adaptive_pool(g: &mut Generator) -> Result<()> {
    let extreme = g.prng.chance(0.5);
    let x = if extreme { image_for_extremes(g)? } else { image(g)? };
    let spatial = x.spatial();
    if x.least(g).contains(&0) {
        return Ok(());
    }
    let numbers = spatial.iter().all(|d| d.as_const().is_some());
    let size: Vec<usize> = spatial.iter().map(|_| if numbers { 1 + g.prng.below(4) } else { 1 }).collect();
    let id = if extreme {
        g.b.op1(AdaptiveMaxPool { size, layout: x.layout }, &[x.value.id])?
    } else {
        g.b.op1(AdaptiveAvgPool { size, layout: x.layout }, &[x.value.id])?
    };
    push(g, id, x.value.bound, extreme && x.value.exact);
    Ok(())
}

fn local_response_norm(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    // It pools over the channels, of which there is at least one.
    if g.least(&x.channels()) == 0 || x.least(g).contains(&0) {
        return Ok(());
    }
    let value = g.tame(x.value, 4.0)?;
    let op = LocalResponseNorm {
        size: 1 + g.prng.below(4),
        alpha: Real(g.prng.pick(&[0.25, 1.0])),
        beta: Real(g.prng.pick(&[0.75, 0.5])),
        k: Real(g.prng.pick(&[1.0, 2.0])),
        layout: x.layout,
    };
    let id = g.b.op1(op, &[value.id])?;
    g.push(id, 4.0, false);
    Ok(())
}

fn feature_dropout(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let key = g.key()?;
    let p = Real(g.prng.pick(&[0.0, 0.25, 0.5]));
    let id = g.b.op1(FeatureDropout { p, layout: x.layout }, &[x.value.id, key])?;
    g.push(id, x.value.bound * 2.0, false);
    Ok(())
}

fn upsample(g: &mut Generator) -> Result<()> {
    let x = image(g)?;
    let spatial = x.spatial();
    let scale: Vec<usize> = spatial.iter().map(|_| g.prng.pick(&[1, 2, 2, 3])).collect();
    let numbers = spatial.iter().all(|d| d.as_const().is_some_and(|n| n > 0));
    let linear = numbers && g.prng.chance(0.5);
    let mode = if linear { Interpolation::Linear } else { Interpolation::Nearest };
    let align_corners = linear && g.prng.chance(0.5);
    let id = g.b.op1(Upsample { scale, mode, align_corners, layout: x.layout }, &[x.value.id])?;
    push(g, id, x.value.bound, !linear && x.value.exact);
    Ok(())
}

/// A border of an image's own elements, or of any other value with axes.
fn pad_mode(g: &mut Generator) -> Result<()> {
    let v = if g.prng.chance(0.7) { image(g)?.value } else { g.float(|t| t.rank() > 0)? };
    let dims = g.b.ty(v.id).dims.clone();
    let mode = g.prng.pick(&[PadSource::Reflect, PadSource::Replicate, PadSource::Circular]);
    let mut border = || -> Vec<usize> {
        let one = |d: &Dim, g: &mut Generator| {
            let most = match (mode, d.as_const()) {
                (PadSource::Reflect, None) => 0,
                (PadSource::Reflect, Some(_)) => g.least(d).saturating_sub(1),
                (PadSource::Circular, _) => g.least(d),
                (PadSource::Replicate, _) => 2 * g.least(d),
            };
            g.prng.pick(&[0, 0, 1, 2]).min(most)
        };
        dims.iter().map(|d| one(d, g)).collect()
    };
    let (lo, hi) = (border(), border());
    let id = g.b.op1(PadMode { lo, hi, mode }, &[v.id])?;
    push(g, id, v.bound, v.exact);
    Ok(())
}
