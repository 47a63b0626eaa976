//! Long loops on the GPU: drivers that end loops without a word are never asked for more turns than they do. Without an
//! adapter every test is skipped.

use graphc_gpu::{Class, GpuCaps};
use graphc_ir::error::Result;
use graphc_ir::wire::{DecodeOptions, decode};
use graphc_ir::{DType, Module, Scalar, Tensor};
use graphc_tests::device::{Device, Reference};
use graphc_tests::gpu::{GpuDevice, adapter};

const FUNCTION: &str = "main";

/// A function of inputs of these names and types, of ones or, where the type is of integers, zeros.
struct Long {
    name: String,
    module: Module,
    ins: Vec<Tensor>,
    /// What every element of every result is.
    want: Vec<f64>,
}

fn long(name: &str, inputs: &[(&str, DType, &[usize])], nodes: &str, outputs: &str, want: &[f64]) -> Long {
    let declared = inputs.iter().map(|(input, dtype, shape)| {
        let dims = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        format!(r#"{{"name": "{input}", "type": "{dtype}[{dims}]"}}"#)
    });
    let text = format!(
        r#"{{"format": "graphc.module", "version": 1, "functions": {{"main": {{
            "inputs": [{}], "nodes": [{nodes}], "outputs": {{{outputs}}}}}}}}}"#,
        declared.collect::<Vec<_>>().join(", ")
    );
    let module =
        decode(text.as_bytes(), &DecodeOptions::default()).unwrap_or_else(|e| panic!("{}: {text}", e[0]));
    let fill = |dtype: DType| if dtype.is_float() { Scalar::F(1.0) } else { Scalar::I(0) };
    let ins = inputs.iter().map(|(_, dtype, shape)| Tensor::full(*dtype, shape, fill(*dtype))).collect();
    Long { name: name.into(), module, ins, want: want.to_vec() }
}

/// Every kind of work whose loops grow with `n`, on ones.
fn kinds(n: usize) -> Vec<Long> {
    use DType::{F32, I32};
    let count = n as f64;
    vec![
        long(
            "dot",
            &[("a", F32, &[1, n]), ("b", F32, &[n, 1])],
            r#"{"id": "d", "op": "dot", "in": ["a", "b"]}, {"id": "y", "op": "add", "in": ["d", 1.0]}"#,
            r#""y": "y""#,
            &[count + 1.0],
        ),
        long(
            "scatter_add",
            &[("b", F32, &[2]), ("i", I32, &[n]), ("u", F32, &[n])],
            r#"{"id": "y", "op": "scatter_add", "in": ["b", "i", "u"], "attrs": {"axis": 0}},
               {"id": "z", "op": "slice", "in": ["y"], "attrs": {"starts": [0], "limits": [1]}}"#,
            r#""z": "z""#,
            &[count + 1.0],
        ),
        long(
            "conv over channels",
            &[("x", F32, &[1, n, 1]), ("w", F32, &[1, n, 1])],
            r#"{"id": "y", "op": "conv", "in": ["x", "w"]}"#,
            r#""y": "y""#,
            &[count],
        ),
        long(
            "conv over a window",
            &[("x", F32, &[1, 1, n + 1]), ("w", F32, &[1, 1, n])],
            r#"{"id": "y", "op": "conv", "in": ["x", "w"]}"#,
            r#""y": "y""#,
            &[count],
        ),
        long(
            "the gradient of an image over filters",
            &[("g", F32, &[1, n, 1]), ("w", F32, &[n, 1, 1])],
            r#"{"id": "y", "op": "conv_input_grad", "in": ["g", "w"], "attrs": {"size": [1]}}"#,
            r#""y": "y""#,
            &[count],
        ),
        long(
            "the gradient of filters",
            &[("x", F32, &[1, 1, n]), ("g", F32, &[1, 1, n])],
            r#"{"id": "y", "op": "conv_filter_grad", "in": ["x", "g"], "attrs": {"kernel": [1]}}"#,
            r#""y": "y""#,
            &[count],
        ),
        long(
            "avg_pool",
            &[("x", F32, &[1, 1, n + 1])],
            &format!(
                r#"{{"id": "y", "op": "avg_pool", "in": ["x"], "attrs": {{"kernel": [{n}], "strides": [1]}}}}"#
            ),
            r#""y": "y""#,
            &[1.0],
        ),
    ]
}

fn check(device: &GpuDevice, long: &Long) -> Result<()> {
    let got = device.run(&long.module, FUNCTION, &long.ins)?.outputs;
    for (got, want) in got.iter().zip(&long.want) {
        for y in got.to_f64() {
            // A mean of ones may be rounded.
            assert!(
                (y - want).abs() <= 1e-6 * want,
                "{}: {y} for {want}, {:?}",
                long.name,
                device.caps.class
            );
        }
    }
    Ok(())
}

/// Mesa's llvmpipe ends all loops of an invocation after 65,535 turns. Sizes on both sides of that, and of twice as much.
#[test]
fn loops_turn_as_often_as_they_have_to() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let device = GpuDevice::new(gpu);
    for n in [65_534, 65_535, 65_536, 131_073] {
        for long in kinds(n) {
            check(&device, &long)?;
        }
    }
    // Two loops in one, each of them short.
    let square = long(
        "avg_pool of a square",
        &[("x", DType::F32, &[1, 1, 300, 300])],
        r#"{"id": "y", "op": "avg_pool", "in": ["x"], "attrs": {"kernel": [300, 300]}}"#,
        r#""y": "y""#,
        &[1.0],
    );
    let filters = long(
        "the gradient of filters over images",
        &[("x", DType::F32, &[17, 2, 64, 64]), ("g", DType::F32, &[17, 3, 64, 64])],
        r#"{"id": "y", "op": "conv_filter_grad", "in": ["x", "g"], "attrs": {"kernel": [1, 1]}}"#,
        r#""y": "y""#,
        &[17.0 * 4096.0],
    );
    let sum = long(
        "sum",
        &[("x", DType::F32, &[17_000_000])],
        r#"{"id": "h", "op": "mul", "in": ["x", 0.5]},
           {"id": "y", "op": "reduce", "in": ["h"], "attrs": {"kind": "sum", "axes": [0]}}"#,
        r#""y": "y""#,
        &[8_500_000.0],
    );
    // Each remainder is a loop of its own.
    let remainders = long(
        "sum of remainders",
        &[("x", DType::F32, &[600_000])],
        r#"{"id": "r", "op": "rem", "in": ["x", 3.0]},
           {"id": "y", "op": "reduce", "in": ["r"], "attrs": {"kind": "sum", "axes": [0]}}"#,
        r#""y": "y""#,
        &[600_000.0],
    );
    for long in [square, filters, sum, remainders] {
        check(&device, &long)?;
    }
    Ok(())
}

/// Extremes are the first ones, wherever they lie and however loops are cut.
#[test]
fn extremes_of_long_rows_and_windows() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let device = GpuDevice::new(gpu);
    let n = 140_000;
    let pool = long(
        "max_pool",
        &[("x", DType::F32, &[1, 1, n])],
        &format!(r#"{{"id": "y", "op": "max_pool", "in": ["x"], "attrs": {{"kernel": [{n}]}}}}"#),
        r#""y": "y", "at": "y#1""#,
        &[],
    );
    let cases: [(&[usize], f32); 3] = [(&[0, n - 1], 2.0), (&[70_001, 70_002], 2.0), (&[n - 1], f32::NAN)];
    for (places, value) in cases {
        let mut x = vec![1.0f32; n];
        places.iter().for_each(|place| x[*place] = value);
        let found = device.run(&pool.module, FUNCTION, &[Tensor::from_slice(&[1, 1, n], &x)])?.outputs;
        let y = found[0].get(0).as_f64();
        assert!(y == f64::from(value) || (y.is_nan() && value.is_nan()), "{y}");
        assert_eq!(found[1].to_f64(), [places[0] as f64]);
    }
    let n = 17_000_000;
    let row = long(
        "arg_reduce",
        &[("x", DType::F32, &[1, n])],
        r#"{"id": "y", "op": "arg_reduce", "in": ["x"], "attrs": {"kind": "max", "axis": 1}}"#,
        r#""y": "y""#,
        &[],
    );
    let mut x = vec![1.0f32; n];
    (x[n - 2], x[n - 1]) = (3.0, 3.0);
    let found = device.run(&row.module, FUNCTION, &[Tensor::from_slice(&[1, n], &x)])?.outputs;
    assert_eq!(found[0].to_f64(), [(n - 2) as f64]);
    Ok(())
}

/// What cannot be cut is refused in a sentence.
#[test]
fn what_turns_too_often_is_refused() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let grouped = long(
        "conv",
        &[("x", DType::F32, &[1, 600, 1]), ("w", DType::F32, &[2, 300, 1])],
        r#"{"id": "y", "op": "conv", "in": ["x", "w"], "attrs": {"groups": 2}}"#,
        r#""y": "y""#,
        &[300.0],
    );
    check(&GpuDevice::new(gpu), &grouped)?;
    let caps = GpuCaps { turns: Some(100), ..gpu.caps().clone() };
    let device = GpuDevice { caps, ..GpuDevice::new(gpu) };
    let error = device.run(&grouped.module, FUNCTION, &grouped.ins).expect_err("it is refused").to_string();
    assert!(error.contains("through its loops") && error.contains("after 100 times"), "{error}");
    Ok(())
}

/// The same kinds on adapters whose loops are very short, with the tiles of every kind of adapter, and with numbers of their
/// own for each element.
#[test]
fn short_loops_on_every_kind_of_adapter() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    for class in [Class::Software, Class::Portable, Class::Nvidia] {
        let caps = GpuCaps { class, busy: 4, turns: Some(60), ..gpu.caps().clone() };
        let device = GpuDevice { caps, ..GpuDevice::new(gpu) };
        for long in kinds(500) {
            let ins: Vec<Tensor> = long.ins.iter().map(varied).collect();
            let want = Reference.run(&long.module, FUNCTION, &ins)?.outputs;
            let got = device.run(&long.module, FUNCTION, &ins)?.outputs;
            for (got, want) in got.iter().zip(&want) {
                for (got, want) in got.to_f64().iter().zip(want.to_f64()) {
                    let near = (got - want).abs() <= 1e-5 * want.abs().max(10.0);
                    assert!(near, "{} on {class:?}: {got} for {want}", long.name);
                }
            }
        }
    }
    Ok(())
}

fn varied(t: &Tensor) -> Tensor {
    if !t.dtype().is_float() {
        return t.clone();
    }
    Tensor::from_fn(t.dtype(), t.shape(), |i| Scalar::F(((i * 37 + 5) % 17) as f64 / 8.0 - 1.0))
}
