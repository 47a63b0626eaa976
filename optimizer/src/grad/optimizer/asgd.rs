use graphc_ir::expr::Expr;

use super::{Slot, Step, Update};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Averaged stochastic gradient descent: η = lr / (1 + lambd lr (t - 1))^alpha, p' = p (1 - lambd η) - η g in step t, and
    /// the slot `ax` keeps the average of the parameters from step t0 on (Polyak and Juditsky 1992, as in
    /// `torch.optim.ASGD`). It is the average that is the result.
    Asgd "asgd" {
        /// Learning rate.
        lr: f64 = 1e-2, Range::POSITIVE;
        /// Decay of the parameter.
        lambd: f64 = 1e-4, Range::NOT_NEGATIVE;
        /// Power by which the learning rate falls.
        alpha: f64 = 0.75, Range::NOT_NEGATIVE;
        /// The step at which averaging begins.
        t0: f64 = 1e6, Range::NOT_NEGATIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Update for Asgd {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("ax")]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.decayed(self.weight_decay);
        let (rate, before) = (cx.rate(), cx.before());
        let fall = (rate * self.lambd * before + 1.0).log() * self.alpha;
        let eta = rate * (-fall).exp();
        let param = cx.param * (eta.one_like() - eta * self.lambd) - eta * g;
        cx.next("ax", |average| {
            let share = before.one_like() / (before - self.t0).max(before.one_like());
            average + (param - average) * share
        });
        param
    }
}
