//! Every tile function against the reference semantics, for every instruction set of this machine.

use graphc_ir::dtype::DType;
use graphc_ir::program::FoldKind;
use graphc_ir::scalar::{Class, Scalar, ScalarFn};
use graphc_ir::tensor::Tensor;

use super::fold::{FoldArgs, MergeArgs, along, down, merge};
use super::map::{MapArgs, MapFn, map, pair};
use crate::isa::Isa;

/// A small generator (Steele, Lea and Flood's SplitMix64).
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn sample(random: &mut Random, dtype: DType) -> Scalar {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        -2.0,
        0.5,
        3.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e4,
        -1e30,
        1e-30,
    ];
    let choice = random.next();
    if dtype.is_float() {
        let value = match choice % 8 {
            0 => special[(choice >> 8) as usize % special.len()],
            1 => (random.unit() - 0.5) * 300.0,
            2 => 10f64.powf((random.unit() - 0.5) * 60.0) * if choice & 256 == 0 { 1.0 } else { -1.0 },
            3 => ((random.unit() - 0.5) * 20.0).round(),
            4 => 10f64.powf(-6.0 * random.unit()) * if choice & 256 == 0 { 1.0 } else { -1.0 },
            _ => (random.unit() - 0.5) * 8.0,
        };
        Scalar::F(value).round_to(dtype)
    } else if dtype == DType::Bool {
        Scalar::B(choice & 1 == 1)
    } else {
        let raw = Scalar::I((random.next() as i64).into());
        match choice % 4 {
            0 => Scalar::I((choice >> 8 & 7) as i128 - 3).round_to(dtype),
            1 => Scalar::I([dtype.int_range().0, dtype.int_range().1, 0][(choice >> 8) as usize % 3]),
            2 => Scalar::I((choice >> 8 & 63) as i128).round_to(dtype),
            _ => raw.round_to(dtype),
        }
    }
}

fn samples(random: &mut Random, dtype: DType, len: usize) -> Tensor {
    Tensor::from_fn(dtype, &[len], |_| sample(random, dtype))
}

/// Distance in units in the last place of the type; 0 for two NaNs.
pub(super) fn ulps(got: f64, want: f64, dtype: DType) -> f64 {
    let (smallest, digits) = if dtype == DType::F32 {
        (f64::from(f32::MIN_POSITIVE), f64::from(f32::EPSILON))
    } else {
        (f64::MIN_POSITIVE, f64::EPSILON)
    };
    // Subnormal results may be flushed.
    if (got.is_nan() && want.is_nan()) || got == want || (got.abs() <= smallest && want.abs() <= smallest) {
        return 0.0;
    }
    if !got.is_finite() || !want.is_finite() {
        return f64::INFINITY;
    }
    let unit = (want.abs().max(smallest).log2().floor() + digits.log2()).exp2();
    (got - want).abs() / unit
}

pub(super) fn result(function: ScalarFn, dtype: DType) -> DType {
    if function.def().class == Class::Compare { DType::Bool } else { dtype }
}

pub(super) fn run(function: MapFn, dst: &mut Tensor, operands: &[Tensor], splat: [bool; 3], len: usize) {
    let pointer = |i: usize| operands.get(i).map_or(std::ptr::null(), |t| t.bytes().as_ptr());
    let operands = [pointer(0), pointer(1), pointer(2)];
    let args = MapArgs { dst: dst.bytes_mut().as_mut_ptr(), operands, splat, len };
    // SAFETY: the operands have `len` elements, or one where they are splat; `dst` has more than `len`.
    unsafe { function(&args) };
}

fn check_map(isa: Isa, function: ScalarFn, dtype: DType, splat: [bool; 3], kernel: MapFn) {
    const LEN: usize = 600;
    let mut random = Random(dtype as u64 * 1000 + function as u64);
    let def = function.def();
    let operands: Vec<Tensor> = (0..def.arity)
        .map(|i| {
            let dtype = if i == 0 && def.class == Class::Select { DType::Bool } else { dtype };
            samples(&mut random, dtype, if splat[i] { 1 } else { LEN })
        })
        .collect();
    let mut all = Tensor::zeros(result(function, dtype), &[LEN + 1]);
    run(kernel, &mut all, &operands, splat, LEN);
    for i in 0..LEN {
        let args: Vec<Scalar> = operands.iter().map(|t| t.get(if t.len() == 1 { 0 } else { i })).collect();
        let (got, want) = (all.get(i), function.eval(&args, dtype));
        let close = if result(function, dtype).is_float() {
            let error = ulps(got.as_f64(), want.as_f64(), dtype);
            error <= def.ulp.max(if dtype == DType::F64 { 1.0 } else { 0.0 })
        } else {
            got == want
        };
        assert!(close, "{isa} {} {dtype}{args:?}: {got:?}, not {want:?}", def.name);
    }
    for len in 0..=70 {
        let mut part = Tensor::zeros(result(function, dtype), &[LEN + 1]);
        run(kernel, &mut part, &operands, splat, len);
        let size = part.dtype().size();
        assert_eq!(
            part.bytes()[..len * size],
            all.bytes()[..len * size],
            "{isa} {} {dtype} length {len}",
            def.name
        );
        assert!(part.bytes()[len * size..].iter().all(|b| *b == 0));
    }
}

#[test]
fn maps_follow_the_table() {
    let mut kernels = 0;
    for isa in Isa::available() {
        for &function in ScalarFn::ALL {
            for dtype in DType::ALL {
                let arity = function.def().arity;
                let types = vec![if function.def().class == Class::Select { DType::Bool } else { dtype }; 1];
                let types: Vec<DType> = types.into_iter().chain(vec![dtype; arity - 1]).collect();
                let takes = function.result_dtype(&types).is_ok();
                assert!(map(isa, function, dtype).is_some() || !takes, "{} {dtype}", function.name());
                for bits in 0..1 << arity {
                    let splat = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
                    if let (true, Some(kernel)) = (takes, map(isa, function, dtype)) {
                        check_map(isa, function, dtype, splat, kernel);
                        kernels += 1;
                    }
                }
            }
        }
    }
    assert!(kernels > 400);
}

#[test]
fn pairs_equal_their_functions_bit_for_bit() {
    let mut random = Random(11);
    let operands: Vec<Tensor> = (0..3).map(|_| samples(&mut random, DType::F32, 200)).collect();
    let mut pairs = 0;
    for isa in Isa::available() {
        for &first in ScalarFn::ALL {
            for &second in ScalarFn::ALL {
                for flipped in [false, true] {
                    let Some(kernel) = pair(isa, first, second, flipped) else { continue };
                    let mut got = Tensor::zeros(DType::F32, &[200]);
                    run(kernel, &mut got, &operands, [false; 3], 200);
                    let (mut middle, mut want) = (got.clone(), got.clone());
                    run(map(isa, first, DType::F32).unwrap(), &mut middle, &operands, [false; 3], 200);
                    let mut rest = [middle, operands[2].clone()];
                    if flipped {
                        rest.swap(0, 1);
                    }
                    let rest =
                        if second.def().arity == 1 { &rest[usize::from(flipped)..][..1] } else { &rest };
                    run(map(isa, second, DType::F32).unwrap(), &mut want, rest, [false; 3], 200);
                    let equal = |i: usize| {
                        let (got, want) = (got.get(i).as_f64(), want.get(i).as_f64());
                        got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan()
                    };
                    assert!((0..200).all(equal), "{isa} {} then {}, {flipped}", first.name(), second.name());
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs >= 30);
}

#[test]
fn enormous_angles_have_a_sine() {
    let angles = Tensor::from_slice(&[3], &[1e10f32, -3.4e38, 2.5]);
    for isa in Isa::available() {
        let mut got = Tensor::zeros(DType::F32, &[3]);
        run(
            map(isa, ScalarFn::Sin, DType::F32).unwrap(),
            &mut got,
            std::slice::from_ref(&angles),
            [false; 3],
            3,
        );
        for i in 0..3 {
            assert!(ulps(got.get(i).as_f64(), angles.get(i).as_f64().sin(), DType::F32) <= 1.0);
        }
    }
}

/// Numbers of a wide type at and beside the middle of two numbers of f16, bf16 and f32.
fn beside_middles(dtype: DType) -> Tensor {
    let mut all = Vec::new();
    for bits in [7, 10, 23] {
        for exponent in -20..64 {
            for (even, by) in (0..4).flat_map(|even| (-2..=2).map(move |by| (even, by))) {
                if dtype == DType::F64 {
                    let middle = (1.0 + (f64::from(even) + 0.5) * 2f64.powi(-bits)) * 2f64.powi(exponent);
                    let beside = f64::from_bits((middle.to_bits() as i64 + by) as u64);
                    all.extend([
                        Scalar::F(beside),
                        Scalar::F(-beside),
                        Scalar::F(middle + f64::from(by as i8) * 1e-12),
                    ]);
                } else if exponent > bits {
                    let middle = (1i128 << exponent) + ((2 * i128::from(even) + 1) << (exponent - bits - 1));
                    all.push(Scalar::I(middle + i128::from(by)).round_to(dtype));
                    all.push(Scalar::I(-middle - i128::from(by)).round_to(dtype));
                }
            }
        }
    }
    let ends = [65519.999, 65520.0, 3.39e38, 3.4e38, 1e300, f64::INFINITY, f64::NAN].map(Scalar::F);
    all.extend(ends.map(|v| v.cast(dtype)));
    Tensor::from_fn(dtype, &[all.len()], |i| all[i])
}

#[test]
fn casts_follow_the_reference() {
    let mut random = Random(7);
    for from in DType::ALL {
        let mut source = samples(&mut random, from, 2000);
        if from == DType::F16 || from == DType::Bf16 {
            // All bit patterns of a narrow float.
            let bits: Vec<u16> = (0..=u16::MAX).collect();
            source = Tensor::from_bytes(from, &[bits.len()], bytemuck::cast_slice(&bits)).unwrap();
        } else if from == DType::F64 || from.is_int() && from.size() == 8 {
            let (any, beside) = (source, beside_middles(from));
            source = Tensor::from_fn(from, &[any.len() + beside.len()], |i| {
                if i < any.len() { any.get(i) } else { beside.get(i - any.len()) }
            });
        } else if from == DType::F32 {
            let around = |i: usize| (i as f64 - 3000.0) * 2f64.powi(-26) + f64::from((i % 2) as u8);
            source = Tensor::from_fn(from, &[8000], |i| {
                if i < 6000 { Scalar::F(around(i)) } else { Scalar::F((random.unit() - 0.5) * 140_000.0) }
            });
        }
        for to in DType::ALL {
            let want = source.cast(to);
            for isa in Isa::available() {
                let mut got = Tensor::zeros(to, source.shape());
                run(
                    super::cast::cast(isa, from, to),
                    &mut got,
                    std::slice::from_ref(&source),
                    [false; 3],
                    source.len(),
                );
                for i in 0..source.len() {
                    let (got, want) = (got.get(i), want.get(i));
                    let equal = got == want
                        || got.as_f64().is_nan() && want.as_f64().is_nan()
                        || to.is_float() && got.as_f64() == want.as_f64();
                    assert!(equal, "{isa} {from} to {to}: {:?} became {got:?}, not {want:?}", source.get(i));
                }
            }
        }
    }
}

const KINDS: [FoldKind; 6] =
    [FoldKind::Sum, FoldKind::Prod, FoldKind::Max, FoldKind::Min, FoldKind::Mean, FoldKind::Var];

/// The states of a fold, as `along` and `down` define them, in exact arithmetic as far as f64 goes.
fn state_of(kind: FoldKind, values: &[Scalar], dtype: DType) -> Vec<Scalar> {
    let fold = |function: ScalarFn| {
        let join = |a: Scalar, b: Scalar| {
            if dtype.is_float() { wide(function, a, b) } else { function.eval(&[a, b], dtype) }
        };
        values.iter().copied().reduce(join).unwrap()
    };
    match kind {
        FoldKind::Sum => vec![fold(ScalarFn::Add)],
        FoldKind::Mean => vec![Scalar::F(fold(ScalarFn::Add).as_f64() / values.len() as f64)],
        FoldKind::Prod => vec![fold(ScalarFn::Mul)],
        FoldKind::Max => vec![fold(ScalarFn::Max)],
        FoldKind::Min => vec![fold(ScalarFn::Min)],
        FoldKind::Var => {
            let mean = fold(ScalarFn::Add).as_f64() / values.len() as f64;
            let squares = values.iter().map(|v| (v.as_f64() - mean).powi(2)).sum();
            vec![Scalar::F(mean), Scalar::F(squares)]
        }
    }
}

fn wide(function: ScalarFn, a: Scalar, b: Scalar) -> Scalar {
    function.eval(&[a, b], DType::F64)
}

/// One array of a state. Of a product of floats the first one holds all of it, with its power of two from the other.
fn array_of(state: &Tensor, kind: FoldKind, array: usize, i: usize) -> Scalar {
    let (len, dtype) = (state.shape()[1], state.dtype());
    if kind == FoldKind::Prod && dtype.is_float() {
        let exponent = state.get(len + i).as_f64() - 1.0;
        return Scalar::F(state.get(i).as_f64() * exponent.exp2());
    }
    state.get(array * len + i)
}

fn assert_state(got: Scalar, want: Scalar, dtype: DType, what: &str) {
    if dtype.is_float() {
        let (got, want) = (got.as_f64(), want.as_f64());
        let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-13 };
        let close = (got - want).abs() <= tolerance * want.abs().max(1.0)
            || got == want
            || got.is_nan() && want.is_nan();
        assert!(close, "{what}: {got}, not {want}");
    } else {
        assert_eq!(got, want, "{what}");
    }
}

#[test]
fn folds_follow_the_reference() {
    let mut random = Random(3);
    let shapes = [
        (1, 1),
        (3, 2),
        (5, 7),
        (4, 8),
        (2, 63),
        (3, 64),
        (2, 65),
        (1, 300),
        (70, 1),
        (33, 3),
        (9, 10),
        (130, 5),
        (17, 130),
    ];
    for isa in Isa::available() {
        for dtype in DType::ALL {
            for kind in KINDS {
                let (Some(along), Some(down), Some(merge)) =
                    (along(isa, kind, dtype), down(isa, kind, dtype), merge(isa, kind, dtype))
                else {
                    assert!(!dtype.is_compute_float(), "{kind:?} of {dtype}");
                    continue;
                };
                for (rows, columns) in shapes {
                    let tile =
                        Tensor::from_fn(dtype, &[rows, columns], |i| match sample(&mut random, dtype) {
                            Scalar::F(v) if kind == FoldKind::Prod => {
                                Scalar::F(1.0 + (v * 0.01).clamp(-0.1, 0.1))
                            }
                            Scalar::F(v) if kind == FoldKind::Max || kind == FoldKind::Min => {
                                Scalar::F(if i % 97 == 13 { f64::NAN } else { v })
                            }
                            Scalar::F(v) => Scalar::F(if v.is_nan() { 0.5 } else { v.clamp(-4.0, 4.0) }),
                            other => other,
                        });
                    let arrays = super::fold::state_arrays(kind, dtype);
                    let what = format!("{isa} {kind:?} {dtype} {rows}x{columns}");
                    let args = |state: &mut Tensor, tile: &[u8], rows: usize, seen: usize| FoldArgs {
                        state: state.bytes_mut().as_mut_ptr(),
                        tile: tile.as_ptr(),
                        rows,
                        columns,
                        seen,
                    };
                    let mut state = Tensor::zeros(dtype, &[arrays, rows]);
                    // SAFETY: the tile and the state have the sizes that the arguments say.
                    unsafe { along(&args(&mut state, tile.bytes(), rows, 0)) };
                    for row in 0..rows {
                        let values: Vec<Scalar> = (0..columns).map(|c| tile.get(row * columns + c)).collect();
                        for (array, want) in state_of(kind, &values, dtype).into_iter().enumerate() {
                            assert_state(array_of(&state, kind, array, row), want, dtype, &what);
                        }
                    }
                    // Two tiles, one merge: the first `cut` rows go into one state, the others into another.
                    let cut = rows.div_ceil(2);
                    let empty = Tensor::full(dtype, &[arrays, columns], super::fold::identity(kind, dtype));
                    let (mut first, mut second) = (empty.clone(), empty);
                    let (head, tail) = tile.bytes().split_at(cut * columns * dtype.size());
                    // SAFETY: as above; merging needs no more than two states of the same size.
                    unsafe {
                        let half = cut.div_ceil(2);
                        down(&args(&mut first, head, half, 0));
                        if cut > half {
                            down(&args(&mut first, &head[half * columns * dtype.size()..], cut - half, half));
                        }
                        if rows > cut {
                            down(&args(&mut second, tail, rows - cut, 0));
                            merge(&MergeArgs {
                                state: first.bytes_mut().as_mut_ptr(),
                                other: second.bytes().as_ptr(),
                                len: columns,
                                counts: [cut, rows - cut],
                            });
                        }
                    }
                    for column in 0..columns {
                        let values: Vec<Scalar> = (0..rows).map(|r| tile.get(r * columns + column)).collect();
                        for (array, want) in state_of(kind, &values, dtype).into_iter().enumerate() {
                            assert_state(array_of(&first, kind, array, column), want, dtype, &what);
                        }
                    }
                }
            }
        }
    }
}

/// At the end of the range, where the exponent's bits are full, a mantissa of more than zeros would be NaN.
#[test]
fn exponentials_overflow_to_infinity() {
    let edge = 88.722_84_f32.to_bits();
    for bits in edge - 100..edge + 100 {
        let x = f32::from_bits(bits);
        let want = f64::from(x).exp() as f32;
        for y in [super::math32::exp::<true>(x), super::math32::exp::<false>(x)] {
            assert!(y == want || (y - want).abs() <= 1e-6 * want, "e^{x} is {y}, not {want}");
        }
        assert_eq!(super::math32::tanh::<true>(x / 2.0), 1.0);
        assert!(super::math32::sigmoid::<true>(-x) < 3e-39);
    }
}
