//! Dot operands into panels, once.

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, Form, InstOp, Level, Program, Step, Store, View};

use super::step::{Machine, no_kernel, port_spec};
use crate::gemm::{Element, PackSource, pack_b_parallel, packed_len};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::nest::{Access, Base, CompiledNest, Memory, PortSpec, Source};
use crate::pool::{Pool, PoolError};

/// A `[batch.., k, n]` view written in the form of a buffer.
#[derive(Debug)]
pub enum Repack {
    /// Row-major.
    Dense(CompiledNest),
    /// The panels of each product, one after the other.
    Panels(Panels),
}

/// Packing into panels.
#[derive(Debug)]
pub struct Panels {
    isa: Isa,
    dtype: DType,
    /// Makes the operand dense first, where its strides are not those of a matrix.
    copy: Option<CompiledNest>,
    scratch: usize,
    from: Access,
    strides: [usize; 2],
    to: usize,
    batch: usize,
    k: usize,
    n: usize,
}

impl Repack {
    pub fn new(
        machine: Machine,
        program: &Program,
        step: &Step,
        batch: &[usize],
        k: usize,
        n: usize,
    ) -> Result<Repack> {
        let (read, write) = (port_spec(program, &step.reads[0]), &step.writes[0]);
        let Form::Panels { bytes } = program.buffer(write.buffer).form else {
            let rows = [batch, &[k]].concat();
            let nest = copy(machine, 0, read, port_spec(program, write), rows, vec![n])?;
            return Ok(Repack::Dense(nest));
        };
        let isa = machine.isa;
        let batches: usize = batch.iter().product();
        let len = packed_elements(isa, read.dtype, k, n).ok_or_else(|| no_kernel("packing", read.dtype))?;
        if bytes < batches.saturating_mul(len).saturating_mul(read.dtype.size()) {
            return Err(Error::new(format!(
                "{bytes} bytes are too few for the panels of {batches} x {k} x {n}"
            ))
            .help("ask the same target for the form that the Program is compiled for"));
        }
        let rank = batch.len();
        let strides = [read.view.strides[rank], read.view.strides[rank + 1]];
        let (mut source, mut first) = (read.clone(), None);
        if strides.iter().any(|s| *s < 0) {
            let dense = [batch, &[k, n]].concat();
            let scratch = (batches * k * n * read.dtype.size()).next_multiple_of(ALIGNMENT);
            source = PortSpec { base: Base::Scratch(0), view: View::dense(&dense), ..read.clone() };
            first = Some(copy(machine, scratch, read, source.clone(), [batch, &[k]].concat(), vec![n])?);
        }
        let matrix = &source.view.strides[rank..];
        let strides = [matrix[0].unsigned_abs(), matrix[1].unsigned_abs()];
        let mut view = source.view.clone();
        view.strides.truncate(rank);
        Ok(Repack::Panels(Panels {
            isa,
            dtype: source.dtype,
            scratch: first.as_ref().map_or(0, CompiledNest::scratch_bytes),
            copy: first,
            from: Access::new(source.base, source.dtype, &view, batch, &[]),
            strides,
            to: write.buffer.index(),
            batch: batches,
            k,
            n,
        }))
    }

    pub fn scratch_bytes(&self) -> usize {
        match self {
            Repack::Dense(nest) => nest.scratch_bytes(),
            Repack::Panels(panels) => panels.scratch,
        }
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Repack::Dense(nest) => nest.run(pool, memory).map(drop),
                Repack::Panels(panels) => {
                    if let Some(copy) = &panels.copy {
                        copy.run(pool, memory)?;
                    }
                    match panels.dtype {
                        DType::F64 => panels.pack::<f64>(pool, memory),
                        _ => panels.pack::<f32>(pool, memory),
                    }
                }
            }
        }
    }
}

impl Panels {
    /// # Safety
    /// As [`Repack::run`], for the element type.
    unsafe fn pack<T: Element>(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        let len = packed_len::<T>(self.isa, self.k, self.n);
        let [k_stride, n_stride] = self.strides;
        for product in 0..self.batch {
            // SAFETY: the view lies inside its buffer, and the written buffer has room for all panels.
            unsafe {
                let b = memory.address(self.from.base).offset(self.from.byte_offset(product, 0)).cast();
                let source = PackSource::<T> { b, k_stride, n_stride, k: self.k, n: self.n };
                pack_b_parallel(
                    pool,
                    self.isa,
                    &source,
                    memory.buffers[self.to].cast::<T>().add(product * len),
                )?;
            }
        }
        Ok(())
    }
}

/// Elements of the panels of a `k x n` operand, for types that have panels.
pub fn packed_elements(isa: Isa, dtype: DType, k: usize, n: usize) -> Option<usize> {
    match dtype {
        DType::F32 => Some(packed_len::<f32>(isa, k, n)),
        DType::F64 => Some(packed_len::<f64>(isa, k, n)),
        _ => None,
    }
}

/// A nest that copies one port to another, converting if their types differ.
///
/// It uses the step's scratch from byte `first` on.
pub fn copy(
    machine: Machine,
    first: usize,
    from: PortSpec,
    to: PortSpec,
    rows: Vec<usize>,
    columns: Vec<usize>,
) -> Result<CompiledNest> {
    let mut body = Body::default();
    let mut reg = body.push(InstOp::Load(0), &[], from.dtype, Level::Elem);
    if from.dtype != to.dtype {
        reg = body.push(InstOp::Cast, &[reg], to.dtype, Level::Elem);
    }
    body.stores.push(Store { reg, write: 0 });
    let source = Source { rows, columns, body, reads: vec![from], writes: vec![to] };
    CompiledNest::new(machine.isa, machine.threads, first, source, &|_, _| false)
}
