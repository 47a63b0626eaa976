//! Random feeds: counter-based, so that they are the same everywhere and in every repeat.

use graphc::ir::Scalar;
use graphc::ir::random::{key, threefry2x32};
use graphc::{DType, Tensor};

/// Standard normal by the transform of Box and Muller (1958), two words an element, in f64.
pub fn normal(name: &str, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    const TURN: f64 = std::f64::consts::TAU;
    let key = feed_key(name, seed);
    Tensor::from_fn(dtype, shape, |i| {
        let [a, b] = words(key, i);
        // In (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * ((f64::from(a) + 1.0) * SCALE).ln()).sqrt();
        Scalar::F(radius * (TURN * f64::from(b) * SCALE).cos())
    })
}

/// Uniform in [0, 1), with as many bits as the type holds exactly.
pub fn uniform(name: &str, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let bits = match dtype {
        DType::F64 => 32,
        DType::F16 => 11,
        DType::Bf16 => 8,
        _ => 24,
    };
    let key = feed_key(name, seed);
    Tensor::from_fn(dtype, shape, |i| {
        let word = words(key, i)[0] >> (32 - bits) << (32 - bits);
        Scalar::F(f64::from(word) * SCALE)
    })
}

const SCALE: f64 = 1.0 / 4_294_967_296.0;

fn words(key: [u32; 2], i: usize) -> [u32; 2] {
    threefry2x32(key, [i as u32, (i as u64 >> 32) as u32])
}

/// A key of the seed and the name, by the 64-bit FNV-1a hash of the name.
fn feed_key(name: &str, seed: u64) -> [u32; 2] {
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    threefry2x32(key(seed), [(hash >> 32) as u32, hash as u32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(t: &Tensor) -> (f64, f64) {
        let (values, n) = (t.to_f64(), t.len() as f64);
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn distributions_have_their_moments() {
        let (mean, variance) = moments(&normal("x", DType::F32, &[100, 200], 3));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let (mean, variance) = moments(&uniform("x", DType::F64, &[100, 200], 3));
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.003, "{mean} {variance}");
    }

    #[test]
    fn uniform_values_stay_below_one() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::Bf16] {
            let t = uniform("x", dtype, &[5000], 1);
            assert!(t.to_f64().iter().all(|v| (0.0..1.0).contains(v)), "{dtype}");
        }
    }

    #[test]
    fn seed_and_name_decide() {
        let of = |name, seed| normal(name, DType::F32, &[4], seed);
        assert_eq!(of("x", 1), of("x", 1));
        assert_ne!(of("x", 1), of("y", 1));
        assert_ne!(of("x", 1), of("x", 2));
    }
}
