//! How a parameter follows from its gradient: one file for each family of optimizers.
//!
//! All compute in the parameter's element type. Powers of a decay rate are exp(t · ln β), and 1 - βᵗ is
//! -expm1(t · ln β), so that nothing is lost in f32 where the rate is close to 1.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod asgd;
mod lamb;
mod lion;
mod nadam;
mod rmsprop;
mod rprop;
mod sgd;

use std::cell::RefCell;

use graphc_ir::error::Result;
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::ops::Map;
use graphc_ir::origin::Origins;
use graphc_ir::scalar::ScalarFn;

pub use adadelta::AdaDelta;
pub use adagrad::AdaGrad;
pub use adam::{Adam, AdamW, AmsGrad};
pub use adamax::Adamax;
pub use asgd::Asgd;
pub use lamb::Lamb;
pub use lion::Lion;
pub use nadam::NAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use sgd::Sgd;

use super::parameters::choice;

choice! {
    /// The update of a training function.
    Optimizer "optimizer": Update {
        Sgd, AdaGrad, AdaDelta, RmsProp, Adam, AdamW, AmsGrad, Adamax, NAdam, Lion, Rprop, Asgd, Lamb,
    }
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Sgd::default().into()
    }
}

impl Optimizer {
    /// What is kept of each parameter between steps.
    pub fn slots(&self) -> Vec<Slot> {
        self.behaviour().slots()
    }

    /// The learning rate that the module keeps in the state `learning_rate`, if the optimizer has one.
    pub fn learning_rate(&self) -> Option<f64> {
        self.behaviour().learning_rate()
    }

    /// Whether the update depends on the number of the step.
    pub fn counts_steps(&self) -> bool {
        self.behaviour().counts_steps()
    }

    /// Appends the update of one parameter.
    pub(super) fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s> {
        self.behaviour().step(cx)
    }
}

/// What is kept of a parameter, in the state `<param>.<name>`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Name.
    pub name: &'static str,
    /// Every element before the first step.
    pub init: f64,
    /// Whether it is one number, or as large as the parameter.
    pub scalar: bool,
}

impl Slot {
    fn filled(name: &'static str, init: f64) -> Slot {
        Slot { name, init, scalar: false }
    }

    fn zeros(name: &'static str) -> Slot {
        Slot::filled(name, 0.0)
    }

    fn number(name: &'static str, init: f64) -> Slot {
        Slot { name, init, scalar: true }
    }
}

/// What an optimizer must say beside its parameters.
trait Update {
    fn slots(&self) -> Vec<Slot>;

    fn learning_rate(&self) -> Option<f64>;

    fn counts_steps(&self) -> bool {
        true
    }

    /// What must hold of the numbers together.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The parameter after the step; slots by [`Step::next`].
    fn step<'s>(&self, cx: &Step<'s, '_>) -> Expr<'s>;
}

/// The update of one parameter under construction.
pub(super) struct Step<'s, 'b> {
    pub scope: &'s Scope<'b>,
    /// Name of the parameter.
    pub name: &'b str,
    /// The parameter.
    pub param: Expr<'s>,
    /// Its gradient.
    pub gradient: Expr<'s>,
    /// The learning rate, rank 0, where there is one.
    pub rate: Option<Expr<'s>>,
    /// The number of steps taken before, rank 0, where it is asked for.
    pub before: Option<Expr<'s>>,
    /// Slots in their order.
    pub slots: Vec<(&'static str, Expr<'s>)>,
    /// What slots become.
    pub next: RefCell<Vec<(&'static str, Expr<'s>)>>,
}

impl<'s> Step<'s, '_> {
    /// Appends under the name `<param>.<part>`.
    pub(super) fn named<R>(&self, part: &str, f: impl FnOnce() -> R) -> Result<R> {
        let origins = Origins::named(format!("{}.{part}", self.name));
        let outer = self.scope.build(|b| {
            let outer = b.current_origins().clone();
            b.set_origins(origins);
            Ok(outer)
        })?;
        let result = f();
        self.scope.build(|b| {
            b.set_origins(outer);
            Ok(())
        })?;
        Ok(result)
    }

    /// A slot before the step.
    fn slot(&self, name: &str) -> Expr<'s> {
        let found = self.slots.iter().find(|(n, _)| *n == name);
        found.expect("an optimizer reads the slots that it declares").1
    }

    /// Sets a slot to what `f` makes of it, and returns that.
    fn next(&self, name: &'static str, f: impl FnOnce(Expr<'s>) -> Expr<'s>) -> Expr<'s> {
        let slot = self.slot(name);
        // After an error any value does: the scope gives the error in the end.
        let value = self.named(&format!("{name}.next"), || f(slot)).unwrap_or(slot);
        self.next.borrow_mut().push((name, value));
        value
    }

    /// The gradient of the loss with `decay` / 2 · p² added.
    fn decayed(&self, decay: f64) -> Expr<'s> {
        if decay == 0.0 { self.gradient } else { self.gradient + self.param * decay }
    }

    /// The parameter with `decay` of it, times the learning rate, taken away.
    fn shrunk(&self, decay: f64) -> Expr<'s> {
        if decay == 0.0 {
            return self.param;
        }
        let rate = self.rate();
        self.param * (rate.one_like() - rate * decay)
    }

    fn rate(&self) -> Expr<'s> {
        self.rate.expect("an optimizer with a learning rate gets it")
    }

    /// The number of steps taken before.
    fn before(&self) -> Expr<'s> {
        self.before.expect("an optimizer that counts gets the count")
    }

    /// The number of this step, from 1.
    fn count(&self) -> Expr<'s> {
        self.before() + 1.0
    }

    /// 1 - βᵗ of this step's number t.
    fn unbiased(&self, beta: f64) -> Expr<'s> {
        -expm1(self.count() * beta.ln())
    }
}

/// base^exponent for a number `base` above 0.
pub(super) fn power<'s>(base: f64, exponent: Expr<'s>) -> Expr<'s> {
    (exponent * base.ln()).exp()
}

/// e^x - 1.
fn expm1(x: Expr<'_>) -> Expr<'_> {
    x.op(Map { f: ScalarFn::Expm1 }, &[])
}

/// `rate · a + (1 - rate) · b`, as its change of `a`.
fn average<'s>(a: Expr<'s>, b: Expr<'s>, rate: f64) -> Expr<'s> {
    a + (b - a) * (1.0 - rate)
}

/// `rate · a + (1 - rate) · b²`.
fn average_square<'s>(a: Expr<'s>, b: Expr<'s>, rate: f64) -> Expr<'s> {
    a * rate + b * b * (1.0 - rate)
}
