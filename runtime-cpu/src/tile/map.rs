//! Scalar functions over tiles: which generic loop serves which row of the table.

use std::marker::PhantomData;

use graphc_ir::dtype::DType;
use graphc_ir::scalar::ScalarFn;

use super::kernel::{Kernel, TileFn, Tuned, compiled, with_integer, with_number, with_ordered, with_real};
use super::number::{Integer, Number, Real};
use super::sweep::{Function, sweep};
use crate::isa::Isa;

/// Where an elementwise kernel reads and writes: `dst[i] = f(a[i], b[i], c[i])` for `i < len`.
///
/// Pointers are aligned to their elements. `dst` overlaps no operand. Operands that are splat have one
/// element; those that the function does not have may be anything.
#[derive(Clone, Copy, Debug)]
pub struct MapArgs {
    pub dst: *mut u8,
    pub operands: [*const u8; 3],
    pub splat: [bool; 3],
    pub len: usize,
}

/// An elementwise kernel.
pub type MapFn = TileFn<MapArgs>;

/// The kernel of a function.
pub struct Map<F>(PhantomData<F>);

impl<F: Function> Kernel for Map<F> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MapArgs) {
        // SAFETY: the arguments' promise.
        unsafe { sweep::<FMA, F>(args.len, args.dst, args.operands, args.splat) };
    }
}

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

/// A unary function of elements of type `T`.
struct Of1<F, T>(PhantomData<(F, T)>);

impl<T: Copy, F: Unary<T>> Function for Of1<F, T> {
    type A = T;
    type B = ();
    type C = ();
    type Out = F::Out;
    #[inline(always)]
    fn apply<const FMA: bool>(x: T, (): (), (): ()) -> F::Out {
        F::apply::<FMA>(x)
    }
}

/// A binary function of elements of type `T`.
struct Of2<F, T>(PhantomData<(F, T)>);

impl<T: Copy, F: Binary<T>> Function for Of2<F, T> {
    type A = T;
    type B = T;
    type C = ();
    type Out = F::Out;
    #[inline(always)]
    fn apply<const FMA: bool>(x: T, y: T, (): ()) -> F::Out {
        F::apply::<FMA>(x, y)
    }
}

/// `a ? b : c`.
struct Select<T>(PhantomData<T>);

impl<T: Copy> Function for Select<T> {
    type A = u8;
    type B = T;
    type C = T;
    type Out = T;
    #[inline(always)]
    fn apply<const FMA: bool>(a: u8, b: T, c: T) -> T {
        if a != 0 { b } else { c }
    }
}

/// A binary function of the result of another: `q(p(a, b), c)`, each rounded.
struct Pair<P, Q, T>(PhantomData<(P, Q, T)>);

impl<T: Copy, P: Binary<T, Out = T>, Q: Binary<T, Out = T>> Function for Pair<P, Q, T> {
    type A = T;
    type B = T;
    type C = T;
    type Out = T;
    #[inline(always)]
    fn apply<const FMA: bool>(a: T, b: T, c: T) -> T {
        Q::apply::<FMA>(P::apply::<FMA>(a, b), c)
    }
}

/// A unary function of the result of a binary one: `q(p(a, b))`.
struct Then<P, Q, T>(PhantomData<(P, Q, T)>);

impl<T: Copy, P: Binary<T, Out = T>, Q: Unary<T, Out = T>> Function for Then<P, Q, T> {
    type A = T;
    type B = T;
    type C = ();
    type Out = T;
    #[inline(always)]
    fn apply<const FMA: bool>(a: T, b: T, (): ()) -> T {
        Q::apply::<FMA>(P::apply::<FMA>(a, b))
    }
}

/// Sine or cosine: a branch-free sweep, and a second look at a tile with an enormous angle.
struct Angle<F, T, const COS: bool>(PhantomData<(F, T)>);

impl<T: Real, F: Unary<T>, const COS: bool> Kernel for Angle<F, T, COS> {
    type Args = MapArgs;

    #[inline(always)]
    unsafe fn run<const FMA: bool>(args: &MapArgs) {
        let mut moderate = true;
        // SAFETY: the arguments' promise.
        unsafe {
            sweep::<FMA, Of1<F, T>>(args.len, args.dst, args.operands, args.splat);
            for i in 0..args.len {
                moderate &=
                    (*args.operands[0].cast::<T>().add(if args.splat[0] { 0 } else { i })).is_moderate();
            }
            if !moderate {
                any_angles::<T, COS>(args);
            }
        }
    }
}

/// Sines or cosines of any angles, one by one.
///
/// # Safety
/// As for a kernel.
#[cold]
#[inline(never)]
unsafe fn any_angles<T: Real, const COS: bool>(args: &MapArgs) {
    for i in 0..args.len {
        // SAFETY: the caller's promise.
        unsafe {
            let x = *args.operands[0].cast::<T>().add(if args.splat[0] { 0 } else { i });
            args.dst.cast::<T>().add(i).write(if COS { x.any_cos() } else { x.any_sin() });
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
    Sin: Real, |x| x.sin::<FMA>();
    Cos: Real, |x| x.cos::<FMA>();
}

functions! { binary
    Add: Number, T, |x, y| x.add(y);
    Sub: Number, T, |x, y| x.sub(y);
    SubFrom: Number, T, |x, y| y.sub(x);
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

/// The kernel of a scalar function on operands of type `dtype` (for select: that of the last two);
/// `None` where the function does not take the type.
pub fn map(isa: Isa, function: ScalarFn, dtype: DType) -> Option<MapFn> {
    use ScalarFn as F;
    macro_rules! one {
        ($with:ident, $f:ident) => {
            $with!(dtype, T => <T as Tuned>::version::<Map<Of1<$f, T>>>(isa))
        };
    }
    macro_rules! two {
        ($with:ident, $f:ident) => {
            $with!(dtype, T => <T as Tuned>::version::<Map<Of2<$f, T>>>(isa))
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
        F::Sin => with_real!(dtype, T => compiled::<Angle<Sin, T, false>>(isa)),
        F::Cos => with_real!(dtype, T => compiled::<Angle<Cos, T, true>>(isa)),
        F::Eq => two!(with_ordered, Eq),
        F::Ne => two!(with_ordered, Ne),
        F::Lt => two!(with_ordered, Lt),
        F::Le => two!(with_ordered, Le),
        F::Gt => two!(with_ordered, Gt),
        F::Ge => two!(with_ordered, Ge),
        F::And if dtype == DType::Bool => Some(compiled::<Map<Of2<And, u8>>>(isa)),
        F::Or if dtype == DType::Bool => Some(compiled::<Map<Of2<Or, u8>>>(isa)),
        F::Xor if dtype == DType::Bool => Some(compiled::<Map<Of2<Xor, u8>>>(isa)),
        F::Not if dtype == DType::Bool => Some(compiled::<Map<Of1<LogicalNot, u8>>>(isa)),
        F::And => two!(with_integer, And),
        F::Or => two!(with_integer, Or),
        F::Xor => two!(with_integer, Xor),
        F::Not => one!(with_integer, Not),
        F::Shl => two!(with_integer, Shl),
        F::Shr => two!(with_integer, Shr),
        F::Select => Some(match dtype.size() {
            1 => compiled::<Map<Select<u8>>>(isa),
            2 => compiled::<Map<Select<u16>>>(isa),
            4 => compiled::<Map<Select<u32>>>(isa),
            _ => compiled::<Map<Select<u64>>>(isa),
        }),
    }
}

/// Whether there is a [`pair`] of two functions.
pub fn has_pair(first: ScalarFn, second: ScalarFn, flipped: bool) -> bool {
    pair(Isa::Portable, first, second, flipped).is_some()
}

/// The kernel of two functions of `f32`, one after the other: `second(first(a, b), c)`, or with `flipped`
/// `second(c, first(a, b))`. Results are those of the two kernels, bit for bit.
pub fn pair(isa: Isa, first: ScalarFn, second: ScalarFn, flipped: bool) -> Option<MapFn> {
    use ScalarFn as F;
    macro_rules! then {
        ($p:ident) => {
            match second {
                F::Add => Some(compiled::<Map<Pair<$p, Add, f32>>>(isa)),
                F::Mul => Some(compiled::<Map<Pair<$p, Mul, f32>>>(isa)),
                F::Sub if flipped => Some(compiled::<Map<Pair<$p, SubFrom, f32>>>(isa)),
                F::Sub => Some(compiled::<Map<Pair<$p, Sub, f32>>>(isa)),
                F::Relu => Some(compiled::<Map<Then<$p, Relu, f32>>>(isa)),
                _ => None,
            }
        };
    }
    match first {
        // Softmax.
        F::Sub if second == F::Exp => Some(compiled::<Map<Then<Sub, Exp, f32>>>(isa)),
        F::Add => then!(Add),
        F::Sub => then!(Sub),
        F::Mul => then!(Mul),
        _ => None,
    }
}
