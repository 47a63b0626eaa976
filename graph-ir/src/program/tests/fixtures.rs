//! A small builder, and Programs that several tests share.

use std::sync::Arc;

use crate::dtype::DType;
use crate::error::Result;
use crate::origin::Origins;
use crate::program::*;
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;

/// Builds a Program step by step.
#[derive(Default)]
pub struct Make(pub Program);

impl Make {
    pub fn buffer(&mut self, dtype: DType, shape: &[usize], kind: BufferKind) -> BufferId {
        let id = BufferId(self.0.buffers.len() as u32);
        match kind {
            BufferKind::Input(_) => self.0.inputs.push(id),
            BufferKind::Output(_) => self.0.outputs.push(id),
            _ => {}
        }
        self.0.buffers.push(BufferDecl { dtype, shape: shape.to_vec(), form: Form::Dense, kind });
        id
    }

    pub fn input(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        self.buffer(dtype, shape, BufferKind::Input(self.0.inputs.len()))
    }

    pub fn output(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        self.buffer(dtype, shape, BufferKind::Output(self.0.outputs.len()))
    }

    pub fn temp(&mut self, dtype: DType, shape: &[usize]) -> BufferId {
        self.buffer(dtype, shape, BufferKind::Temp)
    }

    /// The whole buffer, row-major.
    pub fn dense(&self, id: BufferId) -> Port {
        Port { buffer: id, view: View::dense(&self.0.buffer(id).shape) }
    }

    pub fn step(&mut self, kernel: Kernel, reads: &[Port], writes: &[Port]) {
        self.0.steps.push(Step {
            kernel,
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            choice: Choice { algo: "reference", ..Choice::default() },
            origins: Origins::named(format!("node{}", self.0.steps.len())),
        });
    }

    pub fn nest(&mut self, rows: &[usize], cols: &[usize], body: Body, reads: &[Port], writes: &[Port]) {
        self.step(Kernel::Nest(Nest { rows: rows.to_vec(), cols: cols.to_vec(), body }), reads, writes);
    }

    /// Places every temporary by itself, and commits after the last step unless told before.
    pub fn finish(mut self) -> Program {
        let p = &mut self.0;
        if p.buffers.iter().all(|b| !matches!(b.kind, BufferKind::State(_))) {
            p.commit = p.steps.len();
        }
        let mut at = 0;
        for b in &p.buffers {
            let temp = b.kind == BufferKind::Temp;
            p.plan.offsets.push(temp.then_some(at));
            at += if temp { b.bytes().next_multiple_of(64) } else { 0 };
        }
        p.plan.scratch = vec![0; p.steps.len()];
        p.plan.arena_bytes = at;
        self.0
    }
}

/// A view from parts.
pub fn port(buffer: BufferId, offset: isize, strides: &[isize]) -> Port {
    Port { buffer, view: View { offset, strides: strides.to_vec(), guard: None } }
}

pub fn load(b: &mut Body, port: usize, dtype: DType, level: Level) -> Reg {
    b.push(InstOp::Load(port), &[], dtype, level)
}

pub fn apply(b: &mut Body, f: ScalarFn, args: &[Reg]) -> Reg {
    let types: Vec<DType> = args.iter().map(|a| b.inst(*a).dtype).collect();
    let dtype = f.result_dtype(&types).expect("fixtures are typed");
    b.push(InstOp::Fn(f), args, dtype, Level::Scalar)
}

pub fn fold(b: &mut Body, kind: FoldKind, axis: FoldAxis, x: Reg) -> Reg {
    let dtype = b.inst(x).dtype;
    b.push(InstOp::Fold(kind, axis), &[x], dtype, Level::Scalar)
}

pub fn number(b: &mut Body, value: f64) -> Reg {
    b.push(InstOp::Const(Scalar::F(value)), &[], DType::F32, Level::Scalar)
}

pub fn store(b: &mut Body, reg: Reg, write: usize) {
    b.stores.push(Store { reg, write });
}

/// A body of one function of read ports 0.., all at one level.
pub fn map_body(f: ScalarFn, dtypes: &[DType], level: Level) -> Body {
    let mut b = Body::default();
    let args: Vec<Reg> = dtypes.iter().enumerate().map(|(i, t)| load(&mut b, i, *t, level)).collect();
    let y = apply(&mut b, f, &args);
    store(&mut b, y, 0);
    b
}

/// `e = exp(relu(x w + bias))` in two steps, the second in place; `y = e / rowsum(e)`; then
/// `bias -= 0.1 * columnsum(e)`. Covers a repack, a dot, a map, a row cluster, a reduction, a check, a
/// commit, memory in place and memory used again.
pub fn training_step() -> Program {
    let mut m = Make::default();
    let x = m.input(DType::F32, &[4, 3]);
    let w = m.buffer(DType::F32, &[3, 5], BufferKind::State(0));
    let bias = m.buffer(DType::F32, &[5], BufferKind::State(1));
    let packed = m.temp(DType::F32, &[3, 5]);
    let h = m.temp(DType::F32, &[4, 5]);
    let e = m.temp(DType::F32, &[4, 5]);
    let y = m.output(DType::F32, &[4, 5]);
    let g = m.temp(DType::F32, &[5]);
    m.0.buffers[packed.index()].form = Form::Panels { bytes: 128 };

    m.step(Kernel::Repack { batch: vec![], k: 3, n: 5 }, &[m.dense(w)], &[m.dense(packed)]);

    let mut b = Body::default();
    let acc = b.push(InstOp::Acc, &[], DType::F32, Level::Elem);
    let c = load(&mut b, 2, DType::F32, Level::Col);
    let s = apply(&mut b, ScalarFn::Add, &[acc, c]);
    let r = apply(&mut b, ScalarFn::Relu, &[s]);
    store(&mut b, r, 0);
    let kernel = Kernel::Dot(Dot { batch: vec![], m: 4, n: 5, k: 3, body: b });
    m.step(kernel, &[m.dense(x), m.dense(packed), port(bias, 0, &[0, 1])], &[m.dense(h)]);

    let body = map_body(ScalarFn::Exp, &[DType::F32], Level::Elem);
    m.nest(&[4], &[5], body, &[m.dense(h)], &[m.dense(e)]);

    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F32, Level::Elem);
    let sum = fold(&mut b, FoldKind::Sum, FoldAxis::Cols, v);
    let q = apply(&mut b, ScalarFn::Div, &[v, sum]);
    let limit = number(&mut b, 1e6);
    let ok = apply(&mut b, ScalarFn::Lt, &[sum, limit]);
    b.checks.push(BodyCheck { reg: ok, message: "the row sums are below 1e6".into() });
    store(&mut b, q, 0);
    m.nest(&[4], &[5], b, &[m.dense(e)], &[m.dense(y)]);

    let mut b = Body::default();
    let v = load(&mut b, 0, DType::F32, Level::Elem);
    let sum = fold(&mut b, FoldKind::Sum, FoldAxis::Rows, v);
    store(&mut b, sum, 0);
    m.nest(&[4], &[5], b, &[m.dense(e)], &[port(g, 0, &[0, 1])]);

    let mut b = Body::default();
    let old = load(&mut b, 0, DType::F32, Level::Elem);
    let grad = load(&mut b, 1, DType::F32, Level::Elem);
    let rate = number(&mut b, 0.1);
    let change = apply(&mut b, ScalarFn::Mul, &[grad, rate]);
    let new = apply(&mut b, ScalarFn::Sub, &[old, change]);
    store(&mut b, new, 0);
    m.nest(&[], &[5], b, &[m.dense(bias), m.dense(g)], &[m.dense(bias)]);

    let mut p = m.finish();
    p.commit = 5;
    let [packed, h, e, g] = [packed, h, e, g].map(BufferId::index);
    p.plan.offsets[packed] = Some(0);
    p.plan.offsets[h] = Some(128);
    p.plan.offsets[e] = Some(128);
    p.plan.offsets[g] = Some(0);
    p.plan.arena_bytes = 320;
    p.plan.in_place = vec![(2, 0, 0)];
    p.steps[1].choice.scratch_bytes = 64;
    p.plan.scratch[1] = 256;
    p
}

/// `h' = h * w + x_t`, `y_t = h' + h'` three times; `w` is invariant, `h` carried, all of two elements.
pub fn recurrence(reverse: bool) -> Program {
    let mut m = Make::default();
    let ins: Vec<BufferId> = (0..3).map(|_| m.input(DType::F32, &[2])).collect();
    let outs: Vec<BufferId> = (0..2).map(|_| m.output(DType::F32, &[2])).collect();
    let mut b = Body::default();
    let args: Vec<Reg> = (0..3).map(|i| load(&mut b, i, DType::F32, Level::Elem)).collect();
    let hw = apply(&mut b, ScalarFn::Mul, &[args[1], args[0]]);
    let next = apply(&mut b, ScalarFn::Add, &[hw, args[2]]);
    let y = apply(&mut b, ScalarFn::Add, &[next, next]);
    store(&mut b, next, 0);
    store(&mut b, y, 1);
    let reads: Vec<Port> = ins.iter().map(|i| m.dense(*i)).collect();
    let writes: Vec<Port> = outs.iter().map(|o| m.dense(*o)).collect();
    m.nest(&[], &[2], b, &reads, &writes);
    let body = Arc::new(verified(m.finish()));

    let mut m = Make::default();
    let w = m.input(DType::F32, &[2]);
    let h = m.input(DType::F32, &[2]);
    let xs = m.input(DType::F32, &[3, 2]);
    let last = m.output(DType::F32, &[2]);
    let ys = m.output(DType::F32, &[3, 2]);
    let kernel = Kernel::Loop(Loop { length: 3, reverse, invariants: 1, carries: 1, body });
    m.step(kernel, &[m.dense(w), m.dense(h), m.dense(xs)], &[m.dense(last), m.dense(ys)]);
    m.finish()
}

pub fn verified(p: Program) -> VerifiedProgram {
    match p.verify() {
        Ok(v) => v,
        Err(e) => panic!("a fixture does not verify: {e}"),
    }
}

/// Runs both executors and compares their bits.
pub fn run(p: Program, inputs: &[Tensor], state: &mut [Tensor]) -> Result<Vec<Tensor>> {
    let program = verified(p);
    let mut other = state.to_vec();
    let apart = reference::execute(&program, inputs, state, &[]);
    let arena = reference::execute_in_arena(&program, inputs, &mut other, &[]);
    assert_eq!(apart, arena);
    assert_eq!(state, &other[..]);
    apart
}

/// Runs a Program of one output without state.
pub fn run1(m: Make, inputs: &[Tensor]) -> Tensor {
    match run(m.finish(), inputs, &mut []) {
        Ok(mut outs) => outs.remove(0),
        Err(e) => panic!("a fixture does not run: {e}"),
    }
}

pub fn floats(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_slice(shape, data)
}

/// 0, 1, 2, ….
pub fn counting(shape: &[usize]) -> Tensor {
    Tensor::from_fn(DType::F32, shape, |i| Scalar::I(i as i128))
}
