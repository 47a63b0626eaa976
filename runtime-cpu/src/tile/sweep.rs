//! Loops over arrays in whole vectors.
//!
//! The compiler leaves the last elements of a loop of unknown length to scalar code, which for a
//! polynomial takes longer than all that came before. Here loops have a constant length, and the last
//! elements are padded to it.

use std::mem::MaybeUninit;

use crate::threshold::thresholds;

thresholds! {
    /// Elements of a step: four of the widest vectors of `f32`.
    const STEP: usize = 64, of Nest [Columns];
}

/// A function of up to three operands; those that it does not have are of type `()`.
///
/// (A closure could not be forced into the loop, and outside it would be compiled without the loop's
/// instruction set.)
pub trait Function {
    type A: Copy;
    type B: Copy;
    type C: Copy;
    type Out: Copy;
    fn apply<const FMA: bool>(a: Self::A, b: Self::B, c: Self::C) -> Self::Out;
}

/// The elements of an operand, a step at a time.
struct Operand<T> {
    pointer: *const T,
    splat: bool,
    /// The one element again and again, or a step that is not whole, padded with zeros.
    pad: MaybeUninit<[T; STEP]>,
}

impl<T: Copy> Operand<T> {
    /// # Safety
    /// If `splat`, the pointer points to an element.
    #[inline(always)]
    unsafe fn new(pointer: *const u8, splat: bool) -> Operand<T> {
        let (pointer, mut pad) = (pointer.cast::<T>(), MaybeUninit::uninit());
        if splat && size_of::<T>() > 0 {
            // SAFETY: the caller's promise.
            pad.write([unsafe { *pointer }; STEP]);
        }
        Operand { pointer, splat, pad }
    }

    /// The elements from `start` on.
    ///
    /// # Safety
    /// There are `start + len` elements, of a type that may be all zero bytes, or the operand is splat.
    #[inline(always)]
    unsafe fn step(&mut self, start: usize, len: usize) -> &[T; STEP] {
        // SAFETY: the caller's promise; zeros initialize what the copy leaves out; a type without size has
        // no bytes that could be missing.
        unsafe {
            if size_of::<T>() == 0 || self.splat {
                return self.pad.assume_init_ref();
            }
            let from = self.pointer.add(start);
            if len >= STEP {
                return &*from.cast();
            }
            self.pad.as_mut_ptr().write_bytes(0, 1);
            std::ptr::copy_nonoverlapping(from, self.pad.as_mut_ptr().cast(), len);
            self.pad.assume_init_ref()
        }
    }
}

/// `dst[i] = f(a[i], b[i], c[i])` for `i < len`; operands that are splat have one element.
///
/// # Safety
/// The arrays are aligned to their elements and have so many of them, of types that may be all zero
/// bytes; `dst` overlaps no operand.
#[inline(always)]
pub unsafe fn sweep<const FMA: bool, F: Function>(
    len: usize,
    dst: *mut u8,
    [a, b, c]: [*const u8; 3],
    [a_splat, b_splat, c_splat]: [bool; 3],
) {
    let dst = dst.cast::<F::Out>();
    // SAFETY: the caller's promise.
    let (mut a, mut b, mut c) = unsafe {
        (Operand::<F::A>::new(a, a_splat), Operand::<F::B>::new(b, b_splat), Operand::<F::C>::new(c, c_splat))
    };
    let mut out = MaybeUninit::<[F::Out; STEP]>::uninit();
    let mut start = 0;
    while start < len {
        let rest = len - start;
        // SAFETY: `rest` elements are left; an incomplete step goes to `out` first, which has room for it.
        unsafe {
            let (a, b, c) = (a.step(start, rest), b.step(start, rest), c.step(start, rest));
            let to = if rest < STEP { out.as_mut_ptr() } else { dst.add(start).cast() };
            each::<FMA, F>(&mut *to.cast(), a, b, c);
            if rest < STEP {
                std::ptr::copy_nonoverlapping(out.as_ptr().cast(), dst.add(start), rest);
            }
        }
        start += STEP;
    }
}

/// One step. References tell the compiler that the results overlap no operand.
#[inline(always)]
fn each<const FMA: bool, F: Function>(
    dst: &mut [MaybeUninit<F::Out>; STEP],
    a: &[F::A; STEP],
    b: &[F::B; STEP],
    c: &[F::C; STEP],
) {
    for i in 0..STEP {
        dst[i].write(F::apply::<FMA>(a[i], b[i], c[i]));
    }
}
