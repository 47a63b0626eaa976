//! Values as mathematics: `x.matmul(w) + b`.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::ops::{Op, ReduceKind};
use crate::scalar::{Number, ScalarFn};
use crate::types::TensorType;

/// Where expressions are built. The first error is kept and given by [`Scope::finish`]; what follows
/// it is ignored, so that expressions need no `?`.
pub struct Scope<'b> {
    inner: RefCell<Inner<'b>>,
}

struct Inner<'b> {
    b: &'b mut Builder,
    error: Option<Error>,
}

/// A value of a [`Scope`].
#[derive(Clone, Copy)]
pub struct Expr<'s> {
    scope: &'s dyn Emit,
    id: ValueId,
}

trait Emit {
    fn emit(&self, f: &mut dyn FnMut(&mut Builder) -> Result<Vec<ValueId>>) -> Vec<ValueId>;
    fn ty(&self, v: ValueId) -> TensorType;
}

impl Emit for Scope<'_> {
    fn emit(&self, f: &mut dyn FnMut(&mut Builder) -> Result<Vec<ValueId>>) -> Vec<ValueId> {
        let mut inner = self.inner.borrow_mut();
        if inner.error.is_none() {
            match f(inner.b) {
                Ok(v) => return v,
                Err(e) => inner.error = Some(e),
            }
        }
        Vec::new()
    }

    fn ty(&self, v: ValueId) -> TensorType {
        self.inner.borrow().b.ty(v).clone()
    }
}

impl<'b> Scope<'b> {
    /// Expressions that append to this builder.
    pub fn new(b: &'b mut Builder) -> Scope<'b> {
        Scope { inner: RefCell::new(Inner { b, error: None }) }
    }

    /// A value as an expression.
    pub fn expr(&self, id: ValueId) -> Expr<'_> {
        Expr { scope: self, id }
    }

    /// Builder calls among the expressions; afterwards [`Scope::expr`] makes their results expressions.
    ///
    /// # Errors
    /// The scope's first error: an earlier one, or that of `f`.
    pub fn build<R>(&self, f: impl FnOnce(&mut Builder) -> Result<R>) -> Result<R> {
        let mut inner = self.inner.borrow_mut();
        if let Some(e) = &inner.error {
            return Err(e.clone());
        }
        f(inner.b).inspect_err(|e| inner.error = Some(e.clone()))
    }

    /// Ends the scope with the first error, if there was one.
    pub fn finish(self) -> Result<()> {
        match self.inner.into_inner().error {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// Gradients of a scalar function's operands.
    pub(crate) fn derivative(
        &self,
        f: ScalarFn,
        ins: &[ValueId],
        y: ValueId,
        g: ValueId,
    ) -> Vec<Option<ValueId>> {
        let x: Vec<Expr<'_>> = ins.iter().map(|v| self.expr(*v)).collect();
        let d = crate::scalar::Derivative { x: &x, y: self.expr(y), g: self.expr(g) };
        (f.def().vjp)(&d).into_iter().map(|e| e.map(|e| e.id)).collect()
    }
}

impl<'s> Expr<'s> {
    /// The value.
    pub fn id(self) -> ValueId {
        self.id
    }

    /// Type of the value.
    pub fn ty(self) -> TensorType {
        self.scope.ty(self.id)
    }

    /// The values of some expressions, which must be of this one's scope.
    fn ids(self, others: &[Expr<'s>]) -> Result<Vec<ValueId>> {
        let foreign = |e: &Expr<'s>| !std::ptr::addr_eq(e.scope, self.scope);
        if others.iter().any(foreign) {
            return Err(Error::new("a value of another function is used")
                .help("give it to that function as an operand"));
        }
        Ok(std::iter::once(self.id).chain(others.iter().map(|e| e.id)).collect())
    }

    fn with(self, mut f: impl FnMut(&mut Builder) -> Result<ValueId>) -> Expr<'s> {
        let out = self.scope.emit(&mut |b| Ok(vec![f(b)?]));
        // After an error the value does not matter: the scope gives the error in the end.
        Expr { id: out.first().copied().unwrap_or(self.id), ..self }
    }

    fn map(self, f: ScalarFn, others: &[Expr<'s>]) -> Expr<'s> {
        self.with(|b| b.map(f, &self.ids(others)?))
    }

    /// Any operation with one result.
    pub fn op(self, op: impl Into<Op>, others: &[Expr<'s>]) -> Expr<'s> {
        let op = op.into();
        self.with(|b| b.op1(op.clone(), &self.ids(others)?))
    }

    /// Any operation; its results.
    pub fn op_many(self, op: impl Into<Op>, others: &[Expr<'s>]) -> Vec<Expr<'s>> {
        let op = op.into();
        let outs = self.scope.emit(&mut |b| b.op(op.clone(), &self.ids(others)?));
        outs.into_iter().map(|id| Expr { id, ..self }).collect()
    }

    /// A constant of this value's type and dims; a number that does not fit the type is the scope's error.
    pub fn literal(self, value: impl Into<Number>) -> Expr<'s> {
        let value: Number = value.into();
        self.with(|b| b.full_like(self.id, value))
    }

    /// Zeros of this value's type and dims.
    pub fn zero_like(self) -> Expr<'s> {
        self.literal(0)
    }

    /// Ones of this value's type and dims.
    pub fn one_like(self) -> Expr<'s> {
        self.literal(1)
    }

    /// `self ? a : b` for a boolean value.
    pub fn select(self, a: Expr<'s>, b: Expr<'s>) -> Expr<'s> {
        self.map(ScalarFn::Select, &[a, b])
    }

    /// Matrix product with the numpy rules for ranks.
    pub fn matmul(self, other: Expr<'s>) -> Expr<'s> {
        self.with(|b| {
            let ins = self.ids(&[other])?;
            b.matmul(ins[0], ins[1])
        })
    }

    /// Conversion to another element type.
    pub fn cast(self, to: DType) -> Expr<'s> {
        self.with(|b| b.cast(self.id, to))
    }

    /// Reduction over axes, which vanish.
    pub fn reduce(self, kind: ReduceKind, axes: &[usize]) -> Expr<'s> {
        self.with(|b| b.reduce(kind, self.id, axes))
    }

    /// Sum over axes, which vanish.
    pub fn sum(self, axes: &[usize]) -> Expr<'s> {
        self.reduce(ReduceKind::Sum, axes)
    }

    /// Arithmetic mean over axes, which vanish.
    pub fn mean(self, axes: &[usize]) -> Expr<'s> {
        self.with(|b| b.mean(self.id, axes))
    }

    /// Repeats a reduction's result along the axes that vanished.
    pub fn unreduce(self, like: Expr<'s>, axes: &[usize]) -> Expr<'s> {
        self.with(|b| b.unreduce(self.id, like.id, axes))
    }

    /// The same elements under other dims.
    pub fn reshape(self, dims: &[Dim]) -> Expr<'s> {
        self.with(|b| b.reshape(self.id, dims))
    }

    /// Elements `start..limit` along one axis.
    pub fn slice(self, axis: usize, start: &Dim, limit: &Dim) -> Expr<'s> {
        self.with(|b| b.slice_axis(self.id, axis, start, limit))
    }

    /// Another order of the axes.
    pub fn transpose(self, perm: &[usize]) -> Expr<'s> {
        self.with(|b| b.transpose(self.id, perm))
    }
}

macro_rules! functions {
    ($( $(#[doc = $doc:literal])* $name:ident($($arg:ident),*) => $f:ident; )*) => {
        impl<'s> Expr<'s> { $(
            $(#[doc = $doc])*
            pub fn $name(self $(, $arg: Expr<'s>)*) -> Expr<'s> {
                self.map(ScalarFn::$f, &[$($arg),*])
            }
        )* }
    };
}

functions! {
    /// Exponential.
    exp() => Exp;
    /// Natural logarithm.
    log() => Log;
    /// ln(1 + x).
    log1p() => Log1p;
    /// Square root.
    sqrt() => Sqrt;
    /// Reciprocal square root.
    rsqrt() => Rsqrt;
    /// Hyperbolic tangent.
    tanh() => Tanh;
    /// Logistic function.
    sigmoid() => Sigmoid;
    /// max(x, 0).
    relu() => Relu;
    /// Absolute value.
    abs() => Abs;
    /// Sign.
    sign() => Sign;
    /// Sine.
    sin() => Sin;
    /// Cosine.
    cos() => Cos;
    /// Error function.
    erf() => Erf;
    /// ln(1 + e^x).
    softplus() => Softplus;
    /// Larger operand.
    max(other) => Max;
    /// Smaller operand.
    min(other) => Min;
    /// Power.
    pow(exponent) => Pow;
    /// Equality.
    eq(other) => Eq;
    /// Inequality.
    ne(other) => Ne;
    /// Greater.
    gt(other) => Gt;
    /// Greater or equal.
    ge(other) => Ge;
    /// Less.
    lt(other) => Lt;
    /// Less or equal.
    le(other) => Le;
    /// And.
    and(other) => And;
    /// Or.
    or(other) => Or;
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => { $(
        impl<'s> $trait for Expr<'s> {
            type Output = Expr<'s>;
            fn $method(self, other: Expr<'s>) -> Expr<'s> {
                self.map(ScalarFn::$trait, &[other])
            }
        }
        impl<'s> $trait<f64> for Expr<'s> {
            type Output = Expr<'s>;
            fn $method(self, other: f64) -> Expr<'s> {
                self.map(ScalarFn::$trait, &[self.literal(other)])
            }
        }
    )* };
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl<'s> Neg for Expr<'s> {
    type Output = Expr<'s>;

    fn neg(self) -> Expr<'s> {
        self.map(ScalarFn::Neg, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_scope_are_refused() {
        let ty = TensorType::fixed(DType::F64, &[2]);
        let (mut a, mut b) = (Builder::new(), Builder::new());
        let x = a.input(ty.clone()).expect("an input");
        let y = b.input(ty).expect("an input");
        let (one, other) = (Scope::new(&mut a), Scope::new(&mut b));
        let _ = one.expr(x) + other.expr(y);
        let error = one.finish().expect_err("y is not its own").to_string();
        assert!(error.contains("another function"), "{error}");
    }
}
