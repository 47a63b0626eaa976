//! What can fail a run fails it on every device, wherever its result goes, or if it goes nowhere.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::module::OutputDecl;
use graphc_ir::ops::{
    Call, Check, Cond, CrossEntropy, Embedding, Gather, ReduceKind, Reduction, Scan, ScatterAdd, While,
};
use graphc_ir::{
    Builder, DType, Dim, Function, Graph, Module, Scalar, ScalarFn, Tensor, TensorType, ValueId, autodiff,
};
use graphc_optimizer::driver::{self, Options};
use graphc_tests::compare::relative_l2_above;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::random_graph::{Config, FUNCTION, Prng, random_module};

/// What fails: with a condition that is false somewhere, or an index that is outside.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Check,
    Gather,
    ScatterAdd,
    Embedding,
    Label,
}

const KINDS: [Kind; 5] = [Kind::Check, Kind::Gather, Kind::ScatterAdd, Kind::Embedding, Kind::Label];

/// x f32[3], c bool[3], i i32[3].
type Operands = [ValueId; 3];

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|d| Dim::from(*d)).collect()
}

fn types() -> [TensorType; 3] {
    [DType::F32, DType::Bool, DType::I32].map(|t| TensorType::fixed(t, &[3]))
}

fn inputs(b: &mut Builder) -> Result<Operands> {
    let [x, c, i] = types();
    Ok([b.input(x)?, b.input(c)?, b.input(i)?])
}

/// A value f32[3] that fails.
fn failing(b: &mut Builder, kind: Kind, [x, c, i]: Operands) -> Result<ValueId> {
    match kind {
        Kind::Check => b.op1(Check { message: "it must hold".into() }, &[x, c]),
        Kind::Gather => b.op1(Gather { axis: 0 }, &[x, i]),
        Kind::ScatterAdd => b.op1(ScatterAdd { axis: 0 }, &[x, i, x]),
        Kind::Embedding => {
            let table = b.reshape(x, &dims(&[3, 1]))?;
            let rows = b.op1(Embedding { padding: Vec::new() }, &[i, table])?;
            b.reshape(rows, &dims(&[3]))
        }
        Kind::Label => {
            let logits = b.broadcast(x, &dims(&[3, 3]), &[1])?;
            b.op1(CrossEntropy { reduction: Reduction::None }, &[logits, i])
        }
    }
}

fn constant(b: &mut Builder, truth: bool) -> Result<ValueId> {
    b.constant(Tensor::scalar(DType::Bool, Scalar::B(truth)))
}

fn doubled(b: &mut Builder, x: ValueId) -> Result<ValueId> {
    b.map(ScalarFn::Add, &[x, x])
}

/// A body of the operands and a carry s: s + x, and results that may be left unused.
fn body(kind: Kind, carries: bool) -> Result<Arc<Graph>> {
    let mut b = Builder::new();
    let ins = inputs(&mut b)?;
    let s = b.input(types()[0].clone())?;
    let next = b.map(ScalarFn::Add, &[s, ins[0]])?;
    let own = if carries { Some(b.input(types()[0].clone())?) } else { None };
    let v = failing(&mut b, kind, ins)?;
    let second = match own {
        Some(own) => b.map(ScalarFn::Add, &[own, v])?,
        None => v,
    };
    Ok(Arc::new(b.finish(&[next, second])?))
}

fn scan(b: &mut Builder, body: Arc<Graph>, ins: &[ValueId], carries: usize) -> Result<Vec<ValueId>> {
    let length = Dim::from(2usize);
    b.op(Scan { body, carries, stacks: 0, reverse: false, length, recompute: false }, ins)
}

type Way = fn(&mut Builder, Kind, Operands) -> Result<ValueId>;

/// Results that need nothing of what fails.
const WAYS: [(&str, Way); 17] = [
    ("is the result", |b, kind, ins| failing(b, kind, ins)),
    ("nobody uses it", |b, kind, ins| {
        failing(b, kind, ins)?;
        doubled(b, ins[0])
    }),
    ("the side of a select that is not taken", |b, kind, ins| {
        let (v, truth) = (failing(b, kind, ins)?, constant(b, true)?);
        let truth = b.broadcast(truth, &dims(&[3]), &[])?;
        b.map(ScalarFn::Select, &[truth, ins[0], v])
    }),
    ("the condition between equal sides", |b, kind, ins| {
        let v = failing(b, kind, ins)?;
        let below = b.map(ScalarFn::Lt, &[v, ins[0]])?;
        b.map(ScalarFn::Select, &[below, ins[0], ins[0]])
    }),
    ("an unused stack of a loop", |b, kind, ins| {
        let operands = [ins[0], ins[1], ins[2], ins[0]];
        Ok(scan(b, body(kind, false)?, &operands, 1)?[0])
    }),
    ("an unused carry of a loop", |b, kind, ins| {
        let operands = [ins[0], ins[1], ins[2], ins[0], ins[0]];
        Ok(scan(b, body(kind, true)?, &operands, 2)?[0])
    }),
    ("a loop that nobody uses", |b, kind, ins| {
        let operands = [ins[0], ins[1], ins[2], ins[0]];
        scan(b, body(kind, false)?, &operands, 1)?;
        doubled(b, ins[0])
    }),
    ("an unused stack of a loop in a loop", |b, kind, ins| {
        let mut outer = Builder::new();
        let own = inputs(&mut outer)?;
        let s = outer.input(types()[0].clone())?;
        let inner = scan(&mut outer, body(kind, false)?, &[own[0], own[1], own[2], s], 1)?[0];
        let outer = Arc::new(outer.finish(&[inner])?);
        Ok(scan(b, outer, &[ins[0], ins[1], ins[2], ins[0]], 1)?[0])
    }),
    ("in a loop's body, where nothing uses it", |b, kind, ins| {
        let mut inner = Builder::new();
        let own = inputs(&mut inner)?;
        let s = inner.input(types()[0].clone())?;
        failing(&mut inner, kind, own)?;
        let next = doubled(&mut inner, s)?;
        let inner = Arc::new(inner.finish(&[next])?);
        Ok(scan(b, inner, &[ins[0], ins[1], ins[2], ins[0]], 1)?[0])
    }),
    ("an unused result of a branch", |b, kind, ins| {
        let side = |fails: bool| -> Result<Arc<Graph>> {
            let mut b = Builder::new();
            let own = inputs(&mut b)?;
            let twice = doubled(&mut b, own[0])?;
            let v = if fails { failing(&mut b, kind, own)? } else { own[0] };
            Ok(Arc::new(b.finish(&[twice, v])?))
        };
        let truth = constant(b, true)?;
        let cond = Cond { then: side(true)?, otherwise: side(false)? };
        Ok(b.op(cond, &[truth, ins[0], ins[1], ins[2]])?[0])
    }),
    ("in a while loop's body, where nothing uses it", |b, kind, ins| {
        let mut inner = Builder::new();
        let own = inputs(&mut inner)?;
        let s = inner.input(types()[0].clone())?;
        failing(&mut inner, kind, own)?;
        let one = inner.full_like(s, 1.0)?;
        let next = inner.map(ScalarFn::Add, &[s, one])?;
        let inner = Arc::new(inner.finish(&[next])?);
        let mut condition = Builder::new();
        inputs(&mut condition)?;
        let s = condition.input(types()[0].clone())?;
        let most = condition.reduce(ReduceKind::Max, s, &[0])?;
        let limit = condition.full_like(most, 9.0)?;
        let goes_on = condition.map(ScalarFn::Lt, &[most, limit])?;
        let condition = Arc::new(condition.finish(&[goes_on])?);
        let zero = b.zeros_like(ins[0])?;
        b.op1(While { condition, body: inner, carries: 1 }, &[ins[0], ins[1], ins[2], zero])
    }),
    ("an unused result of a function", |b, kind, ins| {
        let mut inner = Builder::new();
        let own = inputs(&mut inner)?;
        let (twice, v) = (doubled(&mut inner, own[0])?, failing(&mut inner, kind, own)?);
        let inner = Arc::new(inner.finish(&[twice, v])?);
        Ok(b.op(Call { body: inner }, &ins)?[0])
    }),
    ("repeated no times", |b, kind, ins| {
        let v = failing(b, kind, ins)?;
        let none = b.broadcast(v, &dims(&[0, 3]), &[1])?;
        let none = b.map(ScalarFn::Exp, &[none])?;
        let zeros = b.sum(none, &[0])?;
        b.map(ScalarFn::Add, &[zeros, ins[0]])
    }),
    ("of which no element is taken", |b, kind, ins| {
        let v = failing(b, kind, ins)?;
        let v = b.map(ScalarFn::Neg, &[v])?;
        let none = b.slice_axis(v, 0, &Dim::from(1usize), &Dim::from(1usize))?;
        let zero = b.sum(none, &[0])?;
        let zeros = b.broadcast(zero, &dims(&[3]), &[])?;
        b.map(ScalarFn::Add, &[zeros, ins[0]])
    }),
    ("whose gradient does not need it", |b, kind, ins| {
        let v = failing(b, kind, ins)?;
        let loss = b.sum(v, &[0])?;
        let one = b.full_like(loss, 1.0)?;
        let gradient = autodiff::backward(b, &[(loss, one)], &[ins[0]])?[0];
        gradient.map_or_else(|| b.zeros_like(ins[0]), Ok)
    }),
    ("whose tangent does not need it", |b, kind, ins| {
        let v = failing(b, kind, ins)?;
        let direction = b.full_like(ins[0], 1.0)?;
        let dual = autodiff::forward(b, &[v], &[ins[0]], &[direction])?[0];
        dual.tangent.map_or_else(|| b.zeros_like(ins[0]), Ok)
    }),
    ("in a loop whose gradient does not need it", |b, kind, ins| {
        let operands = [ins[0], ins[1], ins[2], ins[0]];
        let end = scan(b, body(kind, false)?, &operands, 1)?[0];
        let loss = b.sum(end, &[0])?;
        let one = b.full_like(loss, 1.0)?;
        let gradient = autodiff::backward(b, &[(loss, one)], &[ins[0]])?[0];
        gradient.map_or_else(|| b.zeros_like(ins[0]), Ok)
    }),
];

fn module(graph: Graph, names: &[&str]) -> Module {
    let outputs =
        (0..graph.results().len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect();
    let inputs = names.iter().map(|n| (*n).to_owned()).collect();
    let mut module = Module::default();
    module.functions.insert(FUNCTION.into(), Function { inputs, outputs, updates: Vec::new(), graph });
    module
}

fn devices() -> Vec<Box<dyn Device>> {
    let options = Options::default;
    vec![
        Box::new(Reference),
        Box::new(ReferenceProgram::default()),
        Box::new(ReferenceProgram { arena: true, ..ReferenceProgram::default() }),
        Box::new(Cpu { threads: 1, options: options() }),
        Box::new(Cpu { threads: 2, options: options() }),
    ]
}

fn feeds(condition: [bool; 3], indices: [i32; 3]) -> [Tensor; 3] {
    let condition = Tensor::from_fn(DType::Bool, &[3], |i| Scalar::B(condition[i]));
    [Tensor::from_slice(&[3], &[0.5f32, 1.0, 2.0]), condition, Tensor::from_slice(&[3], &indices)]
}

#[test]
fn what_fails_is_never_dropped() {
    let good = feeds([true; 3], [0, 2, 1]);
    let bad =
        [feeds([true, false, true], [0, 2, 1]), feeds([true; 3], [0, 3, 1]), feeds([true; 3], [-1, 2, 1])];
    for (way, build) in WAYS {
        for kind in KINDS {
            let mut b = Builder::new();
            let ins = inputs(&mut b).expect("inputs");
            let y = build(&mut b, kind, ins).unwrap_or_else(|e| panic!("{way}, {kind:?}: {e}"));
            let module = module(b.finish(&[y]).expect("a graph"), &["x", "c", "i"]);
            let want = Reference.run(&module, FUNCTION, &good).expect("it holds").outputs;
            let words = match kind {
                Kind::Check => "it must hold",
                Kind::Label => "label",
                _ => "index",
            };
            for device in devices() {
                let what = format!("{way}, {kind:?}, {}", device.name());
                let got = device.run(&module, FUNCTION, &good).unwrap_or_else(|e| panic!("{what}: {e}"));
                let error = relative_l2_above(&got.outputs[0].to_f64(), &want[0].to_f64(), 1e-3);
                assert!(error < 1e-3, "{what}: {:?}, not {want:?}", got.outputs);
                let bad = if kind == Kind::Check { &bad[..1] } else { &bad[1..] };
                for feeds in bad {
                    match device.run(&module, FUNCTION, feeds) {
                        Ok(got) => panic!("{what} gives {:?}", got.outputs),
                        Err(e) => assert!(e.to_string().contains(words), "{what}: {e}"),
                    }
                }
            }
        }
    }
}

/// A condition of one element beside a value of none.
#[test]
fn a_check_of_nothing_looks_at_its_condition() {
    let mut b = Builder::new();
    let x = b.input(TensorType::fixed(DType::F32, &[0])).expect("an input");
    let c = b.input(TensorType::fixed(DType::Bool, &[])).expect("an input");
    let y = b.op1(Check { message: "it must hold".into() }, &[x, c]).expect("a check");
    let y = b.map(ScalarFn::Exp, &[y]).expect("a map");
    let module = module(b.finish(&[y]).expect("a graph"), &["x", "c"]);
    let x = Tensor::zeros(DType::F32, &[0]);
    for device in devices() {
        let run = |c| device.run(&module, FUNCTION, &[x.clone(), Tensor::scalar(DType::Bool, Scalar::B(c))]);
        assert!(run(true).is_ok(), "{}", device.name());
        assert!(run(false).is_err(), "{}", device.name());
    }
}

/// Checks that never hold, planted in random graphs where the compiler can see that nothing needs what they guard.
#[test]
fn planted_checks_are_found_in_random_graphs() {
    let mut planted = 0;
    for seed in 50_000..50_150 {
        let random = random_module(seed, &Config::default()).expect("it is made");
        let mut prng = Prng::new(seed);
        let function = random.function().expect("it has one");
        let mut b = Builder::with_infer(function.graph.infer().clone());
        let ins = b.inputs_like(&function.graph).expect("inputs");
        let all = b.inline_all(&function.graph, &ins).expect("it is copied");
        let mut results: Vec<ValueId> = function.graph.results().iter().map(|r| all[r.index()]).collect();
        let guarded = all[prng.below(all.len())];
        let ty = b.ty(guarded).clone();
        if ty.dtype.is_float() && !ty.dtype.is_compute_float() {
            continue;
        }
        // No element is below itself.
        let never = b.map(ScalarFn::Lt, &[guarded, guarded]).expect("a condition");
        let checked = b.op1(Check { message: "planted".into() }, &[guarded, never]).expect("a check");
        let mut outputs = function.outputs.clone();
        if prng.chance(0.5) {
            let truth = constant(&mut b, true).expect("a constant");
            let truth = b.broadcast(truth, &ty.dims, &[]).expect("a broadcast");
            let kept = b.map(ScalarFn::Select, &[truth, guarded, checked]).expect("a select");
            results.insert(outputs.len(), kept);
            outputs.push(OutputDecl { name: "planted".into(), mark: None });
        }
        let graph = b.finish(&results).expect("a graph");
        let mut module = random.module.clone();
        let function = Function { graph, outputs, ..function.clone() };
        module.functions.insert(FUNCTION.into(), function);
        let inputs = random.inputs(3).expect("inputs");
        // Over no elements it holds.
        let fails = Reference.run(&module, FUNCTION, &inputs).is_err();
        planted += usize::from(fails);
        let mut devices = devices();
        let limit = Some(seed as usize % driver::passes().len());
        devices.push(Box::new(ReferenceProgram {
            options: Options { limit, ..Options::default() },
            arena: false,
        }));
        for device in devices {
            match device.run(&module, FUNCTION, &inputs) {
                Ok(_) => assert!(!fails, "seed {seed}: the check is dropped on {}", device.name()),
                Err(e) => {
                    let message = e.to_string();
                    assert!(
                        fails && message.contains("planted"),
                        "seed {seed}, {}: {message}",
                        device.name()
                    );
                }
            }
        }
    }
    assert!(planted > 100, "{planted}");
}
