//! Random nests against a small interpreter, on every instruction set, with one thread and with two.

use graphc_ir::dtype::DType;
use graphc_ir::program::{Body, BodyCheck, FoldAxis, FoldKind, Guard, InstOp, Level, Reg, Store, View};
use graphc_ir::scalar::{Scalar, ScalarFn};
use graphc_ir::tensor::{Tensor, row_major};

use super::{Base, CompiledNest, Memory, PortSpec, Source};
use crate::isa::{FlushDenormals, Isa};
use crate::memory::Block;
use crate::pool::Pool;

/// A small generator (Steele, Lea and Flood's SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A nest with the contents of its buffers: those of the reads, then those of the writes.
struct Case {
    source: Source,
    buffers: Vec<Tensor>,
    /// Pairs of a read and a write port that share a buffer.
    shared: Vec<(usize, usize)>,
}

fn extent(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// Coordinates over rows and columns of a pair of flat numbers.
fn coordinates(rows: &[usize], columns: &[usize], row: usize, column: usize) -> Vec<usize> {
    let unflatten = |sizes: &[usize], mut index: usize| {
        let mut out = vec![0; sizes.len()];
        for (place, size) in out.iter_mut().zip(sizes).rev() {
            *place = index % size.max(&1);
            index /= size.max(&1);
        }
        out
    };
    let mut out = unflatten(rows, row);
    out.extend(unflatten(columns, column));
    out
}

fn address(view: &View, coordinates: &[usize]) -> Option<usize> {
    if let Some(guard) = &view.guard {
        let inside = coordinates.iter().enumerate().all(|(i, c)| (guard.lo[i]..guard.hi[i]).contains(c));
        if !inside {
            return None;
        }
    }
    let offset =
        view.offset + coordinates.iter().zip(&view.strides).map(|(c, s)| *c as isize * s).sum::<isize>();
    Some(usize::try_from(offset).unwrap())
}

/// Evaluates a nest register by register over the whole domain; gives the first failing check.
fn interpret(case: &Case, buffers: &mut [Tensor]) -> Option<usize> {
    let Source { rows, columns, body, reads, writes } = &case.source;
    let (height, width) = (extent(rows), extent(columns));
    let (tall, wide) = (height.max(1), width.max(1));
    let mut values: Vec<Vec<Scalar>> = Vec::new();
    for inst in &body.insts {
        let mut value = Vec::with_capacity(tall * wide);
        // A result for each row, or for each column.
        let folded: Vec<Scalar> = match inst.op {
            InstOp::Fold(kind, axis) => {
                let source = &values[inst.args[0].index()];
                let along = |row: usize| (0..width).map(|c| source[row * wide + c]).collect::<Vec<_>>();
                let down = |column: usize| (0..height).map(|r| source[r * wide + column]).collect::<Vec<_>>();
                match axis {
                    FoldAxis::Cols => (0..tall).map(|row| fold(kind, &along(row), inst.dtype)).collect(),
                    FoldAxis::Rows => (0..wide).map(|column| fold(kind, &down(column), inst.dtype)).collect(),
                }
            }
            _ => Vec::new(),
        };
        for row in 0..tall {
            for column in 0..wide {
                let at = coordinates(rows, columns, row, column);
                let arg = |i: usize| values[inst.args[i].index()][row * wide + column];
                value.push(match &inst.op {
                    InstOp::Load(port) => {
                        let tensor = &buffers[*port];
                        let guard = reads[*port].view.guard.as_ref();
                        match address(&reads[*port].view, &at) {
                            Some(index) if index < tensor.len() => tensor.get(index),
                            Some(_) => Scalar::zero(inst.dtype),
                            None => guard.unwrap().fill.cast(inst.dtype),
                        }
                    }
                    InstOp::Const(value) => *value,
                    InstOp::Fn(function) => {
                        let args: Vec<Scalar> = (0..inst.args.len()).map(arg).collect();
                        function.eval(&args, body.inst(inst.args[inst.args.len() - 1]).dtype)
                    }
                    InstOp::Cast => arg(0).cast(inst.dtype),
                    InstOp::Index(strides) => {
                        Scalar::I(at.iter().zip(strides).map(|(c, s)| *c as i128 * i128::from(*s)).sum())
                    }
                    InstOp::RandomBits => {
                        let key = [arg(0).as_int() as u32, arg(1).as_int() as u32];
                        Scalar::I(graphc_ir::random::bits(key, arg(2).as_int() as u64).into())
                    }
                    InstOp::Fold(_, FoldAxis::Cols) => folded[row],
                    InstOp::Fold(_, FoldAxis::Rows) => folded[column],
                    InstOp::Acc => unreachable!("these are no epilogues"),
                });
            }
        }
        values.push(value);
    }
    for store in &body.stores {
        let level = body.inst(store.reg).level;
        let down = if matches!(level, Level::Elem | Level::Row) { height } else { 1 };
        let along = if matches!(level, Level::Elem | Level::Col) { width } else { 1 };
        for row in 0..down {
            for column in 0..along {
                let at = coordinates(rows, columns, row, column);
                let index = address(&writes[store.write].view, &at).unwrap();
                let Base::Buffer(buffer) = writes[store.write].base else { unreachable!() };
                buffers[buffer].set(index, values[store.reg.index()][row * wide + column]);
            }
        }
    }
    body.checks.iter().position(|check| {
        let holds = |i: &Scalar| i.as_bool();
        height * width > 0 && !values[check.reg.index()].iter().all(holds)
    })
}

fn fold(kind: FoldKind, elements: &[Scalar], dtype: DType) -> Scalar {
    if !dtype.is_float() {
        let function = match kind {
            FoldKind::Sum => ScalarFn::Add,
            FoldKind::Prod => ScalarFn::Mul,
            FoldKind::Max => ScalarFn::Max,
            _ => ScalarFn::Min,
        };
        let start = crate::tile::fold::identity(kind, dtype);
        return elements.iter().fold(start, |a, b| function.eval(&[a, *b], dtype));
    }
    let values = elements.iter().map(|e| e.as_f64());
    let mean = values.clone().sum::<f64>() / values.len() as f64;
    let extremum = |start: f64, pick: fn(f64, f64) -> bool| {
        values.clone().fold(start, |a, b| if pick(b, a) || b.is_nan() { b } else { a })
    };
    Scalar::F(match kind {
        FoldKind::Sum => values.sum(),
        FoldKind::Prod => values.product(),
        FoldKind::Max => extremum(f64::NEG_INFINITY, |b, a| b > a),
        FoldKind::Min => extremum(f64::INFINITY, |b, a| b < a),
        FoldKind::Mean => mean,
        FoldKind::Var => values.clone().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64,
    })
    .round_to(dtype)
}

fn run(case: &Case, isa: Isa, threads: usize, pool: &Pool) -> (Vec<Tensor>, Option<usize>) {
    let conflict = |read: usize, write: usize| case.shared.contains(&(read, write));
    let nest = CompiledNest::with_grain(isa, threads, 0, 128, case.source.clone(), &conflict).unwrap();
    let mut buffers = case.buffers.clone();
    let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|t| t.bytes_mut().as_mut_ptr()).collect();
    for (read, write) in &case.shared {
        pointers[*read] = pointers[case.source.reads.len() + write];
    }
    let mut scratch = Block::new(nest.scratch_bytes()).unwrap();
    // Garbage in scratch must not matter.
    scratch.as_mut_slice().fill(0xA5);
    let memory = Memory { buffers: &pointers, scratch: scratch.as_mut_ptr() };
    let _flush = FlushDenormals::enable();
    // SAFETY: the buffers are tensors that the views lie inside of.
    let failed = unsafe { nest.run(pool, memory) }.unwrap();
    (buffers, failed)
}

fn check(case: &Case, pools: &[Pool], name: &str) {
    let mut want = case.buffers.clone();
    let failed = interpret(case, &mut want);
    for isa in Isa::available() {
        let (one, one_failed) = run(case, isa, 1, &pools[0]);
        assert_eq!(one_failed, failed, "{name}: {isa}");
        for (index, (got, want)) in one.iter().zip(&want).enumerate().skip(case.source.reads.len()) {
            let scale =
                want.to_f64().iter().fold(1.0, |m: f64, v| if v.is_finite() { m.max(v.abs()) } else { m });
            for i in 0..got.len() {
                let (got, want) = (got.get(i), want.get(i));
                let close = got == want
                    || want.as_f64().is_nan() && got.as_f64().is_nan()
                    || want.as_f64() == got.as_f64()
                    || (got.as_f64() - want.as_f64()).abs() <= 2e-5 * scale;
                assert!(
                    close,
                    "{name}: {isa}, buffer {index}, element {i}: {got:?}, not {want:?}\n{:#?}",
                    case.source
                );
            }
        }
        let (two, two_failed) = run(case, isa, 2, &pools[1]);
        assert!(one == two && one_failed == two_failed, "{name}: {isa} with two threads");
    }
}

fn pools() -> [Pool; 2] {
    [Pool::new(1).unwrap(), Pool::new(2).unwrap()]
}

/// A random view of a domain, the number of elements that it needs, and where it varies.
fn random_view(random: &mut Random, rows: &[usize], columns: &[usize]) -> (View, usize, Level) {
    let sizes: Vec<usize> = rows.iter().chain(columns).copied().collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    if random.one_in(3) && !order.is_empty() {
        let by = random.below(order.len());
        order.rotate_left(by);
    }
    let broadcast = random.below(4);
    let mut strides = vec![0isize; sizes.len()];
    let mut next = if random.one_in(8) { 2 } else { 1 };
    let guarded = random.one_in(5) && !sizes.contains(&0);
    let mut lo = vec![0; sizes.len()];
    let mut hi = sizes.clone();
    let mut offset = 0;
    for &dim in order.iter().rev() {
        let skip = match broadcast {
            0 => dim < rows.len(),
            1 => dim >= rows.len(),
            2 => random.one_in(3),
            _ => false,
        };
        if skip {
            continue;
        }
        strides[dim] = next;
        if guarded && sizes[dim] > 2 {
            lo[dim] = random.below(2);
            hi[dim] -= random.below(2);
            offset -= lo[dim] as isize * next;
        }
        next *= (hi[dim] - lo[dim]).max(1) as isize + if random.one_in(8) { 3 } else { 0 };
    }
    let varies = |range: std::ops::Range<usize>| {
        range.into_iter().any(|i| strides[i] != 0 || lo[i] > 0 || hi[i] < sizes[i])
    };
    let level = match (varies(0..rows.len()), varies(rows.len()..sizes.len())) {
        (true, true) => Level::Elem,
        (true, false) => Level::Row,
        (false, true) => Level::Col,
        (false, false) => Level::Scalar,
    };
    let guard = guarded.then(|| Guard { lo, hi, fill: Scalar::F(-1.5) });
    (View { offset, strides, guard }, next as usize, level)
}

/// Loads and stores of random views around random straight-line code.
fn random_case(random: &mut Random, rows: Vec<usize>, columns: Vec<usize>) -> Case {
    let mut body = Body::default();
    let (mut reads, mut buffers) = (Vec::new(), Vec::new());
    for port in 0..1 + random.below(3) {
        let (view, len, level) = random_view(random, &rows, &columns);
        let dtype = random.pick(&[DType::F32, DType::F32, DType::F32, DType::F64, DType::I32]);
        let integer = |v: usize| {
            if dtype == DType::I32 { Scalar::I(v as i128 % 7 - 3) } else { Scalar::F(v as f64 / 500.0 - 1.0) }
        };
        let empty = rows.iter().chain(&columns).any(|s| *s == 0) && random.one_in(2);
        buffers.push(Tensor::from_fn(dtype, &[if empty { 0 } else { len }], |_| integer(random.below(1000))));
        let reg = body.push(InstOp::Load(port), &[], dtype, level);
        if dtype != DType::F32 {
            body.push(InstOp::Cast, &[reg], DType::F32, Level::Scalar);
        }
        reads.push(PortSpec { base: Base::Buffer(port), dtype, view, empty });
    }
    body.push(InstOp::Const(Scalar::F(0.75)), &[], DType::F32, Level::Scalar);
    let strides: Vec<i64> = (0..rows.len() + columns.len()).map(|_| random.below(3) as i64).collect();
    let index = body.push(InstOp::Index(strides), &[], DType::I64, Level::Elem);
    if random.one_in(3) {
        body.push(InstOp::Cast, &[index], DType::F32, Level::Scalar);
    }
    let operands = |body: &Body, post: bool| -> Vec<Reg> {
        let ok = |i: &usize| body.insts[*i].dtype == DType::F32 && (!body.insts[*i].post || post);
        (0..body.insts.len()).filter(ok).map(|i| Reg(i as u32)).collect()
    };
    for _ in 0..2 + random.below(9) {
        let post = random.one_in(4);
        let mut known = operands(&body, post);
        if post {
            // What follows a column fold never varies by row.
            known.retain(|r| matches!(body.inst(*r).level, Level::Col | Level::Scalar));
        }
        if known.is_empty() {
            continue;
        }
        let (a, b) = (random.pick(&known), random.pick(&known));
        let (a_is_post, b_is_post) = (body.inst(a).post, body.inst(b).post);
        let fold = random.pick(&[FoldKind::Sum, FoldKind::Max, FoldKind::Min, FoldKind::Mean, FoldKind::Var]);
        match random.below(9) {
            0 if !a_is_post => {
                body.push(InstOp::Fold(fold, FoldAxis::Rows), &[a], DType::F32, Level::Scalar);
            }
            // Of no rows, one result of what all rows share has no row to be computed in.
            1 | 2 if extent(&rows) > 0 || body.inst(a).level.join(Level::Col) == Level::Elem => {
                body.push(InstOp::Fold(fold, FoldAxis::Cols), &[a], DType::F32, Level::Scalar);
            }
            3 => {
                body.push(
                    InstOp::Fn(random.pick(&[ScalarFn::Tanh, ScalarFn::Relu, ScalarFn::Neg])),
                    &[a],
                    DType::F32,
                    Level::Scalar,
                );
            }
            4 => {
                let condition = body.push(InstOp::Load(0), &[], buffers[0].dtype(), body.insts[0].level);
                let zero = body.push(
                    InstOp::Const(Scalar::zero(buffers[0].dtype())),
                    &[],
                    buffers[0].dtype(),
                    Level::Scalar,
                );
                let condition =
                    body.push(InstOp::Fn(ScalarFn::Gt), &[condition, zero], DType::Bool, Level::Scalar);
                if !a_is_post && !b_is_post {
                    body.push(InstOp::Fn(ScalarFn::Select), &[condition, a, b], DType::F32, Level::Scalar);
                }
            }
            5 => {
                // Products stay small, so that errors do not grow.
                let small = body.push(InstOp::Fn(ScalarFn::Tanh), &[a], DType::F32, Level::Scalar);
                body.push(InstOp::Fn(ScalarFn::Mul), &[small, b], DType::F32, Level::Scalar);
            }
            _ => {
                body.push(
                    InstOp::Fn(random.pick(&[ScalarFn::Add, ScalarFn::Sub, ScalarFn::Max])),
                    &[a, b],
                    DType::F32,
                    Level::Scalar,
                );
            }
        }
    }
    let mut writes = Vec::new();
    let mut known = operands(&body, true);
    known.reverse();
    for reg in known.into_iter().take(1 + random.below(3)) {
        store(&mut body, &mut writes, &mut buffers, reg, &rows, &columns, reads.len());
    }
    Case { source: Source { rows, columns, body, reads, writes }, buffers, shared: Vec::new() }
}

/// Adds a dense write port for a register, at its level.
fn store(
    body: &mut Body,
    writes: &mut Vec<PortSpec>,
    buffers: &mut Vec<Tensor>,
    reg: Reg,
    rows: &[usize],
    columns: &[usize],
    reads: usize,
) {
    let (level, dtype) = (body.inst(reg).level, body.inst(reg).dtype);
    let (by_row, by_column) =
        (matches!(level, Level::Row | Level::Elem), matches!(level, Level::Col | Level::Elem));
    let sizes: Vec<usize> = rows
        .iter()
        .map(|s| if by_row { *s } else { 1 })
        .chain(columns.iter().map(|s| if by_column { *s } else { 1 }))
        .collect();
    let mut view = View::dense(&sizes);
    for (dim, stride) in view.strides.iter_mut().enumerate() {
        if !(if dim < rows.len() { by_row } else { by_column }) {
            *stride = 0;
        }
    }
    let write = writes.len();
    body.stores.push(Store { reg, write });
    writes.push(PortSpec { base: Base::Buffer(reads + write), dtype, view, empty: extent(&sizes) == 0 });
    buffers.push(Tensor::zeros(dtype, &[extent(&sizes)]));
}

#[test]
fn random_nests_follow_the_interpreter() {
    let pools = pools();
    for seed in 0..1500 {
        let mut random = Random(seed);
        let sizes = [1, 1, 2, 3, 5, 17, 40, 70];
        let few = [0, 1, 2, 3, 5, 7];
        let dims = |random: &mut Random| -> Vec<usize> {
            match random.below(4) {
                0 => vec![],
                1 => vec![random.pick(&few), random.pick(&few)],
                _ => vec![random.pick(&sizes)],
            }
        };
        let (rows, columns) = (dims(&mut random), dims(&mut random));
        let case = random_case(&mut random, rows, columns);
        check(&case, &pools, &format!("seed {seed}"));
    }
}

#[test]
fn large_nests_follow_the_interpreter() {
    let pools = pools();
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[3], &[5000]),
        (&[2], &[70, 70]),
        (&[9000], &[4]),
        (&[300, 7], &[20]),
        (&[], &[40_000]),
        (&[40_000], &[]),
        (&[13], &[1500]),
        (&[130], &[300]),
    ];
    for seed in 0..48 {
        let (rows, columns) = shapes[seed as usize % shapes.len()];
        let case = random_case(&mut Random(seed + 10_000), rows.to_vec(), columns.to_vec());
        check(&case, &pools, &format!("large {seed}"));
    }
}

#[test]
fn results_may_overwrite_an_operand() {
    let pools = pools();
    for (second, rows, columns) in [(false, 40, 33), (true, 40, 33), (false, 2, 3000), (true, 1, 5000)] {
        // x = relu(x * 0.75), or x = x - relu(x * 0.75): the last operation reads what it overwrites.
        let mut body = Body::default();
        let x = body.push(InstOp::Load(0), &[], DType::F32, Level::Elem);
        let c = body.push(InstOp::Const(Scalar::F(0.75)), &[], DType::F32, Level::Scalar);
        let product = body.push(InstOp::Fn(ScalarFn::Mul), &[x, c], DType::F32, Level::Scalar);
        let mut y = body.push(InstOp::Fn(ScalarFn::Relu), &[product], DType::F32, Level::Scalar);
        if second {
            y = body.push(InstOp::Fn(ScalarFn::Sub), &[x, y], DType::F32, Level::Scalar);
        }
        let tensor = Tensor::from_fn(DType::F32, &[rows, columns], |i| Scalar::F((i % 19) as f64 - 9.0));
        let port = |buffer: usize| PortSpec {
            base: Base::Buffer(buffer),
            dtype: DType::F32,
            view: View::dense(&[rows, columns]),
            empty: false,
        };
        body.stores.push(Store { reg: y, write: 0 });
        let source = Source {
            rows: vec![rows],
            columns: vec![columns],
            body,
            reads: vec![port(0)],
            writes: vec![port(1)],
        };
        let case = Case { source, buffers: vec![tensor.clone(), tensor], shared: vec![(0, 0)] };
        check(&case, &pools, "in place");
    }
}

#[test]
fn a_loaded_value_outlives_the_memory_that_it_was_loaded_from() {
    // y = x + 1 takes x's memory, and x goes elsewhere, whichever store comes first.
    for swap in [false, true] {
        let mut body = Body::default();
        let x = body.push(InstOp::Load(0), &[], DType::F32, Level::Elem);
        let one = body.push(InstOp::Const(Scalar::F(1.0)), &[], DType::F32, Level::Scalar);
        let y = body.push(InstOp::Fn(ScalarFn::Add), &[x, one], DType::F32, Level::Scalar);
        body.stores = vec![Store { reg: y, write: 0 }, Store { reg: x, write: 1 }];
        if swap {
            body.stores.swap(0, 1);
        }
        let tensor = Tensor::from_fn(DType::F32, &[20, 90], |i| Scalar::F(i as f64));
        let port = |buffer: usize| PortSpec {
            base: Base::Buffer(buffer),
            dtype: DType::F32,
            view: View::dense(&[20, 90]),
            empty: false,
        };
        let source = Source {
            rows: vec![20],
            columns: vec![90],
            body,
            reads: vec![port(0)],
            writes: vec![port(1), port(2)],
        };
        let case =
            Case { source, buffers: vec![tensor.clone(), tensor.clone(), tensor], shared: vec![(0, 0)] };
        check(&case, &pools(), "a store of a load");
    }
}

#[test]
fn the_first_failing_check_is_named() {
    let pools = pools();
    for bad in [None, Some(0), Some(777), Some(2999)] {
        let mut body = Body::default();
        let x = body.push(InstOp::Load(0), &[], DType::F32, Level::Elem);
        let zero = body.push(InstOp::Const(Scalar::F(0.0)), &[], DType::F32, Level::Scalar);
        let largest = body.push(InstOp::Fold(FoldKind::Max, FoldAxis::Rows), &[x], DType::F32, Level::Scalar);
        let post = body.push(InstOp::Fn(ScalarFn::Le), &[largest, zero], DType::Bool, Level::Scalar);
        let each = body.push(InstOp::Fn(ScalarFn::Le), &[x, zero], DType::Bool, Level::Scalar);
        let always = body.push(InstOp::Fn(ScalarFn::Eq), &[x, x], DType::Bool, Level::Scalar);
        for (reg, message) in
            [(always, "never NaN"), (each, "never positive"), (post, "no column is positive")]
        {
            body.checks.push(BodyCheck { reg, message: message.into() });
        }
        let tensor =
            Tensor::from_fn(DType::F32, &[100, 30], |i| Scalar::F(if Some(i) == bad { 1.0 } else { -1.0 }));
        let port = PortSpec {
            base: Base::Buffer(0),
            dtype: DType::F32,
            view: View::dense(&[100, 30]),
            empty: false,
        };
        let source = Source { rows: vec![100], columns: vec![30], body, reads: vec![port], writes: vec![] };
        let case = Case { source, buffers: vec![tensor], shared: vec![] };
        assert_eq!(run(&case, Isa::Portable, 2, &pools[1]).1, bad.map(|_| 1));
        check(&case, &pools, "checks");
    }
}

#[test]
fn random_bits_follow_the_logical_index() {
    let mut body = Body::default();
    let key =
        |body: &mut Body, v: i128| body.push(InstOp::Const(Scalar::I(v)), &[], DType::U32, Level::Scalar);
    let (k0, k1) = (key(&mut body, 5), key(&mut body, 4_000_000_000));
    let strides: Vec<i64> = row_major(&[40, 50]).iter().map(|s| *s as i64).collect();
    let index = body.push(InstOp::Index(strides), &[], DType::I64, Level::Elem);
    let bits = body.push(InstOp::RandomBits, &[k0, k1, index], DType::U32, Level::Scalar);
    let (mut writes, mut buffers) = (Vec::new(), Vec::new());
    store(&mut body, &mut writes, &mut buffers, bits, &[40], &[50], 0);
    let source = Source { rows: vec![40], columns: vec![50], body, reads: vec![], writes };
    check(&Case { source, buffers, shared: vec![] }, &pools(), "random bits");
}
