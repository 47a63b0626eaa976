//! The executors on whole Programs: state, plans, failures, loops.

use super::fixtures::*;
use crate::dtype::DType;
use crate::program::reference::{execute, execute_in_arena};
use crate::program::*;
use crate::scalar::ScalarFn;
use crate::tensor::Tensor;

fn operands() -> (Vec<Tensor>, Vec<Tensor>) {
    let value = |i: usize| (i as f32 * 0.7).sin();
    let make = |shape: &[usize], at: usize| {
        let n = shape.iter().product();
        floats(shape, &(0..n).map(|i| value(i + at)).collect::<Vec<f32>>())
    };
    (vec![make(&[4, 3], 0)], vec![make(&[3, 5], 20), make(&[5], 40)])
}

#[test]
fn a_training_step_computes_what_it_says() {
    let (inputs, mut state) = operands();
    let (x, w, bias) = (inputs[0].to_f64(), state[0].to_f64(), state[1].to_f64());
    let y = run(training_step(), &inputs, &mut state).unwrap().remove(0).to_f64();
    let new_bias = state[1].to_f64();
    let e = |i: usize, j: usize| {
        let dot: f64 = (0..3).map(|k| x[i * 3 + k] * w[k * 5 + j]).sum();
        (dot + bias[j]).max(0.0).exp()
    };
    for j in 0..5 {
        for i in 0..4 {
            let sum: f64 = (0..5).map(|j| e(i, j)).sum();
            assert!((y[i * 5 + j] - e(i, j) / sum).abs() < 1e-6);
        }
        let sum: f64 = (0..4).map(|i| e(i, j)).sum();
        assert!((new_bias[j] - (bias[j] - 0.1 * sum)).abs() < 1e-5);
    }
}

#[test]
fn a_failed_check_says_so_and_leaves_the_state() {
    let (inputs, mut state) = operands();
    state[1] = floats(&[5], &[50.0; 5]);
    let before = state.clone();
    let e = run(training_step(), &inputs, &mut state).unwrap_err();
    assert_eq!(e.to_string(), "`node3`: the row sums are below 1e6");
    assert_eq!(state, before);
}

#[test]
fn operands_are_compared_with_their_declarations() {
    let program = verified(training_step());
    let (inputs, mut state) = operands();
    let e = execute(&program, &[], &mut state, &[]).unwrap_err();
    assert_eq!(e.message, "the Program takes 1 inputs, but got 0");
    let e = execute(&program, &[counting(&[3, 4])], &mut state, &[]).unwrap_err();
    assert_eq!(e.message, "input 0 is f32[3, 4], but the Program takes f32[4, 3]");
    let e = execute(&program, &inputs, &mut state[..1], &[]).unwrap_err();
    assert_eq!(e.message, "state 1 is missing; 1 were passed");
}

#[test]
fn the_arena_shows_wrong_plans() {
    let (inputs, state) = operands();
    let apart = execute(&verified(training_step()), &inputs, &mut state.clone(), &[]).unwrap();
    // The column sums lie over what the next step still reads, or over what the repack made.
    type Break = fn(&mut Program);
    let plans: [Break; 2] = [
        |p| {
            p.steps.swap(3, 4);
            p.plan.offsets[7] = Some(128);
        },
        |p| p.plan.offsets[3] = p.plan.offsets[4],
    ];
    for (i, wrong) in plans.into_iter().enumerate() {
        let mut p = training_step();
        wrong(&mut p);
        if i == 1 {
            // The packed operand dies in the very step that overwrites it, so it takes one more reader.
            p.steps.insert(2, p.steps[1].clone());
        }
        let broken = execute_in_arena(&VerifiedProgram(p), &inputs, &mut state.clone(), &[]).unwrap();
        assert_ne!(apart, broken, "plan {i}");
    }
}

#[test]
fn a_loop_carries_and_stacks() {
    let ins = [floats(&[2], &[2.0, 0.5]), floats(&[2], &[1.0, 4.0]), counting(&[3, 2])];
    // h: 1*2+0=2, 2*2+2=6, 6*2+4=16 and 4*.5+1=3, 3*.5+3=4.5, 4.5*.5+5=7.25.
    let outs = run(recurrence(false), &ins, &mut []).unwrap();
    assert_eq!(outs[0], floats(&[2], &[16.0, 7.25]));
    assert_eq!(outs[1], floats(&[3, 2], &[4.0, 6.0, 12.0, 9.0, 32.0, 14.5]));
    // Backwards: 1*2+4=6, 6*2+2=14, 14*2+0=28 and 4*.5+5=7, 7*.5+3=6.5, 6.5*.5+1=4.25.
    let outs = run(recurrence(true), &ins, &mut []).unwrap();
    assert_eq!(outs[0], floats(&[2], &[28.0, 4.25]));
    assert_eq!(outs[1], floats(&[3, 2], &[56.0, 8.5, 28.0, 13.0, 12.0, 14.0]));
}

#[test]
fn a_loop_of_no_iterations_gives_its_carries_back() {
    let mut p = recurrence(false);
    let Kernel::Loop(l) = &mut p.steps[0].kernel else { panic!("the recurrence is a loop") };
    l.length = 0;
    for (id, shape) in [(2, [0, 2]), (4, [0, 2])] {
        p.buffers[id].shape = shape.to_vec();
    }
    let ins = [floats(&[2], &[2.0, 0.5]), floats(&[2], &[1.0, 4.0]), counting(&[0, 2])];
    let outs = run(p, &ins, &mut []).unwrap();
    assert_eq!(outs, [ins[1].clone(), counting(&[0, 2])]);
}

#[test]
fn constants_and_staged_panels_are_operands() {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[1, 2]);
    let w = m.buffer(DType::F32, &[2, 2], BufferKind::Staged(0));
    let c = m.buffer(DType::F32, &[2], BufferKind::Const(0));
    let y = m.output(DType::F32, &[1, 2]);
    m.0.buffers[w.index()].form = Form::Panels { bytes: 256 };
    m.0.constants.push(floats(&[2], &[100.0, 200.0]).into());
    let mut b = Body::default();
    let acc = b.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    let bias = load(&mut b, 2, DType::F32, Level::Col);
    let sum = apply(&mut b, ScalarFn::Add, &[acc, bias]);
    store(&mut b, sum, 0);
    let kernel = Kernel::Dot(Dot { batch: vec![], m: 1, n: 2, k: 2, body: b });
    m.step(kernel, &[m.dense(x), m.dense(w), port(c, 0, &[0, 1])], &[m.dense(y)]);
    let program = verified(m.finish());
    let inputs = [floats(&[1, 2], &[1.0, 10.0])];
    let outs = execute(&program, &inputs, &mut [], &[floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
    assert_eq!(outs[0], floats(&[1, 2], &[131.0, 242.0]));
    let e = execute(&program, &inputs, &mut [], &[]).unwrap_err();
    assert_eq!(e.message, "staged value 0 is missing; 0 were passed");
}
