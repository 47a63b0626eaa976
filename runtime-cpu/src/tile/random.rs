//! Random bits over tiles.

use std::marker::PhantomData;

use graphc_ir::dtype::DType;

use super::kernel::{Kernel, compiled, with_type};
use super::map::{MapArgs, MapFn};
use super::sweep::{Nothing, sweep};
use crate::isa::Isa;

/// Word 0 of Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, SC 2011), unrolled by the
/// compiler; equal to [`graphc_ir::random::bits`], which a test holds it to.
#[inline(always)]
fn bits(key: [u32; 2], index: u64) -> u32 {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let schedule = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let mut x = (index as u32).wrapping_add(key[0]);
    let mut y = ((index >> 32) as u32).wrapping_add(key[1]);
    let mut group = 0;
    while group < 5 {
        let first = group % 2 * 4;
        let mut round = first;
        while round < first + 4 {
            x = x.wrapping_add(y);
            y = y.rotate_left(ROTATIONS[round]) ^ x;
            round += 1;
        }
        group += 1;
        x = x.wrapping_add(schedule[group % 3]);
        y = y.wrapping_add(schedule[(group + 1) % 3]).wrapping_add(group as u32);
    }
    x
}

/// An integer that counts elements.
trait Counter: Copy {
    fn counter(self) -> u64;
}

macro_rules! counters {
    ($($t:ty),*) => { $( impl Counter for $t {
        #[inline(always)]
        fn counter(self) -> u64 {
            self as u64
        }
    } )* };
}
counters!(i32, u32, i64, u64);

/// `dst[i]` is the random word of the index `c[i]` under the key `(a[i], b[i])`, or `(a[0], b[0])`.
struct Threefry<T, const KEY_SPLAT: bool>(PhantomData<T>);

impl<T: Counter, const KEY_SPLAT: bool> Kernel for Threefry<T, KEY_SPLAT> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(&MapArgs { dst, a, b, c, len }: &MapArgs) {
        let (a, b, c) = (a.cast::<u32>(), b.cast::<u32>(), c.cast::<T>());
        // SAFETY: the tiles have `len` elements, the words of a splat key one.
        unsafe {
            if KEY_SPLAT {
                let key = [*a, *b];
                sweep(len, dst, (c, Nothing, Nothing), |index, _, _| bits(key, index.counter()));
            } else {
                sweep(len, dst, (a, b, c), |a, b, index| bits([a, b], index.counter()));
            }
        }
    }
}

/// Random bits by index; `splat` says that both words of the key are single elements.
pub fn random_bits(isa: Isa, index: DType, splat: bool) -> Option<MapFn> {
    with_type!(index, [I64 i64, U64 u64, I32 i32, U32 u32], T => if splat {
        compiled::<Threefry<T, true>>(isa)
    } else {
        compiled::<Threefry<T, false>>(isa)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_equal_the_reference() {
        let indices: Vec<i64> = (0..67).map(|i| i * 0x1_2345_6789 - 40).collect();
        let keys: Vec<u32> = (0..134u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
        for isa in Isa::available() {
            for splat in [true, false] {
                let mut words = vec![0u32; indices.len()];
                let args = MapArgs {
                    dst: words.as_mut_ptr().cast(),
                    a: keys.as_ptr().cast(),
                    b: keys[67..].as_ptr().cast(),
                    c: indices.as_ptr().cast(),
                    len: indices.len(),
                };
                // SAFETY: all four arrays have 67 elements.
                unsafe { random_bits(isa, DType::I64, splat).unwrap()(&args) };
                for (i, word) in words.iter().enumerate() {
                    let key = if splat { [keys[0], keys[67]] } else { [keys[i], keys[67 + i]] };
                    assert_eq!(*word, graphc_ir::random::bits(key, indices[i] as u64));
                }
            }
        }
    }
}
