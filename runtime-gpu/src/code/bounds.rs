//! Integers of 64 bits have 32 on a GPU: what may not fit is refused.

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{FoldKind, InstOp, Kernel, Program, Step};
use graphc_ir::scalar::{Class, ScalarFn};

use crate::words::no_f64;

/// The integers that a value may be.
type Range = (i128, i128);

fn words(dtype: DType) -> Range {
    match dtype {
        DType::I64 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        DType::U64 => (0, i128::from(u32::MAX)),
        DType::Bool => (0, 1),
        other if other.is_int() => other.int_range(),
        _ => (i128::MIN, i128::MAX),
    }
}

/// Refuses a step with 64-bit arithmetic whose result may not fit a word, and with f64.
pub fn check(program: &Program, step: &Step) -> Result<()> {
    let is_wide = |dtype: DType| matches!(dtype, DType::I64 | DType::U64);
    if let Kernel::ScatterAdd { count, .. } = step.kernel
        && count > 0
    {
        // Each sum is of as many updates as there are of its index.
        let dtype = program.buffer(step.writes[0].buffer).dtype;
        return if is_wide(dtype) { Err(too_wide(dtype)) } else { Ok(()) };
    }
    let Some(swept) = step.kernel.swept() else { return Ok(()) };
    let sizes = swept.sizes();
    let mut ranges: Vec<Range> = Vec::new();
    for inst in &swept.body.insts {
        if inst.dtype == DType::F64 {
            return Err(no_f64());
        }
        let wide = is_wide(inst.dtype);
        let arg = |i: usize| ranges[inst.args[i].index()];
        let range = match &inst.op {
            InstOp::Const(value) if inst.dtype.is_int() => (value.as_int(), value.as_int()),
            InstOp::Index(strides) => {
                let ends = strides
                    .iter()
                    .zip(&sizes)
                    .map(|(stride, size)| i128::from(*stride) * (*size as i128 - 1).max(0));
                ends.fold((0, 0), |(lo, hi), end| (lo + end.min(0), hi + end.max(0)))
            }
            InstOp::Fn(f) if wide => function(*f, &|i| arg(i)),
            InstOp::Cast if wide => {
                let from = swept.body.inst(inst.args[0]).dtype;
                if from.is_float() { (i128::MIN, i128::MAX) } else { arg(0) }
            }
            // Of nothing the extremes of the type are the result.
            InstOp::Fold(FoldKind::Max | FoldKind::Min, _) if wide && !sizes.contains(&0) => arg(0),
            InstOp::Fold(..) if wide => (i128::MIN, i128::MAX),
            _ => words(inst.dtype),
        };
        let (lo, hi) = words(inst.dtype);
        if wide && (range.0 < lo || range.1 > hi) {
            return Err(too_wide(inst.dtype));
        }
        ranges.push(range);
    }
    Ok(())
}

/// The error of a result that may need more than a word.
fn too_wide(dtype: DType) -> Error {
    Error::new(format!("a {dtype} is computed here that may not fit the 32 bits that integers have on a GPU"))
        .help("cast to i32 or u32 before, or run on the cpu")
}

fn function(f: ScalarFn, arg: &dyn Fn(usize) -> Range) -> Range {
    let all = (i128::MIN, i128::MAX);
    let over = |g: &dyn Fn(i128, i128) -> i128| {
        let ((a, b), (c, d)) = (arg(0), arg(1));
        let ends = [g(a, c), g(a, d), g(b, c), g(b, d)];
        (ends.into_iter().min().unwrap_or(0), ends.into_iter().max().unwrap_or(0))
    };
    let union = |x: Range, y: Range| (x.0.min(y.0), x.1.max(y.1));
    match f {
        ScalarFn::Add => over(&i128::saturating_add),
        ScalarFn::Sub => over(&i128::saturating_sub),
        ScalarFn::Mul => over(&i128::saturating_mul),
        ScalarFn::Max | ScalarFn::Min => union(arg(0), arg(1)),
        ScalarFn::Div | ScalarFn::Rem => {
            let (lo, hi) = arg(0);
            let size = lo.saturating_abs().max(hi.saturating_abs());
            union((0, 0), (if lo < 0 { -size } else { 0 }, size))
        }
        ScalarFn::Neg => (arg(0).1.saturating_neg(), arg(0).0.saturating_neg()),
        ScalarFn::Abs => (0, arg(0).0.saturating_abs().max(arg(0).1.saturating_abs())),
        ScalarFn::Relu => (0, arg(0).1.max(0)),
        ScalarFn::Sign => (-1, 1),
        ScalarFn::Select => union(arg(1), arg(2)),
        _ if f.def().class == Class::Compare => (0, 1),
        ScalarFn::And | ScalarFn::Or | ScalarFn::Xor | ScalarFn::Not => all,
        _ => all,
    }
}
