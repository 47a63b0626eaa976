//! Which elements of a buffer a port touches.

use crate::program::{BufferId, Form, InstOp, Kernel, Level, Port, Program, Step, Swept};

/// One of the two lists of ports of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

impl Side {
    pub fn ports(self, step: &Step) -> &[Port] {
        match self {
            Side::Read => &step.reads,
            Side::Write => &step.writes,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Side::Read => "read",
            Side::Write => "write",
        }
    }
}

/// What a port's view ranges over.
#[derive(Clone, Debug)]
pub(super) enum Domain {
    /// These sizes, with any strides.
    Over(Vec<usize>),
    /// All of the buffer in row-major order, seen as these sizes.
    Dense(Vec<usize>),
    /// A packed matrix of these logical sizes; its view says nothing.
    Packed(Vec<usize>),
}

fn join(a: &[usize], b: &[usize]) -> Vec<usize> {
    [a, b].concat()
}

/// The domain of a port of a step whose ports are as many as its kernel has.
pub(super) fn domain(p: &Program, step: &Step, side: Side, port: usize) -> Domain {
    let buffer = p.buffer(side.ports(step)[port].buffer);
    let packed = buffer.form != Form::Dense;
    if side == Side::Read
        && let Some(sizes) = step.kernel.operand(port)
    {
        let packs = port == 1 && matches!(step.kernel, Kernel::Dot(_) | Kernel::Conv(_));
        return if packed && packs { Domain::Packed(sizes) } else { Domain::Over(sizes) };
    }
    if let Some(swept) = step.kernel.swept() {
        return Domain::Over(swept.sizes());
    }
    match (&step.kernel, side, port) {
        (Kernel::ArgReduce { rows, cols, .. }, Side::Read, _) => Domain::Over(join(rows, &[*cols])),
        (Kernel::ArgReduce { rows, .. }, Side::Write, _) => Domain::Over(rows.clone()),
        (Kernel::Repack { batch, k, n }, Side::Write, _) if packed => Domain::Packed(join(batch, &[*k, *n])),
        (Kernel::Repack { batch, k, n }, ..) => Domain::Over(join(batch, &[*k, *n])),
        (Kernel::RepackFilters { kernel, inputs, outputs, .. }, side, _) => {
            let sizes = join(kernel, &[*inputs, *outputs]);
            if packed && side == Side::Write { Domain::Packed(sizes) } else { Domain::Over(sizes) }
        }
        (Kernel::Gather { outer, axis, inner, count }, side, port) => Domain::Dense(match (side, port) {
            (Side::Read, 0) => vec![*outer, *axis, *inner],
            (Side::Read, _) => vec![*count],
            (Side::Write, _) => vec![*outer, *count, *inner],
        }),
        (Kernel::ScatterAdd { outer, axis, inner, count }, side, port) => Domain::Dense(match (side, port) {
            (Side::Read, 1) => vec![*count],
            (Side::Read, 2) => vec![*outer, *count, *inner],
            _ => vec![*outer, *axis, *inner],
        }),
        // What is swept was answered above.
        (Kernel::Nest(_) | Kernel::Dot(_) | Kernel::Conv(_) | Kernel::Pool(_), ..)
        | (Kernel::Loop(_) | Kernel::While(_) | Kernel::Branch(_), ..) => {
            if packed {
                Domain::Packed(buffer.shape.clone())
            } else {
                Domain::Dense(buffer.shape.clone())
            }
        }
    }
}

/// Whether a level varies over a dim of the domain.
pub(super) fn varies(level: Level, dim: usize, rows: usize) -> bool {
    match level {
        Level::Scalar => false,
        Level::Row => dim < rows,
        Level::Col => dim >= rows,
        Level::Elem => true,
    }
}

/// At which level a port is accessed: that of its store, or all of its loads'.
fn port_level(swept: &Swept<'_>, side: Side, port: usize) -> Level {
    let body = swept.body;
    match side {
        Side::Read if port < swept.operands => Level::Elem,
        Side::Read => body
            .insts
            .iter()
            .filter(|i| i.op == InstOp::Load(port))
            .fold(Level::Scalar, |l, i| l.join(i.level)),
        Side::Write if port >= body.stores.len() => Level::Elem,
        Side::Write => body
            .stores
            .iter()
            .filter(|s| s.write == port)
            .fold(Level::Scalar, |l, s| l.join(body.inst(s.reg).level)),
    }
}

/// The elements that a port touches: `offset + sum(coordinate * stride)` over all coordinates.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub buffer: BufferId,
    pub offset: i128,
    /// Size and stride of every dim.
    pub dims: Vec<(usize, i128)>,
}

impl Access {
    /// Of a port whose view has the rank of its domain.
    pub fn of(p: &Program, step: &Step, side: Side, port: usize) -> Access {
        let Port { buffer, view } = &side.ports(step)[port];
        let sizes = match domain(p, step, side, port) {
            Domain::Over(sizes) => sizes,
            Domain::Dense(_) | Domain::Packed(_) => {
                let count = p.buffer(*buffer).shape.iter().product();
                return Access { buffer: *buffer, offset: 0, dims: vec![(count, 1)] };
            }
        };
        let swept = step.kernel.swept();
        let level = swept.as_ref().map_or(Level::Elem, |s| port_level(s, side, port));
        let rows = swept.map_or(0, |s| s.rows.len());
        let mut access = Access { buffer: *buffer, offset: view.offset as i128, dims: Vec::new() };
        for (d, size) in sizes.into_iter().enumerate() {
            let size = if varies(level, d, rows) { size } else { 1 };
            let (lo, hi) = view.guard.as_ref().map_or((0, size), |g| (g.lo[d], g.hi[d].min(size)));
            let stride = view.strides[d] as i128;
            access.offset = access.offset.saturating_add(stride.saturating_mul(lo as i128));
            access.dims.push((hi.saturating_sub(lo), stride));
        }
        access
    }

    /// Smallest and largest element; `None` if nothing is touched.
    pub fn bounds(&self) -> Option<(i128, i128)> {
        if self.dims.iter().any(|(n, _)| *n == 0) {
            return None;
        }
        let (mut lo, mut hi) = (self.offset, self.offset);
        for (n, stride) in &self.dims {
            let reach = stride.saturating_mul(*n as i128 - 1);
            lo = lo.saturating_add(reach.min(0));
            hi = hi.saturating_add(reach.max(0));
        }
        Some((lo, hi))
    }

    /// Whether different coordinates always touch different elements. Exact for views that are
    /// nested blocks, which all that movement operations make are; `false` for others.
    pub fn injective(&self) -> bool {
        if self.dims.iter().any(|(n, _)| *n == 0) {
            return true;
        }
        let mut dims: Vec<(i128, i128)> =
            self.dims.iter().filter(|(n, _)| *n > 1).map(|(n, s)| (s.abs(), *n as i128 - 1)).collect();
        dims.sort_unstable();
        let mut reach = 0i128;
        dims.into_iter().all(|(stride, steps)| {
            let apart = stride > reach;
            reach = reach.saturating_add(stride.saturating_mul(steps));
            apart
        })
    }
}
