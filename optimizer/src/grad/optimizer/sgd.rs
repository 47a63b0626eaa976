use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;

use super::{Slot, Step, Update};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Stochastic gradient descent with momentum: v' = momentum v + (1 - dampening) g with v' = g in the first step, and
    /// p' = p - lr v', or p - lr (g + momentum v') with `nesterov` (Polyak 1964 and Nesterov 1983 in the form of
    /// `torch.optim.SGD`). The defaults are those of classic training, lr 0.1 and momentum 0.9; PyTorch's are 1e-3 and 0.
    Sgd "sgd" {
        /// Learning rate.
        lr: f64 = 0.1, Range::POSITIVE;
        /// Momentum; with 0 there are no slots.
        momentum: f64 = 0.9, Range::BELOW_ONE;
        /// What of the gradient does not enter the momentum.
        dampening: f64 = 0.0, Range::UNIT;
        /// Whether the step looks ahead along the momentum.
        nesterov: bool = false, None;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Update for Sgd {
    fn slots(&self) -> Vec<Slot> {
        if self.momentum == 0.0 { Vec::new() } else { vec![Slot::zeros("momentum")] }
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn counts_steps(&self) -> bool {
        self.momentum != 0.0 && self.dampening != 0.0
    }

    fn check(&self) -> Result<()> {
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let problem = "sgd: `nesterov` needs momentum without dampening";
            return Err(Error::new(problem).help("set `momentum` above 0 and `dampening` to 0"));
        }
        Ok(())
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let gradient = cx.decayed(self.weight_decay);
        if self.momentum == 0.0 {
            return cx.param - cx.rate() * gradient;
        }
        let velocity = cx.next("momentum", |v| {
            let entering = if self.dampening == 0.0 {
                gradient
            } else {
                let before = cx.before();
                let first = before.eq(before.zero_like());
                gradient * first.select(before.one_like(), before.literal(1.0 - self.dampening))
            };
            v * self.momentum + entering
        });
        let direction = if self.nesterov { gradient + velocity * self.momentum } else { velocity };
        cx.param - cx.rate() * direction
    }
}
