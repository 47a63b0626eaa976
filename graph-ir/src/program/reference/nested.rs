//! Loops and branches: Programs in a step.

use super::{Placement, Writes};
use crate::error::Result;
use crate::program::{Branch, BufferId, Loop, Program, Step, While};
use crate::tensor::Tensor;

/// Operands in the shapes that a nested Program declares: outside they may lie in another shape.
fn shaped(body: &Program, inputs: &[BufferId], reads: &[&Tensor]) -> Vec<Tensor> {
    let shape = |id: &BufferId| &body.buffer(*id).shape;
    inputs.iter().zip(reads).map(|(id, t)| (*t).clone().reshaped(shape(id))).collect()
}

fn put(step: &Step, port: usize, value: &Tensor, writes: &mut Writes<'_>) {
    writes.tensor(&step.writes[port]).bytes_mut().copy_from_slice(value.bytes());
}

pub(super) fn counted_loop(
    step: &Step,
    l: &Loop,
    reads: &[&Tensor],
    writes: &mut Writes<'_>,
    placement: Placement,
) -> Result<()> {
    let body = &*l.body;
    let first_slice = l.invariants + l.carries;
    let mut args = shaped(body, &body.inputs[..first_slice], &reads[..first_slice]);
    for id in &body.inputs[first_slice..] {
        let decl = body.buffer(*id);
        args.push(Tensor::zeros(decl.dtype, &decl.shape));
    }
    for iteration in 0..l.length {
        let t = if l.reverse { l.length - 1 - iteration } else { iteration };
        for (stack, slice) in reads.iter().zip(&mut args).skip(first_slice) {
            let bytes = slice.bytes().len();
            slice.bytes_mut().copy_from_slice(&stack.bytes()[t * bytes..][..bytes]);
        }
        let results = super::run(body, &args, &mut [], &[], placement)?;
        for (i, result) in results.into_iter().enumerate() {
            if i < l.carries {
                args[l.invariants + i] = result;
            } else {
                let bytes = result.bytes();
                let stack = writes.tensor(&step.writes[i]).bytes_mut();
                stack[t * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
            }
        }
    }
    args[l.invariants..first_slice].iter().enumerate().for_each(|(i, carry)| put(step, i, carry, writes));
    Ok(())
}

pub(super) fn while_loop(
    step: &Step,
    w: &While,
    reads: &[&Tensor],
    writes: &mut Writes<'_>,
    placement: Placement,
) -> Result<()> {
    let mut args = shaped(&w.body, &w.body.inputs, reads);
    while super::run(&w.condition, &args, &mut [], &[], placement)?[0].get(0).as_bool() {
        let next = super::run(&w.body, &args, &mut [], &[], placement)?;
        args.truncate(w.invariants);
        args.extend(next);
    }
    args[w.invariants..].iter().enumerate().for_each(|(i, carry)| put(step, i, carry, writes));
    Ok(())
}

pub(super) fn branch(
    step: &Step,
    b: &Branch,
    reads: &[&Tensor],
    writes: &mut Writes<'_>,
    placement: Placement,
) -> Result<()> {
    let body = if reads[0].get(0).as_bool() { &b.then } else { &b.otherwise };
    let args = shaped(body, &body.inputs, &reads[1..]);
    let results = super::run(body, &args, &mut [], &[], placement)?;
    results.iter().enumerate().for_each(|(i, result)| put(step, i, result, writes));
    Ok(())
}
