//! Which results may take the memory of an operand.

use graphc_ir::program::{Body, BufferKind, FoldAxis, Form, Inst, InstOp, Level, Port, Program, Step, Store};

use super::lifetimes::Lifetimes;
use super::region::{distinct_elements, is_full};
use super::uses::Uses;

/// A result that takes the memory of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Position of the step in the schedule.
    pub at: u32,
    /// Read port of the operand.
    pub read: usize,
    /// Write port of the result.
    pub write: usize,
    /// Buffer of the operand.
    operand: u32,
    /// Buffer of the result.
    result: u32,
}

/// Whether a step may write through `write` over what it reads through `read`: every element is loaded
/// for the last time before it is stored, in whatever order a runtime walks the domain.
///
/// The rule is stricter than [`Step::allows_in_place`], which counts a body's passes: it holds for
/// runtimes that divide a nest with folds into several, too.
pub(super) fn may_share(step: &Step, read: usize, write: usize) -> bool {
    elements_shared(step, read, write).is_some()
}

/// Number of elements that the two ports have in common, where sharing is legal.
fn elements_shared(step: &Step, read: usize, write: usize) -> Option<usize> {
    if !step.allows_in_place(read, write) {
        return None;
    }
    let swept = step.kernel.swept()?;
    let (body, domain, rows) = (swept.body, swept.sizes(), swept.rows.len());
    let target = step.writes.get(write)?;
    let mut stores = body.stores.iter().filter(|s| s.write == write);
    let (Some(store), None) = (stores.next(), stores.next()) else { return None };
    let effective = |level| if is_full(&domain, rows, level) { Level::Elem } else { level };
    let level = body.inst(store.reg).level;
    let elements = distinct_elements(&domain, rows, level, &target.view)?;
    loads_before_stores(body, read, write, level, effective).then_some(elements)
}

/// Whether no element of read port `read` is loaded after its store to `write`, both being accessed
/// at the same index.
///
/// Without folds a domain point is loaded and stored once. With folds a runtime sweeps rows or the whole
/// domain, several times perhaps, so what varies by row may be loaded again behind a store. What a fold
/// down the columns leaves to do after the sweep is done once a column: an operand that serves nothing
/// else is safe.
fn loads_before_stores(
    body: &Body,
    read: usize,
    write: usize,
    level: Level,
    effective: impl Fn(Level) -> Level,
) -> bool {
    let is_load = |op: &InstOp| *op == InstOp::Load(read);
    let same_level = |i: &Inst| effective(i.level) == effective(level);
    if body.folds(FoldAxis::Cols) || body.insts.iter().any(|i| is_load(&i.op) && !same_level(i)) {
        return false;
    }
    if effective(level) == Level::Elem {
        return !body.folds(FoldAxis::Rows);
    }
    let mut derived = vec![false; body.insts.len()];
    for (i, inst) in body.insts.iter().enumerate() {
        derived[i] = is_load(&inst.op) || inst.args.iter().any(|r| derived[r.index()]);
        if derived[i] && matches!(inst.op, InstOp::Fold(..)) {
            return false;
        }
    }
    let serves = |s: &&Store| derived[s.reg.index()] || s.write == write;
    body.checks.iter().all(|c| !derived[c.reg.index()])
        && body.stores.iter().filter(serves).all(|s| body.inst(s.reg).post)
        && (level == Level::Col || body.stores.iter().filter(serves).count() == 1)
}

/// For every step, the port pairs that may share the memory of two temporaries if the operand dies.
pub(super) fn candidates(program: &Program, uses: &Uses) -> Vec<Vec<(usize, usize)>> {
    let mut writers = vec![0usize; program.buffers.len()];
    for port in program.steps.iter().flat_map(|s| &s.writes) {
        writers[port.buffer.index()] += 1;
    }
    let pairs_of = |step: &Step| {
        let mut pairs = Vec::new();
        // Only these share; steps of other kinds may have any number of ports, and all pairs of them would be looked at.
        if step.kernel.swept().is_none() {
            return pairs;
        }
        for (w, target) in step.writes.iter().enumerate() {
            let result = program.buffer(target.buffer);
            if result.kind != BufferKind::Temp || writers[target.buffer.index()] != 1 {
                continue;
            }
            let covers: usize = result.shape.iter().product();
            for (r, source) in step.reads.iter().enumerate() {
                let operand = program.buffer(source.buffer);
                let alike = operand.kind == BufferKind::Temp
                    && (operand.form, result.form) == (Form::Dense, Form::Dense)
                    && operand.dtype.size() == result.dtype.size()
                    && uses.bytes[source.buffer.index()] == uses.bytes[target.buffer.index()]
                    && step.writes.iter().all(|p| p.buffer != source.buffer);
                let every_read = |(q, p): (usize, &Port)| {
                    p.buffer != source.buffer || elements_shared(step, q, w) == Some(covers)
                };
                if alike && step.reads.iter().enumerate().all(every_read) {
                    pairs.push((r, w));
                }
            }
        }
        pairs
    };
    program.steps.iter().map(pairs_of).collect()
}

/// The pairs in which the operand dies, each operand and each result at most once.
pub(super) fn shares(
    program: &Program,
    uses: &Uses,
    order: &[u32],
    lifetimes: &Lifetimes,
    pairs: &[Vec<(usize, usize)>],
) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for (at, s) in order.iter().enumerate() {
        let step = &program.steps[*s as usize];
        let first = shares.len();
        for (read, write) in &pairs[*s as usize] {
            let (operand, result) = (step.reads[*read].buffer, step.writes[*write].buffer);
            let dies = lifetimes.live[operand.index()].is_some_and(|l| l.last as usize == at);
            let taken = shares[first..].iter().any(|x| x.operand == operand.0 || x.result == result.0);
            if dies && !taken && uses.bytes[operand.index()] > 0 {
                shares.push(Share {
                    at: at as u32,
                    read: *read,
                    write: *write,
                    operand: operand.0,
                    result: result.0,
                });
            }
        }
    }
    shares
}

/// Buffers that share one place.
pub(super) struct Groups {
    root: Vec<u32>,
}

impl Groups {
    /// From shares in the order of the schedule: an operand's group is complete before its result joins.
    pub fn of(buffers: usize, shares: &[Share]) -> Groups {
        let mut root: Vec<u32> = (0..buffers as u32).collect();
        for share in shares {
            root[share.result as usize] = root[share.operand as usize];
        }
        Groups { root }
    }

    /// The buffer that stands for the group.
    pub fn root(&self, buffer: usize) -> usize {
        self.root[buffer] as usize
    }
}
