//! Initial values of parameters, drawn by a key.

use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dim::Dim;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::fail;
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Iota, Normal, Scan, TruncatedNormal, Uniform};
use graphc_ir::types::TensorType;

use super::FunctionBuilder;

/// Which connections of a unit count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fan {
    /// Those that enter it: activations keep their variance.
    In,
    /// Those that leave it: gradients keep theirs.
    Out,
}

/// A distribution of initial values.
///
/// The number of connections of a unit follows from the shape. Of a matrix `[inputs, outputs]`, as `linear` takes it,
/// `inputs` enter and `outputs` leave; of filters `[outputs, inputs, k..]`, as convolutions take them, inputs · k.. enter
/// and outputs · k.. leave. A gain makes up for what the nonlinearity takes away: √2 for relu, 5/3 for tanh, 1 for none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initializer {
    /// Uniform in \[low, high).
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal, without what is further than 2 standard deviations from the mean.
    TruncatedNormal {
        /// Mean.
        mean: f64,
        /// Standard deviation before the tails are cut off; afterwards it is 0.88 of that.
        std: f64,
    },
    /// Uniform in ±gain √(6 / (in + out)) (Glorot and Bengio 2010, equation 16).
    GlorotUniform {
        /// Gain.
        gain: f64,
    },
    /// Normal of variance gain² 2 / (in + out) (Glorot and Bengio 2010, equation 12).
    GlorotNormal {
        /// Gain.
        gain: f64,
    },
    /// Uniform in ±gain √(3 / fan) (He et al. 2015, equations 10 and 14, by their variance).
    HeUniform {
        /// Which connections count.
        fan: Fan,
        /// Gain.
        gain: f64,
    },
    /// Normal of variance gain² / fan (He et al. 2015, equations 10 and 14).
    HeNormal {
        /// Which connections count.
        fan: Fan,
        /// Gain.
        gain: f64,
    },
    /// gain times a matrix with orthonormal rows or columns, whichever are fewer, uniform among all such (Saxe, McClelland and
    /// Ganguli 2014; Mezzadri 2007). What has more than two axes counts as a matrix of its first and all other axes.
    Orthogonal {
        /// Gain.
        gain: f64,
    },
    /// Uniform in ±1 / √inputs, as Torch7 initializes weights and biases of linear layers and convolutions.
    Torch7 {
        /// The number of inputs of a unit; `None` for what the shape says, which a bias needs to be told.
        inputs: Option<usize>,
    },
}

impl FunctionBuilder<'_> {
    /// Initial values of a type such as `f32[784,10]`, drawn by a key of their own: see
    /// [`split_key`](FunctionBuilder::split_key). The same key gives the same values.
    ///
    /// # Errors
    /// A type that cannot be read, is neither f32 nor f64, has no numbers as sizes, or has fewer axes than the distribution
    /// needs; a key that is not u32`[2]`.
    pub fn initial<'s>(&'s self, how: Initializer, key: Expr<'_>, ty: &str) -> Result<Expr<'s>> {
        let id = self.scope.build(|b| {
            let ty = TensorType::parse(ty)?;
            let Some(shape) = ty.shape() else {
                let problem = format!("initial values of {ty} cannot be drawn: its size is not known");
                return Err(Error::new(problem).help("write numbers for the symbols"));
            };
            Draw { dtype: ty.dtype, shape, key: key.id() }.build(b, how)
        })?;
        Ok(self.scope.expr(id))
    }
}

/// What is drawn.
struct Draw {
    dtype: DType,
    shape: Vec<usize>,
    key: ValueId,
}

impl Draw {
    fn build(&self, b: &mut Builder, how: Initializer) -> Result<ValueId> {
        match how {
            Initializer::Uniform { low, high } => self.uniform(b, low, high),
            Initializer::Normal { mean, std } => self.normal(b, mean, std),
            Initializer::TruncatedNormal { mean, std } => {
                let (mean, std) = (Real(mean), Real(std));
                let (lo, hi) = (Real(-2.0), Real(2.0));
                b.op1(
                    TruncatedNormal { dtype: self.dtype, dims: self.dims(), mean, std, lo, hi },
                    &[self.key],
                )
            }
            Initializer::GlorotUniform { gain } => {
                let (inputs, outputs) = self.fans()?;
                self.within(b, gain * (6.0 / (inputs + outputs)).sqrt())
            }
            Initializer::GlorotNormal { gain } => {
                let (inputs, outputs) = self.fans()?;
                self.normal(b, 0.0, gain * (2.0 / (inputs + outputs)).sqrt())
            }
            Initializer::HeUniform { fan, gain } => self.within(b, gain * (3.0 / self.fan(fan)?).sqrt()),
            Initializer::HeNormal { fan, gain } => self.normal(b, 0.0, gain / self.fan(fan)?.sqrt()),
            Initializer::Orthogonal { gain } => self.orthogonal(b, gain),
            Initializer::Torch7 { inputs } => {
                let inputs = match inputs {
                    Some(inputs) => inputs as f64,
                    None => self.fan(Fan::In)?,
                };
                self.within(b, 1.0 / inputs.max(1.0).sqrt())
            }
        }
    }

    fn dims(&self) -> Vec<Dim> {
        self.shape.iter().map(|d| Dim::from(*d)).collect()
    }

    fn uniform(&self, b: &mut Builder, low: f64, high: f64) -> Result<ValueId> {
        let op = Uniform { dtype: self.dtype, dims: self.dims(), lo: Real(low), hi: Real(high) };
        b.op1(op, &[self.key])
    }

    fn within(&self, b: &mut Builder, bound: f64) -> Result<ValueId> {
        self.uniform(b, -bound, bound)
    }

    fn normal(&self, b: &mut Builder, mean: f64, std: f64) -> Result<ValueId> {
        let op = Normal { dtype: self.dtype, dims: self.dims(), mean: Real(mean), std: Real(std) };
        b.op1(op, &[self.key])
    }

    /// Connections that enter a unit and that leave one, each at least 1.
    fn fans(&self) -> Result<(f64, f64)> {
        let (inputs, outputs) = match self.shape[..] {
            [] | [_] => {
                let problem = format!("a tensor of rank {} has no inputs and outputs", self.shape.len());
                return Err(Error::new(problem).help("choose a distribution that does not depend on them"));
            }
            [inputs, outputs] => (inputs, outputs),
            [outputs, inputs, ref kernel @ ..] => {
                let taps: usize = kernel.iter().product();
                (inputs * taps, outputs * taps)
            }
        };
        Ok((inputs.max(1) as f64, outputs.max(1) as f64))
    }

    fn fan(&self, fan: Fan) -> Result<f64> {
        let (inputs, outputs) = self.fans()?;
        Ok(match fan {
            Fan::In => inputs,
            Fan::Out => outputs,
        })
    }

    fn orthogonal(&self, b: &mut Builder, gain: f64) -> Result<ValueId> {
        let [rows, ref columns @ ..] = self.shape[..] else {
            fail!("an orthogonal matrix has at least 2 axes, but a tensor of rank 0 is asked for");
        };
        if columns.is_empty() {
            fail!("an orthogonal matrix has at least 2 axes, but {rows} numbers in a row are asked for");
        }
        let columns: usize = columns.iter().product();
        let (few, many) = (rows.min(columns), rows.max(columns));
        let wide = Draw { shape: vec![few, many], ..*self };
        let normal = wide.normal(b, 0.0, 1.0)?;
        let mut q = orthonormal_rows(b, normal, self.dtype, (few, many))?;
        if rows > columns {
            q = b.transpose(q, &[1, 0])?;
        }
        let q = b.reshape(q, &self.dims())?;
        let scope = Scope::new(b);
        let scaled = (scope.expr(q) * gain).id();
        scope.finish()?;
        Ok(scaled)
    }
}

/// The factor Q of A = R Q, with positive diagonal in R, of a matrix `[few, many]`: the Gram-Schmidt process, row by row.
/// Each row is made orthogonal to the ones before twice, after which it is so to working precision (Giraud, Langou and
/// Rozložník 2005). The positive diagonal makes Q of normal draws uniform (Mezzadri 2007).
fn orthonormal_rows(
    b: &mut Builder,
    a: ValueId,
    dtype: DType,
    (few, many): (usize, usize),
) -> Result<ValueId> {
    let zero = b.scalar(dtype, 0.0)?;
    let none = b.broadcast(zero, &[few.into(), many.into()], &[])?;
    let rows = b.op1(Iota { dtype: DType::I32, dims: vec![few.into()], axis: 0 }, &[])?;
    let body = Arc::new(row_by_row(dtype, few, many)?);
    let scan = Scan { body, carries: 1, stacks: 2, reverse: false, length: few.into(), recompute: false };
    b.op1(scan, &[none, a, rows])
}

/// One row: (Q so far, a row of A, its number) to Q with one row more.
fn row_by_row(dtype: DType, few: usize, many: usize) -> Result<Graph> {
    let mut b = Builder::new();
    let q = b.input(TensorType::fixed(dtype, &[few, many]))?;
    let row = b.input(TensorType::fixed(dtype, &[many]))?;
    let number = b.input(TensorType::fixed(DType::I32, &[]))?;
    let rows = b.op1(Iota { dtype: DType::I32, dims: vec![few.into()], axis: 0 }, &[])?;
    let scope = Scope::new(&mut b);
    let (q, row) = (scope.expr(q), scope.expr(row));
    let rest = (0..2).fold(row, |rest, _| rest - q.matmul(rest).matmul(q));
    let unit = rest / (rest * rest).sum(&[0]).sqrt();
    let here = scope.expr(rows).eq(scope.expr(number)).cast(dtype);
    let next = (q + here.reshape(&[few.into(), 1usize.into()]) * unit).id();
    scope.finish()?;
    b.finish(&[next])
}
