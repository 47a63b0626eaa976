//! Rates that follow a cosine or go up and down.

use std::f64::consts::PI;

use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;
use graphc_ir::ops::ReduceKind;

use super::{Rate, Time, whole};
use crate::grad::parameters::{Range, parameters};

/// From `start` to `end` along half a period of the cosine as `part` goes from 0 to 1.
fn along_cosine<'s>(start: Expr<'s>, end: Expr<'s>, part: Expr<'s>) -> Expr<'s> {
    end + (start - end) * (((part * PI).cos() + 1.0) * 0.5)
}

parameters! {
    /// From lr to min_lr along half a cosine: min_lr + (lr - min_lr) (1 + cos(π t / steps)) / 2 (Loshchilov and Hutter 2017;
    /// `torch.optim.lr_scheduler.CosineAnnealingLR`). From `steps` on it stays min_lr, where PyTorch's rises again.
    Cosine "cosine" {
        /// Number of steps until the rate is min_lr.
        steps: u32 = 0, Range::COUNT;
        /// Least learning rate.
        min_lr: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl Rate for Cosine {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let steps = time.step.literal(f64::from(self.steps));
        let part = time.real(time.step.min(steps)) / time.real(steps);
        along_cosine(time.base, time.base.literal(self.min_lr), part)
    }
}

parameters! {
    /// `cosine` again and again, each time `factor` times as long (Loshchilov and Hutter 2017;
    /// `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`).
    CosineRestarts "cosine_restarts" {
        /// Number of steps until the first restart.
        steps: u32 = 0, Range::COUNT;
        /// How many times as long each cycle is as the one before.
        factor: u32 = 1, Range::COUNT;
        /// Learning rate just before a restart.
        min_lr: f64 = 0.0, Range::NOT_NEGATIVE;
    }
}

impl CosineRestarts {
    /// First step and length of each cycle that begins below 2^31, if they are not all of one length.
    fn cycles(&self) -> (Vec<i32>, Vec<i32>) {
        let (mut start, mut length) = (0u64, u64::from(self.steps));
        let (mut starts, mut lengths) = (Vec::new(), Vec::new());
        while let Ok(s) = i32::try_from(start) {
            starts.push(s);
            // The last cycle may be longer than the counter can tell.
            lengths.push(i32::try_from(length).unwrap_or(i32::MAX));
            start += length;
            length *= u64::from(self.factor);
        }
        (starts, lengths)
    }
}

impl Rate for CosineRestarts {
    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let (in_cycle, length) = if self.factor == 1 {
            let length = time.step.literal(f64::from(self.steps));
            (time.step - time.step / length * length, length)
        } else {
            let (starts, lengths) = self.cycles();
            let (starts, lengths) = (time.list(&starts), time.list(&lengths));
            // Both grow, so that the largest that has begun is the present one.
            let begun = starts.le(time.step);
            let present = |of: Expr<'s>| begun.select(of, of.zero_like()).reduce(ReduceKind::Max, &[0]);
            (time.step - present(starts), present(lengths))
        };
        let part = time.real(in_cycle) / time.real(length);
        along_cosine(time.base, time.base.literal(self.min_lr), part)
    }
}

parameters! {
    /// One cycle: from lr / div_factor up to lr and down to lr / (div_factor final_div_factor) in the last of `steps` steps,
    /// where it stays; with `three_phase` down to lr / div_factor as fast as up, then on (Smith and Topin 2018;
    /// `torch.optim.lr_scheduler.OneCycleLR` without its cycle of the momentum).
    OneCycle "one_cycle" {
        /// Number of steps.
        steps: u32 = 0, Range::COUNT;
        /// Share of the steps in which the rate rises.
        pct_start: f64 = 0.3, Range::BETWEEN;
        /// The first rate is lr divided by this.
        div_factor: f64 = 25.0, Range::POSITIVE;
        /// The last rate is the first divided by this.
        final_div_factor: f64 = 1e4, Range::POSITIVE;
        /// Whether the rate follows straight lines instead of cosines.
        linear: bool = false, None;
        /// Whether the fall is divided in two.
        three_phase: bool = false, None;
    }
}

impl OneCycle {
    /// Last step of each phase and the rate there, as a share of lr.
    fn phases(&self) -> Vec<(f64, f64)> {
        let (steps, rise) = (f64::from(self.steps), self.pct_start * f64::from(self.steps));
        let first = 1.0 / self.div_factor;
        let mut phases = vec![(rise - 1.0, 1.0)];
        if self.three_phase {
            phases.push((2.0 * rise - 2.0, first));
        }
        phases.push((steps - 1.0, first / self.final_div_factor));
        phases
    }
}

impl Rate for OneCycle {
    fn check(&self) -> Result<()> {
        let ends: Vec<f64> = std::iter::once(0.0).chain(self.phases().iter().map(|p| p.0)).collect();
        if ends.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(());
        }
        let problem = format!(
            "one_cycle: {} steps have no room for phases of `pct_start` = {}",
            self.steps, self.pct_start
        );
        Err(Error::new(problem).help(if self.three_phase {
            "take more steps, or a `pct_start` at which two phases leave some for the third"
        } else {
            "take more steps"
        }))
    }

    fn rate<'s>(&self, time: &Time<'s, '_>) -> Expr<'s> {
        let t = time.real(time.step.min(time.step.literal(f64::from(whole(self.steps)) - 1.0)));
        let mut begin = (0.0, 1.0 / self.div_factor);
        let mut pieces = Vec::new();
        for end in self.phases() {
            let part = (t - t.literal(begin.0)) / (end.0 - begin.0);
            let (from, to) = (time.base * begin.1, time.base * end.1);
            let rate = if self.linear { from + (to - from) * part } else { along_cosine(from, to, part) };
            pieces.push((end.0, rate));
            begin = end;
        }
        let last = pieces.pop().map_or(time.base, |(_, rate)| rate);
        pieces.into_iter().rev().fold(last, |later, (end, rate)| t.le(t.literal(end)).select(rate, later))
    }
}
