//! What keeps parameters and gradients small.

use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;

use super::parameters::{Parameters, Range, parameters};

parameters! {
    /// Penalties, as additions to each gradient, and a bound on the parameters. The gradient of l1 |p| + l2 / 2 p² is
    /// l1 sign(p) + l2 p: lasso, ridge, or with both the elastic net (Zou and Hastie 2005). After the step, every row of a
    /// parameter of rank 2 or more whose Euclidean norm is above max_norm is scaled to it (Srivastava et al. 2014). A
    /// row holds the weights that enter one unit: there is one for each index of axis max_norm_axis, over all other axes.
    Regularizer "regularize" {
        /// Weight of |p|.
        l1: f64 = 0.0, Range::NOT_NEGATIVE;
        /// Weight of p² / 2.
        l2: f64 = 0.0, Range::NOT_NEGATIVE;
        /// Largest norm of a row; without it there is no bound.
        max_norm: Option<f64> = None, Range::POSITIVE;
        /// The axis of the rows; without it the last of a matrix `[inputs, outputs]` and the first of filters
        /// `[outputs, inputs, ..]`.
        max_norm_axis: Option<u32> = None, Range::COUNT_OR_NONE;
    }
}

parameters! {
    /// Clipping of the gradients, penalties included, before the optimizer sees them: first every element to
    /// [-value, value], then all gradients together, times min(1, norm / (total + 1e-6)) with the Euclidean norm `total` of
    /// all their elements (Pascanu, Mikolov and Bengio 2013; `torch.nn.utils.clip_grad_value_` and `clip_grad_norm_`).
    Clip "clip" {
        /// Largest absolute value of an element; without it elements are not clipped.
        value: Option<f64> = None, Range::POSITIVE;
        /// Largest norm of all gradients together; without it that is not clipped.
        norm: Option<f64> = None, Range::POSITIVE;
    }
}

macro_rules! from_keys {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = Error;

            /// Reads `KEY=VALUE,...`.
            fn from_str(text: &str) -> Result<$name> {
                let mut read = $name::default();
                read.read(text)?;
                Ok(read)
            }
        }
    };
}

from_keys!(Regularizer);
from_keys!(Clip);

impl Regularizer {
    /// The gradient with the penalties' added.
    pub(super) fn penalized<'s>(&self, param: Expr<'s>, gradient: Expr<'s>) -> Expr<'s> {
        let mut gradient = gradient;
        if self.l1 != 0.0 {
            gradient = gradient + param.sign() * self.l1;
        }
        if self.l2 != 0.0 {
            gradient = gradient + param * self.l2;
        }
        gradient
    }

    /// The parameter with its rows scaled to the largest norm.
    pub(super) fn projected<'s>(&self, name: &str, param: Expr<'s>) -> Result<Expr<'s>> {
        let (Some(bound), rank) = (self.max_norm, param.ty().rank()) else { return Ok(param) };
        if rank < 2 {
            return Ok(param);
        }
        let axis = match self.max_norm_axis {
            Some(axis) => axis as usize,
            None if rank == 2 => 1,
            None => 0,
        };
        if axis >= rank {
            let problem = format!("`max_norm_axis` is {axis}, but `{name}` is {}", param.ty());
            return Err(Error::new(problem).help(format!("it must be below {rank}")));
        }
        let others: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
        let norm = (param * param).sum(&others).sqrt();
        let bound = norm.literal(bound);
        let inside = norm.le(bound);
        // A row inside is left alone to the last bit.
        let scale = inside.select(norm.one_like(), bound / inside.select(norm.one_like(), norm));
        Ok(param * scale.unreduce(param, &others))
    }
}

/// What is added to the norm that gradients are divided by, as PyTorch does.
const NORM_EPS: f64 = 1e-6;

impl Clip {
    /// The gradients, clipped.
    pub(super) fn clipped<'s>(&self, gradients: Vec<Expr<'s>>) -> Vec<Expr<'s>> {
        let mut gradients = gradients;
        if let Some(value) = self.value {
            for g in &mut gradients {
                *g = g.max(g.literal(-value)).min(g.literal(value));
            }
        }
        let Some(bound) = self.norm else { return gradients };
        let Some(first) = gradients.first() else { return gradients };
        let dtype = first.ty().dtype;
        let square = |g: &Expr<'s>| {
            let all: Vec<usize> = (0..g.ty().rank()).collect();
            let g = g.cast(dtype);
            (g * g).sum(&all)
        };
        let squares = gradients.iter().map(square).reduce(|a, b| a + b);
        let Some(squares) = squares else { return gradients };
        let total = squares.sqrt();
        let scale = (total.literal(bound) / (total + NORM_EPS)).min(total.one_like());
        gradients.into_iter().map(|g| g * scale.cast(g.ty().dtype)).collect()
    }
}
