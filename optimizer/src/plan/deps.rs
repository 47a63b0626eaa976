//! The order that data demands: which steps must come before which.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use graphc_ir::program::{BufferKind, Program};
use graphc_ir::{Result, fail};

use super::region::Region;

/// Accesses of one buffer that are compared one by one; beyond this number all of them are ordered
/// before the next write, which is sound and keeps the cost linear.
const MAX_OPEN_ACCESSES: usize = 256;

/// A dependency graph. The first nodes are the program's steps; the others only join edges.
pub(super) struct Graph {
    steps: usize,
    after: Vec<Vec<u32>>,
}

/// A step's access of a buffer.
struct Access {
    step: u32,
    region: Region,
}

/// What later accesses of a buffer may depend on.
#[derive(Default)]
struct Open {
    reads: Vec<Access>,
    writes: Vec<Access>,
}

impl Graph {
    /// Data, anti and output dependencies of a program in a valid order, and the rule of the commit
    /// point: every step that can fail comes before every step that writes state.
    pub fn of(program: &Program) -> Graph {
        let n = program.steps.len();
        let mut graph = Graph { steps: n, after: vec![Vec::new(); n] };
        let mut writers = vec![0usize; program.buffers.len()];
        for port in program.steps.iter().flat_map(|s| &s.writes) {
            writers[port.buffer.index()] += 1;
        }
        let mut open: Vec<Open> = Vec::new();
        open.resize_with(program.buffers.len(), Open::default);
        let barrier = graph.join();

        for (i, step) in program.steps.iter().enumerate() {
            for (p, port) in step.reads.iter().enumerate() {
                let b = port.buffer.index();
                // Nothing can be told apart in a buffer that is written at once.
                let region = match writers[b] {
                    0 => continue,
                    1 => Region::Everything,
                    _ => Region::read(program, step, p),
                };
                graph.read(&mut open[b], Access { step: i as u32, region });
            }
            for (p, port) in step.writes.iter().enumerate() {
                let b = port.buffer.index();
                let region = match writers[b] {
                    1 => Region::Everything,
                    _ => Region::written(program, step, p),
                };
                graph.write(&mut open[b], Access { step: i as u32, region });
            }
            if step.can_fail() {
                graph.edge(i as u32, barrier);
            }
            if step.writes.iter().any(|p| matches!(program.buffer(p.buffer).kind, BufferKind::State(_))) {
                graph.edge(barrier, i as u32);
            }
        }
        graph
    }

    fn read(&mut self, open: &mut Open, access: Access) {
        for write in &open.writes {
            if !write.region.disjoint(&access.region) {
                self.edge(write.step, access.step);
            }
        }
        open.reads.push(access);
    }

    fn write(&mut self, open: &mut Open, mut access: Access) {
        let crowded = open.writes.len().max(open.reads.len()) >= MAX_OPEN_ACCESSES;
        for earlier in open.writes.iter().chain(&open.reads) {
            if crowded || !earlier.region.disjoint(&access.region) {
                self.edge(earlier.step, access.step);
            }
        }
        if crowded {
            *open = Open::default();
            access.region = Region::Everything;
        }
        open.writes.push(access);
    }

    /// A new node that is no step.
    pub fn join(&mut self) -> u32 {
        self.after.push(Vec::new());
        self.after.len() as u32 - 1
    }

    /// Orders `first` before `second`.
    pub fn edge(&mut self, first: u32, second: u32) {
        if first != second && self.after[first as usize].last() != Some(&second) {
            self.after[first as usize].push(second);
        }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.after.len()
    }

    /// Number of steps, the first nodes.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Nodes that wait for a node.
    pub fn after(&self, node: u32) -> &[u32] {
        &self.after[node as usize]
    }

    /// Number of edges.
    pub fn edges(&self) -> usize {
        self.after.iter().map(Vec::len).sum()
    }

    /// The graph with every edge turned around.
    pub fn reversed(&self) -> Graph {
        let mut after = vec![Vec::new(); self.after.len()];
        for (i, next) in self.after.iter().enumerate() {
            for j in next {
                after[*j as usize].push(i as u32);
            }
        }
        Graph { steps: self.steps, after }
    }

    /// How many edges lead to each node.
    pub fn indegrees(&self) -> Vec<u32> {
        let mut count = vec![0; self.after.len()];
        for j in self.after.iter().flatten() {
            count[*j as usize] += 1;
        }
        count
    }

    /// The steps in the legal order that is nearest to the program's.
    pub fn topological(&self) -> Result<Vec<u32>> {
        let mut waiting = self.indegrees();
        // A join runs as soon as it can: it must not hold back the steps behind it.
        let key = |node: u32| if node as usize >= self.steps { (0, node) } else { (1, node) };
        let mut ready: BinaryHeap<Reverse<(u8, u32)>> =
            (0..self.len() as u32).filter(|i| waiting[*i as usize] == 0).map(|i| Reverse(key(i))).collect();
        let mut order = Vec::with_capacity(self.steps);
        while let Some(Reverse((_, node))) = ready.pop() {
            if (node as usize) < self.steps {
                order.push(node);
            }
            for next in self.after(node) {
                let left = &mut waiting[*next as usize];
                *left -= 1;
                if *left == 0 {
                    ready.push(Reverse(key(*next)));
                }
            }
        }
        if order.len() != self.steps {
            let stuck = (0..self.steps).find(|i| waiting[*i] > 0).unwrap_or_default();
            fail!("step {stuck} waits for itself: a step that can fail depends on a state write");
        }
        Ok(order)
    }
}
