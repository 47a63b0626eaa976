//! Programs as launches of shaders over pieces of memory: plain data, made without a device.

mod axes;
mod bounds;
mod memory;
mod nested;
mod pieces;
mod turns;
mod unfold;

use std::collections::HashMap;
use std::sync::Arc;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{BufferDecl, BufferId, BufferKind, Kernel, Program, Step, VerifiedProgram};
use graphc_ir::tensor::Tensor;

use crate::caps::GpuCaps;
use crate::kernels::{self, LANES, Work, one_each};
use crate::place::{Bound, Mem, Place};
use crate::wgsl::{Grid, Shader, ShaderText};
use crate::words::{Word, no_f64};

use memory::Pool;
use unfold::Unfolded;

/// What a piece of memory holds.
#[derive(Clone, Debug)]
pub enum Home {
    /// A zero, and the iterations of the loops that run.
    Env,
    /// The number of the first failure.
    Failure,
    /// A function's input.
    Input(usize),
    /// A function's output.
    Output(usize),
    /// A state variable.
    State(usize),
    /// A result of the prepare Program.
    Staged(usize),
    /// A constant.
    Const(Arc<Tensor>),
    /// Temporaries, one at a time.
    Temp,
}

/// A piece of memory.
#[derive(Clone, Debug)]
pub struct MemoryDecl {
    /// Its words.
    pub words: usize,
    /// What it holds.
    pub home: Home,
    /// Element type, where it holds one tensor for good.
    pub dtype: DType,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Number of the shader.
    pub shader: usize,
    /// The step of the Program that it belongs to; those in loops and branches belong to the loop or branch.
    pub step: usize,
    /// What its storage bindings are.
    pub bindings: Vec<Bound>,
    /// Workgroups.
    pub grid: Grid,
}

/// What a run does, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// A dispatch.
    Launch(Launch),
    /// Items again and again.
    Repeat(usize, Vec<Item>),
    /// While the word of a memory is not 0 after the first items, the others.
    While(Vec<Item>, Mem, Vec<Item>),
    /// By the word of a memory: the first items, or if it is 0 the second.
    Branch(Mem, [Vec<Item>; 2]),
}

/// What ends a run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The user's nodes.
    pub at: String,
    /// What is wrong.
    pub message: String,
}

/// A Program as launches.
#[derive(Clone, Debug)]
pub struct Code {
    pub(crate) memory: Vec<MemoryDecl>,
    pub(crate) shaders: Vec<ShaderText>,
    pub(crate) items: Vec<Item>,
    pub(crate) failures: Vec<Failure>,
}

/// The first memories.
pub const ENV: Mem = Mem(0);
/// See [`Home::Failure`].
pub const FAILURE: Mem = Mem(1);

/// What helps where a tensor is too large.
const SMALLER: &str = "use smaller dims, such as a smaller batch, or run on the cpu";

impl Code {
    /// Makes launches of a Program.
    ///
    /// # Errors
    /// When a step works on types that a GPU does not have, on integers that may need more than 32 bits, or on more of a
    /// tensor at once than a shader may bind, or when its loops turn more often than the driver lets them.
    pub fn new(program: &VerifiedProgram, caps: &GpuCaps) -> Result<Code> {
        let mut b = Builder {
            caps: caps.clone(),
            memory: Vec::new(),
            pool: Pool::default(),
            scratch: Vec::new(),
            shaders: Vec::new(),
            numbers: HashMap::new(),
            items: Vec::new(),
            failures: Vec::new(),
            at: 0,
            refused: None,
            counts_turns: false,
        };
        for (mem, home, words) in [(ENV, Home::Env, 8), (FAILURE, Home::Failure, 4)] {
            debug_assert_eq!(mem.0, b.memory.len());
            b.memory.push(MemoryDecl { words, home, dtype: DType::U32 });
        }
        let bound = program.buffers.iter().map(|decl| {
            let home = match decl.kind {
                BufferKind::Input(i) => Home::Input(i),
                BufferKind::Output(i) => Home::Output(i),
                BufferKind::State(i) => Home::State(i),
                BufferKind::Staged(i) => Home::Staged(i),
                BufferKind::Const(_) | BufferKind::Temp => return None,
            };
            Some(b.keep(decl, home))
        });
        let bound = bound.collect();
        b.refused.take().map_or(Ok(()), Err)?;
        b.program(program, bound, 0, None)?;
        let Builder { memory, shaders, items, failures, .. } = b;
        Ok(Code { memory, shaders, items, failures })
    }

    /// Memory, by number.
    pub fn memory(&self) -> &[MemoryDecl] {
        &self.memory
    }

    /// Shaders, each once. They run without checks, so only [`Code::new`] writes them, from what the verifier has seen.
    pub fn shaders(&self) -> &[ShaderText] {
        &self.shaders
    }

    /// What a run does.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Failures, by number.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}

/// Collects launches.
pub struct Builder {
    caps: GpuCaps,
    memory: Vec<MemoryDecl>,
    pool: Pool,
    /// Scratch of the step at hand.
    scratch: Vec<Mem>,
    shaders: Vec<ShaderText>,
    numbers: HashMap<ShaderText, usize>,
    items: Vec<Item>,
    failures: Vec<Failure>,
    /// The step at hand of the outermost Program.
    at: usize,
    /// What the adapter cannot do of the step at hand.
    refused: Option<Error>,
    /// Whether the step at hand is cut for the sake of how often its loops turn.
    counts_turns: bool,
}

impl Builder {
    /// What kernels are chosen by.
    pub fn caps(&self) -> &GpuCaps {
        &self.caps
    }

    /// Words that the step at hand may use.
    pub fn scratch(&mut self, words: usize) -> Mem {
        let mem = self.take(words);
        self.scratch.push(mem);
        mem
    }

    fn take(&mut self, words: usize) -> Mem {
        self.pool.take(words).unwrap_or_else(|| self.declare(words, Home::Temp, DType::U32))
    }

    /// A memory that one buffer has for good.
    fn keep(&mut self, decl: &BufferDecl, home: Home) -> Place {
        let mem = self.declare(decl.shape.iter().product(), home, decl.dtype);
        Place::whole(mem, decl.dtype)
    }

    fn declare(&mut self, words: usize, home: Home, dtype: DType) -> Mem {
        let (bytes, limit) = (words * size_of::<u32>(), self.caps.memory_bytes);
        if bytes > limit {
            let text = format!(
                "a tensor of {bytes} bytes is larger than the {limit} bytes that a memory of this GPU may have"
            );
            self.refused.get_or_insert(Error::new(text).help(SMALLER));
        }
        self.memory.push(MemoryDecl { words, home, dtype });
        Mem(self.memory.len() - 1)
    }

    fn give(&mut self, mem: Mem) {
        self.pool.give(mem, self.memory[mem.0].words);
    }

    /// Adds a dispatch.
    pub fn launch(&mut self, shader: Shader, grid: Grid) {
        let (text, bindings) = shader.finish();
        let words = |bound: &Bound| bound.window.map_or(self.memory[bound.mem.0].words, |w| w.words);
        if let Some(most) =
            bindings.iter().map(words).max().filter(|w| w * size_of::<u32>() > self.caps.binding_bytes)
        {
            let error = self.too_large(most);
            self.refused.get_or_insert(error);
        }
        let next = self.shaders.len();
        let number = *self.numbers.entry(text.clone()).or_insert(next);
        if number == next {
            self.shaders.push(text);
        }
        self.items.push(Item::Launch(Launch { shader: number, step: self.at, bindings, grid }));
    }

    /// Runs a function and gives the items that it adds.
    fn apart(&mut self, f: impl FnOnce(&mut Builder) -> Result<()>) -> Result<Vec<Item>> {
        let before = std::mem::take(&mut self.items);
        let result = f(self);
        let items = std::mem::replace(&mut self.items, before);
        result.map(|()| items)
    }

    /// Adds the steps of a Program whose other buffers than temporaries and constants have their places.
    /// `commits` says that all of it happens after the commit point of the Program around.
    fn program(
        &mut self,
        program: &Program,
        bound: Vec<Option<Place>>,
        depth: usize,
        commits: Option<bool>,
    ) -> Result<()> {
        let mut places = bound;
        for (i, decl) in program.buffers.iter().enumerate() {
            if let BufferKind::Const(n) = decl.kind {
                let home = Home::Const(Arc::clone(&program.constants[n]));
                places[i] = Some(self.keep(decl, home));
            }
        }
        let fails = program.steps.iter().any(Step::can_fail);
        let uses = memory::uses(program);
        for (index, step) in program.steps.iter().enumerate() {
            if commits.is_none() {
                self.at = index;
            }
            let at = if step.origins.is_empty() {
                format!("step {index} ({})", step.kind())
            } else {
                step.origins.to_string()
            };
            let mut taken_over = Vec::new();
            for buffer in uses.begin(index) {
                let decl = &program.buffers[*buffer];
                let operand = uses.end(index).iter().find(|read| memory::shared(program, **read, *buffer));
                let mem = match operand.and_then(|read| places[*read].as_ref()) {
                    Some(place) => {
                        taken_over.push(place.mem);
                        place.mem
                    }
                    None => self.take(decl.shape.iter().product()),
                };
                places[*buffer] = Some(Place::whole(mem, decl.dtype));
            }
            let commits = commits.unwrap_or(fails && index >= program.commit);
            let built = self.step(program, step, &places, depth, commits, &at);
            built.and(self.refused.take().map_or(Ok(()), Err)).map_err(|e| e.at(&at))?;
            for buffer in uses.end(index) {
                if let Some(place) = &places[*buffer]
                    && (!taken_over.contains(&place.mem) || uses.begin(index).contains(buffer))
                {
                    self.give(place.mem);
                }
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        program: &Program,
        step: &Step,
        places: &[Option<Place>],
        depth: usize,
        commits: bool,
        at: &str,
    ) -> Result<()> {
        let place = |id: BufferId| -> Result<Place> {
            let place = places[id.index()].clone();
            place.ok_or_else(|| Error::new("a buffer is read before it is written"))
        };
        for port in step.reads.iter().chain(&step.writes) {
            if Word::of(program.buffer(port.buffer).dtype).is_none() {
                return Err(no_f64());
            }
        }
        bounds::check(program, step)?;
        match &step.kernel {
            Kernel::Loop(l) => self.counted(step, l, &place, depth, commits),
            Kernel::While(w) => self.conditional(step, w, &place, depth, commits),
            Kernel::Branch(branch) => self.branch(step, branch, &place, depth, commits),
            kernel => {
                let mut views = kernels::dense(kernel).into_iter().flatten();
                let mut ports = |ports: &[graphc_ir::program::Port]| {
                    let port = |p: &graphc_ir::program::Port| {
                        Ok((place(p.buffer)?, views.next().unwrap_or_else(|| p.view.clone())))
                    };
                    ports.iter().map(port).collect::<Result<Vec<_>>>()
                };
                let messages: Vec<String> = match kernel {
                    Kernel::Gather { axis, .. } | Kernel::ScatterAdd { axis, .. } => {
                        vec![format!("an index is outside 0..{axis}")]
                    }
                    _ => kernel
                        .swept()
                        .map_or(Vec::new(), |s| s.body.checks.iter().map(|c| c.message.clone()).collect()),
                };
                let first = self.failures.len();
                let failures = (first..first + messages.len()).collect();
                self.failures
                    .extend(messages.into_iter().map(|message| Failure { at: at.to_owned(), message }));
                let (reads, writes) = (ports(&step.reads)?, ports(&step.writes)?);
                self.add(Work {
                    kernel: kernel.clone(),
                    reads,
                    writes,
                    commits,
                    failures,
                    origin: Vec::new(),
                    looked_up: None,
                    taps: Vec::new(),
                    leaves: None,
                })
            }
        }
    }

    /// Adds the launches of a step without nested Programs.
    fn make(&mut self, work: Work) -> Result<()> {
        let Unfolded { steps, memory } = self.unfolded(work)?;
        for work in steps {
            for mut group in self.pieces(work)? {
                self.join(&mut group);
                kernels::build(self, &group)?;
                for mem in std::mem::take(&mut self.scratch) {
                    self.give(mem);
                }
            }
        }
        memory.into_iter().for_each(|mem| self.give(mem));
        Ok(())
    }

    /// A memory of one word with a condition.
    fn scratch_flag(&mut self, condition: &Place, commits: bool) -> Mem {
        let flag = self.take(1);
        self.copy(condition, &Place::whole(flag, DType::Bool), 1, commits);
        flag
    }

    /// Copies dense elements.
    fn copy(&mut self, from: &Place, to: &Place, elements: usize, commits: bool) {
        if from == to {
            return;
        }
        let large = [from, to].iter().any(|place| self.is_large(place.mem));
        let most = if large { self.in_window() } else { elements.max(1) };
        for first in (0..elements).step_by(most) {
            let part = first..elements.min(first + most);
            let [from, to] = [from, to].map(|place| self.seen(&place.clone().at(first), 0..part.len()));
            let mut shader = Shader::new(LANES, commits);
            let grid = one_each(&mut shader, part.len());
            let (x, y) = (shader.bind(&from, false), shader.bind(&to, true));
            let (at, into) = (from.dense("i32(i)"), to.dense("i32(i)"));
            shader.line(format!("{y}[{into}] = {x}[{at}];"));
            self.launch(shader, grid);
        }
    }
}
