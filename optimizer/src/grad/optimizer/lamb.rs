use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average, average_square};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// LAMB: Adam's direction plus weight_decay p, scaled for each parameter so that its norm is that of the parameter, times
    /// lr (You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020, algorithm 2, with
    /// φ(z) = z). Where one of the norms is 0 the scale is 1.
    Lamb "lamb" {
        /// Learning rate.
        lr: f64 = 1e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the squares' average.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the root.
        eps: f64 = 1e-6, Range::POSITIVE;
        /// Multiple of the parameter that is added to the direction.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

/// The Euclidean norm of all elements.
fn norm(x: Expr<'_>) -> Expr<'_> {
    let all: Vec<usize> = (0..x.ty().rank()).collect();
    (x * x).sum(&all).sqrt()
}

impl Update for Lamb {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("exp_avg"), Slot::zeros("exp_avg_sq")]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.gradient;
        let mean = cx.next("exp_avg", |m| average(m, g, self.beta1)) / cx.unbiased(self.beta1);
        let square = cx.next("exp_avg_sq", |v| average_square(v, g, self.beta2)) / cx.unbiased(self.beta2);
        let mut direction = mean / (square.sqrt() + self.eps);
        if self.weight_decay != 0.0 {
            direction = direction + cx.param * self.weight_decay;
        }
        let (length, wanted) = (norm(direction), norm(cx.param));
        let zero = length.zero_like();
        let both = length.gt(zero).and(wanted.gt(zero));
        let scale = both.select(wanted / both.select(length, length.one_like()), length.one_like());
        cx.param - cx.rate() * scale * direction
    }
}
