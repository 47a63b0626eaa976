//! Products of floats that overflow and underflow only where their value does, whatever the order of the factors.
//!
//! States are a mantissa and, in a second array, its power of two plus 1 (so that 1 stands for no factors in both). A
//! tile's product is made plainly first. If it is a normal number nothing overflowed or underflowed on the way: what is
//! infinite, NaN or flushed to zero stays so. Otherwise it is made again, factor by factor, with an exponent beside it.

use std::marker::PhantomData;

use super::fold::{FoldArgs, MergeArgs, Product, STRIP, fold_row, join_rows};
use super::kernel::Kernel;
use super::map::MapArgs;
use super::number::Real;

/// A mantissa and its power of two.
type Parts<T> = (T, i32);

#[inline(always)]
fn times<T: Real>(a: Parts<T>, b: Parts<T>) -> Parts<T> {
    let (mantissa, carried) = a.0.mul(b.0).parts();
    (mantissa, a.1.saturating_add(b.1).saturating_add(carried))
}

/// The plain product, if nothing can have gone wrong on the way, else the product of the factors one by one.
#[inline(always)]
fn parts_of<T: Real>(plain: T, factors: impl Iterator<Item = T>) -> Parts<T> {
    let found = plain.parts();
    if found.0 == T::ZERO || found.0.sub(found.0) != T::ZERO { slow(factors) } else { found }
}

#[inline(never)]
fn slow<T: Real>(factors: impl Iterator<Item = T>) -> Parts<T> {
    factors.fold((T::ONE, 0), |product, x| times(product, x.parts()))
}

#[inline(always)]
fn load<T: Real>(states: &[T], len: usize, i: usize) -> Parts<T> {
    (states[i], states[len + i].to_count() - 1)
}

#[inline(always)]
fn store<T: Real>(states: &mut [T], len: usize, i: usize, parts: Parts<T>) {
    states[i] = parts.0;
    states[len + i] = T::of_exponent(parts.1.saturating_add(1));
}

pub(super) struct ProductAlong<T>(PhantomData<T>);

impl<T: Real> Kernel for ProductAlong<T> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        // SAFETY: the arguments' promise: two arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(2 * args.rows)) };
        for (i, row) in tile.chunks_exact(args.columns).enumerate() {
            let plain = fold_row::<T, Product>(row, |x| x);
            store(states, args.rows, i, parts_of(plain, row.iter().copied()));
        }
    }
}

pub(super) struct ProductDown<T>(PhantomData<T>);

impl<T: Real> Kernel for ProductDown<T> {
    type Args = FoldArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &FoldArgs) {
        let FoldArgs { rows, columns, .. } = *args;
        // SAFETY: the arguments' promise: two arrays of states.
        let (tile, states) = unsafe { (args.elements::<T>(), args.states::<T>(2 * columns)) };
        for start in (0..columns).step_by(STRIP) {
            let (from, width) = (&tile[start..], STRIP.min(columns - start));
            let plain = join_rows::<T, Product>(from, rows, width, columns, |_, x| x);
            for (lane, plain) in plain[..width].iter().enumerate() {
                let column = from[lane..].iter().step_by(columns).copied();
                let parts = times(load(states, columns, start + lane), parts_of(*plain, column));
                store(states, columns, start + lane, parts);
            }
        }
    }
}

pub(super) struct MergeProducts<T>(PhantomData<T>);

impl<T: Real> Kernel for MergeProducts<T> {
    type Args = MergeArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MergeArgs) {
        let len = args.len;
        // SAFETY: both have two arrays of `len` elements.
        let (states, others) = unsafe { args.slices::<T>(2 * len) };
        for i in 0..len {
            let parts = times(load(states, len, i), load(others, len, i));
            store(states, len, i, parts);
        }
    }
}

/// The products of mantissas and powers of two.
pub(super) struct Scaled<T>(PhantomData<T>);

impl<T: Real> Kernel for Scaled<T> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MapArgs) {
        for i in 0..args.len {
            // SAFETY: the arguments' promise: both operands and the result have `len` elements.
            unsafe {
                let mantissa = args.operands[0].cast::<T>().add(i).read();
                let exponent = args.operands[1].cast::<T>().add(i).read().to_count() - 1;
                args.dst.cast::<T>().add(i).write(mantissa.scaled(exponent));
            }
        }
    }
}
