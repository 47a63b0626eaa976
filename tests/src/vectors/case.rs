//! What files of operations and their gradients have in common.

use graphc_ir::error::{Error, Result};
use graphc_ir::{Builder, DType, Module, Tensor, TensorType, ValueId, autodiff};
use indexmap::IndexMap;
use serde::Deserialize;

use super::{FUNCTION, Number, module_of};
use crate::compare::{tensor_error, ulps};
use crate::device::Device;

#[derive(Deserialize)]
pub(super) struct File<A> {
    pub cases: Vec<Entry<A>>,
}

/// One case; `A` are the attributes.
#[derive(Deserialize)]
pub(super) struct Entry<A> {
    pub name: String,
    pub op: String,
    pub attrs: A,
    r#in: IndexMap<String, Stored>,
    out: IndexMap<String, Stored>,
    cotangent: IndexMap<String, Stored>,
    grad: IndexMap<String, Stored>,
    #[serde(default)]
    units: f64,
}

/// Elements in row-major order, or elements that are repeated but for some.
#[derive(Deserialize)]
struct Stored {
    r#type: String,
    #[serde(default)]
    data: Vec<Number>,
    #[serde(default)]
    fill: Vec<Number>,
    #[serde(default)]
    at: IndexMap<usize, Number>,
}

impl Stored {
    /// With `float` in the place of f64.
    fn ty(&self, float: DType) -> Result<TensorType> {
        let ty = TensorType::parse(&self.r#type)?;
        Ok(if ty.dtype == DType::F64 { ty.with_dtype(float) } else { ty })
    }

    fn tensor(&self, float: DType) -> Result<Tensor> {
        let ty = self.ty(float)?;
        let shape = ty.shape().ok_or_else(|| Error::new(format!("{ty} is not a type of numbers")))?;
        let count: usize = shape.iter().product();
        let mut values = self.data.iter().map(Number::scalar).collect::<Result<Vec<_>>>()?;
        if !self.fill.is_empty() {
            values = self.fill.iter().cycle().take(count).map(Number::scalar).collect::<Result<_>>()?;
        }
        for (i, v) in &self.at {
            *values.get_mut(*i).ok_or_else(|| Error::new(format!("{ty} has no element {i}")))? =
                v.scalar()?;
        }
        if values.len() != count {
            return Err(Error::new(format!("{ty} does not have {} elements", values.len())));
        }
        Ok(Tensor::from_fn(ty.dtype, &shape, |i| values[i]))
    }
}

/// One operation on one set of operands.
pub struct OpVector {
    /// Name of the case.
    pub name: String,
    /// One function: operands to results and gradients.
    pub module: Module,
    /// Operands.
    pub inputs: Vec<Tensor>,
    /// The outputs as the file has them.
    pub expected: Vec<Tensor>,
    /// How far an element may be off, in units in the last place of its type.
    pub units: f64,
}

/// Runs a vector and describes the elements that are off by more than its units. Without units they are the same, and
/// zeros have their signs; a reduction does not promise those.
///
/// # Errors
/// Those of the run.
pub fn far(vector: &OpVector, device: &dyn Device) -> Result<Vec<String>> {
    let outcome = device.run(&vector.module, FUNCTION, &vector.inputs)?;
    let names = vector.module.function(FUNCTION)?.outputs.iter().map(|o| &o.name);
    let mut failures = Vec::new();
    for (name, (got, want)) in names.zip(outcome.outputs.iter().zip(&vector.expected)) {
        if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
            failures.push(format!("{}: `{name}` is {}{:?}", vector.name, got.dtype(), got.shape()));
            continue;
        }
        let off = |i: &usize| {
            let (g, w) = (got.get(*i), want.get(*i));
            let exact = g == w || g.as_f64().is_nan() && w.as_f64().is_nan();
            let signed = vector.units > 0.0 || vector.name.starts_with("reduce");
            let near = || ulps(g.as_f64(), w.as_f64(), want.dtype()) <= vector.units;
            !(exact || want.dtype().is_float() && signed && near())
        };
        let all: Vec<usize> = (0..want.len()).filter(off).collect();
        if let Some(i) = all.first() {
            let operands: Vec<_> =
                vector.inputs.iter().filter(|t| t.len() == want.len()).map(|t| t.get(*i)).collect();
            failures.push(format!(
                "{}: {} of {} elements of `{name}`, element {i} of {operands:?} is {:?}, not {:?}",
                vector.name,
                all.len(),
                want.len(),
                got.get(*i),
                want.get(*i)
            ));
        }
    }
    Ok(failures)
}

/// Runs a vector and describes every output whose relative L2 error exceeds the tolerance.
///
/// # Errors
/// Those of the run.
pub fn mismatches(vector: &OpVector, device: &dyn Device, tolerance: f64) -> Result<Vec<String>> {
    let outcome = device.run(&vector.module, FUNCTION, &vector.inputs)?;
    let names = vector.module.function(FUNCTION)?.outputs.iter().map(|o| &o.name);
    let pairs = names.zip(outcome.outputs.iter().zip(&vector.expected));
    let errors = pairs.map(|(name, (got, want))| (name, tensor_error(got, want)));
    let bad = errors.filter(|(_, e)| e.is_nan() || *e > tolerance);
    Ok(bad.map(|(name, e)| format!("{}: `{name}` is off by {e:e}", vector.name)).collect())
}

impl<A> Entry<A> {
    /// The case with floats of type `float`; `build` makes the results by name from the operands by name.
    ///
    /// # Errors
    /// Those of `build`, and results or gradients that do not exist.
    pub fn vector<'n>(
        &'n self,
        float: DType,
        build: impl FnOnce(&mut Builder, &IndexMap<&str, ValueId>) -> Result<Vec<(&'n str, ValueId)>>,
    ) -> Result<OpVector> {
        let mut b = Builder::new();
        let mut ins = IndexMap::new();
        for (name, t) in &self.r#in {
            ins.insert(name.as_str(), b.input(t.ty(float)?)?);
        }
        let results: IndexMap<&str, ValueId> = build(&mut b, &ins)?.into_iter().collect();
        let find = |among: &IndexMap<&str, ValueId>, name: &str| {
            among.get(name).copied().ok_or_else(|| Error::new(format!("there is no `{name}`")))
        };
        let mut outputs = self.out.keys().map(|k| find(&results, k)).collect::<Result<Vec<_>>>()?;
        let mut seeds = Vec::new();
        for (name, t) in &self.cotangent {
            seeds.push((find(&results, name)?, b.constant(t.tensor(float)?)?));
        }
        let wrt = self.grad.keys().map(|k| find(&ins, k)).collect::<Result<Vec<_>>>()?;
        for g in autodiff::backward(&mut b, &seeds, &wrt)? {
            outputs.push(g.ok_or_else(|| Error::new("an operand has no gradient"))?);
        }
        let tensors = |m: &IndexMap<String, Stored>| -> Result<Vec<Tensor>> {
            m.values().map(|t| t.tensor(float)).collect()
        };
        let expected = [tensors(&self.out)?, tensors(&self.grad)?].concat();
        let names = self.out.keys().cloned().chain(self.grad.keys().map(|k| format!("grad_{k}"))).collect();
        let module = module_of(b.finish(&outputs)?, self.r#in.keys().cloned().collect(), names);
        let (name, inputs) = (self.name.clone(), tensors(&self.r#in)?);
        Ok(OpVector { name, module, inputs, expected, units: self.units })
    }

    /// Names of the outputs, in order.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        self.out.keys().map(String::as_str)
    }
}
