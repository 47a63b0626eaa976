//! Forward mode: tangents pushed from operands to results.

use super::{backward, copied};
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::graph::{NodeId, ValueId};
use crate::ops::{Jvp, JvpCx, Op, Vjp, VjpCx};

/// A value and its tangent; `None` is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dual {
    /// The value.
    pub value: ValueId,
    /// Its directional derivative.
    pub tangent: Option<ValueId>,
}

/// The directional derivatives of `of` along `tangents` of the values `wrt`.
///
/// Loops compute values and tangents together, so the values come back along with them: whoever uses these and not
/// the given ones has every loop run once.
///
/// # Errors
/// If a path goes through an operation that has no derivative: the node and the reason. A tangent that is not of
/// its value's type.
pub fn forward(b: &mut Builder, of: &[ValueId], wrt: &[ValueId], tangents: &[ValueId]) -> Result<Vec<Dual>> {
    for (v, t) in wrt.iter().zip(tangents) {
        if b.ty(*v) != b.ty(*t) {
            fail!("a value of type {} has a tangent of its type, not {}", b.ty(*v), b.ty(*t));
        }
    }
    let mut duals: Vec<Option<Dual>> = vec![None; b.graph().value_count()];
    for (v, t) in wrt.iter().zip(tangents) {
        duals[v.index()] = Some(Dual { value: *v, tangent: Some(*t) });
    }
    let needed = leading_to(b, of);
    let dual =
        |duals: &[Option<Dual>], v: ValueId| duals[v.index()].unwrap_or(Dual { value: v, tangent: None });
    for (i, needed) in needed.into_iter().enumerate() {
        let id = NodeId(i as u32);
        let node = b.graph().node(id).clone();
        if !needed || node.ins.iter().all(|v| duals[v.index()].is_none()) {
            continue;
        }
        // A value that derivatives are taken by is independent, whatever it is computed from.
        if node.outs().any(|o| duals[o.index()].is_some()) {
            continue;
        }
        let ins: Vec<Dual> = node.ins.iter().map(|v| dual(&duals, *v)).collect();
        let outer = b.current_origins().clone();
        b.set_origins(b.graph().origins(id).derived("tangent of"));
        let place = b.graph().describe(id);
        let outs = node_tangents(b, &node.op, &ins).map_err(|e| e.at(&place));
        b.set_origins(outer);
        for (o, dual) in node.outs().zip(outs?) {
            if dual.tangent.is_some() || dual.value != o {
                duals[o.index()] = Some(dual);
            }
        }
    }
    Ok(of.iter().map(|v| dual(&duals, *v)).collect())
}

/// Which nodes lead to values.
fn leading_to(b: &Builder, of: &[ValueId]) -> Vec<bool> {
    let graph = b.graph();
    let mut needed = vec![false; graph.len()];
    of.iter().for_each(|v| needed[graph.value(*v).node.index()] = true);
    for (id, node) in graph.nodes().rev() {
        if needed[id.index()] {
            node.ins.iter().for_each(|v| needed[graph.value(*v).node.index()] = true);
        }
    }
    needed
}

/// Values and tangents of one node's results.
fn node_tangents(b: &mut Builder, op: &Op, ins: &[Dual]) -> Result<Vec<Dual>> {
    let values: Vec<ValueId> = ins.iter().map(|d| d.value).collect();
    // Integers and booleans have no tangent, and none goes through a stop.
    let tangents: Vec<Option<ValueId>> = ins
        .iter()
        .map(|d| d.tangent.filter(|_| !matches!(op, Op::StopGradient(_)) && b.ty(d.value).dtype.is_float()))
        .collect();
    if tangents.iter().all(Option::is_none) {
        let outs = b.op(op.clone(), &values)?;
        return Ok(outs.into_iter().map(|value| Dual { value, tangent: None }).collect());
    }
    match op.jvp(&mut JvpCx { b, ins: &values, tangents: &tangents })? {
        Jvp::Duals(duals) => Ok(duals),
        Jvp::Transpose => {
            let outs = b.op(op.clone(), &values)?;
            let found = match transposed(b, op, &values, &outs, &tangents)? {
                Some(found) => found,
                None => return expansion_tangents(b, op, ins),
            };
            Ok(outs.into_iter().zip(found).map(|(value, tangent)| Dual { value, tangent }).collect())
        }
    }
}

/// Tangents by two gradients: the pull-back u -> uᵀJ is linear in u, and its own gradient for the seed t is J t,
/// whatever u is. `None` if the operation is differentiated through its expansion.
fn transposed(
    b: &mut Builder,
    op: &Op,
    ins: &[ValueId],
    outs: &[ValueId],
    tangents: &[Option<ValueId>],
) -> Result<Option<Vec<Option<ValueId>>>> {
    let mut inner = Builder::with_infer(b.graph().infer().clone());
    let x = ins.iter().map(|v| inner.input(b.ty(*v).clone())).collect::<Result<Vec<_>>>()?;
    let y = inner.op(op.clone(), &x)?;
    let mut u = Vec::with_capacity(y.len());
    for v in &y {
        let ty = inner.ty(*v).clone();
        u.push(if ty.dtype.is_float() { Some(inner.input(ty)?) } else { None });
    }
    if u.iter().all(Option::is_none) {
        return Ok(Some(vec![None; outs.len()]));
    }
    let pulled = match op.vjp(&mut VjpCx { b: &mut inner, ins: &x, outs: &y, grads: &u })? {
        Vjp::Grads(g) => g,
        Vjp::Expand => return Ok(None),
        Vjp::None(reason) => {
            return Err(Error::new(format!("there is no derivative through `{}`: {reason}", op.name()))
                .help("put a stop_gradient before it if its derivative is meant to be zero"));
        }
    };
    let mut seeds = Vec::new();
    let mut given = Vec::new();
    for (g, t) in pulled.iter().zip(tangents) {
        if let (Some(g), Some(t)) = (g, t) {
            seeds.push((*g, inner.input(inner.ty(*g).clone())?));
            given.push(*t);
        }
    }
    let cotangents: Vec<ValueId> = u.iter().flatten().copied().collect();
    let mut found = backward(&mut inner, &seeds, &cotangents)?.into_iter();
    let found: Vec<Option<ValueId>> = u.iter().map(|u| u.and_then(|_| found.next().flatten())).collect();
    let mut operands = ins.to_vec();
    for (u, out) in u.iter().zip(outs) {
        if u.is_some() {
            operands.push(b.zeros_like(*out)?);
        }
    }
    operands.extend(given);
    copied(b, inner, &found, &operands).map(Some)
}

/// Tangents through a composite's definition.
fn expansion_tangents(b: &mut Builder, op: &Op, ins: &[Dual]) -> Result<Vec<Dual>> {
    let mut inner = Builder::with_infer(b.graph().infer().clone());
    let x = ins.iter().map(|d| inner.input(b.ty(d.value).clone())).collect::<Result<Vec<_>>>()?;
    let Some(y) = op.expand(&mut inner, &x)? else {
        fail!("`{}` has neither a derivative nor an expansion", op.name());
    };
    let mut operands: Vec<ValueId> = ins.iter().map(|d| d.value).collect();
    let (mut wrt, mut tangents) = (Vec::new(), Vec::new());
    for (d, x) in ins.iter().zip(&x) {
        if let Some(t) = d.tangent {
            wrt.push(*x);
            tangents.push(inner.input(b.ty(t).clone())?);
            operands.push(t);
        }
    }
    let duals = forward(&mut inner, &y, &wrt, &tangents)?;
    let values: Vec<Option<ValueId>> = duals.iter().map(|d| Some(d.value)).collect();
    let both: Vec<Option<ValueId>> = values.into_iter().chain(duals.iter().map(|d| d.tangent)).collect();
    let both = copied(b, inner, &both, &operands)?;
    let (values, tangents) = both.split_at(duals.len());
    // The composite itself gives the values, unless a loop in it computes them with the tangents.
    let whole = b.op(op.clone(), &operands[..ins.len()])?;
    let loops = duals.iter().zip(&y).any(|(d, y)| d.value != *y);
    Ok((0..whole.len())
        .map(|i| Dual { value: values[i].filter(|_| loops).unwrap_or(whole[i]), tangent: tangents[i] })
        .collect())
}
