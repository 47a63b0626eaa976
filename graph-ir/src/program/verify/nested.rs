//! Loops and branches: what they pass to the Programs in them.

use crate::dtype::DType;
use crate::error::Result;
use crate::program::{Branch, BufferDecl, BufferId, BufferKind, Form, Loop, Port, Program, Step, While};

pub(super) fn counted_loop(p: &Program, step: &Step, l: &Loop) -> Result<()> {
    let body = &*l.body;
    let first_slice = l.invariants.saturating_add(l.carries);
    if body.inputs.len() < first_slice || body.outputs.len() < l.carries {
        fail!(
            "the loop has {} invariants and {} carries, but its body {} inputs and {} outputs",
            l.invariants,
            l.carries,
            body.inputs.len(),
            body.outputs.len()
        );
    }
    closed(body)?;
    carries(body, l.invariants, l.carries)?;
    let slices = |slice: bool| if slice { l.length } else { 1 };
    for (i, (port, id)) in step.reads.iter().zip(&body.inputs).enumerate() {
        input(p, i, port, body.buffer(*id), slices(i >= first_slice), i < l.invariants)?;
    }
    for (i, (port, id)) in step.writes.iter().zip(&body.outputs).enumerate() {
        output(p, i, port, body.buffer(*id), slices(i >= l.carries))?;
    }
    Ok(())
}

pub(super) fn while_loop(p: &Program, step: &Step, w: &While) -> Result<()> {
    let (condition, body) = (&*w.condition, &*w.body);
    if body.inputs.len() != w.invariants.saturating_add(body.outputs.len()) {
        fail!(
            "the loop has {} invariants, but its body {} inputs and {} outputs",
            w.invariants,
            body.inputs.len(),
            body.outputs.len()
        );
    }
    closed(condition)?;
    closed(body)?;
    carries(body, w.invariants, body.outputs.len())?;
    same(condition, &condition.inputs, body, &body.inputs)?;
    let goes_on = condition.outputs.iter().map(|o| condition.buffer(*o)).collect::<Vec<_>>();
    if !matches!(goes_on[..], [decl] if decl.dtype == DType::Bool && decl.shape.is_empty()) {
        fail!("the loop's condition gives one bool");
    }
    for (i, (port, id)) in step.reads.iter().zip(&body.inputs).enumerate() {
        input(p, i, port, body.buffer(*id), 1, i < w.invariants)?;
    }
    for (i, (port, id)) in step.writes.iter().zip(&body.outputs).enumerate() {
        output(p, i, port, body.buffer(*id), 1)?;
    }
    Ok(())
}

pub(super) fn branch(p: &Program, step: &Step, b: &Branch) -> Result<()> {
    closed(&b.then)?;
    closed(&b.otherwise)?;
    same(&b.then, &b.then.inputs, &b.otherwise, &b.otherwise.inputs)?;
    same(&b.then, &b.then.outputs, &b.otherwise, &b.otherwise.outputs)?;
    let condition = p.buffer(step.reads[0].buffer);
    if condition.dtype != DType::Bool || condition.shape.iter().product::<usize>() != 1 {
        fail!("a branch's condition is one bool, but buffer b{} is not", step.reads[0].buffer.0);
    }
    for (i, (port, id)) in step.reads[1..].iter().zip(&b.then.inputs).enumerate() {
        input(p, i, port, b.then.buffer(*id), 1, false)?;
    }
    for (i, (port, id)) in step.writes.iter().zip(&b.then.outputs).enumerate() {
        output(p, i, port, b.then.buffer(*id), 1)?;
    }
    Ok(())
}

/// A nested Program gets all that it reads as inputs.
fn closed(body: &Program) -> Result<()> {
    if body.buffers.iter().any(|b| matches!(b.kind, BufferKind::State(_) | BufferKind::Staged(_))) {
        fail!("the nested Program names state or staged buffers; they are operands of the step");
    }
    Ok(())
}

/// Carries come out as they go in.
fn carries(body: &Program, invariants: usize, count: usize) -> Result<()> {
    for c in 0..count {
        let (x, y) = (body.buffer(body.inputs[invariants + c]), body.buffer(body.outputs[c]));
        if x.dtype != y.dtype || x.shape != y.shape {
            fail!("carry {c} goes in as {}{:?} and comes out as {}{:?}", x.dtype, x.shape, y.dtype, y.shape);
        }
    }
    Ok(())
}

/// Two Programs take, or give, the same.
fn same(a: &Program, of_a: &[BufferId], b: &Program, of_b: &[BufferId]) -> Result<()> {
    let alike = |x: &BufferDecl, y: &BufferDecl| (x.dtype, &x.shape, x.form) == (y.dtype, &y.shape, y.form);
    let pairs = of_a.iter().zip(of_b).all(|(x, y)| alike(a.buffer(*x), b.buffer(*y)));
    if of_a.len() != of_b.len() || !pairs {
        fail!("the two nested Programs do not take and give the same");
    }
    Ok(())
}

fn input(
    p: &Program,
    i: usize,
    port: &Port,
    inner: &BufferDecl,
    slices: usize,
    invariant: bool,
) -> Result<()> {
    fits(p, "input", i, port, inner, slices)?;
    let packed = inner.form != Form::Dense || p.buffer(port.buffer).form != Form::Dense;
    if packed && (!invariant || inner.form != p.buffer(port.buffer).form) {
        fail!(
            "input {i} of the nested Program is packed; only invariants are, and then in the same form outside"
        );
    }
    Ok(())
}

fn output(p: &Program, i: usize, port: &Port, inner: &BufferDecl, slices: usize) -> Result<()> {
    fits(p, "output", i, port, inner, slices)?;
    if inner.form != Form::Dense || p.buffer(port.buffer).form != Form::Dense {
        fail!("output {i} of the nested Program is packed, but only dense buffers are written");
    }
    Ok(())
}

fn fits(p: &Program, what: &str, i: usize, port: &Port, inner: &BufferDecl, slices: usize) -> Result<()> {
    let outer = p.buffer(port.buffer);
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    if outer.dtype != inner.dtype || Some(count(&outer.shape)) != count(&inner.shape).checked_mul(slices) {
        fail!(
            "{what} {i} of the nested Program is {}{:?}, {slices} times, but buffer b{} is {}{:?}",
            inner.dtype,
            inner.shape,
            port.buffer.0,
            outer.dtype,
            outer.shape
        );
    }
    Ok(())
}
