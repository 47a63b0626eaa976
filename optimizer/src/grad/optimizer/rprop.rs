use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;

use super::{Slot, Step, Update};
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// Resilient propagation for gradients of the whole data: each element has a step length, times `etaplus` where the
    /// gradient keeps its sign and times `etaminus` where it turns; there the element stays for one step (Riedmiller and
    /// Braun 1993, as in `torch.optim.Rprop`). It has no learning rate in the state and takes no schedule.
    Rprop "rprop" {
        /// First step length.
        lr: f64 = 1e-2, Range::POSITIVE;
        /// Factor where the gradient turns.
        etaminus: f64 = 0.5, Range::BETWEEN;
        /// Factor where the gradient keeps its sign.
        etaplus: f64 = 1.2, Range::ABOVE_ONE;
        /// Least step length.
        min_step: f64 = 1e-6, Range::POSITIVE;
        /// Largest step length.
        max_step: f64 = 50.0, Range::POSITIVE;
    }
}

impl Update for Rprop {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("prev"), Slot::filled("step_size", self.lr)]
    }

    fn learning_rate(&self) -> Option<f64> {
        None
    }

    fn counts_steps(&self) -> bool {
        false
    }

    fn check(&self) -> Result<()> {
        if self.min_step > self.max_step {
            let problem =
                format!("rprop: `min_step` is {}, above `max_step`, {}", self.min_step, self.max_step);
            return Err(Error::new(problem).help("exchange them"));
        }
        Ok(())
    }

    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        let g = cx.gradient;
        let (zero, one) = (g.zero_like(), g.one_like());
        let agreement = g * cx.slot("prev");
        let (keeps, turns) = (agreement.gt(zero), agreement.lt(zero));
        let size = cx.next("step_size", |size| {
            let factor = keeps.select(one * self.etaplus, turns.select(one * self.etaminus, one));
            (size * factor).max(size.literal(self.min_step)).min(size.literal(self.max_step))
        });
        let g = cx.next("prev", |_| turns.select(zero, g));
        cx.param - g.sign() * size
    }
}
