//! The update of stochastic gradient descent.

use graphc_ir::builder::Builder;
use graphc_ir::error::Result;
use graphc_ir::graph::ValueId;
use graphc_ir::scalar::ScalarFn;

use super::replay::named;
use super::spec::Sgd;

/// What a parameter and its momentum become.
pub(super) struct Step {
    pub param: ValueId,
    pub momentum: Option<ValueId>,
}

impl Sgd {
    /// Appends the update of one parameter; `rate` has rank 0, `momentum` is the parameter's slot,
    /// `name` its name.
    pub(super) fn step(
        &self,
        b: &mut Builder,
        (param, gradient): (ValueId, ValueId),
        momentum: Option<ValueId>,
        rate: ValueId,
        name: &str,
    ) -> Result<Step> {
        let mut direction = gradient;
        if self.weight_decay != 0.0 {
            direction = add_scaled(b, direction, param, self.weight_decay)?;
        }
        if let Some(v) = momentum {
            direction =
                named(b, &format!("{name}.momentum.next"), |b| add_scaled(b, direction, v, self.momentum))?;
        }
        let rate = b.cast(rate, b.ty(param).dtype)?;
        let change = b.map(ScalarFn::Mul, &[rate, direction])?;
        let param = named(b, &format!("{name}.next"), |b| b.map(ScalarFn::Sub, &[param, change]))?;
        Ok(Step { param, momentum: momentum.map(|_| direction) })
    }
}

/// `scale · x + y`.
fn add_scaled(b: &mut Builder, y: ValueId, x: ValueId, scale: f64) -> Result<ValueId> {
    let scale = b.full_like(x, scale)?;
    let scaled = b.map(ScalarFn::Mul, &[scale, x])?;
    b.map(ScalarFn::Add, &[scaled, y])
}
