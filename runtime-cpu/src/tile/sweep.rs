//! Loops over arrays in whole vectors.
//!
//! The compiler leaves the last elements of a loop of unknown length to scalar code, which for a
//! polynomial takes longer than all that came before. Here loops have constant lengths, and the last few
//! elements are padded to a whole vector.

use std::mem::MaybeUninit;

/// Elements of an unrolled step.
const STEP: usize = 64;
/// Elements of a step that may be padded.
const TAIL: usize = 16;

/// An operand: an array, or nothing.
pub trait Operand: Copy {
    type Item: Copy;

    /// The elements from `start` on.
    ///
    /// # Safety
    /// There are `start + N` elements.
    unsafe fn step<'a, const N: usize>(self, start: usize) -> &'a [Self::Item; N];

    /// The `len < TAIL` elements from `start` on, followed by zeros.
    ///
    /// # Safety
    /// There are `start + len` elements, whose type may be all zero bytes.
    unsafe fn tail(self, start: usize, len: usize, pad: &mut MaybeUninit<[Self::Item; TAIL]>) -> &[Self::Item; TAIL];
}

impl<T: Copy> Operand for *const T {
    type Item = T;

    #[inline(always)]
    unsafe fn step<'a, const N: usize>(self, start: usize) -> &'a [T; N] {
        // SAFETY: the caller's promise.
        unsafe { &*self.add(start).cast() }
    }

    #[inline(always)]
    unsafe fn tail(self, start: usize, len: usize, pad: &mut MaybeUninit<[T; TAIL]>) -> &[T; TAIL] {
        // SAFETY: the caller's promise; zeros initialize what the copy leaves out.
        unsafe {
            pad.as_mut_ptr().write_bytes(0, 1);
            std::ptr::copy_nonoverlapping(self.add(start), pad.as_mut_ptr().cast(), len);
            pad.assume_init_ref()
        }
    }
}

/// The operand that a function does not have.
#[derive(Clone, Copy)]
pub struct Nothing;

impl Operand for Nothing {
    type Item = ();

    #[inline(always)]
    unsafe fn step<'a, const N: usize>(self, _: usize) -> &'a [(); N] {
        &[(); N]
    }

    #[inline(always)]
    unsafe fn tail(self, _: usize, _: usize, _: &mut MaybeUninit<[(); TAIL]>) -> &[(); TAIL] {
        &[(); TAIL]
    }
}

/// `dst[i] = f(a[i], b[i], c[i])` for `i < len`.
///
/// # Safety
/// All arrays have `len` elements, of types that may be all zero bytes; `dst` overlaps no operand.
#[inline(always)]
pub unsafe fn sweep<A: Operand, B: Operand, C: Operand, U: Copy>(
    len: usize,
    dst: *mut u8,
    (a, b, c): (A, B, C),
    f: impl Fn(A::Item, B::Item, C::Item) -> U,
) {
    let dst = dst.cast::<U>();
    let whole = len / STEP * STEP;
    let mut start = 0;
    while start < whole {
        // SAFETY: `start + STEP <= len`.
        unsafe { each::<STEP, _, _, _, _>(&mut *dst.add(start).cast(), a.step(start), b.step(start), c.step(start), &f) };
        start += STEP;
    }
    while start + TAIL <= len {
        // SAFETY: as the condition says.
        unsafe { each::<TAIL, _, _, _, _>(&mut *dst.add(start).cast(), a.step(start), b.step(start), c.step(start), &f) };
        start += TAIL;
    }
    if start < len {
        let rest = len - start;
        let (mut x, mut y, mut z) = (MaybeUninit::uninit(), MaybeUninit::uninit(), MaybeUninit::uninit());
        let mut out = MaybeUninit::<[U; TAIL]>::zeroed();
        // SAFETY: there are `rest` elements left; zeros are elements.
        unsafe {
            let (a, b, c) = (a.tail(start, rest, &mut x), b.tail(start, rest, &mut y), c.tail(start, rest, &mut z));
            each::<TAIL, _, _, _, _>(out.assume_init_mut(), a, b, c, &f);
            std::ptr::copy_nonoverlapping(out.as_ptr().cast(), dst.add(start), rest);
        }
    }
}

/// One step. References tell the compiler that results overlap no operand.
#[inline(always)]
fn each<const N: usize, A: Copy, B: Copy, C: Copy, U>(
    dst: &mut [U; N],
    a: &[A; N],
    b: &[B; N],
    c: &[C; N],
    f: &impl Fn(A, B, C) -> U,
) {
    for i in 0..N {
        dst[i] = f(a[i], b[i], c[i]);
    }
}
