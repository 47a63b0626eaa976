//! What fusion buys: the training step of a 784-512-512-10 perceptron at batch 128, with clusters and
//! with one step a node, interleaved in one run. Prints medians and their ratio.
//!
//! `cargo run --release -p graphc-benches --bin fusion [THREADS]`

use std::time::{Duration, Instant};

use graphc::ir::ops::{sample_indices, sample_tensor};
use graphc::{DType, Device, Error, Options, Session, Tensor};

const BATCH: usize = 128;
const ROUNDS: usize = 60;
const RUNS: usize = 3;

/// A session ready to run, with where its outputs go.
struct Contender {
    session: Session,
    outputs: Vec<Tensor>,
    times: Vec<Duration>,
}

fn contender(fusion: bool, threads: usize, feeds: &[(&str, &Tensor)]) -> Result<Contender, Error> {
    let mut options = Options::default();
    options.optimizer.compile.fusion = fusion;
    let module = graphc_models::mlp_784::build().map_err(|e| Error::Data(e.to_string()))?;
    let builder = Session::from_module(module).device(Device::Cpu).threads(threads).options(options);
    let mut session = builder.build()?;
    session.init(0)?;
    let mut outputs = session.new_outputs("train_step", feeds)?;
    session.run_into("train_step", feeds, &mut outputs)?;
    Ok(Contender { session, outputs, times: Vec::new() })
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3 / RUNS as f64
}

fn main() -> Result<(), Error> {
    let threads = std::env::args().nth(1).and_then(|t| t.parse().ok()).unwrap_or(2);
    let x = sample_tensor(&[BATCH, 784], 1).cast(DType::F32);
    let y = sample_indices(&[BATCH], 10, 2);
    let feeds = [("x", &x), ("y", &y)];
    let mut contenders = [contender(true, threads, &feeds)?, contender(false, threads, &feeds)?];
    for _ in 0..ROUNDS {
        for c in &mut contenders {
            let start = Instant::now();
            for _ in 0..RUNS {
                c.session.run_into("train_step", &feeds, &mut c.outputs)?;
            }
            c.times.push(start.elapsed());
        }
    }
    let [fused, single] = contenders.each_mut().map(|c| median(&mut c.times));
    println!(
        "fused {fused:.3} ms, one step a node {single:.3} ms, ratio {:.2}, {threads} threads",
        single / fused
    );
    Ok(())
}
