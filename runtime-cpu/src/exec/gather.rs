//! Rows by index, and their sum back.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{FoldKind, Program, Step};

use super::step::{StepFailure, no_kernel};
use crate::isa::Isa;
use crate::nest::{Memory, fork};
use crate::pool::{Pool, share};
use crate::threshold::thresholds;
use crate::tile::fold::{MergeArgs, MergeFn, merge};

thresholds! {
    /// Bytes below which waking other threads does not pay.
    const SERIAL_BELOW: usize = 1 << 18, of Gather [Rows, Columns, Bytes];
    /// Elements of a row that a thread takes at a time: a cache line.
    const STRIP: usize = 16, of Gather [Columns];
}

/// A list of indices in a buffer.
#[derive(Clone, Copy, Debug)]
struct Indices {
    buffer: usize,
    wide: bool,
    count: usize,
    axis: usize,
}

impl Indices {
    fn new(program: &Program, step: &Step, count: usize, axis: usize) -> Indices {
        let buffer = step.reads[1].buffer;
        Indices { buffer: buffer.index(), wide: program.buffer(buffer).dtype == DType::I64, count, axis }
    }

    /// # Safety
    /// The buffer holds the indices, and `i` is one of them.
    unsafe fn get(&self, memory: &Memory, i: usize) -> i64 {
        let base = memory.buffers[self.buffer];
        // SAFETY: the caller's promise.
        unsafe { if self.wide { *base.cast::<i64>().add(i) } else { i64::from(*base.cast::<i32>().add(i)) } }
    }

    /// Fails with the first index outside the axis.
    ///
    /// # Safety
    /// The buffer holds the indices.
    unsafe fn check(&self, memory: &Memory) -> std::result::Result<(), StepFailure> {
        for position in 0..self.count {
            // SAFETY: the caller's promise.
            let index = unsafe { self.get(memory, position) };
            if usize::try_from(index).map_or(true, |index| index >= self.axis) {
                return Err(StepFailure::Index { index, position, axis: self.axis });
            }
        }
        Ok(())
    }
}

/// `out[o, i, :] = x[o, idx[i], :]`.
#[derive(Debug)]
pub struct Gather {
    x: usize,
    out: usize,
    outer: usize,
    /// Bytes of a row.
    row: usize,
    indices: Indices,
}

impl Gather {
    pub fn new(program: &Program, step: &Step, [outer, axis, inner, count]: [usize; 4]) -> Gather {
        let x = step.reads[0].buffer;
        Gather {
            x: x.index(),
            out: step.writes[0].buffer.index(),
            outer,
            row: inner * program.buffer(x).dtype.size(),
            indices: Indices::new(program, step, count, axis),
        }
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        let Indices { count, axis, .. } = self.indices;
        // SAFETY: the verifier found the indices inside their buffer.
        unsafe { self.indices.check(&memory)? };
        let rows = self.outer * count;
        let small = rows.saturating_mul(self.row) < SERIAL_BELOW;
        let parts = if small { 1 } else { pool.threads().min(rows) };
        fork(pool, parts, &|part| {
            let (x, out) = (memory.buffers[self.x].cast_const(), memory.buffers[self.out]);
            for row in share(rows, parts, part) {
                // SAFETY: indices are inside the axis, and each row of the result has one writer.
                unsafe {
                    let index = self.indices.get(&memory, row % count) as usize;
                    let from = x.add((row / count * axis + index) * self.row);
                    std::ptr::copy_nonoverlapping(from, out.add(row * self.row), self.row);
                }
            }
        })?;
        Ok(())
    }
}

/// `out = base; out[o, idx[i], :] += upd[o, i, :]`, in the order of the indices.
#[derive(Debug)]
pub struct ScatterAdd {
    base: usize,
    updates: usize,
    out: usize,
    outer: usize,
    inner: usize,
    /// Bytes of an element.
    size: usize,
    add: MergeFn,
    indices: Indices,
}

impl ScatterAdd {
    pub fn new(
        isa: Isa,
        program: &Program,
        step: &Step,
        [outer, axis, inner, count]: [usize; 4],
    ) -> Result<ScatterAdd> {
        let dtype = program.buffer(step.writes[0].buffer).dtype;
        Ok(ScatterAdd {
            base: step.reads[0].buffer.index(),
            updates: step.reads[2].buffer.index(),
            out: step.writes[0].buffer.index(),
            outer,
            inner,
            size: dtype.size(),
            add: merge(isa, FoldKind::Sum, dtype).ok_or_else(|| no_kernel("scatter_add", dtype))?,
            indices: Indices::new(program, step, count, axis),
        })
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), StepFailure> {
        let Indices { count, axis, .. } = self.indices;
        // SAFETY: the verifier found the indices inside their buffer.
        unsafe { self.indices.check(&memory)? };
        let row = self.inner * self.size;
        let bytes = self.outer.saturating_mul(axis + count).saturating_mul(row);
        let strips = self.inner.div_ceil(STRIP);
        let parts = if bytes < SERIAL_BELOW { 1 } else { pool.threads().min(self.outer * strips) };
        fork(pool, parts, &|part| {
            let (base, updates) =
                (memory.buffers[self.base].cast_const(), memory.buffers[self.updates].cast_const());
            let out = memory.buffers[self.out];
            // Strips of columns of one outer element after the other.
            let mut units = share(self.outer * strips, parts, part);
            while !units.is_empty() {
                let outer = units.start / strips;
                let end = units.end.min((outer + 1) * strips);
                let first = units.start % strips * STRIP;
                let len = (end - outer * strips) * STRIP;
                let len = len.min(self.inner) - first;
                let at = |row_index: usize| (row_index * self.inner + first) * self.size;
                for index in 0..axis {
                    let offset = at(outer * axis + index);
                    // SAFETY: both have that row; they are the same memory or do not overlap.
                    unsafe { std::ptr::copy(base.add(offset), out.add(offset), len * self.size) };
                }
                for i in 0..count {
                    // SAFETY: indices are inside the axis; nobody else writes these columns.
                    unsafe {
                        let index = self.indices.get(&memory, i) as usize;
                        let state = out.add(at(outer * axis + index));
                        let other = updates.add(at(outer * count + i));
                        (self.add)(&MergeArgs { state, other, len, counts: [1, 1] });
                    }
                }
                units.start = end;
            }
        })?;
        Ok(())
    }
}
