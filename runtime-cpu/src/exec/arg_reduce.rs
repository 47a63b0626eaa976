//! Indices of extrema.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Program, Step};

use super::step::{no_kernel, port_spec};
use crate::nest::{Access, Memory, fork};
use crate::pool::{Pool, PoolError, share};
use crate::threshold::thresholds;
use crate::tile::with_number;

thresholds! {
    /// Elements below which waking other threads does not pay.
    const SERIAL_BELOW: usize = 1 << 14, of ArgReduce [Rows, Columns];
}

/// The index of the first largest or smallest element of each row.
#[derive(Debug)]
pub struct ArgReduce {
    read: Access,
    write: Access,
    rows: usize,
    columns: usize,
    stride: isize,
    scan: unsafe fn(*const u8, isize, usize) -> usize,
}

impl ArgReduce {
    pub fn new(
        program: &Program,
        step: &Step,
        max: bool,
        rows: &[usize],
        columns: usize,
    ) -> Result<ArgReduce> {
        let (read, write) = (port_spec(program, &step.reads[0]), port_spec(program, &step.writes[0]));
        let scan = scan_of(read.dtype, max).ok_or_else(|| no_kernel("index of an extremum", read.dtype))?;
        Ok(ArgReduce {
            stride: read.view.strides[rows.len()] * read.dtype.size() as isize,
            read: Access::new(read.base, read.dtype, &read.view, rows, &[columns]),
            write: Access::new(write.base, write.dtype, &write.view, rows, &[]),
            rows: rows.iter().product(),
            columns,
            scan,
        })
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        let small = self.rows.saturating_mul(self.columns) < SERIAL_BELOW;
        let parts = if small { 1 } else { pool.threads().min(self.rows) };
        fork(pool, parts, &|part| {
            let (from, to) = (memory.address(self.read.base), memory.address(self.write.base));
            for row in share(self.rows, parts, part) {
                // SAFETY: the views lie inside their buffers, and each row has an element of its own.
                unsafe {
                    let first = from.offset(self.read.byte_offset(row, 0));
                    let index = (self.scan)(first, self.stride, self.columns);
                    to.offset(self.write.byte_offset(row, 0)).cast::<i64>().write(index as i64);
                }
            }
        })
    }
}

fn scan_of(dtype: DType, max: bool) -> Option<unsafe fn(*const u8, isize, usize) -> usize> {
    with_number!(dtype, T => if max { scan::<T, true> } else { scan::<T, false> })
}

/// # Safety
/// There are `len` elements, `stride` bytes apart.
#[allow(clippy::eq_op, reason = "the test for NaN of a type that may be an integer")]
unsafe fn scan<T: Copy + PartialOrd, const MAX: bool>(first: *const u8, stride: isize, len: usize) -> usize {
    let is_nan = |x: T| x != x;
    // SAFETY: the caller's promise.
    let at = |i: usize| unsafe { *first.offset(i as isize * stride).cast::<T>() };
    let (mut best, mut index) = (at(0), 0);
    for i in 1..len {
        if is_nan(best) {
            break;
        }
        let x = at(i);
        if is_nan(x) || if MAX { x > best } else { x < best } {
            (best, index) = (x, i);
        }
    }
    index
}
