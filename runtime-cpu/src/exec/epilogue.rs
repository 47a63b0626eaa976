//! What becomes of the sums of a matrix product or a convolution: a body, on the way that fits it best.

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, FoldAxis, InstOp, Program, Reg, Step, View};
use graphc_ir::scalar::ScalarFn;

use super::block_folds::BlockFolds;
use super::chain::Chain;
use super::step::{Machine, Overlap, port_spec};
use crate::gemm::{BLOCK_ROWS, BlockColumns, Element, Epilogue, Output, RowBlocks, TileCtx, block_columns};
use crate::memory::ALIGNMENT;
use crate::nest::{
    Base, CompiledNest, Failures, Memory, Part, PortSpec, Scratch, Source, Sweep, Tile, Tiling, build,
    sweep_of,
};
use crate::pool::{Pool, PoolError};

/// The elements that sums are made for: `batch ++ rows` by `columns`.
#[derive(Clone, Copy, Debug)]
pub struct Domain<'a> {
    /// Dims that number the products.
    pub batch: &'a [usize],
    /// Dims that together number the rows of a product.
    pub rows: &'a [usize],
    /// Columns.
    pub columns: usize,
    /// Columns that belong together: a block of sums has those of one such group at most.
    pub together: usize,
    /// The blocks that the kernel makes of all rows, if it can keep units of them together.
    pub blocks: Option<RowBlocks>,
}

impl Domain<'_> {
    fn row_dims(&self) -> Vec<usize> {
        [self.batch, self.rows].concat()
    }
}

/// The first element of an operand.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub base: Base,
    /// In bytes.
    pub offset: isize,
}

impl Place {
    /// The place of a port's first element.
    pub fn of(port: &PortSpec) -> Place {
        Place { base: port.base, offset: port.view.offset * port.dtype.size() as isize }
    }

    /// Its address.
    pub fn pointer<T>(self, memory: Memory) -> *mut T {
        memory.address(self.base).wrapping_offset(self.offset).cast()
    }
}

/// A port whose rows are one stride apart.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub place: Place,
    pub row_stride: usize,
    /// Stride of each batch dim.
    pub batch: Vec<usize>,
    /// Stride of the innermost batch dim that has several products.
    pub batch_stride: usize,
}

impl Matrix {
    /// The port as a matrix over the domain, and whether its columns are contiguous; if they are not, they
    /// are all the same element. `None` if it is neither, or of another type.
    pub fn new(port: &PortSpec, domain: &Domain<'_>, dtype: DType) -> Option<(Matrix, bool)> {
        let strides = &port.view.strides;
        let rank = domain.batch.len() + domain.rows.len();
        if port.dtype != dtype || port.empty || port.view.guard.is_some() || strides.iter().any(|s| *s < 0) {
            return None;
        }
        let by_column = match strides[rank] {
            1 => true,
            0 => domain.columns <= 1,
            _ if domain.columns <= 1 => true,
            _ => return None,
        };
        let unsigned = |s: &[isize]| s.iter().map(|s| s.unsigned_abs()).collect::<Vec<_>>();
        let row_stride = single_stride(domain.rows, &unsigned(&strides[domain.batch.len()..rank]))?;
        let batch = unsigned(&strides[..domain.batch.len()]);
        let several = domain.batch.iter().rposition(|size| *size > 1);
        let batch_stride = several.map_or(0, |dim| batch[dim]);
        Some((Matrix { place: Place::of(port), row_stride, batch, batch_stride }, by_column))
    }

    /// As a destination, `offset` elements on.
    pub fn output<T>(&self, memory: Memory, offset: usize) -> Output<T> {
        let c = self.place.pointer::<T>(memory).wrapping_add(offset);
        Output { c, row_stride: self.row_stride, batch_stride: self.batch_stride }
    }
}

/// The one stride of dims that lie in memory as one dim would.
pub fn single_stride(sizes: &[usize], strides: &[usize]) -> Option<usize> {
    let mut inner: Option<(usize, usize)> = None;
    for (size, stride) in sizes.iter().zip(strides).rev().filter(|(size, _)| **size != 1) {
        inner = match inner {
            None => Some((*size, *stride)),
            Some((n, s)) if *stride == s * n => Some((n * size, s)),
            Some(_) => return None,
        };
    }
    Some(inner.map_or(0, |(_, stride)| stride))
}

/// A compiled epilogue.
#[derive(Debug)]
pub struct Finish {
    kind: Kind,
    /// Bytes of scratch, what lies before it included.
    end: usize,
}

#[derive(Debug)]
enum Kind {
    /// In registers: stored as they are, with a bias for each column added, or also cut off at zero.
    Registers { c: Matrix, bias: Option<Place>, relu: bool },
    /// On blocks in the first cache, one operand at a time.
    Chain(Chain),
    /// Any epilogue without folds along its rows, on blocks in the first cache.
    Blocks {
        sweep: Box<Sweep>,
        /// Which blocks the sweep was built for.
        columns: BlockColumns,
        folds: Option<Box<BlockFolds>>,
        regions: usize,
        region_bytes: usize,
        threads: usize,
    },
    /// Any other: on the whole result, in scratch.
    Nest { nest: Box<CompiledNest>, c: Matrix },
}

/// Bytes before each region: the columns that its column values are of.
const HEADER: usize = 2 * ALIGNMENT;

impl Finish {
    /// Compiles the body of a step whose first `operands` reads are not elements of the domain. It uses the
    /// step's scratch from byte `first` on.
    pub fn new(
        machine: Machine,
        (program, step, operands): (&Program, &Step, usize),
        body: &Body,
        domain: &Domain<'_>,
        dtype: DType,
        first: usize,
        overlap: Overlap,
    ) -> Result<Finish> {
        if let Some(kind) = in_registers(program, step, body, domain, dtype) {
            return Ok(Finish { kind, end: first });
        }
        if let Some(chain) = Chain::new(program, step, body, domain, dtype, overlap) {
            return Ok(Finish { kind: Kind::Chain(chain), end: first });
        }
        if body.folds(FoldAxis::Cols) || (body.folds(FoldAxis::Rows) && domain.blocks.is_none()) {
            return Finish::apart(machine, (program, step, operands), body, domain, dtype, first, overlap);
        }
        let reads = domain_reads(program, step, operands, domain);
        let writes = step.writes.iter().map(|port| port_spec(program, port)).collect();
        let (rows, columns) = (domain.row_dims(), vec![domain.columns]);
        let source = Source { rows, columns, body: body.clone(), reads, writes };
        let rows = source.rows.iter().product::<usize>();
        let width = match dtype {
            DType::F64 => block_columns::<f64>(machine.isa),
            _ => block_columns::<f32>(machine.isa),
        };
        let columns = BlockColumns { width, together: domain.together };
        let tiling = Tiling {
            rows,
            columns: domain.columns,
            tile_rows: BLOCK_ROWS.min(rows.max(1)),
            // A block narrower than this one would have its rows closer together.
            tile_columns: width.min(domain.together.max(1)),
        };
        let half = sweep_of(&source)?;
        let mut sweep = build(machine.isa, &half.source, tiling, overlap)?;
        sweep.checks = half.checks;
        let (folds, regions) = match domain.blocks {
            Some(blocks) if !sweep.downs.is_empty() => {
                let (folds, end) = BlockFolds::new(machine, &source, &sweep, blocks, first, overlap)?;
                (Some(Box::new(folds)), end.next_multiple_of(ALIGNMENT))
            }
            _ => (None, first),
        };
        let region_bytes = HEADER + sweep.region_bytes.next_multiple_of(2 * ALIGNMENT);
        let threads = machine.threads;
        let kind = Kind::Blocks { sweep: Box::new(sweep), columns, folds, regions, region_bytes, threads };
        Ok(Finish { kind, end: regions + threads * region_bytes })
    }

    /// As [`Finish::new`], on the whole result in scratch, whose rows have all columns.
    pub fn apart(
        machine: Machine,
        (program, step, operands): (&Program, &Step, usize),
        body: &Body,
        domain: &Domain<'_>,
        dtype: DType,
        first: usize,
        overlap: Overlap,
    ) -> Result<Finish> {
        let reads = domain_reads(program, step, operands, domain);
        let writes = step.writes.iter().map(|port| port_spec(program, port)).collect();
        let (rows, columns) = (domain.row_dims(), vec![domain.columns]);
        let mut source = Source { rows, columns, body: body.clone(), reads, writes };
        let c = over_result(&mut source, dtype, first);
        let bytes = source.rows.iter().product::<usize>() * domain.columns * dtype.size();
        let end = first + bytes.next_multiple_of(ALIGNMENT);
        let ports = step.reads.len();
        let overlap = |read: usize, write: usize| read < ports && overlap(read, write);
        let (c, _) = Matrix::new(&c, domain, dtype)
            .ok_or_else(|| Error::new("the result of a kernel is no matrix in scratch"))?;
        let nest = Box::new(CompiledNest::new(machine.isa, machine.threads, end, source, &overlap)?);
        Ok(Finish { kind: Kind::Nest { nest, c }, end })
    }

    /// Says how far apart the columns of two products are in a result that was made apart.
    pub fn batches_of(mut self, columns: usize) -> Finish {
        if let Kind::Nest { c, .. } = &mut self.kind {
            c.batch_stride = columns;
        }
        self
    }

    /// First byte of scratch that is free while the sums are made.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Bytes of scratch that the work after the sums needs, what lies before it included.
    pub fn scratch_bytes(&self) -> usize {
        match &self.kind {
            Kind::Nest { nest, .. } => nest.scratch_bytes(),
            _ => self.end,
        }
    }

    /// Where the sums go unchanged or nearly so: strides of the result's batch dims.
    pub fn result_batch(&self) -> Option<&[usize]> {
        match &self.kind {
            Kind::Registers { c, .. } | Kind::Nest { c, .. } => Some(&c.batch),
            Kind::Chain(_) | Kind::Blocks { .. } => None,
        }
    }

    /// How the epilogue runs: in registers, as a chain on blocks, as a body on blocks, or apart as a nest.
    pub fn way(&self) -> usize {
        match &self.kind {
            Kind::Registers { .. } => 0,
            Kind::Chain(_) => 1,
            Kind::Blocks { .. } => 2,
            Kind::Nest { .. } => 3,
        }
    }

    /// Prepares the scratch for a run.
    ///
    /// # Safety
    /// As [`Finish::with`].
    pub unsafe fn begin(&self, memory: Memory, failures: &Failures) {
        let Kind::Blocks { sweep, folds, regions, region_bytes, threads, .. } = &self.kind else { return };
        for thread in 0..*threads {
            let header = memory.scratch.wrapping_add(regions + thread * region_bytes);
            // SAFETY: each thread's region is its own; no columns are known yet.
            unsafe {
                header.cast::<[usize; 2]>().write([usize::MAX; 2]);
                let mut part = Part::new(sweep, memory, header.add(HEADER), failures);
                if let (Some(folds), 0) = (folds, thread) {
                    folds.begin(Scratch(memory.scratch), &mut part);
                }
            }
        }
    }

    /// Calls a function with the epilogue of the products from number `first` on, each of `rows` rows;
    /// `offset` is where the first one's result lies, in elements.
    ///
    /// # Safety
    /// The step was verified, its memory is bound, and [`Finish::begin`] was called.
    pub unsafe fn with<T: Element, R>(
        &self,
        memory: Memory,
        failures: &Failures,
        (first, rows, offset): (usize, usize, usize),
        f: impl FnOnce(&Epilogue<'_, T>) -> R,
    ) -> R {
        match &self.kind {
            Kind::Registers { c, bias, relu } => {
                let output = c.output(memory, offset);
                f(&match bias.map(|bias| bias.pointer::<T>(memory).cast_const()) {
                    None => Epilogue::Store(output),
                    Some(bias) if *relu => Epilogue::BiasRelu(output, bias),
                    Some(bias) => Epilogue::Bias(output, bias),
                })
            }
            Kind::Nest { c, .. } => f(&Epilogue::Store(c.output(memory, offset))),
            Kind::Chain(chain) => chain.resolved::<T, R>(memory, |chain| f(&Epilogue::Chain(chain))),
            Kind::Blocks { sweep, columns: blocks, folds, regions, region_bytes, .. } => {
                let scratch = Scratch(memory.scratch);
                let block = |context: &TileCtx<T>| {
                    // Where a block lies in the result, and which values are known for its columns, was decided
                    // for these blocks: others would be stored in the wrong places.
                    assert!(
                        context.rows <= sweep.tiling.tile_rows && blocks.has(context.col0, context.cols),
                        "an epilogue for {blocks:?} was handed {} rows of columns {} to {}",
                        context.rows,
                        context.col0,
                        context.col0 + context.cols
                    );
                    let row = (first + context.batch) * rows + context.row0;
                    let header = scratch.at(regions + context.thread * region_bytes);
                    let columns = [context.col0, context.cols];
                    let tile = Tile { row, rows: context.rows, column: context.col0, columns: context.cols };
                    let size = size_of::<T>();
                    // SAFETY: `begin` made the region, which is this thread's; blocks do not overlap.
                    unsafe {
                        let mut part = Part::resume(sweep, memory, header.add(HEADER), failures);
                        if *header.cast::<[usize; 2]>() != columns {
                            header.cast::<[usize; 2]>().write(columns);
                            part.column(context.col0, context.cols);
                        }
                        let (acc, row_bytes, pitch) =
                            (context.acc.cast(), context.cols * size, context.ld * size);
                        let Some(folds) = folds else {
                            return part.block(tile, acc, row_bytes, pitch);
                        };
                        let unit = folds.unit_of(first, context.unit);
                        let panel = context.col0 / sweep.tiling.tile_columns;
                        let states = folds.enter(sweep, scratch, (unit, panel), context.rows);
                        part.folded_block(tile, (acc, row_bytes, pitch), states);
                    }
                };
                f(&match folds {
                    None => Epilogue::Tile(&block),
                    Some(folds) => Epilogue::Units(&block, folds.unit()),
                })
            }
        }
    }

    /// What is left to do when all sums are made; gives the first check that failed, if any.
    ///
    /// # Safety
    /// As [`Finish::with`], after it has returned.
    pub unsafe fn end_run(
        &self,
        pool: &Pool,
        memory: Memory,
        failures: &Failures,
    ) -> std::result::Result<Option<usize>, PoolError> {
        match &self.kind {
            // SAFETY: the caller's promise; the product lies in scratch.
            Kind::Nest { nest, .. } => unsafe { nest.run(pool, memory) },
            Kind::Blocks { sweep, folds: Some(folds), .. } => {
                // SAFETY: as above, and all blocks are done.
                unsafe { folds.finish(pool, sweep, memory, failures)? };
                Ok(failures.first())
            }
            _ => Ok(failures.first()),
        }
    }
}

/// The read ports as the epilogue sees them: it never looks at the operands, whose views are of another
/// domain.
fn domain_reads(program: &Program, step: &Step, operands: usize, domain: &Domain<'_>) -> Vec<PortSpec> {
    let mut reads: Vec<PortSpec> = step.reads.iter().map(|port| port_spec(program, port)).collect();
    let rank = domain.batch.len() + domain.rows.len() + 1;
    for operand in &mut reads[..operands] {
        operand.view = View { offset: 0, strides: vec![0; rank], guard: None };
    }
    reads
}

/// Makes the sums an operand of the body, dense in scratch from byte `first` on.
fn over_result(source: &mut Source, dtype: DType, first: usize) -> PortSpec {
    for inst in &mut source.body.insts {
        if inst.op == InstOp::Acc {
            inst.op = InstOp::Load(source.reads.len());
        }
    }
    let shape = [&source.rows[..], &source.columns[..]].concat();
    let empty = shape.contains(&0);
    let port = PortSpec { base: Base::Scratch(first), dtype, view: View::dense(&shape), empty };
    source.reads.push(port.clone());
    PortSpec { empty: false, ..port }
}

/// The epilogue that the product does in registers.
fn in_registers(
    program: &Program,
    step: &Step,
    body: &Body,
    domain: &Domain<'_>,
    dtype: DType,
) -> Option<Kind> {
    let [store] = body.stores[..] else { return None };
    if !body.checks.is_empty() {
        return None;
    }
    let port = port_spec(program, &step.writes[store.write]);
    let (c, true) = Matrix::new(&PortSpec { empty: false, ..port }, domain, dtype)? else { return None };
    let is = |reg: Reg, function: ScalarFn| body.inst(reg).op == InstOp::Fn(function);
    let (sum, relu) =
        if is(store.reg, ScalarFn::Relu) { (body.inst(store.reg).args[0], true) } else { (store.reg, false) };
    if body.inst(sum).op == InstOp::Acc {
        return (!relu).then_some(Kind::Registers { c, bias: None, relu });
    }
    if !is(sum, ScalarFn::Add) {
        return None;
    }
    let args = &body.inst(sum).args;
    let acc = args.iter().position(|arg| body.inst(*arg).op == InstOp::Acc)?;
    let InstOp::Load(read) = body.inst(args[1 - acc]).op else { return None };
    let (bias, true) = Matrix::new(&port_spec(program, &step.reads[read]), domain, dtype)? else {
        return None;
    };
    let same =
        |sizes: &[usize], strides: &[usize]| sizes.iter().zip(strides).all(|(n, s)| *n <= 1 || *s == 0);
    let rows: usize = domain.rows.iter().product();
    (same(domain.batch, &bias.batch) && (rows <= 1 || bias.row_stride == 0)).then_some(Kind::Registers {
        c,
        bias: Some(bias.place),
        relu,
    })
}
