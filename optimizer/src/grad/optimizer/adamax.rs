use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Adamax: m' as in Adam, u' = max(beta2 u, |g| + eps), p' = p - lr / (1 - beta1ᵗ) m' / u' in step t (Kingma and Ba
    /// 2015, section 7.1, as in `torch.optim.Adamax`).
    Adamax "adamax" {
        /// Learning rate.
        lr: f64 = 2e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the largest gradient.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the gradient's absolute value.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Update for Adamax {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("exp_avg"), Slot::zeros("exp_inf")]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.decayed(self.weight_decay);
        let mean = cx.next("exp_avg", |m| average(m, g, self.beta1));
        let largest = cx.next("exp_inf", |u| (u * self.beta2).max(g.abs() + self.eps));
        cx.param - cx.rate() / cx.unbiased(self.beta1) * (mean / largest)
    }
}
