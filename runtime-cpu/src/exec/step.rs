//! One step of a Program, compiled.

use graphc_ir::error::{Error, Result};
use graphc_ir::program::{BufferKind, Kernel, Port, Program, Step};

use super::arg_reduce::ArgReduce;
use super::branch::CompiledBranch;
use super::code::Code;
use super::conv::{CompiledConv, RepackFilters};
use super::dot::CompiledDot;
use super::gather::{Gather, ScatterAdd};
use super::loops::CompiledLoop;
use super::pool::CompiledPool;
use super::repack::Repack;
use super::while_loop::CompiledWhile;
use crate::isa::Isa;
use crate::nest::{Base, CompiledNest, Memory, PortSpec, Source};
use crate::pool::{Pool, PoolError};

/// What steps are compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub isa: Isa,
    pub threads: usize,
}

/// A step, ready to run.
#[derive(Debug)]
pub enum CompiledStep {
    Nest(CompiledNest),
    Dot(Box<CompiledDot>),
    Conv(Box<CompiledConv>),
    Pool(Box<CompiledPool>),
    RepackFilters(Box<RepackFilters>),
    ArgReduce(ArgReduce),
    Gather(Gather),
    ScatterAdd(ScatterAdd),
    Repack(Repack),
    Loop(Box<CompiledLoop>),
    While(Box<CompiledWhile>),
    Branch(Box<CompiledBranch>),
    /// Panics.
    #[cfg(test)]
    Broken,
}

/// Why a step ended a run.
#[derive(Debug)]
pub enum StepFailure {
    /// A check of the body does not hold.
    Check { check: usize },
    /// An index is outside the axis.
    Index { index: i64, position: usize, axis: usize },
    /// A thread panicked.
    Pool(PoolError),
    /// A step of a Program failed.
    Inner { step: usize, failure: Box<StepFailure> },
    /// A Program in the step failed; which, in the order of [`Kernel::programs`].
    Nested { program: usize, failure: Box<StepFailure> },
}

impl StepFailure {
    /// The failure of a Program in a step.
    pub fn nested(program: usize, failure: StepFailure) -> StepFailure {
        StepFailure::Nested { program, failure: Box::new(failure) }
    }
}

impl From<PoolError> for StepFailure {
    fn from(error: PoolError) -> StepFailure {
        StepFailure::Pool(error)
    }
}

/// Whether a read port shares memory with a write port.
pub type Overlap<'a> = &'a dyn Fn(usize, usize) -> bool;

impl CompiledStep {
    /// Compiles a step of a Program.
    pub fn new(machine: Machine, program: &Program, step: &Step, overlap: Overlap) -> Result<CompiledStep> {
        Ok(match &step.kernel {
            Kernel::Nest(nest) => {
                let source = Source {
                    rows: nest.rows.clone(),
                    columns: nest.cols.clone(),
                    body: nest.body.clone(),
                    reads: step.reads.iter().map(|port| port_spec(program, port)).collect(),
                    writes: step.writes.iter().map(|port| port_spec(program, port)).collect(),
                };
                CompiledStep::Nest(CompiledNest::new(machine.isa, machine.threads, 0, source, overlap)?)
            }
            Kernel::Dot(dot) => {
                CompiledStep::Dot(Box::new(CompiledDot::new(machine, program, step, dot, overlap)?))
            }
            Kernel::Conv(conv) => {
                CompiledStep::Conv(Box::new(CompiledConv::new(machine, program, step, conv, overlap)?))
            }
            Kernel::Pool(pool) => {
                CompiledStep::Pool(Box::new(CompiledPool::new(machine, program, step, pool, overlap)?))
            }
            Kernel::RepackFilters { kernel, inputs, outputs, groups } => {
                let sizes = [*inputs, *outputs, *groups];
                let repack = RepackFilters::new(machine, program, step, kernel, sizes)?;
                CompiledStep::RepackFilters(Box::new(repack))
            }
            Kernel::ArgReduce { max, rows, cols } => {
                CompiledStep::ArgReduce(ArgReduce::new(program, step, *max, rows, *cols)?)
            }
            Kernel::Gather { outer, axis, inner, count } => {
                CompiledStep::Gather(Gather::new(program, step, [*outer, *axis, *inner, *count]))
            }
            Kernel::ScatterAdd { outer, axis, inner, count } => CompiledStep::ScatterAdd(ScatterAdd::new(
                machine.isa,
                program,
                step,
                [*outer, *axis, *inner, *count],
            )?),
            Kernel::Repack { batch, k, n } => {
                CompiledStep::Repack(Repack::new(machine, program, step, batch, *k, *n)?)
            }
            Kernel::Loop(counted) => CompiledStep::Loop(Box::new(CompiledLoop::new(machine, step, counted)?)),
            Kernel::While(w) => CompiledStep::While(Box::new(CompiledWhile::new(machine, step, w)?)),
            Kernel::Branch(branch) => {
                CompiledStep::Branch(Box::new(CompiledBranch::new(machine, step, branch)?))
            }
        })
    }

    /// Bytes of scratch that a run needs.
    pub fn scratch_bytes(&self) -> usize {
        match self {
            CompiledStep::Nest(nest) => nest.scratch_bytes(),
            CompiledStep::Dot(dot) => dot.scratch_bytes(),
            CompiledStep::Conv(conv) => conv.scratch_bytes(),
            CompiledStep::Pool(pool) => pool.scratch_bytes(),
            CompiledStep::RepackFilters(repack) => repack.scratch_bytes(),
            CompiledStep::Repack(repack) => repack.scratch_bytes(),
            CompiledStep::Loop(counted) => counted.scratch_bytes(),
            CompiledStep::While(w) => w.scratch_bytes(),
            CompiledStep::Branch(branch) => branch.scratch_bytes(),
            CompiledStep::ArgReduce(_) | CompiledStep::Gather(_) | CompiledStep::ScatterAdd(_) => 0,
            #[cfg(test)]
            CompiledStep::Broken => 0,
        }
    }

    /// Name of the algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self {
            CompiledStep::Nest(_) => "tiles",
            CompiledStep::Dot(dot) => dot.algorithm(),
            CompiledStep::Conv(conv) => conv.algorithm(),
            CompiledStep::Pool(_) => "windows",
            CompiledStep::RepackFilters(_) => "pack filters",
            CompiledStep::ArgReduce(_) => "scan",
            CompiledStep::Gather(_) => "copy rows",
            CompiledStep::ScatterAdd(_) => "add rows",
            CompiledStep::Repack(_) => "pack panels",
            CompiledStep::Loop(_) | CompiledStep::While(_) => "loop",
            CompiledStep::Branch(_) => "branch",
            #[cfg(test)]
            CompiledStep::Broken => "broken",
        }
    }

    /// See [`graphc_ir::program::Choice::error_class`].
    pub fn error_class(&self) -> f32 {
        match self {
            CompiledStep::Conv(conv) => conv.error_class(),
            _ => 1.0,
        }
    }

    /// The code of a Program in the step.
    pub fn nested(&self, program: usize) -> Option<&Code> {
        match self {
            CompiledStep::Loop(counted) => Some(counted.code()),
            CompiledStep::While(w) => Some(w.code(program)),
            CompiledStep::Branch(branch) => Some(branch.code(program)),
            _ => None,
        }
    }

    /// Runs the step.
    ///
    /// # Safety
    /// The machine has the instruction set. The memory holds every buffer of the Program, aligned to its
    /// elements and as large as declared, and [`CompiledStep::scratch_bytes`] of scratch, aligned to a
    /// cache line. The Program was verified, and nobody else uses what the step writes.
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                CompiledStep::Nest(nest) => checked(nest.run(pool, memory)?),
                CompiledStep::Dot(dot) => checked(dot.run(pool, memory)?),
                CompiledStep::Conv(conv) => checked(conv.run(pool, memory)?),
                CompiledStep::Pool(windows) => checked(windows.run(pool, memory)?),
                CompiledStep::RepackFilters(repack) => Ok(repack.run(pool, memory)?),
                CompiledStep::ArgReduce(reduce) => Ok(reduce.run(pool, memory)?),
                CompiledStep::Gather(gather) => gather.run(pool, memory),
                CompiledStep::ScatterAdd(scatter) => scatter.run(pool, memory),
                CompiledStep::Repack(repack) => Ok(repack.run(pool, memory)?),
                CompiledStep::Loop(counted) => counted.run(pool, memory),
                CompiledStep::While(w) => w.run(pool, memory),
                CompiledStep::Branch(branch) => branch.run(pool, memory),
                #[cfg(test)]
                CompiledStep::Broken => panic!("a kernel that is broken"),
            }
        }
    }
}

fn checked(failed: Option<usize>) -> std::result::Result<(), StepFailure> {
    match failed {
        Some(check) => Err(StepFailure::Check { check }),
        None => Ok(()),
    }
}

/// A port as nests see it.
pub fn port_spec(program: &Program, port: &Port) -> PortSpec {
    let decl = program.buffer(port.buffer);
    PortSpec {
        base: Base::Buffer(port.buffer.index()),
        dtype: decl.dtype,
        view: port.view.clone(),
        empty: decl.bytes() == 0,
    }
}

/// Whether two ports' buffers may share bytes of the arena, or are one buffer.
pub fn overlaps(program: &Program, a: &Port, b: &Port) -> bool {
    if a.buffer == b.buffer {
        return true;
    }
    let place = |port: &Port| {
        let decl = program.buffer(port.buffer);
        let offset = program.plan.offsets.get(port.buffer.index()).copied().flatten()?;
        (decl.kind == BufferKind::Temp).then_some(offset..offset + decl.bytes())
    };
    match (place(a), place(b)) {
        (Some(a), Some(b)) => a.start < b.end && b.start < a.end,
        _ => false,
    }
}

/// Why a kernel refuses an element type.
pub fn no_kernel(what: &str, dtype: graphc_ir::dtype::DType) -> Error {
    Error::new(format!("the CPU has no {what} of {dtype}")).help("insert a cast to a type that it takes")
}
