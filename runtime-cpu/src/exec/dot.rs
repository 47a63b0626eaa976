//! Matrix products with epilogues.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Body, Dot, Form, InstOp, Level, Program, Reg, Step, View};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::tensor::row_major;

use super::repack::{copy, packed_elements};
use super::step::{Machine, Overlap, no_kernel, port_spec};
use crate::gemm::{
    ALayout, BLOCK_ROWS, BLayout, Element, Epilogue, GemmError, Output, Problem, TileCtx, block_columns,
    gemm, scratch_bytes,
};
use crate::memory::ALIGNMENT;
use crate::nest::{
    Base, CompiledNest, Failures, Memory, Part, PortSpec, Scratch, Source, Sweep, Tile, Tiling, build,
};
use crate::pool::{Pool, PoolError};

/// A batch of matrix products, ready to run.
#[derive(Debug)]
pub struct CompiledDot {
    machine: Machine,
    /// The type that products are summed in.
    dtype: DType,
    /// Operands that are copied into scratch first.
    copies: Vec<CompiledNest>,
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

/// The first element of an operand.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: Base,
    offset: isize,
}

#[derive(Clone, Copy, Debug)]
struct BatchDim {
    size: usize,
    a: usize,
    b: usize,
    c: usize,
}

/// What becomes of the sums.
#[derive(Debug)]
enum Finish {
    /// Stored as they are, with a bias for each column added, or also cut off at zero.
    Store { c: Place, row_stride: usize, batch_stride: usize, bias: Option<Place>, relu: bool },
    /// Any epilogue without folds, on blocks in the first cache.
    Blocks { sweep: Box<Sweep>, regions: usize, region_bytes: usize },
    /// Any other: on the whole product, in scratch.
    Nest { nest: Box<CompiledNest>, c: Place },
}

/// Bytes before each region: the columns that its column values are of.
const HEADER: usize = 2 * ALIGNMENT;

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
        let mut scratch = 0;
        let mut moves = Vec::new();
        let a = matrix(a, dtype, batch, [m, k], &mut moves, &mut scratch);
        let b = if packed {
            let len = packed_elements(machine.isa, b.dtype, k, n)
                .ok_or_else(|| no_kernel("packed operand", b.dtype))?;
            let mut strides: Vec<isize> = row_major(batch).iter().map(|s| s * len as isize).collect();
            strides.extend([0, 0]);
            PortSpec { view: View { offset: 0, strides, guard: None }, ..b }
        } else {
            matrix(b, dtype, batch, [k, n], &mut moves, &mut scratch)
        };
        // Copies run one after the other; what follows reuses their scratch.
        let mut copies = Vec::new();
        for Move { from, to, rows, columns } in moves {
            copies.push(copy(machine, scratch, from, to, rows, vec![columns])?);
        }
        let copy_scratch = copies.iter().map(CompiledNest::scratch_bytes).max().unwrap_or(0);

        let simple = simple_epilogue(program, step, body, rank, dtype);
        let folds = body.insts.iter().any(|i| matches!(i.op, InstOp::Fold(..)));
        let mut end = scratch;
        let (c_strides, finish) = if let Some((finish, strides)) = simple {
            (strides, finish)
        } else if folds {
            let c = Place { base: Base::Scratch(scratch), offset: 0 };
            let shape = [&batch[..], &[m, n]].concat();
            end += (shape.iter().product::<usize>() * dtype.size()).next_multiple_of(ALIGNMENT);
            let source = over_product(program, step, dot, dtype, c);
            let ports = step.reads.len();
            let overlap = |read: usize, write: usize| read < ports && overlap(read, write);
            let nest = CompiledNest::new(machine.isa, machine.threads, end, source, &overlap)?;
            let strides: Vec<usize> = row_major(&shape).iter().map(|s| s.unsigned_abs()).collect();
            (strides[..rank].to_vec(), Finish::Nest { nest: Box::new(nest), c })
        } else {
            let source = Source {
                rows: [&batch[..], &[m]].concat(),
                columns: vec![n],
                body: body.clone(),
                reads: epilogue_reads(program, step, rank + 2),
                writes: step.writes.iter().map(|port| port_spec(program, port)).collect(),
            };
            let rows = batch.iter().product::<usize>() * m;
            let width = if dtype == DType::F64 {
                block_columns::<f64>(machine.isa)
            } else {
                block_columns::<f32>(machine.isa)
            };
            let tiling = Tiling {
                rows,
                columns: n,
                tile_rows: BLOCK_ROWS.min(rows.max(1)),
                tile_columns: width.min(n.max(1)),
            };
            let mut sweep = build(machine.isa, &source, tiling, overlap)?;
            sweep.checks = (0..body.checks.len()).collect();
            let region_bytes = HEADER + sweep.region_bytes.next_multiple_of(2 * ALIGNMENT);
            end += machine.threads * region_bytes;
            let regions = scratch;
            (vec![0; rank], Finish::Blocks { sweep: Box::new(sweep), regions, region_bytes })
        };
        let sides = |port: &PortSpec, i: usize| port.view.strides[i].unsigned_abs();
        let dims: Vec<BatchDim> = (0..rank)
            .map(|i| BatchDim { size: batch[i], a: sides(&a, i), b: sides(&b, i), c: c_strides[i] })
            .collect();
        // Blocks tell the product of a batch by its number, whatever its strides are.
        let (outer, inner) = split_batch(dims);
        let b_layout = if packed {
            BLayout::Packed
        } else if sides(&b, rank + 1) == 1 || n <= 1 {
            BLayout::RowMajor { stride: sides(&b, rank) }
        } else {
            BLayout::Transposed { stride: sides(&b, rank + 1) }
        };
        let problem = Problem {
            m,
            n,
            k,
            batch: inner.size,
            a: ALayout { row_stride: sides(&a, rank), k_stride: sides(&a, rank + 1), batch_stride: inner.a },
            b: b_layout,
            b_batch_stride: inner.b,
        };
        let gemm_bytes = match dtype {
            DType::F64 => scratch_bytes::<f64>(machine.isa, &problem, machine.threads),
            _ => scratch_bytes::<f32>(machine.isa, &problem, machine.threads),
        };
        let finish = match finish {
            Finish::Store { c, row_stride, bias, relu, .. } => {
                Finish::Store { c, row_stride, batch_stride: inner.c, bias, relu }
            }
            other => other,
        };
        let nest_scratch = if let Finish::Nest { nest, .. } = &finish { nest.scratch_bytes() } else { 0 };
        let place =
            |port: &PortSpec| Place { base: port.base, offset: port.view.offset * dtype.size() as isize };
        Ok(CompiledDot {
            machine,
            dtype,
            copies,
            a: place(&a),
            b: place(&b),
            problem,
            outer,
            finish,
            gemm_scratch: end,
            gemm_bytes: (end + gemm_bytes).max(copy_scratch).max(nest_scratch) - end,
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.gemm_scratch + self.gemm_bytes
    }

    pub fn algorithm(&self) -> &'static str {
        match self.finish {
            Finish::Store { .. } => "gemm",
            Finish::Blocks { .. } => "gemm, epilogue on blocks",
            Finish::Nest { .. } => "gemm, then a nest",
        }
    }

    /// Runs the products; gives the first check that failed, if any.
    ///
    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<Option<usize>, PoolError> {
        // SAFETY: the caller's promise.
        unsafe {
            for copy in &self.copies {
                copy.run(pool, memory)?;
            }
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
        let pointer = |place: Place| memory.address(place.base).wrapping_offset(place.offset).cast::<T>();
        let (a, b) = (pointer(self.a).cast_const(), pointer(self.b).cast_const());
        // SAFETY: the step's scratch has these bytes, and nothing else lies there.
        let scratch =
            unsafe { std::slice::from_raw_parts_mut(memory.scratch.add(self.gemm_scratch), self.gemm_bytes) };
        let failures = Failures::none();
        if let Finish::Blocks { sweep, regions, region_bytes } = &self.finish {
            for thread in 0..self.machine.threads {
                let header = memory.scratch.wrapping_add(regions + thread * region_bytes);
                // SAFETY: each thread's region is its own; no columns are known yet.
                unsafe {
                    header.cast::<[usize; 2]>().write([usize::MAX; 2]);
                    Part::new(sweep, memory, header.add(HEADER), &failures);
                }
            }
        }
        let count: usize = self.outer.iter().map(|dim| dim.size).product();
        for product in 0..count {
            let at = offsets(&self.outer, product);
            let (a, b) = (a.wrapping_add(at.a), b.wrapping_add(at.b));
            let output = |c: Place, row_stride, batch_stride| Output {
                c: pointer(c).wrapping_add(at.c),
                row_stride,
                batch_stride,
            };
            let regions = Scratch(memory.scratch);
            let block = |context: &TileCtx<T>| {
                if let Finish::Blocks { sweep, regions: first, region_bytes } = &self.finish {
                    let batch = product * self.problem.batch + context.batch;
                    let row = batch * self.problem.m + context.row0;
                    let header = regions.at(first + context.thread * region_bytes);
                    let columns = [context.col0, context.cols];
                    let tile = Tile { row, rows: context.rows, column: context.col0, columns: context.cols };
                    let size = size_of::<T>();
                    // SAFETY: the region was made above and is this thread's; blocks do not overlap.
                    unsafe {
                        let part = Part::resume(sweep, memory, header.add(HEADER), &failures);
                        if *header.cast::<[usize; 2]>() != columns {
                            header.cast::<[usize; 2]>().write(columns);
                            part.column(context.col0, context.cols);
                        }
                        part.block(tile, context.acc.cast(), context.cols * size, context.ld * size);
                    }
                }
            };
            let epilogue = match self.finish {
                Finish::Store { c, row_stride, batch_stride, bias, relu } => {
                    let output = output(c, row_stride, batch_stride);
                    match bias.map(|bias| pointer(bias).cast_const()) {
                        None => Epilogue::Store(output),
                        Some(bias) if relu => Epilogue::BiasRelu(output, bias),
                        Some(bias) => Epilogue::Bias(output, bias),
                    }
                }
                Finish::Nest { c, .. } => {
                    let stride = self.problem.m * self.problem.n;
                    Epilogue::Store(output(c, self.problem.n, stride))
                }
                Finish::Blocks { .. } => Epilogue::Tile(&block),
            };
            // SAFETY: the verifier found all views inside their buffers.
            let result = unsafe { gemm(pool, self.machine.isa, &self.problem, a, b, &epilogue, scratch) };
            result.map_err(|error| match error {
                GemmError::Pool(error) => error,
                other => PoolError::Panicked { message: other.to_string() },
            })?;
        }
        if let Finish::Nest { nest, .. } = &self.finish {
            // SAFETY: the caller's promise; the product lies in scratch.
            return unsafe { nest.run(pool, memory) };
        }
        Ok(failures.first())
    }
}

/// An operand to copy into scratch before the products.
struct Move {
    from: PortSpec,
    to: PortSpec,
    rows: Vec<usize>,
    columns: usize,
}

/// An operand that the product reads where it lies, or the place of a copy in scratch.
fn matrix(
    port: PortSpec,
    dtype: DType,
    batch: &[usize],
    [rows, columns]: [usize; 2],
    moves: &mut Vec<Move>,
    scratch: &mut usize,
) -> PortSpec {
    let strides = &port.view.strides;
    let inner = &strides[batch.len()..];
    let unit = inner[0] == 1 || inner[1] == 1 || rows <= 1 || columns <= 1;
    if port.dtype == dtype && unit && strides.iter().all(|s| *s >= 0) {
        return port;
    }
    let shape = [batch, &[rows, columns]].concat();
    let to = PortSpec { base: Base::Scratch(*scratch), dtype, view: View::dense(&shape), empty: false };
    *scratch += (shape.iter().product::<usize>() * dtype.size()).next_multiple_of(ALIGNMENT);
    moves.push(Move { from: port, to: to.clone(), rows: [batch, &[rows]].concat(), columns });
    to
}

/// The read ports as the epilogue sees them: it never looks at the operands, whose views are of another
/// domain.
fn epilogue_reads(program: &Program, step: &Step, rank: usize) -> Vec<PortSpec> {
    let mut reads: Vec<PortSpec> = step.reads.iter().map(|port| port_spec(program, port)).collect();
    for operand in &mut reads[..2] {
        operand.view = View { offset: 0, strides: vec![0; rank], guard: None };
    }
    reads
}

/// The epilogue as a nest over the whole product.
fn over_product(program: &Program, step: &Step, dot: &Dot, dtype: DType, c: Place) -> Source {
    let rank = dot.batch.len() + 2;
    let mut reads = epilogue_reads(program, step, rank);
    let mut body = dot.body.clone();
    for inst in &mut body.insts {
        if inst.op == InstOp::Acc {
            inst.op = InstOp::Load(reads.len());
        }
    }
    let shape = [&dot.batch[..], &[dot.m, dot.n]].concat();
    let empty = shape.contains(&0);
    reads.push(PortSpec { base: c.base, dtype, view: View::dense(&shape), empty });
    Source {
        rows: [&dot.batch[..], &[dot.m]].concat(),
        columns: vec![dot.n],
        body,
        reads,
        writes: step.writes.iter().map(|port| port_spec(program, port)).collect(),
    }
}

/// The finish of an epilogue that the product does in registers, and the batch strides of its result.
fn simple_epilogue(
    program: &Program,
    step: &Step,
    body: &Body,
    rank: usize,
    dtype: DType,
) -> Option<(Finish, Vec<usize>)> {
    let [store] = body.stores[..] else { return None };
    let c = port_spec(program, &step.writes[store.write]);
    let strides = &c.view.strides;
    let columns = program_columns(step)?;
    if !body.checks.is_empty() || c.dtype != dtype || strides.iter().any(|s| *s < 0) {
        return None;
    }
    if strides[rank + 1] != 1 && columns > 1 {
        return None;
    }
    let is = |reg: Reg, function: ScalarFn| body.inst(reg).op == InstOp::Fn(function);
    let (sum, relu) =
        if is(store.reg, ScalarFn::Relu) { (body.inst(store.reg).args[0], true) } else { (store.reg, false) };
    let bias = if is(sum, ScalarFn::Add) {
        let args = &body.inst(sum).args;
        let acc = args.iter().position(|arg| body.inst(*arg).op == InstOp::Acc)?;
        let InstOp::Load(port) = body.inst(args[1 - acc]).op else { return None };
        let bias = port_spec(program, &step.reads[port]);
        let view = &bias.view;
        let by_column =
            view.strides[..=rank].iter().all(|s| *s == 0) && (view.strides[rank + 1] == 1 || columns <= 1);
        if !by_column
            || view.guard.is_some()
            || bias.dtype != dtype
            || body.inst(args[1 - acc]).level == Level::Elem
        {
            return None;
        }
        Some(Place { base: bias.base, offset: view.offset * dtype.size() as isize })
    } else {
        (body.inst(sum).op == InstOp::Acc).then_some(())?;
        None
    };
    if relu && bias.is_none() {
        return None;
    }
    let finish = Finish::Store {
        c: Place { base: c.base, offset: c.view.offset * dtype.size() as isize },
        row_stride: strides[rank].unsigned_abs(),
        batch_stride: 0,
        bias,
        relu,
    };
    Some((finish, strides[..rank].iter().map(|s| s.unsigned_abs()).collect()))
}

fn program_columns(step: &Step) -> Option<usize> {
    match &step.kernel {
        graphc_ir::program::Kernel::Dot(dot) => Some(dot.n),
        _ => None,
    }
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
