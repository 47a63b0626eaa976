//! Convolutions and pools where samples and vectors do not reach: sizes by brute force, special values, and
//! what is refused.

use graphc_ir::dim::Symbol;
use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, Conv, ConvBias, ConvFilterGrad, ConvInputGrad, ConvTranspose,
    FeatureDropout, GlobalMaxPool, Interpolation, Layout, MaxPool, PadMode, PadSource, Upsample,
    WindowGather, WindowScatter, sample_tensor,
};
use graphc_ir::{Binding, DType, Dim, Op, Scalar, Tensor, TensorType};
use graphc_tests::registry::{applied, differentiate, eval};

fn types(ins: &[Tensor]) -> Vec<TensorType> {
    ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect()
}

fn run(op: impl Into<Op>, ins: &[Tensor]) -> Vec<Tensor> {
    let graph = applied(&op.into(), &types(ins)).expect("it is well typed");
    eval(&graph, ins).expect("it runs")
}

/// The error of an operation on operands of these types.
fn refusal(op: impl Into<Op>, ins: &[&str]) -> String {
    let types: Vec<_> = ins.iter().map(|t| TensorType::parse(t).expect("a type")).collect();
    applied(&op.into(), &types).expect_err("it is refused").to_string()
}

/// Where windows start: from -lo in steps of the stride while they end inside the padded image, or with `ceil`
/// while they start inside the image or the padding before it, and the one before does not reach the end.
fn starts(n: i64, extent: i64, stride: i64, lo: i64, hi: i64, ceil: bool) -> usize {
    let mut count = 0;
    let mut start = -lo;
    while start + extent <= n + hi {
        (count, start) = (count + 1, start + stride);
    }
    // The last whole window leaves some elements or padding uncovered.
    let uncovered = start - stride + extent < n + hi;
    count + usize::from(ceil && uncovered && start < n)
}

#[test]
fn windows_are_counted_as_they_are_placed() {
    let mut seen = 0;
    for (n, kernel, stride, dilation) in product(1..9, 1..5, 1..5, 1..4) {
        let extent = dilation * (kernel - 1) + 1;
        for (lo, hi, ceil) in product3(0..extent.min(3), 0..extent.min(3), [false, true]) {
            let op = MaxPool {
                strides: vec![stride],
                dilations: vec![dilation],
                pads_lo: vec![lo],
                pads_hi: vec![hi],
                ceil,
                ..MaxPool::new(&[kernel])
            };
            let [size, ext, step, before, after] = [n, extent, stride, lo, hi].map(|v| v as i64);
            let want = starts(size, ext, step, before, after, ceil);
            let ty = |d: Dim| TensorType::new(DType::F64, vec![Dim::from(1usize), Dim::from(1usize), d]);
            let op = Op::from(op);
            match applied(&op, &[ty(Dim::from(n))]) {
                Ok(graph) => {
                    assert_eq!(graph.ty(graph.results()[0]).static_shape(), [1, 1, want], "{op:?} of {n}")
                }
                // The image with its padding is smaller than one window.
                Err(e) => {
                    assert!(n + lo + hi < extent && e.to_string().contains("no place"), "{op:?} of {n}: {e}")
                }
            }
            let symbol = Symbol::new("H").expect("a name");
            let graph = applied(&op, &[ty(Dim::from(symbol.clone()))]).expect("H may be large");
            let mut binding = Binding::new();
            binding.set(&symbol, n as i64, "the test").expect("a size");
            if let Ok(bound) = graph.bind(&binding) {
                assert_eq!(bound.ty(bound.results()[0]).static_shape(), [1, 1, want], "{op:?} of {n}");
                seen += 1;
            } else {
                assert!(n + lo + hi < extent, "{op:?} of {n}");
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}

fn product(
    a: std::ops::Range<usize>,
    b: std::ops::Range<usize>,
    c: std::ops::Range<usize>,
    d: std::ops::Range<usize>,
) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    a.flat_map(move |a| {
        let (c, d) = (c.clone(), d.clone());
        b.clone().flat_map(move |b| {
            let d = d.clone();
            c.clone().flat_map(move |c| d.clone().map(move |d| (a, b, c, d)))
        })
    })
}

fn product3(
    a: std::ops::Range<usize>,
    b: std::ops::Range<usize>,
    c: [bool; 2],
) -> impl Iterator<Item = (usize, usize, bool)> {
    a.flat_map(move |a| b.clone().flat_map(move |b| c.into_iter().map(move |c| (a, b, c))))
}

#[test]
fn the_first_nan_wins_and_nothing_else_beats_it() {
    let nan = f64::NAN;
    let x = Tensor::from_slice(&[1, 1, 6], &[1.0, nan, 3.0, nan, f64::INFINITY, 2.0]);
    let outs = run(MaxPool { strides: vec![1], ..MaxPool::new(&[3]) }, std::slice::from_ref(&x));
    assert!(outs[0].to_f64().iter().all(|v| v.is_nan()));
    assert_eq!(outs[1].to_f64(), [1.0, 0.0, 1.0, 0.0]);
    let outs = run(GlobalMaxPool { layout: Layout::ChannelsFirst }, std::slice::from_ref(&x));
    assert!(outs[0].get(0).as_f64().is_nan());
    let outs = run(AdaptiveMaxPool { size: vec![4], layout: Layout::ChannelsFirst }, &[x]);
    assert_eq!(outs[0].to_f64().iter().map(|v| v.is_nan()).collect::<Vec<_>>(), [true, true, true, false]);
}

/// Of a single element, the window's elements lie on both sides.
#[test]
fn windows_without_elements() {
    let x = Tensor::from_slice(&[1, 1, 1], &[5.0]);
    let op = MaxPool { dilations: vec![2], pads_lo: vec![1], pads_hi: vec![1], ..MaxPool::new(&[2]) };
    let outs = run(op, std::slice::from_ref(&x));
    assert_eq!((outs[0].to_f64(), outs[1].to_f64()), (vec![f64::NEG_INFINITY], vec![0.0]));
    let low = Tensor::from_slice(&[1, 1, 2], &[f64::NEG_INFINITY, f64::NEG_INFINITY]);
    let outs = run(MaxPool { pads_lo: vec![1], ..MaxPool::new(&[3]) }, &[low]);
    // The lowest element is an element all the same: padding does not win.
    assert_eq!((outs[0].to_f64(), outs[1].to_f64()), (vec![f64::NEG_INFINITY], vec![1.0]));
}

#[test]
fn winners_outside_the_image_move_nothing() {
    let winner = Tensor::from_slice(&[1, 1, 4], &[0i32, 2, -1, 1]);
    let numbers = Tensor::from_slice(&[1, 1, 4], &[1.0, 10.0, 100.0, 1000.0]);
    let windows = MaxPool { pads_lo: vec![1], pads_hi: vec![1], ..MaxPool::new(&[2]) };
    let MaxPool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout } = windows.clone();
    let size = vec![Dim::from(6usize)];
    let scatter = WindowScatter { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout, size };
    // The first names padding, the second and third no element of a window, the last its second element.
    let image = run(scatter, &[numbers, winner.clone()]);
    assert_eq!(image[0].to_f64(), [0.0; 6]);
    let MaxPool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout } = windows;
    let gather = WindowGather { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout };
    let x = Tensor::from_slice(&[1, 1, 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(run(gather, &[x, winner])[0].to_f64(), [0.0; 4]);
}

/// Storage types accumulate in f32; sums are not rounded in between.
#[test]
fn storage_types_give_f32() {
    for storage in [DType::F16, DType::Bf16] {
        let x = sample_tensor(&[1, 3, 5, 5], 1).cast(storage);
        let w = sample_tensor(&[2, 3, 3, 3], 2).cast(storage);
        let y = run(Conv::default(), &[x.clone(), w.clone()]);
        let want = run(Conv::default(), &[x.cast(DType::F32), w.cast(DType::F32)]);
        assert_eq!(y, want, "{storage}");
        let bias = sample_tensor(&[2], 3).cast(storage);
        assert_eq!(run(ConvBias::default(), &[x, w, bias])[0].dtype(), DType::F32);
    }
}

/// The three convolutions and their operands' types agree on all sizes.
#[test]
fn one_geometry_for_a_convolution_and_its_adjoints() {
    let [x, w] = ["f32[2,7,6,4]", "f32[3,2,2,6]"].map(|t| TensorType::parse(t).expect("a type"));
    let conv = Conv {
        strides: vec![2, 1],
        pads_hi: vec![1, 0],
        groups: 2,
        layout: Layout::ChannelsLast,
        ..Conv::default()
    };
    let graph = applied(&conv.clone().into(), &[x.clone(), w.clone()]).expect("it is well typed");
    let y = graph.ty(graph.results()[0]).clone();
    let g = conv.geometry(&[x.clone(), w.clone()], std::slice::from_ref(&y)).expect("all sizes are numbers");
    assert_eq!((g.batch, g.channels, g.outputs, g.groups, g.channel_axis()), (2, 4, 6, 2, 3));
    assert_eq!(
        (&g.image[..], &g.positions[..], &g.window.kernel[..]),
        (&[7, 6][..], &[3, 5][..], &[3, 2][..])
    );
    assert_eq!((&g.window.dilations[..], &g.window.pads_lo[..]), (&[1, 1][..], &[0, 0][..]));
    assert_eq!(g.image_at(1, 3, 41), 2 * 7 * 6 * 4 - 1);
    assert_eq!(g.output_at(1, 5, 14), y.static_shape().iter().product::<usize>() - 1);
    assert_eq!(g.filter_at(5, 1, 5), 3 * 2 * 2 * 6 - 1);
    let Conv { strides, dilations, pads_lo, pads_hi, groups, layout } = conv.clone();
    let size = vec![Dim::from(7usize), Dim::from(6usize)];
    let input = ConvInputGrad { strides, dilations, pads_lo, pads_hi, groups, layout, size };
    assert_eq!(input.geometry(&[y.clone(), w.clone()], std::slice::from_ref(&x)).as_ref(), Ok(&g));
    let Conv { strides, dilations, pads_lo, pads_hi, groups, layout } = conv;
    let filter = ConvFilterGrad { strides, dilations, pads_lo, pads_hi, groups, layout, kernel: vec![3, 2] };
    assert_eq!(filter.geometry(&[x, y], &[w]).as_ref(), Ok(&g));
}

#[test]
fn bad_sizes_are_told_with_the_signature() {
    let conv = Conv::default;
    let square = MaxPool::new(&[2, 2]);
    let cases: Vec<(String, &[&str])> = vec![
        (
            refusal(conv(), &["f32[1,3,2,5]", "f32[4,3,3,3]"]),
            &["kernel 3", "2 elements", "conv{", "f32[4,3,3,3]"],
        ),
        (refusal(conv(), &["f32[1,4,5,5]", "f32[4,3,3,3]"]), &["channels", "4 = 3", "f32[1,4,5,5]"]),
        (refusal(Conv { groups: 3, ..conv() }, &["f32[1,6,5,5]", "f32[4,2,3,3]"]), &["groups divide"]),
        (refusal(Conv { groups: 0, ..conv() }, &["f32[1,6,5,5]", "f32[4,2,3,3]"]), &["at least 1 group"]),
        (
            refusal(Conv { strides: vec![2], ..conv() }, &["f32[1,3,5,5]", "f32[4,3,3,3]"]),
            &["strides [2]", "2 spatial"],
        ),
        (
            refusal(Conv { strides: vec![1, 0], ..conv() }, &["f32[1,3,5,5]", "f32[4,3,3,3]"]),
            &["strides", "[1, 0]"],
        ),
        (refusal(conv(), &["f32[1,3,5,5]", "f32[4,3,K,3]"]), &["numbers", "f32[4,3,K,3]"]),
        (refusal(conv(), &["f32[3,5]", "f32[4,3]"]), &["rank 3 to 5", "f32[3,5]"]),
        (refusal(conv(), &["f32[1,3,5,5]", "f64[4,3,3,3]"]), &["one float type", "f64"]),
        (refusal(conv(), &["i32[1,3,5,5]", "i32[4,3,3,3]"]), &["one float type", "i32"]),
        (
            refusal(ConvBias::default(), &["f32[1,3,5,5]", "f32[4,3,3,3]", "f32[3]"]),
            &["bias", "3 = 4", "conv_bias{"],
        ),
        (
            refusal(ConvBias::default(), &["f32[1,3,2,5]", "f32[4,3,3,3]", "f32[4]"]),
            &["no place", "conv_bias{"],
        ),
        (
            refusal(
                ConvTranspose { output_pads: vec![1, 1], ..ConvTranspose::default() },
                &["f32[1,3,5,5]", "f32[3,4,3,3]"],
            ),
            &["output_pads", "stride"],
        ),
        (
            refusal(MaxPool { pads_lo: vec![0, 2], ..square.clone() }, &["f32[1,1,4,4]"]),
            &["padding", "spatial dim 1", "2"],
        ),
        (refusal(square.clone(), &["f32[1,1,1,4]"]), &["no place", "max_pool{", "f32[1,1,1,4]"]),
        (refusal(square, &["f32[1,1,4]"]), &["2, 2", "1 spatial"]),
        (refusal(MaxPool::new(&[]), &["f32[1,1,4]"]), &["kernel has no entries"]),
        (refusal(AvgPool::new(&[0]), &["f32[1,1,4]"]), &["kernel", "1..="]),
        (refusal(AvgPool::new(&[1 << 16, 1 << 16]), &["f32[1,1,4,4]"]), &["more than"]),
        (
            refusal(AdaptiveAvgPool { size: vec![2, 2], layout: Layout::ChannelsFirst }, &["f32[B,3,H,8]"]),
            &["axis 2", "must be a number", "`H`", "adaptive_avg_pool{"],
        ),
        (
            refusal(
                AdaptiveMaxPool { size: vec![1 << 30], layout: Layout::ChannelsFirst },
                &["f32[1,3,1000000]"],
            ),
            &["too large"],
        ),
        (
            refusal(PadMode { lo: vec![4], hi: vec![0], mode: PadSource::Reflect }, &["f32[4]"]),
            &["reflection", "4 >= 5"],
        ),
        (
            refusal(PadMode { lo: vec![0], hi: vec![5], mode: PadSource::Circular }, &["f32[4]"]),
            &["circular"],
        ),
        (refusal(PadMode { lo: vec![1], hi: vec![0], mode: PadSource::Replicate }, &["f32[0]"]), &["repeat"]),
        (refusal(upsample(usize::MAX >> 8), &["f32[1,1,4]"]), &["too large"]),
    ];
    for (message, parts) in cases {
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

fn upsample(scale: usize) -> Upsample {
    let (mode, layout) = (Interpolation::Linear, Layout::ChannelsFirst);
    Upsample { scale: vec![scale], mode, align_corners: false, layout }
}

/// A symbolic image that turns out too small is refused when it is bound.
#[test]
fn a_window_must_fit_when_sizes_are_known() -> Result<()> {
    let types = ["f32[B,1,H]", "f32[1,1,5]"].map(|t| TensorType::parse(t).expect("a type"));
    let graph = applied(&Conv::default().into(), &types)?;
    let bind = |h: i64| {
        let mut binding = Binding::new();
        binding.set(&Symbol::new("B")?, 0, "the test")?;
        binding.set(&Symbol::new("H")?, h, "the test")?;
        graph.bind(&binding)
    };
    assert_eq!(bind(7)?.ty(graph.results()[0]).static_shape(), [0, 1, 3]);
    let message = bind(4).expect_err("4 is below 5").to_string();
    assert!(message.contains("place for a window"), "{message}");
    Ok(())
}

/// Whole channels vanish, the same ones in both layouts, and the gradient passes where they stay.
#[test]
fn feature_dropout_drops_whole_channels() -> Result<()> {
    let key = Tensor::from_slice(&[2], &[7u32, 9]);
    let (n, c, s) = (16, 32, 6);
    let ones = |shape: &[usize]| Tensor::full(DType::F64, shape, Scalar::F(1.0));
    let op = |layout| FeatureDropout { p: Real(0.25), layout };
    let first = run(op(Layout::ChannelsFirst), &[ones(&[n, c, 2, 3]), key.clone()])[0].to_f64();
    let last = run(op(Layout::ChannelsLast), &[ones(&[n, 2, 3, c]), key.clone()])[0].to_f64();
    let mut dropped = 0;
    for channel in 0..n * c {
        let value = first[channel * s];
        assert!(value == 0.0 || value == 1.0 / 0.75, "{value}");
        assert!(first[channel * s..][..s].iter().all(|v| *v == value));
        assert!((0..s).all(|i| last[(channel / c * s + i) * c + channel % c] == value));
        dropped += usize::from(value == 0.0);
    }
    // 128 are expected, with a standard deviation of 10.
    assert!((90..170).contains(&dropped), "{dropped} of {}", n * c);
    let ins = [ones(&[n, c, 2, 3]), key];
    let graph = applied(&op(Layout::ChannelsFirst).into(), &types(&ins))?;
    let gradient = &eval(&differentiate(&graph, &[0], 1)?.gradient, &ins)?[0];
    let passes = |(g, y): (&f64, &f64)| (*g == 0.0) == (*y == 0.0);
    assert!(gradient.to_f64().iter().zip(&first).all(passes));
    Ok(())
}
