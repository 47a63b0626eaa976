//! Bodies, one instruction at a time over the whole domain.

use super::Writes;
use crate::dtype::DType;
use crate::error::Result;
use crate::program::view::FlatView;
use crate::program::{Body, FoldAxis, FoldKind, Inst, InstOp, Level, Step, View};
use crate::random;
use crate::scalar::{Product, Scalar, ScalarFn};
use crate::tensor::Tensor;

/// A body's domain and what it reads.
pub(super) struct Frame<'a> {
    pub step: &'a Step,
    pub body: &'a Body,
    pub rows: &'a [usize],
    pub cols: &'a [usize],
    /// Elements of the product, row-major, in a dot.
    pub acc: Option<Tensor>,
    /// Contents of the read ports.
    pub reads: &'a [&'a Tensor],
}

/// The values of a register: one for each row and column that its level tells apart.
struct Register {
    level: Level,
    cols: usize,
    values: Tensor,
}

impl Register {
    fn get(&self, r: usize, c: usize) -> Scalar {
        self.values.get(match self.level {
            Level::Scalar => 0,
            Level::Col => c,
            Level::Row => r,
            Level::Elem => r * self.cols + c,
        })
    }
}

impl Frame<'_> {
    /// Runs the body: instructions, then checks, then stores.
    pub fn run(&self, writes: &mut Writes<'_>) -> Result<()> {
        let body = self.body;
        let mut registers: Vec<Option<Register>> = Vec::new();
        let last_use = last_uses(body);
        for (i, inst) in body.insts.iter().enumerate() {
            let args: Vec<&Register> =
                inst.args.iter().filter_map(|a| registers[a.index()].as_ref()).collect();
            let values = self.evaluate(inst, &args);
            registers.push(Some(Register { level: inst.level, cols: self.count().1, values }));
            for a in &inst.args {
                if last_use[a.index()] == i {
                    registers[a.index()] = None;
                }
            }
        }
        for check in &body.checks {
            if registers[check.reg.index()].iter().any(|r| r.values.bytes().contains(&0)) {
                fail!("{}", check.message);
            }
        }
        for store in &body.stores {
            let Some(register) = &registers[store.reg.index()] else { continue };
            let port = &self.step.writes[store.write];
            let view = self.flatten(&port.view, register.level);
            let (rows, cols) = view.sizes();
            let out = writes.tensor(port);
            for i in 0..rows * cols {
                if let Some(e) = view.element(i / cols, i % cols) {
                    out.set(e, register.values.get(i));
                }
            }
        }
        Ok(())
    }

    /// Number of rows and of columns of the domain.
    fn count(&self) -> (usize, usize) {
        (self.rows.iter().product(), self.cols.iter().product())
    }

    fn flatten(&self, view: &View, level: Level) -> FlatView {
        let rows = matches!(level, Level::Row | Level::Elem).then_some(self.rows);
        let cols = matches!(level, Level::Col | Level::Elem).then_some(self.cols);
        view.flatten(rows, cols, self.rows.len())
    }

    /// The values of an instruction, row-major over the rows and columns of its level.
    fn evaluate(&self, inst: &Inst, args: &[&Register]) -> Tensor {
        let (all_rows, all_cols) = self.count();
        let rows = if matches!(inst.level, Level::Row | Level::Elem) { all_rows } else { 1 };
        let cols = if matches!(inst.level, Level::Col | Level::Elem) { all_cols } else { 1 };
        let each = |f: &mut dyn FnMut(usize, usize) -> Scalar| {
            Tensor::from_fn(inst.dtype, &[rows, cols], |i| f(i / cols, i % cols))
        };
        match &inst.op {
            InstOp::Load(port) => {
                let view = &self.step.reads[*port].view;
                let fill = view.guard.as_ref().map_or(Scalar::zero(inst.dtype), |g| g.fill);
                let flat = self.flatten(view, inst.level);
                each(&mut |r, c| flat.element(r, c).map_or(fill, |e| self.reads[*port].get(e)))
            }
            // The verifier lets only dots have one.
            InstOp::Acc => self.acc.clone().unwrap_or_else(|| Tensor::zeros(inst.dtype, &[rows, cols])),
            InstOp::Const(value) => each(&mut |_, _| *value),
            InstOp::Fn(f) => {
                let dtype = args[args.len() - 1].values.dtype();
                let mut operands = Vec::with_capacity(3);
                each(&mut |r, c| {
                    operands.clear();
                    operands.extend(args.iter().map(|a| a.get(r, c)));
                    f.eval(&operands, dtype)
                })
            }
            InstOp::Cast => each(&mut |r, c| args[0].get(r, c)),
            InstOp::Index(strides) => {
                let strides = strides.iter().map(|s| *s as isize).collect();
                let flat = self.flatten(&View { offset: 0, strides, guard: None }, inst.level);
                each(&mut |r, c| Scalar::I(flat.number(r, c).into()))
            }
            InstOp::RandomBits => each(&mut |r, c| {
                let word = |i: usize| args[i].get(r, c).as_int();
                let key = [word(0) as u32, word(1) as u32];
                Scalar::I(random::bits(key, word(2) as u64).into())
            }),
            InstOp::Fold(kind, axis) => each(&mut |r, c| match axis {
                FoldAxis::Cols => fold(*kind, inst.dtype, all_cols, &|k| args[0].get(r, k)),
                FoldAxis::Rows => fold(*kind, inst.dtype, all_rows, &|k| args[0].get(k, c)),
            }),
        }
    }
}

/// Index of the last instruction that uses each register; beyond the end for stores and checks.
fn last_uses(body: &Body) -> Vec<usize> {
    let mut last = vec![usize::MAX; body.insts.len()];
    for (i, inst) in body.insts.iter().enumerate() {
        for a in &inst.args {
            last[a.index()] = i;
        }
    }
    for reg in body.stores.iter().map(|s| s.reg).chain(body.checks.iter().map(|c| c.reg)) {
        last[reg.index()] = usize::MAX;
    }
    last
}

/// Combines `count` values in order, in f64 or in the integer type.
fn fold(kind: FoldKind, dtype: DType, count: usize, at: &dyn Fn(usize) -> Scalar) -> Scalar {
    let (f, identity) = match kind {
        FoldKind::Sum => (ScalarFn::Add, Scalar::zero(dtype)),
        FoldKind::Prod => (ScalarFn::Mul, Scalar::one(dtype)),
        FoldKind::Max if dtype.is_float() => (ScalarFn::Max, Scalar::F(f64::NEG_INFINITY)),
        FoldKind::Max => (ScalarFn::Max, Scalar::I(dtype.int_range().0)),
        FoldKind::Min if dtype.is_float() => (ScalarFn::Min, Scalar::F(f64::INFINITY)),
        FoldKind::Min => (ScalarFn::Min, Scalar::I(dtype.int_range().1)),
        FoldKind::Mean => return Scalar::F(moments(count, &|k| at(k).as_f64())[0]),
        FoldKind::Var => return Scalar::F(moments(count, &|k| at(k).as_f64())[1]),
    };
    if kind == FoldKind::Prod && dtype.is_float() {
        let product = (0..count).fold(Product::default(), |product, k| product.times(at(k).as_f64()));
        return Scalar::F(product.value());
    }
    let wide = if dtype.is_float() { DType::F64 } else { dtype };
    (0..count).fold(identity, |acc, k| f.eval(&[acc, at(k)], wide))
}

/// Mean and variance; what rounding left of a first mean is corrected by the deviations from it.
fn moments(count: usize, at: &dyn Fn(usize) -> f64) -> [f64; 2] {
    let first = mean(count, at);
    let first = if first.is_finite() { first } else { mean(count, &|k| at(k) / count as f64) * count as f64 };
    let shift = mean(count, &|k| at(k) - first);
    let shift = if shift.is_finite() { shift } else { 0.0 };
    let variance = mean(count, &|k| (at(k) - first).powi(2)) - shift * shift;
    [first + shift, if variance < 0.0 { 0.0 } else { variance }]
}

fn mean(count: usize, at: &dyn Fn(usize) -> f64) -> f64 {
    let mut sum = 0.0;
    for k in 0..count {
        sum += at(k);
    }
    sum / count as f64
}
