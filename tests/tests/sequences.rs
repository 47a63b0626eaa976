//! What layers over sequences promise beyond their numbers: sizes of graphs, edges, errors.

use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Lstm, ScaledDotProductAttention, sample_tensor};
use graphc_ir::{Builder, DType, Graph, Op, Tensor, TensorType, interp};
use graphc_optimizer::expand::expand;

const LAYER: Lstm = Lstm { layers: 1, bidirectional: false, bias: true, batch_first: false };

/// An operation on inputs of these types.
fn applied(op: impl Into<Op>, types: &[&str]) -> Result<Graph> {
    let mut b = Builder::new();
    let ins = types.iter().map(|t| b.input(TensorType::parse(t)?)).collect::<Result<Vec<_>>>()?;
    let outs = b.op(op, &ins)?;
    b.finish(&outs)
}

fn run(graph: &Graph, ins: &[Tensor]) -> Result<Vec<Tensor>> {
    interp::eval(graph, &ins.iter().collect::<Vec<_>>(), &[])
}

fn dots(graph: &Graph) -> usize {
    graph.nodes().filter(|(_, n)| matches!(n.op, Op::Dot(_))).count()
}

/// The input's product stands before the loop, whose body has the recurrent one alone; the length is no matter.
#[test]
fn the_product_of_the_inputs_is_hoisted() {
    let layer = |time: &str| {
        let x = format!("f64[{time},B,3]");
        let types = [&x, "f64[3,8]", "f64[2,8]", "f64[8]", "f64[8]"];
        expand(&applied(LAYER, &types).expect("it is well typed")).expect("it has a definition")
    };
    let graph = layer("T");
    let bodies: Vec<_> = graph
        .nodes()
        .filter_map(|(_, n)| if let Op::Scan(scan) = &n.op { Some(scan.body.clone()) } else { None })
        .collect();
    assert_eq!((dots(&graph), bodies.len(), dots(&bodies[0])), (1, 1, 1));
    for time in ["0", "1", "1000"] {
        assert_eq!(layer(time).nodes().count(), graph.nodes().count());
    }
}

fn lstm_operands(steps: usize) -> Vec<Tensor> {
    let shapes: [&[usize]; 7] = [&[steps, 2, 3], &[3, 8], &[2, 8], &[8], &[8], &[1, 2, 2], &[1, 2, 2]];
    shapes.iter().enumerate().map(|(i, s)| sample_tensor(s, i as u64)).collect()
}

fn types(ins: &[Tensor]) -> Vec<String> {
    ins.iter().map(|t| TensorType::fixed(t.dtype(), t.shape()).to_string()).collect()
}

fn of(op: impl Into<Op>, ins: &[Tensor]) -> Result<Vec<Tensor>> {
    let types = types(ins);
    run(&applied(op, &types.iter().map(String::as_str).collect::<Vec<_>>())?, ins)
}

#[test]
fn sequences_of_no_steps_keep_their_state() {
    let ins = lstm_operands(0);
    let outs = of(LAYER, &ins).expect("it runs");
    assert_eq!(outs[0].shape(), [0, 2, 2]);
    assert_eq!((&outs[1], &outs[2]), (&ins[5], &ins[6]));
    // So does one sequence of length 0 among others.
    let mut ins = lstm_operands(3);
    ins.push(Tensor::from_slice(&[2], &[0i32, 3]));
    let outs = of(LAYER, &ins).expect("it runs");
    assert_eq!(outs[1].to_f64()[..2], ins[5].to_f64()[..2]);
    assert!((0..3).all(|t| outs[0].to_f64()[t * 4..t * 4 + 2] == [0.0, 0.0]));
}

#[test]
fn a_length_out_of_range_fails_the_run() {
    for length in [-1, 4] {
        let mut ins = lstm_operands(3);
        ins.push(Tensor::from_slice(&[2], &[length, 3]));
        let error = of(LAYER, &ins).expect_err("there are 3 steps").to_string();
        assert!(error.contains("outside 0..=3"), "{error}");
    }
}

#[test]
fn wrong_operands_are_named() {
    let refused = |types: &[&str], part: &str| {
        let error = applied(LAYER, types).expect_err("the operands are wrong").to_string();
        assert!(error.contains(part), "{error}");
    };
    let fine = ["f64[5,2,3]", "f64[3,8]", "f64[2,8]", "f64[8]", "f64[8]"];
    let with = |at: usize, ty: &'static str| {
        let mut types = fine.to_vec();
        types[at] = ty;
        types
    };
    refused(&fine[..4], "takes 5 to 8 operands, but got 4");
    refused(&with(0, "f64[5,3]"), "sequences of rank 3");
    refused(&with(1, "f64[8,3]"), "a row for each of its elements");
    refused(&with(2, "f64[2,6]"), "a column for each unit of each gate");
    refused(&with(4, "f32[8]"), "operand 4 of lstm is a bias, f64 of rank 1, but got f32[8]");
    refused(&[&fine[..], &["f64[1,2,2]"]].concat(), "all of its 2 initial states or none");
    refused(&[&fine[..], &["i8[2]"]].concat(), "lengths of sequences are i32 or i64");
}

/// Zeros, whichever way the keys are left out, and not the mean of the values or NaN.
#[test]
fn a_query_without_keys_gives_zeros() {
    let (q, k, v) = (sample_tensor(&[2, 3], 1), sample_tensor(&[4, 3], 2), sample_tensor(&[4, 2], 3));
    let masks = [
        Tensor::from_fn(DType::Bool, &[2, 4], |i| graphc_ir::Scalar::B(i < 3)),
        Tensor::from_fn(DType::F64, &[2, 4], |i| {
            graphc_ir::Scalar::F(if i < 3 { 0.5 } else { f64::NEG_INFINITY })
        }),
    ];
    let results = masks.map(|mask| {
        let op = ScaledDotProductAttention { causal: false, scale: Real(0.0) };
        of(op, &[q.clone(), k.clone(), v.clone(), mask]).expect("it runs").remove(0).to_f64()
    });
    for y in &results {
        assert_eq!(y[2..], [0.0, 0.0]);
        assert!(y[..2].iter().all(|v| v.is_finite() && *v != 0.0));
    }
    // The same number added to all scores changes nothing but the last bits.
    assert!(results[0].iter().zip(&results[1]).all(|(a, b)| (a - b).abs() < 1e-14));
}
