//! A GPU as a device: Programs as compute shaders, with state that stays in the GPU's memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use graphc_gpu::{
    AdapterInfo, DeviceMemory, Executable, GpuError, GpuTarget, Home, RunError, Started, from_words, to_words,
};
use graphc_ir::program::{BufferKind, Program, VerifiedProgram};
use graphc_ir::{Function, Tensor};

use super::{Run, Source, StateAccess, failed, lower};
use crate::error::{Error, Result};
use crate::memory;
use crate::session::{Fixed, Sizes, State, feeds};

/// An adapter, and the state variables that it holds.
#[derive(Debug)]
pub(crate) struct Gpu {
    gpu: graphc_gpu::Gpu,
    target: GpuTarget,
    /// By state variable: its memory, and which assignment of the variable is there. Runs take turns.
    resident: Mutex<Vec<Option<Resident>>>,
}

#[derive(Debug)]
struct Resident {
    memory: DeviceMemory,
    version: Option<u64>,
}

/// A function compiled for the GPU.
#[derive(Debug)]
pub(crate) struct Code {
    main: Executable,
    prepare: Option<Prepare>,
    /// State variables that the Program uses.
    uses: Vec<usize>,
    /// Those that it assigns, with their types.
    writes: Vec<(usize, Fixed)>,
    bytes: usize,
}

/// What is computed from state and constants alone.
#[derive(Debug)]
struct Prepare {
    executable: Executable,
    states: Vec<usize>,
    /// Which assignments its results are of.
    versions: Mutex<Option<Vec<u64>>>,
}

impl Gpu {
    pub fn open() -> Result<Gpu> {
        let gpu = graphc_gpu::Gpu::open(None).map_err(device)?;
        let target = gpu.target();
        Ok(Gpu { gpu, target, resident: Mutex::default() })
    }

    pub fn target(&self) -> &GpuTarget {
        &self.target
    }

    pub fn info(&self) -> &AdapterInfo {
        self.gpu.info()
    }

    /// What the user should know of how it was opened.
    pub fn note(&self) -> Option<&str> {
        self.gpu.note()
    }

    pub fn compile(&self, source: &Source<'_>) -> Result<Code> {
        let compiled = lower(source, &self.target)?;
        let sizes = Sizes::of(&compiled).total();
        memory::check("a run on the gpu", sizes.saturating_add(source.other_bytes), source.memory_limit)?;
        let mut resident = self.resident();
        let prepare = match &compiled.prepare {
            None => None,
            Some(staged) => {
                let executable = self.executable(&staged.program, &mut resident, &|_| None)?;
                Some(Prepare { executable, states: staged.states.clone(), versions: Mutex::default() })
            }
        };
        let staged = |i: usize| prepare.as_ref().and_then(|p| p.executable.output(i).cloned());
        let main = self.executable(&compiled.main, &mut resident, &staged)?;
        let (uses, writes) = states(&compiled.main);
        let bytes = main.bytes() + prepare.as_ref().map_or(0, |p| p.executable.bytes());
        Ok(Code { main, prepare, uses, writes, bytes })
    }

    fn executable(
        &self,
        program: &VerifiedProgram,
        resident: &mut Vec<Option<Resident>>,
        staged: &dyn Fn(usize) -> Option<DeviceMemory>,
    ) -> Result<Executable> {
        // What a GPU cannot compute is the device's lack, not the model's fault.
        let code =
            graphc_gpu::Code::new(program, self.gpu.caps()).map_err(|e| Error::Device(e.to_string()))?;
        let executable = Executable::new(&self.gpu, &code, &mut |decl| {
            Ok(match decl.home {
                Home::State(i) => Some(self.memory(resident, i, decl.words)?),
                Home::Staged(i) => staged(i),
                _ => None,
            })
        });
        executable.map_err(device)
    }

    /// The memory of a state variable.
    fn memory(
        &self,
        resident: &mut Vec<Option<Resident>>,
        i: usize,
        words: usize,
    ) -> std::result::Result<DeviceMemory, GpuError> {
        if resident.len() <= i {
            resident.resize_with(i + 1, || None);
        }
        if let Some(held) = &resident[i]
            && held.memory.words() == words
        {
            return Ok(held.memory.clone());
        }
        let memory = self.gpu.memory(words)?;
        resident[i] = Some(Resident { memory: memory.clone(), version: None });
        Ok(memory)
    }

    fn resident(&self) -> MutexGuard<'_, Vec<Option<Resident>>> {
        // A panic while it was held left versions that are right or absent.
        self.resident.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn run(&self, code: &Code, run: Run<'_>) -> Result<()> {
        let Run { function, feeds, outputs, state, .. } = run;
        let mut resident = self.resident();
        let started = self.begin(code, &mut resident, function, feeds, state.get())?;
        let result = code.finish(started, outputs);
        // After a failed check the state is as it was. Where the device failed, its memory holds whatever it holds, and
        // the value from before is nowhere.
        let unchanged = matches!(result, Err(Error::Data(_)));
        if let (false, StateAccess::Exclusive(state)) = (unchanged, state) {
            self.assign(code, &mut resident, state);
        }
        result
    }

    /// Whether a run assigns a variable that has no value yet.
    pub fn assigns_first(&self, code: &Code, state: &State) -> bool {
        code.writes.iter().any(|(i, _)| !state.has(*i))
    }

    /// Starts a run without waiting for it. A run that fails on the device leaves the state there as it was.
    pub fn start(
        &self,
        code: &Code,
        function: &Function,
        feeds: &[(&str, &Tensor)],
        state: &mut State,
    ) -> Result<Started> {
        let mut resident = self.resident();
        let started = self.begin(code, &mut resident, function, feeds, state)?;
        self.assign(code, &mut resident, state);
        Ok(started)
    }

    /// Runs and gives the times of the steps' dispatches, each with its step; `None` where the adapter has no clock for them.
    pub fn times(
        &self,
        code: &Code,
        function: &Function,
        feeds: &[(&str, &Tensor)],
        state: &mut State,
    ) -> Result<Option<Vec<(usize, Duration)>>> {
        let mut resident = self.resident();
        self.bring(code, &mut resident, function, feeds, state)?;
        let times = code.main.profile().map_err(device)?;
        if times.is_some() {
            self.assign(code, &mut resident, state);
        }
        Ok(times)
    }

    fn begin(
        &self,
        code: &Code,
        resident: &mut [Option<Resident>],
        function: &Function,
        feeds: &[(&str, &Tensor)],
        state: &State,
    ) -> Result<Started> {
        self.bring(code, resident, function, feeds, state)?;
        code.main.start().map_err(ran)
    }

    /// Brings what a run reads to the device.
    fn bring(
        &self,
        code: &Code,
        resident: &mut [Option<Resident>],
        function: &Function,
        feeds: &[(&str, &Tensor)],
        state: &State,
    ) -> Result<()> {
        let prepared = code.prepare.iter().flat_map(|p| &p.states);
        for i in code.uses.iter().chain(prepared) {
            self.upload(resident, *i, state)?;
        }
        if let Some(prepare) = &code.prepare {
            prepare.run(state)?;
        }
        for (i, name) in function.inputs.iter().enumerate() {
            if let Some(tensor) = feeds::find(feeds, i, name) {
                code.main.write_input(i, tensor.dtype(), tensor.bytes()).map_err(ran)?;
            }
        }
        Ok(())
    }

    /// Notes that a run's assignments are on the device.
    fn assign(&self, code: &Code, resident: &mut [Option<Resident>], state: &mut State) {
        for (i, (dtype, shape)) in &code.writes {
            let Some(Some(held)) = resident.get_mut(*i) else { continue };
            let (gpu, memory, dtype, shape) = (self.gpu.clone(), held.memory.clone(), *dtype, shape.clone());
            let fetch = move || {
                let mut value = Tensor::zeros(dtype, &shape);
                let words = gpu.read(&memory).map_err(device)?;
                from_words(dtype, &words, value.bytes_mut()).map_err(|e| Error::Internal(e.to_string()))?;
                Ok(value)
            };
            state.assign_away(*i, Box::new(fetch));
            held.version = Some(state.version(*i));
        }
    }

    /// Brings a variable's present value to the device, unless it is there.
    fn upload(&self, resident: &mut [Option<Resident>], i: usize, state: &State) -> Result<()> {
        let Some(Some(held)) = resident.get_mut(i) else { return Ok(()) };
        let version = Some(state.version(i));
        if held.version == version {
            return Ok(());
        }
        if let Some(value) = state.get(i)? {
            let words = to_words(value.dtype(), value.bytes()).map_err(|e| Error::Data(e.to_string()))?;
            self.gpu.write(&held.memory, &words).map_err(device)?;
            held.version = version;
        }
        Ok(())
    }
}

impl Prepare {
    /// Computes the values for the present state, unless they are there.
    fn run(&self, state: &State) -> Result<()> {
        let mut held = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let versions: Vec<u64> = self.states.iter().map(|i| state.version(*i)).collect();
        if held.as_ref() != Some(&versions) {
            *held = None;
            self.executable.run(&mut std::iter::empty()).map_err(ran)?;
            *held = Some(versions);
        }
        Ok(())
    }
}

impl Code {
    /// Waits for a run and reads its outputs.
    pub fn finish(&self, started: Started, outputs: &mut [Tensor]) -> Result<()> {
        let into = &mut outputs.iter_mut().enumerate().map(|(i, t)| (i, t.dtype(), t.bytes_mut()));
        self.main.finish(started, into).map_err(ran)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The state variables that a Program uses, and those that it assigns with their types.
fn states(program: &Program) -> (Vec<usize>, Vec<(usize, Fixed)>) {
    let (mut uses, mut writes) = (Vec::new(), Vec::new());
    let written = program.written_buffers();
    for (id, decl) in program.buffers.iter().enumerate() {
        let BufferKind::State(i) = decl.kind else { continue };
        uses.push(i);
        if written[id] {
            writes.push((i, (decl.dtype, decl.shape.clone())));
        }
    }
    (uses, writes)
}

fn device(e: GpuError) -> Error {
    match e {
        GpuError::Refused { .. } => Error::Internal(e.to_string()),
        _ => Error::Device(e.to_string()),
    }
}

fn ran(e: RunError) -> Error {
    match e {
        RunError::Step { .. } => failed(e),
        RunError::Data(e) => Error::Data(e.to_string()),
        RunError::Gone => Error::Usage(e.to_string()),
        RunError::Device(e) => device(e),
    }
}
