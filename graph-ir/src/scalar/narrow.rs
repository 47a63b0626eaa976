//! Rounding to f16 and bf16: once, from every type and from text, and the shortest text that reads back.
//!
//! The conversions of the `half` crate round an f64 to f32 first, or cut its lower half off, so a number just beside the
//! middle of two neighbours may go the wrong way.

use std::cmp::Ordering;

use crate::dtype::DType;

/// The shape of a narrow binary float (IEEE 754-2019, and bfloat16).
#[derive(Clone, Copy)]
struct Format {
    /// Bits of the fraction.
    fraction: i32,
    /// Exponent of the smallest normal number.
    least: i32,
    /// Exponent of the largest numbers.
    most: i32,
    /// Decimal digits that tell all of its numbers apart.
    digits: usize,
}

const F16: Format = Format { fraction: 10, least: -14, most: 15, digits: 5 };
const BF16: Format = Format { fraction: 7, least: -126, most: 127, digits: 4 };

impl Format {
    fn of(dtype: DType) -> Option<Format> {
        match dtype {
            DType::F16 => Some(F16),
            DType::Bf16 => Some(BF16),
            _ => None,
        }
    }

    /// Distance of the numbers around a magnitude.
    fn unit(self, magnitude: f64) -> f64 {
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        power_of_two(exponent.clamp(self.least, self.most) - self.fraction)
    }

    /// A magnitude that was rounded to the format's precision: what lies beyond the largest number is infinite.
    fn bounded(self, magnitude: f64) -> f64 {
        if magnitude >= power_of_two(self.most + 1) { f64::INFINITY } else { magnitude }
    }

    fn round(self, magnitude: f64) -> f64 {
        let unit = self.unit(magnitude);
        // Divided by a power of two, which is exact but for numbers far below the smallest of the format.
        self.bounded((magnitude / unit).round_ties_even() * unit)
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The number of a type nearest to an f64; of two that are equally near the one whose last bit is 0.
pub(super) fn round(v: f64, dtype: DType) -> f64 {
    match Format::of(dtype) {
        Some(format) if v.is_finite() => format.round(v.abs()).copysign(v),
        None if dtype == DType::F32 => f64::from(v as f32),
        _ => v,
    }
}

/// The number of a float type nearest to an integer.
pub(super) fn round_int(v: i128, dtype: DType) -> f64 {
    match dtype {
        DType::F64 => v as f64,
        DType::F32 => f64::from(v as f32),
        _ => {
            /// Bits that an f64 holds, and more than two beyond those of a narrow float.
            const KEPT: u32 = 50;
            let magnitude = v.unsigned_abs();
            let below = (u128::BITS - magnitude.leading_zeros()).saturating_sub(KEPT);
            let kept = magnitude >> below;
            // A last bit of 1 stands for all that is cut off, so that no number becomes the middle of two.
            let odd = (kept | u128::from(kept << below != magnitude)) << below;
            let odd = odd as f64;
            round(if v < 0 { -odd } else { odd }, dtype)
        }
    }
}

/// The number of a float type nearest to a decimal number such as `-1.5e3`, rounded once from the text; `None` if it is
/// not a number. Names of infinities and NaN are read as Rust reads them.
pub fn from_text(text: &str, dtype: DType) -> Option<f64> {
    let near: f64 = text.parse().ok()?;
    let Some(format) = Format::of(dtype) else {
        return if dtype == DType::F32 { text.parse::<f32>().ok().map(f64::from) } else { Some(near) };
    };
    let magnitude = near.abs();
    let unit = format.unit(magnitude);
    // Every middle of two neighbours is an f64. So a text on one side of a middle has an f64 on the same side or the
    // middle itself, and only then the text has to be asked.
    if !near.is_finite() || (magnitude / unit).fract() != 0.5 {
        return Some(round(near, dtype));
    }
    let below = (magnitude / unit).floor() * unit;
    let rounded = match Decimal::of(text).cmp(&Decimal::of(&format!("{magnitude:.150e}"))) {
        Ordering::Less => below,
        Ordering::Greater => format.bounded(below + unit),
        Ordering::Equal => format.round(magnitude),
    };
    Some(rounded.copysign(near))
}

/// The magnitude of a decimal number that Rust reads as a finite one: 0.d1 d2 d3 ... times 10^exponent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Decimal {
    exponent: i64,
    /// Without zeros at either end.
    digits: Vec<u8>,
}

impl Decimal {
    fn of(text: &str) -> Decimal {
        let text = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        let zeros = all().take_while(|d| *d == b'0').count();
        let mut digits: Vec<u8> = all().skip(zeros).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        // An exponent of more digits than an i64 has would not be that of a number near the middle of two.
        let exponent = exponent.parse::<i64>().unwrap_or_default();
        Decimal { exponent: exponent + whole.len() as i64 - zeros as i64, digits }
    }
}

/// The number with the fewest decimal digits that reads back as `v`, a value of the type, and of these the nearest one:
/// its own shortest text as an f64 is the shortest text of `v`.
pub fn shortest(v: f64, dtype: DType) -> f64 {
    let Some(format) = Format::of(dtype) else { return v };
    if !v.is_finite() || v == 0.0 {
        return v;
    }
    for digits in 0..format.digits {
        // The decimal number of so many digits at or below the magnitude, and the next one above.
        let exact = format!("{:.150e}", v.abs());
        let (mantissa, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
        let kept: String = mantissa.chars().filter(char::is_ascii_digit).take(digits + 1).collect();
        let (kept, exponent) =
            (kept.parse::<u64>().unwrap_or_default(), exponent.parse::<i64>().unwrap_or_default());
        let decimal = |kept: u64| format!("{kept}e{}", exponent - digits as i64);
        let reads_back = |text: &String| from_text(text, dtype) == Some(v.abs());
        let candidates = [decimal(kept), decimal(kept + 1)].into_iter().filter(reads_back);
        let numbers = candidates.filter_map(|text| text.parse::<f64>().ok());
        let distance = |x: &f64| (x - v.abs()).abs();
        if let Some(best) = numbers.min_by(|a, b| distance(a).total_cmp(&distance(b))) {
            return best.copysign(v);
        }
    }
    v
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// All finite numbers of a type that are not negative, in order, and the first power of two beyond them.
    fn numbers(dtype: DType) -> Vec<f64> {
        let value = |bits: u16| match dtype {
            DType::F16 => f16::from_bits(bits).to_f64(),
            _ => bf16::from_bits(bits).to_f64(),
        };
        let finite = (0..0x8000).map(value).take_while(|v| v.is_finite());
        finite.chain([if dtype == DType::F16 { 65536.0 } else { 2f64.powi(128) }]).collect()
    }

    const NARROW: [DType; 2] = [DType::F16, DType::Bf16];

    fn next(v: f64, by: i64) -> f64 {
        f64::from_bits((v.to_bits() as i64 + by) as u64)
    }

    /// Around the middle of every two neighbours, by one unit of f64 and less: what is above goes up.
    #[test]
    fn every_middle_is_rounded_once() {
        for dtype in NARROW {
            let all = numbers(dtype);
            for (i, pair) in all.windows(2).enumerate() {
                let [low, high] = [pair[0], if i + 2 == all.len() { f64::INFINITY } else { pair[1] }];
                let middle = (pair[0] + pair[1]) / 2.0;
                let even = if i % 2 == 0 { low } else { high };
                for (v, want) in
                    [(pair[0], low), (next(middle, -1), low), (middle, even), (next(middle, 1), high)]
                {
                    assert_eq!(round(v, dtype), want, "{v:e} to {dtype}");
                    assert_eq!(round(-v, dtype), -want, "{v:e} to {dtype}");
                    // The shortest text of a middle may be of a number beside it.
                    let text = if v == middle { format!("{v:.150e}") } else { format!("{v:e}") };
                    assert_eq!(from_text(&text, dtype), Some(want), "{text} to {dtype}");
                }
                if i % 7 == 0 || i < 200 || i + 200 > all.len() {
                    let exact = format!("{middle:.150e}");
                    let (digits, exponent) = exact.split_once('e').expect("it has an exponent");
                    let above = format!("-{digits}1e{exponent}");
                    assert_eq!(from_text(&above, dtype), Some(-high), "just above {middle:e}");
                    assert_eq!(from_text(&exact, dtype), Some(even), "{middle:e}");
                }
            }
        }
    }

    #[test]
    fn texts_on_a_middle_are_read_to_their_last_digit() {
        // 1 + 2^-8 is the middle of two numbers of bf16, and 1.00390625000000000001 reads as the same f64.
        for (text, want) in [
            ("1.00390625", 1.0),
            ("1.0039062500000000000000001", 1.0078125),
            ("100390625000000000000000001e-26", 1.0078125),
            ("+0.0100390624999999999999999999E+2", 1.0),
            ("1.0039063", 1.0078125),
            ("1e-400", 0.0),
            ("1e400", f64::INFINITY),
        ] {
            assert_eq!(from_text(text, DType::Bf16), Some(want), "{text}");
        }
        assert_eq!(from_text("65519.99999999999999999999", DType::F16), Some(65504.0));
        assert_eq!(from_text("65520", DType::F16), Some(f64::INFINITY));
        assert_eq!(from_text("1.000000059604644775390625", DType::F32), Some(1.0));
        assert_eq!(from_text("1.00000005960464477539062500001", DType::F32), Some(1.0 + 2f64.powi(-23)));
        assert_eq!(from_text("one", DType::F16), None);
    }

    #[test]
    fn integers_are_rounded_once() {
        let (tie, unit) = ((1i128 << 62) + (1 << 54), 2f64.powi(62));
        assert_eq!(round_int(tie, DType::Bf16), unit);
        assert_eq!(round_int(tie + 1, DType::Bf16), unit * (1.0 + 2f64.powi(-7)));
        assert_eq!(round_int(-tie - 1, DType::Bf16), -unit * (1.0 + 2f64.powi(-7)));
        // Through f64 this is the middle of two f32.
        let beside = (1i128 << 62) + (1 << 38) + 1;
        assert_eq!(round_int(beside, DType::F32), unit + 2f64.powi(39));
        assert_eq!(round_int(65519, DType::F16), 65504.0);
        assert_eq!(round_int(65520, DType::F16), f64::INFINITY);
        assert_eq!(round_int(i128::from(u64::MAX), DType::F64), 2f64.powi(64));
    }

    /// Every number has a text that reads back; none of fewer digits does.
    #[test]
    fn shortest_texts_read_back() {
        for dtype in NARROW {
            let all = numbers(dtype);
            for v in all[..all.len() - 1].iter().step_by(3) {
                let short = shortest(*v, dtype);
                let text = format!("{short:e}");
                assert_eq!(from_text(&text, dtype), Some(*v), "{v:e} of {dtype} as {text}");
                let digits =
                    text.split('e').next().map_or(0, |m| m.bytes().filter(u8::is_ascii_digit).count());
                if digits > 1 {
                    let fewer = format!("{v:.*e}", digits - 2);
                    assert_ne!(
                        from_text(&fewer, dtype),
                        Some(*v),
                        "{v:e} of {dtype} is {text}, but also {fewer}"
                    );
                }
            }
        }
        for (v, dtype, want) in [
            (0.099975586, DType::F16, 0.1),
            (65504.0, DType::F16, 65500.0),
            (0.10009765625, DType::Bf16, 0.1),
            (-2f64.powi(-24), DType::F16, -6e-8),
            (0.3333333432674408, DType::F32, 0.3333333432674408),
        ] {
            assert_eq!(shortest(round(v, dtype), dtype), want);
        }
    }
}
