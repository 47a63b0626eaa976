//! Convolutions and pools: sums and winners over windows.

use super::Writes;
use super::kernels::matrix;
use crate::dtype::DType;
use crate::program::{Conv, ConvRole, Form, Pool, PoolKind, Program, Step};
use crate::scalar::Scalar;
use crate::tensor::Tensor;

/// The elements of an operand in f64, row-major over its dims.
fn operand(step: &Step, port: usize, sizes: &[usize], x: &Tensor) -> Vec<f64> {
    let (cols, rows) = sizes.split_last().expect("operands of windows have channels");
    matrix(&step.reads[port], rows, *cols, x)
}

/// The accumulator of every element of a convolution or an adjoint of it: sums in f64, rounded once.
pub(super) fn convolution(p: &Program, step: &Step, c: &Conv, reads: &[&Tensor]) -> Tensor {
    let [first, second, result] = c.sizes();
    let a = operand(step, 0, &first, reads[0]);
    let b = match p.buffer(step.reads[1].buffer).form {
        Form::Dense => operand(step, 1, &second, reads[1]),
        _ => reads[1].to_f64(),
    };
    let mut sums = vec![0.0; result.iter().product()];
    c.geometry.products(|y, image, filter| match c.role {
        ConvRole::Forward => sums[y] += a[image] * b[filter],
        ConvRole::InputGrad => sums[image] += a[y] * b[filter],
        ConvRole::FilterGrad => sums[filter] += a[image] * b[y],
    });
    let dtype = if reads[0].dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::from_fn(dtype, &result, |i| Scalar::F(sums[i]))
}

/// The values of a pool, and the winners of a maximum if they are asked for.
pub(super) fn pool(step: &Step, w: &Pool, reads: &[&Tensor]) -> (Tensor, Option<Vec<usize>>) {
    let g = &w.geometry;
    let operands: Vec<Vec<f64>> = (0..w.kind.operands())
        .map(|port| operand(step, port, &step.kernel.operand(port).unwrap_or_default(), reads[port]))
        .collect();
    let x = &operands[0];
    let result = w.result();
    let mut values = vec![0.0; result.iter().product()];
    let wanted = w.kind == PoolKind::Max { winner: true };
    let mut winners = vec![0; if wanted { values.len() } else { 0 }];
    g.windows(|position, at, taps| {
        let divisor = match w.kind {
            PoolKind::Mean { count_pad } | PoolKind::MeanGrad { count_pad } => {
                g.divisor(at, count_pad) as f64
            }
            _ => 1.0,
        };
        for n in 0..g.batch {
            for channel in 0..g.channels {
                let y = g.output_at(n, channel, position);
                let mut elements = taps.iter().map(|(tap, pixel)| (*tap, g.image_at(n, channel, *pixel)));
                match w.kind {
                    PoolKind::Max { .. } => {
                        let (value, winner) = largest(x, elements);
                        values[y] = value;
                        if wanted {
                            winners[y] = winner;
                        }
                    }
                    PoolKind::Mean { .. } => {
                        values[y] = elements.fold(0.0, |sum, (_, i)| sum + x[i]) / divisor;
                    }
                    PoolKind::MeanGrad { .. } => elements.for_each(|(_, i)| values[i] += x[y] / divisor),
                    PoolKind::Scatter | PoolKind::Gather => {
                        let winner = operands[1][y];
                        if let Some((_, i)) = elements.find(|(tap, _)| *tap as f64 == winner) {
                            if w.kind == PoolKind::Gather { values[y] = x[i] } else { values[i] += x[y] }
                        }
                    }
                }
            }
        }
    });
    let values = Tensor::from_fn(reads[0].dtype(), &result, |i| Scalar::F(values[i]));
    (values, wanted.then_some(winners))
}

/// The largest of a window's elements, given as (offset, index), and its offset.
fn largest(x: &[f64], elements: impl Iterator<Item = (usize, usize)>) -> (f64, usize) {
    let mut best: Option<(f64, usize)> = None;
    for (tap, i) in elements {
        if best.is_none_or(|(value, _)| !value.is_nan() && (x[i].is_nan() || x[i] > value)) {
            best = Some((x[i], tap));
        }
    }
    best.unwrap_or((f64::NEG_INFINITY, 0))
}

/// Writes winners through the last write port.
pub(super) fn store_winners(step: &Step, w: &Pool, winners: &[usize], writes: &mut Writes<'_>) {
    let (result, Some(port)) = (w.result(), step.writes.last()) else { return };
    let (cols, rows) = result.split_last().expect("results of windows have channels");
    let view = port.view.flatten(Some(rows), Some(&[*cols]), rows.len());
    let out = writes.tensor(port);
    for (i, winner) in winners.iter().enumerate() {
        if let Some(e) = view.element(i / cols, i % cols) {
            out.set(e, Scalar::I(*winner as i128));
        }
    }
}
