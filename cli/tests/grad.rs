//! `graphc grad` as a user calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graphc::build::ops::{ArgKind, ArgReduce, Linear, Softmax};
use graphc::build::{Module, ModuleBuilder, Result};
use graphc::{DType, Tensor};
use tempfile::TempDir;

/// A classifier without any training in it.
fn forward() -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    m.value("w", Tensor::from_slice(&[2, 3], &[0.5f32, -0.25, 0.125, 1.0, 0.75, -0.5]))?;
    m.value("b", Tensor::zeros(DType::F32, &[3]))?;
    m.function("predict", |f| {
        let x = f.input("x", "f32[B,2]")?;
        let logits = f.name("logits", f.op(Linear {}, &[x, f.state("w")?, f.state("b")?])?)?;
        let class = f.name("class", f.op(ArgReduce { kind: ArgKind::Max, axis: 1 }, &[logits])?)?;
        f.output("probabilities", f.op(Softmax { axis: 1 }, &[logits])?)?;
        f.output("class", class)?;
        f.output("score", class.cast(DType::F32).mean(&[0]))
    })?;
    m.finish()
}

struct Folder {
    folder: TempDir,
    model: PathBuf,
}

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.json");
        graphc::file::save(&forward().unwrap(), &model).unwrap();
        Folder { folder, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn grad(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_graphc"));
        command.arg("grad").arg(&self.model).args(more).output().unwrap()
    }

    fn grad_to(&self, out: &Path, more: &[&str]) -> Output {
        let out = out.display().to_string();
        self.grad(&[more, &["-o", &out]].concat())
    }
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", message(output));
}

/// Scores before and after a step, by hand: softmax cross-entropy with a plain step of 0.5.
#[test]
fn a_step_is_as_by_hand() {
    let folder = Folder::new();
    let out = folder.path("out.json");
    let optimizer = ["--optimizer", "sgd:lr=0.5,momentum=0"];
    succeeded(&folder.grad_to(&out, &[&["--loss", "cross_entropy:probabilities"], &optimizer[..]].concat()));
    let mut session = graphc::Session::open(&out).unwrap().device(graphc::Device::Reference).build().unwrap();
    let x = Tensor::from_slice(&[1, 2], &[1.0f32, 2.0]);
    let target = Tensor::from_slice(&[1], &[2i32]);
    let found = session.run("train_step", [("x", &x), ("target", &target)]).unwrap();
    let logits = [2.5f64, 1.25, -0.875];
    let sum: f64 = logits.iter().map(|l| l.exp()).sum();
    assert!((found["loss"].get(0).as_f64() - (sum.ln() - logits[2])).abs() < 1e-6);
    let w = session.state("w").unwrap().unwrap().to_f64();
    for (i, old) in [0.5, -0.25, 0.125, 1.0, 0.75, -0.5].iter().enumerate() {
        let (row, class) = (i / 3, i % 3);
        let error = logits[class].exp() / sum - if class == 2 { 1.0 } else { 0.0 };
        assert!((w[i] - (old - 0.5 * [1.0, 2.0][row] * error)).abs() < 1e-6);
    }
}

#[test]
fn the_new_module_trains() {
    let folder = Folder::new();
    let out = folder.path("out.json");
    succeeded(
        &folder
            .grad_to(&out, &["--fn", "predict", "--loss", "cross_entropy:probabilities", "--wrt", "w", "b"]),
    );
    let data = folder.path("d.csv");
    std::fs::write(&data, "1,0,0\n-1,0,1\n0,2,2\n1,0.5,0\n-1,0.5,1\n0,3,2\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_graphc"));
    let spec = format!("{}:x=0..2:target=2", data.display());
    command.arg("train").arg(&out).args(["--data", &spec, "--epochs", "30", "--batch", "3", "--json"]);
    let output = command.output().unwrap();
    succeeded(&output);
    let log = String::from_utf8(output.stdout).unwrap();
    let loss =
        |line: &str| line.split("\"loss\": ").nth(1).unwrap().trim_end_matches('}').parse::<f64>().unwrap();
    let losses: Vec<f64> = log.lines().map(loss).collect();
    assert!(losses.len() == 30 && losses[29] < 0.5 * losses[0], "{losses:?}");
}

/// Two micro-batches and one step equal one step on the joint batch, for an optimizer with slots, a schedule and clipping.
#[test]
fn accumulated_batches_are_one() {
    let folder = Folder::new();
    let (joint, parts) = (folder.path("joint.json"), folder.path("parts.json"));
    let recipe = [
        "--loss",
        "cross_entropy:probabilities",
        "--optimizer",
        "adam:lr=0.1",
        "--schedule",
        "cosine:steps=9",
        "--warmup",
        "steps=2",
        "--clip",
        "norm=0.5",
        "--regularize",
        "l2=0.01",
    ];
    succeeded(&folder.grad_to(&joint, &recipe));
    succeeded(&folder.grad_to(&parts, &[&recipe[..], &["--accumulate", "mean"]].concat()));
    let open =
        |path: &Path| graphc::Session::open(path).unwrap().device(graphc::Device::Cpu).build().unwrap();
    let (mut joint, mut parts) = (open(&joint), open(&parts));
    let nothing: [(&str, &Tensor); 0] = [];
    let error = parts.run("update_parameters", nothing).unwrap_err().to_string();
    assert!(error.contains("no gradients are accumulated"), "{error}");
    for step in 0..4 {
        let x: Vec<f32> = (0..8).map(|i| ((i * 7 + step * 3) % 5) as f32 - 2.0).collect();
        let labels = [0i32, 2, 1, 2];
        let batch = |rows: std::ops::Range<usize>| {
            let (from, to) = (rows.start, rows.end);
            let target = Tensor::from_slice(&[to - from], &labels[rows]);
            (Tensor::from_slice(&[to - from, 2], &x[2 * from..2 * to]), target)
        };
        let (all, target) = batch(0..4);
        joint.run("train_step", [("x", &all), ("target", &target)]).unwrap();
        parts.run("zero_grad_parameters", nothing).unwrap();
        for rows in [0..2, 2..4] {
            let (x, target) = batch(rows);
            parts.run("acc_grad_parameters", [("x", &x), ("target", &target)]).unwrap();
        }
        parts.run("update_parameters", nothing).unwrap();
        for name in ["w", "b", "w.exp_avg_sq"] {
            let of = |s: &graphc::Session| s.state(name).unwrap().unwrap().to_f64();
            let (a, b) = (of(&joint), of(&parts));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{name} after {step}: {a:?}, {b:?}");
        }
    }
}

#[test]
fn a_module_may_be_replaced_by_its_own_training() {
    let folder = Folder::new();
    let model = folder.model.clone();
    succeeded(&folder.grad_to(&model, &["--loss", "mse:probabilities", "--mode", "train"]));
    let module = graphc::file::load(&model).unwrap();
    assert_eq!(module.function("train_step").unwrap().inputs, ["x", "target"]);
    assert!(module.functions.contains_key("predict"));
}

#[test]
fn refusals_have_their_codes() {
    let folder = Folder::new();
    let out = folder.path("out.json");
    let good = ["--loss", "cross_entropy:probabilities"];
    let with = |more: &[&'static str]| [&good[..], more].concat();
    for (arguments, code, parts) in [
        (vec!["--loss", "score"], 65, &["`arg_reduce` node `class`", "does not change smoothly"][..]),
        (vec!["--loss", "probabilities"], 65, &["f32[B,3]", "one number"]),
        (vec!["--loss", "mse:class"], 65, &["`class` is i64[B]"]),
        (vec!["--loss", "cross_entropy:probabilites"], 2, &["did you mean `probabilities`?"]),
        (vec!["--loss", "crossentropy:probabilities"], 2, &["did you mean `cross_entropy:probabilities`?"]),
        (with(&["--wrt", "ww"]), 2, &["no state `ww`"]),
        (with(&["--fn", "predct"]), 2, &["did you mean `predict`?"]),
        (with(&["--optimizer", "sgd:lr=0"]), 2, &["above 0"]),
        (with(&["--optimizer", "sgd:lr=NaN"]), 2, &["above 0"]),
        (with(&["--optimizer", "sgd:momentum=1.5"]), 2, &["below 1"]),
        (with(&["--optimizer", "adma"]), 2, &["no optimizer `adma`", "did you mean `adam`?"]),
        (with(&["--optimizer", "sgd:momentun=0.9"]), 2, &["did you mean `momentum`?"]),
        (with(&["--optimizer", "sgd:lr"]), 2, &["not a number"]),
        (with(&["--schedule", "cosine:steps=0"]), 2, &["at least 1"]),
        (with(&["--optimizer", "rprop", "--schedule", "cosine:steps=9"]), 2, &["rprop has no learning rate"]),
        (with(&["--warmup", "step=3"]), 2, &["did you mean `steps`?"]),
        (with(&["--clip", "norm=-1"]), 2, &["above 0"]),
        (with(&["--regularize", "max_norm=1,max_norm_axis=2"]), 65, &["`w` is f32[2,3]", "below 2"][1..]),
        (with(&["--accumulate", "product"]), 2, &["mean", "sum"]),
        (with(&["--mode", "trian"]), 2, &["--mode"]),
        (vec![], 2, &["--loss"]),
    ] {
        let output = folder.grad_to(&out, &arguments);
        let text = message(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(parts.iter().all(|p| text.contains(p)), "{text} lacks one of {parts:?}");
        assert!(!out.exists());
    }
    let refused = folder.grad_to(folder.folder.path(), &good);
    assert_eq!(refused.status.code(), Some(73), "{}", message(&refused));
    std::fs::remove_file(&folder.model).unwrap();
    assert_eq!(folder.grad_to(&out, &good).status.code(), Some(66));
}

/// y = Σ w x², differentiated by an input and by state, from the command line alone.
#[test]
fn derivatives_of_a_function() {
    let folder = Folder::new();
    let model = r#"{"format":"graphc.module","version":1,
        "state":[{"name":"w","role":"param","type":"f64[2]","init":{"data":[2,3]}}],
        "functions":{"f":{"inputs":[{"name":"x","type":"f64[2]"}],
        "nodes":[{"id":"s","op":"mul","in":["x","x"]},{"id":"v","op":"mul","in":["s","w"]},
                 {"id":"y","op":"reduce","attrs":{"kind":"sum","axes":[0]},"in":["v"]}],
        "outputs":{"y":"y","v":"v"},"updates":{}}}}"#;
    std::fs::write(folder.path("m.json"), model).unwrap();
    let graphc = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_graphc")).current_dir(folder.folder.path()).args(args).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let derive = |which: &str, of: &str, wrt: &[&str]| {
        let out = format!("{which}.json");
        let mut args = vec!["grad", "m.json", "--derivative", which, "--loss", of, "-o", &out, "--wrt"];
        args.extend(wrt);
        graphc(&args)
    };
    for (which, of, wrt, feeds, output, wanted) in [
        ("gradient", "y", &["x", "w"][..], &[][..], "x.gradient", "[2,12]"),
        ("jvp", "v", &["x"], &["-i", "x.tangent=[1,1]"], "tangent", "[2,12]"),
        ("hvp", "y", &["x"], &["-i", "x.tangent=[1,1]"], "x.hvp", "[4,6]"),
        ("jacobian", "v", &["x"], &[], "x.jacobian", "[[2,0],[0,12]]"),
        ("hessian", "y", &["x"], &[], "x.hessian", "[[4,0],[0,6]]"),
    ] {
        let (made, _, note) = derive(which, of, wrt);
        assert!(made && note.contains(&format!("function `{which}`")), "{note}");
        let model = format!("{which}.json");
        let mut args = vec!["run", &model, "--fn", which, "-i", "x=[0.5,2]"];
        args.extend(feeds);
        let (_, text, error) = graphc(&args);
        let text = text.replace(' ', "").replace(".0", "");
        assert!(text.contains(&format!("\"{output}\":{wanted}")), "{text} {error}");
    }
    for (of, wrt, part) in
        [("v", "x", "one number"), ("y", "z", "no input or state variable `z`"), ("q", "x", "`q`")]
    {
        let (made, _, error) = derive("gradient", of, &[wrt]);
        assert!(!made && error.contains(part), "{error}");
    }
}
