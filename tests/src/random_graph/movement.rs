//! Moves that rearrange, index and reduce.

use graphc_ir::error::Result;
use graphc_ir::ops::{
    ArgKind, ArgReduce, Concat, Flatten, Gather, Moments, Pad, Reduce, ReduceKind, ScatterAdd, Slice,
};
use graphc_ir::{DType, Dim};

use super::generator::{Generator, Move, Value};

pub(super) const MOVES: &[Move] = &[
    Move { weight: 4, apply: broadcast },
    Move { weight: 5, apply: reshape },
    Move { weight: 3, apply: flatten },
    Move { weight: 5, apply: transpose },
    Move { weight: 5, apply: slice },
    Move { weight: 4, apply: pad },
    Move { weight: 4, apply: concat },
    Move { weight: 4, apply: gather },
    Move { weight: 4, apply: scatter_add },
    Move { weight: 7, apply: reduce },
    Move { weight: 3, apply: moments },
    Move { weight: 3, apply: arg_reduce },
];

/// A value of any type with at least one axis.
fn with_axes(g: &mut Generator) -> Result<Value> {
    if g.prng.chance(0.4)
        && let Some(v) = g.any(|t, _| t.rank() > 0)
    {
        return Ok(v);
    }
    g.float(|t| t.rank() > 0)
}

fn broadcast(g: &mut Generator) -> Result<()> {
    let v = g.float(|t| t.rank() < 4)?;
    let mut dims = g.b.ty(v.id).dims.clone();
    let mut axes: Vec<usize> = (0..dims.len()).collect();
    let at = g.prng.below(dims.len() + 1);
    let size = g.size();
    dims.insert(at, size);
    axes.iter_mut().filter(|a| **a >= at).for_each(|a| *a += 1);
    if g.small(&dims) {
        let id = g.b.broadcast(v.id, &dims, &axes)?;
        g.push_like(id, v);
    }
    Ok(())
}

fn reshape(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let mut dims = g.b.ty(v.id).dims.clone();
    let at = g.prng.below(dims.len());
    match g.prng.below(3) {
        0 if at + 1 < dims.len() => {
            let next = dims.remove(at + 1);
            dims[at] = dims[at].mul(&next)?;
        }
        1 if dims.len() < 5 => {
            let size = dims[at].as_const().unwrap_or(1);
            let factor = [2, 3, 5].into_iter().find(|f| size % f == 0 && size > *f).unwrap_or(1);
            let rest = if factor == 1 { dims[at].clone() } else { Dim::from(size / factor) };
            dims.splice(at..=at, [Dim::from(factor), rest]);
        }
        _ => {
            let all = Dim::product_of(&dims)?;
            dims = if g.prng.chance(0.5) { vec![all] } else { vec![Dim::ONE, all] };
        }
    }
    let id = g.b.reshape(v.id, &dims)?;
    g.push_like(id, v);
    Ok(())
}

fn flatten(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let axis = g.prng.below(g.b.ty(v.id).rank() + 1);
    let id = g.b.op1(Flatten { axis }, &[v.id])?;
    g.push_like(id, v);
    Ok(())
}

fn transpose(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let mut perm: Vec<usize> = (0..g.b.ty(v.id).rank()).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, g.prng.below(i + 1));
    }
    let id = g.b.transpose(v.id, &perm)?;
    g.push_like(id, v);
    Ok(())
}

/// A box that is not empty unless the operand is.
fn slice(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let dims = g.b.ty(v.id).dims.clone();
    let (mut starts, mut limits) = (vec![Dim::ZERO; dims.len()], dims.clone());
    for i in 0..dims.len() {
        let least = g.least(&dims[i]);
        if least < 2 || g.prng.chance(0.4) {
            continue;
        }
        starts[i] = Dim::from(g.prng.below(least));
        if dims[i].as_const().is_some() {
            let start = starts[i].as_const().unwrap_or(0) as usize;
            limits[i] = Dim::from(start + 1 + g.prng.below(least - start));
        }
    }
    let id = g.b.op1(Slice { starts, limits }, &[v.id])?;
    g.push_like(id, v);
    Ok(())
}

fn pad(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let ty = g.b.ty(v.id).clone();
    let mut border =
        || (0..ty.rank()).map(|_| Dim::from(g.prng.pick(&[0usize, 0, 1, 2]))).collect::<Vec<_>>();
    let (lo, hi) = (border(), border());
    let value = if g.prng.chance(0.6) { 0.0 } else { 1.0 };
    let id = g.b.op1(Pad { lo, hi, value: value.into() }, &[v.id])?;
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push(id, v.bound.max(1.0), v.exact);
    }
    Ok(())
}

fn concat(g: &mut Generator) -> Result<()> {
    let v = g.float(|t| t.rank() > 0)?;
    let dims = g.b.ty(v.id).dims.clone();
    let axis = g.prng.below(dims.len());
    let mut parts = vec![v];
    for _ in 0..1 + g.prng.below(2) {
        let mut other = dims.clone();
        other[axis] = g.size();
        let part = g.partner(g.float, &other, false)?;
        parts.push(part);
    }
    let ids: Vec<_> = parts.iter().map(|p| p.id).collect();
    let id = g.b.op1(Concat { axis }, &ids)?;
    if g.small(&g.b.ty(id).dims.clone()) {
        g.push(id, parts.iter().map(|p| p.bound).fold(0.0, f64::max), parts.iter().all(|p| p.exact));
    }
    Ok(())
}

fn gather(g: &mut Generator) -> Result<()> {
    let v = with_axes(g)?;
    let dims = g.b.ty(v.id).dims.clone();
    let axis = g.prng.below(dims.len());
    let n = g.least(&dims[axis]);
    if n == 0 {
        return Ok(());
    }
    let indices = g.indices(n, None)?;
    let mut to = dims;
    to.splice(axis..=axis, g.b.ty(indices).dims.clone());
    if to.len() <= 5 && g.small(&to) {
        let id = g.b.op1(Gather { axis }, &[v.id, indices])?;
        g.push_like(id, v);
    }
    Ok(())
}

fn scatter_add(g: &mut Generator) -> Result<()> {
    let v = g.float(|t| t.rank() > 0)?;
    let v = g.tame(v, 8.0)?;
    let dims = g.b.ty(v.id).dims.clone();
    let axis = g.prng.below(dims.len());
    let n = g.least(&dims[axis]);
    if n == 0 {
        return Ok(());
    }
    let indices = g.indices(n, None)?;
    let mut to = dims;
    let index_dims = g.b.ty(indices).dims.clone();
    to.splice(axis..=axis, index_dims.clone());
    if to.len() <= 5 && g.small(&to) {
        let updates = g.partner(g.float, &to, false)?;
        let updates = g.tame(updates, 4.0)?;
        let id = g.b.op1(ScatterAdd { axis }, &[v.id, indices, updates.id])?;
        let times = g.elements(&graphc_ir::TensorType::new(DType::Bool, index_dims)) as f64;
        g.push(id, v.bound + 2.0 * times * updates.bound, false);
    }
    Ok(())
}

/// Some of the axes, increasing, at least `least`.
fn some_axes(g: &mut Generator, rank: usize, least: usize) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..rank).filter(|_| g.prng.chance(0.5)).collect();
    if axes.len() < least {
        axes = vec![g.prng.below(rank)];
    }
    axes
}

fn reduce(g: &mut Generator) -> Result<()> {
    let kind =
        g.prng.pick(&[ReduceKind::Sum, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod]);
    if g.prng.chance(0.15)
        && let Some(v) = g.any(|t, v| t.dtype.is_int() && t.rank() > 0 && v.exact)
    {
        let ty = g.b.ty(v.id).clone();
        let axes = some_axes(g, ty.rank(), 1);
        let id = g.b.op1(Reduce { kind, axes }, &[v.id])?;
        g.push(id, ty.dtype.int_range().1 as f64, true);
        return Ok(());
    }
    let extreme = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    // The extreme of nothing is infinite.
    let bounds = g.b.graph().infer().bounds.clone();
    let filled = move |d: &Dim| d.lower_bound(&bounds).is_some_and(|l| l > 0);
    let v = g.float(move |t| t.rank() > 0 && (!extreme || t.dims.iter().all(&filled)))?;
    let v = g.tame(v, if kind == ReduceKind::Prod { 1.0 } else { 8.0 })?;
    let ty = g.b.ty(v.id).clone();
    let axes = some_axes(g, ty.rank(), 1);
    let id = g.b.op1(Reduce { kind, axes }, &[v.id])?;
    match kind {
        ReduceKind::Sum => g.push(id, v.bound * 2.0 * g.elements(&ty) as f64, false),
        ReduceKind::Prod => g.push(id, 1.0, false),
        _ => g.push_like(id, v),
    };
    Ok(())
}

/// Over axes that are not empty: those of nothing are NaN.
fn moments(g: &mut Generator) -> Result<()> {
    let v = g.float(|t| t.rank() > 0)?;
    let v = g.tame(v, 4.0)?;
    let dims = g.b.ty(v.id).dims.clone();
    let axes = some_axes(g, dims.len(), 1);
    // A batch of unknown least size is run with one or more.
    if axes.iter().any(|a| dims[*a] == Dim::ZERO) {
        return Ok(());
    }
    let stats = g.b.op(Moments { axes }, &[v.id])?;
    g.push(stats[0], v.bound, false);
    g.push(stats[1], v.bound * v.bound, false);
    Ok(())
}

fn arg_reduce(g: &mut Generator) -> Result<()> {
    let v = match g.any(|t, v| v.exact && t.rank() > 0 && (t.dtype.is_compute_float() || t.dtype.is_int())) {
        Some(v) => v,
        None => return Ok(()),
    };
    let dims = g.b.ty(v.id).dims.clone();
    let axis = g.prng.below(dims.len());
    if dims[axis] == Dim::ZERO {
        return Ok(());
    }
    let kind = g.prng.pick(&[ArgKind::Max, ArgKind::Min]);
    let id = g.b.op1(ArgReduce { kind, axis }, &[v.id])?;
    g.push(id, 400.0, true);
    Ok(())
}
