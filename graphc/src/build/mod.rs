//! Modules written in Rust.
//!
//! A [`ModuleBuilder`] declares state and functions; a function is a closure over a
//! [`FunctionBuilder`], in which values are [`Expr`]s and read as mathematics. The names given here
//! are those of files, errors and profiles.
//!
//! ```
//! use graphc::build::{DType, ModuleBuilder, Result, Tensor};
//!
//! # fn main() -> Result<()> {
//! let mut m = ModuleBuilder::new();
//! m.symbol("B", 1)?;
//! m.param("w", "f32[3,2]")?;
//! m.value("b", Tensor::zeros(DType::F32, &[2]))?;
//! m.function("predict", |f| {
//!     let (x, w, b) = (f.input("x", "f32[B,3]")?, f.state("w")?, f.state("b")?);
//!     let y = f.name("y", (x.matmul(w) + b).tanh())?;
//!     f.output("y", y)
//! })?;
//! m.function("train_step", |f| {
//!     let (x, t) = (f.input("x", "f32[B,3]")?, f.input("t", "f32[B,2]")?);
//!     let (w, b) = (f.state("w")?, f.state("b")?);
//!     let difference = (x.matmul(w) + b).tanh() - t;
//!     let loss = f.name("loss", (difference * difference).mean(&[0, 1]))?;
//!     let gradients = f.gradients(loss, &[w, b])?;
//!     f.update("w", w - gradients[0] * 0.1)?;
//!     f.update("b", b - gradients[1] * 0.1)?;
//!     f.loss("loss", loss)
//! })?;
//! let module = m.finish()?;
//! assert_eq!(module.function("train_step")?.inputs, ["x", "t"]);
//! # Ok(())
//! # }
//! ```

mod function;
mod initializer;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use graphc_ir::builder::Builder;
use graphc_ir::dim::Symbol;
use graphc_ir::fail;
use graphc_ir::module::StateDecl;
use graphc_ir::stage::{self, Stage};
use graphc_ir::types::TensorType;
use graphc_ir::wire;

pub use function::FunctionBuilder;
pub use graphc_ir::control::{Iteration, ScanMemory, ScanSpec, Scanned};
pub use graphc_ir::dim::Dim;
pub use graphc_ir::dtype::DType;
pub use graphc_ir::error::{Error, Result};
pub use graphc_ir::expr::{Expr, Scope};
pub use graphc_ir::module::{Function, Meta, Module, OutputMark, StateRole};
pub use graphc_ir::ops;
pub use graphc_ir::tensor::Tensor;
pub use graphc_optimizer::grad::UpdateRule;
pub use initializer::{Fan, Initializer};

/// Builds a [`Module`]: symbols first, then state, then functions over it.
#[derive(Debug, Default)]
pub struct ModuleBuilder {
    module: Module,
    symbols: Vec<(Symbol, i64)>,
    /// Names of the state variables; looked up only.
    state_names: HashSet<String>,
}

impl ModuleBuilder {
    /// An empty module, produced by this version of graphc.
    pub fn new() -> ModuleBuilder {
        let module = Module { producer: wire::PRODUCER.into(), ..Module::default() };
        ModuleBuilder { module, ..ModuleBuilder::default() }
    }

    /// Free-form information under a key of the module's `meta`, such as class names.
    pub fn meta(&mut self, key: &str, value: Meta) {
        if let Meta::Map(map) = &mut self.module.meta {
            map.insert(key.into(), value);
        }
    }

    /// Declares that a symbol of dims is at least `least`; without that it is at least 0.
    ///
    /// # Errors
    /// An invalid name, a bound below 0, or functions before it.
    pub fn symbol(&mut self, name: &str, least: i64) -> Result<()> {
        if !self.module.functions.is_empty() {
            fail!("the symbol `{name}` is declared after functions, which would not know its bound");
        }
        if least < 0 {
            fail!("the least value of `{name}` is {least}, but sizes are at least 0");
        }
        self.symbols.push((Symbol::new(name)?, least));
        self.module.symbols.insert(name.into(), least);
        Ok(())
    }

    /// Declares a trained variable without a value, such as `m.param("w", "f32[784,10]")`.
    ///
    /// # Errors
    /// Those of [`ModuleBuilder::state`].
    pub fn param(&mut self, name: &str, ty: &str) -> Result<()> {
        self.state(name, StateRole::Param, ty, None)
    }

    /// Declares a trained variable with its value.
    ///
    /// # Errors
    /// Those of [`ModuleBuilder::state`].
    pub fn value(&mut self, name: &str, init: Tensor) -> Result<()> {
        self.state_of(name, StateRole::Param, init)
    }

    /// Declares a random key without a value; whoever runs the module chooses it by a seed.
    ///
    /// # Errors
    /// Those of [`ModuleBuilder::state`].
    pub fn key(&mut self, name: &str) -> Result<()> {
        self.state(name, StateRole::Key, "u32[2]", None)
    }

    /// Declares a state variable that has a value, of the value's type.
    ///
    /// # Errors
    /// Those of [`ModuleBuilder::state`].
    pub fn state_of(&mut self, name: &str, role: StateRole, init: Tensor) -> Result<()> {
        let ty = TensorType::fixed(init.dtype(), init.shape());
        self.push_state(StateDecl { name: name.into(), role, ty, init: Some(Arc::new(init)) })
    }

    /// Declares a state variable by its type, such as `f32[784,10]`, perhaps with a value.
    ///
    /// # Errors
    /// A type that cannot be read, a value of another type, or a name that is taken.
    pub fn state(&mut self, name: &str, role: StateRole, ty: &str, init: Option<Tensor>) -> Result<()> {
        let ty = TensorType::parse(ty).map_err(|e| e.at(format!("state `{name}`")))?;
        if let Some(init) = &init {
            let found = TensorType::fixed(init.dtype(), init.shape());
            if found != ty {
                fail!("state `{name}` is {ty}, but its value is {found}");
            }
        }
        self.push_state(StateDecl { name: name.into(), role, ty, init: init.map(Arc::new) })
    }

    fn push_state(&mut self, decl: StateDecl) -> Result<()> {
        if !self.state_names.insert(decl.name.clone()) {
            fail!("two state variables are named `{}`", decl.name);
        }
        self.module.state.push(decl);
        Ok(())
    }

    /// Adds a function, built by a closure.
    ///
    /// Nodes that no output or update needs are left out. A function that takes gradients is brought
    /// into canonical form (`max(x, 0)` becomes `relu(x)`, and the like), as its gradients are.
    ///
    /// # Errors
    /// A name that is taken, or the closure's first error, with the function's name.
    pub fn function(
        &mut self,
        name: &str,
        build: impl FnOnce(&FunctionBuilder<'_>) -> Result<()>,
    ) -> Result<()> {
        if self.module.functions.contains_key(name) {
            fail!("two functions are named `{name}`");
        }
        let function = self.build(build).map_err(|e| e.at(format!("function `{name}`")))?;
        self.module.functions.insert(name.into(), function);
        Ok(())
    }

    fn build(&self, build: impl FnOnce(&FunctionBuilder<'_>) -> Result<()>) -> Result<Function> {
        let mut b = Builder::new();
        for (symbol, least) in &self.symbols {
            b.bounds_mut().declare(symbol, *least);
        }
        let f = FunctionBuilder::new(&self.module.state, &mut b);
        let built = build(&f);
        let draft = f.finish(built)?;
        let results: Vec<_> =
            draft.outputs.iter().map(|(_, v)| *v).chain(draft.updates.iter().map(|(_, v)| *v)).collect();
        let mut graph = b.finish(&results)?.pruned()?;
        if draft.differentiated {
            graph = graphc_optimizer::grad::canonical(&graph)?;
        }
        Ok(Function {
            inputs: draft.inputs,
            outputs: draft.outputs.into_iter().map(|(decl, _)| decl).collect(),
            updates: draft.updates.iter().map(|(i, _)| *i).collect(),
            graph,
        })
    }

    /// The module.
    ///
    /// # Errors
    /// If a function does not pass the verifier, or an input has the name of a state variable.
    pub fn finish(self) -> Result<Module> {
        let state: BTreeSet<&str> = self.module.state.iter().map(|s| s.name.as_str()).collect();
        for (name, f) in &self.module.functions {
            let checked = stage::verify(&f.graph).and_then(|()| Stage::Built.check(&f.graph));
            checked.map_err(|e| e.at(format!("function `{name}`")))?;
            if let Some(twice) = f.inputs.iter().find(|i| state.contains(i.as_str())) {
                fail!("function `{name}`: the input `{twice}` has the name of a state variable");
            }
        }
        Ok(self.module)
    }
}
