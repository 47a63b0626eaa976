//! Written once over every operation's samples: derivatives, types, symbolic dims, expansions.
//!
//! Every test goes through all samples and reports all failures, so that one run shows the extent.

use std::collections::BTreeSet;
use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::ops::{ArgKind, ArgReduce, Cast, FuseKind, Fused, Sample, Scan, Vjp, VjpCx, sample_tensor};
use graphc_ir::{Builder, DType, Op, ScalarFn, Tensor, TensorType, autodiff, stage};
use graphc_tests::compare::{identical, relative_l2, relative_l2_above, tensor_error};
use graphc_tests::narrow::{narrowed_tensor_to, narrowed_to};
use graphc_tests::registry::{
    Case, applied, cases, central_differences, differentiate, eval, expanded, pushed_forward, symbolic,
};

/// Runs a check over all samples; a failure is the sample in words and what is wrong.
fn over_all(check: impl Fn(&Case) -> Result<Vec<String>>) {
    let all = cases();
    assert!(all.len() > 400, "only {} samples were found", all.len());
    let mut failures = Vec::new();
    for case in &all {
        let found = check(case).unwrap_or_else(|e| vec![e.to_string()]);
        failures.extend(found.into_iter().map(|f| format!("{}: {f}", case.describe())));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Whether an analytic gradient is that of central differences, up to their own rounding.
fn agrees(got: &[f64], differences: &[f64], value: f64) -> bool {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&got.iter().zip(differences).map(|(g, d)| g - d).collect::<Vec<_>>());
    distance <= 1e-6 * norm(differences) + 1e-9 * (1.0 + value.abs())
}

#[test]
fn gradients_are_those_of_central_differences() {
    over_all(|case| {
        let (sample, mut failures) = (&case.sample, Vec::new());
        if sample.wrt.is_empty() {
            return Ok(failures);
        }
        let first = differentiate(&applied(&sample.op, &case.types())?, &sample.wrt, 1)?;
        let second = differentiate(&first.gradient, &sample.wrt, 2)?;
        for (order, d) in [(1, &first), (2, &second)] {
            let value = eval(&d.value, &sample.ins)?[0].get(0).as_f64();
            for (i, g) in sample.wrt.iter().zip(eval(&d.gradient, &sample.ins)?) {
                let differences = central_differences(&d.value, &sample.ins, *i)?;
                let got = g.to_f64();
                if g.shape() != sample.ins[*i].shape() || !agrees(&got, &differences, value) {
                    failures.push(format!("order {order}, operand {i}: {got:?} is not {differences:?}"));
                }
            }
        }
        Ok(failures)
    });
}

/// What forward mode pushes along a direction is what reverse mode says of it: ⟨u, J t⟩ = ⟨Jᵀ u, t⟩.
#[test]
fn forward_mode_equals_reverse_mode() {
    over_all(|case| {
        let (sample, mut failures) = (&case.sample, Vec::new());
        if sample.wrt.is_empty() {
            return Ok(failures);
        }
        let graph = applied(&sample.op, &case.types())?;
        let directions: Vec<Tensor> =
            sample.wrt.iter().map(|i| sample_tensor(sample.ins[*i].shape(), 9 + *i as u64)).collect();
        let mut ins = sample.ins.clone();
        ins.extend(directions.iter().cloned());
        let pushed = eval(&pushed_forward(&graph, &sample.wrt, 7)?, &ins)?;
        let pulled = differentiate(&graph, &sample.wrt, 7)?;
        let value = eval(&pulled.value, &sample.ins)?[0].get(0).as_f64();
        let mut slope = 0.0;
        for (g, t) in eval(&pulled.gradient, &sample.ins)?.iter().zip(&directions) {
            slope += g.to_f64().iter().zip(t.to_f64()).map(|(g, t)| g * t).sum::<f64>();
        }
        let found = [pushed[0].get(0).as_f64(), pushed[1].get(0).as_f64()];
        let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
        if !near(found[0], value) || !near(found[1], slope) {
            failures.push(format!("forward mode gives {found:?}, reverse mode {:?}", [value, slope]));
        }
        Ok(failures)
    });
}

/// Samples from floats to floats that are not differentiated above have a rule of their own here.
#[test]
fn samples_without_gradient_checks_are_known() {
    over_all(|case| {
        let known = matches!(
            case.sample.op,
            Op::StopGradient(_)
                | Op::Cast(_)
                | Op::While(_)
                | Op::ReverseGradient(_)
                | Op::StraightThrough(_)
        );
        let unchecked = case.sample.wrt.is_empty() && case.is_float()?;
        Ok(Vec::from_iter((unchecked && !known).then(|| "its gradient is checked nowhere".into())))
    });
}

#[test]
fn stop_gradient_stops() {
    for sample in Op::find("stop_gradient").map(|i| (i.samples)()).unwrap_or_default() {
        let types = [TensorType::fixed(DType::F64, sample.ins[0].shape())];
        let graph = applied(&sample.op, &types).expect("the sample is well typed");
        let d = differentiate(&graph, &[0], 1).expect("it has a gradient of zero");
        assert_eq!(d.reached, [false]);
    }
}

#[test]
fn casts_between_floats_pass_gradients_back() {
    let floats = DType::ALL.into_iter().filter(|t| t.is_float());
    for (from, to) in floats.clone().flat_map(|a| floats.clone().map(move |b| (a, b))) {
        let run = || -> Result<Tensor> {
            let mut b = Builder::new();
            let x = b.input(TensorType::fixed(from, &[3]))?;
            let g = b.input(TensorType::fixed(to, &[3]))?;
            let y = b.op1(Cast { to }, &[x])?;
            let found = autodiff::backward(&mut b, &[(y, g)], &[x])?[0];
            let graph = b.finish(&[found.expect("a path exists")])?;
            Ok(eval(&graph, &[sample_tensor(&[3], 1).cast(from), sample_tensor(&[3], 2).cast(to)])?.remove(0))
        };
        let want = sample_tensor(&[3], 2).cast(to).cast(from);
        assert_eq!(run().expect("casts are differentiable"), want, "{from} to {to}");
    }
}

/// Operations that take f16 and bf16 as they are, of those that pass gradients on. All others compute in f32.
const TAKERS: [&str; 24] = [
    "broadcast",
    "call",
    "cast",
    "check",
    "concat",
    "cond",
    "conv",
    "conv_bias",
    "conv_filter_grad",
    "conv_input_grad",
    "conv_transpose",
    "custom_gradient",
    "dot",
    "embedding",
    "flatten",
    "gather",
    "linear",
    "pad",
    "pad_mode",
    "reshape",
    "scan",
    "select",
    "slice",
    "transpose",
];

/// Every operation takes f16 and bf16, and gradients pass through it and add up: they are those in f64 on the same
/// numbers, up to the rounding of the storage type.
#[test]
fn storage_types_pass_gradients_back() {
    let mut takers = BTreeSet::new();
    over_all(|case| {
        let (sample, mut failures) = (&case.sample, Vec::new());
        if sample.wrt.is_empty() {
            return Ok(failures);
        }
        let mut b = Builder::new();
        let args = case.types().iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
        // Operands are results too, so that each has two gradients to add.
        let outs = [b.op(sample.op.clone(), &args)?, args].concat();
        let in_f64 = b.finish(&outs)?;
        for (storage, most) in [(DType::F16, 2e-3), (DType::Bf16, 1.6e-2)] {
            // Loops carry their values in the storage type: each iteration rounds.
            let most = if sample.op.has_bodies() { 4.0 * most } else { most };
            let narrow: Vec<Tensor> = sample.ins.iter().map(|t| narrowed_tensor_to(t, storage)).collect();
            let is_half = |t: &Tensor| t.dtype() == storage;
            let wide: Vec<Tensor> =
                narrow.iter().map(|t| if is_half(t) { t.cast(DType::F64) } else { t.clone() }).collect();
            let got = differentiate(&narrowed_to(&in_f64, storage)?, &sample.wrt, 6)?;
            let want = differentiate(&in_f64, &sample.wrt, 6)?;
            if got.reached != want.reached {
                failures.push(format!("reaches {:?} in {storage}, {:?} in f64", got.reached, want.reached));
            }
            for (g, w) in eval(&got.gradient, &narrow)?.iter().zip(eval(&want.gradient, &wide)?) {
                // Below 1 what cancels has the errors of its terms.
                let error = relative_l2_above(&g.to_f64(), &w.to_f64(), 1.0);
                if g.dtype() != storage || error > most {
                    failures.push(format!("{g:?} in {storage} is not {w:?} ({error})"));
                }
            }
        }
        Ok(failures)
    });
    for case in cases().iter().filter(|c| !c.sample.wrt.is_empty()) {
        let half = |t: &TensorType| if t.dtype == DType::F64 { t.with_dtype(DType::F16) } else { t.clone() };
        let narrow: Vec<TensorType> = case.types().iter().map(half).collect();
        if narrow.iter().any(|t| t.dtype == DType::F16)
            && !case.sample.op.widens(narrow.iter().map(|t| t.dtype))
        {
            takers.insert(case.sample.op.name());
        }
    }
    assert!(takers.iter().copied().eq(TAKERS), "{takers:?}");
}

/// Floats of two types are no operands of one operation, also where it computes both in f32.
#[test]
fn storage_types_are_not_mixed() {
    let half = TensorType::fixed(DType::F16, &[3]);
    for other in [DType::F32, DType::F64, DType::Bf16] {
        let op: Op = graphc_ir::ops::Map { f: ScalarFn::Add }.into();
        let error =
            applied(&op, &[half.clone(), half.with_dtype(other)]).expect_err("they differ").to_string();
        assert!(error.contains("add takes floats of one type") && error.contains(other.name()), "{error}");
    }
}

/// The rule of a node, asked directly with ones for every float result.
fn rule_of(sample: &Sample, types: &[TensorType]) -> Result<Vjp> {
    let mut b = Builder::new();
    let ins = types.iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
    let outs = b.op(sample.op.clone(), &ins)?;
    let mut grads = Vec::new();
    for o in &outs {
        grads.push(Some(b.full_like(*o, 1.0)?));
    }
    sample.op.vjp(&mut VjpCx { b: &mut b, ins: &ins, outs: &outs, grads: &grads })
}

/// An operation without a derivative says so in a sentence that reaches the user; where its results
/// are integers nothing flows in the first place.
#[test]
fn operations_without_gradients_say_so() {
    let ty = TensorType::fixed(DType::F64, &[3]);
    let body = applied(&graphc_ir::ops::Map { f: ScalarFn::Exp }.into(), std::slice::from_ref(&ty))
        .expect("exp takes f64");
    let cluster = Fused { kind: FuseKind::Nest, body: Arc::new(body) };
    let mut all: Vec<Sample> = cases().into_iter().map(|c| c.sample).collect();
    all.push(Sample::new(cluster, vec![sample_tensor(&[3], 1)]));
    let mut names = Vec::new();
    for sample in all {
        let types: Vec<_> = sample.ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
        let graph = applied(&sample.op, &types).expect("samples are well typed");
        // Rules may rely on a live gradient, so they are asked where one can exist, or for the reason.
        let float_result = graph.results().iter().any(|r| graph.ty(*r).dtype.is_float());
        if !float_result && !matches!(sample.op, Op::ArgReduce(_)) {
            continue;
        }
        let Ok(Vjp::None(reason)) = rule_of(&sample, &types) else { continue };
        assert!(reason.contains(' '), "`{reason}` is no sentence");
        names.push(sample.op.name());
        let wrt: Vec<usize> = (0..sample.ins.len()).filter(|i| sample.ins[*i].dtype().is_float()).collect();
        let outcome = differentiate(&graph, &wrt, 1);
        if float_result {
            let message = outcome.err().expect("there is no gradient").to_string();
            assert!(message.contains(reason) && message.contains("stop_gradient"), "{message}");
        } else {
            assert!(outcome.expect("integers carry no gradient").reached.iter().all(|r| !r));
        }
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["arg_reduce", "fused", "while"]);
}

#[test]
fn inference_gives_the_types_of_evaluation() {
    over_all(|case| {
        let graph = applied(&case.sample.op, &case.types())?;
        stage::verify(&graph)?;
        let types: Vec<TensorType> = graph.results().iter().map(|r| graph.ty(*r).clone()).collect();
        let outs = case.sample.op.eval(&case.sample.ins.iter().collect::<Vec<_>>(), &types)?;
        let got: Vec<TensorType> = outs.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
        Ok(Vec::from_iter((got != types).then(|| format!("{types:?} was inferred, {got:?} came out"))))
    });
}

/// Every size becomes a symbol, of operands and attributes, in the forward graph and in its gradient.
#[test]
fn symbolic_then_bound_equals_static() {
    over_all(|case| {
        let (sample, mut failures) = (&case.sample, Vec::new());
        let s = symbolic(case)?;
        // A constant's dims are its value's; everything else with an axis gets a symbol.
        let has_axis = sample.ins.iter().any(|t| !t.shape().is_empty() && t.dtype() != DType::U32);
        if has_axis && s.binding.is_empty() {
            failures.push("no size became a symbol".to_owned());
        }
        let graphs = [applied(&s.op, &s.types)?, applied(&sample.op, &case.types())?];
        let mut pairs = vec![graphs.clone()];
        if !sample.wrt.is_empty() {
            let [a, b] = &graphs;
            pairs.push([
                differentiate(a, &sample.wrt, 3)?.gradient,
                differentiate(b, &sample.wrt, 3)?.gradient,
            ]);
        }
        for (what, [over_symbols, fixed]) in ["the result", "the gradient"].iter().zip(pairs) {
            stage::verify(&over_symbols)?;
            let bound = over_symbols.bind(&s.binding)?;
            let left = bound.nodes().flat_map(|(_, n)| n.outs()).find(|v| bound.ty(*v).shape().is_none());
            if let Some(v) = left {
                failures.push(format!("{what} keeps the symbolic {}", bound.ty(v)));
            }
            let (got, want) = (eval(&bound, &sample.ins)?, eval(&fixed, &sample.ins)?);
            if got.len() != want.len() || !got.iter().zip(&want).all(|(g, w)| identical(g, w)) {
                failures.push(format!("{what} over symbols is {got:?}, not {want:?}"));
            }
        }
        Ok(failures)
    });
}

#[test]
fn expansions_equal_their_operations() {
    over_all(|case| {
        let (sample, mut failures) = (&case.sample, Vec::new());
        if !case.info.composite {
            return Ok(failures);
        }
        let whole = applied(&sample.op, &case.types())?;
        let parts = expanded(&whole)?;
        let types = |g: &graphc_ir::Graph| g.results().iter().map(|r| g.ty(*r).clone()).collect::<Vec<_>>();
        if types(&whole) != types(&parts) {
            failures.push(format!("expands to {:?} instead of {:?}", types(&parts), types(&whole)));
        }
        for (got, want) in eval(&parts, &sample.ins)?.iter().zip(eval(&whole, &sample.ins)?) {
            if !identical(got, &want) {
                failures.push(format!("expands to {got:?} instead of {want:?}"));
            }
        }
        let own = differentiate(&whole, &sample.wrt, 4)?;
        let derived = differentiate(&parts, &sample.wrt, 4)?;
        for (g, w) in eval(&own.gradient, &sample.ins)?.iter().zip(eval(&derived.gradient, &sample.ins)?) {
            let error = tensor_error(g, &w);
            if error > 1e-9 {
                failures.push(format!("its own gradient {g:?} is not that of its expansion {w:?} ({error})"));
            }
        }
        Ok(failures)
    });
}

/// In f32 an operation gives what it gives in f64, rounded: on the same operands, to 1e-6.
#[test]
fn f32_is_f64_rounded() {
    over_all(|case| {
        // A body has types of its own.
        if case.sample.op.has_bodies() {
            return Ok(Vec::new());
        }
        let narrow: Vec<Tensor> = case
            .sample
            .ins
            .iter()
            .map(|t| if t.dtype() == DType::F64 { t.cast(DType::F32) } else { t.clone() })
            .collect();
        let wide: Vec<Tensor> = narrow
            .iter()
            .map(|t| if t.dtype() == DType::F32 { t.cast(DType::F64) } else { t.clone() })
            .collect();
        let run = |ins: &[Tensor]| -> Result<Vec<Tensor>> {
            let types: Vec<_> = ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
            eval(&applied(&case.sample.op, &types)?, ins)
        };
        let mut failures = Vec::new();
        for (got, want) in run(&narrow)?.iter().zip(run(&wide)?) {
            let error = relative_l2(&got.to_f64(), &want.to_f64());
            if error > 1e-6 {
                failures.push(format!("{got:?} in f32 is not {want:?} ({error})"));
            }
        }
        Ok(failures)
    });
}

/// y = x * w * n over x in a storage type; n counts, w does not change.
fn counting_scan(storage: DType) -> Result<Op> {
    let mut b = Builder::new();
    let w = b.input(TensorType::fixed(storage, &[]))?;
    let n = b.input(TensorType::fixed(DType::I32, &[]))?;
    let x = b.input(TensorType::fixed(storage, &[]))?;
    let one = b.full_like(n, 1.0)?;
    let next = b.map(ScalarFn::Add, &[n, one])?;
    let (wide, times) = (b.cast(x, DType::F64)?, b.cast(n, DType::F64)?);
    let w = b.cast(w, DType::F64)?;
    let y = b.map(ScalarFn::Mul, &[wide, times])?;
    let y = b.map(ScalarFn::Mul, &[y, w])?;
    let body = Arc::new(b.finish(&[next, y])?);
    Ok(Scan { body, carries: 1, stacks: 1, reverse: false, length: 3usize.into(), recompute: false }.into())
}

/// Integer carries have no gradient, operands of a storage type have one.
#[test]
fn scans_of_several_types() {
    for storage in [DType::F64, DType::F16] {
        let op = counting_scan(storage).expect("the body is well typed");
        let ins = [
            Tensor::scalar(storage, graphc_ir::Scalar::F(0.5)),
            Tensor::from_slice(&[], &[2i32]),
            Tensor::from_slice(&[3], &[1.0, -2.0, 4.0]).cast(storage),
        ];
        let types: Vec<_> = ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
        let graph = applied(&op, &types).expect("the scan is well typed");
        let d = differentiate(&graph, &[0, 2], 5).expect("the float paths are differentiable");
        assert_eq!(d.reached, [true, true], "{storage}");
        let got = eval(&d.gradient, &ins).expect("it runs");
        let reference: Vec<f64> = if storage == DType::F64 {
            [0, 2].iter().flat_map(|i| central_differences(&d.value, &ins, *i).expect("it runs")).collect()
        } else {
            // Without products of its own, f16 can only round what f64 gives.
            let wide = ins.clone().map(|t| if t.dtype() == DType::F16 { t.cast(DType::F64) } else { t });
            let types: Vec<_> = wide.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
            let op = counting_scan(DType::F64).expect("the body is well typed");
            let d =
                differentiate(&applied(&op, &types).expect("well typed"), &[0, 2], 5).expect("it has one");
            eval(&d.gradient, &wide).expect("it runs").iter().flat_map(Tensor::to_f64).collect()
        };
        let got: Vec<f64> = got.iter().flat_map(Tensor::to_f64).collect();
        let error = relative_l2(&got, &reference);
        assert!(error < if storage == DType::F64 { 1e-6 } else { 2e-3 }, "{storage}: {got:?}, {reference:?}");
    }
}

#[test]
fn arg_reduce_of_nothing_is_an_error() {
    let op: Op = ArgReduce { kind: ArgKind::Max, axis: 0 }.into();
    let error = applied(&op, &[TensorType::fixed(DType::F64, &[0, 3])]).expect_err("there is no largest");
    assert!(error.to_string().contains("nothing"), "{error}");
    let symbolic = TensorType::parse("f64[B]").expect("it parses");
    let graph = applied(&op, &[symbolic]).expect("B may be positive");
    let mut binding = graphc_ir::Binding::new();
    let b = graphc_ir::dim::Symbol::new("B").expect("a name");
    binding.set(&b, 0, "the test").expect("0 is a size");
    let error = graph.bind(&binding).expect_err("B is 0");
    assert!(error.to_string().contains("nothing"), "{error}");
}
