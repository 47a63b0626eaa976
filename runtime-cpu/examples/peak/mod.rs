//! The processor's multiply-add peak, and how much of it some work reaches.

use std::hint::black_box;
use std::time::Instant;

use graphc_cpu::isa::Isa;

/// How fast some work ran.
pub struct Measured {
    /// Seconds, in the median.
    pub time: f64,
    /// Part of the peak of all threads, in the median of samples that each stand between two bursts of
    /// multiply-adds in registers.
    pub ratio: f64,
    /// The shortest sample against the shortest burst: what an undisturbed machine would do.
    pub best: f64,
}

/// Times `once`, which does `flops` operations on elements of `size` bytes.
pub fn measure(isa: Isa, size: usize, threads: usize, flops: f64, mut once: impl FnMut()) -> Measured {
    let peak_of_type = peak_flops(isa) * size_of::<f32>() as f64 / size as f64;
    let repeats = (4e7 / flops).ceil() as usize;
    let (mut ratios, mut times, mut bursts) = (Vec::new(), Vec::new(), Vec::new());
    let samples = if flops < 1e9 { 41 } else { 15 };
    for _ in 0..samples {
        let before = seconds(|| peak_burst(isa));
        let time = seconds(|| (0..repeats).for_each(|_| once())) / repeats as f64;
        let after = seconds(|| peak_burst(isa));
        let peak_time = (before + after) / 2.0 / peak_of_type;
        ratios.push(flops / time * peak_time / threads as f64);
        times.push(time);
        bursts.push(before.min(after));
    }
    let shortest_burst = bursts.into_iter().fold(f64::INFINITY, f64::min);
    let (ratio, time) = (median(&mut ratios), median(&mut times));
    // Sorted by `median`.
    let best = flops / times[0] * shortest_burst / peak_of_type / threads as f64;
    Measured { time, ratio, best }
}

/// The peak of one thread for `f32`, in GFLOP/s.
pub fn peak(isa: Isa) -> f64 {
    let mut times: Vec<f64> = (0..101).map(|_| seconds(|| peak_burst(isa))).collect();
    peak_flops(isa) / median(&mut times) / 1e9
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const BURST_STEPS: usize = 40_000;

/// `f32` operations in one [`peak_burst`].
fn peak_flops(isa: Isa) -> f64 {
    let lanes = match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Portable => 4,
    };
    (BURST_STEPS * 12 * lanes * 2) as f64
}

#[cfg(target_arch = "x86_64")]
fn peak_burst(isa: Isa) {
    use std::arch::x86_64::*;

    macro_rules! burst {
        ($name:ident, $target:literal, $set1:ident, $vector:ty, |$acc:ident, $x:ident, $y:ident| $step:expr) => {
            #[target_feature(enable = $target)]
            fn $name() -> [$vector; 12] {
                let mut acc = [$set1(black_box(0.0)); 12];
                let ($x, $y) = ($set1(black_box(1.0)), $set1(black_box(0.5)));
                for _ in 0..BURST_STEPS {
                    for $acc in &mut acc {
                        *$acc = $step;
                    }
                }
                acc
            }
        };
    }
    burst!(avx512, "avx512f", _mm512_set1_ps, __m512, |acc, x, y| _mm512_fmadd_ps(*acc, y, x));
    burst!(avx2, "avx2,fma", _mm256_set1_ps, __m256, |acc, x, y| _mm256_fmadd_ps(*acc, y, x));
    burst!(portable, "sse2", _mm_set1_ps, __m128, |acc, x, y| _mm_add_ps(_mm_mul_ps(*acc, y), x));
    match isa {
        // SAFETY: callers pass instruction sets that this machine has.
        Isa::Avx512 => drop(black_box(unsafe { avx512() })),
        // SAFETY: as above.
        Isa::Avx2 => drop(black_box(unsafe { avx2() })),
        // SAFETY: as above.
        Isa::Portable => drop(black_box(unsafe { portable() })),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn peak_burst(_isa: Isa) {
    let mut acc = [black_box(0.0f32); 48];
    let (x, y) = (black_box(1.0f32), black_box(0.5f32));
    for _ in 0..BURST_STEPS {
        for acc in &mut acc {
            *acc = *acc * y + x;
        }
    }
    black_box(acc);
}
