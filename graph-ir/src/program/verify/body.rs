//! Bodies: types, levels and phases of their instructions, and that ports and code agree.

use super::access::varies;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::program::{Body, FoldAxis, FoldKind, Inst, InstOp, Level, Program, Reg, Step, View};
use crate::scalar::Scalar;

/// A body and what it runs in.
pub(super) struct BodyContext<'a> {
    pub p: &'a Program,
    pub step: &'a Step,
    pub body: &'a Body,
    pub rows: &'a [usize],
    pub cols: &'a [usize],
    /// Type of the product's element, in a dot.
    pub acc: Option<DType>,
    /// First read port that the body may load.
    pub first_load: usize,
}

pub(super) fn check(cx: &BodyContext<'_>) -> Result<()> {
    let body = cx.body;
    for (i, inst) in body.insts.iter().enumerate() {
        check_inst(cx, i, inst).map_err(|mut e| {
            e.message = format!("instruction %{i}: {}", e.message);
            e
        })?;
    }
    check_loads(cx)?;
    check_stores(cx)?;
    for c in &body.checks {
        register(cx, c.reg)?;
        let dtype = body.inst(c.reg).dtype;
        if dtype != DType::Bool {
            fail!("the check `{}` takes a bool, but %{} is {dtype}", c.message, c.reg.0);
        }
    }
    Ok(())
}

fn register(cx: &BodyContext<'_>, reg: Reg) -> Result<()> {
    if reg.index() >= cx.body.insts.len() {
        fail!("%{} does not exist; there are {} instructions", reg.0, cx.body.insts.len());
    }
    Ok(())
}

fn check_inst(cx: &BodyContext<'_>, index: usize, inst: &Inst) -> Result<()> {
    if let Some(a) = inst.args.iter().find(|a| a.index() >= index) {
        fail!("its argument %{} is not computed before it", a.0);
    }
    let args: Vec<&Inst> = inst.args.iter().map(|a| cx.body.inst(*a)).collect();
    let types: Vec<DType> = args.iter().map(|a| a.dtype).collect();
    let dtype = result_dtype(cx, inst, &types)?;
    if dtype != inst.dtype {
        fail!("it gives {dtype}, but is declared {}", inst.dtype);
    }

    let mut level = args.iter().fold(Level::Scalar, |l, a| l.join(a.level));
    let mut post = args.iter().any(|a| a.post);
    match &inst.op {
        InstOp::Fold(_, FoldAxis::Cols) => level = level.without_cols(),
        InstOp::Fold(_, FoldAxis::Rows) => {
            if post {
                fail!("a fold down the columns cannot take what depends on another one");
            }
            (level, post) = (level.without_rows(), true);
        }
        InstOp::Acc => level = Level::Elem,
        InstOp::Load(port) => level = at_least(cx, inst.level, &cx.step.reads[*port].view)?,
        InstOp::Index(strides) => {
            let strides = strides.iter().map(|s| *s as isize).collect();
            level = at_least(cx, inst.level, &View { offset: 0, strides, guard: None })?;
        }
        InstOp::Const(_) | InstOp::Fn(_) | InstOp::Cast | InstOp::RandomBits => {}
    }
    if level != inst.level {
        fail!("its level is {level:?}, but is declared {:?}", inst.level);
    }
    if post != inst.post {
        let is = if post { "depends" } else { "does not depend" };
        fail!("it {is} on a fold down the columns, but is declared post: {}", inst.post);
    }
    if post && matches!(level, Level::Elem | Level::Row) {
        fail!("it varies by row and depends on a fold down the columns, which is known only after all rows");
    }
    Ok(())
}

/// The declared level of a leaf, if it varies wherever the access does.
fn at_least(cx: &BodyContext<'_>, declared: Level, view: &View) -> Result<Level> {
    let sizes = cx.rows.iter().chain(cx.cols);
    for (d, size) in sizes.enumerate() {
        let guarded = view.guard.as_ref().is_some_and(|g| g.lo[d] > 0 || g.hi[d] < *size);
        if *size > 1 && (view.strides[d] != 0 || guarded) && !varies(declared, d, cx.rows.len()) {
            fail!("its level is declared {declared:?}, but it varies over dim {d} of the domain");
        }
    }
    Ok(declared)
}

fn result_dtype(cx: &BodyContext<'_>, inst: &Inst, types: &[DType]) -> Result<DType> {
    let arity = match &inst.op {
        InstOp::Load(_) | InstOp::Acc | InstOp::Const(_) | InstOp::Index(_) => 0,
        InstOp::Cast | InstOp::Fold(..) => 1,
        InstOp::RandomBits => 3,
        InstOp::Fn(f) => f.def().arity,
    };
    if types.len() != arity {
        fail!("it has {} arguments, but takes {arity}", types.len());
    }
    Ok(match &inst.op {
        InstOp::Load(port) => {
            let reads = &cx.step.reads;
            if *port < cx.first_load || *port >= reads.len() {
                fail!("it loads read port {port}, but the body's are {}..{}", cx.first_load, reads.len());
            }
            cx.p.buffer(reads[*port].buffer).dtype
        }
        InstOp::Acc => match cx.acc {
            Some(dtype) => dtype,
            None => fail!("only a dot has a product's element"),
        },
        InstOp::Const(value) => {
            if !is_of_type(*value, inst.dtype) {
                fail!("the constant {value:?} is not a value of {}", inst.dtype);
            }
            inst.dtype
        }
        InstOp::Index(strides) => {
            check_index(cx, strides)?;
            DType::I64
        }
        InstOp::Cast => inst.dtype,
        InstOp::Fn(f) => f.result_dtype(types).map_err(Error::new)?,
        InstOp::RandomBits => match types {
            [DType::U32, DType::U32, DType::I64 | DType::U64] => DType::U32,
            _ => fail!("random bits take u32, u32 and an i64 or u64, but got {types:?}"),
        },
        InstOp::Fold(kind, _) => {
            let t = types[0];
            let moments = matches!(kind, FoldKind::Mean | FoldKind::Var);
            if !t.is_compute_float() && (moments || !t.is_int()) {
                fail!("a fold {kind:?} cannot take {t}; add a cast");
            }
            t
        }
    })
}

fn check_index(cx: &BodyContext<'_>, strides: &[i64]) -> Result<()> {
    let sizes: Vec<usize> = cx.rows.iter().chain(cx.cols).copied().collect();
    if strides.len() != sizes.len() {
        fail!("it has {} strides, but the domain {sizes:?} has {} dims", strides.len(), sizes.len());
    }
    let reach = strides.iter().zip(&sizes).fold(0i128, |sum, (s, n)| {
        sum.saturating_add(i128::from(*s).abs().saturating_mul((*n as i128 - 1).max(0)))
    });
    if reach > i128::from(i64::MAX) {
        return Err(Error::limit(format!("the index with strides {strides:?} over {sizes:?} overflows i64")));
    }
    Ok(())
}

/// Whether a scalar is of a type's kind and in its range. (A float is rounded, but to no infinity.)
pub(super) fn is_of_type(value: Scalar, dtype: DType) -> bool {
    match value {
        Scalar::F(v) => dtype.is_float() && v.is_finite() == value.cast(dtype).as_f64().is_finite(),
        Scalar::I(v) => dtype.is_int() && (dtype.int_range().0..=dtype.int_range().1).contains(&v),
        Scalar::B(_) => dtype == DType::Bool,
    }
}

fn check_loads(cx: &BodyContext<'_>) -> Result<()> {
    for port in cx.first_load..cx.step.reads.len() {
        if !cx.body.insts.iter().any(|i| i.op == InstOp::Load(port)) {
            fail!("the body never loads read port {port}");
        }
    }
    Ok(())
}

fn check_stores(cx: &BodyContext<'_>) -> Result<()> {
    let mut stored = vec![false; cx.step.writes.len()];
    for store in &cx.body.stores {
        register(cx, store.reg)?;
        if stored.get(store.write) != Some(&false) {
            fail!(
                "%{} is stored to write port {}, which does not exist or has a store already",
                store.reg.0,
                store.write
            );
        }
        stored[store.write] = true;
        let buffer = cx.step.writes[store.write].buffer;
        let (from, to) = (cx.body.inst(store.reg).dtype, cx.p.buffer(buffer).dtype);
        if from != to {
            fail!("%{} is {from}, but it is stored to buffer b{}, which is {to}", store.reg.0, buffer.0);
        }
    }
    Ok(())
}
