//! Folds: the state that values are combined in.

use graphc_ir::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{FoldAxis, FoldKind, Inst, InstOp};
use graphc_ir::scalar::Scalar;

use super::literal;
use crate::words::Word;

/// How one fold is written.
#[derive(Clone, Copy, Debug)]
pub struct FoldCode {
    kind: FoldKind,
    dtype: DType,
}

impl FoldCode {
    /// The fold that an instruction is, if it is one along this axis.
    pub fn of(inst: &Inst, axis: FoldAxis) -> Option<FoldCode> {
        match inst.op {
            InstOp::Fold(kind, along) if along == axis => Some(FoldCode { kind, dtype: inst.dtype }),
            _ => None,
        }
    }

    /// Statements that declare the state of no values, with this prefix.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn declare(self, p: &str) -> Result<String> {
        let fields = self.fields().into_iter().zip(self.identity()?);
        Ok(fields
            .map(|((field, word), start)| format!("var {p}{field}: {} = {start}; ", word.name()))
            .collect())
    }

    /// The type of its result.
    pub fn word(self) -> Word {
        Word::of(self.dtype).unwrap_or(Word::F32)
    }

    /// The fields of its state, with their types.
    pub fn fields(self) -> Vec<(&'static str, Word)> {
        match self.kind {
            // Count, mean and sum of squared deviations (Welford 1962).
            FoldKind::Var => vec![("n", Word::F32), ("m", Word::F32), ("q", Word::F32)],
            // Count, the first value, and the sum of the differences from it: the mean of equal values is that value.
            FoldKind::Mean => vec![("n", Word::F32), ("p", Word::F32), ("s", Word::F32)],
            _ => vec![("s", self.word())],
        }
    }

    /// What the state of no values holds, field by field.
    ///
    /// # Errors
    /// When a value does not fit a word.
    fn identity(self) -> Result<Vec<String>> {
        let end = |largest: bool| {
            if self.dtype.is_float() {
                return literal(
                    Scalar::F(if largest { f64::INFINITY } else { f64::NEG_INFINITY }),
                    self.dtype,
                );
            }
            let (lo, hi) = self.dtype.int_range();
            let (lo, hi) = match self.dtype {
                DType::I64 => (i128::from(i32::MIN), i128::from(i32::MAX)),
                DType::U64 => (0, i128::from(u32::MAX)),
                _ => (lo, hi),
            };
            literal(Scalar::I(if largest { hi } else { lo }), self.dtype)
        };
        Ok(match self.kind {
            FoldKind::Var => vec!["0.0f".into(); 3],
            FoldKind::Mean => vec!["0.0f".into(); 3],
            FoldKind::Sum => vec![literal(Scalar::zero(self.dtype), self.dtype)?],
            FoldKind::Prod => vec![literal(Scalar::one(self.dtype), self.dtype)?],
            FoldKind::Max => vec![end(false)?],
            FoldKind::Min => vec![end(true)?],
        })
    }

    /// Statements that take a value into the state with this prefix.
    pub fn take(self, p: &str, x: &str) -> String {
        let word = self.word().name();
        match self.kind {
            FoldKind::Sum => format!("{p}s = {p}s + {x};"),
            FoldKind::Prod => format!("{p}s = {p}s * {x};"),
            FoldKind::Max => format!("{p}s = gc_max_{word}({p}s, {x});"),
            FoldKind::Min => format!("{p}s = gc_min_{word}({p}s, {x});"),
            FoldKind::Mean => format!(
                "{p}p = select({p}p, gc_pivot({x}), {p}n == 0.0f); {p}n += 1.0f; {p}s = {p}s + ({x} - gc_again({p}p));"
            ),
            FoldKind::Var => format!(
                "{p}n += 1.0f; {{ let d = {x} - gc_again({p}m); {p}m = gc_hidden({p}m + d / {p}n); \
                 {p}q = {p}q + d * ({x} - {p}m); }}"
            ),
        }
    }

    /// Statements that take another state, given by its fields, into the one with this prefix (for the variance
    /// Chan, Golub and LeVeque 1979).
    pub fn merge(self, p: &str, other: &dyn Fn(&str) -> String) -> String {
        match self.kind {
            FoldKind::Mean => format!(
                "{{ let k = {}; if (k > 0.0f) {{ {p}p = select({p}p, {other}, {p}n == 0.0f); {p}n += k; \
                 {p}s = {p}s + ({} + k * ({other} - gc_again({p}p))); }} }}",
                other("n"),
                other("s"),
                other = other("p"),
            ),
            // Into no values, the others' state goes as it is: their mean's square may be no number.
            FoldKind::Var => format!(
                "{{ let k = {}; let om = {}; let oq = {}; if ({p}n == 0.0f) {{ {p}n = k; {p}m = om; {p}q = oq; }} else if (k > 0.0f) {{ \
                 let n = {p}n + k; let d = om - gc_again({p}m); {p}q = {p}q + oq + d * (d * ({p}n * k / n)); \
                 {p}m = gc_hidden({p}m + d * (k / n)); {p}n = n; }} }}",
                other("n"),
                other("m"),
                other("q")
            ),
            _ => self.take(p, &other("s")),
        }
    }

    /// The result of the state with this prefix.
    pub fn result(self, p: &str) -> String {
        match self.kind {
            FoldKind::Mean => format!("gc_hidden(select({p}p + {p}s / {p}n, gc_nan(), {p}n == 0.0f))"),
            FoldKind::Var => format!("gc_hidden(select({p}q / {p}n, gc_nan(), {p}n == 0.0f))"),
            _ if self.word() == Word::F32 => format!("gc_hidden({p}s)"),
            _ => self.narrow(&format!("{p}s")),
        }
    }

    /// Sums of narrow integers wrap at the end: the low bits do not depend on the high ones.
    fn narrow(self, x: &str) -> String {
        super::body::wrapped(self.dtype, x)
    }
}
