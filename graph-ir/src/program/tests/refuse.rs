//! Broken Programs: buffers, views, order, memory plans, loops. Each is refused for its own reason.

use super::fixtures::*;
use crate::dtype::DType;
use crate::program::*;
use crate::scalar::{Scalar, ScalarFn};

/// What to break, and a part of the sentence that refuses it.
pub type Case = (fn(&mut Program), &'static str);

pub fn refuse(make: fn() -> Program, cases: &[Case]) {
    verified(make());
    for (i, (break_it, sentence)) in cases.iter().enumerate() {
        let mut p = make();
        break_it(&mut p);
        match p.verify() {
            Ok(_) => panic!("case {i} is accepted, but should say `{sentence}`"),
            Err(e) => assert!(e.to_string().contains(sentence), "case {i} says `{e}`, not `{sentence}`"),
        }
    }
}

fn guard(lo: &[usize], hi: &[usize], fill: Scalar) -> Option<Guard> {
    Some(Guard { lo: lo.to_vec(), hi: hi.to_vec(), fill })
}

#[test]
fn declarations() {
    refuse(
        training_step,
        &[
            (|p| p.commit = 7, "the commit point is 7, beyond the 6 steps"),
            (|p| p.outputs = vec![BufferId(4)], "buffer b4 is listed as Output(0), but declared as Temp"),
            (|p| p.inputs = vec![BufferId(40)], "the input buffer b40 does not exist"),
            (|p| p.buffers[4].kind = BufferKind::Input(0), "b4 says that it is input 0"),
            (|p| p.buffers[4].kind = BufferKind::Output(7), "b4 says that it is output 7"),
            (|p| p.buffers[4].kind = BufferKind::Const(0), "buffer b4 is constant 0, but there are 0"),
            (|p| p.buffers[1].kind = BufferKind::State(1), "are both state 1"),
            (|p| p.buffers[4].shape = vec![usize::MAX, 2], "which no tensor can have"),
            (|p| p.buffers[4].shape = vec![1; 40], "which no tensor can have"),
            (|p| p.buffers[3].form = Form::Panels { bytes: 59 }, "packed into 59 bytes, too few for its 15"),
            (|p| p.buffers[3].dtype = DType::I32, "is packed, so it is a float matrix"),
            (|p| p.buffers[1].form = Form::Panels { bytes: 64 }, "state and constants are dense"),
        ],
    );
}

#[test]
fn ports_and_views() {
    refuse(
        training_step,
        &[
            (
                |p| p.steps[0].reads[0].buffer = BufferId(99),
                "step 0 (repack, from `node0`): read port 0 names buffer b99",
            ),
            (|p| drop(p.steps[0].reads.pop()), "it has 0 read and 1 write ports, but its kernel has 1 and 1"),
            (
                |p| drop(p.steps[3].writes.pop()),
                "step 3 (rows, from `node3`): it has 1 read and 0 write ports",
            ),
            (
                |p| p.steps[2].reads[0].view.strides.clear(),
                "the view has 0 strides, but the domain [4, 5] has 2 dims",
            ),
            (
                |p| p.steps[2].reads[0].view.offset = 1,
                "read port 0: the view reaches the elements 1..=20, but buffer b4 has 20",
            ),
            (|p| p.steps[2].reads[0].view.strides[1] = -1, "reaches the elements -4..=15"),
            (|p| p.steps[2].reads[0].view.strides[0] = isize::MAX, "the view reaches the elements"),
            (|p| p.steps[2].writes[0].view.strides = vec![1, 1], "writes some element of buffer b5 twice"),
            (
                |p| p.steps[2].writes[0].view.guard = guard(&[0, 0], &[4, 5], Scalar::F(0.0)),
                "a write has no guard",
            ),
            (
                |p| p.steps[1].reads[0].view.guard = guard(&[0, 0], &[4, 3], Scalar::F(0.0)),
                "only reads of nests have guards",
            ),
            (
                |p| p.steps[2].reads[0].view.guard = guard(&[0], &[4], Scalar::F(0.0)),
                "not of the domain's rank 2",
            ),
            (
                |p| p.steps[2].reads[0].view.guard = guard(&[0, 3], &[4, 2], Scalar::F(0.0)),
                "the guard 3..2 of dim 1",
            ),
            (
                |p| p.steps[2].reads[0].view.guard = guard(&[0, 0], &[4, 6], Scalar::F(0.0)),
                "is not inside 0..5",
            ),
            (
                |p| p.steps[2].reads[0].view.guard = guard(&[0, 0], &[4, 5], Scalar::I(0)),
                "fill I(0) is not a value of f32",
            ),
            (
                |p| p.steps[4].writes[0].view.strides[0] = 5,
                "is stored at the level Col, so the stride of dim 0 is 0",
            ),
            (|p| p.steps[1].reads[0].view.strides = vec![0, 2], "neither of the last two strides [0, 2]"),
            (|p| p.steps[2].reads[0].buffer = BufferId(3), "buffer b3 is packed; only a repack writes"),
            (|p| p.steps[2].writes[0].buffer = BufferId(3), "buffer b3 is packed; only a repack writes"),
            (|p| p.buffers[3].shape = vec![2, 5], "the packed buffer holds [2, 5], but [3, 5] is asked for"),
            (
                |p| p.buffers[1].dtype = DType::F64,
                "have the types f64 and f32, but the kernel does not convert",
            ),
            (|p| p.buffers[0].dtype = DType::F64, "a dot takes two operands of one float type"),
            (|p| nest(p, 2).rows = vec![usize::MAX], "too large to iterate over"),
        ],
    );
}

fn nest(p: &mut Program, step: usize) -> &mut Nest {
    match &mut p.steps[step].kernel {
        Kernel::Nest(n) => n,
        _ => panic!("step {step} is not a nest"),
    }
}

#[test]
fn order() {
    refuse(
        training_step,
        &[
            (
                |p| drop(p.steps.remove(2)),
                "read port 0 reads elements of buffer b5 that no earlier step wrote",
            ),
            (|p| p.steps.swap(1, 2), "step 1 (map, from `node2`): read port 0 reads elements of buffer b4"),
            (
                |p| nest(p, 2).rows = vec![3],
                "step 3 (rows, from `node3`): read port 0 reads elements of buffer b5",
            ),
            (|p| nest(p, 3).rows = vec![3], "output 0 (buffer b6) is not written completely"),
            (|p| p.steps.insert(3, p.steps[2].clone()), "writes elements of buffer b5 that step 2 wrote"),
            (
                |p| p.buffers[2].kind = BufferKind::Staged(0),
                "write port 0 writes buffer b2, which is read only",
            ),
            (|p| p.commit = 6, "write port 0 writes state 1 before the commit point 6"),
            (
                |p| p.commit = 3,
                "step 3 (rows, from `node3`): it can fail, but it comes after the commit point 3",
            ),
            (|p| p.steps.push(p.steps[5].clone()), "reads state 1, which step 5 has overwritten"),
            (
                |p| p.steps[5].reads[0].view = View { offset: 4, strides: vec![-1], guard: None },
                "read port 0 and write port 0 share memory, but their views differ",
            ),
        ],
    );
}

#[test]
fn memory_plans() {
    refuse(
        training_step,
        &[
            (
                |p| p.plan.offsets.clear(),
                "places 0 buffers and the scratch of 6 steps, but there are 8 and 6",
            ),
            (|p| p.plan.scratch.clear(), "places 8 buffers and the scratch of 0 steps"),
            (|p| p.plan.offsets[4] = None, "temporary b4 has no place"),
            (|p| p.plan.offsets[0] = Some(0), "buffer b0 has a place in the arena, but is not temporary"),
            (|p| p.plan.offsets[7] = Some(32), "temporary b7 lies at byte 32, which is not a multiple of 64"),
            (|p| p.plan.offsets[7] = Some(320), "takes 20 bytes from byte 320, beyond the arena's 320"),
            (|p| p.plan.offsets[7] = Some(usize::MAX - 63), "beyond the arena's 320"),
            (
                |p| p.plan.offsets[7] = Some(192),
                "temporaries b5 and b7 lie in the same memory and are both live at step 4",
            ),
            (|p| p.plan.offsets[3] = Some(192), "temporaries b3 and b4 lie in the same memory"),
            (
                |p| p.plan.in_place.clear(),
                "temporaries b4 and b5 lie in the same memory and are both live at step 2",
            ),
            (|p| p.plan.in_place[0].0 = 9, "declares step 9 in place"),
            (|p| p.plan.in_place[0].1 = 9, "declares the ports 9 and 0 in place"),
            (|p| p.plan.in_place[0].0 = 4, "not the same bytes of the arena"),
            (|p| p.plan.in_place[0].0 = 3, "not both are temporaries"),
            (|p| p.steps[3].reads[0].buffer = BufferId(4), "but the one is read later"),
            (|p| p.steps[2].reads[0].view.strides = vec![0, 1], "but their views differ"),
            (|p| p.plan.scratch[1] = 0, "the scratch of step 1 (dot, from `node1`) lies in the memory of b3"),
            (|p| p.plan.scratch[1] = 320, "the scratch takes 64 bytes from byte 320, beyond the arena's 320"),
        ],
    );
}

/// `y = x - max(x)` and `s = sum(exp(x - max))` a row, in place; or with the plain `exp(x)` stored.
fn rows_in_place(stored_needs_fold: bool) -> Program {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[2, 3]);
    let (a, b) = (m.temp(DType::F32, &[2, 3]), m.temp(DType::F32, &[2, 3]));
    let y = m.output(DType::F32, &[2, 3]);
    let copy = || {
        let mut body = Body::default();
        let v = load(&mut body, 0, DType::F32, Level::Elem);
        store(&mut body, v, 0);
        body
    };
    m.nest(&[2], &[3], copy(), &[m.dense(x)], &[m.dense(a)]);
    let mut body = Body::default();
    let v = load(&mut body, 0, DType::F32, Level::Elem);
    let max = fold(&mut body, FoldKind::Max, FoldAxis::Cols, v);
    let shifted = apply(&mut body, ScalarFn::Sub, &[v, max]);
    let plain = apply(&mut body, ScalarFn::Exp, &[v]);
    store(&mut body, if stored_needs_fold { shifted } else { plain }, 0);
    m.nest(&[2], &[3], body, &[m.dense(a)], &[m.dense(b)]);
    m.nest(&[2], &[3], copy(), &[m.dense(b)], &[m.dense(y)]);
    let mut p = m.finish();
    p.plan.offsets[b.index()] = p.plan.offsets[a.index()];
    p.plan.in_place = vec![(1, 0, 0)];
    p
}

#[test]
fn in_place_stores_come_after_the_folds() {
    assert!(verified(rows_in_place(true)).steps[1].allows_in_place(0, 0));
    assert!(!rows_in_place(false).steps[1].allows_in_place(0, 0));
    let e = rows_in_place(false).verify().unwrap_err().to_string();
    assert!(e.contains("the fold %1 does not come before the store"), "{e}");
}

#[test]
fn a_dot_does_not_overwrite_its_operands() {
    let mut m = Make::default();
    let s = m.buffer(DType::F32, &[2, 2], BufferKind::State(0));
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    store(&mut body, acc, 0);
    let kernel = Kernel::Dot(Dot { batch: vec![], m: 2, n: 2, k: 2, body });
    m.step(kernel, &[m.dense(s), m.dense(s)], &[m.dense(s)]);
    let e = m.finish().verify().unwrap_err().to_string();
    assert!(e.contains("a dot reads its operands until its end"), "{e}");
}

#[test]
fn a_value_read_everywhere_is_not_overwritten() {
    // y[i] = x[i] + t and t' = t + 1 in one step: some y might see the new t.
    let mut m = Make::default();
    let x = m.input(DType::F32, &[3]);
    let t = m.buffer(DType::F32, &[], BufferKind::State(0));
    let y = m.output(DType::F32, &[3]);
    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F32, Level::Elem);
    let old = load(&mut b, 1, DType::F32, Level::Scalar);
    let sum = apply(&mut b, ScalarFn::Add, &[v, old]);
    let one = number(&mut b, 1.0);
    let new = apply(&mut b, ScalarFn::Add, &[old, one]);
    store(&mut b, sum, 0);
    store(&mut b, new, 1);
    m.nest(&[], &[3], b, &[m.dense(x), port(t, 0, &[0])], &[m.dense(y), port(t, 0, &[0])]);
    let e = m.finish().verify().unwrap_err().to_string();
    assert!(e.contains("read at more than one index"), "{e}");
}

fn counted(p: &mut Program) -> &mut Loop {
    match &mut p.steps[0].kernel {
        Kernel::Loop(l) => l,
        _ => panic!("the recurrence is a loop"),
    }
}

#[test]
fn loops() {
    refuse(
        || recurrence(false),
        &[
            (
                |p| counted(p).carries = 3,
                "the loop has 1 invariants and 3 carries, but its body 3 inputs and 2 outputs",
            ),
            (
                |p| counted(p).length = 4,
                "input 2 of the nested Program is f32[2], 4 times, but buffer b2 is f32[3, 2]",
            ),
            (|p| counted(p).carries = 2, "input 2 of the nested Program is f32[2], 1 times"),
            (|p| drop(p.steps[0].reads.pop()), "it has 2 read and 2 write ports, but its kernel has 3 and 2"),
            (|p| p.buffers[1].dtype = DType::I32, "input 1 of the nested Program"),
            (|p| p.steps[0].reads[2].view.strides = vec![1, 3], "the kernel takes whole dense buffers"),
            (|p| counted(p).body = verified(training_step()).into(), "ports, but its kernel has 1 and 1"),
        ],
    );
}

/// A gather, then an arg-reduction of what it took.
fn gathered() -> Program {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[6]);
    let idx = m.input(DType::I64, &[4]);
    let picked = m.temp(DType::F32, &[4]);
    let y = m.output(DType::I64, &[2]);
    let kernel = Kernel::Gather { outer: 1, axis: 6, inner: 1, count: 4 };
    m.step(kernel, &[m.dense(x), m.dense(idx)], &[m.dense(picked)]);
    let kernel = Kernel::ArgReduce { max: true, rows: vec![2], cols: 2 };
    m.step(kernel, &[port(picked, 0, &[2, 1])], &[m.dense(y)]);
    m.finish()
}

#[test]
fn kernels_without_bodies() {
    refuse(
        gathered,
        &[
            (|p| p.buffers[1].dtype = DType::F32, "indices are i32 or i64, but buffer b1 is f32"),
            (|p| p.steps[0].reads[0].view.strides = vec![-1], "the kernel takes whole dense buffers"),
            (|p| p.buffers[0].shape = vec![5], "[1, 6, 1] is asked for, but buffer b0 has the shape [5]"),
            (|p| p.buffers[3].dtype = DType::F32, "it gives i64, but its write buffer is f32"),
            (
                |p| p.steps[1].kernel = Kernel::ArgReduce { max: true, rows: vec![2], cols: 0 },
                "there is no largest element of nothing",
            ),
            (
                |p| {
                    p.buffers[0].dtype = DType::Bool;
                    p.buffers[2].dtype = DType::Bool;
                },
                "it takes f32, f64 or integers, but got bool",
            ),
        ],
    );
}
