//! Runs code: pipelines and bind groups are made once, a run encodes dispatches.

mod pipelines;
mod slot;
mod timing;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use graphc_ir::DType;
use thiserror::Error;

use crate::code::{Code, ENV, FAILURE, Home, Item, Launch, MemoryDecl};
use crate::device::{DeviceMemory, Gpu};
use crate::error::GpuError;
use crate::place::Mem;
use crate::words::{from_words, to_words};

use pipelines::Pipelines;
use slot::Slot;

/// No failure yet.
const NONE: u32 = u32::MAX;

/// Why a run failed. State is as it was after [`RunError::Step`]; where the device fails, its memory may hold anything.
#[derive(Debug, Error)]
pub enum RunError {
    /// A check does not hold, or an index is out of range.
    #[error("{at}: {message}")]
    Step {
        /// The user's nodes.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// Its results were overwritten by later runs.
    #[error("the results of a run are gone: {UNDER_WAY} others were started since")]
    Gone,
    /// An element does not fit the device.
    #[error("{0}")]
    Data(#[from] graphc_ir::error::Error),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] GpuError),
}

/// Code with its pipelines, memory and bind groups on a device.
#[derive(Debug)]
pub struct Executable {
    gpu: Gpu,
    pipelines: Pipelines,
    memory: Vec<DeviceMemory>,
    decls: Vec<MemoryDecl>,
    launches: Vec<Prepared>,
    items: Vec<Step>,
    failures: Vec<crate::code::Failure>,
    /// Where answers of the device are read from on the way.
    answers: wgpu::Buffer,
    /// The first byte of each output among results; the failure comes first.
    outputs: Vec<(usize, Mem, u64)>,
    ring: Mutex<Ring>,
    words: usize,
}

/// Runs that may be under way at a time.
const UNDER_WAY: usize = 3;

/// The slots of runs, as many as were under way at a time.
#[derive(Debug)]
struct Ring {
    slots: Vec<Slot>,
    /// The slot that inputs are written to.
    current: Option<usize>,
    /// Runs that were started.
    started: u64,
    /// Bytes of results.
    bytes: u64,
}

/// A run that was started. Its results are there until as many others were started as may be under way.
#[derive(Debug)]
pub struct Started {
    slot: usize,
    number: u64,
}

#[derive(Debug)]
struct Prepared {
    pipeline: usize,
    /// The step of the Program that it belongs to.
    step: usize,
    group: wgpu::BindGroup,
    grid: [u32; 2],
}

/// [`Item`], with numbers of launches.
#[derive(Debug)]
enum Step {
    Launch(usize),
    Repeat(usize, Vec<Step>),
    While(Vec<Step>, Mem, Vec<Step>),
    Branch(Mem, [Vec<Step>; 2]),
}

impl Executable {
    /// Makes everything that runs need. `external` gives the memory of state and staged values.
    ///
    /// # Errors
    /// When the device has no room, or refuses a shader.
    pub fn new(
        gpu: &Gpu,
        code: &Code,
        external: &mut dyn FnMut(&MemoryDecl) -> Result<Option<DeviceMemory>, GpuError>,
    ) -> Result<Executable, GpuError> {
        let limit = gpu.caps().bindings;
        if let Some(needed) =
            code.shaders.iter().map(|s| s.written.len() + usize::from(s.fails)).find(|n| *n > limit)
        {
            return Err(GpuError::TooMany { needed, limit });
        }
        // Loops that a driver ends early give wrong numbers.
        if let (Some(limit), Some(turns)) = (gpu.caps().turns, code.shaders.iter().map(|s| s.turns).max())
            && turns > limit
        {
            return Err(GpuError::TooLong { turns, limit });
        }
        let mut memory = Vec::new();
        let mut words = 0;
        for decl in &code.memory {
            memory.push(match external(decl)? {
                // Shaders reach all the words that they were printed for, without checks.
                Some(memory) if memory.words() < decl.words => {
                    let (found, needed) = (memory.words(), decl.words);
                    let message = format!("it has {found} words, but the code takes {needed}");
                    return Err(GpuError::Refused { what: "memory from outside".into(), message });
                }
                Some(memory) => memory,
                None => {
                    words += decl.words;
                    let memory = gpu.memory(decl.words)?;
                    if let Home::Const(value) = &decl.home {
                        let constant = to_words(decl.dtype, value.bytes()).map_err(|e| {
                            GpuError::Refused { what: "a constant".into(), message: e.to_string() }
                        })?;
                        gpu.write(&memory, &constant)?;
                    }
                    memory
                }
            });
        }
        let pipelines = Pipelines::new(gpu, &code.shaders)?;
        let mut launches = Vec::new();
        let items = prepare(gpu, code, &pipelines, &memory, &code.items, &mut launches)?;
        let mut end = 16u64;
        let mut outputs = Vec::new();
        for (i, decl) in code.memory.iter().enumerate() {
            if let Home::Output(output) = decl.home {
                outputs.push((output, Mem(i), end));
                end += decl.words as u64 * 4;
            }
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some("answers"),
            size: 8,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let answers = gpu.guarded("memory for answers", || gpu.device().create_buffer(&descriptor))?;
        let ring = Ring { slots: Vec::new(), current: None, started: 0, bytes: end };
        gpu.write(&memory[ENV.0], &[0; 8])?;
        Ok(Executable {
            gpu: gpu.clone(),
            pipelines,
            memory,
            decls: code.memory.clone(),
            launches,
            items,
            failures: code.failures.clone(),
            answers,
            outputs,
            ring: Mutex::new(ring),
            words,
        })
    }

    /// Bytes of memory that it has for itself.
    pub fn bytes(&self) -> usize {
        self.words * 4
    }

    /// Dispatches of a run, as far as they are known before it: of a while loop one iteration, of a branch none.
    pub fn dispatches(&self) -> usize {
        fn count(steps: &[Step]) -> usize {
            let one = |step: &Step| match step {
                Step::Launch(_) => 1,
                Step::Repeat(length, steps) => length * count(steps),
                Step::While(condition, _, body) => count(condition) + count(body),
                Step::Branch(..) => 0,
            };
            steps.iter().map(one).sum()
        }
        count(&self.items)
    }

    /// The memory of an output.
    pub fn output(&self, index: usize) -> Option<&DeviceMemory> {
        self.outputs.iter().find(|o| o.0 == index).map(|o| &self.memory[o.1.0])
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while it was held left slots that are free or waited for.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an input's elements for the run that is started next.
    ///
    /// # Errors
    /// When an element does not fit a word, or the device is gone.
    pub fn write_input(&self, index: usize, dtype: DType, bytes: &[u8]) -> Result<(), RunError> {
        self.gpu.check()?;
        for (i, decl) in self.decls.iter().enumerate() {
            if !matches!(decl.home, Home::Input(input) if input == index) || decl.words == 0 {
                continue;
            }
            let words;
            let bytes = match dtype {
                DType::F32 | DType::I32 | DType::U32 => bytes,
                _ => {
                    words = to_words(dtype, bytes)?;
                    bytemuck::cast_slice(&words)
                }
            };
            if bytes.len() != decl.words * 4 {
                let (given, needed) = (bytes.len() / 4, decl.words);
                return Err(graphc_ir::Error::new(format!(
                    "input {index} has {given} elements, but the function was compiled for {needed}"
                ))
                .into());
            }
            let mut ring = self.ring();
            let slot = ring.current(&self.gpu, &self.decls)?;
            ring.slots[slot].fill(&self.gpu, Mem(i), |mut to| to.copy_from_slice(bytes))?;
        }
        Ok(())
    }

    /// Starts a run of the Program with the inputs that were written, without waiting for it: of more than some thousand
    /// dispatches, all but the last are waited for. Runs happen in the order in which they are started.
    ///
    /// # Errors
    /// When the device fails.
    pub fn start(&self) -> Result<Started, RunError> {
        self.gpu.write(&self.memory[FAILURE.0], &[NONE, 0, 0, 0])?;
        let mut ring = self.ring();
        let index = ring.current(&self.gpu, &self.decls)?;
        let slot = &mut ring.slots[index];
        slot.free(&self.gpu)?;
        let result = self.gpu.guarded("a run", || {
            let mut run = Run::new(self);
            slot.encode_inputs(run.encoder(), &self.memory);
            run.steps(&self.items)?;
            slot.encode_results(run.encoder(), &self.memory, &self.outputs);
            Ok::<_, RunError>(run.submit())
        })?;
        let submission = result?;
        ring.started += 1;
        let number = ring.started;
        ring.slots[index].submitted(number, submission);
        ring.current = None;
        Ok(Started { slot: index, number })
    }

    /// Waits for a run and reads its outputs: for each its number, its type, and the bytes of its elements.
    ///
    /// # Errors
    /// When a check does not hold, an index is out of range, the results are gone, or the device fails.
    pub fn finish(
        &self,
        started: Started,
        outputs: &mut dyn Iterator<Item = (usize, DType, &mut [u8])>,
    ) -> Result<(), RunError> {
        let mut ring = self.ring();
        let slot = &mut ring.slots[started.slot];
        if slot.run() != Some(started.number) {
            return Err(RunError::Gone);
        }
        let read = slot.read(&self.gpu, |bytes| {
            let failure = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let mut read = Ok(());
            for (index, dtype, to) in outputs {
                let Some((_, mem, at)) = self.outputs.iter().find(|o| o.0 == index) else { continue };
                let bytes = &bytes[*at as usize..][..self.decls[mem.0].words * 4];
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(bytes);
                read = read.and(from_words(dtype, &words, to));
            }
            (failure, read)
        })?;
        let (failure, read) = read.ok_or(RunError::Gone)?;
        if failure != NONE {
            let known = self.failures.get(failure as usize);
            let (at, message) = known.map_or_else(
                || ("a step".to_owned(), "failed".to_owned()),
                |f| (f.at.clone(), f.message.clone()),
            );
            return Err(RunError::Step { at, message });
        }
        Ok(read?)
    }

    /// Runs the Program and reads outputs: [`Executable::start`] and [`Executable::finish`].
    ///
    /// # Errors
    /// Those of both.
    pub fn run(&self, outputs: &mut dyn Iterator<Item = (usize, DType, &mut [u8])>) -> Result<(), RunError> {
        let started = self.start()?;
        self.finish(started, outputs)
    }
}

impl Ring {
    /// The slot that inputs are written to: one whose results were read, a new one, or that of the oldest run, whose
    /// results are lost.
    fn current(&mut self, gpu: &Gpu, decls: &[MemoryDecl]) -> Result<usize, GpuError> {
        if let Some(current) = self.current {
            return Ok(current);
        }
        let free = self.slots.iter().position(|slot| slot.run().is_none());
        let index = match free {
            Some(index) => index,
            None if self.slots.len() < UNDER_WAY => {
                self.slots.push(Slot::new(gpu, decls, self.bytes)?);
                self.slots.len() - 1
            }
            None => (0..self.slots.len()).min_by_key(|i| self.slots[*i].run()).unwrap_or(0),
        };
        self.current = Some(index);
        Ok(index)
    }
}

/// Dispatches that are submitted together, at most. The host has about a kilobyte for each until they are done.
const TOGETHER: usize = 2048;

/// Submissions of a run that may be under way before the host waits for the first of them.
const AHEAD: usize = 4;

/// A run under way: commands that were not submitted yet.
struct Run<'a> {
    executable: &'a Executable,
    /// The pass that dispatches go into, and the pipeline that was set there. It ends before its encoder does.
    pass: Option<(wgpu::ComputePass<'static>, usize)>,
    encoder: Option<wgpu::CommandEncoder>,
    /// Dispatches since the last submission.
    dispatches: usize,
    /// What was submitted and perhaps not done yet, oldest first.
    under_way: VecDeque<wgpu::SubmissionIndex>,
}

impl Run<'_> {
    fn new(executable: &Executable) -> Run<'_> {
        Run { executable, encoder: None, pass: None, dispatches: 0, under_way: VecDeque::new() }
    }

    /// The encoder, outside of passes.
    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        let device = self.executable.gpu.device();
        let new = || device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encoder.get_or_insert_with(new)
    }

    /// Submits what there is.
    fn submit(&mut self) -> wgpu::SubmissionIndex {
        self.encoder();
        let commands = self.encoder.take().map(wgpu::CommandEncoder::finish);
        self.dispatches = 0;
        self.executable.gpu.queue().submit(commands)
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), RunError> {
        for step in steps {
            match step {
                Step::Launch(launch) => self.dispatch(*launch)?,
                Step::Repeat(length, steps) => {
                    for _ in 0..*length {
                        self.steps(steps)?;
                    }
                }
                Step::While(condition, flag, body) => loop {
                    self.steps(condition)?;
                    if !self.answer(*flag)? {
                        break;
                    }
                    self.steps(body)?;
                },
                Step::Branch(flag, sides) => {
                    let side = usize::from(!self.answer(*flag)?);
                    self.steps(&sides[side])?;
                }
            }
        }
        Ok(())
    }

    /// Encodes a dispatch. What was encoded so far is submitted if it is much, so that long loops take no more memory of the host
    /// than short ones.
    fn dispatch(&mut self, launch: usize) -> Result<(), RunError> {
        if self.dispatches >= TOGETHER {
            let submission = self.submit();
            self.under_way.push_back(submission);
            if self.under_way.len() > AHEAD
                && let Some(oldest) = self.under_way.pop_front()
            {
                self.executable.gpu.wait_for(oldest)?;
            }
        }
        self.dispatches += 1;
        if self.pass.is_none() {
            let pass = self.encoder().begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            self.pass = Some((pass.forget_lifetime(), usize::MAX));
        }
        if let Some((pass, current)) = &mut self.pass {
            self.executable.encode_launch(launch, pass, current);
        }
        Ok(())
    }

    /// Submits what there is, waits, and reads a flag; a run that failed already goes nowhere.
    fn answer(&mut self, flag: Mem) -> Result<bool, RunError> {
        let executable = self.executable;
        let encoder = self.encoder();
        encoder.copy_buffer_to_buffer(&executable.memory[flag.0].buffer, 0, &executable.answers, 0, 4);
        encoder.copy_buffer_to_buffer(&executable.memory[FAILURE.0].buffer, 0, &executable.answers, 4, 4);
        self.submit();
        self.under_way.clear();
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let [flag, failure] =
            executable.gpu.mapped(&executable.answers, 8, |bytes| [word(bytes), word(&bytes[4..])])?;
        Ok(flag != 0 && failure == NONE)
    }
}

impl Executable {
    /// Encodes what is known before the run; `after` is called after each dispatch, with its step of the Program.
    fn encode(
        &self,
        steps: &[Step],
        pass: &mut wgpu::ComputePass<'_>,
        current: &mut usize,
        after: &mut dyn FnMut(&mut wgpu::ComputePass<'_>, usize),
    ) {
        for step in steps {
            match step {
                Step::Launch(launch) => {
                    self.encode_launch(*launch, pass, current);
                    after(pass, self.launches[*launch].step);
                }
                Step::Repeat(length, steps) => {
                    (0..*length).for_each(|_| self.encode(steps, pass, current, after))
                }
                Step::While(..) | Step::Branch(..) => {}
            }
        }
    }

    /// Encodes a dispatch into a pass where this pipeline was set last.
    fn encode_launch(&self, launch: usize, pass: &mut wgpu::ComputePass<'_>, current: &mut usize) {
        let launch = &self.launches[launch];
        if *current != launch.pipeline {
            *current = launch.pipeline;
            pass.set_pipeline(&self.pipelines.pipelines[launch.pipeline]);
        }
        pass.set_bind_group(0, &launch.group, &[]);
        pass.dispatch_workgroups(launch.grid[0], launch.grid[1], 1);
    }
}

impl Step {
    /// Whether what it dispatches is known before the run.
    fn is_fixed(&self) -> bool {
        match self {
            Step::Launch(_) => true,
            Step::Repeat(_, steps) => steps.iter().all(Step::is_fixed),
            Step::While(..) | Step::Branch(..) => false,
        }
    }
}

fn prepare(
    gpu: &Gpu,
    code: &Code,
    pipelines: &Pipelines,
    memory: &[DeviceMemory],
    items: &[Item],
    launches: &mut Vec<Prepared>,
) -> Result<Vec<Step>, GpuError> {
    let mut steps = Vec::new();
    for item in items {
        let mut inner = |items: &[Item]| prepare(gpu, code, pipelines, memory, items, launches);
        steps.push(match item {
            Item::Repeat(length, items) => Step::Repeat(*length, inner(items)?),
            Item::While(condition, flag, body) => Step::While(inner(condition)?, *flag, inner(body)?),
            Item::Branch(flag, [then, otherwise]) => Step::Branch(*flag, [inner(then)?, inner(otherwise)?]),
            Item::Launch(launch) => {
                launches.push(bind(gpu, code, pipelines, memory, launch)?);
                Step::Launch(launches.len() - 1)
            }
        });
    }
    Ok(steps)
}

fn bind(
    gpu: &Gpu,
    code: &Code,
    pipelines: &Pipelines,
    memory: &[DeviceMemory],
    launch: &Launch,
) -> Result<Prepared, GpuError> {
    let shader = &code.shaders[launch.shader];
    let whole = |binding: u32, mem: Mem| wgpu::BindGroupEntry {
        binding,
        resource: memory[mem.0].buffer.as_entire_binding(),
    };
    let mut entries = Vec::new();
    if shader.env {
        entries.push(whole(0, ENV));
    }
    if shader.fails || shader.commits {
        entries.push(whole(1, FAILURE));
    }
    entries.extend(launch.bindings.iter().zip(2..).map(|(bound, binding)| match bound.window {
        None => whole(binding, bound.mem),
        Some(window) => {
            let bytes = |words: usize| (words * size_of::<u32>()) as u64;
            let (buffer, offset) = (&memory[bound.mem.0].buffer, bytes(window.start));
            let size = std::num::NonZero::new(bytes(window.words));
            wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size }),
            }
        }
    }));
    let layout = pipelines.layout(launch.shader);
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
    let group = gpu.guarded("the arrays of a shader", || gpu.device().create_bind_group(&descriptor))?;
    Ok(Prepared { pipeline: launch.shader, step: launch.step, group, grid: launch.grid.groups })
}
