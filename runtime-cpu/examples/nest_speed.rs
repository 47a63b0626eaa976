//! Throughput of fused nests against hand-written loops, one thread, in nanoseconds an element.
//!
//! `cargo run --release -p graphc-cpu --example nest_speed`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use graphc_cpu::isa::Isa;
use graphc_cpu::pool::Pool;
use graphc_cpu::{CpuOptions, CpuTarget, Executable};
use graphc_ir::dtype::DType;
use graphc_ir::origin::Origins;
use graphc_ir::program::{
    Body, BufferDecl, BufferId, BufferKind, Choice, FoldAxis, FoldKind, Form, InstOp, Kernel, Level, Nest,
    Port, Program, Reg, Step, Store, View,
};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::target::Target;

/// A step's domain, its body, and the shapes of its operands and its result.
struct Case {
    rows: usize,
    columns: usize,
    body: Body,
    /// Levels of the read ports.
    reads: Vec<Level>,
    write: Level,
}

fn apply(body: &mut Body, function: ScalarFn, args: &[Reg]) -> Reg {
    body.push(InstOp::Fn(function), args, DType::F32, Level::Scalar)
}

fn load(body: &mut Body, port: usize, level: Level) -> Reg {
    body.push(InstOp::Load(port), &[], DType::F32, level)
}

/// `relu(x * scale + shift + residual)`, one scale and shift a column.
fn affine(rows: usize, columns: usize) -> Case {
    let mut body = Body::default();
    let reads = vec![Level::Elem, Level::Col, Level::Col, Level::Elem];
    let [x, scale, shift, residual] = [0, 1, 2, 3].map(|port| load(&mut body, port, reads[port]));
    let product = apply(&mut body, ScalarFn::Mul, &[x, scale]);
    let shifted = apply(&mut body, ScalarFn::Add, &[product, shift]);
    let sum = apply(&mut body, ScalarFn::Add, &[shifted, residual]);
    let reg = apply(&mut body, ScalarFn::Relu, &[sum]);
    body.stores.push(Store { reg, write: 0 });
    Case { rows, columns, body, reads, write: Level::Elem }
}

fn softmax(rows: usize, columns: usize) -> Case {
    let mut body = Body::default();
    let x = load(&mut body, 0, Level::Elem);
    let largest = body.push(InstOp::Fold(FoldKind::Max, FoldAxis::Cols), &[x], DType::F32, Level::Scalar);
    let centred = apply(&mut body, ScalarFn::Sub, &[x, largest]);
    let power = apply(&mut body, ScalarFn::Exp, &[centred]);
    let sum = body.push(InstOp::Fold(FoldKind::Sum, FoldAxis::Cols), &[power], DType::F32, Level::Scalar);
    let reg = apply(&mut body, ScalarFn::Div, &[power, sum]);
    body.stores.push(Store { reg, write: 0 });
    Case { rows, columns, body, reads: vec![Level::Elem], write: Level::Elem }
}

fn unary(function: ScalarFn, len: usize) -> Case {
    let mut body = Body::default();
    let x = load(&mut body, 0, Level::Elem);
    let reg = apply(&mut body, function, &[x]);
    body.stores.push(Store { reg, write: 0 });
    Case { rows: 1, columns: len, body, reads: vec![Level::Elem], write: Level::Elem }
}

/// The mean and the variance of each column, as batch normalization takes them.
fn moments(kind: FoldKind, rows: usize, columns: usize) -> Case {
    let mut body = Body::default();
    let x = load(&mut body, 0, Level::Elem);
    let reg = body.push(InstOp::Fold(kind, FoldAxis::Rows), &[x], DType::F32, Level::Scalar);
    body.stores.push(Store { reg, write: 0 });
    Case { rows, columns, body, reads: vec![Level::Elem], write: Level::Col }
}

/// Seconds of the fastest of many calls.
fn fastest(mut call: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut best = f64::INFINITY;
    while started.elapsed().as_millis() < 300 {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn measure(case: &Case, pool: &Arc<Pool>, isa: Isa) -> Result<f64, Box<dyn std::error::Error>> {
    let Case { rows, columns, body, reads, write } = case;
    let mut program = Program::default();
    let mut port = |level: Level, kind: BufferKind| {
        let (by_row, by_column) =
            (matches!(level, Level::Row | Level::Elem), matches!(level, Level::Col | Level::Elem));
        let shape = vec![if by_row { *rows } else { 1 }, if by_column { *columns } else { 1 }];
        let row_stride = if by_row { shape[1] as isize } else { 0 };
        let view = View { offset: 0, strides: vec![row_stride, isize::from(by_column)], guard: None };
        program.buffers.push(BufferDecl { dtype: DType::F32, shape, form: Form::Dense, kind });
        Port { buffer: BufferId(program.buffers.len() as u32 - 1), view }
    };
    let reads: Vec<Port> =
        reads.iter().enumerate().map(|(i, level)| port(*level, BufferKind::Input(i))).collect();
    let write = port(*write, BufferKind::Output(0));
    program.inputs = reads.iter().map(|port| port.buffer).collect();
    program.outputs = vec![write.buffer];
    let kernel = Kernel::Nest(Nest { rows: vec![*rows], cols: vec![*columns], body: body.clone() });
    let mut step = Step {
        kernel,
        reads,
        writes: vec![write],
        choice: Choice::default(),
        origins: Origins::named("case"),
    };
    step.choice = CpuTarget::new(isa, pool.threads()).choose(&program, &step);
    program.plan.offsets = vec![None; program.buffers.len()];
    program.plan.scratch = vec![0];
    program.plan.arena_bytes = step.choice.scratch_bytes;
    program.steps = vec![step];
    program.commit = 1;
    let program = program.verify()?;
    let executable = Executable::compile(&program, CpuOptions { pool: Arc::clone(pool), isa })?;
    let mut workspace = executable.workspace()?;
    let buffers: Vec<Vec<f32>> = program
        .inputs
        .iter()
        .map(|id| {
            (0..program.buffer(*id).shape.iter().product()).map(|i| (i % 13) as f32 * 0.3 - 1.5).collect()
        })
        .collect();
    let mut out = vec![0f32; program.buffer(program.outputs[0]).shape.iter().product()];
    let mut failed = None;
    let seconds = fastest(|| {
        let mut run = || {
            let mut binding = executable.bind(&mut workspace);
            for (index, buffer) in buffers.iter().enumerate() {
                binding = binding.input(index, bytemuck::cast_slice(buffer))?;
            }
            binding.output(0, bytemuck::cast_slice_mut(&mut out))?.run()
        };
        failed = run().err();
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(seconds),
    }
}

/// The loop that a person would write for [`affine`], vectorized by the compiler for AVX2.
fn affine_by_hand(rows: usize, columns: usize) -> f64 {
    let operand = |len: usize| (0..len).map(|i| (i % 13) as f32 * 0.3 - 1.5).collect::<Vec<f32>>();
    let (x, residual) = (operand(rows * columns), operand(rows * columns));
    let (scale, shift) = (operand(columns), operand(columns));
    let mut out = vec![0f32; rows * columns];
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma"))]
    fn sweep(columns: usize, x: &[f32], residual: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        for ((x, residual), out) in
            x.chunks(columns).zip(residual.chunks(columns)).zip(out.chunks_mut(columns))
        {
            for i in 0..columns {
                let sum = x[i] * scale[i] + shift[i] + residual[i];
                out[i] = if sum <= 0.0 { 0.0 } else { sum };
            }
        }
    }
    if !Isa::Avx2.is_available() {
        return f64::NAN;
    }
    fastest(|| {
        // SAFETY: the machine has AVX2 and FMA, as asked above.
        unsafe { sweep(columns, black_box(&x), &residual, &scale, &shift, &mut out) };
        black_box(&out);
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let isa = Isa::detect()?;
    let threads = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let pool = Arc::new(Pool::new(threads)?);
    println!("{isa}, {threads} threads; nanoseconds an element");
    for (rows, columns) in [(256, 64), (16, 1024), (4096, 64), (256, 1024), (1024, 1024), (16_384, 1024)] {
        let elements = (rows * columns) as f64 * 1e-9;
        let nest = measure(&affine(rows, columns), &pool, isa)? / elements;
        let hand = affine_by_hand(rows, columns) / elements;
        println!(
            "scale+shift+residual+relu {rows:>6} x {columns:<5} {nest:.3}, by hand {hand:.3}: {:.2}x",
            nest / hand
        );
    }
    for (rows, columns) in [(1536, 128), (128, 1000), (4096, 10), (16, 20_000)] {
        let nest = measure(&softmax(rows, columns), &pool, isa)? / (rows * columns) as f64 * 1e9;
        println!("softmax {rows:>6} x {columns:<5} {nest:.3}");
    }
    for (rows, columns) in [(100_352, 64), (6272, 512), (64, 1000), (1_000_000, 1)] {
        for kind in [FoldKind::Sum, FoldKind::Var] {
            let nest = measure(&moments(kind, rows, columns), &pool, isa)? / (rows * columns) as f64 * 1e9;
            println!("{kind:?} of columns {rows:>7} x {columns:<5} {nest:.3}");
        }
    }
    use ScalarFn as F;
    for function in
        [F::Relu, F::Sqrt, F::Exp, F::Log, F::Tanh, F::Sigmoid, F::Erf, F::Expm1, F::Softplus, F::Sin]
    {
        let nest = measure(&unary(function, 16_384), &pool, isa)? / 16_384.0 * 1e9;
        println!("{:<9} {nest:.3}", function.name());
    }
    println!("a run of 16 elements {:.0} ns", measure(&unary(F::Relu, 16), &pool, isa)? * 1e9);
    Ok(())
}
