//! The order of steps: reads after writes, one writer an element, and the commit point.

use std::collections::HashSet;

use super::access::{Access, Side};
use super::region::Radix;
use super::written::Written;
use super::{in_place, place};
use crate::error::Result;
use crate::program::{BufferId, BufferKind, Program, Step};

pub(super) fn check(p: &Program) -> Result<()> {
    let mut radixes: Vec<Radix> = p.buffers.iter().map(|b| Radix::new(&b.shape)).collect();
    let mut writes: Vec<Vec<Access>> = p.buffers.iter().map(|_| Vec::new()).collect();
    // Looked up only.
    let mut refused: Vec<HashSet<Radix>> = vec![HashSet::new(); p.buffers.len()];
    for access in p.steps.iter().flat_map(|step| accesses(p, step, Side::Write)) {
        let i = access.buffer.index();
        radixes[i].refine_keeping(&access, &writes[i], &mut refused[i]);
        writes[i].push(access);
    }
    for access in p.steps.iter().flat_map(|step| accesses(p, step, Side::Read)) {
        let i = access.buffer.index();
        radixes[i].refine_keeping(&access, &writes[i], &mut refused[i]);
    }
    let mut written: Vec<Written> = p.buffers.iter().map(|_| Written::default()).collect();
    for (i, step) in p.steps.iter().enumerate() {
        check_step(p, i, step, &radixes, &mut written).map_err(|e| e.at(place(i, step)))?;
    }
    for (i, id) in p.outputs.iter().enumerate() {
        let whole = radixes[id.index()].whole();
        if !written[id.index()].covers(&whole, elements(p, *id)) {
            fail!("output {i} (buffer b{}) is not written completely by any step", id.0);
        }
    }
    Ok(())
}

fn elements(p: &Program, id: BufferId) -> usize {
    p.buffer(id).shape.iter().product()
}

fn accesses(p: &Program, step: &Step, side: Side) -> Vec<Access> {
    (0..side.ports(step).len()).map(|i| Access::of(p, step, side, i)).collect()
}

fn check_step(
    p: &Program,
    index: usize,
    step: &Step,
    radixes: &[Radix],
    written: &mut [Written],
) -> Result<()> {
    if index >= p.commit && step.can_fail() {
        fail!(
            "it can fail, but it comes after the commit point {}, where state is written already",
            p.commit
        );
    }
    let (reads, writes) = (accesses(p, step, Side::Read), accesses(p, step, Side::Write));
    for (r, read) in reads.iter().enumerate() {
        let id = read.buffer;
        let region = radixes[id.index()].region(read);
        let before = &written[id.index()];
        match p.buffer(id).kind {
            BufferKind::Temp | BufferKind::Output(_) => {
                if !before.covers(&region, elements(p, id)) {
                    fail!("read port {r} reads elements of buffer b{} that no earlier step wrote", id.0);
                }
            }
            BufferKind::State(s) => {
                if let Some(step) = before.writer_of(&region) {
                    fail!("read port {r} reads state {s}, which step {step} has overwritten");
                }
            }
            BufferKind::Input(_) | BufferKind::Const(_) | BufferKind::Staged(_) => {}
        }
        for (w, write) in writes.iter().enumerate().filter(|(_, w)| w.buffer == id) {
            if radixes[id.index()].region(write).overlaps(&region) {
                in_place::check(step, r, w)?;
            }
        }
    }
    for (w, write) in writes.iter().enumerate() {
        let id = write.buffer;
        match p.buffer(id).kind {
            BufferKind::Input(_) | BufferKind::Const(_) | BufferKind::Staged(_) => {
                fail!("write port {w} writes buffer b{}, which is read only", id.0);
            }
            BufferKind::State(s) if index < p.commit => {
                fail!("write port {w} writes state {s} before the commit point {}", p.commit);
            }
            BufferKind::State(_) | BufferKind::Temp | BufferKind::Output(_) => {}
        }
        let region = radixes[id.index()].region(write);
        if let Some(earlier) = written[id.index()].writer_of(&region) {
            fail!("write port {w} writes elements of buffer b{} that step {earlier} wrote", id.0);
        }
        written[id.index()].add(index, region);
    }
    Ok(())
}
