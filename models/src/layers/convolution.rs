//! Layers over images f32`[B,C,H,W]`.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{BatchNorm, BatchNormInference, Broadcast, Conv, ConvBias};
use graphc::build::{DType, Expr, FunctionBuilder, ModuleBuilder, Result, StateRole, Tensor};
use graphc::ir::Scalar;

use super::{Param, f32_type, full};

/// How much of the batch's statistics a step mixes into the running ones.
const RUNNING: f64 = 0.1;

const EPSILON: Real = Real(1e-5);

/// Shapes of the filters `w{n}` `[outputs, inputs, kernel, kernel]` and the bias `b{n}` of
/// [`biased_convolution`].
pub fn biased_params(n: usize, inputs: usize, outputs: usize, kernel: usize) -> [Param; 2] {
    [(format!("w{n}"), vec![outputs, inputs, kernel, kernel]), (format!("b{n}"), vec![outputs])]
}

/// Convolution with the filters `w{n}` and the bias `b{n}` and zeros on all sides of the image.
pub fn biased_convolution<'s>(
    f: &'s FunctionBuilder<'_>,
    x: Expr<'_>,
    n: usize,
    pad: usize,
) -> Result<Expr<'s>> {
    let op = ConvBias { pads_lo: vec![pad; 2], pads_hi: vec![pad; 2], ..ConvBias::default() };
    f.op(op, &[x, f.state(&format!("w{n}"))?, f.state(&format!("b{n}"))?])
}

/// Whose statistics normalize.
#[derive(Clone, Copy)]
pub enum Statistics<'s> {
    /// Those of the batch, which has this many images; the running ones learn of them.
    Batch(Expr<'s>),
    /// The running ones.
    Running,
}

impl<'s> Statistics<'s> {
    /// Those of the batch `x`.
    pub fn of_batch(f: &'s FunctionBuilder<'_>, x: Expr<'_>) -> Result<Statistics<'s>> {
        let one = f.constant(Tensor::scalar(DType::F32, Scalar::F(1.0)))?;
        let ones = f.op(Broadcast { dims: vec![x.ty().dims[0].clone()], axes: Vec::new() }, &[one])?;
        Ok(Statistics::Batch(f.name("images", ones.sum(&[0]))?))
    }
}

/// A convolution without a bias whose result is normalized by channel. Its parameters are `{name}.w`,
/// `{name}.gamma` and `{name}.beta`, its running statistics `{name}.mean` and `{name}.var`.
#[derive(Clone, Debug)]
pub struct NormalizedConvolution {
    /// Begins the names of its state.
    pub name: String,
    /// Channels of the image.
    pub inputs: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Height and width of the filters, which are odd.
    pub kernel: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Height and width of the result.
    pub size: usize,
}

impl NormalizedConvolution {
    /// Names and shapes of the parameters.
    pub fn params(&self) -> [Param; 3] {
        let name = |part: &str| format!("{}.{part}", self.name);
        [
            (name("w"), vec![self.outputs, self.inputs, self.kernel, self.kernel]),
            (name("gamma"), vec![self.outputs]),
            (name("beta"), vec![self.outputs]),
        ]
    }

    /// Declares the running statistics, without values.
    pub fn declare_statistics(&self, m: &mut ModuleBuilder) -> Result<()> {
        ["mean", "var"].iter().try_for_each(|part| {
            let name = format!("{}.{part}", self.name);
            m.state(&name, StateRole::Buffer, &f32_type(&[self.outputs]), None)
        })
    }

    /// Assigns the statistics of standard normal numbers.
    pub fn initialize_statistics(&self, f: &FunctionBuilder<'_>) -> Result<()> {
        [("mean", 0.0), ("var", 1.0)].iter().try_for_each(|(part, value)| {
            f.update(&format!("{}.{part}", self.name), full(f, &[self.outputs], *value)?)
        })
    }

    /// The normalized convolution of `x`, padded so that a stride of 1 keeps the size.
    pub fn apply<'s>(
        &self,
        f: &'s FunctionBuilder<'_>,
        x: Expr<'_>,
        statistics: Statistics<'s>,
    ) -> Result<Expr<'s>> {
        let state = |part: &str| f.state(&format!("{}.{part}", self.name));
        let pads = vec![self.kernel / 2; 2];
        let op =
            Conv { strides: vec![self.stride; 2], pads_lo: pads.clone(), pads_hi: pads, ..Conv::default() };
        let z = f.name(&self.name, f.op(op, &[x, state("w")?])?)?;
        let (gamma, beta, mean, var) = (state("gamma")?, state("beta")?, state("mean")?, state("var")?);
        let normalized = format!("{}.normalized", self.name);
        match statistics {
            Statistics::Running => {
                let op = BatchNormInference { axis: 1, eps: EPSILON };
                f.name(&normalized, f.op(op, &[z, gamma, beta, mean, var])?)
            }
            Statistics::Batch(images) => {
                let norm = f.op_many(BatchNorm { axis: 1, eps: EPSILON }, &[z, gamma, beta])?;
                let count = images * (self.size * self.size) as f64;
                let unbiased = norm[2] * (count / (count - 1.0));
                for (part, old, new) in [("mean", mean, norm[1]), ("var", var, unbiased)] {
                    let next = old * (1.0 - RUNNING) + new * RUNNING;
                    let name = format!("{}.{part}", self.name);
                    f.update(&name, f.name(&format!("{name}.next"), next)?)?;
                }
                f.name(&normalized, norm[0])
            }
        }
    }
}
