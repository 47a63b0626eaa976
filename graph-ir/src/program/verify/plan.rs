//! The memory plan: places inside the arena, and no two live things in one place.

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

    let mut active: Vec<Life> = Vec::new();
    let mut pending = lives.iter().peekable();
    for (i, step) in p.steps.iter().enumerate() {
        active.retain(|l| l.last >= i);
        while let Some(life) = pending.next_if(|l| l.first == i) {
            for other in active.iter().filter(|o| o.shares_memory(life)) {
                if !declared(p, other, life) {
                    fail!(
                        "temporaries b{} and b{} lie in the same memory and are both live at {}",
                        other.buffer,
                        life.buffer,
                        place(i, step)
                    );
                }
            }
            active.push(*life);
        }
        if step.choice.scratch_bytes == 0 {
            continue;
        }
        let start = plan.scratch[i];
        let end = inside(plan, start, step.choice.scratch_bytes, "the scratch")
            .map_err(|e| e.at(place(i, step)))?;
        let scratch = Life { buffer: 0, first: i, last: i, start, end };
        if let Some(other) = active.iter().find(|o| o.shares_memory(&scratch)) {
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

/// Whether the younger one's first write declares to take the place of the older one's last read.
fn declared(p: &Program, older: &Life, younger: &Life) -> bool {
    older.last == younger.first
        && p.plan.in_place.iter().any(|(s, r, w)| {
            let step = &p.steps[*s];
            *s == younger.first
                && step.reads[*r].buffer.index() == older.buffer
                && step.writes[*w].buffer.index() == younger.buffer
        })
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
