//! The GPU where drivers differ: NaN, infinities and the largest numbers through every function and fold, sizes on both sides of
//! what kernels are cut by, integers that wrap. Without an adapter every test is skipped.

use graphc_gpu::{Class, GpuCaps};
use graphc_ir::error::Result;
use graphc_ir::scalar::Class as Kind;
use graphc_ir::wire::{DecodeOptions, decode};
use graphc_ir::{Builder, DType, Module, Scalar, ScalarFn, Tensor, TensorType, ValueId};
use graphc_tests::compare::ulps;
use graphc_tests::device::{Device, Reference};
use graphc_tests::gpu::{GpuDevice, adapter};
use graphc_tests::vectors::{FUNCTION, module_of};

/// Numbers that arithmetic treats in ways of their own, and ordinary ones. Drivers may flush subnormal ones.
const SPECIAL: [f32; 19] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -1.5,
    2.0,
    7.25,
    1e20,
    -1e20,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-30,
    1e30,
];

/// Outputs of a module, at most: what a shader binds is limited.
const OUTPUTS: usize = 24;

/// The adapter with its own kernels, and with those of a large card.
fn devices() -> Vec<GpuDevice> {
    let Some(gpu) = adapter() else { return Vec::new() };
    let card = GpuCaps { class: Class::Nvidia, busy: 4, ..gpu.caps().clone() };
    vec![GpuDevice::new(gpu), GpuDevice { caps: card, ..GpuDevice::new(gpu) }]
}

/// A function `main` from the nodes and so on of a file.
fn module(inputs: &str, nodes: &str, outputs: &str) -> Module {
    let text = format!(
        r#"{{"format": "graphc.module", "version": 1, "functions": {{"main": {{
            "inputs": [{inputs}], "nodes": [{nodes}], "outputs": {{{outputs}}}}}}}}}"#
    );
    decode(text.as_bytes(), &DecodeOptions::default()).unwrap_or_else(|e| panic!("{}: {text}", e[0]))
}

fn report(failures: &[String]) {
    let shown: Vec<&String> = failures.iter().take(40).collect();
    assert!(failures.is_empty(), "{} failures:\n{shown:#?}", failures.len());
}

/// Whether a number is what it should be, within units in the last place; zeros are one, and subnormals may be zero.
fn agrees(got: f64, want: f64, units: f64) -> bool {
    ulps(got, want, DType::F32) <= units
}

/// A named function of three values, and how many units it may be off; `None` if only NaN, infinities and signs count.
struct Case {
    name: String,
    value: ValueId,
    units: Option<f64>,
}

/// Runs the cases that a closure makes of three values, each of which takes all special numbers beside all others.
fn special(make: impl Fn(&mut Builder, [ValueId; 3]) -> Result<Vec<Case>>) -> Result<()> {
    let n = SPECIAL.len();
    let column = |f: &dyn Fn(usize) -> usize| {
        let values: Vec<f32> = (0..n * n).map(|i| SPECIAL[f(i)]).collect();
        Tensor::from_slice(&[n * n], &values)
    };
    let ins = [column(&|i| i / n), column(&|i| i % n), column(&|i| (i / n + 3 * i) % n)];
    let begin = || -> Result<(Builder, [ValueId; 3])> {
        let mut b = Builder::new();
        let ty = TensorType::fixed(DType::F32, &[n * n]);
        let inputs = [b.input(ty.clone())?, b.input(ty.clone())?, b.input(ty)?];
        Ok((b, inputs))
    };
    let (mut probe, inputs) = begin()?;
    let count = make(&mut probe, inputs)?.len();
    let mut failures = Vec::new();
    for device in devices().into_iter().take(1) {
        for first in (0..count).step_by(OUTPUTS) {
            let (mut b, inputs) = begin()?;
            let mut cases = make(&mut b, inputs)?;
            let cases: Vec<Case> = cases.drain(first..count.min(first + OUTPUTS)).collect();
            let results: Vec<ValueId> = cases.iter().map(|c| c.value).collect();
            let names = |n: usize, of: &str| (0..n).map(|i| format!("{of}{i}")).collect::<Vec<_>>();
            let module = module_of(b.finish(&results)?, names(3, "x"), names(results.len(), "y"));
            let want = Reference.run(&module, FUNCTION, &ins)?.outputs;
            let got = device.run(&module, FUNCTION, &ins)?.outputs;
            for ((case, got), want) in cases.iter().zip(&got).zip(&want) {
                let at = |t: &Tensor, i: usize| t.get(i).as_f64();
                let wrong = (0..n * n).find(|i| {
                    let (got, want) = (at(got, *i), at(want, *i));
                    let class = |x: f64| (x.is_nan(), x.is_infinite(), x.is_infinite() && x > 0.0);
                    // Values on the way are subnormal for the largest and smallest numbers alone.
                    let extreme = |x: f64| x.is_finite() && x != 0.0 && !(1e-36..1e36).contains(&x.abs());
                    match case.units {
                        Some(units) => !agrees(got, want, units),
                        None if extreme(at(&ins[0], *i)) || extreme(at(&ins[1], *i)) => false,
                        None => class(got) != class(want),
                    }
                });
                if let Some(i) = wrong {
                    failures.push(format!(
                        "{} of {}, {}, {}: {} for {}",
                        case.name,
                        at(&ins[0], i),
                        at(&ins[1], i),
                        at(&ins[2], i),
                        at(got, i),
                        at(want, i)
                    ));
                }
            }
        }
    }
    report(&failures);
    Ok(())
}

/// Every function of floats, by itself.
#[test]
fn every_function_of_special_numbers() -> Result<()> {
    special(|b, [x, y, _]| {
        let mut cases = Vec::new();
        // Angles are good up to 1e5; a power's units grow with its logarithm.
        let left_out = [ScalarFn::Sin, ScalarFn::Cos];
        for f in ScalarFn::ALL.iter().copied().filter(|f| !left_out.contains(f)) {
            let def = f.def();
            if !matches!(def.class, Kind::Float | Kind::Arith | Kind::Compare) {
                continue;
            }
            let value = b.map(f, &[x, y][..def.arity])?;
            let units = if def.ulp <= 0.5 { def.ulp } else { def.ulp.max(2.0) * 2.0 };
            cases.push(Case { name: f.name().into(), value, units: Some(units) });
        }
        Ok(cases)
    })
}

fn scalar(b: &mut Builder, value: f64) -> Result<ValueId> {
    b.constant(Tensor::scalar(DType::F32, Scalar::F(value)))
}

const UNARY: [ScalarFn; 10] = [
    ScalarFn::Neg,
    ScalarFn::Abs,
    ScalarFn::Sqrt,
    ScalarFn::Rsqrt,
    ScalarFn::Recip,
    ScalarFn::Relu,
    ScalarFn::Sign,
    ScalarFn::Floor,
    ScalarFn::Exp,
    ScalarFn::Log,
];
const BINARY: [ScalarFn; 6] =
    [ScalarFn::Add, ScalarFn::Sub, ScalarFn::Mul, ScalarFn::Div, ScalarFn::Max, ScalarFn::Min];
const COMPARE: [ScalarFn; 6] =
    [ScalarFn::Lt, ScalarFn::Le, ScalarFn::Gt, ScalarFn::Ge, ScalarFn::Eq, ScalarFn::Ne];

/// How far off functions of functions may be: not at all where each is the nearest number.
fn units(functions: &[ScalarFn]) -> Option<f64> {
    let near = |f: &ScalarFn| f.def().ulp <= 0.5;
    functions.iter().all(near).then_some(0.0)
}

/// Arithmetic of arithmetic: drivers simplify it with rules of real numbers.
#[test]
fn functions_of_functions_of_special_numbers() -> Result<()> {
    special(|b, [x, y, _]| {
        let mut cases = Vec::new();
        let mut add = |name: String, value: ValueId, of: &[ScalarFn]| {
            cases.push(Case { name, value, units: units(of) });
        };
        for f in BINARY {
            let of_both = b.map(f, &[x, y])?;
            let twice = b.map(f, &[x, x])?;
            add(format!("{f:?}(x, x)"), twice, &[f]);
            for number in [0.0, 1.0, -1.0, 2.0] {
                let c = scalar(b, number)?;
                let (left, right) = (b.map(f, &[c, x])?, b.map(f, &[x, c])?);
                add(format!("{f:?}({number}, x)"), left, &[f]);
                add(format!("{f:?}(x, {number})"), right, &[f]);
            }
            for g in BINARY {
                for (name, ins) in [("f, x", [of_both, x]), ("x, f", [x, of_both]), ("f, y", [of_both, y])] {
                    let value = b.map(g, &ins)?;
                    add(format!("{g:?}({name}) for f = {f:?}(x, y)"), value, &[f, g]);
                }
            }
        }
        for f in UNARY {
            let of_x = b.map(f, &[x])?;
            for g in UNARY {
                let value = b.map(g, &[of_x])?;
                add(format!("{g:?}({f:?}(x))"), value, &[f, g]);
            }
            for g in BINARY {
                for (name, ins) in [("f, x", [of_x, x]), ("x, f", [x, of_x]), ("f, f", [of_x, of_x])] {
                    let value = b.map(g, &ins)?;
                    add(format!("{g:?}({name}) for f = {f:?}(x)"), value, &[f, g]);
                }
            }
        }
        Ok(cases)
    })
}

/// Comparisons and what is made of them: with NaN, the opposite of less is not greater or equal.
#[test]
fn comparisons_of_special_numbers() -> Result<()> {
    special(|b, [x, y, z]| {
        let mut cases = Vec::new();
        for c in COMPARE {
            let mut add = |name: &str, value: ValueId| {
                cases.push(Case { name: format!("{name} for c = {c:?}"), value, units: Some(0.0) });
            };
            let (of_both, of_third, of_one) = (b.map(c, &[x, y])?, b.map(c, &[x, z])?, b.map(c, &[x, x])?);
            add("c(x, x)", of_one);
            add("not c(x, y)", b.map(ScalarFn::Not, &[of_both])?);
            for (name, f) in [("and", ScalarFn::And), ("or", ScalarFn::Or), ("xor", ScalarFn::Xor)] {
                add(&format!("c(x, y) {name} c(x, z)"), b.map(f, &[of_both, of_third])?);
            }
            add("c(x, y) ? x : y", b.map(ScalarFn::Select, &[of_both, x, y])?);
            add("c(x, y) ? y : x", b.map(ScalarFn::Select, &[of_both, y, x])?);
            let number = b.op1(graphc_ir::ops::Cast { to: DType::F32 }, &[of_both])?;
            let one = scalar(b, 1.0)?;
            add("1 - c(x, y)", b.map(ScalarFn::Sub, &[one, number])?);
            let yes = b.constant(Tensor::scalar(DType::Bool, Scalar::B(true)))?;
            add("c(x, y) != true", b.map(ScalarFn::Ne, &[of_both, yes])?);
            for f in [ScalarFn::Add, ScalarFn::Sub, ScalarFn::Mul] {
                let value = b.map(f, &[x, y])?;
                add(&format!("c({f:?}(x, y), x)"), b.map(c, &[value, x])?);
            }
        }
        Ok(cases)
    })
}

/// Rows of so many elements: ordinary ones, equal ones, and some with special numbers at their beginning, middle and end.
fn rows(size: usize) -> Vec<Vec<f32>> {
    let plain: Vec<f32> = (0..size).map(|i| ((i * 7919 + 13) % 31) as f32 / 8.0 - 1.5).collect();
    let mut rows = vec![plain.clone(), vec![10_000.3; size], vec![-0.0; size], vec![f32::MAX]];
    rows[3].resize(size, 0.0);
    rows.push(vec![1e25; size]);
    rows.push(vec![f32::NEG_INFINITY; size]);
    for place in [0, size / 2, size.saturating_sub(1)] {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = plain.clone();
            if let Some(x) = row.get_mut(place) {
                *x = number;
            }
            rows.push(row);
        }
    }
    let mut both = plain;
    if let [first, .., last] = &mut both[..] {
        (*first, *last) = (f32::INFINITY, f32::NEG_INFINITY);
    }
    rows.push(both);
    rows
}

/// Sizes on both sides of what rows and columns are shared out by: vectors, warps, lanes of a workgroup, what lanes keep.
const SIZES: [usize; 4] = [1, 33, 257, 1028];

/// Folds, softmax and normalization along rows and down columns.
#[test]
fn folds_of_special_numbers() -> Result<()> {
    let mut failures = Vec::new();
    for device in devices() {
        for size in SIZES {
            let rows = rows(size);
            let flat: Vec<f32> = rows.iter().flatten().copied().collect();
            let x = Tensor::from_slice(&[rows.len(), size], &flat);
            let turned: Vec<f32> =
                (0..flat.len()).map(|i| flat[i % rows.len() * size + i / rows.len()]).collect();
            let turned = Tensor::from_slice(&[size, rows.len()], &turned);
            for (axis, x) in [(1, x), (0, turned)] {
                let ty = format!("f32[{},{}]", x.shape()[0], x.shape()[1]);
                let mut nodes = Vec::new();
                for kind in ["sum", "max", "min"] {
                    nodes.push(format!(
                        r#"{{"id": "{kind}", "op": "reduce", "in": ["x"], "attrs": {{"kind": "{kind}", "axes": [{axis}]}}}}"#
                    ));
                }
                let mut outputs: Vec<String> =
                    ["sum", "max", "min"].iter().map(|k| format!(r#""{k}": "{k}""#)).collect();
                for op in ["softmax", "log_softmax"] {
                    nodes.push(format!(
                        r#"{{"id": "{op}", "op": "{op}", "in": ["x"], "attrs": {{"axis": {axis}}}}}"#
                    ));
                    outputs.push(format!(r#""{op}": "{op}""#));
                }
                nodes.push(format!(
                    r#"{{"id": "m", "op": "moments", "in": ["x"], "attrs": {{"axes": [{axis}]}}}}"#
                ));
                outputs.push(r#""mu": "m", "var": "m#1""#.into());
                if axis == 1 {
                    nodes.push(r#"{"id": "norm", "op": "layer_norm", "in": ["x"]}"#.into());
                    outputs.push(r#""norm": "norm""#.into());
                }
                let module = module(
                    &format!(r#"{{"name": "x", "type": "{ty}"}}"#),
                    &nodes.join(", "),
                    &outputs.join(", "),
                );
                let ins = [x.clone()];
                let want = Reference.run(&module, FUNCTION, &ins)?.outputs;
                let got = device.run(&module, FUNCTION, &ins)?.outputs;
                let names = &module.functions[FUNCTION].outputs;
                for ((got, want), name) in got.iter().zip(&want).zip(names) {
                    let per_row = got.len() > rows.len();
                    for i in 0..got.len() {
                        let row = match (per_row, axis) {
                            (true, 1) => i / size,
                            (true, _) => i % rows.len(),
                            _ => i,
                        };
                        let (got, want) = (got.get(i).as_f64(), want.get(i).as_f64());
                        // What rounding leaves of sums grows with their terms.
                        let most =
                            rows[row].iter().filter(|x| x.is_finite()).fold(1.0, |m, x| x.abs().max(m));
                        let scale = if per_row { 8.0 } else { f64::from(most) };
                        let scale = if name.name == "var" { scale * scale * 1e-3 + 1.0 } else { scale };
                        let near = (got - want).abs() <= 2e-6 * scale.max(want.abs());
                        if got != want && !near && !(got.is_nan() && want.is_nan()) {
                            failures.push(format!(
                                "{:?}: {} of row {row} of {size}, axis {axis}: {got} for {want}",
                                device.caps.class, name.name
                            ));
                            break;
                        }
                    }
                }
            }
        }
    }
    report(&failures);
    Ok(())
}

/// Layer normalization of equal elements is 0, whatever they are and however many; so it is where rows are cut.
#[test]
fn equal_elements_normalize_to_zero() -> Result<()> {
    for device in devices() {
        let cut = GpuDevice { caps: GpuCaps { turns: Some(150), ..device.caps.clone() }, ..device.clone() };
        for (device, size) in [(&device, 7), (&device, 768), (&device, 20_003), (&cut, 20_003)] {
            let values = [10_000.3f32, -3.3e-5, 1e25, 0.1];
            let flat: Vec<f32> = (0..4 * size).map(|i| values[i / size]).collect();
            let x = Tensor::from_slice(&[4, size], &flat);
            let module = module(
                &format!(r#"{{"name": "x", "type": "f32[4,{size}]"}}"#),
                r#"{"id": "y", "op": "layer_norm", "in": ["x"]}, {"id": "m", "op": "moments", "in": ["x"], "attrs": {"axes": [1]}}"#,
                r#""y": "y", "m": "m""#,
            );
            let got = device.run(&module, FUNCTION, &[x])?.outputs;
            let wrong = got[0].to_f64().into_iter().find(|y| *y != 0.0);
            assert_eq!(wrong, None, "{size} elements, {:?}, {:?}", device.caps.class, device.caps.turns);
            assert_eq!(got[1].to_f64(), values.map(f64::from), "{size} elements");
        }
    }
    Ok(())
}

/// Remainders are exact for any quotient.
#[test]
fn remainders_of_large_quotients() -> Result<()> {
    let mut pairs: Vec<(f32, f32)> = vec![(f32::MAX, 1.0), (1e30, 1e-10), (1e10, 1e-29), (1e10, 3.0)];
    let mut bits = 0x1234_5678u32;
    let mut next = || {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(bits)
    };
    while pairs.len() < 4000 {
        let (a, b) = (next(), next());
        if a.is_normal() && b.is_normal() {
            pairs.push((a, b));
        }
    }
    let column = |f: fn(&(f32, f32)) -> f32| {
        Tensor::from_slice(&[pairs.len()], &pairs.iter().map(f).collect::<Vec<_>>())
    };
    let ins = [column(|p| p.0), column(|p| p.1)];
    let n = pairs.len();
    let module = module(
        &format!(r#"{{"name": "a", "type": "f32[{n}]"}}, {{"name": "b", "type": "f32[{n}]"}}"#),
        r#"{"id": "y", "op": "rem", "in": ["a", "b"]}"#,
        r#""y": "y""#,
    );
    for device in devices().into_iter().take(1) {
        let got = device.run(&module, FUNCTION, &ins)?.outputs[0].to_f64();
        for ((a, b), got) in pairs.iter().zip(got) {
            let want = f64::from(a % b);
            assert!(agrees(got, want, 0.0), "{a} % {b}: {got} for {want}");
        }
    }
    Ok(())
}

/// Sums by index wrap in the type of their elements, and those of 64 bits are refused.
#[test]
fn sums_by_index_wrap() -> Result<()> {
    let scatter = |dtype: DType| {
        let ty = |n: usize| format!("{dtype}[{n}]");
        module(
            &format!(
                r#"{{"name": "b", "type": "{}"}}, {{"name": "i", "type": "i32[3]"}}, {{"name": "u", "type": "{}"}}"#,
                ty(2),
                ty(3)
            ),
            r#"{"id": "y", "op": "scatter_add", "in": ["b", "i", "u"], "attrs": {"axis": 0}},
               {"id": "z", "op": "cast", "in": ["y"], "attrs": {"to": "f32"}}"#,
            r#""y": "y", "z": "z""#,
        )
    };
    for device in devices().into_iter().take(1) {
        let types = [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32];
        for dtype in types {
            let most = dtype.int_range().1;
            let full = |n: usize, value: i128| Tensor::full(dtype, &[n], Scalar::I(value));
            let ins = [full(2, most), Tensor::from_slice(&[3], &[0i32, 1, 0]), full(3, most - 1)];
            let module = scatter(dtype);
            let want = Reference.run(&module, FUNCTION, &ins)?.outputs;
            let got = device.run(&module, FUNCTION, &ins)?.outputs;
            assert_eq!(got[0], want[0], "{dtype}");
            assert!(agrees(got[1].get(0).as_f64(), want[1].get(0).as_f64(), 1.0), "{dtype}");
        }
        for dtype in [DType::I64, DType::U64] {
            let ins =
                [Tensor::zeros(dtype, &[2]), Tensor::zeros(DType::I32, &[3]), Tensor::zeros(dtype, &[3])];
            let error = device.run(&scatter(dtype), FUNCTION, &ins).expect_err("it is refused").to_string();
            assert!(error.contains("may not fit the 32 bits"), "{error}");
        }
        // Of nothing the extreme is that of 64 bits.
        let module = module(
            r#"{"name": "x", "type": "i64[0,2]"}"#,
            r#"{"id": "y", "op": "reduce", "in": ["x"], "attrs": {"kind": "max", "axes": [0]}}"#,
            r#""y": "y""#,
        );
        let outcome = device.run(&module, FUNCTION, &[Tensor::zeros(DType::I64, &[0, 2])]);
        if let Ok(found) = outcome {
            assert_eq!(found.outputs[0].to_f64(), [i64::MIN as f64; 2]);
        }
    }
    Ok(())
}
