//! What the host does for a GPU: dispatches of each model's train step, its shaders, what encoding a dispatch costs, and the
//! device's memory besides state.
//!
//! `cargo run --release -p graphc-benches --bin gpu`
//!
//! Shaders do not run: on a software driver their times would tell nothing.

use std::error::Error;
use std::time::Duration;

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
        "{:14} {:>10} {:>8} {:>12} {:>14} {:>8}",
        "train_step", "dispatches", "shaders", "us to encode", "us a dispatch", "MiB"
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
        let mut times: Vec<Duration> = (0..SAMPLES).map(|_| executable.encoding_time()).collect();
        times.sort_unstable();
        let (median, dispatches) = (times[SAMPLES / 2].as_secs_f64() * 1e6, executable.dispatches());
        let each = median / dispatches.max(1) as f64;
        let (memory, shaders) = (executable.bytes() as f64 / f64::from(1 << 20), code.shaders.len());
        println!("{:14} {dispatches:>10} {shaders:>8} {median:>12.1} {each:>14.2} {memory:>8.2}", model.name);
    }
    Ok(())
}
