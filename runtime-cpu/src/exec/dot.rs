//! Matrix products with epilogues.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Dot, Form, Program, Step, View};
use graphc_ir::tensor::row_major;

use super::epilogue::{Domain, Finish, Place};
use super::operand::{Copies, Operands};
use super::repack::packed_elements;
use super::step::{Machine, Overlap, no_kernel, port_spec};
use crate::gemm::{ALayout, BLayout, Element, Problem, RowBlocks, gemm, row_blocks, scratch_bytes};
use crate::nest::{Failures, Memory, PortSpec};
use crate::pool::{Pool, PoolError};

/// A batch of matrix products, ready to run.
#[derive(Debug)]
pub struct CompiledDot {
    machine: Machine,
    /// The type that products are summed in.
    dtype: DType,
    /// Operands that are copied into scratch first.
    copies: Copies,
    a: Place,
    b: Place,
    problem: Problem,
    /// Batch dims around the one that the problem covers: sizes, and strides of A, B and C.
    outer: Vec<BatchDim>,
    finish: Finish,
    /// First byte of the product's own scratch, and all bytes.
    gemm_scratch: usize,
    gemm_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct BatchDim {
    size: usize,
    a: usize,
    b: usize,
    c: usize,
}

impl CompiledDot {
    pub fn new(
        machine: Machine,
        program: &Program,
        step: &Step,
        dot: &Dot,
        overlap: Overlap,
    ) -> Result<CompiledDot> {
        let Dot { batch, m, n, k, body } = dot;
        let (m, n, k, rank) = (*m, *n, *k, batch.len());
        let (a, b) = (port_spec(program, &step.reads[0]), port_spec(program, &step.reads[1]));
        let dtype = match a.dtype {
            DType::F64 => DType::F64,
            DType::F32 | DType::F16 | DType::Bf16 => DType::F32,
            other => return Err(no_kernel("matrix product", other)),
        };
        let packed = program.buffer(step.reads[1].buffer).form != Form::Dense;
        let mut operands = Operands::default();
        let a = matrix(&mut operands, a, dtype, batch, [m, k]);
        let b = if packed {
            let len = packed_elements(machine.isa, b.dtype, k, n)
                .ok_or_else(|| no_kernel("packed operand", b.dtype))?;
            let mut strides: Vec<isize> = row_major(batch).iter().map(|s| s * len as isize).collect();
            strides.extend([0, 0]);
            PortSpec { view: View { offset: 0, strides, guard: None }, ..b }
        } else {
            matrix(&mut operands, b, dtype, batch, [k, n])
        };
        let scratch = operands.end();
        let copies = operands.copies(machine)?;
        let sides = |port: &PortSpec, i: usize| port.view.strides[i].unsigned_abs();
        let b_layout = if packed {
            BLayout::Packed
        } else if sides(&b, rank + 1) == 1 || n <= 1 {
            BLayout::RowMajor { stride: sides(&b, rank) }
        } else {
            BLayout::Transposed { stride: sides(&b, rank + 1) }
        };
        let a_layout =
            ALayout { row_stride: sides(&a, rank), k_stride: sides(&a, rank + 1), batch_stride: 0 };
        let one = Problem { m, n, k, batch: 1, a: a_layout, b: b_layout, b_batch_stride: 0 };
        let blocks = row_blocks(&one).map(|blocks| RowBlocks { sets: batch.iter().product(), ..blocks });
        let domain = Domain { batch, rows: &[m], columns: n, together: n, blocks };
        let finish = Finish::new(machine, (program, step, 2), body, &domain, dtype, scratch, overlap)?;
        // Blocks tell the product of a batch by its number, whatever the result's strides are.
        let c_strides = finish.result_batch().map_or(vec![0; rank], <[usize]>::to_vec);
        let end = finish.end();
        let dims: Vec<BatchDim> = (0..rank)
            .map(|i| BatchDim { size: batch[i], a: sides(&a, i), b: sides(&b, i), c: c_strides[i] })
            .collect();
        let (outer, inner) = split_batch(dims);
        let problem = Problem {
            batch: inner.size,
            a: ALayout { batch_stride: inner.a, ..a_layout },
            b_batch_stride: inner.b,
            ..one
        };
        let gemm_bytes = match dtype {
            DType::F64 => scratch_bytes::<f64>(machine.isa, &problem, machine.threads),
            _ => scratch_bytes::<f32>(machine.isa, &problem, machine.threads),
        };
        let others = copies.scratch_bytes().max(finish.scratch_bytes());
        Ok(CompiledDot {
            machine,
            dtype,
            copies,
            a: Place::of(&a),
            b: Place::of(&b),
            problem,
            outer,
            finish,
            gemm_scratch: end,
            gemm_bytes: (end + gemm_bytes).max(others) - end,
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.gemm_scratch + self.gemm_bytes
    }

    pub fn algorithm(&self) -> &'static str {
        ["gemm", "gemm, chain on blocks", "gemm, body on blocks", "gemm, then a nest"][self.finish.way()]
    }

    /// Runs the products; gives the first check that failed, if any.
    ///
    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<Option<usize>, PoolError> {
        // SAFETY: the caller's promise.
        unsafe {
            self.copies.run(pool, memory)?;
            match self.dtype {
                DType::F64 => self.products::<f64>(pool, memory),
                _ => self.products::<f32>(pool, memory),
            }
        }
    }

    /// # Safety
    /// As [`CompiledDot::run`], for the type that products are summed in.
    unsafe fn products<T: Element>(
        &self,
        pool: &Pool,
        memory: Memory,
    ) -> std::result::Result<Option<usize>, PoolError> {
        let (a, b) = (self.a.pointer::<T>(memory).cast_const(), self.b.pointer::<T>(memory).cast_const());
        let failures = Failures::none();
        // SAFETY: the step's scratch has these bytes, and nothing else lies there.
        let scratch = unsafe {
            self.finish.begin(memory, &failures);
            std::slice::from_raw_parts_mut(memory.scratch.add(self.gemm_scratch), self.gemm_bytes)
        };
        let count: usize = self.outer.iter().map(|dim| dim.size).product();
        for product in 0..count {
            let at = offsets(&self.outer, product);
            let (a, b) = (a.wrapping_add(at.a), b.wrapping_add(at.b));
            let place = (product * self.problem.batch, self.problem.m, at.c);
            // SAFETY: the verifier found all views inside their buffers.
            let result = unsafe {
                self.finish.with::<T, _>(memory, &failures, place, |epilogue| {
                    gemm(pool, self.machine.isa, &self.problem, a, b, epilogue, scratch)
                })
            };
            result?;
        }
        // SAFETY: all products are made.
        unsafe { self.finish.end_run(pool, memory, &failures) }
    }
}

/// An operand whose rows or columns are contiguous.
fn matrix(
    operands: &mut Operands,
    port: PortSpec,
    dtype: DType,
    batch: &[usize],
    [rows, columns]: [usize; 2],
) -> PortSpec {
    let inner = &port.view.strides[batch.len()..];
    let unit = inner[0] == 1 || inner[1] == 1 || rows <= 1 || columns <= 1;
    operands.place(port, dtype, &[batch, &[rows, columns]].concat(), unit)
}

/// Joins batch dims that lie one stride apart in all arrays; the last of what is left is the problem's.
fn split_batch(dims: Vec<BatchDim>) -> (Vec<BatchDim>, BatchDim) {
    let mut joined: Vec<BatchDim> = Vec::new();
    for dim in dims {
        if dim.size == 1 {
            continue;
        }
        match joined.last_mut() {
            Some(last)
                if last.a == dim.a * dim.size && last.b == dim.b * dim.size && last.c == dim.c * dim.size =>
            {
                *last = BatchDim { size: last.size * dim.size, ..dim };
            }
            _ => joined.push(dim),
        }
    }
    let inner = joined.pop().unwrap_or(BatchDim { size: 1, a: 0, b: 0, c: 0 });
    (joined, inner)
}

/// The element offsets of a product of the outer batch dims.
fn offsets(dims: &[BatchDim], mut index: usize) -> BatchDim {
    let mut at = BatchDim { size: 0, a: 0, b: 0, c: 0 };
    for dim in dims.iter().rev() {
        let coordinate = index % dim.size;
        index /= dim.size;
        at.a += coordinate * dim.a;
        at.b += coordinate * dim.b;
        at.c += coordinate * dim.c;
    }
    at
}
