//! `scalar.json`: values and derivatives of elementwise functions, special values included.

use graphc_ir::error::{Error, Result};
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Elu, Gelu, LeakyRelu, Map, Silu};
use graphc_ir::{Builder, DType, Module, Op, Scalar, ScalarFn, Tensor, TensorType, autodiff};
use serde::Deserialize;

use super::{FUNCTION, Number, module_of, read};
use crate::compare::ulps;
use crate::device::Device;

#[derive(Deserialize)]
struct File {
    functions: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    dtype: String,
    r#in: Vec<Vec<Number>>,
    out: Vec<Number>,
    grad: Option<Vec<Vec<Option<Number>>>>,
}

/// One function at many points.
pub struct ScalarVector {
    /// Name of the function.
    pub name: String,
    /// Element type of the operands.
    pub dtype: DType,
    /// One function: operands to the value and, for floats, the derivative by each operand.
    pub module: Module,
    /// Operands.
    pub inputs: Vec<Tensor>,
    /// For each output and point what is expected; `None` where there is nothing to compare with.
    pub expected: Vec<Vec<Option<f64>>>,
    /// The scalar function, unless it is a composite.
    pub function: Option<ScalarFn>,
}

/// The functions of the file with their float rows in `float`; in f32 without the points whose
/// operands f32 cannot hold as normal numbers.
///
/// # Errors
/// A file that cannot be read or that names an unknown function.
pub fn load(float: DType) -> Result<Vec<ScalarVector>> {
    read::<File>("scalar.json")?.functions.iter().map(|row| vector(row, float)).collect()
}

fn vector(row: &Row, float: DType) -> Result<ScalarVector> {
    let dtype = if row.dtype == "f64" { float } else { DType::I32 };
    let operands: Vec<Vec<f64>> =
        row.r#in.iter().map(|c| c.iter().map(Number::value).collect()).collect::<Result<_>>()?;
    let held = |v: f64| {
        let normal = v == 0.0 || v.abs() >= f64::from(f32::MIN_POSITIVE);
        dtype != DType::F32 || v.is_nan() || (f64::from(v as f32) == v && normal)
    };
    let points: Vec<usize> =
        (0..row.out.len()).filter(|i| operands.iter().all(|column| held(column[*i]))).collect();
    let inputs: Vec<Tensor> = operands
        .iter()
        .map(|column| Tensor::from_fn(dtype, &[points.len()], |i| Scalar::F(column[points[i]])))
        .collect();
    let mut expected = vec![points.iter().map(|i| row.out[*i].value().map(Some)).collect::<Result<_>>()?];
    for column in row.grad.iter().flatten() {
        let at = |i: &usize| column[*i].as_ref().map(Number::value).transpose();
        expected.push(points.iter().map(at).collect::<Result<Vec<_>>>()?);
    }
    let function = ScalarFn::parse(&row.name);
    let op = match function {
        Some(f) => Op::from(Map { f }),
        None => composite(&row.name)?,
    };
    let module = module(op, &inputs, row.grad.is_some())?;
    Ok(ScalarVector { name: row.name.clone(), dtype, module, inputs, expected, function })
}

fn composite(name: &str) -> Result<Op> {
    Ok(match name {
        "gelu" => Gelu { tanh: false }.into(),
        "gelu_tanh" => Gelu { tanh: true }.into(),
        "silu" => Silu {}.into(),
        "elu" => Elu { alpha: Real(1.0) }.into(),
        "leaky_relu" => LeakyRelu { slope: Real(0.01) }.into(),
        other => return Err(Error::new(format!("scalar.json names the unknown function `{other}`"))),
    })
}

fn module(op: Op, operands: &[Tensor], gradient: bool) -> Result<Module> {
    let mut b = Builder::new();
    let ty = |t: &Tensor| TensorType::fixed(t.dtype(), t.shape());
    let ins = operands.iter().map(|t| b.input(ty(t))).collect::<Result<Vec<_>>>()?;
    let y = b.op1(op, &ins)?;
    let mut results = vec![y];
    if gradient {
        let one = b.full_like(y, 1.0)?;
        for (g, x) in autodiff::backward(&mut b, &[(y, one)], &ins)?.into_iter().zip(&ins) {
            results.push(match g {
                Some(g) => g,
                None => b.zeros_like(*x)?,
            });
        }
    }
    let inputs = (0..ins.len()).map(|i| format!("x{i}")).collect();
    let outputs = (0..results.len()).map(|i| format!("y{i}")).collect();
    Ok(module_of(b.finish(&results)?, inputs, outputs))
}

/// How near a device must come.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Units in the last place for values of functions that are not exact.
    pub ulp: f64,
    /// Units in the last place for derivatives.
    pub derivative_ulp: f64,
    /// Difference that is always allowed between derivatives (written on the output, they are
    /// differences of numbers near 1) and between values of composites, for an operand in -1..1; beyond
    /// it grows with the operand.
    pub absolute: f64,
}

/// Derivatives (output 1 and on) that are not compared: the square of the operand overflows and makes
/// the derivative NaN, as in PyTorch.
fn excused(name: &str, output: usize, x: f64) -> bool {
    name == "gelu_tanh" && output > 0 && x.abs() > 1e18
}

/// Runs a vector and describes every point that is too far off.
///
/// Functions whose row of the table says so (no error, or correctly rounded) must be exact, but for
/// the signs of zeros.
///
/// # Errors
/// Those of the run.
pub fn mismatches(
    vector: &ScalarVector,
    device: &dyn Device,
    tolerance: impl Fn(Option<ScalarFn>) -> Tolerance,
) -> Result<Vec<String>> {
    let outcome = device.run(&vector.module, FUNCTION, &vector.inputs)?;
    let tolerance = tolerance(vector.function);
    let exact = vector.function.is_some_and(|f| f.def().ulp <= 0.5);
    let mut found = Vec::new();
    for (k, (got, want)) in outcome.outputs.iter().zip(&vector.expected).enumerate() {
        for (i, want) in want.iter().enumerate() {
            let Some(want) = *want else { continue };
            let dtype = got.dtype();
            let got = got.get(i).as_f64();
            let want = if dtype.is_float() { Scalar::F(want).round_to(dtype).as_f64() } else { want };
            let x: Vec<f64> = vector.inputs.iter().map(|t| t.get(i).as_f64()).collect();
            let (limit, absolute) = match (k, vector.function) {
                (0, Some(_)) if exact || !dtype.is_float() => (0.0, 0.0),
                (0, Some(_)) => (tolerance.ulp, 0.0),
                (0, None) => (tolerance.ulp, tolerance.absolute * x[0].abs().max(1.0)),
                _ => (tolerance.derivative_ulp, tolerance.absolute * x[0].abs().max(1.0)),
            };
            let near = excused(&vector.name, k, x[0])
                || (got - want).abs() <= absolute
                || ulps(got, want, dtype) <= limit;
            if !near {
                let what = if k == 0 { "value".to_owned() } else { format!("derivative {}", k - 1) };
                found.push(format!("{} in {dtype}: {what} at {x:?} is {got:e}, not {want:e}", vector.name));
            }
        }
    }
    Ok(found)
}
