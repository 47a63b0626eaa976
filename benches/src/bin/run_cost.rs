//! What a run costs beside its kernels, on a 64-32-10 perceptron and 32 rows: `Session::run` and `Session::start` with
//! `finish` against `Session::run_into`, for prediction and a training step, interleaved in one process; and, with the
//! path of the program, a step of `graphc train` against the median of `graphc bench`. Prints medians in microseconds.
//!
//! `cargo run --release -p graphc-benches --bin run_cost [PATH OF graphc]`

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use graphc::build::{ModuleBuilder, ops};
use graphc::ir::ops::{sample_indices, sample_tensor};
use graphc::{DType, Device, Module, Session, Tensor};

type Failure = Box<dyn std::error::Error>;

const BATCH: usize = 32;
/// Rows of the data set: enough that an epoch's own costs count for little.
const ROWS: usize = 32 * 1000;
const ROUNDS: usize = 4001;

fn perceptron() -> graphc::build::Result<Module> {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    let names = ["w1", "b1", "w2", "b2"];
    for (name, shape) in names.into_iter().zip([&[64, 32][..], &[32], &[32, 10], &[10]]) {
        m.value(name, sample_tensor(shape, 3).cast(DType::F32))?;
    }
    m.function("predict", |f| {
        let h = f.op(ops::Linear {}, &[f.input("x", "f32[B,64]")?, f.state("w1")?, f.state("b1")?])?.relu();
        f.output("logits", f.op(ops::Linear {}, &[h, f.state("w2")?, f.state("b2")?])?)
    })?;
    m.function("train_step", |f| {
        let (x, y) = (f.input("x", "f32[B,64]")?, f.input("y", "i32[B]")?);
        let state = names.iter().map(|n| f.state(n)).collect::<Result<Vec<_>, _>>()?;
        let h = f.op(ops::Linear {}, &[x, state[0], state[1]])?.relu();
        let logits = f.op(ops::Linear {}, &[h, state[2], state[3]])?;
        let loss = f.op(ops::CrossEntropy { reduction: ops::Reduction::Mean }, &[logits, y])?;
        for ((name, w), g) in names.iter().zip(&state).zip(f.gradients(loss, &state)?) {
            f.update(name, *w - g * 0.001)?;
        }
        f.loss("loss", loss)
    })?;
    m.finish()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Medians of `run_into`, `run`, and `start` with `finish`, in turns.
fn compare(session: &mut Session, name: &str, feeds: &[(&str, &Tensor)]) -> Result<[f64; 3], Failure> {
    let mut outputs = session.new_outputs(name, feeds)?;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        session.run_into(name, feeds, &mut outputs)?;
        times[0].push(start.elapsed());
        let start = Instant::now();
        let ran = session.run(name, feeds.iter().copied())?;
        times[1].push(start.elapsed());
        let start = Instant::now();
        let started = session.start(name, feeds.iter().copied())?;
        let finished = session.finish(started)?;
        times[2].push(start.elapsed());
        assert_eq!(ran.len(), finished.len());
    }
    Ok(times.map(|mut t| median(&mut t)))
}

/// The last number before a word in the output of the program.
fn told(binary: &Path, arguments: &[&str], before: &str) -> Result<f64, Failure> {
    let output = Command::new(binary).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let number = |line: &str| line.split(before).next()?.split_whitespace().next_back()?.parse::<f64>().ok();
    text.lines().filter(|l| l.contains(before)).filter_map(number).next_back().ok_or_else(|| text.into())
}

/// A file of one array, in the first version of NumPy's format.
fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat()
}

/// Medians of a step of `graphc train` (an epoch's time over its steps) and of `graphc bench`, in turns.
fn program(binary: &Path) -> Result<[f64; 2], Failure> {
    let folder = std::env::temp_dir().join(format!("graphc-run-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (model, data) = (folder.join("model.json"), folder.join("data.csv"));
    graphc::file::save(&perceptron()?, &model)?;
    let (x, y) = (sample_tensor(&[ROWS, 64], 1), sample_indices(&[ROWS], 10, 2));
    let mut rows = String::new();
    for r in 0..ROWS {
        for c in 0..64 {
            rows += &format!("{},", (x.get(64 * r + c).as_f64() * 16.0).round());
        }
        rows += &format!("{}\n", y.get(r).as_int());
    }
    std::fs::write(&data, rows)?;
    let (model, data) = (model.display().to_string(), format!("{}:x=0..64/16:y=64", data.display()));
    let inputs =
        [("x", &x.cast(DType::F32), "<f4"), ("y", &y.cast(DType::I32), "<i4")].map(|(name, all, kind)| {
            let file = folder.join(format!("{name}.npy"));
            let bytes = &all.bytes()[..all.bytes().len() / ROWS * BATCH];
            let shape = if all.shape().len() == 2 { format!("({BATCH}, 64)") } else { format!("({BATCH},)") };
            (format!("{name}=@{}", file.display()), std::fs::write(file, npy(kind, &shape, bytes)))
        });
    let [(x, wrote_x), (y, wrote_y)] = inputs;
    wrote_x?;
    wrote_y?;
    let (mut trained, mut benched) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let bench =
            ["bench", &model, "--fn", "train_step", "-i", &x, "-i", &y, "--seconds", "1", "--threads", "1"];
        benched.push(told(binary, &bench, " ms, min")? * 1e3);
        let train = ["train", &model, "--data", &data, "--epochs", "5", "--threads", "1", "-q", "--json"];
        let started = Instant::now();
        let output = Command::new(binary).args(train).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let five = started.elapsed();
        // Less the same with one epoch: what reading and saving cost.
        let train = ["train", &model, "--data", &data, "--epochs", "1", "--threads", "1", "-q", "--json"];
        let started = Instant::now();
        Command::new(binary).args(train).output()?;
        let steps = 4.0 * (ROWS / BATCH) as f64;
        trained.push(five.saturating_sub(started.elapsed()).as_secs_f64() * 1e6 / steps);
    }
    std::fs::remove_dir_all(&folder)?;
    let middle = |mut times: Vec<f64>| {
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() / 2]
    };
    Ok([middle(trained), middle(benched)])
}

fn main() -> Result<(), Failure> {
    let mut session = Session::from_module(perceptron()?).device(Device::Cpu).threads(1).build()?;
    let x = sample_tensor(&[BATCH, 64], 1).cast(DType::F32);
    let y = sample_indices(&[BATCH], 10, 2).cast(DType::I32);
    for (name, feeds) in [("predict", &[("x", &x)][..]), ("train_step", &[("x", &x), ("y", &y)])] {
        let [into, run, start] = compare(&mut session, name, feeds)?;
        println!("{name}: run_into {into:.2} us, run {run:.2} us, start and finish {start:.2} us");
    }
    if let Some(path) = std::env::args().nth(1) {
        let [train, bench] = program(Path::new(&path))?;
        println!("a step of `graphc train` {train:.2} us, `graphc bench` of it {bench:.2} us");
    }
    Ok(())
}
