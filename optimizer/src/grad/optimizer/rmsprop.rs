use graphc_ir::expr::Expr;

use super::{Slot, Step, Update, average, average_square};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// RMSProp: s' = alpha s + (1 - alpha) g², r = √s' + eps, p' = p - lr g / r; `centered` takes √(s' - m'²) with the
    /// average m' of the gradient (Tieleman and Hinton 2012; Graves 2013; as in `torch.optim.RMSprop`). A variance that
    /// rounding makes negative counts as 0, where PyTorch gives NaN.
    RmsProp "rmsprop" {
        /// Learning rate.
        lr: f64 = 1e-2, Range::POSITIVE;
        /// Decay of the averages.
        alpha: f64 = 0.99, Range::UNIT;
        /// Added to the root.
        eps: f64 = 1e-8, Range::POSITIVE;
        /// Multiple of the parameter that is added to its gradient.
        weight_decay: f64 = 0.0, Range::NOT_NEGATIVE;
        /// Momentum of the scaled gradient; with 0 it has no slot.
        momentum: f64 = 0.0, Range::BELOW_ONE;
        /// Whether to scale by the deviation instead of the root mean square.
        centered: bool = false, None;
    }
}

impl Update for RmsProp {
    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::zeros("square_avg")];
        slots.extend(self.centered.then(|| Slot::zeros("grad_avg")));
        slots.extend((self.momentum != 0.0).then(|| Slot::zeros("momentum")));
        slots
    }

    fn learning_rate(&self) -> Option<f64> {
        Some(self.lr)
    }

    fn counts_steps(&self) -> bool {
        false
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.decayed(self.weight_decay);
        let mut square = cx.next("square_avg", |s| average_square(s, g, self.alpha));
        if self.centered {
            let mean = cx.next("grad_avg", |m| average(m, g, self.alpha));
            square = (square - mean * mean).max(square.zero_like());
        }
        let mut direction = g / (square.sqrt() + self.eps);
        if self.momentum != 0.0 {
            direction = cx.next("momentum", |v| v * self.momentum + direction);
        }
        cx.param - cx.rate() * direction
    }
}
