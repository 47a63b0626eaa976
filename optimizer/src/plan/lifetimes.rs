//! Live ranges over a schedule, and how much memory they need at least.

use graphc_ir::{Error, Result};

use super::offsets::Block;
use super::uses::Uses;

/// Positions in the schedule, both inclusive: a step's operands and results live together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// The first step that touches the buffer.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// The live range of every temporary in use.
pub(super) struct Lifetimes {
    /// By buffer; `None` where no step touches it or it is no temporary.
    pub live: Vec<Option<Live>>,
}

impl Lifetimes {
    /// Of a schedule.
    pub fn of(uses: &Uses, order: &[u32]) -> Lifetimes {
        let mut live: Vec<Option<Live>> = vec![None; uses.buffers()];
        for (at, step) in order.iter().enumerate() {
            let at = at as u32;
            for b in &uses.temps[*step as usize] {
                live[*b as usize].get_or_insert(Live { first: at, last: at }).last = at;
            }
        }
        Lifetimes { live }
    }
}

/// Largest sum of the bytes of blocks that live at the same of `steps` positions.
pub(super) fn peak(blocks: &[Block], steps: usize) -> Result<usize> {
    let mut change = vec![0i128; steps + 1];
    for b in blocks {
        change[b.start as usize] += b.bytes as i128;
        change[b.end as usize + 1] -= b.bytes as i128;
    }
    let (mut live, mut peak) = (0, 0);
    for c in change {
        live += c;
        peak = peak.max(live);
    }
    usize::try_from(peak).map_err(|_| too_large())
}

/// The error of a program that no memory can hold.
pub(super) fn too_large() -> Error {
    Error::limit("the temporaries have more bytes in all than an address")
        .help("reduce the sizes of the inputs")
}
