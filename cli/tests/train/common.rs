//! Running `graphc train`, and what it is run on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use graphc::build::ops::attr::Real;
use graphc::build::ops::{ArgKind, ArgReduce, CrossEntropy, Linear, Normal, Reduction};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result, StateRole};
use graphc::{DType, Tensor};
use tempfile::TempDir;

/// A linear classifier of x f32[B,2] into three classes, with the batch's size as given.
pub fn classifier(batch: &str, rate: f32) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.param("w", "f32[2,3]")?;
    m.param("b", "f32[3]")?;
    m.state_of("rate", StateRole::Buffer, Tensor::from_slice(&[], &[rate]))?;
    m.key("key")?;
    m.function("init", |f| {
        let keys = f.split_key(f.state("key")?, 2)?;
        let dims = vec![2usize.into(), 3usize.into()];
        let w = f.op(Normal { dtype: DType::F32, dims, mean: Real(0.0), std: Real(1.0) }, &[keys[0]])?;
        f.update("w", w)?;
        f.update("b", w.sum(&[0]) * 0.0)?;
        f.update("key", keys[1])
    })?;
    m.function("train_step", |f| {
        let (logits, y) = logits(f, batch)?;
        let loss = f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, y])?;
        let (w, b, rate) = (f.state("w")?, f.state("b")?, f.state("rate")?);
        let g = f.gradients(loss, &[w, b])?;
        f.update("w", w - g[0] * rate)?;
        f.update("b", b - g[1] * rate)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| {
        let (logits, y) = logits(f, batch)?;
        f.loss("loss", f.op(CrossEntropy { reduction: Reduction::Mean }, &[logits, y])?)?;
        let class = f.op(ArgReduce { kind: ArgKind::Max, axis: 1 }, &[logits])?;
        f.metric("accuracy", class.eq(y.cast(DType::I64)).cast(DType::F32).mean(&[0]))
    })?;
    m.function("rows", |f| {
        f.output("x", f.input("x", &format!("f32[{batch},2]"))?)?;
        f.output("y", f.input("y", &format!("i32[{batch}]"))?)
    })?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>, batch: &str) -> Result<(Expr<'s>, Expr<'s>)> {
    let x = f.input("x", &format!("f32[{batch},2]"))?;
    let y = f.input("y", &format!("i32[{batch}]"))?;
    Ok((f.op(Linear {}, &[x, f.state("w")?, f.state("b")?])?, y))
}

/// Points around the corners of a triangle, four times their size: "x0,x1,class" lines.
pub fn points(count: usize) -> String {
    let corner = [(0.0, 4.0), (4.0, -4.0), (-4.0, -4.0)];
    let line = |i: usize| {
        let (x, y) = corner[i % 3];
        let (dx, dy) = ((i * 7 % 11) as f64 / 8.0 - 0.625, (i * 5 % 13) as f64 / 8.0 - 0.75);
        format!("{},{},{}\n", x + dx, y + dy, i % 3)
    };
    (0..count).map(line).collect()
}

pub struct Folder {
    folder: TempDir,
}

impl Folder {
    pub fn new() -> Folder {
        Folder { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn model(&self, name: &str, rate: f32) -> PathBuf {
        graphc::file::save(&classifier("B", rate).unwrap(), &self.path(name)).unwrap();
        self.path(name)
    }
}

pub fn graphc() -> Command {
    Command::new(env!("CARGO_BIN_EXE_graphc"))
}

pub fn train(model: &Path, data: &str, more: &[&str]) -> Output {
    graphc().arg("train").arg(model).args(["--data", data]).args(more).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The standard output of a command that succeeded.
pub fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

pub fn refused(output: &Output, code: i32, parts: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

/// Names and bits of the state.
pub fn state(model: &Path) -> Vec<(String, Option<Vec<u8>>)> {
    let module = graphc::file::load(model).unwrap();
    module.state.iter().map(|s| (s.name.clone(), s.init.as_ref().map(|t| t.bytes().to_vec()))).collect()
}

/// The number behind `"key": ` in a line of JSON.
pub fn number(line: &str, key: &str) -> f64 {
    let at =
        line.find(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("{line} lacks {key}")) + key.len() + 4;
    let rest = &line[at..];
    rest[..rest.find([',', '}']).unwrap()].parse().unwrap()
}

pub fn table(path: &Path, rows: &str) -> String {
    format!("{}:{rows}x=0..2/4:y=2", path.display())
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Starts a long training, waits until it has written some epochs, and sends it a signal.
pub fn interrupt(model: &Path, data: &str, epochs: &str, log: &Path, name: &str) -> (Option<i32>, String) {
    let out = std::fs::File::create(log).unwrap();
    let mut command = graphc();
    command.arg("train").arg(model).args(["--data", data, "--epochs", epochs, "--batch", "2", "--json"]);
    let mut child = command.stdout(out).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while std::fs::metadata(log).unwrap().len() < 200 {
        assert!(started.elapsed() < Duration::from_secs(60), "no epoch was written");
        sleep(Duration::from_millis(2));
    }
    signal(&child, name);
    (child.wait().unwrap().code(), std::fs::read_to_string(log).unwrap())
}
