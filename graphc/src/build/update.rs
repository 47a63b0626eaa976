//! Updates of parameters by their gradients, with the state that they need.

use graphc_ir::error::{Error, Result};
use graphc_ir::expr::Expr;
use graphc_optimizer::grad::UpdateRule;

use super::{FunctionBuilder, ModuleBuilder};

impl ModuleBuilder {
    /// Declares the state that [`FunctionBuilder::apply`] needs for an update of these parameters: `learning_rate` in the
    /// type of the first of them, `step`, and the slots `<param>.<slot>`, all with their first values where shapes are
    /// numbers.
    ///
    /// # Errors
    /// Hyper-parameters out of range, parameters that are not declared or are no floats, and names that are taken.
    pub fn update_state(&mut self, rule: &UpdateRule, params: &[impl AsRef<str>]) -> Result<()> {
        rule.validate()?;
        let mut declared = Vec::new();
        for name in params {
            let name = name.as_ref();
            let found = self.module.state_index(name).map(|i| &self.module.state[i]);
            let Some(decl) = found else {
                let problem = format!("there is no state `{name}`, which the update is of");
                return Err(Error::new(problem).help("declare it before the state of its update"));
            };
            if !decl.ty.dtype.is_compute_float() {
                return Err(Error::new(format!(
                    "`{name}` is {}, but what is updated is f32 or f64",
                    decl.ty
                )));
            }
            declared.push(decl);
        }
        let Some(first) = declared.first() else {
            return Err(Error::new("an update is of at least one parameter"));
        };
        for decl in rule.state(&declared, first.ty.dtype)? {
            self.push_state(decl)?;
        }
        Ok(())
    }
}

impl FunctionBuilder<'_> {
    /// Updates parameters by their gradients, and the state of the update, which [`ModuleBuilder::update_state`] declares.
    ///
    /// # Errors
    /// State that is missing or updated already, and parameters that the rule does not fit.
    pub fn apply(&self, rule: &UpdateRule, gradients: &[(impl AsRef<str>, Expr<'_>)]) -> Result<()> {
        rule.validate()?;
        let mut places = Vec::new();
        for (name, gradient) in gradients {
            places.push((self.state_index(name.as_ref())?, gradient.id()));
        }
        let updates = self.scope.build(|b| rule.append(b, self.state, &places))?;
        for (index, value) in updates {
            self.update(&self.state[index].name, self.scope.expr(value))?;
        }
        Ok(())
    }
}
