use std::ops::RangeInclusive;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::Scope;
use crate::ops::attr::{AttrKind, AttrSpec, AttrValue, Attrs};
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_positive, sample_tensor};
use crate::scalar::{Class, Domain, Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

/// A scalar function applied to every element of operands of one shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// The function.
    pub f: ScalarFn,
}

impl Attrs for Map {
    const SPECS: &'static [AttrSpec] = &[];

    fn values(&self) -> Vec<AttrValue> {
        Vec::new()
    }

    fn from_values(_: &mut dyn FnMut(&'static str, AttrKind) -> Result<Option<AttrValue>>) -> Result<Self> {
        fail!("a map is named by its function")
    }
}

impl OpDef for Map {
    const NAME: &'static str = "map";
    const SIGNATURE: &'static str = "f(x, …) -> z";
    const DOC: &'static str = "A scalar function of every element; operands have one shape.";
    const ARITY: RangeInclusive<usize> = 1..=3;

    fn name(&self) -> &'static str {
        self.f.name()
    }

    fn signature(&self) -> String {
        let args = ["x", "y"];
        match self.f.def().class {
            Class::Select => "select(c bool, x, y) -> z".into(),
            _ => format!("{}({}) -> z", self.f.name(), args[..self.f.def().arity].join(", ")),
        }
    }

    fn arity(&self) -> RangeInclusive<usize> {
        self.f.def().arity..=self.f.def().arity
    }

    fn takes_halves(&self) -> bool {
        self.f.def().class == Class::Select
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let types: Vec<DType> = ins.iter().map(|t| t.dtype).collect();
        let dtype = self.f.result_dtype(&types).map_err(Error::new)?;
        for other in &ins[1..] {
            cx.same(&ins[0].dims, &other.dims, "elementwise operands must have one shape")?;
        }
        Ok(vec![TensorType::new(dtype, ins[0].dims.clone())])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let dtype = ins[ins.len() - 1].dtype();
        let mut args = Vec::with_capacity(3);
        Ok(vec![Tensor::from_fn(outs[0].dtype, ins[0].shape(), |i| {
            args.clear();
            args.extend(ins.iter().map(|t| t.get(i)));
            self.f.eval(&args, dtype)
        })])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        // Storage types too: a select takes them.
        if !cx.b.ty(cx.outs[0]).dtype.is_float() {
            return Ok(Vjp::Grads(vec![None; cx.ins.len()]));
        }
        let (ins, out, g) = (cx.ins, cx.outs[0], cx.g());
        let scope = Scope::new(cx.b);
        let grads = scope.derivative(self.f, ins, out, g);
        scope.finish()?;
        Ok(Vjp::Grads(grads))
    }

    fn samples() -> Vec<Sample> {
        ScalarFn::ALL.iter().flat_map(|f| samples_of(*f)).collect()
    }
}

fn samples_of(f: ScalarFn) -> Vec<Sample> {
    let def = f.def();
    let shapes: [&[usize]; 4] = [&[], &[0], &[1], &[3, 5]];
    let mut samples = Vec::new();
    for shape in shapes {
        let data = |i: u64| {
            let positive = match def.domain {
                Domain::Positive => true,
                Domain::PositiveFirst => i == 0,
                Domain::NonzeroSecond => i == 1,
                Domain::Reals | Domain::Nonzero => false,
            };
            if positive { sample_positive(shape, i + 1) } else { sample_tensor(shape, i + 1) }
        };
        let ints = |dtype, i: u64| {
            let t = sample_tensor(shape, i + 5);
            Tensor::from_fn(dtype, shape, |k| Scalar::I((t.get(k).as_f64() * 3.0) as i128))
        };
        let ins = |make: &dyn Fn(u64) -> Tensor| (0..def.arity as u64).map(make).collect::<Vec<_>>();
        let op = Map { f };
        match def.class {
            Class::Float => samples.push(Sample::new(op, ins(&data))),
            Class::Arith => {
                samples.push(Sample::new(op.clone(), ins(&data)));
                samples.push(Sample::constant(op, ins(&|i| ints(DType::I32, i))));
            }
            Class::Compare => {
                samples.push(Sample::constant(op.clone(), ins(&data)));
                samples.push(Sample::constant(op, ins(&|i| ints(DType::I64, i))));
            }
            Class::Bits => {
                samples.push(Sample::constant(op.clone(), ins(&|i| ints(DType::U32, i))));
                samples.push(Sample::constant(op, ins(&|i| ints(DType::I8, i).cast(DType::Bool))));
            }
            Class::Int => samples.push(Sample::constant(op, ins(&|i| ints(DType::I16, i)))),
            Class::Select => {
                let c = ints(DType::I8, 3).cast(DType::Bool);
                samples.push(Sample::new(op, vec![c, data(1), data(2)]));
            }
        }
    }
    samples
}
