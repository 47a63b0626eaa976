//! Lets the step that computes a state variable's new value write the variable itself.
//!
//! A lowered program computes every update in a temporary and copies it at the end, which is the
//! meaning of a parallel assignment. A copy is dropped where all steps that need the old value, and
//! all steps that can fail, can run before the writer. It stays where other steps read the new value:
//! then every read of a variable means the old value, which is what the verifier checks.

use std::collections::BTreeMap;

use graphc_ir::Result;
use graphc_ir::program::{BufferId, BufferKind, Form, InstOp, Kernel, Program, Step};

use super::deps::Graph;
use super::in_place::may_share;
use super::region::distinct_elements;

/// Nodes that the searches for cycles may visit, in multiples of the graph's size; copies beyond it stay.
const SEARCH_BUDGET: usize = 64;

/// Steps by the buffer that they access, ascending, each as often as it has ports there.
struct Index {
    readers: Vec<Vec<u32>>,
    writers: Vec<Vec<u32>>,
}

impl Index {
    fn of(program: &Program) -> Index {
        let mut readers = vec![Vec::new(); program.buffers.len()];
        let mut writers = vec![Vec::new(); program.buffers.len()];
        for (i, step) in program.steps.iter().enumerate() {
            step.reads.iter().for_each(|p| readers[p.buffer.index()].push(i as u32));
            step.writes.iter().for_each(|p| writers[p.buffer.index()].push(i as u32));
        }
        Index { readers, writers }
    }
}

/// Drops every state copy that may go, in the order of the copies, and reorders the steps accordingly.
///
/// `overwrite` allows a writer that reads the old value of the variable itself, elementwise.
pub(super) fn write_states_directly(mut program: Program, overwrite: bool) -> Result<Program> {
    let exposed = exposed(&program);
    let copies: Vec<(u32, BufferId, BufferId)> = program
        .steps
        .iter()
        .enumerate()
        .filter_map(|(i, step)| state_copy(&program, step).map(|(temp, state)| (i as u32, temp, state)))
        .filter(|(_, temp, state)| !exposed[temp.index()] && !exposed[state.index()])
        .collect();
    if copies.is_empty() {
        return Ok(program);
    }
    let index = Index::of(&program);
    let mut graph = Graph::of(&program);
    let fails_later = reaches_fallible(&program, &graph)?;
    let mut search = Search::new(&graph);
    let mut replacement: Vec<Option<BufferId>> = vec![None; program.buffers.len()];
    let mut dropped = vec![false; program.steps.len()];

    for (copy, temp, state) in copies {
        let readers = &index.readers[state.index()];
        let writers = &index.writers[temp.index()];
        let others: Vec<u32> =
            readers.iter().copied().filter(|r| writers.binary_search(r).is_err()).collect();
        let legal = index.readers[temp.index()] == [copy]
            && index.writers[state.index()].len() == 1
            && readers.iter().all(|r| *r < copy)
            && writers.iter().all(|w| {
                !fails_later[*w as usize]
                    && may_write_state(&program, &program.steps[*w as usize], temp, state, overwrite)
            })
            && !search.reaches(&graph, writers, &others);
        if !legal {
            continue;
        }
        let join = graph.join();
        others.iter().for_each(|r| graph.edge(*r, join));
        writers.iter().for_each(|w| graph.edge(join, *w));
        replacement[temp.index()] = Some(state);
        dropped[copy as usize] = true;
    }

    let order = graph.topological()?;
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut program.steps).into_iter().map(Some).collect();
    for i in order {
        let Some(mut step) = steps[i as usize].take().filter(|_| !dropped[i as usize]) else { continue };
        for port in &mut step.writes {
            port.buffer = replacement[port.buffer.index()].unwrap_or(port.buffer);
        }
        program.steps.push(step);
    }
    Ok(program)
}

/// The temporary and the variable of a step that does nothing but copy one to the other.
fn state_copy(program: &Program, step: &Step) -> Option<(BufferId, BufferId)> {
    let Kernel::Nest(nest) = &step.kernel else { return None };
    let ([read], [write]) = (&step.reads[..], &step.writes[..]) else { return None };
    let ([inst], [store]) = (&nest.body.insts[..], &nest.body.stores[..]) else { return None };
    let (from, to) = (program.buffer(read.buffer), program.buffer(write.buffer));
    let domain = [&nest.rows[..], &nest.cols].concat();
    let copies_all = inst.op == InstOp::Load(0)
        && store.write == 0
        && nest.body.checks.is_empty()
        && read.view == write.view
        && read.view.guard.is_none()
        && distinct_elements(&domain, nest.rows.len(), inst.level, &write.view)
            == Some(to.shape.iter().product());
    let alike = from.kind == BufferKind::Temp
        && matches!(to.kind, BufferKind::State(_))
        && (from.form, to.form) == (Form::Dense, Form::Dense)
        && from.dtype == to.dtype
        && inst.dtype == to.dtype
        && from.shape.iter().product::<usize>() == to.shape.iter().product::<usize>();
    (copies_all && alike).then_some((read.buffer, write.buffer))
}

/// Buffers whose content is seen other than through steps: results, and variables under two names.
fn exposed(program: &Program) -> Vec<bool> {
    let mut exposed = vec![false; program.buffers.len()];
    for id in &program.outputs {
        exposed[id.index()] = true;
    }
    let mut first: BTreeMap<usize, usize> = BTreeMap::new();
    for (b, decl) in program.buffers.iter().enumerate() {
        if let BufferKind::State(variable) = decl.kind
            && let Some(other) = first.insert(variable, b)
        {
            exposed[other] = true;
            exposed[b] = true;
        }
    }
    exposed
}

/// Whether a writer of the temporary stays right when it writes the variable instead.
fn may_write_state(program: &Program, step: &Step, temp: BufferId, state: BufferId, overwrite: bool) -> bool {
    // Views of these count elements; other kernels write buffers of a given shape.
    let by_view = step.kernel.swept().is_some();
    if !by_view && program.buffer(temp).shape != program.buffer(state).shape {
        return false;
    }
    let mut writes = step.writes.iter().enumerate().filter(|(_, p)| p.buffer == temp);
    let (Some((write, _)), None) = (writes.next(), writes.next()) else { return false };
    let mut old = step.reads.iter().enumerate().filter(|(_, p)| p.buffer == state);
    old.all(|(read, _)| overwrite && may_share(step, read, write))
}

/// Which nodes can fail, or have to run before a step that can.
///
/// Edges that are added later lead to steps that do not, so the answer stays right.
fn reaches_fallible(program: &Program, graph: &Graph) -> Result<Vec<bool>> {
    let mut reaches = vec![false; graph.steps()];
    for i in graph.topological()?.into_iter().rev() {
        // A join (the commit point) leads to state writes only, behind which nothing can fail.
        let later = |j: &u32| reaches.get(*j as usize).copied().unwrap_or(false);
        reaches[i as usize] = program.steps[i as usize].can_fail() || graph.after(i).iter().any(later);
    }
    Ok(reaches)
}

/// Reachability with a budget over all questions.
struct Search {
    marks: Vec<u32>,
    round: u32,
    budget: usize,
}

impl Search {
    fn new(graph: &Graph) -> Search {
        Search { marks: Vec::new(), round: 0, budget: SEARCH_BUDGET * (graph.len() + graph.edges()) }
    }

    /// Whether a path leads from any of `from` to any of `to`; also true when the budget is spent.
    fn reaches(&mut self, graph: &Graph, from: &[u32], to: &[u32]) -> bool {
        if to.is_empty() {
            return false;
        }
        // Two marks a round: the lower one for nodes that were visited, the upper one for goals.
        self.round += 2;
        let (visited, goal) = (self.round, self.round + 1);
        self.marks.resize(graph.len(), 0);
        to.iter().for_each(|t| self.marks[*t as usize] = goal);
        let mut stack = from.to_vec();
        while let Some(node) = stack.pop() {
            for next in graph.after(node) {
                let mark = &mut self.marks[*next as usize];
                if self.budget == 0 || *mark == goal {
                    return true;
                }
                self.budget -= 1;
                if *mark != visited {
                    *mark = visited;
                    stack.push(*next);
                }
            }
        }
        false
    }
}
