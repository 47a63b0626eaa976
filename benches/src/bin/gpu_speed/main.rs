//! What a GPU reaches: products, elementwise chains, rows, convolutions and whole functions, on the device alone and with
//! the host.
//!
//! `cargo run --release -p graphc-benches --bin gpu_speed [--tiles | --profile | --shaders] [--software] [NAME ...]`
//!
//! Every line is a JSON object. `benches/peers/gpu.py` runs it beside PyTorch.

mod work;

use std::error::Error;
use std::time::{Duration, Instant};

use graphc::{Device, Session};
use graphc_gpu::{Code, Executable, Gpu, GpuCaps, GpuTarget, Home, Tiles, to_words};
use graphc_ir::dim::Symbol;
use graphc_ir::ops::{sample_indices, sample_tensor};
use graphc_ir::{Binding, DType, Module, Tensor, TensorType};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

use work::Work;

/// Device time that a measurement takes, at least, in seconds.
const LEAST: f64 = 0.03;
/// Seconds of work before it.
const WARM: f64 = 0.25;
/// Measurements of which the median counts.
const SAMPLES: usize = 7;
/// Runs of a session for a measurement with the host.
const HOST_RUNS: usize = 200;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| arguments.iter().any(|a| a == name);
    let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    if flag("--shaders") {
        let all = work::all(false)?.into_iter();
        return all.filter(|w| names.iter().any(|n| w.name == n.as_str())).try_for_each(|w| shaders(&w));
    }
    let gpu = Gpu::open(None)?;
    println!("{{\"adapter\":\"{}\"}}", gpu.info());
    if gpu.info().is_software() && !flag("--software") {
        return Err(
            "this is a driver that computes on the CPU; its times tell nothing (--software runs anyway)"
                .into(),
        );
    }
    for work in work::all(flag("--software"))? {
        if names.is_empty() || names.iter().any(|n| work.name.starts_with(n.as_str())) {
            let outcome = if flag("--tiles") {
                tiles(&gpu, &work)
            } else if flag("--profile") {
                profile(&gpu, &work)
            } else {
                measure(&gpu, &work)
            };
            if let Err(e) = outcome {
                println!("{{\"name\":\"{}\",\"error\":{:?}}}", work.name, e.to_string());
            }
        }
    }
    Ok(())
}

/// A function compiled for the device, with feeds and state in place.
struct Ready {
    executable: Executable,
    kinds: Vec<String>,
    compile: Duration,
}

fn ready(gpu: &Gpu, caps: &GpuCaps, work: &Work) -> Result<Ready> {
    let started = Instant::now();
    let module = &work.module;
    let function = module.function(work.function)?;
    let (options, remarks) = (Options::default(), &mut Remarks::default());
    let graph = driver::optimize(function, &options, remarks)?;
    let binding = binding(module, work)?;
    let compiled = driver::compile(&graph, function, &binding, &GpuTarget::new(caps), &options, remarks)?;
    let state: Vec<Tensor> =
        module.state.iter().map(|s| sample(&s.ty, &binding, 3)).collect::<Result<_>>()?;
    let memories = state.iter().map(|value| {
        let memory = gpu.memory(value.len())?;
        gpu.write(&memory, &to_words(value.dtype(), value.bytes())?)?;
        Ok(memory)
    });
    let memories = memories.collect::<Result<Vec<_>>>()?;
    let of_state = |decl: &graphc_gpu::MemoryDecl| match decl.home {
        Home::State(i) => Some(memories[i].clone()),
        _ => None,
    };
    let prepare = match &compiled.prepare {
        None => None,
        Some(staged) => {
            let code = Code::new(&staged.program, caps)?;
            let executable = Executable::new(gpu, &code, &mut |decl| Ok(of_state(decl)))?;
            executable.replay(1)?;
            Some(executable)
        }
    };
    let code = Code::new(&compiled.main, caps)?;
    let executable = Executable::new(gpu, &code, &mut |decl| {
        Ok(match decl.home {
            Home::Staged(i) => prepare.as_ref().and_then(|p| p.output(i).cloned()),
            _ => of_state(decl),
        })
    })?;
    for (i, input) in function.graph.inputs().iter().enumerate() {
        let value = sample(function.graph.ty(*input), &binding, i as u64)?;
        executable.write_input(i, value.dtype(), value.bytes())?;
    }
    let kinds = compiled.main.steps.iter().map(|s| format!("{} {} [{}]", s.kind(), s.choice.algo, s.origins));
    Ok(Ready { executable, kinds: kinds.collect(), compile: started.elapsed() })
}

fn binding(module: &Module, work: &Work) -> Result<Binding> {
    let function = module.function(work.function)?;
    let mut binding = Binding::new();
    let inputs = function.graph.inputs().iter().map(|v| function.graph.ty(*v));
    let symbols: Vec<Symbol> = inputs.flat_map(|ty| &ty.dims).flat_map(|d| d.symbols()).collect();
    for symbol in &symbols {
        binding.set(symbol, work.batch as i64, "this benchmark")?;
    }
    Ok(binding)
}

/// Random values: indices are those of classes.
fn sample(ty: &TensorType, binding: &Binding, seed: u64) -> Result<Tensor> {
    let shape = ty.dims.iter().map(|d| Ok(d.bind(binding)? as usize));
    let shape = shape.collect::<Result<Vec<usize>>>()?;
    Ok(match ty.dtype {
        DType::F32 => {
            // Many values are one random block again and again: drawing them takes longer than measuring.
            let count: usize = shape.iter().product();
            let block = sample_tensor(&[count.min(1 << 20)], seed).cast(DType::F32);
            let bytes: Vec<u8> = block.bytes().iter().copied().cycle().take(count * 4).collect();
            let mut tensor = Tensor::zeros(DType::F32, &shape);
            tensor.bytes_mut().copy_from_slice(&bytes);
            tensor
        }
        dtype => sample_indices(&shape, 10, seed).cast(dtype),
    })
}

/// Median time of a run on the device, in seconds.
fn device_time(executable: &Executable) -> Result<f64> {
    let once = executable.replay(2)?.as_secs_f64() / 2.0;
    let count = ((LEAST / once) as usize).clamp(1, 2000);
    // Clocks rise under load.
    let warm = Instant::now();
    while warm.elapsed().as_secs_f64() < WARM {
        executable.replay(count)?;
    }
    let times = (0..SAMPLES).map(|_| Ok(executable.replay(count)?.as_secs_f64() / count as f64));
    let mut times = times.collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[SAMPLES / 2])
}

fn measure(gpu: &Gpu, work: &Work) -> Result<()> {
    let Ready { executable, compile, .. } = ready(gpu, gpu.caps(), work)?;
    let device = device_time(&executable)?;
    let rate = |per: f64| per / device;
    let mut line = format!(
        "{{\"name\":\"{}\",\"device_us\":{:.2},\"dispatches\":{},\"compile_ms\":{:.0}",
        work.name,
        device * 1e6,
        executable.dispatches(),
        compile.as_secs_f64() * 1e3
    );
    if work.flops > 0.0 {
        line.push_str(&format!(",\"tflops\":{:.2}", rate(work.flops) / 1e12));
    }
    if work.bytes > 0.0 {
        line.push_str(&format!(",\"gb_s\":{:.0}", rate(work.bytes) / 1e9));
    }
    drop(executable);
    if work.host {
        let [waiting, ahead] = host_times(work)?;
        line.push_str(&format!(",\"host_us\":{:.2},\"ahead_us\":{:.2}", waiting * 1e6, ahead * 1e6));
    }
    println!("{line}}}");
    Ok(())
}

/// The time of a run of a session, from feeds in the host's memory to results there, in seconds: the median of runs that are
/// waited for, and the mean of runs of which one is started while another is under way.
fn host_times(work: &Work) -> Result<[f64; 2]> {
    let mut session = Session::from_module(work.module.clone()).device(Device::Gpu).build()?;
    let function = work.module.function(work.function)?;
    let binding = binding(&work.module, work)?;
    for state in &work.module.state {
        session.set_state(&state.name, sample(&state.ty, &binding, 3)?)?;
    }
    let values = function.graph.inputs().iter().enumerate();
    let values: Vec<Tensor> =
        values.map(|(i, v)| sample(function.graph.ty(*v), &binding, i as u64)).collect::<Result<_>>()?;
    let feeds: Vec<(&str, &Tensor)> = function.inputs.iter().map(String::as_str).zip(&values).collect();
    let mut outputs = session.new_outputs(work.function, &feeds)?;
    let mut times = Vec::new();
    for run in 0..HOST_RUNS + 10 {
        let started = Instant::now();
        session.run_into(work.function, &feeds, &mut outputs)?;
        if run >= 10 {
            times.push(started.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let started = Instant::now();
    let mut under_way = session.start(work.function, feeds.iter().copied())?;
    for _ in 1..HOST_RUNS {
        let next = session.start(work.function, feeds.iter().copied())?;
        session.finish(std::mem::replace(&mut under_way, next))?;
    }
    session.finish(under_way)?;
    Ok([times[times.len() / 2], started.elapsed().as_secs_f64() / HOST_RUNS as f64])
}

/// Every tile for a product or convolution.
fn tiles(gpu: &Gpu, work: &Work) -> Result<()> {
    let mut cases = vec![None];
    for tiles in Tiles::SHARED {
        for ahead in [false, true] {
            cases.extend(work.cuts.iter().map(|cuts| Some(Tiles { ahead, cuts: *cuts, ..tiles })));
        }
    }
    for tiles in cases {
        if tiles.is_some_and(|t| t.bytes() > gpu.caps().workgroup_bytes) {
            continue;
        }
        let caps = GpuCaps { tiles, ..gpu.caps().clone() };
        let Ready { executable, kinds, .. } = ready(gpu, &caps, work)?;
        let device = kernel_time(&executable, &kinds)?;
        let name = tiles.map_or("chosen".to_owned(), |t| {
            format!(
                "{:?} {:?} depth {} ahead {} cuts {}",
                t.block,
                t.each,
                t.shared.unwrap_or(0),
                t.ahead,
                t.cuts
            )
        });
        let tflops = work.flops / device / 1e12;
        println!(
            "{{\"name\":\"{}\",\"tiles\":\"{name}\",\"device_us\":{:.2},\"tflops\":{tflops:.2}}}",
            work.name,
            device * 1e6
        );
    }
    Ok(())
}

/// The texts of a function's shaders on a large card.
fn shaders(work: &Work) -> Result<()> {
    let (caps, remarks) = (GpuCaps::nvidia(), &mut Remarks::default());
    let function = work.module.function(work.function)?;
    let graph = driver::optimize(function, &Options::default(), remarks)?;
    let binding = binding(&work.module, work)?;
    let target = GpuTarget::new(&caps);
    let compiled = driver::compile(&graph, function, &binding, &target, &Options::default(), remarks)?;
    for shader in Code::new(&compiled.main, &caps)?.shaders() {
        println!("{}", shader.text);
    }
    Ok(())
}

/// Median time of the dispatches of the products and convolutions of a run, in seconds.
fn kernel_time(executable: &Executable, kinds: &[String]) -> Result<f64> {
    device_time(executable)?;
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        let run = executable.profile()?.ok_or("this adapter does not time dispatches")?;
        let counts = |step: usize| kinds[step].starts_with("dot") || kinds[step].starts_with("conv");
        times.push(run.iter().filter(|d| counts(d.0)).map(|d| d.1.as_secs_f64()).sum());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[SAMPLES / 2])
}

/// The times of a run's dispatches.
fn profile(gpu: &Gpu, work: &Work) -> Result<()> {
    let Ready { executable, kinds, .. } = ready(gpu, gpu.caps(), work)?;
    executable.replay(3)?;
    let mut runs: Vec<Vec<(usize, Duration)>> = Vec::new();
    for _ in 0..SAMPLES {
        runs.extend(executable.profile()?);
    }
    let count = runs.first().map_or(0, Vec::len);
    for i in 0..count {
        let mut times: Vec<f64> = runs.iter().map(|run| run[i].1.as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        let step = runs[0][i].0;
        println!(
            "{{\"name\":\"{}\",\"step\":{step},\"us\":{:.2},\"kind\":{:?}}}",
            work.name,
            times[times.len() / 2],
            kinds[step]
        );
    }
    Ok(())
}
