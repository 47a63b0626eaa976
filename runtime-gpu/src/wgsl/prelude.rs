//! Functions that WGSL lacks, or whose edge cases it leaves to drivers.
//!
//! Drivers may assume that there are no NaNs, and simplify with the rules of real numbers: `x * 0` is 0 to them, `x - x` too,
//! and `(x + 1) - x` is 1. So NaN is found and made by its bits, and what drivers may not see through is hidden behind
//! `gc_zero`, a zero that is known at run time alone: zeros and what no constant expression may hold, and each result of
//! arithmetic and of comparison that is computed with further. What is left is done one operation at a time.

/// A function: its name, and its text.
type Definition = (&'static str, &'static str);

/// Every function, those that others call first.
const FUNCTIONS: &[Definition] = &[
    ("gc_bits", "fn gc_bits(x: u32) -> f32 { return bitcast<f32>(x ^ gc_zero); }"),
    ("gc_hidden", "fn gc_hidden(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ gc_zero); }"),
    // The same value once more: what is computed of both is not what is computed of one value twice.
    ("gc_again", "fn gc_again(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) + gc_zero); }"),
    ("gc_told", "fn gc_told(x: bool) -> bool { return (select(0u, 1u, x) ^ gc_zero) != 0u; }"),
    // What a mean is counted from: a value itself, unless its sum with others might overflow.
    (
        "gc_pivot",
        "fn gc_pivot(x: f32) -> f32 { return select(gc_bits(0u), x, (bitcast<u32>(x) & 0x7fffffffu) < 0x6c800000u); }",
    ),
    ("gc_is_nan", "fn gc_is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }"),
    ("gc_nan", "fn gc_nan() -> f32 { return gc_bits(0x7fc00000u); }"),
    ("gc_inf", "fn gc_inf() -> f32 { return gc_bits(0x7f800000u); }"),
    ("gc_max_f32", "fn gc_max_f32(a: f32, b: f32) -> f32 { return select(max(a, b), gc_nan(), gc_is_nan(a) || gc_is_nan(b)); }"),
    ("gc_max_i32", "fn gc_max_i32(a: i32, b: i32) -> i32 { return max(a, b); }"),
    ("gc_max_u32", "fn gc_max_u32(a: u32, b: u32) -> u32 { return max(a, b); }"),
    ("gc_min_f32", "fn gc_min_f32(a: f32, b: f32) -> f32 { return select(min(a, b), gc_nan(), gc_is_nan(a) || gc_is_nan(b)); }"),
    ("gc_min_i32", "fn gc_min_i32(a: i32, b: i32) -> i32 { return min(a, b); }"),
    ("gc_min_u32", "fn gc_min_u32(a: u32, b: u32) -> u32 { return min(a, b); }"),
    ("gc_div_f32", "fn gc_div_f32(a: f32, b: f32) -> f32 { return a / b; }"),
    ("gc_div_i32", "fn gc_div_i32(a: i32, b: i32) -> i32 { if (b == 0) { return 0; } if (b == -1) { return -a; } return a / b; }"),
    ("gc_div_u32", "fn gc_div_u32(a: u32, b: u32) -> u32 { if (b == 0u) { return 0u; } return a / b; }"),
    (
        // Long division of the significands, which are integers: eight bits of the quotient at a time, each step exact.
        "gc_rem_f32",
        "fn gc_rem_f32(a: f32, b: f32) -> f32 {
    let x = bitcast<u32>(a) & 0x7fffffffu;
    let y = bitcast<u32>(b) & 0x7fffffffu;
    if (x >= 0x7f800000u || y > 0x7f800000u || y == 0u) { return gc_nan(); }
    if (x < y) { return a; }
    let unit = max(y >> 23u, 1u);
    let divisor = select((y & 0x7fffffu) | 0x800000u, y, y < 0x800000u);
    var rest = select((x & 0x7fffffu) | 0x800000u, x, x < 0x800000u) % divisor;
    for (var left = max(x >> 23u, 1u) - unit; left > 0u; left -= min(left, 8u)) { /* turns 32 */
        rest = (rest << min(left, 8u)) % divisor;
    }
    let sign = bitcast<u32>(a) & 0x80000000u;
    if (rest == 0u) { return gc_bits(sign); }
    let shift = 23u - firstLeadingBit(rest);
    let normal = ((unit - shift) << 23u) | ((rest << shift) & 0x7fffffu);
    return bitcast<f32>(sign | select(rest << (unit - 1u), normal, unit > shift));
}",
    ),
    ("gc_rem_i32", "fn gc_rem_i32(a: i32, b: i32) -> i32 { if (b == 0 || b == -1) { return 0; } return a % b; }"),
    ("gc_rem_u32", "fn gc_rem_u32(a: u32, b: u32) -> u32 { if (b == 0u) { return 0u; } return a % b; }"),
    ("gc_neg_f32", "fn gc_neg_f32(x: f32) -> f32 { return -x; }"),
    ("gc_neg_i32", "fn gc_neg_i32(x: i32) -> i32 { return -x; }"),
    ("gc_neg_u32", "fn gc_neg_u32(x: u32) -> u32 { return 0u - x; }"),
    ("gc_sign_f32", "fn gc_sign_f32(x: f32) -> f32 { return select(sign(x), x, gc_is_nan(x) || x == 0.0); }"),
    ("gc_sign_i32", "fn gc_sign_i32(x: i32) -> i32 { return sign(x); }"),
    ("gc_sign_u32", "fn gc_sign_u32(x: u32) -> u32 { return min(x, 1u); }"),
    // Negative by its bits: some drivers turn a comparison with zero into a maximum, which loses NaN.
    ("gc_relu_f32", "fn gc_relu_f32(x: f32) -> f32 { return select(x, 0.0, bitcast<u32>(x) - 0x80000000u <= 0x7f800000u); }"),
    ("gc_relu_i32", "fn gc_relu_i32(x: i32) -> i32 { return max(x, 0); }"),
    ("gc_relu_u32", "fn gc_relu_u32(x: u32) -> u32 { return x; }"),
    ("gc_ne_f32", "fn gc_ne_f32(a: f32, b: f32) -> bool { return a != b || gc_is_nan(a) || gc_is_nan(b); }"),
    ("gc_ne_i32", "fn gc_ne_i32(a: i32, b: i32) -> bool { return a != b; }"),
    ("gc_ne_u32", "fn gc_ne_u32(a: u32, b: u32) -> bool { return a != b; }"),
    ("gc_ne_bool", "fn gc_ne_bool(a: bool, b: bool) -> bool { return a != b; }"),
    ("gc_xor_i32", "fn gc_xor_i32(a: i32, b: i32) -> i32 { return a ^ b; }"),
    ("gc_xor_u32", "fn gc_xor_u32(a: u32, b: u32) -> u32 { return a ^ b; }"),
    ("gc_xor_bool", "fn gc_xor_bool(a: bool, b: bool) -> bool { return a != b; }"),
    ("gc_not_i32", "fn gc_not_i32(x: i32) -> i32 { return ~x; }"),
    ("gc_not_u32", "fn gc_not_u32(x: u32) -> u32 { return ~x; }"),
    ("gc_not_bool", "fn gc_not_bool(x: bool) -> bool { return gc_told(!x); }"),
    (
        "gc_shl_i32",
        "fn gc_shl_i32(a: i32, b: i32, bits: i32) -> i32 { if (b < 0 || b >= bits) { return 0; } return a << u32(b); }",
    ),
    (
        "gc_shl_u32",
        "fn gc_shl_u32(a: u32, b: u32, bits: u32) -> u32 { if (b >= bits) { return 0u; } return a << b; }",
    ),
    (
        "gc_shr_i32",
        "fn gc_shr_i32(a: i32, b: i32, bits: i32) -> i32 { if (b < 0 || b >= bits) { return 0; } return a >> u32(b); }",
    ),
    (
        "gc_shr_u32",
        "fn gc_shr_u32(a: u32, b: u32, bits: u32) -> u32 { if (b >= bits) { return 0u; } return a >> b; }",
    ),
    (
        // e^(a + b) for a small b: Cody and Waite's reduction, and the minimax polynomial of the CPU's kernel.
        "gc_exp_sum",
        "fn gc_exp_sum(a: f32, b: f32) -> f32 {
    let n = round((a + b) * 1.44269504);
    let r = fma(-n, -2.1219444e-4, fma(-n, 0.6933594, a)) + b;
    let q = 0.49999993 + r * (0.1666652 + r * (0.04166839 + r * (0.008368717 + r * 0.0013814597)));
    let y = 1.0 + (r + r * r * q);
    let k = i32(clamp(n, -150.0, 150.0));
    let half = k / 2;
    let scaled = y * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(k - half + 127) << 23u);
    return select(scaled, 0.0, n < -149.0);
}",
    ),
    (
        // The same without b and without branches, which lanes of a GPU would all wait for.
        "gc_exp_f32",
        "fn gc_exp_f32(x: f32) -> f32 {
    let a = clamp(x, -104.0, 89.0);
    let n = round(a * 1.44269504);
    let r = fma(-n, -2.1219444e-4, fma(-n, 0.6933594, a));
    let q = 0.49999993 + r * (0.1666652 + r * (0.04166839 + r * (0.008368717 + r * 0.0013814597)));
    let k = i32(n);
    let half = k >> 1u;
    let y = (1.0 + (r + r * r * q)) * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(k - half + 127) << 23u);
    let high = select(y, gc_inf(), x >= 88.72284);
    return select(select(high, 0.0, x < -87.33654), x, gc_is_nan(x));
}",
    ),
    (
        // The exponent of x = m 2^e with m between 0.75 and 1.5.
        "gc_exponent",
        "fn gc_exponent(x: f32) -> i32 { return bitcast<i32>(bitcast<u32>(x) - 0x3f400000u) >> 23u; }",
    ),
    (
        // ln(1 + f) - f for f between -0.25 and 0.5.
        "gc_log_tail",
        "fn gc_log_tail(f: f32) -> f32 {
    let q = -0.5 + f * (0.3333345 + f * (-0.2500023 + f * (0.19990975 + f * (-0.16642946 + f * (0.14468057 + f * (-0.1319299 + f * (0.10591015 + f * -0.046190422)))))));
    return f * f * q;
}",
    ),
    (
        "gc_log_f32",
        "fn gc_log_f32(x: f32) -> f32 {
    if (gc_is_nan(x)) { return x; }
    if (x > 3.4028234e38) { return x; }
    if (x < 1.1754944e-38) { return select(gc_nan(), gc_bits(0xff800000u), x > -1.1754944e-38); }
    let e = gc_exponent(x);
    let f = bitcast<f32>(bitcast<u32>(x) - (u32(e) << 23u)) - 1.0;
    let k = f32(e);
    return fma(k, 0.6933594, f + (gc_log_tail(f) + k * -2.1219444e-4));
}",
    ),
    (
        "gc_expm1_f32",
        "fn gc_expm1_f32(x: f32) -> f32 {
    let p = 1.0 + x * (1.0 / 3.0) * (1.0 + x * 0.25 * (1.0 + x * 0.2 * (1.0 + x * (1.0 / 6.0) * (1.0 + x * (1.0 / 7.0) * (1.0 + x * 0.125)))));
    return select(gc_exp_f32(x) - 1.0, x + 0.5 * x * x * p, abs(x) < 0.5);
}",
    ),
    (
        "gc_log1p_f32",
        "fn gc_log1p_f32(x: f32) -> f32 {
    if (abs(x) < 0.3) {
        let s = x / (2.0 + x);
        let q = s * s;
        return 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0))))));
    }
    if (gc_is_nan(x) || x < -1.0) { return gc_nan(); }
    return gc_log_f32(1.0 + x);
}",
    ),
    (
        "gc_tanh_f32",
        "fn gc_tanh_f32(x: f32) -> f32 {
    let t = gc_expm1_f32(2.0 * min(abs(x), 10.0));
    let y = t / (t + 2.0);
    return select(select(y, -y, x < 0.0), x, gc_is_nan(x));
}",
    ),
    (
        "gc_sigmoid_f32",
        "fn gc_sigmoid_f32(x: f32) -> f32 {
    let e = gc_exp_f32(-abs(x));
    return select(select(1.0, e, x < 0.0) / (1.0 + e), x, gc_is_nan(x));
}",
    ),
    (
        "gc_softplus_f32",
        "fn gc_softplus_f32(x: f32) -> f32 {
    if (gc_is_nan(x)) { return x; }
    return max(x, 0.0) + gc_log1p_f32(gc_exp_f32(-abs(x)));
}",
    ),
    (
        // Two polynomials, of which both are computed: lanes of a GPU would wait for branches. The exponent of the power lies
        // between -27 and 0.
        "gc_erf_f32",
        "fn gc_erf_f32(x: f32) -> f32 {
    let a = abs(x);
    let s = x * x;
    let p = 0.12837915 + s * (-0.37612498 + s * (0.11281844 + s * (-0.0267671 + s * (0.0049932754 + s * -0.0005988756))));
    let c = min(a, 4.0);
    let h = 0.12864912 + c * (0.6351513 + c * (0.10623689 + c * (-0.02376207 + c * (0.0036424624 + c * (-0.0003228047 + c * 0.000011231394)))));
    let z = -(c + c * h);
    let n = round(z * 1.44269504);
    let r = fma(-n, -2.1219444e-4, fma(-n, 0.6933594, z));
    let q = 0.49999993 + r * (0.1666652 + r * (0.04166839 + r * (0.008368717 + r * 0.0013814597)));
    let y = 1.0 - (1.0 + (r + r * r * q)) * bitcast<f32>(u32(i32(n) + 127) << 23u);
    let large = select(y, -y, x < 0.0);
    return select(select(large, x + x * p, a < 0.92), x, gc_is_nan(x));
}",
    ),
    (
        // Drivers' own are exact to 2^-11 alone (WGSL, "accuracy of built-in functions"). Cody and Waite's reduction by
        // pi/2 in parts of 8 bits, whose products with the number of quarter turns are exact up to 1e5 also where fma rounds
        // twice, and Maclaurin series; bounded beyond.
        "gc_angle",
        "fn gc_angle(x: f32, turn: i32) -> f32 {
    let n = round(x * 0.63661977);
    let a = fma(-n, 1.2665987014770508e-6, fma(-n, 0.0004825592041015625, fma(-n, 1.5703125, x)));
    let r = clamp(fma(-n, 2.563344e-12, fma(-n, 9.89530235528946e-10, a)), -0.8, 0.8);
    let z = r * r;
    let s = r + r * z * (-0.16666667 + z * (0.008333334 + z * (-1.984127e-4 + z * 2.7557319e-6)));
    let c = 1.0 + z * (-0.5 + z * (0.041666668 + z * (-0.0013888889 + z * (2.4801588e-5 + z * -2.7557319e-7))));
    let k = i32(clamp(n, -1e9, 1e9)) + turn;
    let v = select(s, c, (k & 1) == 1);
    let y = select(v, -v, (k & 2) == 2);
    return select(select(y, gc_nan(), abs(x) > 3.4028234e38), x, gc_is_nan(x));
}",
    ),
    ("gc_sin_f32", "fn gc_sin_f32(x: f32) -> f32 { return gc_angle(x, 0); }"),
    ("gc_cos_f32", "fn gc_cos_f32(x: f32) -> f32 { return gc_angle(x, 1); }"),
    (
        "gc_pow_f32",
        "fn gc_pow_f32(x: f32, y: f32) -> f32 {
    if (y == 0.0 || x == 1.0) { return 1.0; }
    if (gc_is_nan(x) || gc_is_nan(y)) { return gc_nan(); }
    let a = abs(x);
    let whole = trunc(y) == y;
    let odd = whole && abs(y) < 16777216.0 && (i32(y) & 1) == 1;
    let negative = (bitcast<u32>(x) >> 31u) == 1u;
    var r = 0.0;
    if (abs(y) > 3.4028234e38) {
        if (a == 1.0) { return 1.0; }
        return select(0.0, gc_inf(), (a > 1.0) == (y > 0.0));
    }
    if (a == 0.0) {
        r = select(gc_inf(), 0.0, y > 0.0);
    } else if (a > 3.4028234e38) {
        r = select(0.0, gc_inf(), y > 0.0);
    } else if (negative && !whole) {
        return gc_nan();
    } else if (whole && abs(y) <= 16.0) {
        // Few exact factors beat a rounded logarithm.
        r = 1.0;
        for (var i = 0; i < i32(abs(y)); i++) { /* turns 16 */ r = r * a; }
        if (y < 0.0) { r = 1.0 / r; }
    } else {
        // The logarithm in two parts, the first of which has 12 bits, so that its product with 12 bits of y is exact.
        let e = gc_exponent(a);
        let f = bitcast<f32>(bitcast<u32>(a) - (u32(e) << 23u)) - 1.0;
        let k = f32(e);
        let high = bitcast<f32>(bitcast<u32>(k * 0.6933594 + f) & 0xfffff000u);
        let low = ((k * 0.6933594 - high) + f) + (gc_log_tail(f) + k * -2.1219444e-4);
        let first = bitcast<f32>(bitcast<u32>(y) & 0xfffff000u);
        let product = first * high;
        if (product > 89.0) { r = gc_inf(); } else if (product < -88.0) { r = 0.0; } else {
            r = gc_exp_sum(product, (y - first) * high + y * low);
        }
    }
    return select(r, -r, negative && odd);
}",
    ),
    (
        "gc_f32_to_i32",
        "fn gc_f32_to_i32(x: f32, lo: f32, hi: f32, largest: i32) -> i32 {
    if (gc_is_nan(x)) { return 0; }
    if (x >= hi) { return largest; }
    return i32(max(x, lo));
}",
    ),
    (
        "gc_f32_to_u32",
        "fn gc_f32_to_u32(x: f32, hi: f32, largest: u32) -> u32 {
    if (gc_is_nan(x)) { return 0u; }
    if (x >= hi) { return largest; }
    return u32(max(x, 0.0));
}",
    ),
    (
        "gc_to_f16",
        "fn gc_to_f16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) { return x; }
    let sign = bits & 0x80000000u;
    if (size >= 0x477ff000u) { return gc_bits(sign | 0x7f800000u); }
    if (size < 0x38800000u) {
        let y = round(abs(x) * 16777216.0) * 5.9604645e-8;
        return select(y, -y, sign != 0u);
    }
    return bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
}",
    ),
    (
        "gc_to_bf16",
        "fn gc_to_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return x; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}",
    ),
];

/// The text of a shader with the functions that it calls, and those that these call, before it.
pub fn with_prelude(text: &str) -> String {
    let mut needed: Vec<&Definition> = Vec::new();
    let mut callers = vec![text.to_owned()];
    while let Some(caller) = callers.pop() {
        for definition in FUNCTIONS {
            let known = needed.iter().any(|d| d.0 == definition.0);
            if !known && calls(&caller, definition.0) {
                needed.push(definition);
                callers.push(definition.1.to_owned());
            }
        }
    }
    let mut all = String::new();
    for definition in FUNCTIONS.iter().filter(|d| needed.iter().any(|n| n.0 == d.0)) {
        all.push_str(definition.1);
        all.push('\n');
    }
    if text.contains("gc_threefry(") {
        all.push_str(&threefry());
    }
    all + text
}

/// Whether a text calls a function.
fn calls(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let declared = text[..at].ends_with("fn ");
        let apart = before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
        apart && !declared && text[at + name.len()..].starts_with('(')
    })
}

/// Word 0 of Threefry-2x32 with 20 rounds, of the counter (index, 0); see [`graphc_ir::random`].
fn threefry() -> String {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let mut text = String::from(
        "fn gc_threefry(k0: u32, k1: u32, index: u32) -> u32 {\n    let k2 = 0x1bd11bdau ^ k0 ^ k1;\n    \
         var a = index + k0;\n    var b = k1;\n",
    );
    for round in 0..20 {
        let left = ROTATIONS[round % 8];
        text.push_str(&format!("    a += b; b = ((b << {left}u) | (b >> {}u)) ^ a;\n", 32 - left));
        if round % 4 == 3 {
            let s = round / 4 + 1;
            text.push_str(&format!("    a += k{}; b += k{} + {s}u;\n", s % 3, (s + 1) % 3));
        }
    }
    text + "    return a;\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_bring_what_they_call() {
        let text = with_prelude("fn f() { let y = gc_tanh_f32(1.0); }");
        for name in ["gc_tanh_f32", "gc_expm1_f32", "gc_is_nan"] {
            assert!(text.contains(&format!("fn {name}(")), "{text}");
        }
        assert!(!text.contains("fn gc_erf_f32("));
    }
}
