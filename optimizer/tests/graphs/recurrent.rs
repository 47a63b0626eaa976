//! A layer of long short-term memory and its training step: what its loops hold.

use graphc_ir::autodiff::backward;
use graphc_ir::ops::Lstm;
use graphc_ir::program::{Kernel, Loop, Program};
use graphc_ir::scalar::ScalarFn::Mul;
use graphc_ir::{DType, ValueId};
use graphc_optimizer::compile::CompileOptions;

use super::common::{Result, Step, compare, compile};

const TIME: usize = 5;
const BATCH: usize = 3;
const INPUTS: usize = 4;
const HIDDEN: usize = 6;

fn step() -> Result<(graphc_ir::Function, Vec<graphc_ir::TensorType>)> {
    let mut s = Step::new();
    let x = s.input(DType::F32, &[TIME, BATCH, INPUTS])?;
    let gates = 4 * HIDDEN;
    let params: Vec<ValueId> = [&[INPUTS, gates][..], &[HIDDEN, gates], &[gates], &[gates]]
        .iter()
        .map(|shape| s.state(shape))
        .collect::<Result<_>>()?;
    let op = Lstm { layers: 1, bidirectional: false, bias: true, batch_first: false };
    let y = s.b.op(op, &[&[x], &params[..]].concat())?[0];
    let all = s.b.map(Mul, &[y, y])?;
    let loss = s.b.sum(all, &[0, 1, 2])?;
    let one = s.b.scalar(DType::F32, 1.0)?;
    let grads = backward(&mut s.b, &[(loss, one)], &params)?;
    let outputs: Vec<ValueId> = std::iter::once(loss).chain(grads.into_iter().flatten()).collect();
    s.finish(&outputs)
}

fn loops(program: &Program) -> Vec<&Loop> {
    let nested =
        program.steps.iter().filter_map(|s| if let Kernel::Loop(l) = &s.kernel { Some(l) } else { None });
    nested.collect()
}

fn dots(program: &Program) -> usize {
    program.steps.iter().filter(|s| matches!(s.kernel, Kernel::Dot(_))).count()
}

#[test]
fn the_step_computes_what_its_graph_means() {
    compare("lstm", step().expect("builds"));
}

/// One loop forward and one back, one product in each; the input's product and those of the weights' gradients
/// are outside, over all steps of time at once.
#[test]
fn products_over_time_are_outside_of_the_loops() {
    let (function, _) = step().expect("builds");
    let compiled = compile(&function, CompileOptions::default()).expect("compiles");
    println!("{}", compiled.main.dump());
    let loops = loops(&compiled.main);
    assert_eq!(loops.len(), 2);
    assert!(loops.iter().all(|l| dots(&l.body) == 1), "the recurrent product and its adjoint");
    assert_eq!(loops[1].carries, 2, "the gradients of the states, and no sums for weights");
    assert_eq!(dots(&compiled.main), 3, "of the input, and of two weights' gradients");
}
