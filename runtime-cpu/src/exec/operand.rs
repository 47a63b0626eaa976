//! Operands of kernels that read whole matrices or images: where they lie, or copied into scratch first.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::View;

use super::repack::copy;
use super::step::Machine;
use crate::memory::ALIGNMENT;
use crate::nest::{Base, CompiledNest, Memory, PortSpec};
use crate::pool::{Pool, PoolError};

/// Operands to copy before a kernel runs.
#[derive(Debug, Default)]
pub struct Operands {
    moves: Vec<Move>,
    scratch: usize,
}

#[derive(Debug)]
struct Move {
    from: PortSpec,
    to: PortSpec,
    rows: Vec<usize>,
    columns: usize,
}

/// The copies, ready to run.
#[derive(Debug)]
pub struct Copies {
    nests: Vec<CompiledNest>,
    scratch: usize,
}

impl Operands {
    /// An operand of a type over these sizes: where it lies if `fits`, its type is right and no stride is
    /// negative, else dense in scratch.
    pub fn place(&mut self, port: PortSpec, dtype: DType, sizes: &[usize], fits: bool) -> PortSpec {
        if port.dtype == dtype && fits && port.view.strides.iter().all(|s| *s >= 0) {
            return port;
        }
        let to = self.reserve(dtype, sizes);
        let (columns, rows) = sizes.split_last().map_or((1, &[][..]), |(c, r)| (*c, r));
        self.moves.push(Move { from: port, to: to.clone(), rows: rows.to_vec(), columns });
        to
    }

    /// Room in scratch, dense.
    pub fn reserve(&mut self, dtype: DType, sizes: &[usize]) -> PortSpec {
        let base = Base::Scratch(self.scratch);
        self.scratch += (sizes.iter().product::<usize>() * dtype.size()).next_multiple_of(ALIGNMENT);
        PortSpec { base, dtype, view: View::dense(sizes), empty: false }
    }

    /// First byte of scratch behind the operands.
    pub fn end(&self) -> usize {
        self.scratch
    }

    /// Compiles the copies. They run one after the other, so what follows them may reuse their scratch.
    pub fn copies(self, machine: Machine) -> Result<Copies> {
        let copied = |m: Move| copy(machine, self.scratch, m.from, m.to, m.rows, vec![m.columns]);
        let nests = self.moves.into_iter().map(copied).collect::<Result<Vec<_>>>()?;
        let scratch = nests.iter().map(CompiledNest::scratch_bytes).max().unwrap_or(0);
        Ok(Copies { nests, scratch })
    }
}

impl Copies {
    /// Bytes of scratch that they need, the operands included.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        for nest in &self.nests {
            // SAFETY: the caller's promise.
            unsafe { nest.run(pool, memory)? };
        }
        Ok(())
    }
}
