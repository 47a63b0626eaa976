//! Declarations: sizes, forms, and that every role is held by the buffer that the Program names for it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::program::{BufferId, BufferKind, Form, Program};
use crate::tensor::element_count;
use crate::types::MAX_RANK;

pub(super) fn check(p: &Program) -> Result<()> {
    if p.commit > p.steps.len() {
        fail!("the commit point is {}, beyond the {} steps", p.commit, p.steps.len());
    }
    for (i, id) in p.inputs.iter().enumerate() {
        role(p, *id, BufferKind::Input(i), "input")?;
    }
    for (i, id) in p.outputs.iter().enumerate() {
        role(p, *id, BufferKind::Output(i), "output")?;
    }
    let mut states = BTreeMap::new();
    for (i, b) in p.buffers.iter().enumerate() {
        let Some(count) = element_count(&b.shape).filter(|_| b.shape.len() <= MAX_RANK) else {
            return Err(Error::limit(format!(
                "buffer b{i} has the shape {:?}, which no tensor can have",
                b.shape
            )));
        };
        if let Form::Panels { bytes } = b.form {
            if b.shape.len() < 2 || !b.dtype.is_float() {
                fail!("buffer b{i} is packed, so it is a float matrix, but it is {}{:?}", b.dtype, b.shape);
            }
            if bytes < count * b.dtype.size() {
                fail!("buffer b{i} is packed into {bytes} bytes, too few for its {count} elements");
            }
            if matches!(b.kind, BufferKind::State(_) | BufferKind::Const(_)) {
                fail!("buffer b{i} is packed, but state and constants are dense");
            }
        }
        let id = BufferId(i as u32);
        match b.kind {
            BufferKind::Input(n) if p.inputs.get(n) != Some(&id) => {
                fail!("buffer b{i} says that it is input {n}, but the Program's list of inputs does not");
            }
            BufferKind::Output(n) if p.outputs.get(n) != Some(&id) => {
                fail!("buffer b{i} says that it is output {n}, but the Program's list of outputs does not");
            }
            BufferKind::Const(n) => match p.constants.get(n) {
                None => fail!("buffer b{i} is constant {n}, but there are {}", p.constants.len()),
                Some(t) if t.dtype() != b.dtype || t.shape() != b.shape => fail!(
                    "buffer b{i} is {}{:?}, but constant {n} is {}{:?}",
                    b.dtype,
                    b.shape,
                    t.dtype(),
                    t.shape()
                ),
                Some(_) => {}
            },
            BufferKind::State(n) => {
                if let Some(other) = states.insert(n, i) {
                    fail!("buffers b{other} and b{i} are both state {n}; one buffer holds a state");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn role(p: &Program, id: BufferId, kind: BufferKind, what: &str) -> Result<()> {
    match p.buffers.get(id.index()) {
        None => fail!("the {what} buffer b{} does not exist; there are {}", id.0, p.buffers.len()),
        Some(b) if b.kind != kind => {
            fail!("buffer b{} is listed as {kind:?}, but declared as {:?}", id.0, b.kind)
        }
        Some(_) => Ok(()),
    }
}
