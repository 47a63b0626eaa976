//! What a core can do at most: multiply-adds in registers, and reading memory.

use std::hint::black_box;
use std::time::Instant;

use crate::isa::Isa;
use crate::memory::{Block, OutOfMemory};

/// Multiply-adds of a burst, for each of 12 accumulators.
const STEPS: usize = 40_000;

/// Bursts and passes, of which the fastest counts.
const REPEATS: usize = 15;

/// Bytes that are read: more than second caches hold.
const BYTES: usize = 64 << 20;

/// `f32` operations a second of one core.
pub fn flops(isa: Isa) -> f64 {
    operations(isa) / fastest(|| burst(isa))
}

/// `f32` operations of one [`burst`].
pub fn operations(isa: Isa) -> f64 {
    let lanes = match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Portable => 4,
    };
    (STEPS * 12 * lanes * 2) as f64
}

/// Bytes a second that one core reads from memory, or from a cache that holds 64 MiB.
///
/// # Errors
/// When the system refuses the memory.
pub fn bandwidth() -> Result<f64, OutOfMemory> {
    let mut block = Block::new(BYTES)?;
    block.as_mut_slice().fill(1);
    let words: &[u64] = bytemuck::cast_slice(block.as_slice());
    let time = fastest(|| {
        // Several sums, so that none waits for the one before.
        let mut sums = [0u64; 32];
        for chunk in words.chunks_exact(32) {
            for (sum, word) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
    });
    Ok(BYTES as f64 / time)
}

fn fastest(mut work: impl FnMut()) -> f64 {
    let mut seconds = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(|_| seconds()).fold(f64::INFINITY, f64::min)
}

/// Multiply-adds in registers, nothing else; none where the machine lacks the instruction set.
#[cfg(target_arch = "x86_64")]
pub fn burst(isa: Isa) {
    use std::arch::x86_64::*;

    macro_rules! version {
        ($name:ident, $target:literal, $set1:ident, $vector:ty, |$acc:ident, $x:ident, $y:ident| $step:expr) => {
            #[target_feature(enable = $target)]
            fn $name() -> [$vector; 12] {
                let mut acc = [$set1(black_box(0.0)); 12];
                let ($x, $y) = ($set1(black_box(1.0)), $set1(black_box(0.5)));
                for _ in 0..STEPS {
                    for $acc in &mut acc {
                        *$acc = $step;
                    }
                }
                acc
            }
        };
    }
    version!(avx512, "avx512f", _mm512_set1_ps, __m512, |acc, x, y| _mm512_fmadd_ps(*acc, y, x));
    version!(avx2, "avx2,fma", _mm256_set1_ps, __m256, |acc, x, y| _mm256_fmadd_ps(*acc, y, x));
    version!(portable, "sse2", _mm_set1_ps, __m128, |acc, x, y| _mm_add_ps(_mm_mul_ps(*acc, y), x));
    if !isa.is_available() {
        return;
    }
    match isa {
        // SAFETY: the machine has the instruction set.
        Isa::Avx512 => drop(black_box(unsafe { avx512() })),
        // SAFETY: as above.
        Isa::Avx2 => drop(black_box(unsafe { avx2() })),
        // SAFETY: as above.
        Isa::Portable => drop(black_box(unsafe { portable() })),
    }
}

/// Multiply-adds in registers, nothing else.
#[cfg(not(target_arch = "x86_64"))]
pub fn burst(_isa: Isa) {
    let mut acc = [black_box(0.0f32); 48];
    let (x, y) = (black_box(1.0f32), black_box(0.5f32));
    for _ in 0..STEPS {
        for acc in &mut acc {
            *acc = *acc * y + x;
        }
    }
    black_box(acc);
}
