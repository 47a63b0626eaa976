//! Everything between gradients and the next state.

use std::cell::RefCell;
use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Scope;
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{StateDecl, StateRole};
use graphc_ir::scalar::{Number, Scalar};
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;

use super::optimizer::{Optimizer, Slot, Step};
use super::parameters::Parameters;
use super::read;
use super::regularizer::{Clip, Regularizer};
use super::schedule::{self, STEP_TYPE, Schedule, Time, Warmup};

/// Name of the state variable that holds the learning rate.
pub const LEARNING_RATE: &str = "learning_rate";

/// Name of the state variable that counts the steps taken, where the update depends on their number.
pub const STEP: &str = "step";

/// How parameters follow from their gradients: penalties, then clipping, then the optimizer's step at the schedule's
/// learning rate, then the bound on the parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdateRule {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// How the learning rate changes; without one it is that of the state.
    pub schedule: Option<Schedule>,
    /// A warm-up before the schedule.
    pub warmup: Option<Warmup>,
    /// Penalties and bounds.
    pub regularizer: Regularizer,
    /// Clipping of gradients.
    pub clip: Clip,
}

impl<T: Into<Optimizer>> From<T> for UpdateRule {
    fn from(optimizer: T) -> UpdateRule {
        UpdateRule { optimizer: optimizer.into(), ..UpdateRule::default() }
    }
}

impl UpdateRule {
    /// Checks all numbers.
    ///
    /// # Errors
    /// The first that is out of its range, and a schedule of a learning rate that the optimizer does not have.
    pub fn validate(&self) -> Result<()> {
        self.optimizer.validate()?;
        self.schedule.as_ref().map_or(Ok(()), Schedule::validate)?;
        self.warmup.as_ref().map_or(Ok(()), Warmup::validate)?;
        self.regularizer.validate()?;
        self.clip.validate()?;
        if self.is_scheduled() && self.optimizer.learning_rate().is_none() {
            let problem = format!(
                "{} has no learning rate that a schedule could change",
                self.optimizer.parameters().name()
            );
            return Err(Error::new(problem).help("leave the schedule out"));
        }
        Ok(())
    }

    fn is_scheduled(&self) -> bool {
        self.schedule.is_some() || self.warmup.is_some()
    }

    /// The state that the update needs for these parameters, with the values of a training's beginning: [`LEARNING_RATE`]
    /// of role `buffer` and of type `dtype`, [`STEP`], i32, and the slots `<param>.<slot>`. A slot has no value where its
    /// shape is not known yet.
    ///
    /// # Errors
    /// A learning rate or a slot's first value that does not fit its type.
    pub fn state(&self, params: &[&StateDecl], dtype: DType) -> Result<Vec<StateDecl>> {
        let number = |name: &str, role, value: Tensor| StateDecl {
            name: name.into(),
            role,
            ty: TensorType::new(value.dtype(), []),
            init: Some(Arc::new(value)),
        };
        let mut state = Vec::new();
        if let Some(rate) = self.optimizer.learning_rate() {
            let value = Tensor::scalar(dtype, Number::from(rate).of(dtype)?);
            state.push(number(LEARNING_RATE, StateRole::Buffer, value));
        }
        if self.optimizer.counts_steps() || self.is_scheduled() {
            state.push(number(STEP, StateRole::Slot, Tensor::scalar(STEP_TYPE, Scalar::I(0))));
        }
        for param in params {
            for slot in self.optimizer.slots() {
                state.push(declare(param, &slot)?);
            }
        }
        Ok(state)
    }

    /// Appends the update of parameters, given by their place in `state` with their gradients; `state` has what
    /// [`UpdateRule::state`] tells. Returns what is assigned to which variable.
    ///
    /// # Errors
    /// State that is missing, and parameters that a regularizer does not fit.
    pub fn append(
        &self,
        b: &mut Builder,
        state: &[StateDecl],
        gradients: &[(usize, ValueId)],
    ) -> Result<Vec<(usize, ValueId)>> {
        let find = |name: &str| match state.iter().position(|s| s.name == name) {
            Some(i) => Ok(i),
            None => Err(Error::new(format!("there is no state `{name}`, which the update needs"))
                .help("declare the state of the update before the function")),
        };
        let mut read = |index: usize| read(b, state, index);

        // All state is read before expressions borrow the builder.
        let rate =
            self.optimizer.learning_rate().map(|_| find(LEARNING_RATE).and_then(&mut read)).transpose()?;
        let counts = self.optimizer.counts_steps() || self.is_scheduled();
        let step = if counts { Some(find(STEP)?) } else { None };
        let step_value = step.map(&mut read).transpose()?;
        let mut params = Vec::new();
        for (index, gradient) in gradients {
            let param = read(*index)?;
            let slot = |slot: &Slot| {
                let index = find(&slot_name(&state[*index].name, slot))?;
                Ok((slot.name, index, read(index)?))
            };
            let slots = self.optimizer.slots().iter().map(slot).collect::<Result<Vec<_>>>()?;
            params.push((*index, param, *gradient, slots));
        }

        let scope = Scope::new(b);
        let before = step_value.map(|v| scope.expr(v));
        let rate = rate.map(|v| match before {
            Some(step) if self.is_scheduled() => {
                let time = Time { scope: &scope, base: scope.expr(v), step };
                schedule::rate(self.schedule.as_ref(), self.warmup.as_ref(), time)
            }
            _ => scope.expr(v),
        });
        let gradients = params.iter().map(|(_, param, gradient, _)| {
            self.regularizer.penalized(scope.expr(*param), scope.expr(*gradient))
        });
        let gradients = self.clip.clipped(gradients.collect());
        let mut updates = Vec::new();
        for ((index, param, _, slots), gradient) in params.iter().zip(gradients) {
            let dtype = state[*index].ty.dtype;
            let cx = Step {
                scope: &scope,
                name: &state[*index].name,
                param: scope.expr(*param),
                gradient,
                rate: rate.map(|r| r.cast(dtype)),
                before: before.map(|t| t.cast(dtype)),
                slots: slots.iter().map(|(name, _, v)| (*name, scope.expr(*v))).collect(),
                next: RefCell::default(),
            };
            let next =
                cx.named("next", || self.regularizer.projected(cx.name, self.optimizer.step(&cx)))??;
            updates.push((*index, next.id()));
            for (name, value) in cx.next.into_inner() {
                let slot = slots.iter().find(|(n, ..)| *n == name);
                updates.extend(slot.map(|(_, index, _)| (*index, value.id())));
            }
        }
        if let (Some(index), Some(before)) = (step, before) {
            updates.push((index, (before + before.one_like()).id()));
        }
        scope.finish()?;
        for (index, value) in &updates {
            if b.ty(*value) != &state[*index].ty {
                fail!("`{}` is {}, but its update is {}", state[*index].name, state[*index].ty, b.ty(*value));
            }
        }
        Ok(updates)
    }
}

/// Name of the state of a parameter's slot.
pub(super) fn slot_name(param: &str, slot: &Slot) -> String {
    format!("{param}.{}", slot.name)
}

fn declare(param: &StateDecl, slot: &Slot) -> Result<StateDecl> {
    let dtype = param.ty.dtype;
    let ty = if slot.scalar { TensorType::new(dtype, []) } else { param.ty.clone() };
    let first = Number::from(slot.init).of(dtype)?;
    let init = ty.shape().map(|shape| Arc::new(Tensor::full(dtype, &shape, first)));
    Ok(StateDecl { name: slot_name(&param.name, slot), role: StateRole::Slot, ty, init })
}
