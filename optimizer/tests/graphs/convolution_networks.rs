//! Convolution networks: what they compute, and in how many steps.

use super::common::{Result, Step as Builder, compare, compile, kinds};
use graphc_ir::module::Function;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{BatchNormInference, Conv, GlobalAvgPool, Layout, Linear, MaxPool};
use graphc_ir::program::{ConvRole, Kernel, Step};
use graphc_ir::scalar::ScalarFn::{Add, Relu};
use graphc_ir::{DType, TensorType, ValueId};
use graphc_optimizer::compile::CompileOptions;

/// A convolution that keeps the size of its image.
fn same(kernel: usize) -> Conv {
    let pads = vec![kernel / 2; 2];
    Conv { pads_lo: pads.clone(), pads_hi: pads, ..Conv::default() }
}

/// The training step of a basic block of a residual network (He et al. 2016, figure 2 left, with batch
/// normalization): from its input and the gradient of its result to its result and the gradient of its input,
/// with momentum for all parameters and running statistics.
fn basic_block() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Builder::new();
    let (shape, c) = ([3, 4, 6, 6], 4);
    let count = 3.0 * 36.0;
    let x = s.input(DType::F32, &shape)?;
    let upstream = s.input(DType::F32, &shape)?;
    let lr = s.state(&[])?;
    let mut params = Vec::new();
    let mut h = x;
    for layer in 0..2 {
        let p: Vec<ValueId> =
            [&[c, c, 3, 3][..], &[c], &[c]].iter().map(|d| s.state(d)).collect::<Result<_>>()?;
        h = s.b.op1(same(3), &[h, p[0]])?;
        h = s.batch_norm(h, p[1], p[2], count)?;
        if layer == 1 {
            h = s.b.map(Add, &[h, x])?;
        }
        h = s.b.map(Relu, &[h])?;
        params.extend(p);
    }
    let down = s.train((h, upstream), &params, &[x], lr)?[0];
    s.finish(&[h, down])
}

/// The inference of a small residual network: stem, max pool, two basic blocks, the second with a stride and
/// a projection, mean over the image, linear head.
fn network() -> Result<(Function, Vec<TensorType>)> {
    let mut s = Builder::new();
    let x = s.input(DType::F32, &[2, 3, 16, 16])?;
    let norm = |s: &mut Builder, x: ValueId, c: usize| -> Result<ValueId> {
        let p: Vec<ValueId> = (0..4).map(|_| s.state(&[c])).collect::<Result<_>>()?;
        // The sample values of a state may be negative: a variance is a square.
        let variance = s.b.map(graphc_ir::scalar::ScalarFn::Mul, &[p[3], p[3]])?;
        let op = BatchNormInference { axis: 1, eps: Real(1e-2) };
        s.b.op1(op, &[x, p[0], p[1], p[2], variance])
    };
    let conv = |s: &mut Builder, x: ValueId, op: Conv, shape: [usize; 4]| -> Result<ValueId> {
        let w = s.state(&shape)?;
        let y = s.b.op1(op, &[x, w])?;
        norm(s, y, shape[0])
    };
    let stem = conv(&mut s, x, same(3), [4, 3, 3, 3])?;
    let stem = s.b.map(Relu, &[stem])?;
    let mut h = s.b.op(MaxPool::new(&[2, 2]), &[stem])?[0];
    for (inputs, c, stride) in [(4, 4, 1), (4, 6, 2)] {
        let first = Conv { strides: vec![stride; 2], ..same(3) };
        let a = conv(&mut s, h, first, [c, inputs, 3, 3])?;
        let a = s.b.map(Relu, &[a])?;
        let b = conv(&mut s, a, same(3), [c, c, 3, 3])?;
        let short = match stride {
            1 => h,
            _ => conv(&mut s, h, Conv { strides: vec![stride; 2], ..Conv::default() }, [c, inputs, 1, 1])?,
        };
        let sum = s.b.map(Add, &[b, short])?;
        h = s.b.map(Relu, &[sum])?;
    }
    let pooled = s.b.op1(GlobalAvgPool { layout: Layout::ChannelsFirst }, &[h])?;
    let flat = s.b.reshape(pooled, &[2usize.into(), 6usize.into()])?;
    let (w, bias) = (s.state(&[6, 5])?, s.state(&[5])?);
    let y = s.b.op1(Linear {}, &[flat, w, bias])?;
    s.finish(&[y])
}

#[test]
fn programs_compute_what_the_graphs_mean() {
    compare("basic_block", basic_block().expect("builds"));
    compare("network", network().expect("builds"));
}

#[test]
fn a_basic_block_trains_in_at_most_fourteen_steps() {
    let (function, _) = basic_block().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let kinds = kinds(&compiled.main);
    let roles = |role| {
        let is = |kernel: &Kernel| matches!(kernel, Kernel::Conv(c) if c.role == role);
        compiled.main.steps.iter().filter(|s| is(&s.kernel)).count()
    };
    let counts = [ConvRole::Forward, ConvRole::InputGrad, ConvRole::FilterGrad].map(roles);
    assert_eq!(counts, [2, 2, 2], "{kinds:?}");
    assert!(kinds.len() <= 14, "{} steps: {kinds:?}", kinds.len());
}

/// How often a block's steps go over a tensor of the image's size: the table in `docs/performance.md`.
#[test]
fn a_basic_block_moves_few_images() {
    let (function, _) = basic_block().expect("builds");
    let image = (3 * 4 * 6 * 6 * 4) as f64;
    let passes = |options: CompileOptions| {
        let compiled = compile(&function, options).expect("compiles");
        let of = |step: &Step| (step.bytes(&compiled.main) / image).floor();
        compiled.main.steps.iter().for_each(|step| println!("{} {}", of(step), step.kind()));
        compiled.main.steps.iter().map(of).sum::<f64>()
    };
    let fused = passes(CompileOptions::default());
    let single = passes(CompileOptions { fusion: false, ..CompileOptions::default() });
    println!("{fused} in all, {single} without fusion");
    assert!(fused <= 38.0 && single >= 2.0 * fused, "{fused} {single}");
}

#[test]
fn inference_is_a_step_for_each_convolution() {
    let (function, _) = network().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    // The image's channels go last once; the mean over the image and the head are the last two.
    let expected = ["map", "conv", "max_pool", "conv", "conv", "conv", "conv", "conv", "reduce", "dot"];
    let mut kinds = kinds(&compiled.main);
    if let Some(mean) = kinds.iter_mut().find(|kind| **kind == "rows") {
        *mean = "reduce";
    }
    assert_eq!(kinds, expected);
}
