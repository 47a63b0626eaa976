//! A model on a device: its functions are compiled when they are first run, and its state stays there.

mod builder;
mod cache;
mod compile;
pub(crate) mod feeds;
mod inspect;
mod locate;
mod plan;
mod profile;
mod start;
mod state;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use graphc_ir::dim::Binding;
use graphc_ir::{Function, Graph, Module, Tensor};
use indexmap::IndexMap;

use crate::error::{Error, Result, names, suggest};
use crate::executor::{Executor, Run, StateAccess};
use crate::options::{Device, Options};
pub(crate) use cache::Fixed;
use cache::{Cache, Specialization};
use feeds::described;
pub(crate) use inspect::module_symbols;

pub use builder::SessionBuilder;
pub use plan::PlanInfo;
pub(crate) use plan::Sizes;
pub use profile::{Explanation, Profile, StepInfo};
pub use start::Started;
pub(crate) use state::State;

/// Outputs of a run by name, in the order of the function.
pub type Outputs = IndexMap<String, Tensor>;

/// A module on a device, with its state.
///
/// A function is compiled when it is first run with feeds of certain shapes, and the result is kept. A run
/// that fails leaves the state as it was, but where graphc itself or the device fails while state is assigned: the error
/// says then which variables are lost, and they have no value until they are assigned.
pub struct Session {
    module: Module,
    device: Device,
    options: Options,
    memory_limit: Option<usize>,
    executor: Executor,
    state: State,
    /// For each function, its optimized graph, once it was needed.
    optimized: Vec<OnceLock<Graph>>,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<_> = self.module.functions.keys().collect();
        f.debug_struct("Session")
            .field("device", &self.device)
            .field("functions", &functions)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Reads a module, to be built into a session.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Read`], or [`Error::Model`] with everything that is wrong in the file.
    pub fn open(path: impl AsRef<Path>) -> Result<SessionBuilder> {
        Ok(SessionBuilder::new(crate::file::load(path.as_ref())?))
    }

    /// As [`Session::open`], for a module in memory.
    pub fn from_module(module: Module) -> SessionBuilder {
        SessionBuilder::new(module)
    }

    /// The module. Its state has no values here: the session has them, see [`Session::state`] and
    /// [`Session::snapshot`].
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Where functions run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The adapter that functions run on, where the device is a GPU.
    pub fn adapter(&self) -> Option<String> {
        self.executor.adapter()
    }

    /// What the user should know of how the device was opened, such as that compiled shaders on disk were damaged.
    pub fn device_note(&self) -> Option<&str> {
        self.executor.note()
    }

    /// Whether functions run on a GPU in name only: its driver computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.executor.is_software()
    }

    /// How many threads take part in a run.
    pub fn threads(&self) -> usize {
        self.executor.threads()
    }

    /// The sizes that the session knows of dims: those that it was built with, and those of its state.
    pub fn dims(&self) -> &Binding {
        self.state.dims()
    }

    /// A function of the module.
    ///
    /// # Errors
    /// [`Error::Usage`] with a suggestion if there is none of this name.
    pub fn function(&self, name: &str) -> Result<&Function> {
        self.find(name).map(|(_, f)| f)
    }

    fn find(&self, name: &str) -> Result<(usize, &Function)> {
        self.module.functions.get_full(name).map(|(i, _, f)| (i, f)).ok_or_else(|| {
            let known = self.module.functions.keys().map(String::as_str);
            Error::Usage(format!("the module has no function `{name}`; {}", suggest(name, known)))
        })
    }

    /// Runs a function, commits its updates and returns its outputs.
    ///
    /// # Errors
    /// [`Error::Usage`] for names that are unknown, missing or given twice; [`Error::Data`] for types and
    /// shapes that do not fit, for state without a value, and for a check of the model that fails;
    /// [`Error::Device`] if it needs more memory than there is. The state is then as it was. [`Error::Internal`] if a
    /// kernel fails; it says which variables are lost then, if any are.
    pub fn run<'f>(
        &mut self,
        name: &str,
        feeds: impl IntoIterator<Item = (&'f str, &'f Tensor)>,
    ) -> Result<Outputs> {
        let feeds: Vec<_> = feeds.into_iter().collect();
        let specialization = self.specialization(name, &feeds)?;
        let mut outputs = specialization.new_outputs()?;
        self.run_exclusively(&specialization, &feeds, &mut outputs, &mut |_| {})?;
        Ok(self.named(&specialization, outputs))
    }

    /// As [`Session::run`], but writes the outputs, in the order of the function, to tensors of the right
    /// types (see [`Session::new_outputs`]). On the CPU it allocates nothing once it has run with feeds of
    /// these shapes.
    ///
    /// # Errors
    /// Those of [`Session::run`], and [`Error::Usage`] for outputs of other types.
    pub fn run_into(&mut self, name: &str, feeds: &[(&str, &Tensor)], outputs: &mut [Tensor]) -> Result<()> {
        let specialization = self.specialization(name, feeds)?;
        self.check_outputs(&specialization, outputs)?;
        self.run_exclusively(&specialization, feeds, outputs, &mut |_| {})
    }

    /// Runs a function that has no updates; several threads may do so at once.
    ///
    /// # Errors
    /// Those of [`Session::run`], and [`Error::Usage`] if the function has updates.
    pub fn run_shared<'f>(
        &self,
        name: &str,
        feeds: impl IntoIterator<Item = (&'f str, &'f Tensor)>,
    ) -> Result<Outputs> {
        let feeds: Vec<_> = feeds.into_iter().collect();
        let specialization = self.specialization(name, &feeds)?;
        let mut outputs = specialization.new_outputs()?;
        self.run_shared_on(&specialization, &feeds, &mut outputs)?;
        Ok(self.named(&specialization, outputs))
    }

    /// As [`Session::run_shared`], with the outputs of [`Session::run_into`].
    ///
    /// # Errors
    /// Those of both.
    pub fn run_shared_into(
        &self,
        name: &str,
        feeds: &[(&str, &Tensor)],
        outputs: &mut [Tensor],
    ) -> Result<()> {
        let specialization = self.specialization(name, feeds)?;
        self.check_outputs(&specialization, outputs)?;
        self.run_shared_on(&specialization, feeds, outputs)
    }

    /// Compiles a function for feeds of these shapes, unless it is, and makes tensors for its outputs.
    ///
    /// # Errors
    /// Those of [`Session::run`] that can be told without running.
    pub fn new_outputs(&self, name: &str, feeds: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        self.specialization(name, feeds)?.new_outputs()
    }

    /// A state variable's value, `None` if it has none yet.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such variable, [`Error::Device`] if a device that holds it is lost.
    pub fn state(&self, name: &str) -> Result<Option<&Tensor>> {
        Ok(self.state.get(state::index(&self.module, name)?)?.map(|value| &**value))
    }

    /// Assigns a state variable.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such variable, [`Error::Data`] if the value is not of its type.
    pub fn set_state(&mut self, name: &str, value: Tensor) -> Result<()> {
        let i = state::index(&self.module, name)?;
        self.state.set(&self.module, i, Arc::new(value))
    }

    /// Names of the state variables without a value.
    pub fn unset_state(&self) -> Vec<&str> {
        self.state.unset(&self.module)
    }

    /// Names of the state variables without a value that a function reads.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such function.
    pub fn unset_state_of(&self, function: &str) -> Result<Vec<&str>> {
        let reads = compile::state_reads(self.function(function)?).into_iter();
        Ok(reads.filter(|i| !self.state.has(*i)).map(|i| self.module.state[i].name.as_str()).collect())
    }

    /// Sets all state anew: random keys from the seed, then the function `init`, if the module has one.
    ///
    /// # Errors
    /// Those of running `init`; the state is then as it was, but for the keys.
    pub fn init(&mut self, seed: u64) -> Result<()> {
        self.state.seed(&self.module, seed, true)?;
        self.run_init().map(drop)
    }

    /// Sets the state variables that have no value, as [`Session::init`] does, and leaves the others alone.
    ///
    /// # Errors
    /// [`Error::Data`] if the module has no function `init` that sets them, and those of running it.
    pub fn init_missing(&mut self, seed: u64) -> Result<()> {
        self.state.seed(&self.module, seed, false)?;
        if self.unset_state().is_empty() {
            return Ok(());
        }
        let before = self.state_values()?;
        self.run_init()?;
        for (i, value) in before.into_iter().enumerate() {
            if let Some(value) = value {
                self.state.assign(i, value);
            }
        }
        match self.unset_state() {
            unset if unset.is_empty() => Ok(()),
            unset => Err(Error::Data(format!(
                "state {} has no value, and the module has no function `init` that sets it; give it one, as with `--state {}=@file.npy`",
                names(unset.iter().copied()),
                unset[0]
            ))),
        }
    }

    fn run_init(&mut self) -> Result<()> {
        const INIT: &str = "init";
        if self.module.functions.contains_key(INIT) { self.run(INIT, []).map(drop) } else { Ok(()) }
    }

    /// The module with the state's present values.
    ///
    /// # Errors
    /// [`Error::Device`] if a device that holds some of them is lost.
    pub fn snapshot(&self) -> Result<Module> {
        let mut module = self.module.clone();
        for (decl, value) in module.state.iter_mut().zip(self.state_values()?) {
            decl.init = value;
        }
        Ok(module)
    }

    fn state_values(&self) -> Result<Vec<Option<Arc<Tensor>>>> {
        (0..self.module.state.len()).map(|i| Ok(self.state.get(i)?.cloned())).collect()
    }

    /// Writes the module with the state's present values; whatever happens, a whole module is there.
    ///
    /// # Errors
    /// Those of [`crate::file::save`], and those of [`Session::snapshot`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::file::save(&self.snapshot()?, path.as_ref())
    }

    fn run_exclusively(
        &mut self,
        specialization: &Specialization,
        feeds: &[(&str, &Tensor)],
        outputs: &mut [Tensor],
        after: &mut dyn FnMut(usize),
    ) -> Result<()> {
        self.check_state(specialization)?;
        let Session { module, executor, state, .. } = self;
        let function = &module.functions[specialization.function];
        let state = StateAccess::Exclusive(state);
        let result = executor.run(&specialization.code, Run { function, feeds, outputs, state, after });
        result.map_err(|e| self.located(specialization, feeds, e))
    }

    fn run_shared_on(
        &self,
        specialization: &Specialization,
        feeds: &[(&str, &Tensor)],
        outputs: &mut [Tensor],
    ) -> Result<()> {
        self.check_state(specialization)?;
        let (name, function) = self.entry(specialization);
        if !function.updates.is_empty() {
            return Err(Error::Usage(format!(
                "function `{name}` updates state, so it cannot share the session; run it with `Session::run`"
            )));
        }
        let (state, after) = (StateAccess::Shared(&self.state), &mut |_: usize| {});
        let run = Run { function, feeds, outputs, state, after };
        let result = self.executor.run(&specialization.code, run);
        result.map_err(|e| self.located(specialization, feeds, e))
    }

    fn check_state(&self, specialization: &Specialization) -> Result<()> {
        let Some(unset) = specialization.reads.iter().find(|i| !self.state.has(**i)) else {
            return Ok(());
        };
        if let Some(lost) = self.state.lost(*unset) {
            return Err(Error::Device(lost));
        }
        let (function, _) = self.entry(specialization);
        Err(Error::Data(format!(
            "function `{function}` reads state variable `{}`, which has no value yet; run `init` first, or assign it",
            self.module.state[*unset].name
        )))
    }

    fn check_outputs(&self, specialization: &Specialization, outputs: &[Tensor]) -> Result<()> {
        let (name, function) = self.entry(specialization);
        if outputs.len() != specialization.outputs.len() {
            return Err(Error::Usage(format!(
                "function `{name}` has {} outputs, but tensors for {} were given",
                specialization.outputs.len(),
                outputs.len()
            )));
        }
        for ((decl, (dtype, shape)), given) in
            function.outputs.iter().zip(&specialization.outputs).zip(outputs)
        {
            if given.dtype() != *dtype || given.shape() != shape {
                return Err(Error::Usage(format!(
                    "output `{}` of function `{name}` is {}, but the tensor given for it is {}; make it with `new_outputs`",
                    decl.name,
                    described(&Tensor::zeros(*dtype, shape)),
                    described(given)
                )));
            }
        }
        Ok(())
    }

    fn entry(&self, specialization: &Specialization) -> (&str, &Function) {
        let (name, function) = self
            .module
            .functions
            .get_index(specialization.function)
            .expect("specialized functions are the module's");
        (name, function)
    }

    fn named(&self, specialization: &Specialization, outputs: Vec<Tensor>) -> Outputs {
        let (_, function) = self.entry(specialization);
        function.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic while it was held left a list that is whole.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sizes by the names of their symbols, said to come from `place`.
pub(crate) fn binding_of<'a>(
    dims: impl IntoIterator<Item = (&'a str, usize)>,
    place: &str,
) -> Result<Binding> {
    let mut binding = Binding::new();
    for (name, size) in dims {
        let symbol = graphc_ir::dim::Symbol::new(name).map_err(|e| Error::Usage(e.to_string()))?;
        let size =
            i64::try_from(size).map_err(|_| Error::Usage(format!("the size of `{name}` is too large")))?;
        binding.set(&symbol, size, place).map_err(|e| Error::Usage(e.to_string()))?;
    }
    Ok(binding)
}
