//! Runs a planned Program in one arena of numbers, as unkindly as the contract with runtimes allows.

use std::collections::BTreeMap;

use graphc_ir::program::{Body, BufferId, BufferKind, FoldAxis, InstOp, Kernel, Level, Port, Program, Step};
use graphc_ir::{Scalar, ScalarFn};

use super::random::Rng;

/// Contents of buffers that are not temporary.
pub type Contents = BTreeMap<u32, Vec<f32>>;

/// What memory a run uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// A buffer for each temporary.
    Separate,
    /// The plan's arena; what is not live holds NaN.
    Arena,
}

struct Machine<'a> {
    program: &'a Program,
    memory: Memory,
    arena: Vec<f32>,
    others: Contents,
    rng: Rng,
}

/// Runs all steps; buffers that are not temporary keep what they hold where a step fails.
///
/// Steps see the domain in random order, load again in every sweep, and store as early as they may.
pub fn run(program: &Program, memory: Memory, mut contents: Contents) -> (Result<(), String>, Contents) {
    for (i, decl) in program.buffers.iter().enumerate() {
        if memory == Memory::Separate || decl.kind != BufferKind::Temp {
            let n = decl.shape.iter().product();
            contents.entry(i as u32).or_insert_with(|| vec![f32::NAN; n]);
        }
    }
    let arena = vec![f32::NAN; program.plan.arena_bytes / 4];
    let mut machine = Machine { program, memory, arena, others: contents, rng: Rng(7) };
    let mut result = Ok(());
    for (i, step) in program.steps.iter().enumerate() {
        machine.poison(i);
        result = machine.step(step);
        if result.is_err() {
            break;
        }
    }
    (result, machine.others)
}

/// Live bytes of the arena at a step, seen from the ports alone.
fn live_ranges(program: &Program, at: usize) -> Vec<(usize, usize)> {
    let touches = |s: &Step, b: usize| s.reads.iter().chain(&s.writes).any(|p| p.buffer.index() == b);
    let mut ranges = Vec::new();
    for (b, decl) in program.buffers.iter().enumerate() {
        let Some(offset) = program.plan.offsets[b] else { continue };
        let before = program.steps[..at].iter().any(|s| touches(s, b));
        let after = program.steps[at..].iter().any(|s| touches(s, b));
        if before && after {
            ranges.push((offset / 4, (offset + decl.bytes()) / 4));
        }
    }
    ranges
}

impl Machine<'_> {
    fn poison(&mut self, at: usize) {
        if self.memory == Memory::Separate {
            return;
        }
        let mut keep = vec![false; self.arena.len()];
        for (from, to) in live_ranges(self.program, at) {
            keep[from..to].iter_mut().for_each(|k| *k = true);
        }
        let scratch = self.program.plan.scratch[at] / 4;
        let scratch = scratch..scratch + self.program.steps[at].choice.scratch_bytes / 4;
        for (i, x) in self.arena.iter_mut().enumerate() {
            if !keep[i] || scratch.contains(&i) {
                *x = f32::NAN;
            }
        }
    }

    fn place(&mut self, buffer: BufferId, element: usize) -> &mut f32 {
        match self.program.plan.offsets.get(buffer.index()).copied().flatten() {
            Some(offset) if self.memory == Memory::Arena => &mut self.arena[offset / 4 + element],
            _ => &mut self.others.get_mut(&buffer.0).expect("allocated")[element],
        }
    }

    fn at(port: &Port, point: &[usize]) -> usize {
        let sum: isize = point.iter().zip(&port.view.strides).map(|(c, s)| *c as isize * s).sum();
        (port.view.offset + sum) as usize
    }

    fn load(&mut self, port: &Port, point: &[usize]) -> f32 {
        *self.place(port.buffer, Self::at(port, point))
    }

    fn store(&mut self, port: &Port, point: &[usize], value: f32) {
        *self.place(port.buffer, Self::at(port, point)) = value;
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.kernel {
            Kernel::Nest(n) => {
                let [rows, cols] = match (&n.rows[..], &n.cols[..]) {
                    ([r], [c]) => [*r, *c],
                    ([r, c], []) => return self.points(step, &n.body, [*r, *c], None),
                    ([r], []) => return self.points(step, &n.body, [*r, 1], None),
                    _ => unreachable!("sketches have at most two dims"),
                };
                if n.body.folds(FoldAxis::Cols) || n.body.folds(FoldAxis::Rows) {
                    self.folded(step, &n.body, [rows, cols]);
                    return Ok(());
                }
                self.points(step, &n.body, [rows, cols], None)
            }
            Kernel::Dot(d) => self.points(step, &d.body, [d.m, d.n], Some(d.k)),
            _ => unreachable!("sketches have nests and dots"),
        }
    }

    fn shuffled(&mut self, [rows, cols]: [usize; 2]) -> Vec<[usize; 2]> {
        let mut points: Vec<[usize; 2]> = (0..rows * cols).map(|i| [i / cols, i % cols]).collect();
        for i in (1..points.len()).rev() {
            points.swap(i, self.rng.below(i + 1));
        }
        points
    }

    /// Everything of a point at once, the points in random order. A dot reads its operands for each.
    fn points(
        &mut self,
        step: &Step,
        body: &Body,
        domain: [usize; 2],
        k: Option<usize>,
    ) -> Result<(), String> {
        for point in self.shuffled(domain) {
            let acc = k.map_or(0.0, |k| {
                (0..k)
                    .map(|i| {
                        self.load(&step.reads[0], &[point[0], i]) * self.load(&step.reads[1], &[i, point[1]])
                    })
                    .sum()
            });
            let values = self.evaluate(step, body, &point, acc, &BTreeMap::new());
            for check in &body.checks {
                if values[check.reg.index()] == 0.0 {
                    return Err(check.message.clone());
                }
            }
            for store in &body.stores {
                self.store(&step.writes[store.write], &point, values[store.reg.index()]);
            }
        }
        Ok(())
    }

    /// One sweep stores what depends on no fold, a second one loads again and folds, a last one stores
    /// the rest: rows one after another, columns after all rows.
    fn folded(&mut self, step: &Step, body: &Body, [rows, cols]: [usize; 2]) {
        let mut after_fold = vec![false; body.insts.len()];
        for (i, inst) in body.insts.iter().enumerate() {
            after_fold[i] =
                matches!(inst.op, InstOp::Fold(..)) || inst.args.iter().any(|a| after_fold[a.index()]);
        }
        let folds: Vec<(usize, FoldAxis)> = body
            .insts
            .iter()
            .enumerate()
            .filter_map(|(i, inst)| match inst.op {
                InstOp::Fold(_, axis) => Some((i, axis)),
                _ => None,
            })
            .collect();
        let none = BTreeMap::new();
        for point in self.shuffled([rows, cols]) {
            let values = self.evaluate(step, body, &point, 0.0, &none);
            for s in body.stores.iter().filter(|s| !after_fold[s.reg.index()]) {
                self.store(&step.writes[s.write], &point, values[s.reg.index()]);
            }
        }
        let along_rows = body.folds(FoldAxis::Rows);
        let (outer, inner) = if along_rows { (cols, rows) } else { (rows, cols) };
        for o in 0..outer {
            let at = |i: usize| if along_rows { [i, o] } else { [o, i] };
            let mut folded = BTreeMap::new();
            for (fold, _) in &folds {
                let mut sum = 0.0;
                for i in 0..inner {
                    let values = self.evaluate(step, body, &at(i), 0.0, &folded);
                    sum += values[body.insts[*fold].args[0].index()];
                }
                folded.insert(*fold, sum / inner as f32);
            }
            for i in 0..inner {
                let values = self.evaluate(step, body, &at(i), 0.0, &folded);
                for s in body.stores.iter().filter(|s| after_fold[s.reg.index()]) {
                    if i == 0 || body.inst(s.reg).level == Level::Elem {
                        self.store(&step.writes[s.write], &at(i), values[s.reg.index()]);
                    }
                }
            }
        }
    }

    fn evaluate(
        &mut self,
        step: &Step,
        body: &Body,
        point: &[usize; 2],
        acc: f32,
        folded: &BTreeMap<usize, f32>,
    ) -> Vec<f32> {
        let mut values: Vec<f32> = Vec::with_capacity(body.insts.len());
        for (i, inst) in body.insts.iter().enumerate() {
            let arg = |n: usize| values[inst.args[n].index()];
            let value = match &inst.op {
                InstOp::Load(port) => self.load(&step.reads[*port], point),
                InstOp::Acc => acc,
                InstOp::Const(Scalar::F(v)) => *v as f32,
                InstOp::Fn(ScalarFn::Add) => arg(0) + arg(1),
                InstOp::Fn(ScalarFn::Mul) => arg(0) * arg(1),
                InstOp::Fn(ScalarFn::Lt) => f32::from(u8::from(arg(0) < arg(1))),
                InstOp::Fold(..) => folded.get(&i).copied().unwrap_or(f32::NAN),
                other => unreachable!("sketches do not use {other:?}"),
            };
            values.push(value);
        }
        values
    }
}
