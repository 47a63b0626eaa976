//! Compiled Programs as devices: everything but the kernels of a real device is under test.

use std::sync::Arc;

use graphc_cpu::isa::Isa;
use graphc_cpu::pool::Pool;
use graphc_cpu::{CpuOptions, CpuTarget, Executable, RunError};
use graphc_ir::error::{Error, Result};
use graphc_ir::program::reference;
use graphc_ir::program::{BufferKind, VerifiedProgram};
use graphc_ir::target::Target;
use graphc_ir::{Module, Tensor, target};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

use crate::device::{Device, Outcome, binding, initial_state};

/// Compiles for the reference target and runs the reference executor.
#[derive(Clone, Debug, Default)]
pub struct ReferenceProgram {
    /// What the optimizer may do.
    pub options: Options,
    /// Temporaries live in the planned arena, and memory that was freed is poisoned.
    pub arena: bool,
}

impl Device for ReferenceProgram {
    fn name(&self) -> &str {
        "program"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let target: &dyn Target = &target::Reference;
        let function = module.function(function)?;
        let remarks = &mut Remarks::default();
        let graph = driver::optimize(function, &self.options, remarks)?;
        let binding = binding(module, function, inputs)?;
        let compiled = driver::compile(&graph, function, &binding, target, &self.options, remarks)?;
        let mut state = initial_state(module)?;
        let execute = if self.arena { reference::execute_in_arena } else { reference::execute };
        let staged = match &compiled.prepare {
            Some(p) => execute(&p.program, &[], &mut state.clone(), &[])?,
            None => Vec::new(),
        };
        let outputs = execute(&compiled.main, inputs, &mut state, &staged)?;
        Ok(Outcome { outputs, state })
    }
}

/// A session on the CPU.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Threads.
    pub threads: usize,
    /// What the optimizer may do.
    pub options: Options,
}

impl Device for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let failed = |e: graphc::Error| Error::new(e.to_string());
        let options = graphc::Options { optimizer: self.options.clone(), ..graphc::Options::default() };
        let builder = graphc::Session::from_module(module.clone()).device(graphc::Device::Cpu);
        let mut session = builder.threads(self.threads).options(options).build().map_err(failed)?;
        let names = &module.function(function)?.inputs;
        let feeds: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(inputs).collect();
        let mut outputs = session.new_outputs(function, &feeds).map_err(failed)?;
        session.run_into(function, &feeds, &mut outputs).map_err(failed)?;
        let state = initial_state(&session.snapshot().map_err(failed)?)?;
        Ok(Outcome { outputs, state })
    }
}

/// Programs on the CPU's kernels, of an instruction set that is named, without a session around them.
#[derive(Clone, Debug)]
pub struct CpuProgram {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub pool: Arc<Pool>,
}

impl CpuProgram {
    /// With a number of threads.
    ///
    /// # Errors
    /// When no threads can be had.
    pub fn new(isa: Isa, threads: usize) -> Result<CpuProgram> {
        let pool = Pool::new(threads).map_err(|e| Error::new(e.to_string()))?;
        Ok(CpuProgram { isa, pool: Arc::new(pool) })
    }

    /// Results of a Program: its outputs; the state is changed in place.
    fn execute(
        &self,
        program: &VerifiedProgram,
        inputs: &[Tensor],
        state: &mut [Tensor],
        staged: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>> {
        let ran = |e: RunError| Error::new(e.to_string());
        let options = CpuOptions { pool: Arc::clone(&self.pool), isa: self.isa };
        let executable = Executable::compile(program, options)?;
        let mut workspace = executable.workspace().map_err(|e| Error::new(e.to_string()))?;
        let bytes = |kind: BufferKind| program.buffers.iter().find(|b| b.kind == kind).map(|b| b.bytes());
        let mut outputs: Vec<AlignedBytes> =
            program.outputs.iter().map(|b| AlignedBytes::new(program.buffer(*b).bytes())).collect();
        let mut binding = executable.bind(&mut workspace);
        for (i, input) in inputs.iter().enumerate().filter(|(i, _)| bytes(BufferKind::Input(*i)).is_some()) {
            binding = binding.input(i, input.bytes()).map_err(ran)?;
        }
        for (i, output) in outputs.iter_mut().enumerate() {
            binding = binding.output(i, output.bytes_mut()).map_err(ran)?;
        }
        for (i, value) in state.iter_mut().enumerate().filter(|(i, _)| bytes(BufferKind::State(*i)).is_some())
        {
            binding = binding.state_mut(i, value.bytes_mut()).map_err(ran)?;
        }
        let aligned: Vec<AlignedBytes> = staged.iter().map(|bytes| AlignedBytes::of(bytes)).collect();
        for (i, value) in aligned.iter().enumerate().filter(|(i, _)| bytes(BufferKind::Staged(*i)).is_some())
        {
            binding = binding.staged(i, value.bytes()).map_err(ran)?;
        }
        binding.run().map_err(ran)?;
        Ok(outputs.iter().map(|o| o.bytes().to_vec()).collect())
    }
}

/// Bytes that begin at a multiple of 8.
struct AlignedBytes {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBytes {
    fn new(len: usize) -> AlignedBytes {
        // What no kernel writes shows.
        AlignedBytes { words: vec![u64::MAX; len.div_ceil(8)], len }
    }

    fn of(bytes: &[u8]) -> AlignedBytes {
        let mut aligned = AlignedBytes::new(bytes.len());
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

impl Device for CpuProgram {
    fn name(&self) -> &str {
        self.isa.name()
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let target = CpuTarget::new(self.isa, self.pool.threads());
        let function = module.function(function)?;
        let (options, remarks) = (Options::default(), &mut Remarks::default());
        let graph = driver::optimize(function, &options, remarks)?;
        let binding = binding(module, function, inputs)?;
        let compiled = driver::compile(&graph, function, &binding, &target, &options, remarks)?;
        let mut state = initial_state(module)?;
        let staged = match &compiled.prepare {
            Some(p) => self.execute(&p.program, &[], &mut state.clone(), &[])?,
            None => Vec::new(),
        };
        let outputs = self.execute(&compiled.main, inputs, &mut state, &staged)?;
        let types = compiled.main.outputs.iter().map(|b| compiled.main.buffer(*b));
        let tensor = |(bytes, decl): (&Vec<u8>, &graphc_ir::program::BufferDecl)| {
            Tensor::from_bytes(decl.dtype, &decl.shape, bytes)
                .ok_or_else(|| Error::new("an output has another size than its type"))
        };
        let outputs = outputs.iter().zip(types).map(tensor).collect::<Result<_>>()?;
        Ok(Outcome { outputs, state })
    }
}
