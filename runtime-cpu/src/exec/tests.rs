//! Whole Programs against the reference executor.

use std::sync::Arc;

use graphc_ir::dtype::DType;
use graphc_ir::origin::Origins;
use graphc_ir::program::reference;
use graphc_ir::program::{
    Body, BodyCheck, BufferDecl, BufferId, BufferKind, Choice, Dot, FoldAxis, FoldKind, Form, InstOp, Kernel,
    Level, Loop, Nest, Port, Program, Reg, Step, Store, VerifiedProgram, View,
};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::target::Target;
use graphc_ir::tensor::Tensor;

use super::{CpuOptions, Executable, RunError};
use crate::isa::Isa;
use crate::pool::Pool;
use crate::target::CpuTarget;

/// Builds a Program whose temporaries lie one after the other.
#[derive(Clone, Default)]
pub(super) struct Draft {
    pub program: Program,
}

impl Draft {
    pub fn buffer(&mut self, kind: BufferKind, dtype: DType, shape: &[usize]) -> BufferId {
        let decl = BufferDecl { dtype, shape: shape.to_vec(), form: Form::Dense, kind };
        self.program.buffers.push(decl);
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    pub fn input(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        let id = self.buffer(BufferKind::Input(self.program.inputs.len()), dtype, shape);
        self.program.inputs.push(id);
        id
    }

    pub fn output(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        let id = self.buffer(BufferKind::Output(self.program.outputs.len()), dtype, shape);
        self.program.outputs.push(id);
        id
    }

    pub fn temp(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        self.buffer(BufferKind::Temp, dtype, shape)
    }

    pub fn port(&self, buffer: BufferId) -> Port {
        Port { buffer, view: View::dense(&self.program.buffer(buffer).shape) }
    }

    pub fn step(&mut self, kernel: Kernel, reads: Vec<Port>, writes: Vec<Port>) {
        let origins = Origins::named(format!("node{}", self.program.steps.len()));
        self.program.steps.push(Step { kernel, reads, writes, choice: Choice::default(), origins });
    }

    /// Places temporaries and scratch, and verifies.
    pub fn plan(&self, target: &CpuTarget) -> VerifiedProgram {
        let mut program = self.program.clone();
        let mut end = 0usize;
        let mut place = |bytes: usize| {
            let at = end;
            end += bytes.next_multiple_of(64);
            at
        };
        for decl in &program.buffers {
            program.plan.offsets.push((decl.kind == BufferKind::Temp).then(|| place(decl.bytes())));
        }
        for index in 0..program.steps.len() {
            let choice = target.choose(&program, &program.steps[index]);
            program.plan.scratch.push(place(choice.scratch_bytes));
            program.steps[index].choice = choice;
        }
        program.plan.arena_bytes = end;
        let writes_state = |step: &Step| {
            step.writes.iter().any(|port| matches!(program.buffer(port.buffer).kind, BufferKind::State(_)))
        };
        program.commit = program.steps.iter().position(writes_state).unwrap_or(program.steps.len());
        program.verify().unwrap()
    }
}

pub(super) fn load(body: &mut Body, port: usize, level: Level) -> Reg {
    body.push(InstOp::Load(port), &[], DType::F32, level)
}

pub(super) fn apply(body: &mut Body, function: ScalarFn, args: &[Reg]) -> Reg {
    let types: Vec<DType> = args.iter().map(|arg| body.inst(*arg).dtype).collect();
    body.push(InstOp::Fn(function), args, function.result_dtype(&types).unwrap(), Level::Scalar)
}

pub(super) fn store(body: &mut Body, reg: Reg, write: usize) {
    body.stores.push(Store { reg, write });
}

pub(super) fn sample(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    Tensor::from_fn(dtype, shape, |i| {
        let v = (i * 7919 + seed * 104_729) % 2003;
        if dtype.is_float() { Scalar::F(v as f64 / 1000.0 - 1.0) } else { Scalar::I(v as i128 % 5) }
    })
}

fn run(
    program: &VerifiedProgram,
    pool: &Arc<Pool>,
    isa: Isa,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, RunError> {
    let executable = Executable::compile(program, CpuOptions { pool: Arc::clone(pool), isa }).unwrap();
    let mut workspace = executable.workspace().unwrap();
    let mut outputs: Vec<Tensor> = program
        .outputs
        .iter()
        .map(|id| Tensor::zeros(program.buffer(*id).dtype, &program.buffer(*id).shape))
        .collect();
    // Twice in one workspace: a run leaves nothing behind that the next one could see.
    for _ in 0..2 {
        let mut binding = executable.bind(&mut workspace);
        for (index, input) in inputs.iter().enumerate() {
            binding = binding.input(index, input.bytes())?;
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            binding = binding.output(index, output.bytes_mut())?;
        }
        binding.run()?;
    }
    Ok(outputs)
}

/// Runs the Program on every instruction set with one thread and two; all agree with the reference.
pub(super) fn check(draft: &Draft, inputs: &[Tensor], tolerance: f64, name: &str) {
    for isa in Isa::available() {
        let mut first: Option<Vec<Tensor>> = None;
        for threads in [1, 2] {
            let program = draft.plan(&CpuTarget::new(isa, threads));
            let want = reference::execute(&program, inputs, &mut [], &[]).unwrap();
            let pool = Arc::new(Pool::new(threads).unwrap());
            let got = run(&program, &pool, isa, inputs).unwrap();
            for (got, want) in got.iter().zip(&want) {
                for i in 0..want.len() {
                    let (got, want) = (got.get(i).as_f64(), want.get(i).as_f64());
                    let same = got == want || (got.is_nan() && want.is_nan());
                    let close = same || (got - want).abs() <= tolerance * want.abs().max(1.0);
                    assert!(close, "{name}, {isa}, element {i}: {got}, not {want}");
                }
            }
            assert!(
                first.get_or_insert_with(|| got.clone()) == &got,
                "{name}, {isa}: two threads differ from one"
            );
        }
    }
}

/// What follows the sums of a product.
#[derive(Clone, Copy, Debug)]
enum Tail {
    Plain,
    Bias,
    BiasRelu,
    Residual,
    Transposed,
    RowSums,
    Narrow,
}

fn dot_program(
    dtype: DType,
    batch: &[usize],
    [m, n, k]: [usize; 3],
    b_transposed: bool,
    panels: Option<Isa>,
    tail: Tail,
) -> (Draft, Vec<Tensor>) {
    let mut draft = Draft::default();
    let acc_type = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let shape = |rows: usize, columns: usize| [batch, &[rows, columns]].concat();
    let a = draft.input(dtype, &shape(m, k));
    let b = draft.input(dtype, &if b_transposed { shape(n, k) } else { shape(k, n) });
    let mut inputs = vec![sample(dtype, &shape(m, k), 1), sample(dtype, &draft.program.buffer(b).shape, 2)];
    let mut b_port = draft.port(b);
    if b_transposed {
        let rank = batch.len();
        b_port.view.strides.swap(rank, rank + 1);
    }
    if let Some(isa) = panels {
        let packed = draft.temp(dtype, &shape(k, n));
        let elements = super::packed_elements(isa, dtype, k, n).unwrap() * batch.iter().product::<usize>();
        draft.program.buffers[packed.index()].form = Form::Panels { bytes: (elements * dtype.size()).max(1) };
        let write = draft.port(packed);
        draft.step(Kernel::Repack { batch: batch.to_vec(), k, n }, vec![b_port], vec![write.clone()]);
        b_port = write;
    }
    let mut reads = vec![draft.port(a), b_port];
    let mut body = Body::default();
    let acc = body.push(InstOp::Acc, &[], acc_type, Level::Elem);
    let mut out_type = acc_type;
    let mut result = acc;
    if matches!(tail, Tail::Bias | Tail::BiasRelu) {
        let bias = draft.input(acc_type, &[n]);
        inputs.push(sample(acc_type, &[n], 3));
        let mut strides = vec![0; batch.len() + 1];
        strides.push(1);
        reads.push(Port { buffer: bias, view: View { offset: 0, strides, guard: None } });
        let bias = body.push(InstOp::Load(2), &[], acc_type, Level::Col);
        result = apply(&mut body, ScalarFn::Add, &[bias, acc]);
    }
    match tail {
        Tail::BiasRelu => result = apply(&mut body, ScalarFn::Relu, &[result]),
        Tail::Residual => {
            let residual = draft.input(acc_type, &shape(m, n));
            inputs.push(sample(acc_type, &shape(m, n), 4));
            reads.push(draft.port(residual));
            let residual = body.push(InstOp::Load(2), &[], acc_type, Level::Elem);
            let active = apply(&mut body, ScalarFn::Tanh, &[acc]);
            result = apply(&mut body, ScalarFn::Sub, &[residual, active]);
            let never = apply(&mut body, ScalarFn::Eq, &[residual, residual]);
            body.checks.push(BodyCheck { reg: never, message: "the residual is a number".into() });
        }
        Tail::Narrow => {
            result = body.push(InstOp::Cast, &[acc], DType::F16, Level::Elem);
            out_type = DType::F16;
        }
        _ => {}
    }
    let mut writes = Vec::new();
    let out = draft.output(out_type, &shape(m, n));
    store(&mut body, result, 0);
    writes.push(draft.port(out));
    if let Tail::Transposed = tail {
        let rank = batch.len();
        draft.program.buffers[out.index()].shape.swap(rank, rank + 1);
        let mut view = View::dense(&draft.program.buffer(out).shape);
        view.strides.swap(rank, rank + 1);
        writes[0].view = view;
    }
    if let Tail::RowSums = tail {
        let sum = body.push(InstOp::Fold(FoldKind::Sum, FoldAxis::Cols), &[acc], acc_type, Level::Scalar);
        store(&mut body, sum, 1);
        let sums = draft.output(acc_type, &[batch, &[m]].concat());
        let mut port = draft.port(sums);
        port.view.strides.push(0);
        writes.push(port);
    }
    draft.step(Kernel::Dot(Dot { batch: batch.to_vec(), m, n, k, body }), reads, writes);
    (draft, inputs)
}

#[test]
fn products_follow_the_reference() {
    let tails = [
        Tail::Plain,
        Tail::Bias,
        Tail::BiasRelu,
        Tail::Residual,
        Tail::Transposed,
        Tail::RowSums,
        Tail::Narrow,
    ];
    let shapes: [(&[usize], [usize; 3]); 6] = [
        (&[], [7, 70, 33]),
        (&[], [1, 130, 64]),
        (&[3], [5, 9, 4]),
        (&[2, 2], [30, 65, 17]),
        (&[], [100, 3, 0]),
        (&[], [60, 1, 12]),
    ];
    for (batch, sizes) in shapes {
        for tail in tails {
            for b_transposed in [false, true] {
                for dtype in [DType::F32, DType::F64, DType::Bf16] {
                    if matches!(tail, Tail::Narrow) && dtype == DType::F64 {
                        continue;
                    }
                    let tolerance = match (tail, dtype) {
                        (Tail::Narrow, _) => 2e-3,
                        (_, DType::F64) => 1e-12,
                        _ => 2e-5,
                    };
                    let name = format!("{batch:?} {sizes:?} {tail:?} {b_transposed} {dtype}");
                    let (draft, inputs) = dot_program(dtype, batch, sizes, b_transposed, None, tail);
                    check(&draft, &inputs, tolerance, &name);
                }
            }
        }
    }
}

#[test]
fn packed_operands_follow_the_reference() {
    for isa in Isa::available() {
        for (batch, sizes) in [(&[][..], [9, 70, 33]), (&[3], [1, 40, 20])] {
            for tail in [Tail::BiasRelu, Tail::Residual] {
                for b_transposed in [false, true] {
                    let (draft, inputs) =
                        dot_program(DType::F32, batch, sizes, b_transposed, Some(isa), tail);
                    let program = draft.plan(&CpuTarget::new(isa, 2));
                    let want = reference::execute(&program, &inputs, &mut [], &[]).unwrap();
                    let got = run(&program, &Arc::new(Pool::new(2).unwrap()), isa, &inputs).unwrap();
                    for i in 0..want[0].len() {
                        assert!(
                            (got[0].get(i).as_f64() - want[0].get(i).as_f64()).abs() < 2e-5,
                            "{isa} {sizes:?} {tail:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn extrema_rows_by_index_and_their_sums_follow_the_reference() {
    for max in [true, false] {
        let mut draft = Draft::default();
        let (x, out) = (draft.input(DType::F32, &[40, 9]), draft.output(DType::I64, &[9]));
        // The transposed matrix: rows of the domain are columns of the buffer.
        let read = Port { buffer: x, view: View { offset: 0, strides: vec![1, 9], guard: None } };
        let write = draft.port(out);
        draft.step(Kernel::ArgReduce { max, rows: vec![9], cols: 40 }, vec![read], vec![write]);
        let mut input = sample(DType::F32, &[40, 9], 5);
        input.set(9 * 17 + 3, Scalar::F(f64::NAN));
        check(&draft, &[input], 0.0, "arg_reduce");
    }
    for (outer, axis, inner, count, index_type) in [
        (1, 5, 3, 7, DType::I64),
        (2, 5, 700, 300, DType::I32),
        (3, 5, 1, 4, DType::I64),
        (1, 5, 40, 0, DType::I32),
    ] {
        let mut draft = Draft::default();
        let base = draft.input(DType::F32, &[outer, axis, inner]);
        let indices = draft.input(index_type, &[count]);
        let gathered = draft.output(DType::F32, &[outer, count, inner]);
        let sums = draft.output(DType::F32, &[outer, axis, inner]);
        let ports: Vec<Port> = [base, indices, gathered, sums].iter().map(|b| draft.port(*b)).collect();
        let [base, indices, gathered, sums] = ports.try_into().unwrap();
        draft.step(
            Kernel::Gather { outer, axis, inner, count },
            vec![base.clone(), indices.clone()],
            vec![gathered.clone()],
        );
        draft.step(
            Kernel::ScatterAdd { outer, axis, inner, count },
            vec![base, indices, gathered],
            vec![sums],
        );
        let inputs = [sample(DType::F32, &[outer, axis, inner], 6), sample(index_type, &[count], 7)];
        check(&draft, &inputs, 1e-4, "gather and scatter_add");
    }
}

#[test]
fn an_index_outside_is_an_error_with_its_place() {
    let mut draft = Draft::default();
    let (x, indices) = (draft.input(DType::F32, &[5, 2]), draft.input(DType::I32, &[3]));
    let out = draft.output(DType::F32, &[3, 2]);
    let ports: Vec<Port> = [x, indices, out].iter().map(|b| draft.port(*b)).collect();
    let [x, indices, out] = ports.try_into().unwrap();
    draft.step(Kernel::Gather { outer: 1, axis: 5, inner: 2, count: 3 }, vec![x, indices], vec![out]);
    let program = draft.plan(&CpuTarget::new(Isa::Portable, 1));
    let pool = Arc::new(Pool::new(1).unwrap());
    for (bad, position) in [(5, 1), (-1, 2)] {
        let mut list = [0i32; 3];
        list[position] = bad;
        let inputs = [sample(DType::F32, &[5, 2], 1), Tensor::from_slice(&[3], &list)];
        let error = run(&program, &pool, Isa::Portable, &inputs).unwrap_err().to_string();
        assert_eq!(error, format!("`node0`: index {bad} (number {position} of the list) is outside 0..5"));
    }
}

/// The body of a loop: `h' = tanh(h + x * w)`, `y = h' * 2`, with an intermediate in the arena.
fn recurrent_body(machine: &CpuTarget) -> VerifiedProgram {
    let mut draft = Draft::default();
    let [w, h, x] =
        [draft.input(DType::F32, &[6]), draft.input(DType::F32, &[6]), draft.input(DType::F32, &[6])];
    let [h_new, y] = [draft.output(DType::F32, &[6]), draft.output(DType::F32, &[6])];
    let product = draft.temp(DType::F32, &[6]);
    let elementwise = |draft: &mut Draft, reads: &[BufferId], writes: &[BufferId], body: Body| {
        let ports =
            |draft: &Draft, ids: &[BufferId]| ids.iter().map(|id| draft.port(*id)).collect::<Vec<_>>();
        let (reads, writes) = (ports(draft, reads), ports(draft, writes));
        draft.step(Kernel::Nest(Nest { rows: vec![], cols: vec![6], body }), reads, writes);
    };
    let mut body = Body::default();
    let (a, b) = (load(&mut body, 0, Level::Elem), load(&mut body, 1, Level::Elem));
    let c = apply(&mut body, ScalarFn::Mul, &[a, b]);
    store(&mut body, c, 0);
    elementwise(&mut draft, &[x, w], &[product], body);
    let mut body = Body::default();
    let (a, b) = (load(&mut body, 0, Level::Elem), load(&mut body, 1, Level::Elem));
    let sum = apply(&mut body, ScalarFn::Add, &[a, b]);
    let new = apply(&mut body, ScalarFn::Tanh, &[sum]);
    let double = apply(&mut body, ScalarFn::Add, &[new, new]);
    store(&mut body, new, 0);
    store(&mut body, double, 1);
    let limit = body.push(InstOp::Const(Scalar::F(50.0)), &[], DType::F32, Level::Scalar);
    let small = apply(&mut body, ScalarFn::Lt, &[sum, limit]);
    body.checks.push(BodyCheck { reg: small, message: "the sum stays small".into() });
    elementwise(&mut draft, &[h, product], &[h_new, y], body);
    draft.plan(machine)
}

fn loop_draft(machine: &CpuTarget, length: usize, reverse: bool) -> Draft {
    let mut draft = Draft::default();
    let ins =
        [draft.input(DType::F32, &[6]), draft.input(DType::F32, &[6]), draft.input(DType::F32, &[length, 6])];
    let outs = [draft.output(DType::F32, &[6]), draft.output(DType::F32, &[length, 6])];
    let ports = |ids: &[BufferId]| ids.iter().map(|id| draft.port(*id)).collect::<Vec<_>>();
    let (reads, writes) = (ports(&ins), ports(&outs));
    let body = Arc::new(recurrent_body(machine));
    draft.step(Kernel::Loop(Loop { length, reverse, invariants: 1, carries: 1, body }), reads, writes);
    draft
}

#[test]
fn loops_follow_the_reference() {
    for length in [0, 1, 2, 3, 8] {
        for reverse in [false, true] {
            let inputs = [
                sample(DType::F32, &[6], 1),
                sample(DType::F32, &[6], 2),
                sample(DType::F32, &[length, 6], 3),
            ];
            for threads in [1, 2] {
                let machine = CpuTarget::new(Isa::Portable, threads);
                let program = loop_draft(&machine, length, reverse).plan(&machine);
                let want = reference::execute(&program, &inputs, &mut [], &[]).unwrap();
                let got =
                    run(&program, &Arc::new(Pool::new(threads).unwrap()), Isa::Portable, &inputs).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    for i in 0..want.len() {
                        assert!(
                            (got.get(i).as_f64() - want.get(i).as_f64()).abs() < 1e-5,
                            "{length} {reverse}"
                        );
                    }
                }
            }
        }
    }
    let machine = CpuTarget::new(Isa::Portable, 1);
    let program = loop_draft(&machine, 2, false).plan(&machine);
    let large = Tensor::full(DType::F32, &[2, 6], Scalar::F(100.0));
    let inputs = [Tensor::full(DType::F32, &[6], Scalar::F(1.0)), sample(DType::F32, &[6], 2), large];
    let error = run(&program, &Arc::new(Pool::new(1).unwrap()), Isa::Portable, &inputs).unwrap_err();
    assert_eq!(error.to_string(), "`node1`: the sum stays small");
}

#[test]
fn state_is_updated_in_place() {
    let mut draft = Draft::default();
    let gradient = draft.input(DType::F32, &[300]);
    let state = draft.buffer(BufferKind::State(0), DType::F32, &[300]);
    let mut body = Body::default();
    let (w, g) = (load(&mut body, 0, Level::Elem), load(&mut body, 1, Level::Elem));
    let rate = body.push(InstOp::Const(Scalar::F(0.5)), &[], DType::F32, Level::Scalar);
    let delta = apply(&mut body, ScalarFn::Mul, &[g, rate]);
    let new = apply(&mut body, ScalarFn::Sub, &[w, delta]);
    store(&mut body, new, 0);
    let (w, g) = (draft.port(state), draft.port(gradient));
    draft.step(Kernel::Nest(Nest { rows: vec![], cols: vec![300], body }), vec![w.clone(), g], vec![w]);
    let program = draft.plan(&CpuTarget::new(Isa::Portable, 1));
    let pool = Arc::new(Pool::new(1).unwrap());
    let executable = Executable::compile(&program, CpuOptions { pool, isa: Isa::Portable }).unwrap();
    let mut workspace = executable.workspace().unwrap();
    let mut w = sample(DType::F32, &[300], 1);
    let g = sample(DType::F32, &[300], 2);
    let before = w.clone();
    let error = executable.bind(&mut workspace).input(0, g.bytes()).unwrap().state(0, w.bytes()).unwrap_err();
    assert!(matches!(error, RunError::ReadOnly { index: 0 }));
    let binding = executable.bind(&mut workspace).input(0, g.bytes()).unwrap();
    binding.state_mut(0, w.bytes_mut()).unwrap().run().unwrap();
    for i in 0..300 {
        let want = before.get(i).as_f64() - 0.5 * g.get(i).as_f64();
        assert!((w.get(i).as_f64() - want).abs() < 1e-6);
    }
}

#[test]
fn wrong_bindings_are_errors() {
    let (draft, inputs) = dot_program(DType::F32, &[], [2, 3, 4], false, None, Tail::Plain);
    let program = draft.plan(&CpuTarget::new(Isa::Portable, 1));
    let options = CpuOptions { pool: Arc::new(Pool::new(1).unwrap()), isa: Isa::Portable };
    let executable = Executable::compile(&program, options.clone()).unwrap();
    let mut workspace = executable.workspace().unwrap();
    let bytes = inputs[0].bytes();
    let missing = executable.bind(&mut workspace).input(0, bytes).unwrap().run().unwrap_err();
    assert_eq!(missing.to_string(), "input 1 is not bound; bind it before the run");
    let short = executable.bind(&mut workspace).input(0, &bytes[4..]).unwrap_err();
    assert_eq!(short.to_string(), "input 0 has 28 bytes, but the Program takes 32");
    let unknown = executable.bind(&mut workspace).input(7, bytes).unwrap_err();
    assert!(matches!(unknown, RunError::Unknown { index: 7, .. }));
    let odd = [0u8; 40];
    let first = odd.as_ptr().align_offset(4) + 1;
    let unaligned = executable.bind(&mut workspace).input(0, &odd[first..first + 32]).unwrap_err();
    assert!(matches!(unaligned, RunError::Alignment { alignment: 4, .. }));
    let other = Executable::compile(&program, options).unwrap();
    assert!(matches!(other.bind(&mut workspace).input(0, bytes), Err(RunError::Workspace)));
}
