//! Places of a sweep's arrays in the scratch of a part: arrays that no operation needs any more are
//! reused, so that the arrays of a tile stay in the first cache.

use std::collections::BTreeMap;
use std::ops::Range;

use super::op::{Along, Op, ValueId};
use super::sweep::{Initial, Sweep};
use crate::memory::ALIGNMENT;

/// Gives each value with an array its place, and the sweep the size of a part's scratch.
pub fn assign(sweep: &mut Sweep, sizes: &[usize]) {
    let mut next = Sweep::table_bytes(sizes.len());
    let lives = lives(sweep);
    let place = |sweep: &mut Sweep, value: usize, at: usize| {
        sweep.initial[value] = Initial::Scratch(at);
    };
    for (value, &size) in sizes.iter().enumerate() {
        if size > 0 && !lives.contains_key(&ValueId(value as u32)) {
            place(sweep, value, next);
            next += size.next_multiple_of(ALIGNMENT);
        }
    }
    let mut end = next;
    for pass in 0..sweep.passes.len() {
        let mut open: Vec<(usize, Range<usize>)> = Vec::new();
        let mut starting: Vec<(&Range<usize>, ValueId)> = lives
            .iter()
            .filter(|(value, life)| life.pass == pass && sizes[value.0 as usize] > 0)
            .map(|(value, life)| (&life.ops, *value))
            .collect();
        starting.sort_by_key(|(ops, value)| (ops.start, *value));
        for (ops, value) in starting {
            let size = sizes[value.0 as usize].next_multiple_of(ALIGNMENT);
            open.retain(|(last, _)| *last >= ops.start);
            open.sort_by_key(|(_, bytes)| bytes.start);
            // The first gap that is large enough.
            let mut at = next;
            for (_, bytes) in &open {
                if bytes.start >= at + size {
                    break;
                }
                at = at.max(bytes.end);
            }
            open.push((ops.end, at..at + size));
            end = end.max(at + size);
            place(sweep, value.0 as usize, at);
        }
    }
    sweep.region_bytes = end;
}

/// The pass that a value lives in, and its first and last operation there.
struct Life {
    pass: usize,
    ops: Range<usize>,
}

/// The lives of values that one pass alone knows, for the time of one tile.
fn lives(sweep: &Sweep) -> BTreeMap<ValueId, Life> {
    let mut lasting: Vec<ValueId> = Vec::from_iter(sweep.acc);
    sweep.launch.iter().chain(&sweep.column).for_each(|op| op.visit(|value| lasting.push(value)));
    let mut lives: BTreeMap<ValueId, Life> = BTreeMap::new();
    for (pass, ops) in sweep.passes.iter().enumerate() {
        for (index, op) in ops.iter().enumerate() {
            // The states of a row live as long as the row.
            if let Op::Along(Along { state, partial, .. }) = op {
                lasting.extend([*state, *partial]);
            }
            if let Op::Finish { value, .. } = op {
                lasting.push(*value);
            }
            op.visit(|value| {
                let life = lives.entry(value).or_insert(Life { pass, ops: index..index });
                if life.pass == pass {
                    life.ops.end = index;
                } else {
                    lasting.push(value);
                }
            });
        }
    }
    lasting.iter().for_each(|value| {
        lives.remove(value);
    });
    lives
}
