use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average_square};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// AdaDelta: s' = rho s + (1 - rho) g², d = √((u + eps) / (s' + eps)) g, u' = rho u + (1 - rho) d², p' = p - lr d
    /// (Zeiler 2012, as in `torch.optim.Adadelta`).
    AdaDelta "adadelta" {
        /// Learning rate.
        lr: f64 = 1.0, Range::POSITIVE;
        /// Decay of both averages.
        rho: f64 = 0.9, Range::UNIT;
        /// Added under both roots.
        eps: f64 = 1e-6, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Update for AdaDelta {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("square_avg"), Slot::zeros("acc_delta")]
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn counts_steps(&self) -> bool {
        false
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.decayed(self.weight_decay);
        let square = cx.next("square_avg", |s| average_square(s, g, self.rho));
        let delta = (cx.slot("acc_delta") + self.eps).sqrt() / (square + self.eps).sqrt() * g;
        cx.next("acc_delta", |u| average_square(u, delta, self.rho));
        cx.param - cx.rate() * delta
    }
}
