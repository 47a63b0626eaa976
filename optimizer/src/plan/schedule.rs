//! Orders steps so that little is live at the same time.
//!
//! Minimal peak memory is NP-hard. Several list schedules are made, in both directions, and the best
//! one wins; the program's own order wins ties, because it keeps producers close to consumers.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use graphc_ir::Result;
use graphc_ir::program::Program;

use super::deps::Graph;
use super::in_place::{Groups, shares};
use super::lifetimes::Lifetimes;
use super::uses::Uses;

/// How the next step is picked among those that are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// The one that frees most, or allocates least.
    NetBytes,
    /// The one that frees most; if all allocate, the one that became ready last.
    DepthFirst,
}

/// The schedule with the lowest peak that was found.
///
/// # Errors
/// If the dependencies form a cycle.
pub(super) fn order(
    program: &Program,
    graph: &Graph,
    uses: &Uses,
    pairs: &[Vec<(usize, usize)>],
) -> Result<Vec<u32>> {
    let mut best = graph.topological()?;
    if best.len() < 3 {
        return Ok(best);
    }
    let mut lowest = peak(program, uses, &best, pairs);
    let reversed = graph.reversed();
    for policy in [Policy::NetBytes, Policy::DepthFirst] {
        let forward = list_schedule(graph, uses, policy);
        let mut backward = list_schedule(&reversed, uses, policy);
        backward.reverse();
        for candidate in [forward, backward] {
            let bytes = peak(program, uses, &candidate, pairs);
            if bytes < lowest {
                (best, lowest) = (candidate, bytes);
            }
        }
    }
    Ok(best)
}

/// Peak bytes of a schedule, with in-place results counted once and with scratch.
fn peak(program: &Program, uses: &Uses, order: &[u32], pairs: &[Vec<(usize, usize)>]) -> i128 {
    let lifetimes = Lifetimes::of(uses, order);
    let groups = Groups::of(uses.buffers(), &shares(program, uses, order, &lifetimes, pairs));
    let mut change = vec![0i128; order.len() + 1];
    for (b, live) in lifetimes.live.iter().enumerate() {
        let Some(live) = live else { continue };
        // A result in place continues its operand, which was counted up to and with this step.
        let first = if groups.root(b) == b { live.first } else { live.first + 1 };
        change[first as usize] += uses.bytes[b] as i128;
        change[live.last as usize + 1] -= uses.bytes[b] as i128;
    }
    let (mut live, mut peak) = (0i128, 0i128);
    for (at, step) in order.iter().enumerate() {
        live += change[at];
        peak = peak.max(live + uses.scratch[*step as usize] as i128);
    }
    peak
}

/// A temporary while a schedule is made.
struct Liveness {
    bytes: i128,
    accessors: Vec<u32>,
    /// Accessors that are not scheduled yet.
    left: usize,
    allocated: bool,
}

impl Liveness {
    /// What one of the accessors that are left adds to the free memory.
    fn freed(&self) -> i128 {
        match (self.allocated, self.left) {
            (true, 1) => self.bytes,
            (false, 2..) => -self.bytes,
            _ => 0,
        }
    }
}

/// One list schedule. On the reversed graph the roles of the first and the last access are exchanged,
/// and nothing else changes.
fn list_schedule(graph: &Graph, uses: &Uses, policy: Policy) -> Vec<u32> {
    let steps = graph.steps();
    let mut temps: Vec<Liveness> = uses
        .bytes
        .iter()
        .map(|b| Liveness { bytes: *b as i128, accessors: Vec::new(), left: 0, allocated: false })
        .collect();
    for (i, touched) in uses.temps.iter().enumerate() {
        for b in touched {
            temps[*b as usize].accessors.push(i as u32);
            temps[*b as usize].left += 1;
        }
    }
    let mut freed = vec![0i128; graph.len()];
    for (i, touched) in uses.temps.iter().enumerate() {
        freed[i] = touched.iter().map(|b| temps[*b as usize].freed()).sum();
    }

    let mut waiting = graph.indegrees();
    // When each node became ready; 0 while it is not, the largest number once it is scheduled.
    let mut ready_since = vec![0u64; graph.len()];
    const SCHEDULED: u64 = u64::MAX;
    let key = |node: u32, freed: i128, since: u64| match policy {
        _ if node as usize >= steps => (2, 0, Reverse(node)),
        Policy::DepthFirst if freed < 0 => (0, since as i128, Reverse(node)),
        Policy::DepthFirst => (1, freed, Reverse(node)),
        Policy::NetBytes => (0, freed, Reverse(node)),
    };
    let mut ready = BTreeSet::new();
    let mut clock = 1;
    for node in 0..graph.len() as u32 {
        if waiting[node as usize] == 0 {
            ready_since[node as usize] = clock;
            ready.insert(key(node, freed[node as usize], clock));
        }
    }
    let mut order = Vec::with_capacity(steps);
    while let Some((_, _, Reverse(node))) = ready.pop_last() {
        clock += 1;
        ready_since[node as usize] = SCHEDULED;
        if (node as usize) < steps {
            order.push(node);
            for b in &uses.temps[node as usize] {
                let temp = &mut temps[*b as usize];
                let before = temp.freed();
                temp.allocated = true;
                temp.left -= 1;
                let gain = temp.freed() - before;
                if gain == 0 || temp.left == 0 {
                    continue;
                }
                for other in &temps[*b as usize].accessors {
                    let (since, value) = (ready_since[*other as usize], &mut freed[*other as usize]);
                    if since == SCHEDULED {
                        continue;
                    }
                    if since > 0 {
                        ready.remove(&key(*other, *value, since));
                        ready.insert(key(*other, *value + gain, since));
                    }
                    *value += gain;
                }
            }
        }
        for next in graph.after(node) {
            let left = &mut waiting[*next as usize];
            *left -= 1;
            if *left == 0 {
                ready_since[*next as usize] = clock;
                ready.insert(key(*next, freed[*next as usize], clock));
            }
        }
    }
    order
}
