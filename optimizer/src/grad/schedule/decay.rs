//! Rates that fall.

use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;

use super::{Rate, Time, whole};
use crate::grad::optimizer::power;
use crate::grad::parameters::{Range, parameters};

parameters! {
    /// lr gamma^⌊t / size⌋ (`torch.optim.lr_scheduler.StepLR`).
    StepDecay "step" {
        /// Number of steps between two falls.
        size: u32 = 0, Range::COUNT;
        /// Factor of each fall.
        gamma: f64 = 0.1, Range::POSITIVE;
    }
}

impl Rate for StepDecay {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let falls = time.step / f64::from(self.size);
        time.base * power(self.gamma, time.real(falls))
    }
}

parameters! {
    /// lr gammaⁿ with the number n of milestones up to t (`torch.optim.lr_scheduler.MultiStepLR`).
    MultiStep "multi_step" {
        /// Steps at which the rate falls, such as `30+80`.
        milestones: Vec<u32> = Vec::new(), Range::COUNT;
        /// Factor of each fall.
        gamma: f64 = 0.1, Range::POSITIVE;
    }
}

impl Rate for MultiStep {
    fn check(&self) -> Result<()> {
        if self.milestones.is_empty() {
            return Err(Error::new("multi_step has no milestones").help("give some, such as 30 and 80"));
        }
        match self.milestones.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => {
                let problem = format!("multi_step: the milestone {} follows {}", pair[1], pair[0]);
                Err(Error::new(problem).help("they must grow"))
            }
            None => Ok(()),
        }
    }

    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let milestones: Vec<i32> = self.milestones.iter().map(|m| whole(*m)).collect();
        let milestones = time.list(&milestones);
        let passed = milestones.le(time.step).cast(super::STEP_TYPE).sum(&[0]);
        time.base * power(self.gamma, time.real(passed))
    }
}

parameters! {
    /// lr gammaᵗ (`torch.optim.lr_scheduler.ExponentialLR`).
    Exponential "exponential" {
        /// Factor of each step.
        gamma: f64 = 0.0, Range::POSITIVE;
    }
}

impl Rate for Exponential {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        time.base * power(self.gamma, time.t())
    }
}

parameters! {
    /// lr / (1 + decay t) (Robbins and Monro 1951; `learningRateDecay` of Torch7's `optim.sgd`).
    InverseTime "inverse_time" {
        /// How fast the rate falls.
        decay: f64 = 0.0, Range::POSITIVE;
    }
}

impl Rate for InverseTime {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        time.base / (time.t() * self.decay + 1.0)
    }
}

parameters! {
    /// lr (1 - min(t, steps) / steps)^power (`torch.optim.lr_scheduler.PolynomialLR`).
    Polynomial "polynomial" {
        /// Number of steps until the rate is 0.
        steps: u32 = 0, Range::COUNT;
        /// Power; 1 is a straight line.
        power: f64 = 1.0, Range::POSITIVE;
    }
}

impl Rate for Polynomial {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let steps = time.step.literal(f64::from(self.steps));
        let rest = time.real(steps - time.step.min(steps)) / time.real(steps);
        time.base * if self.power == 1.0 { rest } else { rest.pow(rest.literal(self.power)) }
    }
}
