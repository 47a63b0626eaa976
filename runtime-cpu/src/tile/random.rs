//! Random bits over tiles.

use std::marker::PhantomData;

use graphc_ir::dtype::DType;

use super::kernel::{compiled, with_type};
use super::map::{Map, MapFn};
use super::sweep::Function;
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

/// The random word of the index `c` under the key `(a, b)`.
struct Threefry<T>(PhantomData<T>);

impl<T: Counter> Function for Threefry<T> {
    type A = u32;
    type B = u32;
    type C = T;
    type Out = u32;
    #[inline(always)]
    fn apply<const FMA: bool>(a: u32, b: u32, c: T) -> u32 {
        bits([a, b], c.counter())
    }
}

/// Random bits by key word 0, key word 1 and index.
pub fn random_bits(isa: Isa, index: DType) -> Option<MapFn> {
    with_type!(index, [I64 i64, U64 u64, I32 i32, U32 u32], T => compiled::<Map<Threefry<T>>>(isa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::map::MapArgs;

    #[test]
    fn words_equal_the_reference() {
        let indices: Vec<i64> = (0..67).map(|i| i * 0x1_2345_6789 - 40).collect();
        let keys: Vec<u32> = (0..134u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
        for isa in Isa::available() {
            for splat in [true, false] {
                let mut words = vec![0u32; indices.len()];
                let args = MapArgs {
                    dst: words.as_mut_ptr().cast(),
                    operands: [keys.as_ptr().cast(), keys[67..].as_ptr().cast(), indices.as_ptr().cast()],
                    splat: [splat, splat, false],
                    len: indices.len(),
                };
                // SAFETY: all four arrays have 67 elements.
                unsafe { random_bits(isa, DType::I64).unwrap()(&args) };
                for (i, word) in words.iter().enumerate() {
                    let key = if splat { [keys[0], keys[67]] } else { [keys[i], keys[67 + i]] };
                    assert_eq!(*word, graphc_ir::random::bits(key, indices[i] as u64));
                }
            }
        }
    }
}
