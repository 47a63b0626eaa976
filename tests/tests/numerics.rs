//! The numerics contract at its edges: integer arithmetic, casts, reductions of nothing, kinks and ties.

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    ArgKind, ArgReduce, Cast, CrossEntropy, Dot, Elu, HardTanh, LeakyRelu, LogSoftmax, Map, Moments, Mse,
    Reduce, ReduceKind, Reduction, Softmax,
};
use graphc_ir::{Builder, DType, Op, Scalar, ScalarFn, Tensor, TensorType, autodiff};
use graphc_tests::compare::identical;
use graphc_tests::registry::{applied, eval};

fn run(op: impl Into<Op>, ins: &[Tensor]) -> Result<Vec<Tensor>> {
    let types: Vec<_> = ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape())).collect();
    eval(&applied(&op.into(), &types)?, ins)
}

fn run1(op: impl Into<Op>, ins: &[Tensor]) -> Tensor {
    run(op, ins).expect("it runs").remove(0)
}

fn ints(dtype: DType, values: &[i128]) -> Tensor {
    Tensor::from_fn(dtype, &[values.len()], |i| Scalar::I(values[i]))
}

fn reals(values: &[f64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

const INTEGERS: [DType; 8] =
    [DType::I64, DType::I32, DType::I16, DType::I8, DType::U64, DType::U32, DType::U16, DType::U8];

/// f(a, b) = c, element by element, in a type.
fn check(f: ScalarFn, dtype: DType, rows: &[(i128, i128, i128)]) {
    let column = |k: fn(&(i128, i128, i128)) -> i128| ints(dtype, &rows.iter().map(k).collect::<Vec<_>>());
    let got = run1(Map { f }, &[column(|r| r.0), column(|r| r.1)]);
    assert_eq!(got, column(|r| r.2), "{} of {dtype}: {rows:?}", f.name());
}

#[test]
fn integer_division() {
    for t in INTEGERS {
        let (min, max) = t.int_range();
        check(ScalarFn::Div, t, &[(7, 2, 3), (7, 0, 0), (0, 0, 0), (max, 0, 0), (min, 0, 0), (max, 1, max)]);
        check(ScalarFn::Rem, t, &[(7, 2, 1), (7, 0, 0), (0, 0, 0), (max, 0, 0), (min, 0, 0)]);
        if t.is_signed_int() {
            check(ScalarFn::Div, t, &[(min, -1, min), (-7, 2, -3), (7, -2, -3), (-7, -2, 3)]);
            check(ScalarFn::Rem, t, &[(min, -1, 0), (-7, 2, -1), (7, -2, 1), (-7, -2, -1)]);
        }
    }
}

#[test]
fn integer_arithmetic_wraps() {
    for t in INTEGERS {
        let (min, max) = t.int_range();
        check(ScalarFn::Add, t, &[(max, 1, min), (max, max, if t.is_signed_int() { -2 } else { max - 1 })]);
        check(ScalarFn::Sub, t, &[(min, 1, max)]);
        check(ScalarFn::Mul, t, &[(max, 2, if t.is_signed_int() { -2 } else { max - 1 })]);
        assert_eq!(run1(Map { f: ScalarFn::Neg }, &[ints(t, &[min])]), ints(t, &[min]));
        assert_eq!(run1(Map { f: ScalarFn::Abs }, &[ints(t, &[min])]), ints(t, &[min]));
        assert_eq!(run1(Map { f: ScalarFn::Not }, &[ints(t, &[max])]), ints(t, &[min]));
    }
}

#[test]
fn shifts_outside_the_width_give_zero() {
    for t in INTEGERS {
        let (min, max) = t.int_range();
        let bits = i128::from(t.bits());
        check(ScalarFn::Shl, t, &[(1, bits, 0), (1, bits - 1, if min < 0 { min } else { max / 2 + 1 })]);
        check(ScalarFn::Shr, t, &[(max, bits, 0), (max, 1, max / 2), (max, bits - 1, i128::from(min == 0))]);
        if t.is_signed_int() {
            check(ScalarFn::Shl, t, &[(1, -1, 0)]);
            check(ScalarFn::Shr, t, &[(-8, 1, -4), (-1, bits - 1, -1), (-1, bits, 0), (max, -1, 0)]);
        }
    }
}

#[test]
fn booleans_have_logic_and_no_arithmetic() {
    let bools = |v: &[bool]| Tensor::from_fn(DType::Bool, &[v.len()], |i| Scalar::B(v[i]));
    let (a, b) = (bools(&[false, false, true, true]), bools(&[false, true, false, true]));
    let table = [
        (ScalarFn::And, [false, false, false, true]),
        (ScalarFn::Or, [false, true, true, true]),
        (ScalarFn::Xor, [false, true, true, false]),
        (ScalarFn::Eq, [true, false, false, true]),
        (ScalarFn::Lt, [false, true, false, false]),
    ];
    for (f, want) in table {
        assert_eq!(run1(Map { f }, &[a.clone(), b.clone()]), bools(&want), "{}", f.name());
    }
    assert_eq!(run1(Map { f: ScalarFn::Not }, std::slice::from_ref(&a)), bools(&[true, true, false, false]));
    for f in [ScalarFn::Add, ScalarFn::Mul, ScalarFn::Max, ScalarFn::Div, ScalarFn::Shl] {
        let message =
            run(Map { f }, &[a.clone(), b.clone()]).expect_err("bool has no arithmetic").to_string();
        assert!(message.contains("add a cast"), "{message}");
    }
    let message = run(Dot {}, &[Tensor::zeros(DType::I32, &[1, 1]), Tensor::zeros(DType::F32, &[1, 1])])
        .expect_err("types differ")
        .to_string();
    assert!(message.contains("add a cast"), "{message}");
}

#[test]
fn casts_truncate_saturate_and_wrap() {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e20, -1e20, 2.9, -2.9, -0.5];
    for t in INTEGERS {
        let (min, max) = t.int_range();
        let clamp = |v: i128| v.clamp(min, max);
        let big = 100_000_000_000_000_000_000;
        let want = [0, max, min, clamp(big), clamp(-big), 2, clamp(-2), 0];
        assert_eq!(run1(Cast { to: t }, &[reals(&values)]), ints(t, &want), "{t}");
    }
    assert_eq!(
        run1(Cast { to: DType::I8 }, &[ints(DType::I32, &[200, -200, 256])]),
        ints(DType::I8, &[-56, 56, 0])
    );
    assert_eq!(run1(Cast { to: DType::U8 }, &[ints(DType::I64, &[-1, 257])]), ints(DType::U8, &[255, 1]));
    let truth = run1(Cast { to: DType::Bool }, &[reals(&[0.0, -0.0, 1e-300, f64::NAN])]);
    assert_eq!(truth.bytes(), [0, 0, 1, 1]);
    let narrow = run1(Cast { to: DType::F32 }, &[reals(&[1e39, -1e39, f64::NAN, 1e-50])]).to_f64();
    assert_eq!(narrow[..2], [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(narrow[2].is_nan() && narrow[3] == 0.0);
    let half = run1(Cast { to: DType::F16 }, &[reals(&[65504.0, 65520.0, 1.0 + 2f64.powi(-11)])]).to_f64();
    assert_eq!(half, [65504.0, f64::INFINITY, 1.0]);
}

#[test]
fn reductions_of_nothing_are_their_identity() {
    let identities = [
        (ReduceKind::Sum, 0.0, Some(0)),
        (ReduceKind::Prod, 1.0, Some(1)),
        (ReduceKind::Max, f64::NEG_INFINITY, None),
        (ReduceKind::Min, f64::INFINITY, None),
    ];
    for (kind, float, int) in identities {
        for t in [DType::F64, DType::F32] {
            let got = run1(Reduce { kind, axes: vec![0] }, &[Tensor::zeros(t, &[0, 3])]);
            assert_eq!(got, Tensor::full(t, &[3], Scalar::F(float)), "{kind:?} of {t}");
        }
        for t in INTEGERS {
            let (min, max) = t.int_range();
            let want = int.unwrap_or(if kind == ReduceKind::Max { min } else { max });
            let got = run1(Reduce { kind, axes: vec![1] }, &[Tensor::zeros(t, &[2, 0])]);
            assert_eq!(got, Tensor::full(t, &[2], Scalar::I(want)), "{kind:?} of {t}");
        }
    }
}

#[test]
fn sizes_of_zero_are_defined() {
    let empty = |shape: &[usize]| Tensor::zeros(DType::F64, shape);
    assert_eq!(run1(Dot {}, &[empty(&[2, 0]), empty(&[0, 3])]), empty(&[2, 3]));
    assert_eq!(run1(Dot {}, &[empty(&[0, 2]), empty(&[2, 3])]), empty(&[0, 3]));
    let stats = run(Moments { axes: vec![0] }, &[empty(&[0, 2])]).expect("they are NaN");
    assert!(stats.iter().all(|t| t.shape() == [2] && t.to_f64().iter().all(|v| v.is_nan())));
    for (reduction, nan) in [(Reduction::Mean, true), (Reduction::Sum, false)] {
        let mse = run1(Mse { reduction }, &[empty(&[0]), empty(&[0])]).to_f64()[0];
        let labels = Tensor::zeros(DType::I64, &[0]);
        let loss = run1(CrossEntropy { reduction }, &[empty(&[0, 5]), labels]).to_f64()[0];
        assert!(if nan { mse.is_nan() && loss.is_nan() } else { mse == 0.0 && loss == 0.0 }, "{reduction:?}");
    }
    for kind in [ArgKind::Max, ArgKind::Min] {
        let message =
            run(ArgReduce { kind, axis: 0 }, &[empty(&[0, 2])]).expect_err("nothing is largest").to_string();
        assert!(message.contains("nothing"), "{message}");
        assert_eq!(run1(ArgReduce { kind, axis: 1 }, &[empty(&[0, 2])]), Tensor::zeros(DType::I64, &[0]));
    }
    assert_eq!(run1(Softmax { axis: 0 }, &[empty(&[0, 2])]), empty(&[0, 2]));
}

#[test]
fn extremes_of_nan_and_ties() {
    let nan = f64::NAN;
    let x = Tensor::from_slice(&[4, 3], &[1.0, nan, 3.0, 2.0, 2.0, 1.0, 0.0, -0.0, -0.0, nan, nan, 0.0]);
    let arg = |kind| run1(ArgReduce { kind, axis: 1 }, std::slice::from_ref(&x)).to_f64();
    assert_eq!(arg(ArgKind::Max), [1.0, 0.0, 0.0, 0.0], "the first largest, the first NaN");
    assert_eq!(arg(ArgKind::Min), [1.0, 2.0, 0.0, 0.0]);
    let largest = run1(Reduce { kind: ReduceKind::Max, axes: vec![1] }, std::slice::from_ref(&x)).to_f64();
    assert!(largest[0].is_nan() && largest[1] == 2.0 && largest[2].is_sign_positive() && largest[3].is_nan());
    let smallest = run1(Reduce { kind: ReduceKind::Min, axes: vec![1] }, &[x]).to_f64();
    assert!(smallest[0].is_nan() && smallest[1] == 1.0 && smallest[2].is_sign_negative());
    let zeros = [reals(&[0.0, -0.0]), reals(&[-0.0, 0.0])];
    assert!(identical(&run1(Map { f: ScalarFn::Max }, &zeros), &reals(&[0.0, 0.0])));
    assert!(identical(&run1(Map { f: ScalarFn::Min }, &zeros), &reals(&[-0.0, -0.0])));
}

#[test]
fn non_finite_operands_follow_ieee() {
    let unary = |f, x: f64| run1(Map { f }, &[reals(&[x])]).to_f64()[0];
    assert_eq!(unary(ScalarFn::Log, 0.0), f64::NEG_INFINITY);
    assert!(unary(ScalarFn::Sqrt, -1.0).is_nan());
    assert_eq!(unary(ScalarFn::Recip, -0.0), f64::NEG_INFINITY);
    assert!(run1(Map { f: ScalarFn::Div }, &[reals(&[0.0]), reals(&[0.0])]).to_f64()[0].is_nan());
    let below = reals(&[f64::NEG_INFINITY; 2]);
    assert!(run1(Softmax { axis: 0 }, std::slice::from_ref(&below)).to_f64().iter().all(|v| v.is_nan()));
    assert!(run1(LogSoftmax { axis: 0 }, &[below]).to_f64().iter().all(|v| v.is_nan()));
    let one_below = run1(Softmax { axis: 0 }, &[reals(&[f64::NEG_INFINITY, 1.0])]).to_f64();
    assert_eq!(one_below, [0.0, 1.0]);
}

/// Derivatives by each operand, with ones upstream.
fn slopes(op: impl Into<Op>, ins: &[Tensor]) -> Vec<Vec<f64>> {
    let build = || -> Result<Vec<Tensor>> {
        let mut b = Builder::new();
        let args = ins
            .iter()
            .map(|t| b.input(TensorType::fixed(t.dtype(), t.shape())))
            .collect::<Result<Vec<_>>>()?;
        let y = b.op1(op.into(), &args)?;
        let one = b.full_like(y, 1.0)?;
        let mut grads = Vec::new();
        for (g, x) in autodiff::backward(&mut b, &[(y, one)], &args)?.into_iter().zip(&args) {
            grads.push(match g {
                Some(g) => g,
                None => b.zeros_like(*x)?,
            });
        }
        eval(&b.finish(&grads)?, ins)
    };
    build().expect("it is differentiable").iter().map(Tensor::to_f64).collect()
}

#[test]
fn kinks_and_ties_have_the_documented_derivative() {
    let kink = |f, x: f64| slopes(Map { f }, &[reals(&[x])])[0][0];
    for f in [ScalarFn::Relu, ScalarFn::Abs, ScalarFn::Sign, ScalarFn::Floor, ScalarFn::Round] {
        assert_eq!(kink(f, 0.0), 0.0, "{}", f.name());
        assert_eq!(kink(f, -0.0), 0.0, "{}", f.name());
    }
    for f in [ScalarFn::Max, ScalarFn::Min] {
        let got = slopes(Map { f }, &[reals(&[1.0, 0.0, 2.0]), reals(&[1.0, -0.0, 3.0])]);
        let larger = f64::from(u8::from(f == ScalarFn::Max));
        assert_eq!(got, [[0.5, 0.5, 1.0 - larger], [0.5, 0.5, larger]], "{}", f.name());
    }
    for kind in [ReduceKind::Max, ReduceKind::Min] {
        let sign = if kind == ReduceKind::Max { 1.0 } else { -1.0 };
        let x = reals(&[3.0 * sign, 1.0, 3.0 * sign]);
        assert_eq!(slopes(Reduce { kind, axes: vec![0] }, &[x]), [[0.5, 0.0, 0.5]], "{kind:?}");
    }
    let clip = HardTanh { lo: Real(-1.0), hi: Real(1.0) };
    assert_eq!(slopes(clip, &[reals(&[-1.0, 1.0, 0.5, -2.0])]), [[0.0, 0.0, 1.0, 0.0]]);
    assert_eq!(slopes(LeakyRelu { slope: Real(0.1) }, &[reals(&[0.0, 1.0])]), [[0.1, 1.0]]);
    assert_eq!(slopes(Elu { alpha: Real(0.5) }, &[reals(&[0.0, 1000.0])]), [[0.5, 1.0]]);
    let product = slopes(
        Reduce { kind: ReduceKind::Prod, axes: vec![0] },
        &[Tensor::from_slice(&[3, 3], &[2.0, 0.0, 0.0, 3.0, 5.0, 0.0, 4.0, 7.0, 6.0])],
    );
    assert_eq!(product, [[12.0, 35.0, 0.0, 8.0, 0.0, 0.0, 6.0, 0.0, 0.0]]);
    // All factors together are out of range, the others of each are not.
    let rows = Tensor::from_slice(&[2, 3], &[1e30f32, 1e20, 1e-15, 1e-30, -1e-20, 1e10]);
    let product = slopes(Reduce { kind: ReduceKind::Prod, axes: vec![1] }, &[rows]).remove(0);
    let want = [1e5, 1e15, f64::INFINITY, -1e-10, 1e-20, 0.0];
    let near = |(g, w): (&f64, &f64)| g == w || (g - w).abs() <= 1e-6 * w.abs();
    assert!(product.iter().zip(&want).all(near), "{product:?}");
    // Mantissas on one side of 1 leave the range if there are many: 300 of 0.7, and 150 of 1.4 with 150 of 0.7.
    for rows in [[0.7f32; 2], [1.4, 0.7]] {
        let factors: Vec<f32> = rows.into_iter().cycle().take(300).collect();
        let product: f64 = factors.iter().map(|x| f64::from(*x)).product();
        let got =
            slopes(Reduce { kind: ReduceKind::Prod, axes: vec![0] }, &[Tensor::from_slice(&[300], &factors)]);
        for (g, x) in got[0].iter().zip(&factors) {
            let want = product / f64::from(*x);
            assert!((g - want).abs() <= 1e-5 * want + 1e-37, "{g:e} for {want:e}");
        }
    }
}

#[test]
fn powers_at_zero() {
    let got = slopes(Map { f: ScalarFn::Pow }, &[reals(&[0.0, 0.0, 0.0]), reals(&[2.0, 1.0, 0.0])]);
    assert_eq!(got, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]);
    assert_eq!(slopes(Map { f: ScalarFn::Pow }, &[reals(&[0.0]), reals(&[0.5])])[0], [f64::INFINITY]);
    assert_eq!(slopes(Map { f: ScalarFn::Sqrt }, &[reals(&[0.0])])[0], [f64::INFINITY]);
}

#[test]
fn labels_and_indices_are_checked() {
    let logits = Tensor::zeros(DType::F64, &[2, 3]);
    for (bad, dtype) in [(3, DType::I64), (-1, DType::I64), (-1, DType::I8), (255, DType::U8)] {
        let op = CrossEntropy { reduction: Reduction::Sum };
        let labels = ints(dtype, &[0, bad]);
        let message = run(op, &[logits.clone(), labels]).expect_err("the label is out of range").to_string();
        assert!(message.contains("label"), "{message}");
    }
    for bad in [3, -1, i128::from(i32::MIN)] {
        let x = Tensor::zeros(DType::F32, &[3, 2]);
        let idx = ints(DType::I32, &[0, bad]);
        let gather = run(graphc_ir::ops::Gather { axis: 0 }, &[x.clone(), idx.clone()]);
        let updates = Tensor::zeros(DType::F32, &[2, 2]);
        let scatter = run(graphc_ir::ops::ScatterAdd { axis: 0 }, &[x, idx, updates]);
        for outcome in [gather, scatter] {
            let message = outcome.expect_err("the index is out of range").to_string();
            assert!(message.contains(&format!("index {bad}")), "{message}");
        }
    }
}
