//! Graphs that some device once got wrong, most of them found among the random ones and shrunk.

use graphc_ir::wire::{DecodeOptions, decode};
use graphc_ir::{DType, Dim, Module, Scalar, Tensor};
use graphc_optimizer::driver::Options;
use graphc_tests::compare::tensor_error;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::random_graph::{FUNCTION, Prng};

/// Value of every symbol.
const SIZE: i64 = 3;

/// Inputs and, where it has none, state without structure.
fn filled(module: &mut Module) -> Vec<Tensor> {
    let mut prng = Prng::new(7);
    let mut tensor = |dtype: DType, dims: &[Dim]| {
        let shape: Vec<usize> = dims.iter().map(|d| d.as_const().unwrap_or(SIZE) as usize).collect();
        Tensor::from_fn(dtype, &shape, |_| match dtype {
            DType::U32 => Scalar::I(i128::from(prng.word() as u32)),
            t if t.is_float() => Scalar::F(prng.real(-2.0, 2.0)),
            _ => Scalar::I(prng.below(3) as i128),
        })
    };
    for s in module.state.iter_mut().filter(|s| s.init.is_none()) {
        s.init = Some(tensor(s.ty.dtype, &s.ty.dims).into());
    }
    let graph = &module.function(FUNCTION).expect("it has one").graph;
    graph.inputs().iter().map(|v| tensor(graph.ty(*v).dtype, &graph.ty(*v).dims)).collect()
}

#[test]
fn every_device_gets_them_right() {
    let cpu = |threads| Cpu { threads, options: Options::default() };
    let arena = ReferenceProgram { arena: true, ..ReferenceProgram::default() };
    let devices: [&dyn Device; 3] = [&arena, &cpu(1), &cpu(2)];
    let folder = format!("{}/regressions", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let name = path.display().to_string();
        let bytes = std::fs::read(&path).expect("it can be read");
        let options = DecodeOptions { file: &name, ..DecodeOptions::default() };
        let mut module = decode(&bytes, &options).unwrap_or_else(|e| panic!("{}", e[0]));
        let inputs = filled(&mut module);
        let wanted = Reference.run(&module, FUNCTION, &inputs).expect("it runs");
        for device in devices {
            let found = device.run(&module, FUNCTION, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (got, want) in found.outputs.iter().zip(&wanted.outputs) {
                let error = tensor_error(got, want);
                assert!(error < 1e-5, "{name} on {}: {error:e}", device.name());
            }
        }
        count += 1;
    }
    assert!(count >= 5, "{count} graphs");
}
