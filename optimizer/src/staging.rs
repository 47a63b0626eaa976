//! Staging: steps that depend on state and constants alone leave the Program; their results are
//! computed once and kept until a variable that they read changes.

use std::collections::{BTreeMap, BTreeSet};

use graphc_ir::error::Result;
use graphc_ir::program::{BufferDecl, BufferId, BufferKind, Program, Step, VerifiedProgram};

/// The steps that left, with their results as outputs.
#[derive(Clone, Debug)]
pub struct Staged<P = VerifiedProgram> {
    /// Computes the staged buffers, in the order of [`BufferKind::Staged`].
    pub program: P,
    /// The state variables that it reads: its results hold as long as none of them changes.
    pub states: Vec<usize>,
}

/// Splits a Program that is not planned yet.
///
/// # Errors
/// None at present.
pub fn split(program: Program) -> Result<(Program, Option<Staged<Program>>)> {
    let assigned: BTreeSet<usize> = program
        .steps
        .iter()
        .flat_map(|s| &s.writes)
        .filter_map(|p| match program.buffer(p.buffer).kind {
            BufferKind::State(i) => Some(i),
            _ => None,
        })
        .collect();
    let mut stable_buffer = vec![false; program.buffers.len()];
    for (i, b) in program.buffers.iter().enumerate() {
        stable_buffer[i] = match b.kind {
            BufferKind::Const(_) => true,
            BufferKind::State(s) => !assigned.contains(&s),
            _ => false,
        };
    }
    // A buffer is stable if all its writers are.
    let mut movable = vec![false; program.steps.len()];
    let mut unstable: BTreeSet<BufferId> = BTreeSet::new();
    for (i, step) in program.steps.iter().enumerate() {
        let reads_stable =
            step.reads.iter().all(|p| stable_buffer[p.buffer.index()] && !unstable.contains(&p.buffer));
        let writes_temps = step.writes.iter().all(|p| program.buffer(p.buffer).kind == BufferKind::Temp);
        movable[i] = reads_stable && writes_temps && !step.can_fail();
        for p in &step.writes {
            if movable[i] {
                stable_buffer[p.buffer.index()] = true;
            } else {
                unstable.insert(p.buffer);
            }
        }
    }
    for (i, step) in program.steps.iter().enumerate() {
        movable[i] &= !step.writes.iter().any(|p| unstable.contains(&p.buffer));
    }
    // Only what a run's own work reads is worth keeping: mere copies to outputs and state are not.
    let mut wanted: BTreeSet<BufferId> = BTreeSet::new();
    for (i, step) in program.steps.iter().enumerate() {
        let mixed = step.reads.iter().any(|p| match program.buffer(p.buffer).kind {
            BufferKind::Input(_) => true,
            BufferKind::Temp | BufferKind::Output(_) => !stable_buffer[p.buffer.index()],
            BufferKind::State(s) => assigned.contains(&s),
            _ => false,
        });
        if !movable[i] && mixed {
            wanted.extend(step.reads.iter().map(|p| p.buffer));
        }
    }
    let mut keep: Vec<BufferId> = Vec::new();
    let mut moved = vec![false; program.steps.len()];
    let mut needed: BTreeSet<BufferId> = wanted.clone();
    for (i, step) in program.steps.iter().enumerate().rev() {
        if movable[i] && step.writes.iter().any(|p| needed.contains(&p.buffer)) {
            moved[i] = true;
            needed.extend(step.reads.iter().map(|p| p.buffer));
        }
    }
    let mut read_by_rest: BTreeSet<BufferId> = BTreeSet::new();
    for (i, step) in program.steps.iter().enumerate() {
        if !moved[i] {
            read_by_rest.extend(step.reads.iter().map(|p| p.buffer));
        }
    }
    for (i, step) in program.steps.iter().enumerate() {
        if moved[i] {
            keep.extend(step.writes.iter().map(|p| p.buffer).filter(|b| read_by_rest.contains(b)));
        }
    }
    keep.sort_unstable();
    keep.dedup();
    if keep.is_empty() {
        return Ok((program, None));
    }
    Ok(cut(program, &moved, &keep))
}

/// Takes out the steps that moved; the buffers to keep are sorted.
fn cut(mut program: Program, moved: &[bool], keep: &[BufferId]) -> (Program, Option<Staged<Program>>) {
    let mut prepare = Program::default();
    let mut renamed: BTreeMap<BufferId, BufferId> = BTreeMap::new();
    let mut states = BTreeSet::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut rest: Vec<Step> = Vec::new();
    for (i, step) in std::mem::take(&mut program.steps).into_iter().enumerate() {
        if moved[i] { steps.push(step) } else { rest.push(step) }
    }
    program.steps = rest;
    program.commit = program.steps.len();
    for step in &mut steps {
        for port in step.reads.iter_mut().chain(&mut step.writes) {
            let old = port.buffer;
            port.buffer = *renamed.entry(old).or_insert_with(|| {
                let decl: BufferDecl = program.buffer(old).clone();
                let kind = match decl.kind {
                    BufferKind::Temp => match keep.binary_search(&old) {
                        Ok(i) => BufferKind::Output(i),
                        Err(_) => BufferKind::Temp,
                    },
                    BufferKind::Const(c) => {
                        prepare.constants.push(program.constants[c].clone());
                        BufferKind::Const(prepare.constants.len() - 1)
                    }
                    BufferKind::State(s) => {
                        states.insert(s);
                        BufferKind::State(s)
                    }
                    other => other,
                };
                prepare.buffers.push(BufferDecl { kind, ..decl });
                BufferId(prepare.buffers.len() as u32 - 1)
            });
        }
    }
    prepare.outputs = keep.iter().map(|k| renamed[k]).collect();
    prepare.commit = steps.len();
    prepare.steps = steps;
    for (i, k) in keep.iter().enumerate() {
        program.buffers[k.index()].kind = BufferKind::Staged(i);
    }
    (program, Some(Staged { program: prepare, states: states.into_iter().collect() }))
}
