//! Pools, with epilogues.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Pool as PoolKernel, PoolKind, Program, Step, View};

use super::conv::{pixels, three};
use super::epilogue::{Domain, Finish, Place};
use super::operand::{Copies, Operands};
use super::step::{Machine, Overlap, no_kernel, port_spec};
use crate::Geometry;
use crate::conv_grad::Pixels;
use crate::nest::{Base, CompiledNest, Failures, Memory, PortSpec};
use crate::pool::{Pool, PoolError};
use crate::window::{
    Divisor, Element, Images, Problem, avg_pool, avg_pool_grad, max_pool, scratch_bytes, window_gather,
    window_scatter,
};

/// A pool, ready to run.
#[derive(Debug)]
pub struct CompiledPool {
    machine: Machine,
    dtype: DType,
    kind: PoolKind,
    copies: Copies,
    problem: Problem,
    /// Padding after the image.
    after: [usize; 3],
    operand: (Place, Pixels),
    winner: Option<(Place, Pixels)>,
    /// Moves winners that were made in scratch to where they belong.
    winners_out: Option<CompiledNest>,
    finish: Finish,
    scratch: usize,
    scratch_len: usize,
    total: usize,
}

impl CompiledPool {
    pub fn new(
        machine: Machine,
        program: &Program,
        step: &Step,
        pool: &PoolKernel,
        overlap: Overlap,
    ) -> Result<CompiledPool> {
        let (g, w) = (&pool.geometry, &pool.geometry.window);
        let problem = Problem {
            geometry: Geometry {
                input: three(&g.image, 1),
                output: three(&g.positions, 1),
                kernel: three(&w.kernel, 1),
                stride: three(&w.strides, 1),
                dilation: three(&w.dilations, 1),
                pad: three(&w.pads_lo, 0),
            },
            images: g.batch,
            channels: g.channels,
        };
        let mut operands = Operands::default();
        let mut image = |port: PortSpec, dtype: DType, sizes: &[usize]| {
            let last = sizes.len() - 1;
            let fits = port.view.strides[last] == 1 || sizes[last] <= 1;
            let port = operands.place(port, dtype, sizes, fits);
            (Place::of(&port), pixels(&port))
        };
        let first = port_spec(program, &step.reads[0]);
        let dtype = first.dtype;
        if !dtype.is_compute_float() {
            return Err(no_kernel("pool", dtype));
        }
        let sizes = |port| step.kernel.operand(port).unwrap_or_default();
        let operand = image(first, dtype, &sizes(0));
        let mut winner = None;
        if pool.kind.operands() == 2 {
            winner = Some(image(port_spec(program, &step.reads[1]), DType::I32, &sizes(1)));
        }
        let mut winners_out = None;
        let result = pool.result();
        if let PoolKind::Max { winner: wanted } = pool.kind {
            // The kernel writes winners densely; elsewhere they are made in scratch.
            let port = step.writes.last().filter(|_| wanted).map(|port| port_spec(program, port));
            let dense = View::dense(&result);
            let fits = |port: &PortSpec| {
                let strides = port.view.strides.iter().zip(&dense.strides).zip(&result);
                strides.into_iter().all(|((a, b), size)| *size <= 1 || a == b)
            };
            let placed = match port {
                Some(port) if fits(&port) => port,
                other => {
                    let made = operands.reserve(DType::I32, &result);
                    if let Some(port) = other {
                        winners_out = Some((made.clone(), port));
                    }
                    made
                }
            };
            winner = Some((Place::of(&placed), pixels(&placed)));
        }
        let end = operands.end();
        let copies = operands.copies(machine)?;
        let (columns, rows) = result.split_last().map_or((1, &[][..]), |(c, r)| (*c, r));
        let winners_out = match winners_out {
            Some((from, to)) => {
                Some(super::repack::copy(machine, end, from, to, rows.to_vec(), vec![columns])?)
            }
            None => None,
        };
        let domain = Domain { batch: &[], rows, columns, together: columns, blocks: None };
        let source = (program, step, pool.kind.operands());
        let finish = Finish::new(machine, source, &pool.body, &domain, dtype, end, overlap)?;
        let scratch = finish.end();
        let scratch_len = match dtype {
            DType::F64 => scratch_bytes::<f64>(machine.isa, machine.threads),
            _ => scratch_bytes::<f32>(machine.isa, machine.threads),
        };
        let total = scratch
            .saturating_add(scratch_len)
            .max(copies.scratch_bytes())
            .max(finish.scratch_bytes())
            .max(winners_out.as_ref().map_or(0, CompiledNest::scratch_bytes));
        let kind = pool.kind;
        Ok(CompiledPool {
            machine,
            dtype,
            kind,
            copies,
            problem,
            after: three(&w.pads_hi, 0),
            operand,
            winner,
            winners_out,
            finish,
            scratch,
            scratch_len,
            total,
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.total
    }

    /// Runs the pool; gives the first check that failed, if any.
    ///
    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<Option<usize>, PoolError> {
        // SAFETY: the caller's promise.
        unsafe {
            self.copies.run(pool, memory)?;
            match self.dtype {
                DType::F64 => self.compute::<f64>(pool, memory),
                _ => self.compute::<f32>(pool, memory),
            }
        }
    }

    /// # Safety
    /// As [`CompiledPool::run`], for the element type.
    unsafe fn compute<T: Element>(
        &self,
        pool: &Pool,
        memory: Memory,
    ) -> std::result::Result<Option<usize>, PoolError> {
        let (isa, problem) = (self.machine.isa, &self.problem);
        let (place, pixels) = self.operand;
        let x = Images { data: place.pointer::<T>(memory).cast_const(), pixels };
        let none = (Place { base: Base::Scratch(0), offset: 0 }, pixels);
        let (at, winner_pixels) = self.winner.unwrap_or(none);
        let winners = at.pointer::<i32>(memory);
        let winner = Images { data: winners.cast_const(), pixels: winner_pixels };
        let divisor =
            |count_pad: bool| if count_pad { Divisor::WithPadding(self.after) } else { Divisor::Elements };
        let failures = Failures::none();
        // SAFETY: the step's scratch has these bytes, and nothing else lies there; the verifier found all
        // views inside their buffers.
        let result = unsafe {
            self.finish.begin(memory, &failures);
            let scratch = std::slice::from_raw_parts_mut(memory.scratch.add(self.scratch), self.scratch_len);
            self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| match self.kind {
                PoolKind::Max { .. } => max_pool(pool, isa, problem, x, winners, epilogue, scratch),
                PoolKind::Scatter => window_scatter(pool, isa, problem, x, winner, epilogue, scratch),
                PoolKind::Gather => window_gather(pool, isa, problem, x, winner, epilogue, scratch),
                PoolKind::Mean { count_pad } => {
                    avg_pool(pool, isa, problem, divisor(count_pad), x, epilogue, scratch)
                }
                PoolKind::MeanGrad { count_pad } => {
                    avg_pool_grad(pool, isa, problem, divisor(count_pad), x, epilogue, scratch)
                }
            })
        };
        result?;
        // SAFETY: all results are made.
        unsafe {
            if let Some(copy) = &self.winners_out {
                copy.run(pool, memory)?;
            }
            self.finish.end_run(pool, memory, &failures)
        }
    }
}
