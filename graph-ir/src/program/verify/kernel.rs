//! Every step alone: its ports, their views, their types.

use super::access::{Access, Domain, Side, domain, varies};
use super::body::{BodyContext, check as check_body};
use super::nested;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::{Geometry, Layout};
use crate::program::{Conv, Form, Guard, Kernel, Pool, PoolKind, Port, Program, Step};
use crate::tensor::{element_count, row_major};

pub(super) fn check(p: &Program, step: &Step) -> Result<()> {
    for side in [Side::Read, Side::Write] {
        for (i, port) in side.ports(step).iter().enumerate() {
            if port.buffer.index() >= p.buffers.len() {
                fail!(
                    "{} port {i} names buffer b{}, but there are {}",
                    side.name(),
                    port.buffer.0,
                    p.buffers.len()
                );
            }
        }
    }
    sizes(step)?;
    arity(step)?;
    for side in [Side::Read, Side::Write] {
        for (i, port) in side.ports(step).iter().enumerate() {
            check_view(p, step, side, i, port).map_err(|e| prefix(e, side, i))?;
        }
    }
    match &step.kernel {
        Kernel::Nest(_) => body(p, step, None)?,
        Kernel::Dot(_) => body(p, step, Some(accumulator(p, step)?))?,
        Kernel::Conv(c) => conv(p, step, c)?,
        Kernel::Pool(w) => pool(p, step, w)?,
        Kernel::ArgReduce { cols, .. } => arg_reduce(p, step, *cols)?,
        Kernel::Gather { .. } => {
            same_dtype(p, &step.reads[0], &step.writes[0])?;
            indices(p, &step.reads[1])?;
        }
        Kernel::ScatterAdd { .. } => {
            same_dtype(p, &step.reads[0], &step.writes[0])?;
            same_dtype(p, &step.reads[0], &step.reads[2])?;
            indices(p, &step.reads[1])?;
            let dtype = p.buffer(step.writes[0].buffer).dtype;
            if !dtype.is_compute_float() && !dtype.is_int() {
                fail!("a scatter adds f32, f64 or integers, but not {dtype}");
            }
        }
        Kernel::Repack { .. } | Kernel::RepackFilters { .. } => {
            same_dtype(p, &step.reads[0], &step.writes[0])?;
        }
        Kernel::Loop(l) => nested::counted_loop(p, step, l)?,
        Kernel::While(w) => nested::while_loop(p, step, w)?,
        Kernel::Branch(b) => nested::branch(p, step, b)?,
    }
    for side in [Side::Read, Side::Write] {
        for i in 0..side.ports(step).len() {
            check_elements(p, step, side, i).map_err(|e| prefix(e, side, i))?;
        }
    }
    Ok(())
}

fn prefix(mut e: Error, side: Side, port: usize) -> Error {
    e.message = format!("{} port {port}: {}", side.name(), e.message);
    e
}

/// Iteration domains that can be counted.
fn sizes(step: &Step) -> Result<()> {
    let domain = match &step.kernel {
        Kernel::Nest(n) => [&n.rows[..], &n.cols].concat(),
        Kernel::Dot(d) => [&d.batch[..], &[d.m, d.n, d.k]].concat(),
        Kernel::Conv(c) => window_domain(&c.geometry)?,
        Kernel::Pool(w) => window_domain(&w.geometry)?,
        Kernel::RepackFilters { kernel, inputs, outputs, .. } => [&kernel[..], &[*inputs, *outputs]].concat(),
        Kernel::ArgReduce { rows, cols, .. } => [&rows[..], &[*cols]].concat(),
        Kernel::Gather { outer, axis, inner, count } | Kernel::ScatterAdd { outer, axis, inner, count } => {
            vec![*outer, *axis, *inner, *count]
        }
        Kernel::Repack { batch, k, n } => [&batch[..], &[*k, *n]].concat(),
        Kernel::Loop(_) | Kernel::While(_) | Kernel::Branch(_) => Vec::new(),
    };
    // Dims of 0 must not hide an overflow of the others: reduced levels iterate over those alone.
    let longest: Vec<usize> = domain.iter().map(|d| (*d).max(1)).collect();
    if element_count(&longest).is_none() {
        return Err(Error::limit(format!("the domain {domain:?} is too large to iterate over")));
    }
    Ok(())
}

/// Number of ports, as far as the kernel fixes it.
fn arity(step: &Step) -> Result<()> {
    let (reads, writes) = match &step.kernel {
        Kernel::Nest(_) | Kernel::Dot(_) | Kernel::Conv(_) | Kernel::Pool(_) => {
            let (operands, stores) =
                step.kernel.swept().map_or((0, 0), |s| (s.operands, s.body.stores.len()));
            (step.reads.len().max(operands), stores + step.kernel.extra_writes())
        }
        Kernel::ArgReduce { .. } | Kernel::Repack { .. } | Kernel::RepackFilters { .. } => (1, 1),
        Kernel::Gather { .. } => (2, 1),
        Kernel::ScatterAdd { .. } => (3, 1),
        Kernel::Loop(l) => (l.body.inputs.len(), l.body.outputs.len()),
        Kernel::While(w) => (w.body.inputs.len(), w.body.outputs.len()),
        Kernel::Branch(b) => (1 + b.then.inputs.len(), b.then.outputs.len()),
    };
    if (step.reads.len(), step.writes.len()) != (reads, writes) {
        fail!(
            "it has {} read and {} write ports, but its kernel has {reads} and {writes}",
            step.reads.len(),
            step.writes.len()
        );
    }
    Ok(())
}

/// The form of the view itself: rank, guard, strides.
fn check_view(p: &Program, step: &Step, side: Side, i: usize, port: &Port) -> Result<()> {
    let buffer = p.buffer(port.buffer);
    let packed = buffer.form != Form::Dense;
    let view = &port.view;
    if let Some(guard) = &view.guard {
        if side == Side::Write {
            fail!("a write has no guard");
        }
        let Kernel::Nest(n) = &step.kernel else {
            fail!("only reads of nests have guards; copy the operand first")
        };
        check_guard(guard, &[&n.rows[..], &n.cols].concat(), buffer.dtype)?;
    }
    match domain(p, step, side, i) {
        Domain::Packed(sizes) => {
            if sizes.iter().product::<usize>() != buffer.shape.iter().product::<usize>() {
                fail!("the packed buffer holds {:?}, but {sizes:?} is asked for", buffer.shape);
            }
        }
        _ if packed => {
            fail!(
                "buffer b{} is packed; only a repack writes and only the second operand of a dot or a convolution reads it",
                port.buffer.0
            )
        }
        Domain::Over(sizes) => {
            if view.strides.len() != sizes.len() {
                fail!(
                    "the view has {} strides, but the domain {sizes:?} has {} dims",
                    view.strides.len(),
                    sizes.len()
                );
            }
            if matches!(step.kernel, Kernel::Dot(_)) && side == Side::Read && i < 2 {
                let r = sizes.len();
                if !(r - 2..r).any(|d| view.strides[d] == 1 || sizes[d] <= 1) {
                    fail!(
                        "neither of the last two strides {:?} of a dot's operand is 1; copy it first",
                        &view.strides[r - 2..]
                    );
                }
            }
        }
        Domain::Dense(sizes) => {
            let count = buffer.shape.iter().product::<usize>();
            if sizes.iter().product::<usize>() != count {
                fail!(
                    "{sizes:?} is asked for, but buffer b{} has the shape {:?}",
                    port.buffer.0,
                    buffer.shape
                );
            }
            let dense = |shape: &[usize]| {
                let strides = row_major(shape);
                view.strides.len() == shape.len()
                    && (0..shape.len()).all(|d| shape[d] <= 1 || strides[d] == view.strides[d])
            };
            if view.offset != 0 || count > 1 && !dense(&sizes) && !dense(&buffer.shape) {
                fail!("the kernel takes whole dense buffers, but the view is {view:?}; copy it first");
            }
        }
    }
    Ok(())
}

fn check_guard(guard: &Guard, domain: &[usize], dtype: DType) -> Result<()> {
    if guard.lo.len() != domain.len() || guard.hi.len() != domain.len() {
        fail!("the guard is not of the domain's rank {}", domain.len());
    }
    for (d, size) in domain.iter().enumerate() {
        if guard.lo[d] > guard.hi[d] || guard.hi[d] > *size {
            fail!("the guard {}..{} of dim {d} is not inside 0..{size}", guard.lo[d], guard.hi[d]);
        }
    }
    if !super::body::is_of_type(guard.fill, dtype) {
        fail!("the guard's fill {:?} is not a value of {dtype}", guard.fill);
    }
    Ok(())
}

/// What the view touches: inside the buffer, and for writes each element once.
fn check_elements(p: &Program, step: &Step, side: Side, i: usize) -> Result<()> {
    let port = &side.ports(step)[i];
    let access = Access::of(p, step, side, i);
    let count = p.buffer(port.buffer).shape.iter().product::<usize>();
    if let Some((lo, hi)) = access.bounds()
        && (lo < 0 || hi >= count as i128)
    {
        fail!("the view reaches the elements {lo}..={hi}, but buffer b{} has {count}", port.buffer.0);
    }
    if side == Side::Write && !access.injective() {
        fail!("the view {:?} writes some element of buffer b{} twice", port.view.strides, port.buffer.0);
    }
    if let (Side::Write, Some(swept), Domain::Over(sizes)) =
        (side, step.kernel.swept(), domain(p, step, side, i))
    {
        for store in swept.body.stores.iter().filter(|s| s.write == i) {
            let level = swept.body.inst(store.reg).level;
            for (d, size) in sizes.iter().enumerate() {
                if *size > 1 && !varies(level, d, swept.rows.len()) && port.view.strides[d] != 0 {
                    fail!(
                        "%{} is stored at the level {level:?}, so the stride of dim {d} is 0, but it is {}",
                        store.reg.0,
                        port.view.strides[d]
                    );
                }
            }
        }
    }
    Ok(())
}

/// Checks a kernel's body; `acc` is the type of the sums that it finishes.
fn body(p: &Program, step: &Step, acc: Option<DType>) -> Result<()> {
    let Some(swept) = step.kernel.swept() else { return Ok(()) };
    let (rows, cols) = (&swept.rows[..], &swept.cols[..]);
    check_body(&BodyContext { p, step, body: swept.body, rows, cols, acc, first_load: swept.operands })
}

/// The type in which products of the two operands are summed.
fn accumulator(p: &Program, step: &Step) -> Result<DType> {
    let (a, b) = (p.buffer(step.reads[0].buffer).dtype, p.buffer(step.reads[1].buffer).dtype);
    if a != b || !a.is_float() {
        fail!("a {} takes two operands of one float type, but got {a} and {b}", step.kind());
    }
    Ok(if a == DType::F64 { DType::F64 } else { DType::F32 })
}

fn conv(p: &Program, step: &Step, c: &Conv) -> Result<()> {
    let g = &c.geometry;
    if g.groups == 0 || !g.channels.is_multiple_of(g.groups) || !g.outputs.is_multiple_of(g.groups) {
        fail!("{} groups do not divide {} and {} channels", g.groups, g.channels, g.outputs);
    }
    body(p, step, Some(accumulator(p, step)?))
}

fn pool(p: &Program, step: &Step, w: &Pool) -> Result<()> {
    let dtype = p.buffer(step.reads[0].buffer).dtype;
    if !dtype.is_compute_float() {
        fail!("a {} takes f32 or f64, but got {dtype}", step.kind());
    }
    let winner = match w.kind {
        PoolKind::Scatter | PoolKind::Gather => step.reads.get(1),
        PoolKind::Max { winner: true } => step.writes.last(),
        _ => None,
    };
    if let Some(port) = winner
        && p.buffer(port.buffer).dtype != DType::I32
    {
        fail!("winners are i32, but buffer b{} is {}", port.buffer.0, p.buffer(port.buffer).dtype);
    }
    body(p, step, Some(dtype))
}

/// The sizes of windows over an image, which have to be of one rank and of steps that lead on.
fn window_domain(g: &Geometry) -> Result<Vec<usize>> {
    let (w, rank) = (&g.window, g.image.len());
    let lists = [&w.kernel, &w.strides, &w.dilations, &g.positions, &w.pads_lo, &w.pads_hi];
    if !(1..=3).contains(&rank) || lists.iter().any(|list| list.len() != rank) {
        fail!("windows over an image of {rank} spatial dims have lists of as many sizes, from 1 to 3");
    }
    if g.layout != Layout::ChannelsLast || lists[..3].iter().any(|list| list.contains(&0)) {
        fail!("a kernel's images have their channels last, and its windows sizes and steps of at least 1");
    }
    let taps = [&w.kernel[..], &[g.batch, g.channels, g.outputs]].concat();
    let longest: Vec<usize> = g.image.iter().zip(&g.positions).map(|(a, b)| *a.max(b)).collect();
    Ok([taps, longest].concat())
}

fn arg_reduce(p: &Program, step: &Step, cols: usize) -> Result<()> {
    let (x, y) = (p.buffer(step.reads[0].buffer), p.buffer(step.writes[0].buffer));
    if cols == 0 {
        fail!("there is no largest element of nothing");
    }
    if !x.dtype.is_compute_float() && !x.dtype.is_int() {
        fail!("it takes f32, f64 or integers, but got {}", x.dtype);
    }
    if y.dtype != DType::I64 {
        fail!("it gives i64, but its write buffer is {}", y.dtype);
    }
    Ok(())
}

fn same_dtype(p: &Program, a: &Port, b: &Port) -> Result<()> {
    let (x, y) = (p.buffer(a.buffer).dtype, p.buffer(b.buffer).dtype);
    if x != y {
        fail!(
            "buffers b{} and b{} have the types {x} and {y}, but the kernel does not convert",
            a.buffer.0,
            b.buffer.0
        );
    }
    Ok(())
}

fn indices(p: &Program, port: &Port) -> Result<()> {
    let dtype = p.buffer(port.buffer).dtype;
    if !matches!(dtype, DType::I32 | DType::I64) {
        fail!("indices are i32 or i64, but buffer b{} is {dtype}", port.buffer.0);
    }
    Ok(())
}
