//! Topological order of things that may refer to each other in any order, and their cycles.

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// An order in which everything comes after what it needs.
pub(super) struct Order {
    /// All things; what lies on a cycle comes anywhere.
    pub order: Vec<usize>,
    /// One cycle of every group of things that need each other: each needs the next, the last needs the first.
    pub cycles: Vec<Vec<usize>>,
    /// Whether a thing needs itself, directly or through others.
    pub cyclic: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Not,
    Open,
    Done,
}

/// Orders `needs.len()` things, in linear time and without recursion; what is in order already stays so.
pub(super) fn order(needs: &[Vec<usize>]) -> Order {
    let n = needs.len();
    let mut visits = vec![Visit::Not; n];
    let mut out = Vec::with_capacity(n);
    let mut acyclic = true;
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for start in 0..n {
        if visits[start] != Visit::Not {
            continue;
        }
        visits[start] = Visit::Open;
        stack.push((start, 0));
        while let Some((thing, next)) = stack.last_mut() {
            let thing = *thing;
            let Some(&need) = needs[thing].get(*next) else {
                visits[thing] = Visit::Done;
                out.push(thing);
                stack.pop();
                continue;
            };
            *next += 1;
            match visits[need] {
                Visit::Not => {
                    visits[need] = Visit::Open;
                    stack.push((need, 0));
                }
                Visit::Open => acyclic = false,
                Visit::Done => {}
            }
        }
    }
    let mut result = Order { order: out, cycles: Vec::new(), cyclic: vec![false; n] };
    if !acyclic {
        find_cycles(needs, &mut result);
    }
    result
}

fn find_cycles(needs: &[Vec<usize>], result: &mut Order) {
    let mut graph = DiGraph::<(), (), usize>::with_capacity(needs.len(), needs.len());
    for _ in needs {
        graph.add_node(());
    }
    for (i, list) in needs.iter().enumerate() {
        for j in list {
            graph.add_edge(NodeIndex::new(i), NodeIndex::new(*j), ());
        }
    }
    let mut group = vec![usize::MAX; needs.len()];
    // Kosaraju's algorithm is the one that petgraph implements without recursion.
    for (g, component) in kosaraju_scc(&graph).into_iter().enumerate() {
        for node in &component {
            group[node.index()] = g;
        }
        let Some(first) = component.iter().map(|v| v.index()).min() else { continue };
        if component.len() == 1 && !needs[first].contains(&first) {
            continue;
        }
        for node in &component {
            result.cyclic[node.index()] = true;
        }
        result.cycles.push(walk(needs, &group, first));
    }
    result.cycles.sort();
}

/// A cycle in the group of `first`: follows needs inside the group until a thing comes a second time.
fn walk(needs: &[Vec<usize>], group: &[usize], first: usize) -> Vec<usize> {
    let mut path = vec![first];
    // Positions are kept sparsely: only what is on the path has one.
    let mut position = std::collections::HashMap::from([(first, 0)]);
    let mut at = first;
    while let Some(&next) = needs[at].iter().find(|v| group[**v] == group[first]) {
        if let Some(&from) = position.get(&next) {
            path.drain(..from);
            break;
        }
        position.insert(next, path.len());
        path.push(next);
        at = next;
    }
    let least = path.iter().enumerate().min_by_key(|(_, v)| **v).map_or(0, |(i, _)| i);
    path.rotate_left(least);
    path
}

/// A cycle in words, its middle left out where it is long.
pub(super) fn describe_cycle<'n>(cycle: &[usize], name: impl Fn(usize) -> &'n str) -> String {
    const ENDS: usize = 6;
    let mut parts: Vec<String> = Vec::new();
    for (i, thing) in cycle.iter().enumerate() {
        if cycle.len() > 2 * ENDS && i == ENDS {
            parts.push(format!("… ({} more)", cycle.len() - 2 * ENDS));
        }
        if cycle.len() <= 2 * ENDS || i < ENDS || i >= cycle.len() - ENDS {
            parts.push(format!("`{}`", super::diagnostic::shown(name(*thing))));
        }
    }
    if let Some(first) = cycle.first() {
        parts.push(format!("`{}`", super::diagnostic::shown(name(*first))));
    }
    parts.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_in_the_file_is_kept() {
        let needs = vec![vec![], vec![0], vec![], vec![1, 2], vec![0]];
        let o = order(&needs);
        assert_eq!(o.order, [0, 1, 2, 3, 4]);
        assert!(o.cycles.is_empty() && !o.cyclic.contains(&true));
        assert_eq!(order(&[vec![1], vec![2], vec![]]).order, [2, 1, 0]);
    }

    #[test]
    fn every_cycle_is_found() {
        // 0 <-> 1, 2 alone, 3 -> 3, 4 -> 5 -> 6 -> 4, 7 needs a cycle but is on none.
        let needs = vec![vec![1], vec![0], vec![], vec![3], vec![5], vec![6], vec![4], vec![4]];
        let o = order(&needs);
        assert_eq!(o.cycles, [vec![0, 1], vec![3], vec![4, 5, 6]]);
        assert_eq!(o.cyclic, [true, true, false, true, true, true, true, false]);
        assert_eq!(o.order.len(), 8);
        assert_eq!(describe_cycle(&o.cycles[0], |i| ["a", "b"][i]), "`a` -> `b` -> `a`");
    }

    #[test]
    fn deep_chains_and_cycles_take_no_stack() {
        let n = 200_000;
        let chain: Vec<Vec<usize>> = (0..n).map(|i| if i + 1 < n { vec![i + 1] } else { vec![] }).collect();
        assert_eq!(order(&chain).order.first(), Some(&(n - 1)));
        let ring: Vec<Vec<usize>> = (0..n).map(|i| vec![(i + 1) % n]).collect();
        let o = order(&ring);
        assert_eq!(o.cycles[0].len(), n);
        assert!(describe_cycle(&o.cycles[0], |_| "n").contains("more"));
    }
}
