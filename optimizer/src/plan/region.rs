//! The set of elements that a port touches, and the questions that reordering asks about such sets.

use graphc_ir::program::{Form, Kernel, Level, Port, Program, Step, View};

/// Elements of one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// None.
    Empty,
    /// Unknown, perhaps all.
    Everything,
    /// `lo + sum(i_d * stride_d)` for `0 <= i_d < extent_d`.
    Strided {
        /// First element.
        lo: i128,
        /// Positive strides, descending, with extents of at least 2.
        dims: Vec<(i128, i128)>,
    },
}

impl Region {
    /// Of a view over a domain.
    fn of(domain: &[usize], view: &View) -> Region {
        let mut lo = view.offset as i128;
        let mut dims = Vec::with_capacity(domain.len());
        for (d, (size, stride)) in domain.iter().zip(&view.strides).enumerate() {
            let stride = *stride as i128;
            let (first, beyond) = match &view.guard {
                Some(g) => (g.lo.get(d).copied().unwrap_or(0), g.hi.get(d).copied().unwrap_or(*size)),
                None => (0, *size),
            };
            if first >= beyond {
                return Region::Empty;
            }
            let extent = (beyond - first) as i128;
            lo += first as i128 * stride;
            if stride < 0 {
                lo += (extent - 1) * stride;
            }
            if stride != 0 && extent > 1 {
                dims.push((stride.abs(), extent));
            }
        }
        dims.sort_unstable_by(|a, b| b.cmp(a));
        Region::Strided { lo, dims }
    }

    /// What a step reads through a port.
    pub fn read(program: &Program, step: &Step, port: usize) -> Region {
        let Some(at) = step.reads.get(port) else { return Region::Empty };
        let swept = || step.kernel.swept().map(|swept| swept.sizes());
        let domain = match &step.kernel {
            Kernel::ArgReduce { rows, cols, .. } => Some([&rows[..], &[*cols]].concat()),
            Kernel::Repack { batch, k, n } => Some([&batch[..], &[*k, *n]].concat()),
            kernel => kernel.operand(port).or_else(swept),
        };
        let Some(domain) = domain else { return Region::Everything };
        Region::through(program, at, &domain)
    }

    /// What a step writes through a port.
    pub fn written(program: &Program, step: &Step, port: usize) -> Region {
        let Some(at) = step.writes.get(port) else { return Region::Empty };
        let domain = match &step.kernel {
            Kernel::ArgReduce { rows, .. } => Some(rows.clone()),
            kernel => kernel.swept().map(|swept| swept.sizes()),
        };
        let Some(domain) = domain else { return Region::Everything };
        Region::through(program, at, &domain)
    }

    fn through(program: &Program, port: &Port, domain: &[usize]) -> Region {
        match program.buffer(port.buffer).form {
            Form::Dense => Region::of(domain, &port.view),
            Form::Panels { .. } | Form::Filters { .. } => Region::Everything,
        }
    }

    /// Whether the two have provably no element in common.
    ///
    /// Slabs of a concatenation interleave in memory along every axis but the first, so intervals are
    /// compared modulo each stride as well: where all greater strides are multiples of `s`, the
    /// remainders of the elements modulo `s` are those of the smaller dims alone.
    pub fn disjoint(&self, other: &Region) -> bool {
        let (a, b) = match (self, other) {
            (Region::Empty, _) | (_, Region::Empty) => return true,
            (Region::Everything, _) | (_, Region::Everything) => return false,
            (Region::Strided { lo: la, dims: da }, Region::Strided { lo: lb, dims: db }) => {
                ((*la, &da[..]), (*lb, &db[..]))
            }
        };
        let apart = |x: (i128, i128), y: (i128, i128)| x.1 < y.0 || y.1 < x.0;
        if apart((a.0, a.0 + span(a.1)), (b.0, b.0 + span(b.1))) {
            return true;
        }
        a.1.iter()
            .chain(b.1)
            .map(|(stride, _)| *stride)
            .filter(|s| *s > 1)
            .any(|s| matches!((residues(a, s), residues(b, s)), (Some(x), Some(y)) if apart(x, y)))
    }
}

/// Distance from the first to the last element.
fn span(dims: &[(i128, i128)]) -> i128 {
    dims.iter().map(|(stride, extent)| stride * (extent - 1)).sum()
}

/// The interval of the elements modulo `s`, if it does not wrap around.
fn residues((lo, dims): (i128, &[(i128, i128)]), s: i128) -> Option<(i128, i128)> {
    let smaller = dims.partition_point(|(stride, _)| *stride >= s);
    if dims[..smaller].iter().any(|(stride, _)| stride % s != 0) {
        return None;
    }
    let first = lo.rem_euclid(s);
    let last = first + span(&dims[smaller..]);
    (last < s).then_some((first, last))
}

/// Whether a level varies over a dim of the domain, whose first `rows` dims are the rows.
fn varies(level: Level, dim: usize, rows: usize) -> bool {
    match level {
        Level::Elem => true,
        Level::Row => dim < rows,
        Level::Col => dim >= rows,
        Level::Scalar => false,
    }
}

/// Whether something of a level takes one value an element, dims of size 1 aside.
pub(super) fn is_full(domain: &[usize], rows: usize, level: Level) -> bool {
    domain.iter().enumerate().all(|(d, size)| *size <= 1 || varies(level, d, rows))
}

/// Number of elements that a view addresses at a level of the domain, if it addresses a different one
/// at every coordinate of that level.
pub(super) fn distinct_elements(domain: &[usize], rows: usize, level: Level, view: &View) -> Option<usize> {
    let mut dims = Vec::with_capacity(domain.len());
    let mut count = 1usize;
    for (d, (size, stride)) in domain.iter().zip(&view.strides).enumerate() {
        if !varies(level, d, rows) {
            if *size > 1 && *stride != 0 {
                return None;
            }
            continue;
        }
        count = count.checked_mul(*size)?;
        if *size > 1 {
            dims.push((stride.unsigned_abs(), *size));
        }
    }
    dims.sort_unstable();
    let mut reach = 0u128;
    for (stride, size) in dims {
        if stride as u128 <= reach {
            return None;
        }
        reach += stride as u128 * (size as u128 - 1);
    }
    Some(count)
}
