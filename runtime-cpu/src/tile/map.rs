//! Scalar functions over tiles: which generic loop serves which row of the table.

use std::marker::PhantomData;

use graphc_ir::dtype::DType;
use graphc_ir::scalar::ScalarFn;

use super::kernel::{Kernel, TileFn, Tuned, compiled, with_integer, with_number, with_ordered, with_real};
use super::number::{Integer, Number, Real};
use super::sweep::{Nothing, sweep};
use crate::isa::Isa;

/// Where an elementwise kernel reads and writes: `dst[i] = f(a[i], b[i], c[i])` for `i < len`.
///
/// Pointers are aligned to their elements. `dst` overlaps no operand. Operands that the function does
/// not have may be anything; those that are splat have one element.
#[derive(Clone, Copy, Debug)]
pub struct MapArgs {
    pub dst: *mut u8,
    pub a: *const u8,
    pub b: *const u8,
    pub c: *const u8,
    pub len: usize,
}

/// An elementwise kernel.
pub type MapFn = TileFn<MapArgs>;

/// A function of one operand.
trait Unary<T> {
    type Out: Copy;
    fn apply<const FMA: bool>(x: T) -> Self::Out;
}

/// A function of two operands.
trait Binary<T> {
    type Out: Copy;
    fn apply<const FMA: bool>(x: T, y: T) -> Self::Out;
}

struct Map1<F, T>(PhantomData<(F, T)>);

impl<T: Copy, F: Unary<T>> Kernel for Map1<F, T> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(&MapArgs { dst, a, len, .. }: &MapArgs) {
        // SAFETY: the tiles have `len` elements.
        unsafe { sweep(len, dst, (a.cast::<T>(), Nothing, Nothing), |x, _, _| F::apply::<FMA>(x)) };
    }
}

/// Two operands; one of them may be a single element that goes with all of the other's.
struct Map2<F, T, const A_SPLAT: bool, const B_SPLAT: bool>(PhantomData<(F, T)>);

impl<T: Copy, F: Binary<T>, const A: bool, const B: bool> Kernel for Map2<F, T, A, B> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(&MapArgs { dst, a, b, len, .. }: &MapArgs) {
        let (a, b) = (a.cast::<T>(), b.cast::<T>());
        // SAFETY: the tiles have `len` elements, splat operands one.
        unsafe {
            if A {
                let x = *a;
                sweep(len, dst, (b, Nothing, Nothing), |y, _, _| F::apply::<FMA>(x, y));
            } else if B {
                let y = *b;
                sweep(len, dst, (a, Nothing, Nothing), |x, _, _| F::apply::<FMA>(x, y));
            } else {
                sweep(len, dst, (a, b, Nothing), |x, y, _| F::apply::<FMA>(x, y));
            }
        }
    }
}

/// `a ? b : c`; `b` and `c` may be single elements.
struct Select<T, const B_SPLAT: bool, const C_SPLAT: bool>(PhantomData<T>);

impl<T: Copy, const B: bool, const C: bool> Kernel for Select<T, B, C> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(&MapArgs { dst, a, b, c, len }: &MapArgs) {
        let (b, c) = (b.cast::<T>(), c.cast::<T>());
        // SAFETY: the tiles have `len` elements, splat operands one.
        unsafe {
            match (B, C) {
                (true, true) => {
                    let (b, c) = (*b, *c);
                    sweep(len, dst, (a, Nothing, Nothing), |a, _, _| if a != 0 { b } else { c });
                }
                (true, false) => {
                    let b = *b;
                    sweep(len, dst, (a, c, Nothing), |a, c, _| if a != 0 { b } else { c });
                }
                (false, true) => {
                    let c = *c;
                    sweep(len, dst, (a, b, Nothing), |a, b, _| if a != 0 { b } else { c });
                }
                (false, false) => sweep(len, dst, (a, b, c), |a, b, c| if a != 0 { b } else { c }),
            }
        }
    }
}

/// Sine or cosine: a branch-free sweep, and a second look at a tile with an enormous angle.
struct Angle<T, const COS: bool>(PhantomData<T>);

impl<T: Real, const COS: bool> Kernel for Angle<T, COS> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(&MapArgs { dst, a, len, .. }: &MapArgs) {
        let a = a.cast::<T>();
        // SAFETY: the tiles have `len` elements.
        unsafe {
            sweep(len, dst, (a, Nothing, Nothing), |x, _, _| if COS { x.cos::<FMA>() } else { x.sin::<FMA>() });
            for i in 0..len {
                let x = *a.add(i);
                if !x.is_moderate() {
                    dst.cast::<T>().add(i).write(if COS { x.any_cos() } else { x.any_sin() });
                }
            }
        }
    }
}

/// Declares the functions: `name: bound, |operands| value` (or `-> bool`, stored as a byte).
macro_rules! functions {
    ($($name:ident: $bound:ident, |$x:ident| $value:expr;)*) => { $(
        struct $name;
        impl<T: $bound> Unary<T> for $name {
            type Out = T;
            #[inline(always)]
            fn apply<const FMA: bool>($x: T) -> T {
                $value
            }
        }
    )* };
    (binary $($name:ident: $bound:ident, $out:ty, |$x:ident, $y:ident| $value:expr;)*) => { $(
        struct $name;
        impl<T: $bound> Binary<T> for $name {
            type Out = $out;
            #[inline(always)]
            fn apply<const FMA: bool>($x: T, $y: T) -> $out {
                $value
            }
        }
    )* };
}

functions! {
    Neg: Number, |x| x.neg();
    Abs: Number, |x| x.abs();
    Sign: Number, |x| x.sign();
    Relu: Number, |x| x.relu();
    Not: Integer, |x| x.not();
    Floor: Real, |x| x.floor();
    Ceil: Real, |x| x.ceil();
    Round: Real, |x| x.round();
    Exp: Real, |x| x.exp::<FMA>();
    Expm1: Real, |x| x.expm1::<FMA>();
    Log: Real, |x| x.log::<FMA>();
    Log1p: Real, |x| x.log1p::<FMA>();
    Sqrt: Real, |x| x.sqrt();
    Rsqrt: Real, |x| T::ONE.div(x.sqrt());
    Recip: Real, |x| T::ONE.div(x);
    Tanh: Real, |x| x.tanh::<FMA>();
    Sigmoid: Real, |x| x.sigmoid::<FMA>();
    Softplus: Real, |x| x.softplus::<FMA>();
    Erf: Real, |x| x.erf::<FMA>();
}

functions! { binary
    Add: Number, T, |x, y| x.add(y);
    Sub: Number, T, |x, y| x.sub(y);
    Mul: Number, T, |x, y| x.mul(y);
    Div: Number, T, |x, y| x.div(y);
    Rem: Number, T, |x, y| x.rem(y);
    Max: Number, T, |x, y| x.maximum(y);
    Min: Number, T, |x, y| x.minimum(y);
    Pow: Real, T, |x, y| x.pow::<FMA>(y);
    And: Integer, T, |x, y| x.and(y);
    Or: Integer, T, |x, y| x.or(y);
    Xor: Integer, T, |x, y| x.xor(y);
    Shl: Integer, T, |x, y| x.shl(y);
    Shr: Integer, T, |x, y| x.shr(y);
    Eq: Number, u8, |x, y| u8::from(x == y);
    Ne: Number, u8, |x, y| u8::from(x != y);
    Lt: Number, u8, |x, y| u8::from(x < y);
    Le: Number, u8, |x, y| u8::from(x <= y);
    Gt: Number, u8, |x, y| u8::from(x > y);
    Ge: Number, u8, |x, y| u8::from(x >= y);
}

/// Logical not of the bytes 0 and 1.
struct LogicalNot;

impl Unary<u8> for LogicalNot {
    type Out = u8;
    #[inline(always)]
    fn apply<const FMA: bool>(x: u8) -> u8 {
        x ^ 1
    }
}

fn binary<T: Number, F: Binary<T>>(isa: Isa, splat: [bool; 3]) -> Option<MapFn> {
    match splat {
        [false, false, _] => Some(T::version::<Map2<F, T, false, false>>(isa)),
        // Narrow integers are rare: they come without splats, so that the library stays small.
        _ if size_of::<T>() < 4 => None,
        [true, false, _] => Some(T::version::<Map2<F, T, true, false>>(isa)),
        [false, true, _] => Some(T::version::<Map2<F, T, false, true>>(isa)),
        [true, true, _] => None,
    }
}

fn select<T: Copy>(isa: Isa, splat: [bool; 3]) -> Option<MapFn> {
    match splat {
        [false, false, false] => Some(compiled::<Select<T, false, false>>(isa)),
        [false, true, false] => Some(compiled::<Select<T, true, false>>(isa)),
        [false, false, true] => Some(compiled::<Select<T, false, true>>(isa)),
        [false, true, true] => Some(compiled::<Select<T, true, true>>(isa)),
        [true, ..] => None,
    }
}

/// The kernel of a scalar function on operands of type `dtype` (for select: that of the last two).
///
/// `splat` says which operands are single elements. `None` means that there is no such version (the
/// operands have to be spread out first), or, without splats, that the function does not take the type.
pub fn map(isa: Isa, function: ScalarFn, dtype: DType, splat: [bool; 3]) -> Option<MapFn> {
    use ScalarFn as F;
    if function.def().arity == 1 && splat[0] {
        return None;
    }
    macro_rules! one {
        ($with:ident, $f:ident) => {
            $with!(dtype, T => <T as Tuned>::version::<Map1<$f, T>>(isa))
        };
    }
    macro_rules! two {
        ($with:ident, $f:ident) => {
            $with!(dtype, T => binary::<T, $f>(isa, splat)).flatten()
        };
    }
    match function {
        F::Add => two!(with_number, Add),
        F::Sub => two!(with_number, Sub),
        F::Mul => two!(with_number, Mul),
        F::Div => two!(with_number, Div),
        F::Rem => two!(with_number, Rem),
        F::Max => two!(with_number, Max),
        F::Min => two!(with_number, Min),
        F::Pow => two!(with_real, Pow),
        F::Neg => one!(with_number, Neg),
        F::Abs => one!(with_number, Abs),
        F::Sign => one!(with_number, Sign),
        F::Relu => one!(with_number, Relu),
        F::Floor => one!(with_real, Floor),
        F::Ceil => one!(with_real, Ceil),
        F::Round => one!(with_real, Round),
        F::Exp => one!(with_real, Exp),
        F::Expm1 => one!(with_real, Expm1),
        F::Log => one!(with_real, Log),
        F::Log1p => one!(with_real, Log1p),
        F::Sqrt => one!(with_real, Sqrt),
        F::Rsqrt => one!(with_real, Rsqrt),
        F::Recip => one!(with_real, Recip),
        F::Tanh => one!(with_real, Tanh),
        F::Sigmoid => one!(with_real, Sigmoid),
        F::Softplus => one!(with_real, Softplus),
        F::Erf => one!(with_real, Erf),
        F::Sin => with_real!(dtype, T => compiled::<Angle<T, false>>(isa)),
        F::Cos => with_real!(dtype, T => compiled::<Angle<T, true>>(isa)),
        F::Eq => two!(with_ordered, Eq),
        F::Ne => two!(with_ordered, Ne),
        F::Lt => two!(with_ordered, Lt),
        F::Le => two!(with_ordered, Le),
        F::Gt => two!(with_ordered, Gt),
        F::Ge => two!(with_ordered, Ge),
        F::And if dtype == DType::Bool => binary::<u8, And>(isa, splat),
        F::Or if dtype == DType::Bool => binary::<u8, Or>(isa, splat),
        F::Xor if dtype == DType::Bool => binary::<u8, Xor>(isa, splat),
        F::Not if dtype == DType::Bool => Some(compiled::<Map1<LogicalNot, u8>>(isa)),
        F::And => two!(with_integer, And),
        F::Or => two!(with_integer, Or),
        F::Xor => two!(with_integer, Xor),
        F::Not => one!(with_integer, Not),
        F::Shl => two!(with_integer, Shl),
        F::Shr => two!(with_integer, Shr),
        F::Select => match dtype.size() {
            1 => select::<u8>(isa, splat),
            2 => select::<u16>(isa, splat),
            4 => select::<u32>(isa, splat),
            _ => select::<u64>(isa, splat),
        },
    }
}
