//! How the learning rate changes from step to step.
//!
//! A schedule is a function of the learning rate in the state and of the number t of steps taken before, from 0; whole
//! numbers stay whole until they must not. Powers are exp(exponent · ln base).

mod cyclic;
mod decay;

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::tensor::Tensor;

pub use cyclic::{Cosine, CosineRestarts, OneCycle};
pub use decay::{Exponential, InverseTime, MultiStep, Polynomial, StepDecay};

use super::parameters::{Parameters, Range, choice, parameters};

choice! {
    /// How the learning rate changes from step to step.
    Schedule "schedule": Rate {
        StepDecay, MultiStep, Exponential, InverseTime, Polynomial, Cosine, CosineRestarts, OneCycle,
    }
}

parameters! {
    /// Linear warm-up: in step t < steps the learning rate times start + (1 - start) t / steps, then the schedule, which
    /// counts from there (`torch.optim.lr_scheduler.LinearLR`, followed by another through `SequentialLR`).
    Warmup "warmup" {
        /// Number of steps.
        steps: u32 = 0, Range::COUNT;
        /// Share of the learning rate in the first step.
        start: f64 = 1.0 / 3.0, Range::FACTOR;
    }
}

impl std::str::FromStr for Warmup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Warmup> {
        let mut warmup = Warmup::default();
        warmup.read(text)?;
        Ok(warmup)
    }
}

/// What a schedule must say beside its parameters.
trait Rate {
    /// What must hold of the numbers together.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s>;
}

/// What a rate is computed from.
#[derive(Clone, Copy)]
pub(super) struct Time<'s, 'b> {
    pub scope: &'s Scope<'b>,
    /// The learning rate in the state, rank 0.
    pub base: Expr<'s>,
    /// The number of steps taken before, i32, rank 0.
    pub step: Expr<'s>,
}

impl<'s> Time<'s, '_> {
    /// A whole number in the type of the rate.
    fn real(&self, whole: Expr<'s>) -> Expr<'s> {
        whole.cast(self.base.ty().dtype)
    }

    /// The number of steps in the type of the rate.
    fn t(&self) -> Expr<'s> {
        self.real(self.step)
    }

    /// A constant i32`[n]`.
    fn list(&self, numbers: &[i32]) -> Expr<'s> {
        match self.scope.build(|b| b.constant(Tensor::from_slice(&[numbers.len()], numbers))) {
            Ok(id) => self.scope.expr(id),
            // The scope gives the error in the end.
            Err(_) => self.step,
        }
    }
}

/// The rate of a step under a schedule, a warm-up, or both.
pub(super) fn rate<'s>(schedule: Option<&Schedule>, warmup: Option<&Warmup>, time: Time<'s, '_>) -> Expr<'s> {
    let scheduled = |time: Time<'s, '_>| schedule.map_or(time.base, |s| s.behaviour().rate(&time));
    let Some(warmup) = warmup else { return scheduled(time) };
    let steps = time.step.literal(f64::from(warmup.steps));
    let later = Time { step: (time.step - steps).max(steps.zero_like()), ..time };
    let rising = time.base * (time.t() * ((1.0 - warmup.start) / f64::from(warmup.steps)) + warmup.start);
    time.step.lt(steps).select(rising, scheduled(later))
}

/// Steps as i32; ranges keep them below 2^31.
fn whole(steps: u32) -> i32 {
    i32::try_from(steps).unwrap_or(i32::MAX)
}

/// Element type of the state that counts steps.
pub(super) const STEP_TYPE: DType = DType::I32;
