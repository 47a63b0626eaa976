//! State: which copies go, which stay, and what a failed run leaves.

use graphc_ir::program::{BufferKind, FoldAxis, Program};

use super::random::{contents, interface};
use super::simulate::{Memory, run};
use super::sketch::{Read, Sketch, fold, half_sum, scaled};
use super::{OPTIONS, planned};
use crate::plan::plan;

const N: [usize; 2] = [4, 4];

/// Plans with all options and compares with the unplanned program; the first plan.
fn check(program: &Program) -> Program {
    let (_, want) = run(program, Memory::Separate, contents(program, 1));
    for options in OPTIONS {
        let planned = planned(program, &options);
        let (_, got) = run(&planned, Memory::Arena, contents(&planned, 1));
        assert_eq!(interface(&planned, &got), interface(program, &want), "{options:?}");
    }
    planned(program, &OPTIONS[0])
}

#[test]
fn an_elementwise_update_overwrites_its_variable() {
    let mut s = Sketch::default();
    let (x, w) = (s.input(&N), s.state(&N));
    let new = s.temp(&N);
    s.dot(x, x, &[w], new);
    s.update(w, new);
    let plan = check(&s.finish());
    assert_eq!((plan.steps.len(), plan.commit), (1, 0));
    assert_eq!(plan.plan.arena_bytes, 0);
    assert_eq!(plan.plan.in_place, [(0, 2, 0)]);
}

#[test]
fn without_in_place_an_elementwise_update_is_copied() {
    let mut s = Sketch::default();
    let (x, w) = (s.input(&N), s.state(&N));
    let new = s.temp(&N);
    s.mean(&[Read::Same(x), Read::Same(w)], new);
    s.update(w, new);
    let program = s.finish();
    assert_eq!(planned(&program, &OPTIONS[0]).steps.len(), 1);
    let plan = planned(&program, &OPTIONS[1]);
    assert_eq!((plan.steps.len(), plan.commit), (2, 1));
    assert!(plan.plan.in_place.is_empty());
}

#[test]
fn an_update_that_reads_its_variable_as_an_operand_is_copied() {
    for transposed in [false, true] {
        let mut s = Sketch::default();
        let (x, w) = (s.input(&N), s.state(&N));
        let new = s.temp(&N);
        if transposed {
            s.mean(&[Read::Same(x), Read::Transposed(w)], new);
        } else {
            s.dot(x, w, &[], new);
        }
        s.update(w, new);
        let plan = check(&s.finish());
        assert_eq!((plan.steps.len(), plan.commit), (2, 1));
    }
}

#[test]
fn the_last_readers_of_an_old_value_run_before_its_writer() {
    let mut s = Sketch::default();
    let (x, w, y) = (s.input(&N), s.state(&N), s.output(&N));
    let new = s.temp(&N);
    s.mean(&[Read::Same(x), Read::Same(w)], new);
    s.dot(x, w, &[], y);
    s.update(w, new);
    let plan = check(&s.finish());
    assert_eq!((plan.steps.len(), plan.commit), (2, 1));
}

#[test]
fn exchanged_states_keep_one_copy() {
    let mut s = Sketch::default();
    let (a, b) = (s.state(&N), s.state(&N));
    let (ta, tb) = (s.temp(&N), s.temp(&N));
    s.copy(b, ta);
    s.copy(a, tb);
    s.update(a, ta);
    s.update(b, tb);
    let plan = check(&s.finish());
    assert_eq!(plan.steps.len(), 3);
}

#[test]
fn rotated_states_keep_one_copy() {
    let mut s = Sketch::default();
    let states = [s.state(&N), s.state(&N), s.state(&N)];
    for i in 0..3 {
        let t = s.temp(&N);
        s.copy(states[(i + 1) % 3], t);
        s.update(states[i], t);
    }
    let plan = check(&s.finish());
    assert_eq!(plan.steps.len(), 4);
}

#[test]
fn a_new_value_with_other_readers_is_copied() {
    let mut s = Sketch::default();
    let (x, w, y) = (s.input(&N), s.state(&N), s.output(&N));
    let new = s.temp(&N);
    s.mean(&[Read::Same(x), Read::Same(w)], new);
    s.copy(new, y);
    s.update(w, new);
    let plan = check(&s.finish());
    assert_eq!(plan.steps.len(), 3);
}

#[test]
fn a_bias_is_overwritten_by_the_sum_of_its_gradient() {
    let mut s = Sketch::default();
    let (x, b, m) = (s.input(&N), s.state(&[4]), s.state(&[4]));
    let (new, momentum) = (s.temp(&[4]), s.temp(&[4]));
    s.nest(N, &[Read::Same(x), Read::Col(b), Read::Col(m)], &[new, momentum], |body, x| {
        let gradient = fold(body, x[0], FoldAxis::Rows);
        let momentum = half_sum(body, &[gradient, x[2]]);
        vec![half_sum(body, &[momentum, x[1]]), momentum]
    });
    s.update(b, new);
    s.update(m, momentum);
    let plan = check(&s.finish());
    assert_eq!((plan.steps.len(), plan.commit), (1, 0));
}

#[test]
fn a_bias_that_the_sweep_needs_elementwise_is_copied() {
    let mut s = Sketch::default();
    let (x, b, y) = (s.input(&N), s.state(&[4]), s.output(&N));
    let new = s.temp(&[4]);
    s.nest(N, &[Read::Same(x), Read::Col(b)], &[y, new], |body, x| {
        let gradient = fold(body, x[0], FoldAxis::Rows);
        vec![half_sum(body, x), half_sum(body, &[gradient, x[1]])]
    });
    s.update(b, new);
    let plan = check(&s.finish());
    assert_eq!(plan.steps.len(), 2);
}

#[test]
fn the_commit_point_lies_behind_everything_that_can_fail() {
    let mut s = Sketch::default();
    let (x, w, v, y) = (s.input(&N), s.state(&N), s.state(&N), s.output(&N));
    let (new, checked) = (s.temp(&N), s.temp(&N));
    s.mean(&[Read::Same(x), Read::Same(w)], new);
    s.checked(x, 0.0, checked);
    s.copy(checked, y);
    let late = s.temp(&N);
    let before = s.temp(&N);
    s.nest(N, &[Read::Same(v)], &[before], |body, x| vec![scaled(body, x[0], 0.5)]);
    s.checked(before, 1e30, late);
    s.update(w, new);
    s.update(v, late);
    let program = s.finish();
    for options in OPTIONS {
        let plan = planned(&program, &options);
        for (i, step) in plan.steps.iter().enumerate() {
            let state = |b| matches!(plan.buffer(b).kind, BufferKind::State(_));
            assert!(i < plan.commit || !step.can_fail());
            assert!(i >= plan.commit || !step.writes.iter().any(|p| state(p.buffer)));
        }
        let start = contents(&plan, 5);
        let (result, end) = run(&plan, Memory::Arena, start.clone());
        assert_eq!(result, Err("too large".to_string()));
        for (b, decl) in plan.buffers.iter().enumerate() {
            if matches!(decl.kind, BufferKind::State(_)) {
                assert_eq!(start[&(b as u32)], end[&(b as u32)]);
            }
        }
    }
}

#[test]
fn a_writer_that_something_fallible_needs_is_copied() {
    let mut s = Sketch::default();
    let (x, w, y) = (s.input(&N), s.state(&N), s.output(&N));
    let (new, twin, checked) = (s.temp(&N), s.temp(&N), s.temp(&N));
    s.nest(N, &[Read::Same(x), Read::Same(w)], &[new, twin], |body, x| {
        vec![half_sum(body, x), scaled(body, x[1], 0.5)]
    });
    s.checked(twin, 1e30, checked);
    s.copy(checked, y);
    s.update(w, new);
    let plan = check(&s.finish());
    assert_eq!((plan.steps.len(), plan.commit), (4, 3));
}

#[test]
fn a_read_before_the_write_is_an_error() {
    let mut s = Sketch::default();
    let (t, y) = (s.temp(&N), s.output(&N));
    s.copy(t, y);
    let error = plan(s.finish(), &OPTIONS[0]).expect_err("nothing writes the temporary");
    assert!(error.message.contains("before any step writes it"), "{error}");
}

#[test]
fn a_step_that_can_fail_after_a_state_write_is_an_error() {
    let mut s = Sketch::default();
    let (x, w, y) = (s.input(&N), s.state(&N), s.output(&N));
    s.copy(x, w);
    s.checked(w, 1e30, y);
    let error = plan(s.finish(), &OPTIONS[0]).expect_err("the check needs the new state");
    assert!(error.message.contains("waits for itself"), "{error}");
}
