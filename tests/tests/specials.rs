//! Infinities, NaN, signed zeros and the ends of ranges: every device gives what the unoptimized graph gives.

use std::collections::BTreeMap;

use graphc_ir::error::Result;
use graphc_ir::module::OutputDecl;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    Conv, ConvFilterGrad, ConvInputGrad, Elu, Gelu, HardTanh, LayerNorm, Layout, LeakyRelu, LogSoftmax, Map,
    Moments, Reduce, ReduceKind, Silu, Softmax, TruncatedNormal,
};
use graphc_ir::{
    Builder, DType, Dim, Function, Graph, Module, Op, Scalar, ScalarFn, Tensor, TensorType, ValueId, autodiff,
};
use graphc_optimizer::driver::Options;
use graphc_tests::compare::relative_l2_above;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::random_graph::{Config, FUNCTION, Prng, count_ops, random_module};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn module(graph: Graph) -> Module {
    let outputs =
        (0..graph.results().len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect();
    let inputs = (0..graph.inputs().len()).map(|i| format!("x{i}")).collect();
    let mut module = Module::default();
    module.functions.insert(FUNCTION.into(), Function { inputs, outputs, updates: Vec::new(), graph });
    module
}

/// The module of a function of tensors of some types.
fn of(types: &[TensorType], f: impl FnOnce(&mut Builder, &[ValueId]) -> Result<Vec<ValueId>>) -> Module {
    let build = || -> Result<Graph> {
        let mut b = Builder::new();
        let ins = types.iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
        let outs = f(&mut b, &ins)?;
        b.finish(&outs)
    };
    module(build().expect("it is well typed"))
}

fn types(ins: &[Tensor]) -> Vec<TensorType> {
    ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect()
}

fn cpu() -> Cpu {
    Cpu { threads: 1, options: Options::default() }
}

fn devices() -> Vec<Box<dyn Device>> {
    vec![Box::new(Reference), Box::new(ReferenceProgram::default()), Box::new(cpu())]
}

fn f32s(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_fn(DType::F32, shape, |i| Scalar::F(values[i]))
}

/// The outputs of a module on every device, which agree in what is no number and nearly in what is one.
#[track_caller]
fn everywhere(module: &Module, ins: &[Tensor], tolerance: f64) -> Vec<Vec<f64>> {
    let want = Reference.run(module, FUNCTION, ins).expect("it runs").outputs;
    for device in devices() {
        let got = device.run(module, FUNCTION, ins).expect("it runs").outputs;
        for (g, w) in got.iter().zip(&want) {
            for (g, w) in g.to_f64().iter().zip(w.to_f64()) {
                let same = *g == w || g.is_nan() && w.is_nan();
                let near = (g - w).abs() <= tolerance * w.abs();
                assert!(same || near, "{}: {g:e}, not {w:e}", device.name());
            }
        }
    }
    want.iter().map(Tensor::to_f64).collect()
}

fn same(got: &[f64], want: &[f64]) -> bool {
    let same = |(g, w): (&f64, &f64)| g == w || g.is_nan() && w.is_nan() || (g - w).abs() <= 1e-6 * w.abs();
    got.len() == want.len() && got.iter().zip(want).all(same)
}

#[test]
fn logarithms_of_sums_of_exponentials() {
    let x = f32s(&[4, 3], &[-INF, -INF, -INF, INF, 1.0, 2.0, 0.0, 1.0, 2.0, -INF, 1000.0, NAN]);
    let module = of(&types(std::slice::from_ref(&x)), |b, x| {
        let e = b.map(ScalarFn::Exp, &[x[0]])?;
        let sum = b.sum(e, &[1])?;
        let log = b.map(ScalarFn::Log, &[sum])?;
        let total = b.unreduce(sum, e, &[1])?;
        Ok(vec![log, b.map(ScalarFn::Div, &[e, total])?])
    });
    // What overflows as it is written is finite once it is compiled, so the interpreter is no measure here.
    for device in &devices()[1..] {
        let got = device.run(&module, FUNCTION, std::slice::from_ref(&x)).expect("it runs").outputs;
        let [log, softmax] = [0, 1].map(|i| got[i].to_f64());
        assert!(same(&log, &[-INF, INF, 2.407_605_9, NAN]), "{}: {log:?}", device.name());
        let want = [NAN, NAN, NAN, NAN, 0.0, 0.0, 0.090_030_57, 0.244_728_47, 0.665_240_96, NAN, NAN, NAN];
        assert!(same(&softmax, &want), "{}: {softmax:?}", device.name());
    }
    let module = of(&types(std::slice::from_ref(&x)), |b, x| {
        Ok(vec![b.op1(Softmax { axis: 1 }, &[x[0]])?, b.op1(LogSoftmax { axis: 1 }, &[x[0]])?])
    });
    let [softmax, log] = [0, 1].map(|i| everywhere(&module, std::slice::from_ref(&x), 1e-5)[i].clone());
    assert!(same(&softmax[3..6], &[NAN, 0.0, 0.0]) && same(&log[3..6], &[NAN, -INF, -INF]));
}

#[test]
fn normalization_of_equal_elements_is_zero() {
    for (rows, columns) in [(2, 768), (3, 5), (1, 5000), (4, 64)] {
        let x = f32s(&[rows, columns], &vec![10_000.3; rows * columns]);
        let module = of(&types(std::slice::from_ref(&x)), |b, x| {
            let y = b.op1(LayerNorm { axes: 1, eps: Real(1e-5) }, &[x[0]])?;
            let mut outs = vec![y];
            outs.extend(b.op(Moments { axes: vec![0] }, &[x[0]])?);
            outs.extend(b.op(Moments { axes: vec![0, 1] }, &[x[0]])?);
            Ok(outs)
        });
        let got = everywhere(&module, &[x], 0.0);
        assert!(got[0].iter().all(|y| *y == 0.0), "{rows} x {columns}");
        assert!([2, 4].iter().all(|i| got[*i].iter().all(|v| *v == 0.0)), "{rows} x {columns}");
    }
}

#[test]
fn products_do_not_overflow_on_the_way() {
    let x = f32s(&[4], &[1e-30, 1e30, 1e-30, 1e30]);
    let counted: Vec<f64> = (0..64).map(f64::from).collect();
    let long: Vec<f64> = (0..20_000).map(|i| if i < 10_000 { 1e3 } else { 1e-3 }).collect();
    let ins = [x, f32s(&[64], &counted), f32s(&[20_000], &long), f32s(&[200, 100], &long)];
    let module = of(&types(&ins), |b, x| {
        let prod = |b: &mut Builder, v, axes: &[usize]| {
            b.op1(Reduce { kind: ReduceKind::Prod, axes: axes.to_vec() }, &[v])
        };
        Ok(vec![prod(b, x[0], &[0])?, prod(b, x[1], &[0])?, prod(b, x[2], &[0])?, prod(b, x[3], &[0])?])
    });
    let got = everywhere(&module, &ins, 2e-3);
    assert!((got[0][0] - 1.0).abs() < 1e-6 && got[1] == [0.0] && (got[2][0] - 1.0).abs() < 2e-3, "{got:?}");
}

#[test]
fn logarithms_near_the_largest_number() {
    let x = f32s(&[4], &[f64::from(f32::MAX), 2e38, 1e38, 1e20]);
    let module = of(&types(std::slice::from_ref(&x)), |b, x| Ok(vec![b.op1(Map { f: ScalarFn::Log1p }, x)?]));
    let got = everywhere(&module, &[x], 1e-6);
    assert!(same(&got[0], &[88.722_839, 88.191_38, 87.498_23, 46.051_7]), "{got:?}");
}

/// The gradient of `op` at each element of x, in a type.
fn slopes(op: &Op, ins: &[Tensor], wrt: usize) -> Module {
    of(&types(ins), |b, x| {
        let y = b.op1(op.clone(), x)?;
        let one = b.full_like(y, 1.0)?;
        let found = autodiff::backward(b, &[(y, one)], &[x[wrt]])?[0];
        Ok(vec![found.map_or_else(|| b.zeros_like(x[wrt]), Ok)?])
    })
}

/// Gradients in f32 against the same formulas in f64, where a difference of nearly equal numbers still has digits.
#[test]
fn gradients_do_not_cancel() {
    let mut ops: Vec<(Op, f64)> = vec![
        (Elu { alpha: Real(0.5) }.into(), -INF),
        (Silu {}.into(), -INF),
        (Gelu { tanh: true }.into(), -INF),
        // 1 + erf(x) cancels below: see docs/numerics.md.
        (Gelu { tanh: false }.into(), -1.0),
        (LeakyRelu { slope: Real(0.1) }.into(), -INF),
        (HardTanh { lo: Real(-1.0), hi: Real(1.0) }.into(), -INF),
    ];
    let floats =
        |f: &&ScalarFn| f.def().arity <= 2 && f.result_dtype(&vec![DType::F32; f.def().arity]).is_ok();
    ops.extend(ScalarFn::ALL.iter().filter(floats).map(|f| (Op::from(Map { f: *f }), -INF)));
    let sizes = [1e-6, 0.003, 0.1, 0.7, 1.0, 3.0, 5.0, 8.5, 10.0, 12.0, 16.0, 20.0, 40.0, 80.0];
    let numbers: Vec<f64> = sizes.iter().flat_map(|x| [*x, -*x]).map(|x| f64::from(x as f32)).collect();
    for (op, above) in ops {
        let arity = *op.arity().start();
        let second: &[f64] = if arity == 2 { &[0.3, 2.0, -1.7] } else { &[0.0] };
        for second in second {
            let tensors = |dtype| -> Vec<Tensor> {
                let n = numbers.len();
                let x = Tensor::from_fn(dtype, &[n], |i| Scalar::F(numbers[i]));
                let y = Tensor::from_fn(dtype, &[n], |_| Scalar::F(f64::from(*second as f32)));
                if arity == 2 { vec![x, y] } else { vec![x] }
            };
            for wrt in 0..arity {
                let (wide, narrow) = (tensors(DType::F64), tensors(DType::F32));
                let exact =
                    Reference.run(&slopes(&op, &wide, wrt), FUNCTION, &wide).expect("it runs").outputs;
                let module = slopes(&op, &narrow, wrt);
                for device in devices() {
                    let got = device.run(&module, FUNCTION, &narrow).expect("it runs").outputs[0].to_f64();
                    for ((x, g), w) in numbers.iter().zip(&got).zip(exact[0].to_f64()) {
                        // Exponentials of squares and powers multiply an error of their operand.
                        let condition = 1.0 + x * x + if arity == 2 { 100.0 } else { 0.0 };
                        let tiny = w.abs() < 2.0 * f64::from(f32::MIN_POSITIVE)
                            && g.abs() <= 2.0 * f64::from(f32::MIN_POSITIVE);
                        let same =
                            *g == w || g.is_nan() && w.is_nan() || tiny || w.abs() > f64::from(f32::MAX);
                        let near = (g - w).abs() <= 2e-6 * condition * w.abs();
                        assert!(
                            same || near || *x < above,
                            "{op:?} at {x}, {second} by {wrt} on {}: {g:e}, not {w:e}",
                            device.name()
                        );
                    }
                }
            }
        }
    }
}

/// Where the compiler sees e^x - 1 and 1 / (1 + e^-x), gradients are as good as those of what was written.
#[test]
fn rewritten_functions_have_gradients_of_full_precision() {
    let x = f32s(&[6], &[-12.0, -16.0, -20.0, 12.0, 16.0, 20.0]);
    let module = of(&types(std::slice::from_ref(&x)), |b, x| {
        let e = b.map(ScalarFn::Exp, &[x[0]])?;
        let one = b.full_like(e, 1.0)?;
        let less = b.map(ScalarFn::Sub, &[e, one])?;
        let minus = b.map(ScalarFn::Neg, &[x[0]])?;
        let e = b.map(ScalarFn::Exp, &[minus])?;
        let more = b.map(ScalarFn::Add, &[one, e])?;
        let logistic = b.map(ScalarFn::Div, &[one, more])?;
        let mut outs = Vec::new();
        for y in [less, logistic] {
            let loss = b.sum(y, &[0])?;
            outs.extend(graphc_optimizer::grad::gradients(b, loss, &[x[0]])?);
        }
        Ok(outs)
    });
    let got = everywhere(&module, std::slice::from_ref(&x), 1e-5);
    let exact = |f: fn(f64) -> f64| x.to_f64().iter().map(|x| f(*x)).collect::<Vec<f64>>();
    let logistic = |x: f64| (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2);
    for (got, want) in got.iter().zip([exact(f64::exp), exact(logistic)]) {
        let near = got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 1e-5 * w);
        assert!(near, "{got:?}, not {want:?}");
    }
}

#[test]
fn tails_of_the_normal_distribution_on_devices() {
    let key = Tensor::from_slice(&[2], &[1u32, 2]);
    for (lo, hi) in [(4.9, 5.0), (-5.0, -4.9), (1.0, 5.0)] {
        let [mean, std, low, high] = [0.0, 1.0, lo, hi].map(Real);
        let draw = |dtype| TruncatedNormal {
            dtype,
            dims: vec![Dim::from(20_000usize)],
            mean,
            std,
            lo: low,
            hi: high,
        };
        let module = of(&types(std::slice::from_ref(&key)), |b, k| {
            Ok(vec![b.op1(draw(DType::F32), k)?, b.op1(draw(DType::F64), k)?])
        });
        for device in devices() {
            let got = device.run(&module, FUNCTION, std::slice::from_ref(&key)).expect("it runs").outputs;
            let (narrow, wide) = (got[0].to_f64(), got[1].to_f64());
            let off = narrow.iter().zip(&wide).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            // 24 bits, where a draw is far out; the probability's where it is not.
            let allowed = if hi - lo > 1.0 { 2e-2 } else { 2e-6 };
            assert!(off < allowed, "{lo}..{hi} on {}: {off:e}", device.name());
            let mut bits: Vec<u64> = narrow.iter().map(|x| x.to_bits()).collect();
            bits.sort_unstable();
            bits.dedup();
            assert!(bits.len() > 15_000, "{lo}..{hi} on {}: {} values", device.name(), bits.len());
        }
    }
}

/// Some elements of a tensor replaced.
fn poisoned(mut t: Tensor, values: &[f64], share: f64, prng: &mut Prng) -> Tensor {
    for i in 0..t.len() {
        if t.dtype().is_float() && prng.chance(share) {
            t.set(i, Scalar::F(values[prng.below(values.len())]));
        }
    }
    t
}

fn numbers(shape: &[usize], prng: &mut Prng) -> Tensor {
    Tensor::from_fn(DType::F32, shape, |_| Scalar::F(f64::from(prng.real(-2.0, 2.0) as f32)))
}

/// Convolutions of every kind of kernel: few channels, many, groups, a channel each, strides, dilations.
fn convolutions() -> Vec<(Conv, Vec<usize>, Vec<usize>)> {
    let last = || Conv { layout: Layout::ChannelsLast, ..Conv::default() };
    let padded = |n: usize| Conv { pads_lo: vec![n, n], pads_hi: vec![n, n], ..last() };
    vec![
        (Conv { pads_lo: vec![1], pads_hi: vec![1], ..Conv::default() }, vec![1, 1, 3], vec![1, 1, 3]),
        (padded(1), vec![2, 7, 9, 3], vec![3, 3, 3, 8]),
        (padded(3), vec![1, 12, 11, 3], vec![7, 7, 3, 16]),
        (padded(1), vec![1, 5, 6, 8], vec![3, 3, 8, 70]),
        (padded(2), vec![1, 9, 4, 20], vec![5, 5, 20, 17]),
        (Conv { strides: vec![2, 2], ..padded(1) }, vec![2, 8, 7, 6], vec![3, 3, 6, 10]),
        (Conv { dilations: vec![2, 1], ..padded(2) }, vec![1, 8, 9, 5], vec![3, 3, 5, 6]),
        (Conv { groups: 2, ..padded(1) }, vec![1, 6, 6, 8], vec![3, 3, 4, 8]),
        (Conv { groups: 12, ..padded(1) }, vec![1, 6, 7, 12], vec![3, 3, 1, 12]),
        (Conv { groups: 12, strides: vec![2, 2], ..padded(2) }, vec![2, 9, 7, 12], vec![5, 5, 1, 12]),
    ]
}

/// Padding is no term of a sum, so that a filter's infinity makes nothing of pixels that have only padding there.
#[test]
fn padding_is_left_out_of_convolutions() {
    let mut prng = Prng::new(7);
    for (conv, image, filters) in convolutions() {
        for round in 0..6 {
            let (x, w) = (numbers(&image, &mut prng), numbers(&filters, &mut prng));
            let (size, kernel) = match conv.layout {
                Layout::ChannelsLast => (&image[1..image.len() - 1], &filters[..filters.len() - 2]),
                Layout::ChannelsFirst => (&image[2..], &filters[2..]),
            };
            let (size, kernel): (Vec<Dim>, Vec<usize>) =
                (size.iter().map(|d| Dim::from(*d)).collect(), kernel.to_vec());
            let values: &[f64] = if round % 2 == 0 { &[INF, -INF] } else { &[NAN] };
            let bad = |t, prng: &mut Prng| poisoned(t, values, 0.03, prng);
            let (bad_x, bad_w) = (bad(x.clone(), &mut prng), bad(w.clone(), &mut prng));
            let forward = of(&types(&[x.clone(), w.clone()]), |b, v| Ok(vec![b.op1(conv.clone(), v)?]));
            everywhere_near(&forward, &[x.clone(), bad_w.clone()], &format!("{conv:?}"));
            everywhere_near(&forward, &[bad_x.clone(), w.clone()], &format!("{conv:?}"));
            let y = Reference
                .run(&forward, FUNCTION, &[x.clone(), w.clone()])
                .expect("it runs")
                .outputs
                .remove(0);
            let grad = ConvInputGrad {
                strides: conv.strides.clone(),
                dilations: conv.dilations.clone(),
                pads_lo: conv.pads_lo.clone(),
                pads_hi: conv.pads_hi.clone(),
                groups: conv.groups,
                layout: conv.layout,
                size,
            };
            let back = of(&types(&[y.clone(), w.clone()]), |b, v| Ok(vec![b.op1(grad.clone(), v)?]));
            everywhere_near(&back, &[y.clone(), bad_w], &format!("{grad:?}"));
            everywhere_near(&back, &[bad(y.clone(), &mut prng), w], &format!("{grad:?}"));
            let grad = ConvFilterGrad {
                strides: conv.strides.clone(),
                dilations: conv.dilations.clone(),
                pads_lo: conv.pads_lo.clone(),
                pads_hi: conv.pads_hi.clone(),
                groups: conv.groups,
                layout: conv.layout,
                kernel,
            };
            let back = of(&types(&[x.clone(), y.clone()]), |b, v| Ok(vec![b.op1(grad.clone(), v)?]));
            everywhere_near(&back, &[bad_x, y.clone()], &format!("{grad:?}"));
            everywhere_near(&back, &[x, bad(y, &mut prng)], &format!("{grad:?}"));
        }
    }
}

#[track_caller]
fn everywhere_near(module: &Module, ins: &[Tensor], what: &str) {
    let want = Reference.run(module, FUNCTION, ins).expect("it runs").outputs[0].to_f64();
    for device in devices() {
        let got = device.run(module, FUNCTION, ins).expect("it runs").outputs[0].to_f64();
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let same = g == w || g.is_nan() && w.is_nan();
            let near = (g - w).abs() <= 1e-4 * w.abs().max(1.0);
            assert!(
                same || near,
                "{what} on {}: element {i} of {} is {g}, not {w}",
                device.name(),
                want.len()
            );
        }
    }
}

/// Winograd's algorithm sums differences of neighbours, so that what is no number spreads: in the filters over their
/// output channel, in an image over the blocks of 2 x 2 pixels whose windows have it. Everything else stays right.
#[test]
fn what_is_no_number_spreads_as_far_as_is_promised() {
    let conv =
        Conv { pads_lo: vec![1, 1], pads_hi: vec![1, 1], layout: Layout::ChannelsLast, ..Conv::default() };
    let (size, channels) = (24, 32);
    let mut prng = Prng::new(3);
    let (x, w) =
        (numbers(&[1, size, size, channels], &mut prng), numbers(&[3, 3, channels, channels], &mut prng));
    let module = of(&types(&[x.clone(), w.clone()]), |b, v| Ok(vec![b.op1(conv.clone(), v)?]));
    for value in [INF, NAN] {
        let (mut bad_x, mut bad_w) = (x.clone(), w.clone());
        let (row, column, channel) = (9, 14, 5);
        bad_x.set((row * size + column) * channels + 3, Scalar::F(value));
        bad_w.set((4 * channels + 3) * channels + channel, Scalar::F(value));
        for (ins, of_image) in [([bad_x, w.clone()], true), ([x.clone(), bad_w], false)] {
            let want = Reference.run(&module, FUNCTION, &ins).expect("it runs").outputs[0].to_f64();
            let got = cpu().run(&module, FUNCTION, &ins).expect("it runs").outputs[0].to_f64();
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                let (r, c, o) = (i / channels / size, i / channels % size, i % channels);
                let block =
                    |at: usize, of: usize| (at / 2 * 2).saturating_sub(1) <= of && of <= at / 2 * 2 + 2;
                let touched = if of_image { block(r, row) && block(c, column) } else { o == channel };
                let near = (g - w).abs() <= 1e-3;
                assert!(
                    if touched { near || !g.is_finite() } else { near },
                    "{value} at {r}, {c}, {o}: {g}, not {w}"
                );
                assert!(w.is_finite() || !g.is_finite(), "{value} at {r}, {c}, {o}: {g}, not {w}");
            }
        }
    }
}

/// Random graphs, compiled, whose inputs hold what is no number.
fn sweep(device: &dyn Device, seeds: std::ops::Range<u64>, values: &[f64]) {
    let mut failures = Vec::new();
    for seed in seeds {
        let random = random_module(seed, &Config::default()).expect("it is made");
        let mut prng = Prng::new(seed);
        let inputs = random.inputs(3).expect("inputs");
        let inputs: Vec<Tensor> = inputs.into_iter().map(|t| poisoned(t, values, 0.08, &mut prng)).collect();
        let want = Reference.run(&random.module, FUNCTION, &inputs);
        let got = device.run(&random.module, FUNCTION, &inputs);
        let (Ok(want), Ok(got)) = (&want, &got) else {
            if want.is_ok() != got.is_ok() {
                failures.push(format!("{seed}: {:?} and {:?}", want.err(), got.err()));
            }
            continue;
        };
        let pairs = got.outputs.iter().chain(&got.state).zip(want.outputs.iter().chain(&want.state));
        for (i, (g, w)) in pairs.enumerate() {
            let error = relative_l2_above(&g.to_f64(), &w.to_f64(), 1e-3);
            if g.shape() != w.shape() || error.is_nan() || error > 1e-3 {
                let mut ops = BTreeMap::new();
                count_ops(&random.function().expect("it has one").graph, &mut ops);
                let off = g.to_f64().into_iter().zip(w.to_f64()).find(|(g, w)| !same(&[*g], &[*w]));
                failures.push(format!(
                    "{seed}: result {i} is {error:e} off: {off:?}, {:?} of {ops:?}",
                    g.shape()
                ));
                break;
            }
        }
    }
    let shown: Vec<String> = failures.iter().take(4).map(|f| f.chars().take(600).collect()).collect();
    assert!(failures.is_empty(), "{} differ on {}:\n{}", failures.len(), device.name(), shown.join("\n"));
}

#[test]
fn compiled_programs_keep_what_is_no_number() {
    sweep(&ReferenceProgram::default(), 60_000..60_300, &[INF, -INF, NAN, 0.0, -0.0, 1e-40]);
}

#[test]
fn the_cpu_keeps_what_is_no_number() {
    sweep(&cpu(), 60_000..60_300, &[INF, -INF, NAN, 0.0, -0.0]);
}
