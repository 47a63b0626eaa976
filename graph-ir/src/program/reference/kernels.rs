//! The kernels that are more than a body.

use super::body::Frame;
use super::{Placement, Writes, nested, window};
use crate::dtype::DType;
use crate::error::Result;
use crate::program::{Dot, Form, Kernel, Port, Program, Step};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;

/// Runs a step on the contents of its read ports.
pub(super) fn run(
    p: &Program,
    step: &Step,
    reads: &[&Tensor],
    writes: &mut Writes<'_>,
    placement: Placement,
) -> Result<()> {
    match &step.kernel {
        Kernel::Nest(_) => sweep(step, None, reads, writes),
        Kernel::Dot(d) => sweep(step, Some(product(p, step, d, reads)), reads, writes),
        Kernel::Conv(c) => sweep(step, Some(window::convolution(p, step, c, reads)), reads, writes),
        Kernel::Pool(w) => {
            let (values, winners) = window::pool(step, w, reads);
            if let Some(winners) = winners {
                window::store_winners(step, w, &winners, writes);
            }
            sweep(step, Some(values), reads, writes)
        }
        Kernel::ArgReduce { max, rows, cols } => {
            arg_reduce(step, *max, rows, *cols, reads[0], writes);
            Ok(())
        }
        Kernel::Gather { outer, axis, inner, count } => {
            let at = indices(reads[1], *axis)?;
            let out = writes.tensor(&step.writes[0]);
            for o in 0..*outer {
                for (i, index) in at.iter().enumerate() {
                    for n in 0..*inner {
                        out.set((o * count + i) * inner + n, reads[0].get((o * axis + index) * inner + n));
                    }
                }
            }
            Ok(())
        }
        Kernel::ScatterAdd { outer, axis, inner, count } => {
            let at = indices(reads[1], *axis)?;
            let out = writes.tensor(&step.writes[0]);
            // Sums are kept wide and rounded once.
            let wide = if out.dtype().is_float() { DType::F64 } else { out.dtype() };
            let mut sums: Vec<Scalar> = (0..reads[0].len()).map(|i| reads[0].get(i)).collect();
            for o in 0..*outer {
                for (i, index) in at.iter().enumerate() {
                    for n in 0..*inner {
                        let sum = &mut sums[(o * axis + index) * inner + n];
                        *sum = ScalarFn::Add.eval(&[*sum, reads[2].get((o * count + i) * inner + n)], wide);
                    }
                }
            }
            sums.into_iter().enumerate().for_each(|(i, sum)| out.set(i, sum));
            Ok(())
        }
        Kernel::Repack { batch, k, n } => {
            let rows = [&batch[..], &[*k]].concat();
            repack(p, step, &rows, *n, reads[0], writes);
            Ok(())
        }
        Kernel::RepackFilters { kernel, inputs, outputs, .. } => {
            let rows = [&kernel[..], &[*inputs]].concat();
            repack(p, step, &rows, *outputs, reads[0], writes);
            Ok(())
        }
        Kernel::Loop(l) => nested::counted_loop(step, l, reads, writes, placement),
        Kernel::While(w) => nested::while_loop(step, w, reads, writes, placement),
        Kernel::Branch(b) => nested::branch(step, b, reads, writes, placement),
    }
}

/// Runs a kernel's body over its domain; `acc` are the sums that it finishes.
fn sweep(step: &Step, acc: Option<Tensor>, reads: &[&Tensor], writes: &mut Writes<'_>) -> Result<()> {
    let Some(swept) = step.kernel.swept() else { return Ok(()) };
    Frame { step, body: swept.body, rows: &swept.rows, cols: &swept.cols, acc, reads }.run(writes)
}

/// The elements of a matrix in f64, row-major over its rows (batch dims included) and columns.
pub(super) fn matrix(port: &Port, rows: &[usize], cols: usize, x: &Tensor) -> Vec<f64> {
    let view = port.view.flatten(Some(rows), Some(&[cols]), rows.len());
    let (r, c) = view.sizes();
    (0..r * c).filter_map(|i| view.element(i / c, i % c)).map(|e| x.get(e).as_f64()).collect()
}

/// The accumulator of every element: sums in f64, rounded once.
fn product(p: &Program, step: &Step, d: &Dot, reads: &[&Tensor]) -> Tensor {
    let (m, n, k) = (d.m, d.n, d.k);
    let a = matrix(&step.reads[0], &[&d.batch[..], &[m]].concat(), k, reads[0]);
    let rows = [&d.batch[..], &[k]].concat();
    let b = match p.buffer(step.reads[1].buffer).form {
        Form::Dense => matrix(&step.reads[1], &rows, n, reads[1]),
        _ => reads[1].to_f64(),
    };
    let batches: usize = d.batch.iter().product();
    let dtype = if reads[0].dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let mut out = Tensor::zeros(dtype, &[batches * m, n]);
    let mut sums = vec![0.0; n];
    for row in 0..batches * m {
        sums.fill(0.0);
        for l in 0..k {
            let factor = a[row * k + l];
            let b = &b[(row / m * k + l) * n..][..n];
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += factor * b;
            }
        }
        for (j, sum) in sums.iter().enumerate() {
            out.set(row * n + j, Scalar::F(*sum));
        }
    }
    out
}

fn arg_reduce(step: &Step, max: bool, rows: &[usize], cols: usize, x: &Tensor, writes: &mut Writes<'_>) {
    let from = step.reads[0].view.flatten(Some(rows), Some(&[cols]), rows.len());
    let to = step.writes[0].view.flatten(Some(rows), None, rows.len());
    let out = writes.tensor(&step.writes[0]);
    let beats = if max { ScalarFn::Gt } else { ScalarFn::Lt };
    let nan = |s: Scalar| s.as_f64().is_nan();
    for r in 0..to.sizes().0 {
        let mut best: Option<(usize, Scalar)> = None;
        for c in 0..cols {
            let Some(new) = from.element(r, c).map(|e| x.get(e)) else { continue };
            let better = best.is_none_or(|(_, old)| {
                !nan(old) && (nan(new) || beats.eval(&[new, old], x.dtype()).as_bool())
            });
            if better {
                best = Some((c, new));
            }
        }
        if let (Some((c, _)), Some(e)) = (best, to.element(r, 0)) {
            out.set(e, Scalar::I(c as i128));
        }
    }
}

/// Indices as numbers, all inside the axis.
fn indices(idx: &Tensor, axis: usize) -> Result<Vec<usize>> {
    let mut at = Vec::with_capacity(idx.len());
    for i in 0..idx.len() {
        let v = idx.get(i).as_int();
        match usize::try_from(v) {
            Ok(u) if u < axis => at.push(u),
            _ => fail!("index {v} is outside 0..{axis}"),
        }
    }
    Ok(at)
}

fn repack(p: &Program, step: &Step, rows: &[usize], n: usize, x: &Tensor, writes: &mut Writes<'_>) {
    let flatten = |port: &Port| port.view.flatten(Some(rows), Some(&[n]), rows.len());
    let from = flatten(&step.reads[0]);
    let dense = p.buffer(step.writes[0].buffer).form == Form::Dense;
    let to = dense.then(|| flatten(&step.writes[0]));
    let out = writes.tensor(&step.writes[0]);
    let (r, c) = from.sizes();
    for i in 0..r * c {
        let target = to.as_ref().map_or(Some(i), |v| v.element(i / c, i % c));
        if let (Some(e), Some(t)) = (from.element(i / c, i % c), target) {
            out.set(t, x.get(e));
        }
    }
}
