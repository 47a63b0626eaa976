//! Every function of every model on a device that validates everything and computes nothing, with the limits that every
//! adapter has: memory, layouts, pipelines, bind groups and runs, without a GPU.

use graphc_gpu::{Code, Executable, Gpu, GpuTarget, Home, RunError};
use graphc_ir::error::{Error, Result};
use graphc_ir::{Binding, Builder, DType, Function, ScalarFn, Tensor, TensorType};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;
use graphc_tests::gpu::{adapter, windowed};
use graphc_tests::vectors::{FUNCTION, module_of};

/// Size of dims that are symbols.
const BATCH: i64 = 2;

fn binding(function: &Function) -> Result<Binding> {
    let mut binding = Binding::new();
    for v in function.graph.inputs() {
        for symbol in function.graph.ty(*v).dims.iter().flat_map(|d| d.symbols()) {
            binding.set(&symbol, BATCH, "the test")?;
        }
    }
    Ok(binding)
}

/// Runs a function twice: what it reads back is what nobody wrote, zeros. Gives how many dispatches bind windows.
fn run(gpu: &Gpu, function: &Function) -> Result<usize> {
    let failed = |e: RunError| Error::new(e.to_string());
    let mut options = Options::default();
    options.compile.staging = false;
    let (binding, remarks) = (binding(function)?, &mut Remarks::default());
    let graph = driver::optimize(function, &options, remarks)?;
    let target = GpuTarget::new(gpu.caps());
    let compiled = driver::compile(&graph, function, &binding, &target, &options, remarks)?;
    let code = Code::new(&compiled.main, gpu.caps())?;
    let executable = Executable::new(gpu, &code, &mut |decl| {
        matches!(decl.home, Home::State(_)).then(|| gpu.memory(decl.words)).transpose()
    })
    .map_err(|e| Error::new(e.to_string()))?;
    let bound = function.graph.bind(&binding)?;
    let zeros = |v: &graphc_ir::ValueId| Tensor::zeros(bound.ty(*v).dtype, &bound.ty(*v).static_shape());
    let mut outputs: Vec<Tensor> = bound.results()[..function.outputs.len()].iter().map(zeros).collect();
    for _ in 0..2 {
        for (i, input) in bound.inputs().iter().map(zeros).enumerate() {
            executable.write_input(i, input.dtype(), input.bytes()).map_err(failed)?;
        }
        let into = &mut outputs.iter_mut().enumerate().map(|(i, t)| (i, t.dtype(), t.bytes_mut()));
        executable.run(into).map_err(failed)?;
        assert!(outputs.iter().all(|t| t.bytes().iter().all(|b| *b == 0)));
    }
    Ok(windowed(code.items()))
}

#[test]
fn every_function_of_every_model() {
    let gpu = Gpu::noop(usize::MAX);
    for model in graphc_models::MODELS {
        let module = (model.build)().expect("it builds");
        for (name, function) in &module.functions {
            let windows = run(&gpu, function).unwrap_or_else(|e| panic!("{name} of {}: {e}", model.name));
            assert_eq!(windows, 0, "{name} of {}", model.name);
        }
    }
}

/// The same with shaders that see a small part of many tensors at once: what is bound is in the device's limits, and what
/// cannot be done in pieces is told by our own error.
#[test]
fn models_in_windows() {
    let gpu = Gpu::noop(256 << 10);
    let (mut count, mut windows, mut refused) = (0, 0, Vec::new());
    for model in graphc_models::MODELS {
        let module = (model.build)().expect("it builds");
        for (name, function) in &module.functions {
            count += 1;
            match run(&gpu, function) {
                Ok(more) => windows += more,
                Err(e) if e.to_string().contains("a piece of this step needs") => {
                    refused.push(format!("{name} of {}: {e}", model.name));
                }
                Err(e) => panic!("{name} of {}: {e}", model.name),
            }
        }
    }
    assert!(windows > 100, "{windows} windows");
    // The taps of a filter lie apart: those of 3 x 3 over 512 channels are 9 MB, most of which a gradient needs at once.
    assert!(refused.len() <= 1, "{} of {count}:\n{}", refused.len(), refused.join("\n"));
}

/// What a device does not have is told before it is asked.
#[test]
fn limits_are_told_before_the_device_is_asked() {
    let gpu = Gpu::noop(usize::MAX);
    let words = gpu.caps().memory_bytes / 4;
    gpu.memory(words).expect("it is as large as it may be");
    let error = gpu.memory(words + 1).expect_err("it is larger").to_string();
    assert!(error.contains("268435460 bytes is larger than the 268435456 bytes"), "{error}");
    let mut b = Builder::new();
    let x = b.input(TensorType::fixed(DType::F32, &[words + 1])).expect("it is a type");
    let y = b.map(ScalarFn::Add, &[x, x]).expect("it is an operation");
    let graph = b.finish(&[y]).expect("it is a graph");
    let module = module_of(graph, vec!["x".into()], vec!["y".into()]);
    let error =
        run(&gpu, module.function(FUNCTION).expect("it is there")).expect_err("it is larger").to_string();
    assert!(error.contains("268435460 bytes is larger than the 268435456 bytes"), "{error}");
}

/// Compiled pipelines are kept where the driver can, and a folder that is none is told.
#[test]
fn pipelines_are_kept() {
    let Some(gpu) = adapter() else { return };
    if !gpu.info().features.iter().any(|f| f == "pipeline cache") {
        eprintln!("SKIPPED: this driver keeps no pipelines");
        return;
    }
    let folder = std::env::temp_dir().join(format!("graphc-pipelines-{}", std::process::id()));
    let module = graphc_models::two_layer::build().expect("it builds");
    let function = module.function("predict").expect("it is there");
    for _ in 0..2 {
        let gpu = Gpu::open_with(None, Some(&folder)).expect("it opens");
        run(&gpu, function).expect("it runs");
    }
    let files: Vec<_> = std::fs::read_dir(&folder).map_or(Vec::new(), |f| f.flatten().collect());
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::write(folder.join("file"), b"").expect("it is written");
    let error = Gpu::open_with(None, Some(&folder.join("file"))).map(drop).map_err(|e| e.to_string());
    assert!(error.is_err());
    // A damaged file is told, does no harm, and is whole again after the next run; wgpu's own head has 64 bytes.
    let file = files[0].path();
    let whole = std::fs::read(&file).expect("it is read");
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), vec![7; 100], whole[..whole.len() / 2].to_vec()];
    for at in (0..whole.len().min(24 + 64)).step_by(7) {
        let mut one = whole.clone();
        one[at] ^= 0x10;
        damaged.push(one);
    }
    // What an earlier version wrote.
    damaged.push(whole[24..].to_vec());
    for bytes in damaged {
        std::fs::write(&file, &bytes).expect("it is written");
        let gpu = Gpu::open_with(None, Some(&folder)).expect("it opens");
        let note = gpu.note().expect("it is told").to_owned();
        assert!(note.contains("damaged or of another version"), "{note}");
        run(&gpu, function).expect("it runs");
        let gpu = Gpu::open_with(None, Some(&folder)).expect("it opens");
        assert_eq!(gpu.note(), None);
    }
    std::fs::remove_dir_all(&folder).expect("it is removed");
}
