//! What files of operations and their gradients have in common.

use graphc_ir::error::{Error, Result};
use graphc_ir::{Builder, DType, Module, Scalar, Tensor, TensorType, ValueId, autodiff};
use indexmap::IndexMap;
use serde::Deserialize;

use super::{FUNCTION, Number, module_of};
use crate::compare::tensor_error;
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
}

#[derive(Deserialize)]
struct Stored {
    r#type: String,
    data: Vec<Number>,
}

impl Stored {
    /// With `float` in the place of f64.
    fn ty(&self, float: DType) -> Result<TensorType> {
        let ty = TensorType::parse(&self.r#type)?;
        Ok(if ty.dtype == DType::F64 { ty.with_dtype(float) } else { ty })
    }

    fn tensor(&self, float: DType) -> Result<Tensor> {
        let ty = self.ty(float)?;
        let values = self.data.iter().map(Number::value).collect::<Result<Vec<_>>>()?;
        match ty.shape() {
            Some(shape) if shape.iter().product::<usize>() == values.len() => {
                Ok(Tensor::from_fn(ty.dtype, &shape, |i| Scalar::F(values[i])))
            }
            _ => Err(Error::new(format!("{ty} does not have {} elements", values.len()))),
        }
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
        Ok(OpVector { name: self.name.clone(), module, inputs: tensors(&self.r#in)?, expected })
    }

    /// Names of the outputs, in order.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        self.out.keys().map(String::as_str)
    }
}
