//! How compile time grows: every family of [`graphc_tests::scale`] at sizes from a thousand to fifty thousand nodes,
//! stage by stage, in microseconds a node, with the largest amount of memory that was live, in bytes a node.
//!
//! `cargo run --release -p graphc-benches --bin compile_scale [PART OF A FAMILY'S NAME] [SIZES]`

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use graphc::ir::dim::{Binding, Symbol};
use graphc::ir::stage::Stage;
use graphc::ir::wire::{self, DecodeOptions, EncodeOptions};
use graphc::{Device, Session, Tensor};
use graphc_cpu::isa::Isa;
use graphc_cpu::pool::Pool;
use graphc_cpu::{CpuOptions, CpuTarget, Executable};
use graphc_optimizer::compile::{CompileOptions, fuse_graph};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::plan::{PlanOptions, plan};
use graphc_optimizer::remarks::Remarks;
use graphc_optimizer::{lower, staging};
use graphc_tests::scale::{FAMILIES, Family};

/// The system's allocator, which tells how much is live.
struct Measuring;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    PEAK.fetch_max(LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promises are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        took(size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// Microseconds a node of each stage, in order.
struct Times {
    nodes: f64,
    list: Vec<(&'static str, f64)>,
}

impl Times {
    fn of<T>(&mut self, stage: &'static str, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = f();
        self.list.push((stage, start.elapsed().as_secs_f64() * 1e6 / self.nodes));
        result
    }
}

type Failure = Box<dyn std::error::Error>;

fn measure(family: &Family, nodes: usize) -> Result<(Times, usize), Failure> {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let mut times = Times { nodes: nodes as f64, list: Vec::new() };
    let module = times.of("build", || (family.build)(nodes))?;
    let text =
        times.of("write", || wire::encode(&module, &EncodeOptions { weights: Some("w.safetensors") }))?;
    let decoded = times.of("read", || wire::decode(text.as_bytes(), &DecodeOptions::default()));
    drop(decoded);
    let function = &module.functions["f"];
    let mut binding = Binding::new();
    let mut symbols: BTreeMap<Symbol, i64> = BTreeMap::new();
    for i in 0..function.inputs.len() {
        symbols.extend(function.input_type(i).dims.iter().flat_map(|d| d.symbols()).map(|s| (s, 2)));
    }
    for (symbol, size) in &symbols {
        binding.set(symbol, *size, "the benchmark")?;
    }
    let (isa, pool) = (Isa::detect()?, Arc::new(Pool::new(1)?));
    let target = CpuTarget::new(isa, 1);
    let (options, compile, remarks) =
        (Options::default(), CompileOptions::default(), &mut Remarks::default());
    let outputs = function.outputs.len();
    let optimized = times.of("optimize", || driver::optimize(function, &options, remarks))?;
    let bound = times.of("bind", || driver::bind(&optimized, &binding, &options, Stage::Layout, remarks))?;
    let fused = times.of("fuse", || fuse_graph(&bound, outputs, &target, &compile, remarks))?;
    let lowered =
        times.of("lower", || lower::lower(&fused, outputs, &function.updates, 0, &target, &compile))?;
    let (main, _) = times.of("stage", || staging::split(lowered))?;
    let planned = times.of("plan", || plan(main, &PlanOptions::default()))?;
    let verified = times.of("verify", || planned.verify())?;
    let executable = times.of("compile", || Executable::compile(&verified, CpuOptions { pool, isa }))?;
    drop((optimized, bound, fused, verified, executable));

    // Through the front door, and a run of what came of it.
    let sizes = |ty: &graphc::TensorType| -> Vec<usize> {
        ty.dims.iter().map(|d| d.bind_size(&binding).unwrap_or(1)).collect()
    };
    let values: Vec<Tensor> = (0..function.inputs.len())
        .map(|i| Tensor::zeros(function.input_type(i).dtype, &sizes(function.input_type(i))))
        .collect();
    let names = function.inputs.clone();
    let feeds: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&values).collect();
    let mut session = Session::from_module(module).device(Device::Cpu).threads(1).build()?;
    let mut results = times.of("session", || session.new_outputs("f", &feeds))?;
    times.of("first run", || session.run_into("f", &feeds, &mut results))?;
    times.of("next run", || session.run_into("f", &feeds, &mut results))?;
    Ok((times, (PEAK.load(Ordering::Relaxed) - before) / nodes))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1_000, 5_000, 10_000, 50_000];
    }
    let wanted = arguments.iter().find(|a| a.parse::<usize>().is_err());
    for family in FAMILIES.iter().filter(|f| wanted.is_none_or(|w| f.name.contains(w.as_str()))) {
        println!("{}: microseconds a node", family.name);
        for (row, nodes) in sizes.iter().enumerate() {
            let (times, bytes) = measure(family, *nodes)?;
            if row == 0 {
                let head: String = times.list.iter().map(|(stage, _)| format!("{stage:>10}")).collect();
                println!("{:>8}{head}{:>10}{:>12}", "nodes", "all", "bytes/node");
            }
            let cells: String = times.list.iter().map(|(_, t)| format!("{t:>10.2}")).collect();
            let all: f64 = times.list.iter().map(|(_, t)| t).sum();
            println!("{nodes:>8}{cells}{all:>10.2}{bytes:>12}");
        }
    }
    Ok(())
}
