//! What a row of the table of scalar functions says.

use crate::dtype::DType;
use crate::expr::Expr;

use super::{Scalar, ScalarFn};

/// Which element types a function takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Floats to the same float type.
    Float,
    /// Floats or integers to the same type.
    Arith,
    /// Integers or booleans to the same type.
    Bits,
    /// Integers to the same type.
    Int,
    /// Any type to boolean.
    Compare,
    /// `(bool, T, T) -> T` of any type.
    Select,
}

/// Where a function is sampled by the tests of its derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// All reals, sampled in -3..3, away from kinks.
    Reals,
    /// Sampled in 0.2..3.
    Positive,
    /// First operand positive, the others real.
    PositiveFirst,
    /// Second operand away from zero.
    NonzeroSecond,
    /// Away from zero.
    Nonzero,
}

/// The operands, the result and the upstream gradient that a derivative is written over.
pub struct Derivative<'a> {
    /// Operands.
    pub x: &'a [Expr<'a>],
    /// The result.
    pub y: Expr<'a>,
    /// The upstream gradient.
    pub g: Expr<'a>,
}

/// One scalar function.
pub struct ScalarDef {
    /// Name in files.
    pub name: &'static str,
    /// Number of operands.
    pub arity: usize,
    /// Types.
    pub class: Class,
    /// Formula, for the generated documentation.
    pub formula: &'static str,
    /// Semantics on floats.
    pub float: fn(&[f64]) -> f64,
    /// Semantics on integers, wrapped to the type afterwards.
    pub int: fn(&[i128], DType) -> i128,
    /// Gradients of the operands; `None` where it is zero everywhere it exists.
    pub vjp: for<'a> fn(&Derivative<'a>) -> Vec<Option<Expr<'a>>>,
    /// WGSL expression, operands as `{0}`, `{1}`, `{2}`.
    pub wgsl: &'static str,
    /// Error that a device may make, in units in the last place of the result.
    pub ulp: f64,
    /// Where the derivative is sampled.
    pub domain: Domain,
}

impl ScalarFn {
    /// Evaluates on values of type `dtype` (that of the data operands), rounding once.
    pub fn eval(self, args: &[Scalar], dtype: DType) -> Scalar {
        let def = self.def();
        if def.class == Class::Select {
            return if args[0].as_bool() { args[1] } else { args[2] };
        }
        let ints: Vec<i128>;
        let raw = if dtype.is_float() {
            let floats: Vec<f64> = args.iter().map(|a| a.as_f64()).collect();
            Scalar::F((def.float)(&floats))
        } else {
            ints = args.iter().map(|a| a.as_int()).collect();
            Scalar::I((def.int)(&ints, dtype))
        };
        match def.class {
            Class::Compare => Scalar::B(raw.as_bool()),
            _ if dtype == DType::Bool => Scalar::B(raw.as_int() & 1 == 1),
            _ => raw.round_to(dtype),
        }
    }

    /// The type of the result, or a sentence that says which types the function takes.
    pub fn result_dtype(self, args: &[DType]) -> Result<DType, String> {
        let def = self.def();
        let data = if def.class == Class::Select { &args[1..] } else { args };
        let first = data[0];
        if data.iter().any(|t| *t != first) {
            let names: Vec<_> = data.iter().map(|t| t.name()).collect();
            return Err(format!(
                "{} needs operands of one element type, but got {}; add a cast",
                def.name,
                names.join(" and ")
            ));
        }
        let (ok, takes) = match def.class {
            Class::Float => (first.is_compute_float(), "floats"),
            Class::Arith => (first.is_compute_float() || first.is_int(), "floats or an integer type"),
            Class::Bits => (first.is_int() || first == DType::Bool, "an integer type or bool"),
            Class::Int => (first.is_int(), "an integer type"),
            Class::Compare => {
                (!first.is_float() || first.is_compute_float(), "floats, an integer type or bool")
            }
            Class::Select => (args[0] == DType::Bool, "bool as its first operand"),
        };
        if !ok {
            return Err(format!("{} takes {takes}, but got {first}; add a cast", def.name));
        }
        Ok(if def.class == Class::Compare { DType::Bool } else { first })
    }
}
