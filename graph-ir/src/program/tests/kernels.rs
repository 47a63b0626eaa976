//! The reference executor on every kind of kernel and instruction.

use super::fixtures::*;
use crate::dtype::DType;
use crate::program::*;
use crate::random;
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;

#[test]
fn maps_pad_reverse_broadcast_and_transpose_through_views() {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[3]);
    let row = m.input(DType::F32, &[2]);
    let y = m.output(DType::F32, &[5, 2]);
    let body = map_body(ScalarFn::Add, &[DType::F32; 2], Level::Elem);
    // x reversed and padded by one on both sides over the columns; written transposed.
    let mut padded = port(x, 3, &[0, -1]);
    padded.view.guard = Some(Guard { lo: vec![0, 1], hi: vec![2, 4], fill: Scalar::F(-1.0) });
    m.nest(&[2], &[5], body, &[padded, port(row, 0, &[1, 0])], &[port(y, 0, &[1, 2])]);
    let out = run1(m, &[floats(&[3], &[1.0, 2.0, 3.0]), floats(&[2], &[10.0, 20.0])]);
    let want = [9.0, 19.0, 13.0, 23.0, 12.0, 22.0, 11.0, 21.0, 9.0, 19.0];
    assert_eq!(out, floats(&[5, 2], &want));
}

#[test]
fn folds_along_and_across() {
    let x = [1.0, 2.0, 4.0, -3.0, 5.0, 0.5];
    let cases: [(FoldKind, [f32; 2], [f32; 3]); 6] = [
        (FoldKind::Sum, [7.0, 2.5], [-2.0, 7.0, 4.5]),
        (FoldKind::Prod, [8.0, -7.5], [-3.0, 10.0, 2.0]),
        (FoldKind::Max, [4.0, 5.0], [1.0, 5.0, 4.0]),
        (FoldKind::Min, [1.0, -3.0], [-3.0, 2.0, 0.5]),
        (FoldKind::Mean, [7.0 / 3.0, 2.5 / 3.0], [-1.0, 3.5, 2.25]),
        (FoldKind::Var, [14.0 / 9.0, 193.0 / 18.0], [4.0, 2.25, 3.0625]),
    ];
    for (kind, rows, cols) in cases {
        let mut m = Make::default();
        let x_id = m.input(DType::F32, &[2, 3]);
        let by_row = m.output(DType::F32, &[2]);
        let by_col = m.output(DType::F32, &[3]);
        let mut b = Body::default();
        let v = load(&mut b, 0, DType::F32, Level::Elem);
        let r = fold(&mut b, kind, FoldAxis::Cols, v);
        let c = fold(&mut b, kind, FoldAxis::Rows, v);
        store(&mut b, r, 0);
        store(&mut b, c, 1);
        m.nest(&[2], &[3], b, &[m.dense(x_id)], &[port(by_row, 0, &[1, 0]), port(by_col, 0, &[0, 1])]);
        let outs = run(m.finish(), &[floats(&[2, 3], &x)], &mut []).unwrap();
        assert_eq!(outs, [floats(&[2], &rows), floats(&[3], &cols)], "{kind:?}");
    }
}

#[test]
fn folds_of_nothing_and_of_what_does_not_vary() {
    for (kind, want) in [
        (FoldKind::Sum, 0.0),
        (FoldKind::Prod, 1.0),
        (FoldKind::Max, f32::NEG_INFINITY),
        (FoldKind::Min, f32::INFINITY),
    ] {
        let mut m = Make::default();
        let x = m.input(DType::F32, &[2, 0]);
        let y = m.output(DType::F32, &[2]);
        let mut b = Body::default();
        let v = load(&mut b, 0, DType::F32, Level::Elem);
        let r = fold(&mut b, kind, FoldAxis::Cols, v);
        store(&mut b, r, 0);
        m.nest(&[2], &[0], b, &[m.dense(x)], &[port(y, 0, &[1, 0])]);
        assert_eq!(run1(m, &[counting(&[2, 0])]), floats(&[2], &[want; 2]), "{kind:?}");
    }
    // A value a row, summed along four columns, counts four times.
    let mut m = Make::default();
    let x = m.input(DType::I8, &[2]);
    let y = m.output(DType::I8, &[2]);
    let mut b = Body::default();
    let v = load(&mut b, 0, DType::I8, Level::Row);
    let r = fold(&mut b, FoldKind::Sum, FoldAxis::Cols, v);
    store(&mut b, r, 0);
    m.nest(&[2], &[4], b, &[port(x, 0, &[1, 0])], &[port(y, 0, &[1, 0])]);
    // Integers wrap: 4 * 50 = 200 = -56 mod 256.
    assert_eq!(run1(m, &[Tensor::from_slice(&[2], &[3i8, 50])]), Tensor::from_slice(&[2], &[12i8, -56]));
}

#[test]
fn a_result_after_the_sweep_may_replace_state() {
    // Batch statistics: y = x - mean over the rows cannot be in this sweep, but the running mean is.
    let mut m = Make::default();
    let x = m.input(DType::F32, &[4, 2]);
    let running = m.buffer(DType::F32, &[2], BufferKind::State(0));
    let total = m.output(DType::F32, &[]);
    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F32, Level::Elem);
    let mean = fold(&mut b, FoldKind::Mean, FoldAxis::Rows, v);
    let old = load(&mut b, 1, DType::F32, Level::Col);
    let half = number(&mut b, 0.5);
    let sum = apply(&mut b, ScalarFn::Add, &[mean, old]);
    let new = apply(&mut b, ScalarFn::Mul, &[sum, half]);
    let all = fold(&mut b, FoldKind::Sum, FoldAxis::Cols, mean);
    store(&mut b, new, 0);
    store(&mut b, all, 1);
    let state = port(running, 0, &[0, 1]);
    m.nest(&[4], &[2], b, &[m.dense(x), state.clone()], &[state, port(total, 0, &[0, 0])]);
    // The total's fold runs after the sweep and does not feed the running mean's store.
    let e = m.finish().verify().unwrap_err();
    assert!(e.message.contains("would read what was written"), "{e}");

    let mut m = Make::default();
    let x = m.input(DType::F32, &[4, 2]);
    let running = m.buffer(DType::F32, &[2], BufferKind::State(0));
    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F32, Level::Elem);
    let mean = fold(&mut b, FoldKind::Mean, FoldAxis::Rows, v);
    let old = load(&mut b, 1, DType::F32, Level::Col);
    let sum = apply(&mut b, ScalarFn::Add, &[mean, old]);
    store(&mut b, sum, 0);
    let state = port(running, 0, &[0, 1]);
    m.nest(&[4], &[2], b, &[m.dense(x), state.clone()], &[state]);
    let mut values = [floats(&[2], &[10.0, 20.0])];
    run(m.finish(), &[counting(&[4, 2])], &mut values).unwrap();
    assert_eq!(values[0], floats(&[2], &[13.0, 24.0]));
}

#[test]
fn indices_and_random_bits_are_logical() {
    let mut m = Make::default();
    let key = m.input(DType::U32, &[2]);
    let bits = m.output(DType::U32, &[2, 3]);
    let index = m.output(DType::I64, &[2, 3]);
    let mut b = Body::default();
    let k0 = load(&mut b, 0, DType::U32, Level::Scalar);
    let k1 = load(&mut b, 1, DType::U32, Level::Scalar);
    let i = b.push(InstOp::Index(vec![3, 1]), &[], DType::I64, Level::Elem);
    let w = b.push(InstOp::RandomBits, &[k0, k1, i], DType::U32, Level::Elem);
    store(&mut b, w, 0);
    store(&mut b, i, 1);
    let reads = [port(key, 0, &[0, 0]), port(key, 1, &[0, 0])];
    m.nest(&[2], &[3], b, &reads, &[m.dense(bits), m.dense(index)]);
    let outs = run(m.finish(), &[Tensor::from_slice(&[2], &[7u32, 11])], &mut []).unwrap();
    let words: Vec<u32> = (0..6).map(|i| random::bits([7, 11], i)).collect();
    assert_eq!(
        outs,
        [Tensor::from_slice(&[2, 3], &words), Tensor::from_slice(&[2, 3], &[0i64, 1, 2, 3, 4, 5])]
    );
}

#[test]
fn casts_round_and_each_instruction_has_its_own_type() {
    let mut m = Make::default();
    let x = m.input(DType::F16, &[3]);
    let y = m.output(DType::I32, &[3]);
    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F16, Level::Elem);
    let wide = b.push(InstOp::Cast, &[v], DType::F32, Level::Scalar);
    let twice = apply(&mut b, ScalarFn::Add, &[wide, wide]);
    let int = b.push(InstOp::Cast, &[twice], DType::I32, Level::Scalar);
    store(&mut b, int, 0);
    m.nest(&[], &[3], b, &[m.dense(x)], &[m.dense(y)]);
    let x = Tensor::from_fn(DType::F16, &[3], |i| Scalar::F([1.75, -0.75, f64::NAN][i]));
    assert_eq!(run1(m, &[x]), Tensor::from_slice(&[3], &[3i32, -1, 0]));
}

#[test]
fn a_dot_has_batches_transposed_operands_and_size() {
    let mut m = Make::default();
    let a = m.input(DType::F32, &[2, 3, 2]);
    let b = m.input(DType::F32, &[2, 2]);
    let y = m.output(DType::F32, &[2, 2, 2]);
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    store(&mut body, acc, 0);
    // y[i] = a[i]ᵀ[0..2, 0..2] b, with one b for all batches.
    let kernel = Kernel::Dot(Dot { batch: vec![2], m: 2, n: 2, k: 2, body });
    m.step(kernel, &[port(a, 0, &[6, 1, 2]), port(b, 0, &[0, 2, 1])], &[m.dense(y)]);
    let out = run1(m, &[counting(&[2, 3, 2]), floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(out, floats(&[2, 2, 2], &[6.0, 8.0, 10.0, 14.0, 30.0, 44.0, 34.0, 50.0]));

    let (rows, k, n) = (64, 1000, 100);
    let mut m = Make::default();
    let a = m.input(DType::F32, &[rows, k]);
    let b = m.input(DType::F32, &[k, n]);
    let y = m.output(DType::F32, &[rows, n]);
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    store(&mut body, acc, 0);
    let kernel = Kernel::Dot(Dot { batch: vec![], m: rows, n, k, body });
    m.step(kernel, &[m.dense(a), m.dense(b)], &[m.dense(y)]);
    let ones = |shape: &[usize]| Tensor::full(DType::F32, shape, Scalar::F(0.5));
    assert_eq!(
        run1(m, &[ones(&[rows, k]), ones(&[k, n])]),
        Tensor::full(DType::F32, &[rows, n], Scalar::F(250.0))
    );
}

#[test]
fn arg_reduce_finds_the_first_and_prefers_nan() {
    for (max, want) in [(true, [1i64, 0, 2]), (false, [0, 0, 2])] {
        let mut m = Make::default();
        let x = m.input(DType::F32, &[3, 3]);
        let y = m.output(DType::I64, &[3]);
        let kernel = Kernel::ArgReduce { max, rows: vec![3], cols: 3 };
        m.step(kernel, &[m.dense(x)], &[m.dense(y)]);
        let x = floats(&[3, 3], &[1.0, 5.0, 5.0, 2.0, 2.0, 2.0, 0.0, 9.0, f32::NAN]);
        assert_eq!(run1(m, &[x]), Tensor::from_slice(&[3], &want));
    }
}

fn gather() -> Make {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[2, 3, 2]);
    let idx = m.input(DType::I64, &[2]);
    let y = m.output(DType::F32, &[2, 2, 2]);
    let kernel = Kernel::Gather { outer: 2, axis: 3, inner: 2, count: 2 };
    m.step(kernel, &[m.dense(x), m.dense(idx)], &[m.dense(y)]);
    m
}

#[test]
fn gather_takes_slices_and_refuses_indices_outside() {
    let out = run1(gather(), &[counting(&[2, 3, 2]), Tensor::from_slice(&[2], &[2i64, 0])]);
    assert_eq!(out, floats(&[2, 2, 2], &[4.0, 5.0, 0.0, 1.0, 10.0, 11.0, 6.0, 7.0]));
    for bad in [3i64, -1] {
        let ins = [counting(&[2, 3, 2]), Tensor::from_slice(&[2], &[0i64, bad])];
        let e = run(gather().finish(), &ins, &mut []).unwrap_err();
        assert_eq!(e.to_string(), format!("`node0`: index {bad} is outside 0..3"));
    }
}

#[test]
fn scatter_add_adds_repeated_indices_in_place_too() {
    let mut m = Make::default();
    let start = m.input(DType::F32, &[3, 2]);
    let idx = m.input(DType::I32, &[3]);
    let upd = m.input(DType::F32, &[3, 2]);
    let base = m.temp(DType::F32, &[3, 2]);
    let sum = m.temp(DType::F32, &[3, 2]);
    let y = m.output(DType::F32, &[3, 2]);
    let copy = || {
        let mut b = Body::default();
        let v = load(&mut b, 0, DType::F32, Level::Elem);
        store(&mut b, v, 0);
        b
    };
    m.nest(&[], &[3, 2], copy(), &[m.dense(start)], &[m.dense(base)]);
    let kernel = Kernel::ScatterAdd { outer: 1, axis: 3, inner: 2, count: 3 };
    m.step(kernel, &[m.dense(base), m.dense(idx), m.dense(upd)], &[m.dense(sum)]);
    m.nest(&[], &[3, 2], copy(), &[m.dense(sum)], &[m.dense(y)]);
    let mut p = m.finish();
    p.plan.offsets[4] = p.plan.offsets[3];
    p.plan.in_place = vec![(1, 0, 0)];
    let ins = [counting(&[3, 2]), Tensor::from_slice(&[3], &[2i32, 0, 2]), floats(&[3, 2], &[10.0; 6])];
    let outs = run(p, &ins, &mut []).unwrap();
    assert_eq!(outs[0], floats(&[3, 2], &[10.0, 11.0, 2.0, 3.0, 24.0, 25.0]));
}

#[test]
fn concatenations_are_writers_of_disjoint_boxes() {
    let concat = |at: isize| {
        let mut m = Make::default();
        let a = m.input(DType::F32, &[2, 2]);
        let b = m.input(DType::F32, &[2, 3]);
        let y = m.output(DType::F32, &[2, 5]);
        for (x, from, n) in [(a, 0, 2), (b, at, 3)] {
            let mut body = Body::default();
            let v = load(&mut body, 0, DType::F32, Level::Elem);
            store(&mut body, v, 0);
            m.nest(&[2], &[n], body, &[m.dense(x)], &[port(y, from, &[5, 1])]);
        }
        m
    };
    let out = run1(concat(2), &[counting(&[2, 2]), counting(&[2, 3])]);
    assert_eq!(out, floats(&[2, 5], &[0.0, 1.0, 0.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0]));
    let e = concat(1).finish().verify().unwrap_err();
    assert!(e.message.contains("elements of buffer b2 that step 0 wrote"), "{e}");
}
