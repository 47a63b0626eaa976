use graphc_ir::expr::Expr;

use super::{Slot, Step, Update};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// AdaGrad: s' = s + g² and p' = p - lr / (1 + (t - 1) lr_decay) g / (√s' + eps) in step t (Duchi, Hazan and Singer
    /// 2011, as in `torch.optim.Adagrad`).
    AdaGrad "adagrad" {
        /// Learning rate.
        lr: f64 = 1e-2, Range::POSITIVE;
        /// How fast the learning rate falls.
        lr_decay: f64 = 0.0, Range::NOT_NEGATIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
        /// The sum of squares before the first step.
        initial_accumulator: f64 = 0.0, Range::NOT_NEGATIVE;
        /// Added to the root.
        eps: f64 = 1e-10, Range::POSITIVE;
    }
}

impl Update for AdaGrad {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::filled("sum", self.initial_accumulator)]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn counts_steps(&self) -> bool {
        self.lr_decay != 0.0
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.decayed(self.weight_decay);
        let rate =
            if self.lr_decay == 0.0 { cx.rate() } else { cx.rate() / (cx.before() * self.lr_decay + 1.0) };
        let sum = cx.next("sum", |s| s + g * g);
        cx.param - rate * (g / (sum.sqrt() + self.eps))
    }
}
