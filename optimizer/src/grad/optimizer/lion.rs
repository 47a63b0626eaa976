use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Lion: p' = p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), m' = beta2 m + (1 - beta2) g (Chen et al.,
    /// "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2).
    Lion "lion" {
        /// Learning rate.
        lr: f64 = 1e-4, Range::POSITIVE;
        /// Share of the average in the direction.
        beta1: f64 = 0.9, Range::UNIT;
        /// Decay of the gradient's average.
        beta2: f64 = 0.99, Range::UNIT;
        /// Weight decay for each unit of the learning rate.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Update for Lion {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("exp_avg")]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn counts_steps(&self) -> bool {
        false
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.gradient;
        let mut direction = average(cx.slot("exp_avg"), g, self.beta1).sign();
        if self.weight_decay != 0.0 {
            direction = direction + cx.param * self.weight_decay;
        }
        cx.next("exp_avg", |m| average(m, g, self.beta2));
        cx.param - cx.rate() * direction
    }
}
