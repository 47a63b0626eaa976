//! What the host does for a GPU: dispatches of each model's train step, its shaders, what encoding a dispatch costs, and the
//! device's memory besides state. A dispatch costs what a second run in the same pass takes, by their number.
//!
//! `cargo run --release -p graphc-benches --bin gpu`
//!
//! Shaders do not run: on a software driver their times would tell nothing.

use std::error::Error;

use graphc_gpu::{Code, Executable, Gpu, Home};
use graphc_ir::Binding;
use graphc_ir::dim::Symbol;
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

/// Samples of each model.
const SAMPLES: usize = 101;
/// Size of dims that are symbols.
const BATCH: i64 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::open(None)?;
    println!("{}\n", gpu.info());
    println!(
        "{:14} {:>10} {:>8} {:>8} {:>12} {:>14} {:>8}",
        "train_step", "dispatches", "shaders", "bindings", "us to encode", "us a dispatch", "MiB"
    );
    for model in graphc_models::MODELS {
        let module = (model.build)()?;
        let Some(function) = module.functions.get("train_step") else { continue };
        let mut binding = Binding::new();
        let inputs = function.graph.inputs().iter().map(|v| function.graph.ty(*v));
        let symbols: Vec<Symbol> = inputs.flat_map(|ty| &ty.dims).flat_map(|d| d.symbols()).collect();
        for symbol in &symbols {
            binding.set(symbol, BATCH, "this benchmark")?;
        }
        let (options, remarks) = (Options::default(), &mut Remarks::default());
        let graph = driver::optimize(function, &options, remarks)?;
        let compiled = driver::compile(&graph, function, &binding, &gpu.target(), &options, remarks)?;
        let code = Code::new(&compiled.main, gpu.caps())?;
        let executable = Executable::new(&gpu, &code, &mut |decl| {
            let external = matches!(decl.home, Home::State(_) | Home::Staged(_));
            external.then(|| gpu.memory(decl.words)).transpose()
        })?;
        let us = |runs: usize| executable.encoding_time(runs).as_secs_f64() * 1e6;
        let samples: Vec<[f64; 2]> = (0..SAMPLES).map(|_| [us(1), us(2)]).collect();
        let median = |f: fn(&[f64; 2]) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(f).collect();
            values.sort_by(f64::total_cmp);
            values[SAMPLES / 2]
        };
        let dispatches = executable.dispatches();
        let run = median(|t| t[0]);
        let each = median(|t| t[1] - t[0]) / dispatches.max(1) as f64;
        let bindings: usize = code.shaders().iter().map(|s| s.written.len()).sum();
        let bindings = bindings as f64 / code.shaders().len().max(1) as f64;
        let (memory, shaders) = (executable.bytes() as f64 / f64::from(1 << 20), code.shaders().len());
        println!(
            "{:14} {dispatches:>10} {shaders:>8} {bindings:>8.1} {run:>12.1} {each:>14.2} {memory:>8.2}",
            model.name
        );
    }
    Ok(())
}
