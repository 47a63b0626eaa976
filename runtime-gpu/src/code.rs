//! Programs as launches of shaders over pieces of memory: plain data, made without a device.

mod bounds;
mod memory;

use std::collections::HashMap;
use std::sync::Arc;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{BufferId, BufferKind, Kernel, Loop, Program, Step, While};
use graphc_ir::tensor::Tensor;

use crate::caps::GpuCaps;
use crate::kernels::{self, LANES, Work, one_each};
use crate::place::{Mem, Place, Slice};
use crate::wgsl::{Grid, Shader, ShaderText};
use crate::words::{Word, no_f64};

use memory::Pool;

/// Loops within loops, at most: as many as there are words for their iterations.
const MAX_DEPTH: usize = 7;

/// Loops whose bodies are made twice, by depth.
const ALTERNATING_DEPTH: usize = 2;

/// What a piece of memory holds.
#[derive(Clone, Debug)]
pub enum Home {
    /// A zero that compilers do not know, and the iterations of the loops that run.
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
    pub bindings: Vec<Mem>,
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
    /// Memory, by number.
    pub memory: Vec<MemoryDecl>,
    /// Shaders, each once.
    pub shaders: Vec<ShaderText>,
    /// What a run does.
    pub items: Vec<Item>,
    /// Failures, by number.
    pub failures: Vec<Failure>,
}

/// The first memories.
pub const ENV: Mem = Mem(0);
/// See [`Home::Failure`].
pub const FAILURE: Mem = Mem(1);

impl Code {
    /// Makes launches of a Program.
    ///
    /// # Errors
    /// When a step works on types that a GPU does not have, or on integers that may need more than 32 bits.
    pub fn new(program: &Program, caps: &GpuCaps) -> Result<Code> {
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
            let words = decl.shape.iter().product();
            b.memory.push(MemoryDecl { words, home, dtype: decl.dtype });
            Some(Place::whole(Mem(b.memory.len() - 1), decl.dtype))
        });
        let bound = bound.collect();
        b.program(program, bound, 0, None)?;
        let Builder { memory, shaders, items, failures, .. } = b;
        Ok(Code { memory, shaders, items, failures })
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
        self.pool.take(words).unwrap_or_else(|| {
            self.memory.push(MemoryDecl { words, home: Home::Temp, dtype: DType::U32 });
            Mem(self.memory.len() - 1)
        })
    }

    fn give(&mut self, mem: Mem) {
        self.pool.give(mem, self.memory[mem.0].words);
    }

    /// Adds a dispatch.
    pub fn launch(&mut self, shader: Shader, grid: Grid) {
        let (text, bindings) = shader.finish();
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
                let words = decl.shape.iter().product();
                self.memory.push(MemoryDecl { words, home, dtype: decl.dtype });
                places[i] = Some(Place::whole(Mem(self.memory.len() - 1), decl.dtype));
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
            self.step(program, step, &places, depth, commits, &at).map_err(|e| e.at(&at))?;
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
        bounds::check(step)?;
        match &step.kernel {
            Kernel::Loop(l) => self.counted(step, l, &place, depth, commits),
            Kernel::While(w) => self.conditional(step, w, &place, depth, commits),
            Kernel::Branch(branch) => {
                let flag = self.scratch_flag(&place(step.reads[0].buffer)?, commits);
                let mut sides = Vec::new();
                for side in [&branch.then, &branch.otherwise] {
                    let inner = side.inputs.iter().chain(&side.outputs);
                    let outer = step.reads[1..].iter().chain(&step.writes);
                    let mut bound = vec![None; side.buffers.len()];
                    for (id, port) in inner.zip(outer) {
                        bound[id.index()] = Some(place(port.buffer)?);
                    }
                    sides.push(self.apart(|b| b.program(side, bound, depth, Some(commits)))?);
                }
                let otherwise = sides.pop().unwrap_or_default();
                let then = sides.pop().unwrap_or_default();
                self.items.push(Item::Branch(flag, [then, otherwise]));
                self.give(flag);
                Ok(())
            }
            kernel => {
                let ports = |ports: &[graphc_ir::program::Port]| {
                    ports.iter().map(|p| Ok((place(p.buffer)?, p.view.clone()))).collect::<Result<Vec<_>>>()
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
                let work = Work { step, reads, writes, commits, failures };
                let built = kernels::build(self, &work);
                for mem in std::mem::take(&mut self.scratch) {
                    self.give(mem);
                }
                built
            }
        }
    }

    /// A memory of one word with a condition.
    fn scratch_flag(&mut self, condition: &Place, commits: bool) -> Mem {
        let flag = self.take(1);
        self.copy(condition, &Place::whole(flag, DType::Bool), 1, commits);
        flag
    }

    /// Copies dense elements.
    fn copy(&mut self, from: &Place, to: &Place, elements: usize, commits: bool) {
        if elements == 0 || from == to {
            return;
        }
        let mut shader = Shader::new(LANES, commits);
        let grid = one_each(&mut shader, elements);
        let (x, y) = (shader.bind(from, false), shader.bind(to, true));
        let (at, into) = (from.dense("i32(i)"), to.dense("i32(i)"));
        shader.line(format!("{y}[{into}] = {x}[{at}];"));
        self.launch(shader, grid);
    }

    /// Sets the iterations that a loop has done to 0, or adds one.
    fn count(&mut self, depth: usize, more: bool) {
        let mut shader = Shader::new(1, false);
        let env = shader.bind(&Place::whole(ENV, DType::U32), true);
        let word = depth + 1;
        shader.line(if more {
            format!("{env}[{word}] = {env}[{word}] + 1u;")
        } else {
            format!("{env}[{word}] = 0u;")
        });
        self.launch(shader, Grid::of(1));
    }

    fn counted(
        &mut self,
        step: &Step,
        l: &Loop,
        place: &dyn Fn(BufferId) -> Result<Place>,
        depth: usize,
        commits: bool,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::new(format!("loops are nested more than {MAX_DEPTH} deep")));
        }
        let body = &l.body;
        let elements = |id: BufferId| body.buffer(id).shape.iter().product::<usize>();
        let mut bound = vec![None; body.buffers.len()];
        let slice = |outer: Place, id: BufferId| {
            let reversed = l.reverse.then_some(l.length);
            let slice = Slice { depth, elements: elements(id), reversed };
            Place { slices: [&outer.slices[..], &[slice]].concat(), ..outer }
        };
        let (first, after) = (l.invariants, l.invariants + l.carries);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (k, (id, port)) in body.inputs.iter().zip(&step.reads).enumerate() {
            let outer = place(port.buffer)?;
            bound[id.index()] = Some(if k < first {
                outer
            } else if k < after {
                let [own, next] = [(); 2].map(|()| Place::whole(self.take(elements(*id)), outer.dtype));
                self.copy(&outer, &own, elements(*id), commits);
                old.push(own.clone());
                new.push(next);
                own
            } else {
                slice(outer, *id)
            });
        }
        for (k, (id, port)) in body.outputs.iter().zip(&step.writes).enumerate() {
            let outer = place(port.buffer)?;
            bound[id.index()] = Some(if k < l.carries { new[k].clone() } else { slice(outer, *id) });
        }
        let iteration = |b: &mut Builder, bound: Vec<Option<Place>>, again: bool| {
            b.apart(|b| {
                b.program(body, bound, depth + 1, Some(commits))?;
                if again {
                    for ((id, from), to) in body.outputs.iter().zip(&new).zip(&old) {
                        b.copy(from, to, elements(*id), commits);
                    }
                }
                b.count(depth, true);
                Ok(())
            })
        };
        // Carries alternate between two places, in a body for either direction; bodies of bodies would multiply.
        let alternates = l.length > 1 && depth < ALTERNATING_DEPTH;
        let mut odd = Vec::new();
        if l.length > 0 {
            self.count(depth, false);
            odd = iteration(self, bound.clone(), l.length > 1 && !alternates)?;
        }
        if alternates {
            for (k, id) in body.inputs[first..after].iter().enumerate() {
                bound[id.index()] = Some(new[k].clone());
            }
            for (k, id) in body.outputs[..l.carries].iter().enumerate() {
                bound[id.index()] = Some(old[k].clone());
            }
            let even = iteration(self, bound, false)?;
            self.items.push(Item::Repeat(l.length / 2, [&odd[..], &even].concat()));
            if !l.length.is_multiple_of(2) {
                self.items.extend(odd);
            }
        } else if l.length > 0 {
            self.items.push(Item::Repeat(l.length, odd));
        }
        let in_new = l.length == 1 || (alternates && !l.length.is_multiple_of(2));
        let last = if in_new { &new } else { &old };
        for ((value, id), port) in last.iter().zip(&body.outputs).zip(&step.writes) {
            self.copy(value, &place(port.buffer)?, elements(*id), commits);
        }
        old.iter().chain(&new).for_each(|place| self.give(place.mem));
        Ok(())
    }

    fn conditional(
        &mut self,
        step: &Step,
        w: &While,
        place: &dyn Fn(BufferId) -> Result<Place>,
        depth: usize,
        commits: bool,
    ) -> Result<()> {
        let elements = |id: BufferId| w.body.buffer(id).shape.iter().product::<usize>();
        let flag = self.take(1);
        let mut inputs = Vec::new();
        let mut carries = Vec::new();
        for (k, (id, port)) in w.body.inputs.iter().zip(&step.reads).enumerate() {
            let outer = place(port.buffer)?;
            inputs.push(if k < w.invariants {
                outer
            } else {
                let own = Place::whole(self.take(elements(*id)), outer.dtype);
                self.copy(&outer, &own, elements(*id), commits);
                carries.push((own.clone(), elements(*id)));
                own
            });
        }
        let bind = |program: &Program, outputs: &[Place]| {
            let mut bound = vec![None; program.buffers.len()];
            let ids = program.inputs.iter().chain(&program.outputs);
            ids.zip(inputs.iter().chain(outputs))
                .for_each(|(id, place)| bound[id.index()] = Some(place.clone()));
            bound
        };
        let next: Vec<Place> = carries.iter().map(|(c, n)| Place::whole(self.take(*n), c.dtype)).collect();
        let condition = bind(&w.condition, &[Place::whole(flag, DType::Bool)]);
        let condition = self.apart(|b| b.program(&w.condition, condition, depth, Some(commits)))?;
        let body = bind(&w.body, &next);
        let body = self.apart(|b| {
            b.program(&w.body, body, depth, Some(commits))?;
            for ((old, elements), new) in carries.iter().zip(&next) {
                b.copy(new, old, *elements, commits);
            }
            Ok(())
        })?;
        self.items.push(Item::While(condition, flag, body));
        for ((value, elements), port) in carries.iter().zip(&step.writes) {
            self.copy(value, &place(port.buffer)?, *elements, commits);
        }
        let own = carries.iter().map(|c| c.0.mem).chain(next.iter().map(|n| n.mem)).chain([flag]);
        own.collect::<Vec<_>>().into_iter().for_each(|mem| self.give(mem));
        Ok(())
    }
}
