//! What the differential tests rely on: random graphs whose results do not depend on rounding errors.

use graphc_ir::error::Result;
use graphc_ir::ops::{Const, Interpolation, Map};
use graphc_ir::{DType, Graph, Op, Scalar, ScalarFn, Tensor, interp};
use graphc_tests::compare::{identical, relative_l2_above};
use graphc_tests::device::initial_state;
use graphc_tests::random_graph::{Config, Prng, RandomModule, random_module};

/// The bound graph with what another device may do to it: every float result that is not exact
/// everywhere is off by one unit in the last place, up or down, or not at all.
fn disturbed(graph: &Graph, seed: u64) -> Result<Graph> {
    let mut prng = Prng::new(seed);
    graph.rebuild(|b, _, node, ins| {
        if node.op.has_bodies() {
            return b.op(node.op.map_bodies(&mut |body| disturbed(body, seed ^ prng.word()))?, ins);
        }
        let outs = b.op(node.op.clone(), ins)?;
        let exact = match &node.op {
            Op::Map(Map { f }) => f.def().ulp == 0.0,
            Op::Uniform(u) => u.lo.0 == 0.0 && u.hi.0 == 1.0,
            Op::Input(_) | Op::StateRead(_) | Op::Const(_) | Op::Iota(_) | Op::Cast(_) | Op::Check(_) => true,
            Op::Broadcast(_) | Op::Reshape(_) | Op::Flatten(_) | Op::Transpose(_) | Op::Slice(_) => true,
            Op::Pad(_) | Op::Concat(_) | Op::Gather(_) | Op::StopGradient(_) => true,
            // They choose elements.
            Op::MaxPool(_) | Op::GlobalMaxPool(_) | Op::AdaptiveMaxPool(_) => true,
            Op::WindowGather(_) | Op::PadMode(_) | Op::Embedding(_) => true,
            Op::ReverseGradient(_) | Op::StraightThrough(_) => true,
            Op::Upsample(u) => u.mode == Interpolation::Nearest,
            Op::Reduce(r) => matches!(r.kind.combine(), ScalarFn::Max | ScalarFn::Min),
            _ => false,
        };
        // A multiplication by a power of two is exact.
        let scale = |v| matches!(&b.graph().def(v).op, Op::Broadcast(_) | Op::Const(_));
        let exact = exact || (node.op == Op::from(Map { f: ScalarFn::Mul }) && ins.iter().any(|v| scale(*v)));
        let mut noisy = Vec::new();
        for v in outs {
            let ty = b.ty(v).clone();
            if exact || !ty.dtype.is_compute_float() {
                noisy.push(v);
                continue;
            }
            let unit = if ty.dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
            let factor = Tensor::from_fn(ty.dtype, &ty.static_shape(), |_| {
                Scalar::F(1.0 + unit * (prng.below(3) as f64 - 1.0))
            });
            let factor = b.op1(Const { value: factor.into() }, &[])?;
            noisy.push(b.map(ScalarFn::Mul, &[v, factor])?);
        }
        Ok(noisy)
    })
}

/// How far rounding errors move each result of a module; an integer that moves at all, infinitely far.
fn errors(r: &RandomModule) -> Result<Vec<f64>> {
    let graph = r.function()?.graph.bind(&r.binding(3)?)?;
    let (inputs, state) = (r.inputs(3)?, initial_state(&r.module)?);
    let (inputs, state): (Vec<_>, Vec<_>) = (inputs.iter().collect(), state.iter().collect());
    let want = interp::eval(&graph, &inputs, &state)?;
    let got = interp::eval(&disturbed(&graph, r.seed)?, &inputs, &state)?;
    let error = |(g, w): (&Tensor, &Tensor)| match g.dtype().is_float() {
        true => relative_l2_above(&g.to_f64(), &w.to_f64(), 1e-3),
        false if identical(g, w) => 0.0,
        false => f64::INFINITY,
    };
    Ok(got.iter().zip(&want).map(error).collect())
}

#[test]
fn rounding_errors_decide_nothing() {
    let config = Config { float: Some(DType::F32), ..Config::default() };
    let worst = |r: &RandomModule| errors(r).map_or(f64::NAN, |all| all.into_iter().fold(0.0, f64::max));
    let mut all = Vec::new();
    for seed in 0..600 {
        let r = random_module(seed, &config).expect("it is made");
        let error = worst(&r);
        assert!(error < 1e-3, "seed {seed}: {error:e}\n{}", r.shrunk(&|smaller| worst(smaller) >= 1e-3));
        all.push((error, seed));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("largest errors of {}: {:?}", all.len(), &all[..20]);
}
