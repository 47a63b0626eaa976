use std::ops::RangeInclusive;

use super::{check_axes, coordinates, flat, without};
use crate::error::Result;
use crate::op_struct;
use crate::ops::{OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Mean and biased variance over axes.
    Moments {
        /// Which axes vanish; increasing, at least one.
        axes: Vec<usize>,
    }
}

impl OpDef for Moments {
    const NAME: &'static str = "moments";
    const SIGNATURE: &'static str = "moments{axes}(x) -> (mean, variance)";
    const DOC: &'static str = "Arithmetic mean and biased variance (the mean of squared deviations) along `axes`, by two \
        passes whose second one corrects the first one's rounding, or by merged parts of that kind (Chan, Golub and \
        LeVeque 1983). Of equal elements the mean is that element, and the variance 0. NaN for no elements.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn infer(&self, ins: &[TensorType], _: &mut Infer) -> Result<Vec<TensorType>> {
        check_axes(&self.axes, &ins[0])?;
        if self.axes.is_empty() {
            fail!("moments needs at least one axis");
        }
        if !ins[0].dtype.is_compute_float() {
            fail!("moments takes floats, but got {}; add a cast", ins[0]);
        }
        let ty = TensorType::new(ins[0].dtype, without(&ins[0].dims, &self.axes));
        Ok(vec![ty.clone(), ty])
    }

    fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let (x, shape) = (ins[0], outs[0].static_shape());
        let count: usize = self.axes.iter().map(|a| x.shape()[*a]).product();
        let kept: Vec<usize> = (0..x.shape().len()).filter(|a| !self.axes.contains(a)).collect();
        let total: usize = shape.iter().product();
        let accumulate = |f: &dyn Fn(f64, usize) -> f64| {
            let (mut acc, mut to) = (vec![0.0; total], vec![0; kept.len()]);
            coordinates(x.shape(), |i, at| {
                for (t, k) in to.iter_mut().zip(&kept) {
                    *t = at[*k];
                }
                let o = flat(&to, &shape);
                acc[o] += f(x.get(i).as_f64(), o);
            });
            acc.into_iter().map(|s| s / count as f64).collect::<Vec<f64>>()
        };
        let (sums, size) = (accumulate(&|v, _| v), count as f64);
        // Shares of numbers whose sum overflows.
        let shares = accumulate(&|v, _| v / size);
        let first = |o: usize| if sums[o].is_finite() { sums[o] } else { shares[o] * size };
        let first: Vec<f64> = (0..total).map(first).collect();
        // What rounding left of the first mean is in the sum of deviations from it: of a row of equal elements the mean
        // is that element, and the variance 0. An infinite mean has no deviations to be corrected by.
        let shift = accumulate(&|v, o| v - first[o]);
        let squares = accumulate(&|v, o| (v - first[o]) * (v - first[o]));
        let corrected = |o: usize| if shift[o].is_finite() { shift[o] } else { 0.0 };
        let mean: Vec<f64> = (0..total).map(|o| first[o] + corrected(o)).collect();
        let variance = |o: usize| {
            let value = squares[o] - corrected(o) * corrected(o);
            if value < 0.0 { 0.0 } else { value }
        };
        let var: Vec<f64> = (0..total).map(variance).collect();
        let tensor = |v: &[f64]| Tensor::from_fn(x.dtype(), &shape, |i| Scalar::F(v[i]));
        Ok(vec![tensor(&mean), tensor(&var)])
    }

    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let x = cx.ins[0];
        let count = cx.b.count_along(x, &self.axes)?;
        let mut total = None;
        if let Some(g) = cx.grads[0] {
            let share = cx.b.map(ScalarFn::Div, &[g, count])?;
            total = Some(cx.b.unreduce(share, x, &self.axes)?);
        }
        if let Some(g) = cx.grads[1] {
            let two = cx.b.full_like(g, 2.0)?;
            let g = cx.b.map(ScalarFn::Mul, &[g, two])?;
            let share = cx.b.map(ScalarFn::Div, &[g, count])?;
            let share = cx.b.unreduce(share, x, &self.axes)?;
            let mean = cx.b.unreduce(cx.outs[0], x, &self.axes)?;
            let centred = cx.b.map(ScalarFn::Sub, &[x, mean])?;
            let dv = cx.b.map(ScalarFn::Mul, &[share, centred])?;
            total = Some(match total {
                Some(t) => cx.b.map(ScalarFn::Add, &[t, dv])?,
                None => dv,
            });
        }
        Ok(Vjp::Grads(vec![total]))
    }

    fn flops(&self, ins: &[TensorType], _: &[TensorType]) -> Option<f64> {
        ins[0].shape().map(|s| 4.0 * s.iter().map(|d| *d as f64).product::<f64>())
    }

    fn samples() -> Vec<Sample> {
        let case = |s: &[usize], axes: &[usize]| {
            Sample::new(Moments { axes: axes.to_vec() }, vec![sample_tensor(s, 1)])
        };
        vec![
            case(&[1], &[0]),
            case(&[3], &[0]),
            case(&[3, 0], &[0]),
            case(&[3, 5], &[0]),
            case(&[3, 5], &[1]),
            case(&[3, 2, 5], &[0, 2]),
        ]
    }
}
