//! Counts, sizes, coordinates and other numbers that graphc makes itself, in types that are narrow for them.

use graphc_ir::dim::Symbol;
use graphc_ir::error::Result;
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{CrossEntropy, Iota, LeakyRelu, Op, Pad, Reduction};
use graphc_ir::{Binding, Builder, DType, Dim, Graph, Module, Number, Scalar, Tensor, TensorType};
use graphc_optimizer::driver::Options;
use graphc_tests::device::{Device, Reference};
use graphc_tests::program::{Cpu, ReferenceProgram};
use graphc_tests::vectors::{FUNCTION, module_of};

fn integers() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|t| t.is_int())
}

fn of_one(graph: Graph) -> Module {
    let inputs = (0..graph.inputs().len()).map(|i| format!("x{i}")).collect();
    module_of(graph, inputs, vec!["y".into()])
}

/// n * x wraps as x + x + ... + x does, whatever n is: the rule multiplies, without it elements are added.
#[test]
fn sums_of_repetitions_wrap() -> Result<()> {
    let compiled = Cpu { threads: 2, options: Options::default() };
    let devices: [&dyn Device; 3] = [&Reference, &ReferenceProgram::default(), &compiled];
    for dtype in integers() {
        let (low, high) = dtype.int_range();
        let values = [low, low + 1, 0, 1, 3, high / 2, high - 1, high];
        let x = Tensor::from_fn(dtype, &[values.len()], |i| Scalar::I(values[i]));
        for times in [1usize, 127, 128, 255, 256, 257, 300, 32769, 65536, 70000] {
            let mut b = Builder::new();
            let v = b.input(TensorType::fixed(dtype, &[values.len()]))?;
            let wide = b.broadcast(v, &[values.len().into(), times.into()], &[0])?;
            let y = b.sum(wide, &[1])?;
            let module = of_one(b.finish(&[y])?);
            for device in devices {
                let found = device.run(&module, FUNCTION, std::slice::from_ref(&x))?.outputs.remove(0);
                for (i, v) in values.iter().enumerate() {
                    let want = Scalar::I(v * times as i128).round_to(dtype);
                    assert_eq!(found.get(i), want, "{times} * {v} in {dtype} on {}", device.name());
                }
            }
        }
    }
    Ok(())
}

/// A coordinate that its type has no number for is refused, also where the size is a symbol's.
#[test]
fn iota_counts_as_far_as_its_type() -> Result<()> {
    let n = Symbol::new("N")?;
    for dtype in integers().chain([DType::F16]) {
        let Some(most) = dtype.largest_count().filter(|m| *m < 1 << 40) else { continue };
        for (size, fits) in [(0, true), (1, true), (most, true), (most + 1, true), (most + 2, false)] {
            let of = |dim: Dim| {
                let mut b = Builder::new();
                let y = b.op1(Iota { dtype, dims: vec![dim], axis: 0 }, &[])?;
                b.finish(&[y])
            };
            assert_eq!(of(Dim::constant(size)).is_ok(), fits, "{size} coordinates in {dtype}");
            let mut binding = Binding::new();
            binding.set(&n, size, "the test")?;
            let bound = of(Dim::from(n.clone()))?.bind(&binding);
            assert_eq!(bound.is_ok(), fits, "N = {size} coordinates in {dtype}");
            if let Err(e) = bound {
                assert!(e.to_string().contains(&format!("must fit {dtype}")), "{e}");
            }
        }
    }
    Ok(())
}

/// A number of elements is refused where its type does not hold it, and is the number where it does.
#[test]
fn counts_are_checked_when_sizes_are_known() -> Result<()> {
    let n = Symbol::new("N")?;
    for dtype in [DType::U8, DType::I8, DType::I16, DType::I32, DType::F32, DType::F16] {
        for size in [0i64, 1, 15, 16, 20] {
            let mut b = Builder::new();
            let dim = Dim::from(n.clone());
            let count = b.count(&[dim.clone(), dim], dtype)?;
            let mut binding = Binding::new();
            binding.set(&n, size, "the test")?;
            let bound = b.finish(&[count])?.bind(&binding);
            let wanted = Number::from(size * size).of(dtype);
            assert_eq!(bound.is_ok(), wanted.is_ok(), "{size}^2 in {dtype}");
            if let (Ok(graph), Ok(wanted)) = (bound, wanted) {
                let found = graphc_ir::interp::eval(&graph, &[], &[])?[0].get(0);
                assert_eq!(found.as_f64(), wanted.as_f64(), "{size}^2 in {dtype}");
            }
        }
    }
    Ok(())
}

/// Numbers among attributes fit the type of what is computed when the node is made, not when it is compiled.
#[test]
fn numbers_that_do_not_fit_are_refused_where_they_are_built() -> Result<()> {
    let refuse = |op: Op, dtype: DType, part: &str| {
        let mut b = Builder::new();
        let x = b.input(TensorType::fixed(dtype, &[3])).expect("an input");
        let error = b.op(op, &[x]).expect_err("the number does not fit").to_string();
        assert!(error.contains(part), "{error}");
    };
    let pad =
        |value: Number| -> Op { Pad { lo: vec![1usize.into()], hi: vec![0usize.into()], value }.into() };
    refuse(pad(300.into()), DType::U8, "300 does not fit u8; it holds 0 to 255");
    refuse(pad((-1).into()), DType::U64, "-1 does not fit u64");
    refuse(pad(0.5.into()), DType::I32, "0.5 is not an integer, as i32 needs");
    refuse(pad(2.into()), DType::Bool, "2 is no bool");
    refuse(pad(1e39.into()), DType::F32, "1e39 does not fit f32");
    refuse(pad(65520.into()), DType::F16, "65520 does not fit f16");
    refuse(LeakyRelu { slope: Real(1e39) }.into(), DType::F32, "attribute `slope`: 1e39 does not fit f32");
    refuse(LeakyRelu { slope: Real(1e39) }.into(), DType::F16, "does not fit f32");
    let mut b = Builder::new();
    assert!(b.scalar(DType::I8, 128).is_err() && b.scalar(DType::I8, -128).is_ok());
    assert!(b.scalar(DType::U16, 0.5).is_err() && b.scalar(DType::F32, 1e300).is_err());
    let x = b.input(TensorType::fixed(DType::I64, &[1]))?;
    let y = b.op1(pad(9_007_199_254_740_993i64.into()), &[x])?;
    let module = of_one(b.finish(&[y])?);
    let compiled = Cpu { threads: 1, options: Options::default() };
    for device in [&Reference as &dyn Device, &ReferenceProgram::default(), &compiled] {
        let found = device.run(&module, FUNCTION, &[Tensor::from_slice(&[1], &[0i64])])?.outputs.remove(0);
        assert_eq!(found.as_slice::<i64>(), [9_007_199_254_740_993, 0], "{}", device.name());
    }
    Ok(())
}

/// A label beyond the classes fails the run in every type, and so does one below 0.
#[test]
fn labels_outside_of_the_classes_fail() -> Result<()> {
    for dtype in integers() {
        let (low, high) = dtype.int_range();
        for (classes, label, fine) in [
            (3usize, 2, true),
            (3, 3, false),
            (300, 127, true),
            (100, 100, false),
            (5, low.min(-1), false),
            (5, high, false),
        ] {
            if label < low {
                continue;
            }
            let mut b = Builder::new();
            let logits = b.input(TensorType::fixed(DType::F32, &[1, classes]))?;
            let labels = b.input(TensorType::fixed(dtype, &[1]))?;
            let loss = b.op1(CrossEntropy { reduction: Reduction::Sum }, &[logits, labels])?;
            let module = of_one(b.finish(&[loss])?);
            let ins = [Tensor::zeros(DType::F32, &[1, classes]), Tensor::full(dtype, &[1], Scalar::I(label))];
            let compiled = Cpu { threads: 1, options: Options::default() };
            for device in [&Reference as &dyn Device, &ReferenceProgram::default(), &compiled] {
                let found = device.run(&module, FUNCTION, &ins);
                assert_eq!(found.is_ok(), fine, "label {label} of {classes} in {dtype} on {}", device.name());
            }
        }
    }
    Ok(())
}
