//! The processor's multiply-add peak, and how much of it some work reaches.

use std::time::Instant;

use graphc_cpu::isa::Isa;
use graphc_cpu::peak::{burst, operations};

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
    let peak_of_type = operations(isa) * size_of::<f32>() as f64 / size as f64;
    let repeats = (4e7 / flops).ceil() as usize;
    let (mut ratios, mut times, mut bursts) = (Vec::new(), Vec::new(), Vec::new());
    let samples = if flops < 1e9 { 41 } else { 15 };
    for _ in 0..samples {
        let before = seconds(|| burst(isa));
        let time = seconds(|| (0..repeats).for_each(|_| once())) / repeats as f64;
        let after = seconds(|| burst(isa));
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
    let mut times: Vec<f64> = (0..101).map(|_| seconds(|| burst(isa))).collect();
    operations(isa) / median(&mut times) / 1e9
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
