//! Epilogues as a chain of instructions on blocks of sums: each combines the block with one operand and
//! may store it. A block stays in the first cache from one instruction to the next.

use super::simd::{Simd, prefetch};
use super::{Element, Output, TileCtx};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;

/// An operand of every element of C.
#[derive(Clone, Copy, Debug)]
pub struct Operand<T> {
    /// The element of the first row and column.
    pub first: *const T,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one product to the next.
    pub batch_stride: usize,
    /// Whether columns are contiguous; else one element serves a whole row.
    pub by_column: bool,
    /// What each element is multiplied with, or null.
    pub factor: *const T,
}

/// How an instruction combines the sums with its operand `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// `sum`.
    Keep,
    /// `sum + x`.
    Add,
    /// `sum - x`.
    Sub,
    /// `x - sum`.
    SubFrom,
    /// `sum * x`.
    Mul,
    /// `sum` where `x > 0`, else 0.
    Gate,
}

/// One pass over a block: `sum = combine(sum * scale, x * factor)`, cut at zero with `relu`, then stored.
///
/// Each operation rounds once.
#[derive(Clone, Copy, Debug)]
pub struct Instruction<T> {
    /// What the sums are multiplied with first, or null.
    pub scale: *const T,
    /// How.
    pub combine: Combine,
    /// With what; not looked at by [`Combine::Keep`].
    pub operand: Operand<T>,
    /// Whether negative results become 0; NaN stays NaN.
    pub relu: bool,
    /// Where the results go, if anywhere.
    pub store: Option<Output<T>>,
}

/// Asks for the operands of a block that vary by row and column, so that they are in the first caches when
/// the block's sums are finished.
pub fn prefetch_operands<T: Element>(chain: &[Instruction<T>], block: &TileCtx<T>) {
    let line = ALIGNMENT / size_of::<T>();
    let varying =
        |i: &&Instruction<T>| i.combine != Combine::Keep && i.operand.by_column && i.operand.row_stride > 0;
    for Instruction { operand, .. } in chain.iter().filter(varying) {
        for row in block.row0..block.row0 + block.rows {
            let at = block.batch * operand.batch_stride + row * operand.row_stride + block.col0;
            for column in (0..block.cols).step_by(line) {
                prefetch(operand.first.wrapping_add(at + column));
            }
        }
    }
}

/// Runs a chain on a block, which it overwrites.
///
/// # Safety
/// The machine has `isa`. Every element of the block's rows and columns lies in the arrays of the operands
/// and the outputs. A store may overwrite operands of its own instruction or of earlier ones at the same row
/// and column, and nothing else that is read.
pub unsafe fn run_chain<T: Element>(isa: Isa, chain: &[Instruction<T>], block: &TileCtx<T>) {
    // SAFETY: the caller's promise.
    unsafe { (T::kernels(isa).chain)(chain, block) }
}

/// See [`run_chain`].
///
/// # Safety
/// As there, and what `Simd` asks for.
#[inline(always)]
pub unsafe fn chain<S: Simd>(instructions: &[Instruction<S::Elem>], block: &TileCtx<S::Elem>) {
    for (i, instruction) in instructions.iter().enumerate() {
        let last = i + 1 == instructions.len();
        // SAFETY: the caller's promise.
        unsafe {
            match instruction.combine {
                Combine::Keep => pass::<S>(instruction, block, last, |sum, _| sum),
                Combine::Add => pass::<S>(instruction, block, last, |sum, x| S::add(sum, x)),
                Combine::Sub => pass::<S>(instruction, block, last, |sum, x| S::sub(sum, x)),
                Combine::SubFrom => pass::<S>(instruction, block, last, |sum, x| S::sub(x, sum)),
                Combine::Mul => pass::<S>(instruction, block, last, |sum, x| S::mul(sum, x)),
                Combine::Gate => pass::<S>(instruction, block, last, |sum, x| S::gate(x, sum)),
            }
        }
    }
}

/// One instruction over the block; the sums are kept unless it is the last.
///
/// # Safety
/// As [`chain`].
#[inline(always)]
unsafe fn pass<S: Simd>(
    instruction: &Instruction<S::Elem>,
    block: &TileCtx<S::Elem>,
    last: bool,
    combine: impl Fn(S::Vector, S::Vector) -> S::Vector,
) {
    let Instruction { scale, operand, relu, store, combine: how } = *instruction;
    let loads = how != Combine::Keep;
    let whole = block.cols / S::LANES;
    let tail = block.cols % S::LANES;
    // SAFETY: vectors of columns inside the block's rows, the last one masked; see `run_chain`.
    unsafe {
        let splat = |at: *const S::Elem| S::splat(*at);
        let scale = (!scale.is_null()).then(|| splat(scale));
        let factor = (loads && !operand.factor.is_null()).then(|| splat(operand.factor));
        let mask = S::mask(if tail > 0 { tail } else { S::LANES });
        let column = if operand.by_column { block.col0 } else { 0 };
        for i in 0..block.rows {
            let row = block.row0 + i;
            let sums = block.acc.add(i * block.ld);
            let x = operand
                .first
                .wrapping_add(block.batch * operand.batch_stride + row * operand.row_stride + column);
            let c = store
                .map(|c| c.c.wrapping_add(block.batch * c.batch_stride + row * c.row_stride + block.col0));
            let shared = (loads && !operand.by_column).then(|| splat(x));
            let finish = |sum: S::Vector, x: S::Vector| {
                let sum = scale.map_or(sum, |scale| S::mul(sum, scale));
                let x = factor.map_or(x, |factor| S::mul(x, factor));
                let sum = combine(sum, x);
                if relu { S::relu(sum) } else { sum }
            };
            for j in 0..whole {
                let at = j * S::LANES;
                let operand = match shared {
                    Some(x) => x,
                    None if loads => S::load(x.add(at)),
                    None => S::zero(),
                };
                let sum = finish(S::load(sums.add(at)), operand);
                if !last {
                    S::store(sums.add(at), sum);
                }
                if let Some(c) = c {
                    S::store(c.add(at), sum);
                }
            }
            if tail > 0 {
                let at = whole * S::LANES;
                let operand = match shared {
                    Some(x) => x,
                    None if loads => S::load_masked(x.add(at), mask),
                    None => S::zero(),
                };
                let sum = finish(S::load_masked(sums.add(at), mask), operand);
                if !last {
                    S::store_masked(sums.add(at), mask, sum);
                }
                if let Some(c) = c {
                    S::store_masked(c.add(at), mask, sum);
                }
            }
        }
    }
}
