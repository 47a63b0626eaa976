//! Places: sharing where it is legal and only there, scratch, sizes that overflow, regions.

use std::collections::BTreeSet;

use graphc_ir::program::{FoldAxis, Kernel};

use super::random::Rng;
use super::sketch::{Read, Sketch, fold, half_sum};
use super::{OPTIONS, planned};
use crate::plan::deps::Graph;
use crate::plan::region::Region;
use crate::plan::{PlanOptions, plan};

const N: [usize; 2] = [8, 8];
const BYTES: usize = 256;

#[test]
fn a_chain_of_maps_runs_in_one_place() {
    let mut s = Sketch::default();
    let (x, y) = (s.input(&N), s.output(&N));
    let mut last = x;
    for _ in 0..5 {
        let t = s.temp(&N);
        s.mean(&[Read::Same(last)], t);
        last = t;
    }
    s.copy(last, y);
    let program = s.finish();
    let shared = planned(&program, &OPTIONS[0]).plan;
    assert_eq!((shared.arena_bytes, shared.live_bytes, shared.in_place.len()), (BYTES, BYTES, 4));
    let apart = planned(&program, &OPTIONS[1]).plan;
    assert_eq!((apart.arena_bytes, apart.in_place.len()), (2 * BYTES, 0));
    assert_eq!(planned(&program, &OPTIONS[2]).plan.arena_bytes, 5 * BYTES);
}

#[test]
fn only_elementwise_operands_are_overwritten() {
    type Build = fn(&mut Sketch, graphc_ir::program::BufferId, graphc_ir::program::BufferId) -> usize;
    let cases: [(&str, Build, usize); 7] = [
        ("map", |s, t, u| s.mean(&[Read::Same(t)], u), 1),
        ("epilogue", |s, t, u| s.dot(s.program.inputs[0], s.program.inputs[0], &[t], u), 1),
        ("twice", |s, t, u| s.mean(&[Read::Same(t), Read::Same(t)], u), 1),
        ("transposed", |s, t, u| s.mean(&[Read::Transposed(t)], u), 0),
        ("both ways", |s, t, u| s.mean(&[Read::Same(t), Read::Transposed(t)], u), 0),
        ("operand", |s, t, u| s.dot(t, s.program.inputs[0], &[t], u), 0),
        (
            "row cluster",
            |s, t, u| {
                s.nest(N, &[Read::Same(t)], &[u], |body, x| {
                    let mean = fold(body, x[0], FoldAxis::Cols);
                    vec![half_sum(body, &[x[0], mean])]
                })
            },
            0,
        ),
    ];
    for (name, build, shared) in cases {
        let mut s = Sketch::default();
        let (x, y) = (s.input(&N), s.output(&N));
        let (t, u) = (s.temp(&N), s.temp(&N));
        s.mean(&[Read::Same(x)], t);
        build(&mut s, t, u);
        s.copy(u, y);
        let plan = planned(&s.finish(), &OPTIONS[0]).plan;
        assert_eq!(plan.in_place.len(), shared, "{name}");
        assert_eq!(plan.arena_bytes, (2 - shared) * BYTES, "{name}");
    }
}

#[test]
fn an_operand_with_a_later_reader_is_not_overwritten() {
    let mut s = Sketch::default();
    let (x, y, z) = (s.input(&N), s.output(&N), s.output(&N));
    let (t, u) = (s.temp(&N), s.temp(&N));
    s.mean(&[Read::Same(x)], t);
    s.mean(&[Read::Same(t)], u);
    s.mean(&[Read::Same(t), Read::Transposed(u)], y);
    s.copy(t, z);
    let plan = planned(&s.finish(), &OPTIONS[0]).plan;
    assert!(plan.in_place.is_empty());
    assert_eq!(plan.arena_bytes, 2 * BYTES);
}

#[test]
fn scratch_is_live_during_its_step_alone() {
    let mut s = Sketch::default();
    let (x, y) = (s.input(&N), s.output(&N));
    let (t, u) = (s.temp(&N), s.temp(&N));
    s.dot(x, x, &[], t);
    s.dot(t, x, &[], u);
    s.dot(u, x, &[], y);
    for (i, bytes) in [1000, 10, 700].into_iter().enumerate() {
        s.program.steps[i].choice.scratch_bytes = bytes;
    }
    let plan = planned(&s.finish(), &OPTIONS[0]).plan;
    assert_eq!(plan.live_bytes, BYTES + 1000);
    assert_eq!(plan.arena_bytes, BYTES + 1024);
    assert!(plan.scratch.iter().all(|o| o % 64 == 0));
}

#[test]
fn unused_temporaries_disappear() {
    let mut s = Sketch::default();
    let unused = s.temp(&[1 << 20]);
    let (x, y) = (s.input(&N), s.output(&N));
    let t = s.temp(&N);
    s.mean(&[Read::Same(x)], t);
    s.copy(t, y);
    let program = s.finish();
    assert_eq!(unused.0, 0);
    let plan = planned(&program, &OPTIONS[0]);
    assert_eq!((plan.buffers.len(), plan.inputs[0].0, plan.outputs[0].0), (3, 0, 1));
    assert_eq!(plan.plan.arena_bytes, BYTES);
}

#[test]
fn sizes_that_overflow_are_errors() {
    let mut s = Sketch::default();
    let (x, y) = (s.input(&N), s.output(&N));
    s.copy(x, y);
    s.program.steps[0].choice.scratch_bytes = usize::MAX - 100;
    let error = plan(s.finish(), &OPTIONS[0]).expect_err("more bytes than an address");
    assert!(error.message.contains("more bytes"), "{error}");

    let mut s = Sketch::default();
    s.temp(&[1 << 40, 1 << 40]);
    let x = s.input(&[1 << 40, 1 << 40]);
    let t = s.temp(&[1 << 40, 1 << 40]);
    s.mean(&[Read::Same(x)], t);
    let error = plan(s.finish(), &OPTIONS[0]).expect_err("more bytes than an address");
    assert!(error.message.contains("more bytes"), "{error}");

    let mut s = Sketch::default();
    let x = s.input(&N);
    for _ in 0..3 {
        let t = s.temp(&[1 << 30, 1 << 30]);
        let at = s.mean(&[Read::Same(x)], t);
        s.program.steps[at].reads[0].view.strides = vec![0, 0];
    }
    let error = plan(s.finish(), &OPTIONS[0]).expect_err("more bytes than an address");
    assert!(error.message.contains("more bytes"), "{error}");
}

#[test]
fn alignments_are_powers_of_two() {
    let error = plan(Sketch::default().finish(), &PlanOptions { alignment: 48, ..OPTIONS[0] });
    assert!(error.expect_err("48").message.contains("powers of two"));
}

#[test]
fn an_empty_program_has_an_empty_plan() {
    let plan = planned(&Sketch::default().finish(), &OPTIONS[0]);
    assert_eq!((plan.plan.arena_bytes, plan.commit), (0, 0));
}

#[test]
fn slabs_of_a_concatenation_are_written_in_any_order() {
    // Along the last axis slabs interleave in memory: columns 0..3 and 3..8, or overlapping ones.
    for (second, edges) in [(3, 0), (2, 1)] {
        let mut s = Sketch::default();
        let x = s.input(&N);
        let t = s.temp(&N);
        for (from, to) in [(0, 3), (second, 8)] {
            let at = s.mean(&[Read::Same(x)], t);
            let step = &mut s.program.steps[at];
            let Kernel::Nest(nest) = &mut step.kernel else { unreachable!("a map is a nest") };
            nest.cols = vec![to - from];
            step.writes[0].view.offset = from as isize;
        }
        assert_eq!(Graph::of(&s.finish()).edges(), edges);
    }
}

#[test]
fn regions_that_are_called_disjoint_are() {
    let mut rng = Rng(11);
    let mut found = 0;
    for _ in 0..4000 {
        let region = |rng: &mut Rng| {
            let mut s = Sketch::default();
            let x = s.input(&[400]);
            let y = s.output(&[400]);
            let (rows, cols) = (rng.below(4), 1 + rng.below(4));
            let at = s.nest([rows, cols], &[Read::Same(x)], &[y], |_, x| vec![x[0]]);
            let strides = [rng.below(13) as isize - 6, rng.below(9) as isize - 4];
            let view = &mut s.program.steps[at].writes[0].view;
            (view.offset, view.strides) = (100 + rng.below(12) as isize, strides.to_vec());
            let mut elements = BTreeSet::new();
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                elements.insert(view.offset + r as isize * strides[0] + c as isize * strides[1]);
            }
            (Region::written(&s.program, &s.program.steps[at], 0), elements)
        };
        let ((a, in_a), (b, in_b)) = (region(&mut rng), region(&mut rng));
        assert_eq!(a.disjoint(&b), b.disjoint(&a));
        if a.disjoint(&b) {
            found += 1;
            assert!(in_a.is_disjoint(&in_b), "{a:?} {b:?}");
        }
    }
    assert!(found > 1000, "{found}");
}
