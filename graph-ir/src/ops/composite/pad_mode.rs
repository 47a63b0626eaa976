use std::ops::RangeInclusive;

use super::axis::number;
use crate::attr_enum;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::Scope;
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::{Concat, Gather, Iota, OpDef, Sample, Vjp, VjpCx, sample_tensor};
use crate::types::{Infer, TensorType};

attr_enum! {
    /// Where a border's elements come from.
    PadSource {
        /// Mirrored at the outermost element, which is not repeated.
        Reflect = "reflect",
        /// The outermost element.
        Replicate = "replicate",
        /// The other end.
        Circular = "circular",
    }
}

op_struct! {
    /// A border of the operand's own elements.
    PadMode {
        /// Elements added before, for every axis.
        lo: Vec<usize>,
        /// Elements added after.
        hi: Vec<usize>,
        /// Where they come from.
        mode: PadSource,
    }
}

/// Repeats the only element of an axis.
fn repeat(b: &mut Builder, x: ValueId, axis: usize, count: usize) -> Result<ValueId> {
    let mut dims = b.ty(x).dims.clone();
    dims[axis] = Dim::from(count);
    b.broadcast_to(x, &dims)
}

/// Mirrors an axis of n elements at both ends. The places are computed, not stored: a file of a few bytes may ask for 10^8 of them.
fn reflect(b: &mut Builder, x: ValueId, axis: usize, (lo, n, hi): (usize, usize, usize)) -> Result<ValueId> {
    let dim = b.ty(x).dims[axis].add(&Dim::from(lo))?.add(&Dim::from(hi))?;
    let small = dim.as_const().is_some_and(|d| d <= i64::from(i32::MAX));
    let dtype = if small { DType::I32 } else { DType::I64 };
    let count = b.op1(Iota { dtype, dims: vec![dim], axis: 0 }, &[])?;
    let scope = Scope::new(b);
    let k = scope.expr(count);
    // |k - lo| turns the lower border around, and the same from the last element the upper one.
    let last = k.literal(n as f64 - 1.0);
    let place = (last - (last - (k - k.literal(lo as f64)).abs()).abs()).id();
    scope.finish()?;
    b.op1(Gather { axis }, &[x, place])
}

impl PadMode {
    fn pad_axis(&self, b: &mut Builder, x: ValueId, axis: usize) -> Result<ValueId> {
        let (lo, hi) = (self.lo[axis], self.hi[axis]);
        if lo == 0 && hi == 0 {
            return Ok(x);
        }
        let ty = b.ty(x).clone();
        let n = &ty.dims[axis];
        let (zero, one) = (Dim::from(0usize), Dim::from(1usize));
        let mut parts = Vec::new();
        match self.mode {
            PadSource::Reflect => {
                let n = number("pad_mode by reflection", &ty, axis)?;
                return reflect(b, x, axis, (lo, n, hi));
            }
            PadSource::Replicate => {
                if lo > 0 {
                    let first = b.slice_axis(x, axis, &zero, &one)?;
                    parts.push(repeat(b, first, axis, lo)?);
                }
                parts.push(x);
                if hi > 0 {
                    let last = b.slice_axis(x, axis, &n.sub(&one)?, n)?;
                    parts.push(repeat(b, last, axis, hi)?);
                }
            }
            PadSource::Circular => {
                if lo > 0 {
                    parts.push(b.slice_axis(x, axis, &n.sub(&Dim::from(lo))?, n)?);
                }
                parts.push(x);
                if hi > 0 {
                    parts.push(b.slice_axis(x, axis, &zero, &Dim::from(hi))?);
                }
            }
        }
        b.op1(Concat { axis }, &parts)
    }
}

impl OpDef for PadMode {
    const NAME: &'static str = "pad_mode";
    const SIGNATURE: &'static str = "pad_mode{lo, hi, mode}(x) -> y";
    const DOC: &'static str = "x with lo[i] of its own elements before and hi[i] after along each axis. Of abcd, 2 and 2 \
        make cbabcdcb (reflect), aaabcddd (replicate) or cdabcdab (circular). Each axis has more elements than \
        `reflect` adds, and at least as many as `circular` adds, at either end; the sizes of reflected axes are \
        numbers.";
    const ARITY: RangeInclusive<usize> = 1..=1;

    fn takes_halves(&self) -> bool {
        true
    }

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        if self.lo.len() != ins[0].rank() || self.hi.len() != ins[0].rank() {
            fail!("lo and hi need one entry for each of the {} axes of {}", ins[0].rank(), ins[0]);
        }
        let mut dims = Vec::new();
        for (axis, n) in ins[0].dims.iter().enumerate() {
            let (lo, hi) = (self.lo[axis], self.hi[axis]);
            dims.push(n.add(&Dim::from(lo))?.add(&Dim::from(hi))?);
            if lo == 0 && hi == 0 {
                continue;
            }
            let longer = i64::try_from(lo.max(hi)).unwrap_or(i64::MAX);
            let (least, why) = match self.mode {
                PadSource::Reflect => {
                    number("pad_mode by reflection", &ins[0], axis)?;
                    (longer.saturating_add(1), "a reflection adds fewer elements than there are")
                }
                PadSource::Replicate => (1, "there is an element to repeat"),
                PadSource::Circular => {
                    (longer, "a circular border adds at most as many elements as there are")
                }
            };
            cx.at_least(n, least, why)?;
        }
        Ok(vec![TensorType::new(ins[0].dtype, dims)])
    }

    fn vjp(&self, _: &mut VjpCx<'_>) -> Result<Vjp> {
        Ok(Vjp::Expand)
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let mut y = ins[0];
        for axis in 0..self.lo.len() {
            y = self.pad_axis(b, y, axis)?;
        }
        Ok(Some(vec![y]))
    }

    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> Option<f64> {
        Some(0.0)
    }

    fn samples() -> Vec<Sample> {
        let mut all = Vec::new();
        for mode in [PadSource::Reflect, PadSource::Replicate, PadSource::Circular] {
            let case = |s: &[usize], lo: &[usize], hi: &[usize]| {
                Sample::new(PadMode { lo: lo.to_vec(), hi: hi.to_vec(), mode }, vec![sample_tensor(s, 1)])
            };
            all.extend([
                case(&[], &[], &[]),
                case(&[1], &[0], &[0]),
                case(&[0, 3], &[0, 2], &[0, 1]),
                case(&[2, 3, 4], &[0, 0, 3], &[0, 2, 2]),
            ]);
        }
        all
    }
}
