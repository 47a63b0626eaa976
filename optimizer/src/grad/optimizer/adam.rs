use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average, average_square};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Adam: averages m' of the gradient and v' of its square, p' = p - lr m̂ / (√v̂ + eps) with m̂ = m' / (1 - beta1ᵗ) and
    /// v̂ = v' / (1 - beta2ᵗ) in step t (Kingma and Ba 2015, as in `torch.optim.Adam`).
    Adam "adam" {
        /// Learning rate.
        lr: f64 = 1e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the squares' average.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the root.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

parameters! {
    /// Adam whose weight decay stays out of the averages: p is first multiplied by 1 - lr weight_decay (Loshchilov and
    /// Hutter 2019, as in `torch.optim.AdamW`).
    AdamW "adamw" {
        /// Learning rate.
        lr: f64 = 1e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the squares' average.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the root.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Weight decay for each unit of the learning rate.
        weight_decay: f64 = 1e-2, Range::NOT_NEGATIVE;
        /// Whether to divide by the largest v' so far, as `amsgrad` does.
        amsgrad: bool = false, None;
    }
}

parameters! {
    /// Adam that divides by the largest v' so far, so that no step length grows (Reddi, Kale and Kumar 2018, as in
    /// `torch.optim.Adam` with `amsgrad`).
    AmsGrad "amsgrad" {
        /// Learning rate.
        lr: f64 = 1e-3, Range::POSITIVE;
        /// Decay of the gradient's average.
        beta1: f64 = 0.9, Range::BETWEEN;
        /// Decay of the squares' average.
        beta2: f64 = 0.999, Range::BETWEEN;
        /// Added to the root.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

fn slots(largest: bool) -> Vec<Slot> {
    let mut slots = vec![Slot::zeros("exp_avg"), Slot::zeros("exp_avg_sq")];
    slots.extend(largest.then(|| Slot::zeros("max_exp_avg_sq")));
    slots
}

/// What the three have in common: `param` and `g` with their weight decay.
struct Moments {
    beta1: f64,
    beta2: f64,
    eps: f64,
    largest: bool,
}

impl Moments {
    fn step<'s>(&self, cx: &Step<'s, '_>, param: Expr<'s>, g: Expr<'s>) -> Expr<'s> {
        let mean = cx.next("exp_avg", |m| average(m, g, self.beta1));
        let mut square = cx.next("exp_avg_sq", |v| average_square(v, g, self.beta2));
        if self.largest {
            square = cx.next("max_exp_avg_sq", |largest| largest.max(square));
        }
        let root = square.sqrt() / cx.unbiased(self.beta2).sqrt() + self.eps;
        param - cx.rate() / cx.unbiased(self.beta1) * (mean / root)
    }
}

impl Update for Adam {
    fn slots(&self) -> Vec<Slot> {
        slots(false)
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let moments = Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps, largest: false };
        moments.step(cx, cx.param, cx.decayed(self.weight_decay))
    }
}

impl Update for AdamW {
    fn slots(&self) -> Vec<Slot> {
        slots(self.amsgrad)
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let moments = Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps, largest: self.amsgrad };
        moments.step(cx, cx.shrunk(self.weight_decay), cx.gradient)
    }
}

impl Update for AmsGrad {
    fn slots(&self) -> Vec<Slot> {
        slots(true)
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let moments = Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps, largest: true };
        moments.step(cx, cx.param, cx.decayed(self.weight_decay))
    }
}
