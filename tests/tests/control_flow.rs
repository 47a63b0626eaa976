//! Loops and branches: derivatives through nests of them, lengths from none to many, sizes of what they make.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::ops::{Call, Cond, Scan, While};
use graphc_ir::{Builder, DType, Dim, Graph, Op, ScalarFn, Tensor, TensorType, ValueId};
use graphc_tests::registry::{central_differences, differentiate, eval, pushed_forward};

fn numbers(shape: &[usize]) -> TensorType {
    TensorType::fixed(DType::F64, shape)
}

/// (w, h, x) -> (h', y): h' = tanh(w h + x), y = h' x.
fn cell(shape: &[usize]) -> Result<Arc<Graph>> {
    let mut b = Builder::new();
    let (w, h, x) = (b.input(numbers(shape))?, b.input(numbers(shape))?, b.input(numbers(shape))?);
    let wh = b.map(ScalarFn::Mul, &[w, h])?;
    let sum = b.map(ScalarFn::Add, &[wh, x])?;
    let next = b.map(ScalarFn::Tanh, &[sum])?;
    let y = b.map(ScalarFn::Mul, &[next, x])?;
    Ok(Arc::new(b.finish(&[next, y])?))
}

fn scan(length: usize, reverse: bool, recompute: bool, body: Arc<Graph>) -> Scan {
    Scan { body, carries: 1, stacks: 1, reverse, length: Dim::from(length), recompute }
}

/// A scan over `outer` iterations of a branch, one side of which is a scan over `inner`: (w, h, x) -> (h, ys).
fn nest(outer: usize, inner: usize, recompute: bool) -> Result<Graph> {
    let shape = [2];
    let then = {
        let mut b = Builder::new();
        let (w, h) = (b.input(numbers(&shape))?, b.input(numbers(&shape))?);
        let x = b.input(numbers(&[inner, 2]))?;
        let outs = b.op(scan(inner, true, recompute, cell(&shape)?), &[w, h, x])?;
        let y = b.sum(outs[1], &[0])?;
        let z = b.map(ScalarFn::Add, &[outs[0], y])?;
        b.finish(&[z])?
    };
    let otherwise = {
        let mut b = Builder::new();
        let (w, h) = (b.input(numbers(&shape))?, b.input(numbers(&shape))?);
        b.input(numbers(&[inner, 2]))?;
        let z = b.map(ScalarFn::Mul, &[w, h])?;
        let z = b.map(ScalarFn::Sin, &[z])?;
        b.finish(&[z])?
    };
    let body = {
        let mut b = Builder::new();
        let (w, h) = (b.input(numbers(&shape))?, b.input(numbers(&shape))?);
        let x = b.input(numbers(&[inner, 2]))?;
        let (total, zero) = (b.sum(h, &[0])?, b.scalar(DType::F64, 0.2)?);
        let condition = b.map(ScalarFn::Gt, &[total, zero])?;
        let op = Cond { then: Arc::new(then), otherwise: Arc::new(otherwise) };
        let z = b.op1(op, &[condition, w, h, x])?;
        let next = b.map(ScalarFn::Tanh, &[z])?;
        b.finish(&[next, z])?
    };
    let mut b = Builder::new();
    let (w, h) = (b.input(numbers(&shape))?, b.input(numbers(&shape))?);
    let x = b.input(numbers(&[outer, inner, 2]))?;
    let op = Scan { recompute, ..scan(outer, false, recompute, Arc::new(body)) };
    let outs = b.op(op, &[w, h, x])?;
    b.finish(&outs)
}

fn operands(outer: usize, inner: usize) -> Vec<Tensor> {
    let wave = |shape: &[usize], phase: f64| {
        Tensor::from_fn(DType::F64, shape, |i| graphc_ir::Scalar::F((1.7 * i as f64 + phase).sin()))
    };
    vec![wave(&[2], 0.3), wave(&[2], 0.9), wave(&[outer, inner, 2], 2.0)]
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let distance: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    a.len() == b.len() && norm(&distance) <= tolerance * (norm(b) + 1e-3)
}

#[test]
fn a_scan_in_a_branch_in_a_scan_is_differentiated_twice() {
    for (outer, inner) in [(0, 3), (1, 1), (4, 3), (3, 0)] {
        for recompute in [false, true] {
            let graph = nest(outer, inner, recompute).expect("it is well typed");
            let ins = operands(outer, inner);
            let first = differentiate(&graph, &[0, 1, 2], 1).expect("it is differentiable");
            let second = differentiate(&first.gradient, &[0, 1, 2], 2).expect("twice");
            for (order, d) in [(1, &first), (2, &second)] {
                let found = eval(&d.gradient, &ins).expect("it runs");
                for (i, g) in found.iter().enumerate() {
                    let wanted = central_differences(&d.value, &ins, i).expect("it runs");
                    assert!(
                        near(&g.to_f64(), &wanted, 1e-6),
                        "{outer} of {inner}, recompute {recompute}, order {order}, operand {i}: {:?}, not {wanted:?}",
                        g.to_f64()
                    );
                }
            }
        }
    }
}

#[test]
fn storing_and_recomputing_give_the_same_bits() {
    let ins = operands(4, 3);
    let [stored, recomputed] = [false, true].map(|recompute| {
        let graph = nest(4, 3, recompute).expect("it is well typed");
        let d = differentiate(&graph, &[0, 1, 2], 1).expect("it is differentiable");
        eval(&d.gradient, &ins).expect("it runs")
    });
    assert_eq!(stored, recomputed);
}

fn chain(length: usize) -> Result<Graph> {
    let mut b = Builder::new();
    let ins = [b.input(numbers(&[2]))?, b.input(numbers(&[2]))?, b.input(numbers(&[length, 2]))?];
    let outs = b.op(scan(length, false, false, cell(&[2])?), &ins)?;
    b.finish(&outs)
}

/// Nodes of a graph with those of its bodies.
fn nodes(graph: &Graph) -> usize {
    let inner = |op: &Op| op.bodies().iter().map(|(_, body)| nodes(body)).sum::<usize>();
    graph.nodes().map(|(_, n)| 1 + inner(&n.op)).sum()
}

#[test]
fn a_thousand_iterations_have_the_nodes_of_three() {
    let gradient = |length: usize| {
        let graph = chain(length).expect("it is well typed");
        differentiate(&graph, &[0, 1, 2], 1).expect("it is differentiable")
    };
    let (short, long) = (gradient(3), gradient(1000));
    assert_eq!(nodes(&short.gradient), nodes(&long.gradient));
    let [w, h, x] = operands(1, 1000).try_into().expect("three operands");
    let ins = [w, h, x.reshaped(&[1000, 2])];
    let found = eval(&long.gradient, &ins).expect("it runs");
    for (i, g) in found.iter().enumerate().take(2) {
        let wanted = central_differences(&long.value, &ins, i).expect("it runs");
        assert!(near(&g.to_f64(), &wanted, 1e-5), "operand {i}: {:?}, not {wanted:?}", g.to_f64());
    }
}

/// x <- x w while its sum is below 20, and the number of times.
fn growth() -> Result<Graph> {
    let inputs = |b: &mut Builder| -> Result<Vec<ValueId>> {
        Ok(vec![
            b.input(numbers(&[]))?,
            b.input(numbers(&[3]))?,
            b.input(TensorType::fixed(DType::I32, &[]))?,
        ])
    };
    let mut b = Builder::new();
    let x = inputs(&mut b)?;
    let (sum, limit) = (b.sum(x[1], &[0])?, b.scalar(DType::F64, 20.0)?);
    let below = b.map(ScalarFn::Lt, &[sum, limit])?;
    let condition = Arc::new(b.finish(&[below])?);
    let mut b = Builder::new();
    let x = inputs(&mut b)?;
    let one = b.scalar(DType::I32, 1.0)?;
    let next = [b.map(ScalarFn::Mul, &[x[1], x[0]])?, b.map(ScalarFn::Add, &[x[2], one])?];
    let body = Arc::new(b.finish(&next)?);
    let mut b = Builder::new();
    let x = inputs(&mut b)?;
    let outs = b.op(While { condition, body, carries: 2 }, &x)?;
    b.finish(&outs)
}

#[test]
fn while_loops_have_tangents_and_no_gradient() {
    let graph = growth().expect("it is well typed");
    let ins = [
        Tensor::from_slice(&[], &[1.5f64]),
        Tensor::from_slice(&[3], &[0.5, 0.25, 1.0f64]),
        Tensor::from_slice(&[], &[0i32]),
    ];
    let message = differentiate(&graph, &[0], 1).err().expect("there is no gradient").to_string();
    for part in ["`while`", "scan of a fixed length"] {
        assert!(message.contains(part), "{message}");
    }
    let dual = pushed_forward(&graph, &[0, 1], 1).expect("it has tangents");
    let directions = [Tensor::from_slice(&[], &[1.0f64]), Tensor::from_slice(&[3], &[0.5, -1.0, 0.25f64])];
    let at = |step: f64| {
        let mut moved = ins.to_vec();
        for (x, t) in moved.iter_mut().zip(&directions) {
            (0..x.len()).for_each(|i| {
                let value = x.get(i).as_f64() + step * t.get(i).as_f64();
                x.set(i, graphc_ir::Scalar::F(value));
            });
        }
        moved.extend(directions.iter().cloned());
        eval(&dual, &moved).expect("it runs")
    };
    let slope = (at(1e-6)[0].get(0).as_f64() - at(-1e-6)[0].get(0).as_f64()) / 2e-6;
    let found = at(0.0)[1].get(0).as_f64();
    assert!((found - slope).abs() <= 1e-6 * slope.abs(), "{found}, not {slope}");
}

#[test]
fn bodies_that_do_not_fit_are_refused_in_a_sentence() {
    let mut b = Builder::new();
    let x = b.input(numbers(&[2])).expect("an input");
    let flag = b.input(TensorType::fixed(DType::Bool, &[2])).expect("an input");
    let body = cell(&[2]).expect("it is well typed");
    let identity = |ty: TensorType| {
        let mut b = Builder::new();
        let x = b.input(ty).expect("an input");
        Arc::new(b.finish(&[x]).expect("a graph"))
    };
    let same = identity(numbers(&[2]));
    let cond = |then: &Arc<Graph>, otherwise: &Arc<Graph>| {
        Op::from(Cond { then: then.clone(), otherwise: otherwise.clone() })
    };
    let mut refuse = |op: Op, ins: &[ValueId], part: &str| {
        let message = b.op(op, ins).expect_err("it does not fit").to_string();
        assert!(message.contains(part), "{message}");
    };
    refuse(cond(&same, &same), &[flag, x], "bool[], but got bool[2]");
    refuse(Call { body: body.clone() }.into(), &[x], "takes 3 inputs, but is given 1");
    refuse(Call { body: identity(numbers(&[3])) }.into(), &[x], "operands fit");
    refuse(Call { body: identity(TensorType::fixed(DType::F32, &[2])) }.into(), &[x], "f32[2]");
    let goes_on = While { condition: same.clone(), body: same.clone(), carries: 1 };
    refuse(goes_on.into(), &[x], "gives one bool[]");
    refuse(scan(3, false, false, body).into(), &[x, x, x], "stacks are as long as the loop");
}
