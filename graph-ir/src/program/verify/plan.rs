//! The memory plan: places inside the arena, and no two live things in one place.

use std::collections::{BTreeMap, HashSet};

use super::{in_place, place};
use crate::error::Result;
use crate::program::{BufferKind, MemoryPlan, Program};

/// Alignment of everything in the arena, in bytes.
const ALIGNMENT: usize = 64;

/// Bytes of the arena from one step to another, both included.
#[derive(Clone, Copy, Debug)]
struct Life {
    buffer: usize,
    first: usize,
    last: usize,
    start: usize,
    end: usize,
}

impl Life {
    fn shares_memory(&self, other: &Life) -> bool {
        self.start < other.end && other.start < self.end
    }
}

pub(super) fn check(p: &Program) -> Result<()> {
    let plan = &p.plan;
    if plan.offsets.len() != p.buffers.len() || plan.scratch.len() != p.steps.len() {
        fail!(
            "the memory plan places {} buffers and the scratch of {} steps, but there are {} and {}",
            plan.offsets.len(),
            plan.scratch.len(),
            p.buffers.len(),
            p.steps.len()
        );
    }
    let mut lives = lives(p)?;
    check_in_place(p, &lives)?;
    lives.retain(|l| l.start < l.end && l.first <= l.last);
    lives.sort_by_key(|l| l.first);

    let port = |s: usize, r: usize, w: usize| {
        (s, p.steps[s].reads[r].buffer.index(), p.steps[s].writes[w].buffer.index())
    };
    // Looked up only.
    let declared: HashSet<_> = plan.in_place.iter().map(|(s, r, w)| port(*s, *r, *w)).collect();
    let mut ending: Vec<Vec<&Life>> = vec![Vec::new(); p.steps.len()];
    lives.iter().for_each(|life| ending[life.last].push(life));
    let mut active = Active::default();
    let mut pending = lives.iter().peekable();
    for (i, step) in p.steps.iter().enumerate() {
        if let Some(before) = i.checked_sub(1) {
            ending[before].iter().for_each(|life| active.remove(life));
        }
        while let Some(life) = pending.next_if(|l| l.first == i) {
            for other in active.sharing(life) {
                // The younger one's first write may declare to take the place of the older one's last read.
                let takes = declared.contains(&(life.first, other.buffer, life.buffer));
                if !takes || other.last != life.first {
                    fail!(
                        "temporaries b{} and b{} lie in the same memory and are both live at {}",
                        other.buffer,
                        life.buffer,
                        place(i, step)
                    );
                }
            }
            active.insert(*life);
        }
        if step.choice.scratch_bytes == 0 {
            continue;
        }
        let start = plan.scratch[i];
        let end = inside(plan, start, step.choice.scratch_bytes, "the scratch")
            .map_err(|e| e.at(place(i, step)))?;
        let scratch = Life { buffer: 0, first: i, last: i, start, end };
        if let Some(other) = active.sharing(&scratch).next() {
            fail!("the scratch of {} lies in the memory of b{}, which is live", place(i, step), other.buffer);
        }
    }
    Ok(())
}

/// Checks a place in the arena; its end.
fn inside(plan: &MemoryPlan, start: usize, bytes: usize, what: &str) -> Result<usize> {
    if !start.is_multiple_of(ALIGNMENT) {
        fail!("{what} lies at byte {start}, which is not a multiple of {ALIGNMENT}");
    }
    match start.checked_add(bytes) {
        Some(end) if end <= plan.arena_bytes => Ok(end),
        _ => fail!("{what} takes {bytes} bytes from byte {start}, beyond the arena's {}", plan.arena_bytes),
    }
}

/// First write and last access of every temporary; `first > last` for others and unused ones.
fn lives(p: &Program) -> Result<Vec<Life>> {
    let mut lives = Vec::new();
    for (i, b) in p.buffers.iter().enumerate() {
        let (mut start, mut end) = (0, 0);
        match (b.kind, p.plan.offsets[i]) {
            (BufferKind::Temp, Some(offset)) => {
                start = offset;
                end = inside(&p.plan, offset, b.bytes(), &format!("temporary b{i}"))?;
            }
            (BufferKind::Temp, None) => fail!("temporary b{i} has no place in the arena"),
            (_, Some(_)) => fail!("buffer b{i} has a place in the arena, but is not temporary"),
            (_, None) => {}
        }
        lives.push(Life { buffer: i, first: usize::MAX, last: 0, start, end });
    }
    for (i, step) in p.steps.iter().enumerate() {
        for port in step.reads.iter().chain(&step.writes) {
            let life = &mut lives[port.buffer.index()];
            life.first = life.first.min(i);
            life.last = i;
        }
    }
    Ok(lives)
}

/// What is live, by its first byte. No two share memory but those that begin at the same byte.
#[derive(Default)]
struct Active(BTreeMap<usize, Vec<Life>>);

impl Active {
    fn insert(&mut self, life: Life) {
        self.0.entry(life.start).or_default().push(life);
    }

    fn remove(&mut self, life: &Life) {
        if let Some(here) = self.0.get_mut(&life.start) {
            here.retain(|l| l.buffer != life.buffer);
            if here.is_empty() {
                self.0.remove(&life.start);
            }
        }
    }

    /// Those that share memory with one.
    fn sharing<'a>(&'a self, life: &'a Life) -> impl Iterator<Item = &'a Life> {
        // Of those that begin before it, only the last ones reach as far.
        let before = self.0.range(..life.start).next_back();
        let others = before.into_iter().chain(self.0.range(life.start..life.end.max(life.start)));
        others.flat_map(|(_, lives)| lives).filter(|o| o.shares_memory(life))
    }
}

fn check_in_place(p: &Program, lives: &[Life]) -> Result<()> {
    for (s, r, w) in &p.plan.in_place {
        let Some(step) = p.steps.get(*s) else {
            fail!("the memory plan declares step {s} in place, but there are {}", p.steps.len());
        };
        let (Some(read), Some(write)) = (step.reads.get(*r), step.writes.get(*w)) else {
            fail!(
                "the memory plan declares the ports {r} and {w} in place, but {} lacks one",
                place(*s, step)
            );
        };
        if read.buffer == write.buffer {
            continue;
        }
        let (a, b) = (&lives[read.buffer.index()], &lives[write.buffer.index()]);
        let what = format!("{} is declared to overwrite b{} with b{}", place(*s, step), a.buffer, b.buffer);
        let (x, y) = (p.buffer(read.buffer), p.buffer(write.buffer));
        if x.kind != BufferKind::Temp || y.kind != BufferKind::Temp {
            fail!("{what}, but not both are temporaries");
        }
        if x.bytes() != y.bytes() || x.dtype.size() != y.dtype.size() || a.start != b.start {
            fail!("{what}, but they are not the same bytes of the arena with elements of the same size");
        }
        if a.last != *s || b.first != *s {
            fail!("{what}, but the one is read later or the other written before");
        }
        for (other, port) in step.reads.iter().enumerate() {
            if port.buffer == read.buffer {
                in_place::check(step, other, *w).map_err(|e| e.at(place(*s, step)))?;
            }
        }
    }
    Ok(())
}
