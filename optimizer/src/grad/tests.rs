use super::optimizer::Sgd;
use super::*;
use std::sync::Arc;

use graphc_ir::dim::{Binding, Symbol};
use graphc_ir::dtype::DType;
use graphc_ir::interp;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{
    ArgKind, ArgReduce, BatchNormInference, Linear, LogSoftmax, Softmax, StateRead, StopGradient,
    sample_positive, sample_tensor,
};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;

fn state(name: &str, role: StateRole, ty: &str) -> StateDecl {
    StateDecl { name: name.into(), role, ty: TensorType::parse(ty).unwrap(), init: None }
}

/// x f64[B,3] · w f64[3,4] + b, followed by `tail`, whose values become outputs.
fn model(tail: impl FnOnce(&mut Builder, ValueId) -> Result<Vec<(&'static str, ValueId)>>) -> Module {
    let mut module = Module {
        state: vec![
            state("w", StateRole::Param, "f64[3,4]"),
            state("b", StateRole::Param, "f64[4]"),
            state("unused", StateRole::Param, "f64[2]"),
            state("count", StateRole::Buffer, "i64[]"),
        ],
        ..Module::default()
    };
    let mut b = Builder::new();
    let x = b.input(TensorType::parse("f64[B,3]").unwrap()).unwrap();
    let w = read(&mut b, &module.state, 0).unwrap();
    let bias = read(&mut b, &module.state, 1).unwrap();
    let y = named(&mut b, "y", |b| b.op1(Linear {}, &[x, w, bias])).unwrap();
    let outputs = tail(&mut b, y).unwrap();
    let results: Vec<ValueId> = outputs.iter().map(|(_, v)| *v).collect();
    let outputs = outputs.iter().map(|(n, _)| OutputDecl { name: (*n).into(), mark: None }).collect();
    let graph = b.finish(&results).unwrap();
    let forward = Function { inputs: vec!["x".into()], outputs, updates: Vec::new(), graph };
    module.functions.insert("predict".into(), forward);
    module
}

fn bound(function: &Function, batch: i64) -> graphc_ir::Graph {
    let mut binding = Binding::new();
    binding.set(&Symbol::new("B").unwrap(), batch, "the test").unwrap();
    function.graph.bind(&binding).unwrap()
}

/// Values of the module's state: samples for what has none.
fn values(module: &Module) -> Vec<Tensor> {
    let value = |(i, s): (usize, &StateDecl)| match &s.init {
        Some(init) => (**init).clone(),
        None => sample_tensor(&s.ty.static_shape(), i as u64 + 10).cast(s.ty.dtype),
    };
    module.state.iter().enumerate().map(value).collect()
}

fn eval(function: &Function, inputs: &[&Tensor], state: &[Tensor]) -> Vec<Tensor> {
    let batch = inputs[0].shape()[0] as i64;
    interp::eval(&bound(function, batch), inputs, &state.iter().collect::<Vec<_>>()).unwrap()
}

/// Runs the training function and compares its step with central differences of its own loss.
fn check_step(module: &Module, spec: &TrainingSpec, inputs: &[&Tensor]) {
    let trained = add_training(module, spec).unwrap();
    let step = trained.function("train_step").unwrap();
    let old = values(&trained);
    let new = eval(step, inputs, &old);
    assert_eq!(new[0].shape(), [0usize; 0]);
    assert_eq!(step.outputs, [OutputDecl { name: "loss".into(), mark: Some(OutputMark::Loss) }]);
    for (target, value) in step.updates.iter().zip(&new[1..]) {
        let decl = &trained.state[*target];
        if decl.role != StateRole::Param {
            continue;
        }
        let slot = trained.state_index(&format!("{}.momentum", decl.name));
        for i in 0..value.len() {
            let shifted = |by: f64| {
                let mut state = old.clone();
                state[*target].set(i, Scalar::F(old[*target].get(i).as_f64() + by));
                eval(step, inputs, &state)[0].get(0).as_f64()
            };
            let p = old[*target].get(i).as_f64();
            let Optimizer::Sgd(sgd) = &spec.update.optimizer else { panic!("sgd alone") };
            let g = (shifted(1e-6) - shifted(-1e-6)) / 2e-6 + sgd.weight_decay * p;
            let v = slot.map_or(0.0, |s| sgd.momentum * old[s].get(i).as_f64()) + g;
            let error = value.get(i).as_f64() - (p - sgd.lr * v);
            assert!(error.abs() < 1e-7, "{}[{i}]: {error}", decl.name);
            if let Some(s) = slot {
                let k = step.updates.iter().position(|u| *u == s).unwrap();
                assert!((new[1 + k].get(i).as_f64() - v).abs() < 1e-7);
            }
        }
    }
}

fn labels() -> Tensor {
    Tensor::from_slice(&[5], &[0i32, 3, 1, 1, 2])
}

fn cross_entropy(output: &str) -> Loss {
    Loss::CrossEntropy { output: output.into() }
}

#[test]
fn steps_follow_the_gradient() {
    let module = model(|b, y| {
        let p = b.op1(Softmax { axis: 1 }, &[y])?;
        let squares = b.map(ScalarFn::Mul, &[y, y])?;
        let loss = b.mean(squares, &[0, 1])?;
        Ok(vec![("y", y), ("p", p), ("loss", loss)])
    });
    let (x, t) = (sample_tensor(&[5, 3], 1), sample_tensor(&[5, 4], 2));
    let plain = Sgd { lr: 0.25, momentum: 0.0, ..Sgd::default() };
    let decayed = Sgd { weight_decay: 0.125, ..Sgd::default() };
    for optimizer in [plain, Sgd::default(), decayed] {
        let update = UpdateRule::from(optimizer);
        let spec = |loss| TrainingSpec { update: update.clone(), ..TrainingSpec::new("predict", loss) };
        check_step(&module, &spec(Loss::Output("loss".into())), &[&x]);
        check_step(&module, &spec(Loss::Mse { output: "y".into() }), &[&x, &t]);
        check_step(&module, &spec(cross_entropy("y")), &[&x, &labels()]);
        check_step(&module, &spec(cross_entropy("p")), &[&x, &labels()]);
    }
}

#[test]
fn a_training_function_adds_its_state() {
    let module = model(|_, y| Ok(vec![("y", y)]));
    let trained = add_training(&module, &TrainingSpec::new("predict", cross_entropy("y"))).unwrap();
    let added: Vec<_> =
        trained.state[4..].iter().map(|s| (s.name.as_str(), s.role, s.ty.to_string())).collect();
    assert_eq!(
        added,
        [
            ("learning_rate", StateRole::Buffer, "f64[]".into()),
            ("w.momentum", StateRole::Slot, "f64[3,4]".into()),
            ("b.momentum", StateRole::Slot, "f64[4]".into()),
        ]
    );
    assert_eq!(trained.state[4].init.as_ref().unwrap().get(0), Scalar::F(0.1));
    assert!(trained.state[5..].iter().all(|s| s.init.as_ref().unwrap().bytes().iter().all(|b| *b == 0)));
    let step = trained.function("train_step").unwrap();
    assert_eq!(step.inputs, ["x", "target"]);
    assert_eq!(step.input_type(1).to_string(), "i32[B]");
    assert_eq!(trained.function("predict").unwrap().graph, module.function("predict").unwrap().graph);

    let plain = TrainingSpec {
        update: Sgd { momentum: 0.0, ..Sgd::default() }.into(),
        wrt: Some(vec!["b".into()]),
        ..TrainingSpec::new("predict", cross_entropy("y"))
    };
    let trained = add_training(&module, &plain).unwrap();
    assert_eq!(trained.state.len(), 5);
    assert_eq!(trained.function("train_step").unwrap().updates, [1]);
}

/// With logits of thousands the softmax underflows; its logarithm is -inf, unless it is not taken.
#[test]
fn cross_entropy_of_a_softmax_is_that_of_its_logits() {
    let softmaxes: [fn(&mut Builder, ValueId) -> Result<ValueId>; 4] = [
        |b, y| b.op1(Softmax { axis: 1 }, &[y]),
        |b, y| b.op1(LogSoftmax { axis: 1 }, &[y]),
        |b, y| {
            let log = b.op1(LogSoftmax { axis: 1 }, &[y])?;
            b.map(ScalarFn::Exp, &[log])
        },
        |b, y| {
            let e = b.map(ScalarFn::Exp, &[y])?;
            let sum = b.sum(e, &[1])?;
            let sum = b.unreduce(sum, e, &[1])?;
            b.map(ScalarFn::Div, &[e, sum])
        },
    ];
    for softmax in softmaxes {
        let module = model(|b, y| {
            let scale = b.full_like(y, 1e4)?;
            let y = b.map(ScalarFn::Mul, &[y, scale])?;
            Ok(vec![("p", softmax(b, y)?)])
        });
        let trained = add_training(&module, &TrainingSpec::new("predict", cross_entropy("p"))).unwrap();
        let step = trained.function("train_step").unwrap();
        let new = eval(step, &[&sample_tensor(&[5, 3], 1), &labels()], &values(&trained));
        assert!(new[0].get(0).as_f64() > 1e3);
        assert!(new.iter().all(|t| t.to_f64().iter().all(|v| v.is_finite())));
    }
}

fn refusal(module: &Module, spec: &TrainingSpec) -> String {
    add_training(module, spec).unwrap_err().to_string()
}

#[test]
fn refusals_name_the_node_and_the_reason() {
    let module = model(|b, y| {
        let class = named(b, "class", |b| b.op1(ArgReduce { kind: ArgKind::Max, axis: 1 }, &[y]))?;
        let number = b.cast(class, DType::F64)?;
        let hits = b.mean(number, &[0])?;
        let stopped = named(b, "frozen", |b| b.op1(StopGradient {}, &[y]))?;
        let stopped = b.mean(stopped, &[0, 1])?;
        let sign = named(b, "side", |b| b.map(ScalarFn::Sign, &[y]))?;
        let sign = b.mean(sign, &[0, 1])?;
        let fine = b.mean(y, &[0, 1])?;
        Ok(vec![
            ("class", class),
            ("hits", hits),
            ("stopped", stopped),
            ("sign", sign),
            ("loss", fine),
            ("y", y),
        ])
    });
    let output = |name: &str| TrainingSpec::new("predict", Loss::Output(name.into()));
    let wrt = |name: &str| TrainingSpec { wrt: Some(vec![name.into()]), ..output("loss") };
    let sgd = |optimizer: Sgd| TrainingSpec { update: optimizer.into(), ..output("loss") };
    let good = Sgd::default;
    for (spec, parts) in [
        (output("hits"), &["`arg_reduce` node `class`", "does not change smoothly", "`w`"][..]),
        (output("stopped"), &["`stop_gradient` node `frozen`", "on purpose"]),
        (output("sign"), &["`sign` node `side`", "derivative is zero"]),
        (output("class"), &["i64[B]", "one number"]),
        (output("y"), &["f64[B,4]", "mean"]),
        (output("los"), &["no output `los`", "did you mean `loss`?"]),
        (TrainingSpec::new("predit", Loss::Output("y".into())), &["did you mean `predict`?"]),
        (wrt("W1"), &["no state `W1`", "w"]),
        (wrt("count"), &["`count`", "i64[]"]),
        (wrt("unused"), &["does not depend on `unused`", "`predict` does not read it"]),
        (TrainingSpec { name: "predict".into(), ..output("loss") }, &["`predict` already"]),
        (TrainingSpec::new("predict", cross_entropy("class")), &["`class` is i64[B]"]),
        (TrainingSpec::new("predict", Loss::Mse { output: "class".into() }), &["`class` is i64[B]"]),
        (sgd(Sgd { lr: 0.0, ..good() }), &["`lr` is 0", "above 0"]),
        (sgd(Sgd { lr: -1.0, ..good() }), &["`lr`"]),
        (sgd(Sgd { lr: f64::NAN, ..good() }), &["`lr`", "NaN"]),
        (sgd(Sgd { lr: 1e30, ..good() }), &["`lr`"]),
        (sgd(Sgd { momentum: 1.0, ..good() }), &["momentum", "below 1"]),
        (sgd(Sgd { momentum: -0.1, ..good() }), &["momentum"]),
        (sgd(Sgd { weight_decay: f64::INFINITY, ..good() }), &["weight_decay"]),
    ] {
        let message = refusal(&module, &spec);
        assert!(parts.iter().all(|p| message.contains(p)), "{message} lacks one of {parts:?}");
    }
}

#[test]
fn a_parameter_beside_the_loss_is_refused() {
    let module = model(|b, y| {
        let other = StateRead { index: 2, dtype: DType::F64, dims: vec![2usize.into()] };
        let other = named(b, "unused", |b| b.op1(other, &[]))?;
        let loss = b.mean(y, &[0, 1])?;
        Ok(vec![("loss", loss), ("other", other)])
    });
    let message = refusal(&module, &TrainingSpec::new("predict", Loss::Output("loss".into())));
    assert!(message.contains("the loss does not depend on `state` node `unused`"), "{message}");
}

#[test]
fn taken_names_are_refused() {
    let module = model(|_, y| Ok(vec![("y", y)]));
    let once = add_training(&module, &TrainingSpec::new("predict", cross_entropy("y"))).unwrap();
    let again = TrainingSpec { name: "again".into(), ..TrainingSpec::new("predict", cross_entropy("y")) };
    assert!(refusal(&once, &again).contains("`learning_rate`"));
    let mut module = module;
    module.functions[0].inputs[0] = "target".into();
    let message = refusal(&module, &TrainingSpec::new("predict", cross_entropy("y")));
    assert!(message.contains("`target`"), "{message}");
}

/// y = batch_norm_inference(x · w + b) with state for scale, shift, mean and variance.
fn normalized() -> Module {
    let mut module = model(|b, y| {
        let read = |b: &mut Builder, index| {
            b.op1(StateRead { index, dtype: DType::F64, dims: vec![4usize.into()] }, &[])
        };
        let p = (4..8).map(|i| read(b, i)).collect::<Result<Vec<_>>>()?;
        let norm = BatchNormInference { axis: 1, eps: Real(1e-5) };
        Ok(vec![("y", b.op1(norm, &[y, p[0], p[1], p[2], p[3]])?)])
    });
    for (name, role) in [("gamma", StateRole::Param), ("beta", StateRole::Param)] {
        module.state.push(state(name, role, "f64[4]"));
    }
    for (name, seed) in [("mean", 3), ("var", 4)] {
        let mut decl = state(name, StateRole::Buffer, "f64[4]");
        decl.init = Some(Arc::new(sample_positive(&[4], seed)));
        module.state.push(decl);
    }
    module
}

#[test]
fn frozen_normalization_keeps_its_statistics() {
    let module = normalized();
    let spec = TrainingSpec::new("predict", Loss::Mse { output: "y".into() });
    let (x, t) = (sample_tensor(&[5, 3], 1), sample_tensor(&[5, 4], 2));
    check_step(&module, &spec, &[&x, &t]);
    let trained = add_training(&module, &spec).unwrap();
    let updates = &trained.function("train_step").unwrap().updates;
    assert!(!updates.contains(&6) && !updates.contains(&7));
}

#[test]
fn training_normalization_uses_the_batch() {
    let module = normalized();
    let spec =
        TrainingSpec { mode: Mode::Train, ..TrainingSpec::new("predict", Loss::Mse { output: "y".into() }) };
    let (x, t) = (sample_tensor(&[5, 3], 1), sample_tensor(&[5, 4], 2));
    // A bias before the normalization has no influence: its gradient is zero but for rounding.
    check_step(&module, &spec, &[&x, &t]);
    let trained = add_training(&module, &spec).unwrap();
    let step = trained.function("train_step").unwrap();
    let old = values(&trained);
    let new = eval(step, &[&x, &t], &old);
    let after = |index| &new[1 + step.updates.iter().position(|u| *u == index).unwrap()];
    for c in 0..4 {
        let column: Vec<f64> = (0..5)
            .map(|r| (0..3).map(|k| x.get(r * 3 + k).as_f64() * old[0].get(k * 4 + c).as_f64()).sum::<f64>())
            .map(|dot: f64| dot + old[1].get(c).as_f64())
            .collect();
        let mean = column.iter().sum::<f64>() / 5.0;
        let unbiased = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
        let expected = |index: usize, new: f64| 0.9 * old[index].get(c).as_f64() + 0.1 * new;
        assert!((after(6).get(c).as_f64() - expected(6, mean)).abs() < 1e-12);
        assert!((after(7).get(c).as_f64() - expected(7, unbiased)).abs() < 1e-12);
    }
}

/// The gradient of a sum over the batch is the sum of the batches' gradients.
#[test]
fn accumulated_sums_are_the_joint_batch() {
    let module = model(|b, y| {
        let squares = b.map(ScalarFn::Mul, &[y, y])?;
        Ok(vec![("loss", b.sum(squares, &[0, 1])?)])
    });
    let spec = TrainingSpec {
        accumulate: Some(Accumulate::Sum),
        update: Sgd { lr: 0.25, ..Sgd::default() }.into(),
        ..TrainingSpec::new("predict", Loss::Output("loss".into()))
    };
    let parts = add_training(&module, &spec).unwrap();
    let joint = add_training(&module, &TrainingSpec { accumulate: None, ..spec }).unwrap();
    let names: Vec<&str> = parts.functions.keys().map(String::as_str).collect();
    assert_eq!(names, ["predict", ZERO_GRAD_PARAMETERS, ACC_GRAD_PARAMETERS, UPDATE_PARAMETERS]);

    let run = |name: &str, inputs: &[&Tensor], state: &mut Vec<Tensor>| {
        let function = parts.function(name).unwrap();
        let graph = if inputs.is_empty() { function.graph.clone() } else { bound(function, 2) };
        let new = interp::eval(&graph, inputs, &state.iter().collect::<Vec<_>>()).unwrap();
        for (i, value) in function.updates.iter().zip(&new[function.outputs.len()..]) {
            state[*i] = value.clone();
        }
    };
    let x = sample_tensor(&[4, 3], 1);
    let rows = |from: usize| {
        Tensor::from_slice(&[2, 3], &(0..6).map(|i| x.get(from * 3 + i).as_f64()).collect::<Vec<_>>())
    };
    let mut state = values(&parts);
    for garbage in [true, false] {
        run(ZERO_GRAD_PARAMETERS, &[], &mut state);
        run(ACC_GRAD_PARAMETERS, &[&rows(0)], &mut state);
        // What is accumulated and then set to zero leaves nothing behind.
        if !garbage {
            run(ACC_GRAD_PARAMETERS, &[&rows(2)], &mut state);
        }
    }
    let count = parts.state_index(ACCUMULATED).unwrap();
    assert_eq!(state[count].get(0), Scalar::I(2));
    run(UPDATE_PARAMETERS, &[], &mut state);
    let step = joint.function("train_step").unwrap();
    let new = eval(step, &[&x], &values(&joint));
    for (i, value) in step.updates.iter().zip(&new[1..]) {
        let found = &state[parts.state_index(&joint.state[*i].name).unwrap()];
        for k in 0..value.len() {
            assert!((found.get(k).as_f64() - value.get(k).as_f64()).abs() < 1e-12);
        }
    }
}
