//! Derivatives other than the gradient of a loss: along a direction, of second order, as whole matrices.

use std::sync::Arc;

use graphc_ir::autodiff::{self, Dual};
use graphc_ir::builder::Builder;
use graphc_ir::dim::Dim;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::ValueId;
use graphc_ir::ops::{Iota, Op, Scan};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::types::TensorType;

use super::gradients::gradients;
use super::hoist::Hoisted;
use super::replay::{canonical_values, replay};

/// The directional derivatives of `of` along `tangents` of the values `wrt` (forward mode), with the values `of`
/// themselves: whoever uses these and not the given ones has every loop run once.
///
/// # Errors
/// A tangent that is not of its value's type, and a path through an operation that has no derivative: the node and
/// the reason.
pub fn jvp(
    b: &mut Builder,
    of: &[ValueId],
    wrt: &[ValueId],
    tangents: &[ValueId],
) -> Result<Vec<(ValueId, ValueId)>> {
    let of = if are_leaves(b, wrt) { canonical_values(b, of)? } else { of.to_vec() };
    pushed_forward(b, &of, wrt, tangents)
}

/// The products of the Hessian of a rank-0 loss with vectors: the gradient's derivative along them, without the
/// matrix (Pearlmutter 1994). The gradient comes back first.
///
/// # Errors
/// Those of [`gradients`] and [`jvp`].
pub fn hvp(
    b: &mut Builder,
    loss: ValueId,
    wrt: &[ValueId],
    vectors: &[ValueId],
) -> Result<Vec<(ValueId, ValueId)>> {
    let gradient = gradients(b, loss, wrt)?;
    pushed_forward(b, &gradient, wrt, vectors)
}

/// The Jacobian of `of` with respect to `wrt`, for small functions: dims are those of `of`, then those of `wrt`.
///
/// A loop runs one derivative after the other: along every element of `wrt`, or back from every element of `of`,
/// whichever are fewer.
///
/// # Errors
/// Those of [`gradients`] and [`jvp`], and values that are no floats.
pub fn jacobian(b: &mut Builder, of: ValueId, wrt: ValueId) -> Result<ValueId> {
    let of = if are_leaves(b, &[wrt]) { canonical_values(b, &[of])?[0] } else { of };
    let elements = |b: &Builder, v: ValueId| b.ty(v).shape().map(|s| s.iter().product::<usize>());
    match (elements(b, of), elements(b, wrt)) {
        (Some(rows), Some(columns)) if columns < rows => by_columns(b, of, wrt),
        _ => by_rows(b, of, wrt),
    }
}

/// The Hessian of a rank-0 loss with respect to a value, for small functions: its dims, twice.
///
/// # Errors
/// Those of [`gradients`] and [`jvp`].
pub fn hessian(b: &mut Builder, loss: ValueId, wrt: ValueId) -> Result<ValueId> {
    let gradient = gradients(b, loss, &[wrt])?[0];
    by_columns(b, gradient, wrt)
}

/// Values with their tangents; zeros where a value does not depend on what is moved.
fn pushed_forward(
    b: &mut Builder,
    of: &[ValueId],
    wrt: &[ValueId],
    tangents: &[ValueId],
) -> Result<Vec<(ValueId, ValueId)>> {
    let duals = autodiff::forward(b, of, wrt, tangents)?;
    duals
        .into_iter()
        .map(|Dual { value, tangent }| Ok((value, tangent.map_or_else(|| b.zeros_like(value), Ok)?)))
        .collect()
}

fn are_leaves(b: &Builder, values: &[ValueId]) -> bool {
    values.iter().all(|v| matches!(b.graph().def(*v).op, Op::Input(_) | Op::StateRead(_)))
}

/// A Jacobian by forward mode.
fn by_columns(b: &mut Builder, of: ValueId, wrt: ValueId) -> Result<ValueId> {
    let along = |b: &mut Builder, of: ValueId, wrt: ValueId, t: ValueId| -> Result<ValueId> {
        Ok(pushed_forward(b, &[of], &[wrt], &[t])?[0].1)
    };
    let columns = mapped_over_basis(b, of, wrt, wrt, along)?;
    // [elements of wrt, of..] to [of.., wrt..].
    let rank = b.ty(columns).rank();
    let perm: Vec<usize> = (1..rank).chain([0]).collect();
    let rows = b.transpose(columns, &perm)?;
    let dims = [&b.ty(of).dims[..], &b.ty(wrt).dims].concat();
    b.reshape(rows, &dims)
}

/// A Jacobian by reverse mode.
fn by_rows(b: &mut Builder, of: ValueId, wrt: ValueId) -> Result<ValueId> {
    let back = |b: &mut Builder, of: ValueId, wrt: ValueId, g: ValueId| -> Result<ValueId> {
        let found = autodiff::backward(b, &[(of, g)], &[wrt])?[0];
        found.map_or_else(|| b.zeros_like(wrt), Ok)
    };
    let rows = mapped_over_basis(b, of, wrt, of, back)?;
    let dims = [&b.ty(of).dims[..], &b.ty(wrt).dims].concat();
    b.reshape(rows, &dims)
}

/// Stacks `derivative(of, wrt, e)` over all unit vectors e of the type of `basis`, which is one of the two.
///
/// What does not depend on e is computed once, outside of the loop.
fn mapped_over_basis(
    b: &mut Builder,
    of: ValueId,
    wrt: ValueId,
    basis: ValueId,
    derivative: impl Fn(&mut Builder, ValueId, ValueId, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    let ty = b.ty(basis).clone();
    for v in [of, wrt] {
        if !b.ty(v).dtype.is_float() {
            let place = b.graph().describe(b.graph().value(v).node);
            return Err(Error::new(format!("a derivative is of floats, but {place} is {}", b.ty(v))));
        }
    }
    // The function with the unit vector as one more input.
    let mut apart = Builder::with_infer(b.graph().infer().clone());
    let map = replay(&mut apart, b.graph(), |b, _, node, ins| b.op(node.op.clone(), ins))?;
    let unit = apart.input(ty.clone())?;
    let result = derivative(&mut apart, map[of.index()], map[wrt.index()], unit)?;
    let whole = apart.finish(&[result])?.pruned()?;
    let cut = Hoisted::new(&whole, whole.inputs().len() - 1);
    let inputs = b.graph().inputs().to_vec();
    let invariants = cut.outside(b, &inputs)?;
    let mut inner = Builder::with_infer(whole.infer().clone());
    let fixed = invariants.iter().map(|v| inner.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let unit = inner.input(ty.clone())?;
    let results = cut.inside(&mut inner, &fixed, &[unit])?;
    let body = inner.finish(&results)?.pruned()?;
    let elements = Dim::product_of(&ty.dims)?;
    let units = identity(b, &ty, &elements)?;
    let operands: Vec<ValueId> = invariants.into_iter().chain([units]).collect();
    let scan = Scan {
        body: Arc::new(body),
        carries: 0,
        stacks: 1,
        reverse: false,
        length: elements,
        recompute: false,
    };
    b.op1(scan, &operands)
}

/// All unit vectors of a type, stacked.
fn identity(b: &mut Builder, ty: &TensorType, elements: &Dim) -> Result<ValueId> {
    let square = vec![elements.clone(), elements.clone()];
    let row = b.op1(Iota { dtype: DType::I32, dims: square.clone(), axis: 0 }, &[])?;
    let column = b.op1(Iota { dtype: DType::I32, dims: square, axis: 1 }, &[])?;
    let diagonal = b.map(ScalarFn::Eq, &[row, column])?;
    let matrix = b.cast(diagonal, ty.dtype)?;
    let dims: Vec<Dim> = std::iter::once(elements.clone()).chain(ty.dims.iter().cloned()).collect();
    b.reshape(matrix, &dims)
}
