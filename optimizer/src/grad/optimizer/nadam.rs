use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average, average_square, power};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Adam with Nesterov's look ahead: with μₜ = beta1 (1 - 0.96^(t momentum_decay) / 2) and Mₜ = μ₁ … μₜ,
    /// p' = p - lr ((1 - μₜ) / (1 - Mₜ) g + μₜ₊₁ / (1 - Mₜ₊₁) m') / (√v̂ + eps) in step t (Dozat 2016, as in
    /// `torch.optim.NAdam`).
    NAdam "nadam" {
        /// Learning rate.
        lr: f64 = 2e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the squares' average.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the root.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
        /// How fast the momentum grows to beta1.
        momentum_decay: f64 = 4e-3, Range::NOT_NEGATIVE;
        /// Whether the weight decay stays out of the averages, as in `adamw`.
        decoupled_weight_decay: bool = false, None;
    }
}

impl NAdam {
    fn momentum<'s>(&self, step: Expr<'s>) -> Expr<'s> {
        (power(0.96, step * self.momentum_decay) * -0.5 + 1.0) * self.beta1
    }
}

impl Update for NAdam {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("exp_avg"), Slot::zeros("exp_avg_sq"), Slot::number("mu_product", 1.0)]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let (param, g) = if self.decoupled_weight_decay {
            (cx.shrunk(self.weight_decay), cx.gradient)
        } else {
            (cx.param, cx.decayed(self.weight_decay))
        };
        let (now, then) = (self.momentum(cx.count()), self.momentum(cx.count() + 1.0));
        let product = cx.next("mu_product", |product| product * now);
        let mean = cx.next("exp_avg", |m| average(m, g, self.beta1));
        let square = cx.next("exp_avg_sq", |v| average_square(v, g, self.beta2));
        let root = (square / cx.unbiased(self.beta2)).sqrt() + self.eps;
        let one = product.one_like();
        let of_gradient = cx.rate() * (one - now) / (one - product);
        let of_mean = cx.rate() * then / (one - product * then);
        param - of_gradient * (g / root) - of_mean * (mean / root)
    }
}
