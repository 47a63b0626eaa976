//! From a body to a sweep's operations.

mod folds;

use std::collections::BTreeMap;

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{FoldAxis, Inst, InstOp, Level, Reg};
use graphc_ir::scalar::Scalar;

use super::access::{Access, MAX_DIMS, Progression};
use super::levels::Analysis;
use super::op::{Op, RowStep, ValueId};
use super::slots::assign;
use super::source::Source;
use super::sweep::{Initial, Sweep, Tiling};
use crate::isa::Isa;
use crate::threshold::thresholds;
use crate::tile::map::{MapFn, map, pair};
use crate::tile::movement::{movement, scalar_bytes};
use crate::tile::{cast::cast, random::random_bits};

thresholds! {
    /// Below this many columns, a row's value is spread over the tile rather than used row by row.
    const NARROW: usize = 64, of Nest [Columns];
    /// Below this many columns, a column's value is spread over the tile once.
    const MEDIUM: usize = 256, of Nest [Columns];
}

/// Which memory a read and a write port share.
pub type Conflict<'a> = &'a dyn Fn(usize, usize) -> bool;

/// Where the operation at hand runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    Launch,
    Column,
    Pass,
}

/// Builds the sweep of everything of a body that comes before its column folds are complete.
pub fn build(isa: Isa, source: &Source, tiling: Tiling, conflict: Conflict) -> Result<Sweep> {
    if source.rows.len() > MAX_DIMS || source.columns.len() > MAX_DIMS {
        return Err(Error::new(format!("a nest has more than {MAX_DIMS} dims of rows or of columns")));
    }
    let reads =
        source.reads.iter().map(|p| Access::new(p.base, p.dtype, &p.view, &source.rows, &source.columns));
    let writes =
        source.writes.iter().map(|p| Access::new(p.base, p.dtype, &p.view, &source.rows, &source.columns));
    let accesses: Vec<Access> = reads.chain(writes).collect();
    let analysis = Analysis::new(source, &accesses, &tiling);
    let passes = if tiling.column_tiles() > 1 { analysis.passes(&source.body) } else { 1 };
    let builder = Builder {
        isa,
        source,
        conflict,
        sweep: Sweep {
            tiling,
            accesses,
            progressions: Vec::new(),
            constants: Vec::new(),
            initial: Vec::new(),
            launch: Vec::new(),
            column: Vec::new(),
            passes: Vec::new(),
            downs: Vec::new(),
            checks: Vec::new(),
            state_bytes: 0,
            columns_outer: false,
            folds_rows: false,
            weight: 0,
            region_bytes: 0,
            acc: None,
        },
        sizes: Vec::new(),
        values: vec![None; source.body.insts.len()],
        row_values: BTreeMap::new(),
        row_states: BTreeMap::new(),
        spreads: BTreeMap::new(),
        pass_spreads: BTreeMap::new(),
        stored: vec![false; source.body.stores.len()],
        pass: Vec::new(),
        analysis,
    };
    builder.finish(passes)
}

struct Builder<'a> {
    isa: Isa,
    source: &'a Source,
    conflict: Conflict<'a>,
    analysis: Analysis,
    sweep: Sweep,
    /// Bytes of each value's array, 0 where it has none.
    sizes: Vec<usize>,
    /// The value of each instruction in the pass at hand.
    values: Vec<Option<ValueId>>,
    /// Results of folds along rows, which later passes use.
    row_values: BTreeMap<usize, ValueId>,
    /// States of variances along rows, which begin with the means.
    row_states: BTreeMap<usize, ValueId>,
    spreads: BTreeMap<(ValueId, Level), ValueId>,
    pass_spreads: BTreeMap<(ValueId, Level), ValueId>,
    /// Write ports that the result was written to directly.
    stored: Vec<bool>,
    pass: Vec<Op>,
}

impl Builder<'_> {
    fn finish(mut self, passes: usize) -> Result<Sweep> {
        for pass in 0..passes {
            let last = pass + 1 == passes;
            let depth = (passes > 1).then_some((pass, last));
            let needed = self.analysis.needed(&self.source.body, depth);
            self.values.iter_mut().zip(&self.analysis.levels).for_each(|(value, level)| {
                if matches!(level, Level::Row | Level::Elem) {
                    *value = None;
                }
            });
            self.row_values.iter().for_each(|(inst, value)| self.values[*inst] = Some(*value));
            self.pass_spreads.clear();
            for i in 0..needed.len() {
                if !needed[i] || self.values[i].is_some() || self.analysis.fused[i].is_some() {
                    continue;
                }
                match self.variance_of(i, &needed) {
                    // The states of a variance begin with the means.
                    Some(variance) => {
                        if self.values[variance].is_none() {
                            self.inst(variance, last)?;
                        }
                        self.share(i, variance);
                    }
                    None => self.inst(i, last)?,
                }
            }
            if last {
                self.checks()?;
                self.stores()?;
            }
            let ops = std::mem::take(&mut self.pass);
            self.sweep.passes.push(ops);
        }
        let binds_only = self.sweep.column.iter().all(|op| matches!(op, Op::Bind { .. }));
        self.sweep.columns_outer = !binds_only || !self.sweep.downs.is_empty();
        self.sweep.weight = self.weight();
        assign(&mut self.sweep, &self.sizes);
        Ok(self.sweep)
    }

    fn weight(&self) -> usize {
        let ops = self.sweep.passes.iter().flatten();
        ops.map(|op| match op {
            Op::Map { level: Level::Elem, .. } | Op::MapRows { .. } => 2,
            Op::Load { level: Level::Elem, .. } | Op::Store { level: Level::Elem, .. } => 2,
            Op::Along(_) | Op::Down { .. } | Op::Bind { level: Level::Elem, .. } => 1,
            _ => 0,
        })
        .sum::<usize>()
            + self.analysis.slow_functions(&self.source.body) * 8
    }

    fn level(&self, inst: usize) -> Level {
        self.analysis.levels[inst]
    }

    fn value(&mut self, level: Level, size: usize) -> ValueId {
        self.array(self.sweep.tiling.elements(level) * size)
    }

    fn array(&mut self, bytes: usize) -> ValueId {
        self.sizes.push(bytes);
        self.sweep.initial.push(Initial::Unbound);
        ValueId(self.sizes.len() as u32 - 1)
    }

    fn constant(&mut self, value: Scalar, dtype: DType) -> ValueId {
        let id = self.array(0);
        self.sweep.initial[id.0 as usize] = Initial::Constant(self.sweep.constants.len());
        self.sweep.constants.push(scalar_bytes(value, dtype));
        id
    }

    fn emit(&mut self, block: Block, op: Op) {
        match block {
            Block::Launch => self.sweep.launch.push(op),
            Block::Column => self.sweep.column.push(op),
            Block::Pass => self.pass.push(op),
        }
    }

    fn block(level: Level) -> Block {
        match level {
            Level::Scalar => Block::Launch,
            Level::Col => Block::Column,
            Level::Row | Level::Elem => Block::Pass,
        }
    }

    /// Emits instruction `i`.
    fn inst(&mut self, i: usize, last_pass: bool) -> Result<()> {
        let inst = &self.source.body.insts[i];
        if let InstOp::Fold(kind, axis) = inst.op {
            return match axis {
                FoldAxis::Cols => self.fold_along(i, kind),
                FoldAxis::Rows => self.fold_down(i, kind),
            };
        }
        let level = self.level(i);
        if let InstOp::Load(port) = inst.op {
            let spec = &self.source.reads[port];
            if spec.empty {
                self.values[i] = Some(self.constant(Scalar::zero(spec.dtype), spec.dtype));
                return Ok(());
            }
            if self.contiguous(port, level) && !self.overwritten(i, port) {
                let value = self.array(0);
                self.emit(Self::block(level), Op::Bind { access: port, value, level });
                self.values[i] = Some(value);
                return Ok(());
            }
        }
        match &inst.op {
            InstOp::Const(scalar) => {
                self.values[i] = Some(self.constant(*scalar, inst.dtype));
                return Ok(());
            }
            InstOp::Acc => {
                let value = self.array(self.sweep.tiling.elements(Level::Elem) * inst.dtype.size());
                self.sweep.acc = Some(value);
                self.values[i] = Some(value);
                return Ok(());
            }
            _ => {}
        }
        // Operands first: spreading them emits operations.
        let operation = self.operation(i, inst)?;
        let value = match self.direct_store(i, last_pass) {
            Some(store) => {
                self.stored[store] = true;
                let access = self.source.reads.len() + self.source.body.stores[store].write;
                let value = self.array(0);
                self.emit(Block::Pass, Op::Bind { access, value, level });
                value
            }
            None => self.value(level, inst.dtype.size()),
        };
        let op = match operation {
            Operation::Load(access) => Op::Load { access, value, level },
            Operation::Index(progression) => Op::Index { progression, value, level },
            Operation::Map(Call { kernel, args, splat }) => Op::Map { kernel, value, args, splat, level },
            Operation::MapRows(Call { kernel, args, splat }, steps) => {
                Op::MapRows { kernel, value, size: inst.dtype.size(), args, splat, steps }
            }
        };
        self.emit(Self::block(level), op);
        self.values[i] = Some(value);
        Ok(())
    }

    /// Whether a loaded value is stored as it is, after another store may have taken the memory that it
    /// was loaded from.
    fn overwritten(&self, i: usize, port: usize) -> bool {
        let stores = &self.source.body.stores;
        stores.iter().any(|s| s.reg.index() == i)
            && stores.iter().any(|s| s.reg.index() != i && (self.conflict)(port, s.write))
    }

    fn contiguous(&self, access: usize, level: Level) -> bool {
        let tiling = &self.sweep.tiling;
        let access = &self.sweep.accesses[access];
        match level {
            Level::Scalar => access.is_contiguous(1, 1),
            Level::Row => access.is_contiguous_down(),
            Level::Col => access.is_contiguous(1, tiling.columns),
            // Narrower tiles at the right edge have their rows closer together.
            Level::Elem if tiling.tile_rows > 1 && tiling.column_tiles() > 1 => false,
            Level::Elem => access.is_contiguous(tiling.tile_rows, tiling.columns),
        }
    }

    fn operation(&mut self, i: usize, inst: &Inst) -> Result<Operation> {
        let level = self.level(i);
        match &inst.op {
            InstOp::Load(port) => Ok(Operation::Load(*port)),
            InstOp::Index(strides) => {
                let progression = Progression::new(strides, &self.source.rows, &self.source.columns);
                self.sweep.progressions.push(progression);
                Ok(Operation::Index(self.sweep.progressions.len() - 1))
            }
            InstOp::Fn(function) if self.partner(i).is_some() => {
                let first = self.partner(i).unwrap_or_default();
                let position = inst.args.iter().position(|arg| arg.index() == first);
                let InstOp::Fn(inner) = self.source.body.insts[first].op else {
                    return Err(Error::new("only functions are computed in pairs"));
                };
                let mut args = self.source.body.insts[first].args.clone();
                args.extend(inst.args.iter().filter(|arg| arg.index() != first));
                let kernel = pair(self.isa, inner, *function, position == Some(1))
                    .ok_or_else(|| Error::new("there is no kernel for the pair of functions"))?;
                self.map(&args, level, kernel)
            }
            InstOp::Fn(function) => {
                let dtype = self.source.body.inst(inst.args[inst.args.len() - 1]).dtype;
                let kernel = map(self.isa, *function, dtype).ok_or_else(|| {
                    Error::new(format!("the CPU has no kernel for {} of {dtype}", function.name()))
                        .help("insert a cast to a type that the function takes")
                })?;
                self.map(&inst.args, level, kernel)
            }
            InstOp::Cast => {
                let from = self.source.body.inst(inst.args[0]).dtype;
                self.map(&inst.args, level, cast(self.isa, from, inst.dtype))
            }
            InstOp::RandomBits => {
                let index = self.source.body.inst(inst.args[2]).dtype;
                let kernel = random_bits(self.isa, index).ok_or_else(|| {
                    Error::new(format!("random bits take indices of 32 or 64 bits, but got {index}"))
                        .help("insert a cast")
                })?;
                self.map(&inst.args, level, kernel)
            }
            InstOp::Const(_) | InstOp::Acc | InstOp::Fold(..) => {
                Err(Error::new("constants, sums and folds have no operation of their own"))
            }
        }
    }

    /// The instruction that is computed along with instruction `i`, as its operand.
    fn partner(&self, i: usize) -> Option<usize> {
        self.analysis.fused.iter().position(|user| *user == Some(i))
    }

    /// The call of an elementwise kernel: operands of a lower level than the result are splat, used row
    /// by row, or spread out.
    fn map(&mut self, registers: &[Reg], level: Level, kernel: MapFn) -> Result<Operation> {
        let tiling = self.sweep.tiling;
        let mut args = [ValueId(0); 3];
        let mut splat = [false; 3];
        let mut steps = [RowStep::default(); 3];
        let mut by_row = false;
        for (index, reg) in registers.iter().enumerate() {
            let (from, size) = (self.level(reg.index()), self.source.body.inst(*reg).dtype.size());
            let tall = level == Level::Elem && tiling.tile_rows > 1;
            let narrow = match from {
                Level::Col => tall && tiling.tile_columns < MEDIUM,
                Level::Row => tall && tiling.tile_columns < NARROW,
                Level::Scalar | Level::Elem => false,
            };
            let from = if narrow { level } else { from };
            args[index] = self.at_level(*reg, from)?.0;
            splat[index] = match from {
                Level::Scalar => level != Level::Scalar,
                Level::Row => level == Level::Elem,
                Level::Col | Level::Elem => false,
            };
            by_row |= tall && matches!(from, Level::Row | Level::Col);
            steps[index] = match from {
                Level::Elem => RowStep { fixed: 0, each: size },
                Level::Row => RowStep { fixed: size, each: 0 },
                Level::Scalar | Level::Col => RowStep::default(),
            };
        }
        // Operands that the function does not have are never looked at.
        let first = args[0];
        args[registers.len()..].fill(first);
        let call = Call { kernel, args, splat };
        Ok(if by_row { Operation::MapRows(call, steps) } else { Operation::Map(call) })
    }

    /// A value repeated over the tile's part of a higher level.
    fn spread(&mut self, (source, from): (ValueId, Level), to: Level, dtype: DType) -> ValueId {
        let block = match (from, to) {
            (Level::Row, _) => Block::Pass,
            (_, Level::Row) => Block::Launch,
            _ => Block::Column,
        };
        let known = if block == Block::Pass { &self.pass_spreads } else { &self.spreads };
        if let Some(value) = known.get(&(source, to)) {
            return *value;
        }
        let value = self.value(to, dtype.size());
        self.emit(
            block,
            Op::Spread { value, source, from, to, size: dtype.size(), movement: movement(dtype) },
        );
        let known = if block == Block::Pass { &mut self.pass_spreads } else { &mut self.spreads };
        known.insert((source, to), value);
        value
    }

    /// The value of a register, spread out to a level if it is of a lower one.
    fn at_level(&mut self, reg: Reg, level: Level) -> Result<(ValueId, DType)> {
        let value = self.values[reg.index()]
            .ok_or_else(|| Error::new("a register of a nest depends on a fold that comes after it"))?;
        let (from, dtype) = (self.level(reg.index()), self.source.body.inst(reg).dtype);
        let lower = from != level && from.join(level) == level;
        Ok((if lower { self.spread((value, from), level, dtype) } else { value }, dtype))
    }

    fn checks(&mut self) -> Result<()> {
        let Tiling { rows, columns, .. } = self.sweep.tiling;
        for (check, condition) in self.source.body.checks.iter().enumerate() {
            let values = match self.source.body.inst(condition.reg).level {
                Level::Scalar => 1,
                Level::Row => rows,
                Level::Col => columns,
                Level::Elem => rows * columns,
            };
            if values == 0 {
                // Of nothing everything holds; what stands for its elements here is not one.
                continue;
            }
            let level = self.level(condition.reg.index());
            let (value, _) = self.at_level(condition.reg, level)?;
            self.pass.push(Op::Check { value, level, check });
        }
        Ok(())
    }

    fn stores(&mut self) -> Result<()> {
        for (index, store) in self.source.body.stores.iter().enumerate() {
            if !self.stored[index] {
                let access = self.source.reads.len() + store.write;
                let level = self.store_level(index);
                let (value, _) = self.at_level(store.reg, level)?;
                self.pass.push(Op::Store { access, value, level });
            }
        }
        Ok(())
    }

    /// Over which part of the domain a store writes one element each.
    fn store_level(&self, store: usize) -> Level {
        let store = self.source.body.stores[store];
        let access = &self.sweep.accesses[self.source.reads.len() + store.write];
        let view = self.analysis.level_of(access.varies_by_row(), access.varies_by_column());
        self.analysis.normalized(self.source.body.inst(store.reg).level).join(view)
    }

    /// A store of instruction `i` that its kernel can do itself: the elements lie as in the tile, and no
    /// memory is written that an operand of it, or a later instruction, still reads.
    fn direct_store(&self, i: usize, last_pass: bool) -> Option<usize> {
        if !last_pass || self.level(i) != Level::Elem {
            return None;
        }
        let body = &self.source.body;
        body.stores.iter().enumerate().position(|(index, store)| {
            let access = self.source.reads.len() + store.write;
            if store.reg.index() != i || self.stored[index] || !self.contiguous(access, Level::Elem) {
                return false;
            }
            body.insts.iter().enumerate().all(|(load, inst)| match inst.op {
                InstOp::Load(port) if (self.conflict)(port, store.write) => {
                    let reads = |index: usize| body.insts[index].args.iter().any(|r| r.index() == load);
                    // The first of two functions in one kernel runs where the second one stands.
                    let reads = |index: usize| reads(index) || self.partner(index).is_some_and(reads);
                    load < i
                        && !(i..body.insts.len()).any(reads)
                        && !body.stores.iter().any(|s| s.reg.index() == load)
                        && !body.checks.iter().any(|c| c.reg.index() == load)
                }
                _ => true,
            })
        })
    }
}

enum Operation {
    Load(usize),
    Index(usize),
    Map(Call),
    MapRows(Call, [RowStep; 3]),
}

/// An elementwise kernel and its operands.
struct Call {
    kernel: MapFn,
    args: [ValueId; 3],
    splat: [bool; 3],
}
