//! The devices behind a session: each compiles a bound function and runs it.
//!
//! *Boundary:* a session knows names, state and the cache; an executor knows tensors only.

mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod reference;
mod staged;

use std::time::Duration;

use graphc_ir::dim::Binding;
use graphc_ir::target::{self, Target};
use graphc_ir::{Function, Graph, Node, Tensor};
use graphc_optimizer::driver;
use graphc_optimizer::remarks::Remarks;

use crate::error::{Error, Result, compiling};
use crate::options::{Device, Options};
use crate::session::State;

/// A device as a session uses it.
#[derive(Debug)]
pub(crate) enum Executor {
    Cpu(cpu::Cpu),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Gpu>),
    Reference(target::Reference),
}

/// A function compiled for fixed sizes.
#[derive(Debug)]
pub(crate) enum Code {
    Cpu(cpu::Code),
    #[cfg(feature = "gpu")]
    Gpu(Box<gpu::Code>),
    Reference(Graph),
}

/// A function to compile.
pub(crate) struct Source<'a> {
    pub function: &'a Function,
    /// As built, with its dims replaced by numbers.
    pub bound: &'a Graph,
    /// Canonical, expanded and simplified, with symbolic dims.
    pub optimized: &'a Graph,
    pub binding: &'a Binding,
    pub options: &'a Options,
    pub memory_limit: Option<usize>,
    /// Bytes of feeds, outputs and state.
    pub other_bytes: usize,
}

/// A run that was started.
#[derive(Debug)]
pub(crate) enum Started {
    /// It is over.
    Done(Vec<Tensor>),
    #[cfg(feature = "gpu")]
    Gpu(graphc_gpu::Started),
}

/// The state of a run: functions with updates have it for themselves.
pub(crate) enum StateAccess<'a> {
    Shared(&'a State),
    Exclusive(&'a mut State),
}

/// One run: checked feeds and outputs of the right types.
pub(crate) struct Run<'a> {
    pub function: &'a Function,
    pub feeds: &'a [(&'a str, &'a Tensor)],
    pub outputs: &'a mut [Tensor],
    pub state: StateAccess<'a>,
    /// Called with the number of each step when it is done, where the device has steps.
    pub after: &'a mut dyn FnMut(usize),
}

impl StateAccess<'_> {
    pub fn get(&self) -> &State {
        match self {
            StateAccess::Shared(state) => state,
            StateAccess::Exclusive(state) => state,
        }
    }
}

impl Executor {
    /// Opens a device; `threads` counts the calling thread.
    pub fn open(device: Device, threads: Option<usize>) -> Result<Executor> {
        match device {
            Device::Cpu => Ok(Executor::Cpu(cpu::Cpu::open(threads)?)),
            Device::Reference => Ok(Executor::Reference(target::Reference)),
            #[cfg(feature = "gpu")]
            Device::Gpu => Ok(Executor::Gpu(Box::new(gpu::Gpu::open()?))),
            #[cfg(not(feature = "gpu"))]
            Device::Gpu => Err(Error::Device(
                "the device gpu is not available: this build of graphc has no GPU runtime; use cpu or reference".into(),
            )),
        }
    }

    /// The device as the optimizer sees it.
    pub fn target(&self) -> &dyn Target {
        match self {
            Executor::Cpu(cpu) => cpu.target(),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.target(),
            Executor::Reference(target) => target,
        }
    }

    /// The adapter that runs functions, if they run on one.
    pub fn adapter(&self) -> Option<String> {
        match self {
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => Some(gpu.info().to_string()),
            _ => None,
        }
    }

    /// What the user should know of how the device was opened.
    pub fn note(&self) -> Option<&str> {
        match self {
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.note(),
            _ => None,
        }
    }

    /// Whether functions run on a GPU that is none: a driver that computes on the CPU.
    pub fn is_software(&self) -> bool {
        match self {
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => gpu.info().is_software(),
            _ => false,
        }
    }

    /// How many threads take part in a run.
    pub fn threads(&self) -> usize {
        match self {
            Executor::Cpu(cpu) => cpu.threads(),
            #[cfg(feature = "gpu")]
            Executor::Gpu(_) => 1,
            Executor::Reference(_) => 1,
        }
    }

    /// Compiles a function, unless it needs more memory than the limit.
    pub fn compile(&self, source: &Source<'_>) -> Result<Code> {
        match self {
            Executor::Cpu(cpu) => Ok(Code::Cpu(cpu.compile(source)?)),
            #[cfg(feature = "gpu")]
            Executor::Gpu(gpu) => Ok(Code::Gpu(Box::new(gpu.compile(source)?))),
            Executor::Reference(_) => Ok(Code::Reference(reference::compile(source)?)),
        }
    }

    /// Starts a run with the state for itself. Devices that compute in this process run it; others go on without waiting.
    pub fn start(
        &self,
        code: &Code,
        function: &Function,
        feeds: &[(&str, &Tensor)],
        mut outputs: Vec<Tensor>,
        state: &mut State,
    ) -> Result<Started> {
        match (self, code) {
            // A variable without a value has none if the run fails, which is not known before it is over.
            #[cfg(feature = "gpu")]
            (Executor::Gpu(gpu), Code::Gpu(code)) if !gpu.assigns_first(code, state) => {
                gpu.start(code, function, feeds, state).map(Started::Gpu)
            }
            _ => {
                let (state, after) = (StateAccess::Exclusive(state), &mut |_: usize| {});
                self.run(code, Run { function, feeds, outputs: &mut outputs, state, after })?;
                Ok(Started::Done(outputs))
            }
        }
    }

    /// Waits for a run and gives its outputs, in new tensors where they are not there yet.
    pub fn finish(
        &self,
        code: &Code,
        started: Started,
        new_outputs: impl FnOnce() -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        match (started, code) {
            (Started::Done(outputs), _) => Ok(outputs),
            #[cfg(feature = "gpu")]
            (Started::Gpu(started), Code::Gpu(code)) => {
                let mut outputs = new_outputs()?;
                code.finish(started, &mut outputs).map(|()| outputs)
            }
            #[cfg(feature = "gpu")]
            _ => Err(Error::Internal("a run is finished on another device than it was started on".into())),
        }
    }

    /// Runs with the state for itself and gives the times of the steps by the device's own clock, each with its step and some
    /// in parts; `None` where it has none.
    pub fn times(
        &self,
        code: &Code,
        function: &Function,
        feeds: &[(&str, &Tensor)],
        state: &mut State,
    ) -> Result<Option<Vec<(usize, Duration)>>> {
        match (self, code) {
            #[cfg(feature = "gpu")]
            (Executor::Gpu(gpu), Code::Gpu(code)) => gpu.times(code, function, feeds, state),
            _ => Ok(None),
        }
    }

    /// Runs what this device compiled. State changes only if the run succeeds, or graphc or the device fails, which
    /// the error says.
    pub fn run(&self, code: &Code, run: Run<'_>) -> Result<()> {
        match (self, code) {
            (Executor::Cpu(cpu), Code::Cpu(code)) => cpu.run(code, run),
            #[cfg(feature = "gpu")]
            (Executor::Gpu(gpu), Code::Gpu(code)) => gpu.run(code, run),
            (Executor::Reference(_), Code::Reference(graph)) => reference::run(graph, run),
            _ => Err(Error::Internal("a function came to another device than it was compiled for".into())),
        }
    }
}

impl Code {
    /// Bytes that keeping it costs.
    pub fn bytes(&self) -> usize {
        match self {
            Code::Cpu(code) => code.bytes(),
            #[cfg(feature = "gpu")]
            Code::Gpu(code) => code.bytes(),
            Code::Reference(graph) => graph.len() * size_of::<Node>(),
        }
    }
}

/// Lowers a function to Programs.
pub(crate) fn lower(source: &Source<'_>, target: &dyn Target) -> Result<graphc_optimizer::compile::Compiled> {
    let Source { function, optimized, binding, options, .. } = source;
    driver::compile(optimized, function, binding, target, &options.optimizer, &mut Remarks::default())
        .map_err(|e| compiling("", &e))
}

/// The error of a run, which is the data's fault: a check of the model failed, an index is out of range.
pub(crate) fn failed(e: impl std::fmt::Display) -> Error {
    Error::Data(format!("the run failed and left the state as it was: {e}"))
}
