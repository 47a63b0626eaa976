//! The table of scalar functions: an elementwise operation is one row here and nothing anywhere else.

use std::f64::consts::FRAC_2_SQRT_PI;

use super::erf::erf;
use super::functions::{Class, Derivative, Domain, ScalarDef};
use crate::dtype::DType;

/// Integer semantics of functions that integers do not have; the class forbids the call.
fn no_int(_: &[i128], _: DType) -> i128 {
    0
}

/// Float semantics of functions that floats do not have; the class forbids the call.
fn no_float(_: &[f64]) -> f64 {
    f64::NAN
}

fn truth(b: bool) -> f64 {
    f64::from(u8::from(b))
}

/// The larger operand; NaN if either is NaN; +0 above -0.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == b {
        if a.is_sign_positive() { a } else { b }
    } else if a > b {
        a
    } else {
        b
    }
}

fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

fn shift(a: &[i128], dtype: DType) -> Option<u32> {
    u32::try_from(a[1]).ok().filter(|s| *s < dtype.bits())
}

macro_rules! scalar_fns {
    ($( $(#[doc = $doc:literal])* $variant:ident $name:literal $arity:literal $class:ident $domain:ident,
        $formula:literal, $wgsl:literal, $ulp:literal, $float:expr, $int:expr, $vjp:expr; )*) => {
        /// A scalar function, applied to every element by the `map` operations.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ScalarFn { $( $(#[doc = $doc])* $variant, )* }

        impl ScalarFn {
            /// Every function, in the order of the table.
            pub const ALL: &'static [ScalarFn] = &[ $( ScalarFn::$variant, )* ];

            /// The row of this function.
            pub fn def(self) -> &'static ScalarDef {
                static TABLE: &[ScalarDef] = &[ $( ScalarDef {
                    name: $name,
                    arity: $arity,
                    class: Class::$class,
                    formula: $formula,
                    float: $float,
                    int: $int,
                    vjp: $vjp,
                    wgsl: $wgsl,
                    ulp: $ulp,
                    domain: Domain::$domain,
                }, )* ];
                &TABLE[self as usize]
            }

            /// Name in files.
            pub fn name(self) -> &'static str {
                self.def().name
            }

            /// The function with this name.
            pub fn parse(name: &str) -> Option<ScalarFn> {
                ScalarFn::ALL.iter().copied().find(|f| f.name() == name)
            }
        }
    };
}

scalar_fns! {
    /// Sum.
    Add "add" 2 Arith Reals, "x + y", "({0} + {1})", 0.5,
        |a| a[0] + a[1], |a, _| a[0].wrapping_add(a[1]),
        |d| vec![Some(d.g), Some(d.g)];
    /// Difference.
    Sub "sub" 2 Arith Reals, "x - y", "({0} - {1})", 0.5,
        |a| a[0] - a[1], |a, _| a[0].wrapping_sub(a[1]),
        |d| vec![Some(d.g), Some(-d.g)];
    /// Product.
    Mul "mul" 2 Arith Reals, "x * y", "({0} * {1})", 0.5,
        |a| a[0] * a[1], |a, _| a[0].wrapping_mul(a[1]),
        |d| vec![Some(d.g * d.x[1]), Some(d.g * d.x[0])];
    /// Quotient; of integers truncated, 0 for a zero divisor, MIN for MIN / -1.
    Div "div" 2 Arith NonzeroSecond, "x / y", "gc_div({0}, {1})", 2.5,
        |a| a[0] / a[1], |a, _| a[0].checked_div(a[1]).unwrap_or(0),
        |d| { let q = d.g / d.x[1]; vec![Some(q), Some(-(q * d.y))] };
    /// Remainder with the sign of the dividend; 0 for a zero integer divisor.
    Rem "rem" 2 Arith NonzeroSecond, "x - y * trunc(x / y)", "gc_rem({0}, {1})", 1.0,
        |a| a[0] % a[1], |a, _| a[0].checked_rem(a[1]).unwrap_or(0),
        |d| vec![Some(d.g), Some(-(d.g * ((d.x[0] - d.y) / d.x[1])))];
    /// Larger operand; NaN if either is NaN; a tie splits the gradient evenly.
    Max "max" 2 Arith Reals, "max(x, y)", "gc_max({0}, {1})", 0.0,
        |a| max(a[0], a[1]), |a, _| a[0].max(a[1]),
        |d| vec![Some(extremum(d, 0)), Some(extremum(d, 1))];
    /// Smaller operand; NaN if either is NaN; a tie splits the gradient evenly.
    Min "min" 2 Arith Reals, "min(x, y)", "gc_min({0}, {1})", 0.0,
        |a| min(a[0], a[1]), |a, _| a[0].min(a[1]),
        |d| vec![Some(extremum(d, 0)), Some(extremum(d, 1))];
    /// Power; the gradient of the exponent is 0 where the base is 0.
    Pow "pow" 2 Float PositiveFirst, "x ^ y", "gc_pow({0}, {1})", 16.0,
        |a| a[0].powf(a[1]), no_int,
        |d| {
            let (x, e) = (d.x[0], d.x[1]);
            let safe = x.eq(x.zero_like()).select(x.one_like(), x);
            let slope = e.eq(e.zero_like()).select(e.zero_like(), e * x.pow(e - e.one_like()));
            let log = x.eq(x.zero_like()).select(x.zero_like(), safe.log());
            vec![Some(d.g * slope), Some(d.g * d.y * log)]
        };
    /// Negation.
    Neg "neg" 1 Arith Reals, "-x", "gc_neg({0})", 0.0,
        |a| -a[0], |a, _| a[0].wrapping_neg(),
        |d| vec![Some(-d.g)];
    /// Absolute value; gradient 0 at 0.
    Abs "abs" 1 Arith Reals, "|x|", "abs({0})", 0.0,
        |a| a[0].abs(), |a, _| a[0].wrapping_abs(),
        |d| vec![Some(d.g * d.x[0].sign())];
    /// -1, 0 or 1; NaN for NaN.
    Sign "sign" 1 Arith Nonzero, "sign(x)", "gc_sign({0})", 0.0,
        |a| if a[0] == 0.0 || a[0].is_nan() { a[0] } else { a[0].signum() }, |a, _| a[0].signum(),
        |_| vec![None];
    /// Largest integer not above.
    Floor "floor" 1 Float Reals, "floor(x)", "floor({0})", 0.0,
        |a| a[0].floor(), no_int, |_| vec![None];
    /// Smallest integer not below.
    Ceil "ceil" 1 Float Reals, "ceil(x)", "ceil({0})", 0.0,
        |a| a[0].ceil(), no_int, |_| vec![None];
    /// Nearest integer, halves to even.
    Round "round" 1 Float Reals, "round(x)", "round({0})", 0.0,
        |a| a[0].round_ties_even(), no_int, |_| vec![None];
    /// Exponential.
    Exp "exp" 1 Float Reals, "e^x", "gc_exp({0})", 2.0,
        |a| a[0].exp(), no_int,
        |d| vec![Some(d.g * d.y)];
    /// e^x - 1 without cancellation near 0.
    Expm1 "expm1" 1 Float Reals, "e^x - 1", "gc_expm1({0})", 4.0,
        |a| a[0].exp_m1(), no_int,
        // e^x, not y + 1, which has lost its digits where x is far below 0.
        |d| vec![Some(d.g * d.x[0].exp())];
    /// Natural logarithm.
    Log "log" 1 Float Positive, "ln(x)", "gc_log({0})", 2.0,
        |a| a[0].ln(), no_int,
        |d| vec![Some(d.g / d.x[0])];
    /// ln(1 + x) without cancellation near 0.
    Log1p "log1p" 1 Float Positive, "ln(1 + x)", "gc_log1p({0})", 4.0,
        |a| a[0].ln_1p(), no_int,
        |d| vec![Some(d.g / (d.x[0] + d.x[0].one_like()))];
    /// Square root.
    Sqrt "sqrt" 1 Float Positive, "sqrt(x)", "sqrt({0})", 1.0,
        |a| a[0].sqrt(), no_int,
        |d| vec![Some(d.g * d.y.literal(0.5) / d.y)];
    /// Reciprocal square root.
    Rsqrt "rsqrt" 1 Float Positive, "1 / sqrt(x)", "inverseSqrt({0})", 2.5,
        |a| 1.0 / a[0].sqrt(), no_int,
        |d| vec![Some(d.g * d.y.literal(-0.5) * d.y / d.x[0])];
    /// Reciprocal.
    Recip "recip" 1 Float Nonzero, "1 / x", "(1.0 / {0})", 2.5,
        |a| 1.0 / a[0], no_int,
        |d| vec![Some(-(d.g * d.y * d.y))];
    /// Hyperbolic tangent.
    Tanh "tanh" 1 Float Reals, "tanh(x)", "gc_tanh({0})", 4.0,
        |a| a[0].tanh(), no_int,
        // 4 s(2x) s(-2x) with the logistic function s, not 1 - y^2, which has lost its digits where |x| is large.
        |d| {
            let twice = d.x[0] + d.x[0];
            vec![Some(d.g * (twice.sigmoid() * d.g.literal(4.0)) * (-twice).sigmoid())]
        };
    /// Logistic function.
    Sigmoid "sigmoid" 1 Float Reals, "1 / (1 + e^-x)", "gc_sigmoid({0})", 4.0,
        |a| 1.0 / (1.0 + (-a[0]).exp()), no_int,
        // Times the logistic function of -x, not 1 - y, which has lost its digits where x is large.
        |d| vec![Some(d.g * d.y * (-d.x[0]).sigmoid())];
    /// max(x, 0), NaN for NaN; gradient 0 at 0.
    Relu "relu" 1 Arith Reals, "max(x, 0)", "gc_relu({0})", 0.0,
        |a| if a[0] <= 0.0 { 0.0 } else { a[0] }, |a, _| a[0].max(0),
        |d| vec![Some(d.y.gt(d.y.zero_like()).select(d.g, d.g.zero_like()))];
    /// ln(1 + e^x) without overflow.
    Softplus "softplus" 1 Float Reals, "ln(1 + e^x)", "gc_softplus({0})", 4.0,
        |a| if a[0] > 0.0 { a[0] + (-a[0]).exp().ln_1p() } else { a[0].exp().ln_1p() }, no_int,
        |d| vec![Some(d.g * d.x[0].sigmoid())];
    /// Sine.
    Sin "sin" 1 Float Reals, "sin(x)", "gc_sin({0})", 4.0,
        |a| a[0].sin(), no_int,
        |d| vec![Some(d.g * d.x[0].cos())];
    /// Cosine.
    Cos "cos" 1 Float Reals, "cos(x)", "gc_cos({0})", 4.0,
        |a| a[0].cos(), no_int,
        |d| vec![Some(-(d.g * d.x[0].sin()))];
    /// Error function.
    Erf "erf" 1 Float Reals, "erf(x)", "gc_erf({0})", 4.0,
        |a| erf(a[0]), no_int,
        |d| vec![Some(d.g * d.y.literal(FRAC_2_SQRT_PI) * (-(d.x[0] * d.x[0])).exp())];
    /// Whether the operands are equal.
    Eq "eq" 2 Compare Reals, "x = y", "({0} == {1})", 0.0,
        |a| truth(a[0] == a[1]), |a, _| i128::from(a[0] == a[1]), |_| vec![None, None];
    /// Whether the operands differ (NaN differs from everything).
    Ne "ne" 2 Compare Reals, "x != y", "gc_ne({0}, {1})", 0.0,
        |a| truth(a[0] != a[1]), |a, _| i128::from(a[0] != a[1]), |_| vec![None, None];
    /// Less.
    Lt "lt" 2 Compare Reals, "x < y", "({0} < {1})", 0.0,
        |a| truth(a[0] < a[1]), |a, _| i128::from(a[0] < a[1]), |_| vec![None, None];
    /// Less or equal.
    Le "le" 2 Compare Reals, "x <= y", "({0} <= {1})", 0.0,
        |a| truth(a[0] <= a[1]), |a, _| i128::from(a[0] <= a[1]), |_| vec![None, None];
    /// Greater.
    Gt "gt" 2 Compare Reals, "x > y", "({0} > {1})", 0.0,
        |a| truth(a[0] > a[1]), |a, _| i128::from(a[0] > a[1]), |_| vec![None, None];
    /// Greater or equal.
    Ge "ge" 2 Compare Reals, "x >= y", "({0} >= {1})", 0.0,
        |a| truth(a[0] >= a[1]), |a, _| i128::from(a[0] >= a[1]), |_| vec![None, None];
    /// Bitwise (integers) or logical (bool) and.
    And "and" 2 Bits Reals, "x & y", "({0} & {1})", 0.0,
        no_float, |a, _| a[0] & a[1], |_| vec![None, None];
    /// Bitwise or logical or.
    Or "or" 2 Bits Reals, "x | y", "({0} | {1})", 0.0,
        no_float, |a, _| a[0] | a[1], |_| vec![None, None];
    /// Bitwise or logical exclusive or.
    Xor "xor" 2 Bits Reals, "x ^ y", "gc_xor({0}, {1})", 0.0,
        no_float, |a, _| a[0] ^ a[1], |_| vec![None, None];
    /// Bitwise or logical not.
    Not "not" 1 Bits Reals, "!x", "gc_not({0})", 0.0,
        no_float, |a, _| !a[0], |_| vec![None];
    /// Shift left; 0 for a shift outside 0..bits.
    Shl "shl" 2 Int Reals, "x << y", "gc_shl({0}, {1})", 0.0,
        no_float, |a, t| shift(a, t).map_or(0, |s| a[0] << s), |_| vec![None, None];
    /// Shift right, arithmetic for signed types; 0 for a shift outside 0..bits.
    Shr "shr" 2 Int Reals, "x >> y", "gc_shr({0}, {1})", 0.0,
        no_float, |a, t| shift(a, t).map_or(0, |s| a[0] >> s), |_| vec![None, None];
    /// Second operand where the first is true, else the third.
    Select "select" 3 Select Reals, "c ? x : y", "select({2}, {1}, {0})", 0.0,
        no_float, no_int,
        |d| vec![
            None,
            Some(d.x[0].select(d.g, d.g.zero_like())),
            Some(d.x[0].select(d.g.zero_like(), d.g)),
        ];
}

/// Gradient of operand `i` of max or min: all of it where it is the result, half at a tie.
fn extremum<'a>(d: &Derivative<'a>, i: usize) -> crate::expr::Expr<'a> {
    let half = d.g * d.g.literal(0.5);
    let won = d.x[i].eq(d.y).select(d.g, d.g.zero_like());
    d.x[0].eq(d.x[1]).select(half, won)
}
