//! A GPU as a device: the Programs and shaders of a run, without a session around them.

use std::sync::OnceLock;

use graphc_gpu::{Code, DeviceMemory, Executable, Gpu, GpuCaps, GpuTarget, Home, Item, from_words, to_words};
use graphc_ir::error::{Error, Result};
use graphc_ir::{Module, Tensor};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;

use crate::device::{Device, Outcome, binding, initial_state};

/// The variable that makes a missing adapter an error if it is `1`, and leaves adapters alone if it is `0`.
const REQUIRED: &str = "GRAPHC_REQUIRE_GPU";

/// The adapter of this process, if there is one.
///
/// # Panics
/// When there is none, but the environment says that there must be.
pub fn adapter() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    let wanted = |value: &str| std::env::var_os(REQUIRED).is_some_and(|v| v == value);
    let open = || match Gpu::open(None) {
        _ if wanted("0") => None,
        Ok(gpu) => Some(gpu),
        Err(e) if wanted("1") => panic!("{REQUIRED} is set, but {e}"),
        Err(e) => {
            eprintln!("SKIPPED: {e}");
            None
        }
    };
    GPU.get_or_init(open).as_ref()
}

/// How many dispatches among items bind a window of a memory.
pub fn windowed(items: &[Item]) -> usize {
    let of = |item: &Item| match item {
        Item::Launch(launch) => usize::from(launch.bindings.iter().any(|bound| bound.window.is_some())),
        Item::Repeat(_, items) => windowed(items),
        Item::While(condition, _, body) => windowed(condition) + windowed(body),
        Item::Branch(_, sides) => sides.iter().map(|items| windowed(items)).sum(),
    };
    items.iter().map(of).sum()
}

/// A GPU.
#[derive(Clone, Debug)]
pub struct GpuDevice {
    /// The adapter.
    pub gpu: &'static Gpu,
    /// What kernels are chosen by: the adapter's own, or those of another one.
    pub caps: GpuCaps,
    /// What the optimizer may do.
    pub options: Options,
}

impl GpuDevice {
    /// With all of the optimizer; nothing is computed ahead of a run, because each run here is the first.
    pub fn new(gpu: &'static Gpu) -> GpuDevice {
        let mut options = Options::default();
        options.compile.staging = false;
        GpuDevice { gpu, caps: gpu.caps().clone(), options }
    }

    /// The launches of a function for inputs of these shapes.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn code(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Code> {
        let function = module.function(function)?;
        let remarks = &mut Remarks::default();
        let graph = driver::optimize(function, &self.options, remarks)?;
        let binding = binding(module, function, inputs)?;
        let target = GpuTarget::new(&self.caps);
        let compiled = driver::compile(&graph, function, &binding, &target, &self.options, remarks)?;
        Code::new(&compiled.main, &self.caps)
    }
}

impl Device for GpuDevice {
    fn name(&self) -> &str {
        "gpu"
    }

    fn run(&self, module: &Module, function: &str, inputs: &[Tensor]) -> Result<Outcome> {
        let failed = |e: &dyn std::fmt::Display| Error::new(e.to_string());
        let code = self.code(module, function, inputs)?;
        let function = module.function(function)?;
        let binding = binding(module, function, inputs)?;
        let mut state = initial_state(module)?;
        let memories = state
            .iter()
            .map(|value| {
                let memory = self.gpu.memory(value.len()).map_err(|e| failed(&e))?;
                self.gpu.write(&memory, &to_words(value.dtype(), value.bytes())?).map_err(|e| failed(&e))?;
                Ok(memory)
            })
            .collect::<Result<Vec<DeviceMemory>>>()?;
        let executable = Executable::new(self.gpu, &code, &mut |decl| {
            Ok(if let Home::State(i) = decl.home { Some(memories[i].clone()) } else { None })
        })
        .map_err(|e| failed(&e))?;
        for (i, tensor) in inputs.iter().enumerate() {
            executable.write_input(i, tensor.dtype(), tensor.bytes()).map_err(|e| failed(&e))?;
        }
        let bound = function.graph.bind(&binding)?;
        let mut outputs: Vec<Tensor> = bound.results()[..function.outputs.len()]
            .iter()
            .map(|v| Tensor::zeros(bound.ty(*v).dtype, &bound.ty(*v).static_shape()))
            .collect();
        let into = &mut outputs.iter_mut().enumerate().map(|(i, t)| (i, t.dtype(), t.bytes_mut()));
        executable.run(into).map_err(|e| failed(&e))?;
        for (value, memory) in state.iter_mut().zip(&memories) {
            let words = self.gpu.read(memory).map_err(|e| failed(&e))?;
            from_words(value.dtype(), &words, value.bytes_mut())?;
        }
        Ok(Outcome { outputs, state })
    }
}
