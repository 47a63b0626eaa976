//! The choices that a session is built with.

use std::sync::{Mutex, OnceLock};

use graphc_ir::Module;

use super::cache::Cache;
use super::state::State;
use super::{Session, binding_of, inspect};
use crate::error::{Error, Result, suggest};
use crate::executor::Executor;
use crate::memory;
use crate::options::{Device, Options};

/// A module and how to run it; made by [`Session::open`] and [`Session::from_module`].
#[derive(Debug)]
pub struct SessionBuilder {
    module: Module,
    device: Device,
    threads: Option<usize>,
    seed: Option<u64>,
    dims: Vec<(String, usize)>,
    options: Options,
}

impl SessionBuilder {
    pub(super) fn new(module: Module) -> SessionBuilder {
        SessionBuilder {
            module,
            device: Device::default(),
            threads: None,
            seed: None,
            dims: Vec::new(),
            options: Options::default(),
        }
    }

    /// The module that was read.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Where functions run; the CPU if not given.
    pub fn device(mut self, device: Device) -> SessionBuilder {
        self.device = device;
        self
    }

    /// How many threads take part in a run, the calling one counted; all that the machine has if not given.
    /// Results do not depend on it.
    pub fn threads(mut self, threads: usize) -> SessionBuilder {
        self.threads = Some(threads);
        self
    }

    /// Sets the state that has no value when the session is built, as [`Session::init_missing`] does.
    pub fn seed(mut self, seed: u64) -> SessionBuilder {
        self.seed = Some(seed);
        self
    }

    /// The size of a symbolic dim that no input or state tells.
    pub fn dim(mut self, symbol: impl Into<String>, size: usize) -> SessionBuilder {
        self.dims.push((symbol.into(), size));
        self
    }

    /// What compilation may do and how much memory may be taken.
    pub fn options(mut self, options: Options) -> SessionBuilder {
        self.options = options;
        self
    }

    /// Opens the device and puts the state there.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is not available, [`Error::Usage`] for a number of threads that is out
    /// of range and for symbols that the module does not have, [`Error::Data`] for state that does not fit its
    /// type, and the errors of [`Session::init_missing`] if there is a seed.
    pub fn build(self) -> Result<Session> {
        let SessionBuilder { mut module, device, threads, seed, dims, options } = self;
        let known = inspect::module_symbols(&module);
        if let Some((name, _)) = dims.iter().find(|(name, _)| !known.contains(name)) {
            let remedy = suggest(name, known.iter().map(String::as_str));
            return Err(Error::Usage(format!("the module has no dim `{name}`; {remedy}")));
        }
        let dims = binding_of(dims.iter().map(|(n, size)| (n.as_str(), *size)), "the given dims")?;
        let executor = Executor::open(device, threads)?;
        let state = State::new(&module, dims)?;
        // The session has them, so that assigning to them copies nothing.
        module.state.iter_mut().for_each(|decl| decl.init = None);
        let mut session = Session {
            optimized: module.functions.iter().map(|_| OnceLock::new()).collect(),
            cache: Mutex::new(Cache::new(options.cache_bytes)),
            memory_limit: options.memory_limit.or_else(memory::available),
            module,
            device,
            options,
            executor,
            state,
        };
        if let Some(seed) = seed {
            session.init_missing(seed)?;
        }
        Ok(session)
    }
}
