//! Kernels whose epilogues fold their results down the columns, against the reference executor.

use graphc_ir::dtype::DType;
use graphc_ir::ops::{Geometry, Layout, Window};
use graphc_ir::program::{
    Body, Conv, ConvRole, Dot, FoldAxis, FoldKind, InstOp, Kernel, Level, Port, Reg, View,
};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::target::Target;
use graphc_ir::tensor::Tensor;

use super::tests::{Draft, apply, check, load, sample, store};
use crate::isa::Isa;
use crate::target::CpuTarget;

/// Appends reads, writes and a body to a step with two operands and the result `sizes`: the sums with a bias and a
/// cut at zero; their mean; a function of their variance and of a value for each column; the sum of their products
/// with another array.
fn statistics(draft: &mut Draft, inputs: &mut Vec<Tensor>, sizes: &[usize]) -> (Body, Vec<Port>, Vec<Port>) {
    let columns = sizes[sizes.len() - 1];
    let by_column = |buffer| {
        let strides = [vec![0; sizes.len() - 1], vec![1]].concat();
        Port { buffer, view: View { offset: 0, strides, guard: None } }
    };
    let (bias, gamma, other) = (
        draft.input(DType::F32, &[columns]),
        draft.input(DType::F32, &[columns]),
        draft.input(DType::F32, sizes),
    );
    inputs.extend([
        sample(DType::F32, &[columns], 3),
        sample(DType::F32, &[columns], 4),
        sample(DType::F32, sizes, 5),
    ]);
    let reads = vec![by_column(bias), by_column(gamma), draft.port(other)];
    let whole = draft.output(DType::F32, sizes);
    let mut writes = vec![draft.port(whole)];
    for _ in 0..3 {
        let result = draft.output(DType::F32, &[columns]);
        writes.push(by_column(result));
    }
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    let bias = load(&mut body, 2, Level::Col);
    let sum = apply(&mut body, ScalarFn::Add, &[acc, bias]);
    let value = apply(&mut body, ScalarFn::Relu, &[sum]);
    store(&mut body, value, 0);
    let fold = |body: &mut Body, kind: FoldKind, reg: Reg| {
        body.push(InstOp::Fold(kind, FoldAxis::Rows), &[reg], DType::F32, Level::Scalar)
    };
    let mean = fold(&mut body, FoldKind::Mean, value);
    store(&mut body, mean, 1);
    let variance = fold(&mut body, FoldKind::Var, value);
    let one = body.push(InstOp::Const(Scalar::F(1.0)), &[], DType::F32, Level::Scalar);
    let shifted = apply(&mut body, ScalarFn::Add, &[variance, one]);
    let gamma = load(&mut body, 3, Level::Col);
    let scaled = apply(&mut body, ScalarFn::Div, &[gamma, shifted]);
    store(&mut body, scaled, 2);
    let other = load(&mut body, 4, Level::Elem);
    let product = apply(&mut body, ScalarFn::Mul, &[value, other]);
    let total = fold(&mut body, FoldKind::Max, product);
    store(&mut body, total, 3);
    (body, reads, writes)
}

fn conv_draft(
    role: ConvRole,
    images: usize,
    size: usize,
    [channels, outputs]: [usize; 2],
    [kernel, stride, groups]: [usize; 3],
) -> (Draft, Vec<Tensor>) {
    let window = Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_lo: vec![kernel / 2; 2],
        pads_hi: vec![kernel / 2; 2],
        ceil: false,
    };
    let geometry = Geometry {
        layout: Layout::ChannelsLast,
        batch: images,
        channels,
        outputs,
        groups,
        image: vec![size; 2],
        positions: vec![(size + kernel / 2 * 2 - kernel) / stride + 1; 2],
        window,
    };
    let conv = Conv { role, geometry, body: Body::default() };
    let [first, second, result] = conv.sizes();
    let mut draft = Draft::default();
    let operands = [draft.input(DType::F32, &first), draft.input(DType::F32, &second)];
    let mut inputs = vec![sample(DType::F32, &first, 1), sample(DType::F32, &second, 2)];
    let (body, more, writes) = statistics(&mut draft, &mut inputs, &result);
    let mut reads = operands.map(|operand| draft.port(operand)).to_vec();
    reads.extend(more);
    draft.step(Kernel::Conv(Conv { body, ..conv }.into()), reads, writes);
    (draft, inputs)
}

#[test]
fn convolutions_fold_their_results() {
    use ConvRole::{Forward, InputGrad};
    for (name, (draft, inputs)) in [
        ("taps", conv_draft(Forward, 3, 9, [5, 70], [3, 1, 1])),
        ("few rows", conv_draft(Forward, 1, 3, [2, 3], [3, 1, 1])),
        ("thin images, set by set", conv_draft(Forward, 3, 150, [3, 2], [3, 1, 1])),
        ("units of several blocks", conv_draft(Forward, 2, 60, [3, 5], [5, 1, 1])),
        ("Winograd", conv_draft(Forward, 2, 21, [16, 80], [3, 1, 1])),
        ("Winograd, transposed", conv_draft(InputGrad, 2, 21, [80, 16], [3, 1, 1])),
        ("a product", conv_draft(Forward, 2, 13, [7, 66], [1, 1, 1])),
        ("a gradient with a stride", conv_draft(InputGrad, 2, 10, [6, 5], [3, 2, 1])),
        ("groups", conv_draft(Forward, 2, 6, [4, 6], [3, 1, 2])),
        ("depthwise", conv_draft(Forward, 2, 6, [4, 4], [3, 1, 4])),
        ("no images", conv_draft(Forward, 0, 6, [4, 4], [3, 1, 1])),
    ] {
        check(&draft, &inputs, 2e-4, name);
    }
}

#[test]
fn products_fold_their_results() {
    for (batch, [m, n, k]) in [
        (vec![], [130, 70, 20]),
        (vec![], [5, 70, 20]),
        (vec![], [40, 1, 9]),
        (vec![3], [50, 9, 7]),
        (vec![2, 300], [2, 5, 3]),
        (vec![], [9000, 3, 2]),
    ] {
        let shape = |rows: usize, columns: usize| [&batch[..], &[rows, columns]].concat();
        let mut draft = Draft::default();
        let operands = [draft.input(DType::F32, &shape(m, k)), draft.input(DType::F32, &shape(k, n))];
        let mut inputs = vec![sample(DType::F32, &shape(m, k), 1), sample(DType::F32, &shape(k, n), 2)];
        let (body, more, writes) = statistics(&mut draft, &mut inputs, &shape(m, n));
        let mut reads = operands.map(|operand| draft.port(operand)).to_vec();
        reads.extend(more);
        draft.step(Kernel::Dot(Dot { batch: batch.clone(), m, n, k, body }), reads, writes);
        check(&draft, &inputs, 2e-4, &format!("{batch:?} {m} {n} {k}"));
    }
}

/// A variance far below the square of its mean is not lost.
#[test]
fn variances_are_merged_and_not_differences_of_squares() {
    let (m, n) = (5000, 3);
    let mut draft = Draft::default();
    let operands = [draft.input(DType::F32, &[m, 1]), draft.input(DType::F32, &[1, n])];
    let rows = Tensor::from_fn(DType::F32, &[m, 1], |i| Scalar::F(1000.0 + (i % 7) as f64 / 8.0));
    let ones = Tensor::full(DType::F32, &[1, n], Scalar::F(1.0));
    let variance = draft.output(DType::F32, &[n]);
    let write = Port { buffer: variance, view: View { offset: 0, strides: vec![0, 1], guard: None } };
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    let fold = body.push(InstOp::Fold(FoldKind::Var, FoldAxis::Rows), &[acc], DType::F32, Level::Scalar);
    store(&mut body, fold, 0);
    let reads = operands.map(|operand| draft.port(operand)).to_vec();
    draft.step(Kernel::Dot(Dot { batch: Vec::new(), m, n, k: 1, body }), reads, vec![write]);
    check(&draft, &[rows, ones], 1e-6, "variance");
}

#[test]
fn folds_do_not_take_a_convolution_apart() {
    let target = CpuTarget::new(Isa::Portable, 2);
    let (draft, _) = conv_draft(ConvRole::Forward, 2, 9, [5, 7], [3, 1, 1]);
    let choice = target.choose(&draft.program, &draft.program.steps[0]);
    assert_eq!(choice.algo, "indirect, body on blocks");
}
