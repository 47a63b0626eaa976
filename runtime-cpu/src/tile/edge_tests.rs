//! Tile functions where rounding, overflow and the signs of zeros show: each promise at its worst operands.

use graphc_ir::dtype::DType;
use graphc_ir::program::FoldKind;
use graphc_ir::scalar::{Class, Product, Scalar, ScalarFn};
use graphc_ir::tensor::Tensor;

use super::fold::{FoldArgs, MergeArgs, along, down, finish, identity, merge, state_arrays};
use super::map::map;
use super::tests::{Random, result, run, ulps};
use crate::isa::Isa;

/// Every power of two with its neighbours and numbers between, of both signs; zeros, infinities and NaN.
fn everywhere(dtype: DType) -> Vec<f64> {
    let (lowest, highest): (i32, i32) = if dtype == DType::F32 { (-126, 127) } else { (-1022, 1023) };
    let round = |x: f64| Scalar::F(x).round_to(dtype).as_f64();
    let last = if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
    let mut all = vec![0.0, f64::INFINITY, f64::NAN, dtype.largest()];
    for e in lowest..=highest {
        // In f64 all exponents near 0, and some far away.
        if e.abs() > 130 && e % 37 != 0 && e > lowest + 2 && e < highest - 2 {
            continue;
        }
        let power = 2f64.powi(e);
        all.extend([1.0, 1.0 + last, 1.25, 1.5, 1.999, 2.0 - last].map(|m| round(m * power)));
        if e > lowest {
            all.push(power * (1.0 - last / 2.0));
        }
    }
    // Where formulas change over.
    for at in [0.625, 0.92, 4.0, 20.0, 87.336_54, 88.722_84, 1e-8, 1e9, 2f64.powi(24), 709.78, 745.13] {
        all.extend([1.0 - 2.0 * last, 1.0 - last, 1.0, 1.0 + last, 1.0 + 2.0 * last].map(|m| round(at * m)));
    }
    all.iter().flat_map(|x| [*x, -*x]).collect()
}

/// Whether a result is what the table says: near enough, and a zero of the right sign.
fn assert_result(got: Scalar, want: Scalar, function: ScalarFn, dtype: DType, what: &str) {
    if !result(function, dtype).is_float() {
        assert_eq!(got, want, "{what}");
        return;
    }
    let (got, want) = (got.as_f64(), want.as_f64());
    let allowed = function.def().ulp.max(if dtype == DType::F64 { 1.0 } else { 0.0 });
    let same_sign = got != 0.0 || want != 0.0 || got.is_sign_negative() == want.is_sign_negative();
    assert!(ulps(got, want, dtype) <= allowed && same_sign, "{what} is {got:e}, not {want:e}");
}

#[test]
fn functions_of_one_operand_everywhere() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::F64] {
            let numbers = everywhere(dtype);
            let operand = Tensor::from_fn(dtype, &[numbers.len()], |i| Scalar::F(numbers[i]));
            for &function in ScalarFn::ALL {
                if function.def().arity != 1 || function.result_dtype(&[dtype]).is_err() {
                    continue;
                }
                let kernel = map(isa, function, dtype).unwrap();
                let mut got = Tensor::zeros(result(function, dtype), &[numbers.len() + 1]);
                run(kernel, &mut got, std::slice::from_ref(&operand), [false; 3], numbers.len());
                for (i, x) in numbers.iter().enumerate() {
                    let want = function.eval(&[Scalar::F(*x)], dtype);
                    let what = format!("{isa} {dtype} {}({x:e})", function.name());
                    assert_result(got.get(i), want, function, dtype, &what);
                }
            }
        }
    }
}

#[test]
fn functions_of_two_operands_at_special_numbers() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::F64] {
            let (large, small) = if dtype == DType::F32 {
                (dtype.largest(), f64::from(f32::MIN_POSITIVE))
            } else {
                (f64::MAX, f64::MIN_POSITIVE)
            };
            let one_sign = [
                0.0,
                small,
                1e-20,
                0.3,
                0.5,
                1.0,
                1.5,
                2.0,
                3.0,
                7.0,
                16_777_217.0,
                1e20,
                large,
                f64::INFINITY,
            ];
            let numbers: Vec<f64> = one_sign
                .iter()
                .flat_map(|x| [*x, -*x])
                .chain([f64::NAN])
                .map(|x| Scalar::F(x).round_to(dtype).as_f64())
                .collect();
            let n = numbers.len();
            let operands = [
                Tensor::from_fn(dtype, &[n * n], |i| Scalar::F(numbers[i / n])),
                Tensor::from_fn(dtype, &[n * n], |i| Scalar::F(numbers[i % n])),
            ];
            for &function in ScalarFn::ALL {
                if function.def().arity != 2 || function.def().class == Class::Bits {
                    continue;
                }
                let Ok(_) = function.result_dtype(&[dtype; 2]) else { continue };
                let kernel = map(isa, function, dtype).unwrap();
                let mut got = Tensor::zeros(result(function, dtype), &[n * n + 1]);
                run(kernel, &mut got, &operands, [false; 3], n * n);
                for i in 0..n * n {
                    let args = [operands[0].get(i), operands[1].get(i)];
                    let what = format!("{isa} {dtype} {}{args:?}", function.name());
                    assert_result(got.get(i), function.eval(&args, dtype), function, dtype, &what);
                }
            }
        }
    }
}

/// The result of a fold of some values: along a row, down a column among others, and down two chunks that are merged.
fn folded(isa: Isa, kind: FoldKind, dtype: DType, values: &[f64], columns: usize) -> [f64; 3] {
    let (n, arrays) = (values.len(), state_arrays(kind, dtype));
    let (along, down) = (along(isa, kind, dtype).unwrap(), down(isa, kind, dtype).unwrap());
    let merge = merge(isa, kind, dtype).unwrap();
    let result = |state: &Tensor, len: usize, i: usize| {
        let mut out = Tensor::zeros(dtype, &[len]);
        let count = Tensor::scalar(dtype, Scalar::F(n as f64));
        match finish(isa, kind, dtype) {
            // SAFETY: the state has so many arrays of so many elements, and the results as many.
            Some(finish) => unsafe {
                let to = out.bytes_mut().as_mut_ptr();
                let (state, count) = (state.bytes().as_ptr(), count.bytes().as_ptr());
                finish.run(to, state, (arrays, len, dtype.size()), count);
            },
            None => out.set(i, state.get(i)),
        }
        out.get(i).as_f64()
    };
    let row = Tensor::from_fn(dtype, &[1, n], |i| Scalar::F(values[i]));
    let mut state = Tensor::zeros(dtype, &[arrays, 1]);
    let args = |state: &mut Tensor, tile: *const u8, rows, columns, seen| FoldArgs {
        state: state.bytes_mut().as_mut_ptr(),
        tile,
        rows,
        columns,
        seen,
    };
    // SAFETY: one row of `n` elements and its state.
    unsafe { along(&args(&mut state, row.bytes().as_ptr(), 1, n, 0)) };
    let first = result(&state, 1, 0);
    // The values are the last column; the others hold numbers that nobody asks for.
    let tile = Tensor::from_fn(dtype, &[n, columns], |i| {
        Scalar::F(if i % columns + 1 == columns { values[i / columns] } else { (i % 7) as f64 + 0.5 })
    });
    let empty = || Tensor::full(dtype, &[arrays, columns], identity(kind, dtype));
    let (mut whole, mut one, mut two) = (empty(), empty(), empty());
    let cut = n.div_ceil(3);
    let rest = &tile.bytes()[cut * columns * dtype.size()..];
    // SAFETY: tiles of so many rows and columns, and the states of all columns.
    unsafe {
        down(&args(&mut whole, tile.bytes().as_ptr(), n, columns, 0));
        down(&args(&mut one, tile.bytes().as_ptr(), cut, columns, 0));
        if n > cut {
            down(&args(&mut two, rest.as_ptr(), n - cut, columns, 0));
        }
        merge(&MergeArgs {
            state: one.bytes_mut().as_mut_ptr(),
            other: two.bytes().as_ptr(),
            len: columns,
            counts: [cut, n - cut],
        });
    }
    [first, result(&whole, columns, columns - 1), result(&one, columns, columns - 1)]
}

const LENGTHS: [usize; 9] = [1, 2, 3, 7, 63, 64, 65, 768, 5000];
const COLUMNS: [usize; 5] = [1, 3, 32, 65, 130];

/// Data far from zero, where plain sums lose the mean, and the squares of deviations everything.
#[test]
fn means_and_variances_at_their_worst() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::F64] {
            for (n, columns) in LENGTHS.into_iter().flat_map(|n| COLUMNS.map(|c| (n, c))) {
                let check = |values: Vec<f64>, tolerance: [f64; 2]| {
                    let values: Vec<f64> =
                        values.iter().map(|v| Scalar::F(*v).round_to(dtype).as_f64()).collect();
                    let shares: Vec<f64> = values.iter().map(|v| v / n as f64).collect();
                    let about: f64 = shares.iter().sum();
                    let mean = about + values.iter().map(|v| (v - about) / n as f64).sum::<f64>();
                    let variance = values.iter().map(|v| (v - mean).powi(2) / n as f64).sum::<f64>();
                    for (kind, want, tolerance) in
                        [(FoldKind::Mean, mean, tolerance[0]), (FoldKind::Var, variance, tolerance[1])]
                    {
                        let want = Scalar::F(want).round_to(dtype).as_f64();
                        for got in folded(isa, kind, dtype, &values, columns) {
                            let near = (got - want).abs() <= tolerance || got == want;
                            assert!(
                                near,
                                "{isa} {kind:?} {dtype} of {n} by {columns}: {got:e}, not {want:e}"
                            );
                        }
                    }
                };
                for of in [10_000.3, -0.1, 1e-30, 3.3e37, 7.0] {
                    // Exactly that number, and no variance.
                    let of = Scalar::F(of).round_to(dtype).as_f64();
                    check(vec![of; n], [0.0, 0.0]);
                }
                let unit = if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                let mut random = Random(n as u64);
                let noise: Vec<f64> = (0..n).map(|_| random.unit() - 0.5).collect();
                let far = |scale: f64| noise.iter().map(|x| 10_000.0 + scale * x).collect::<Vec<f64>>();
                // A unit in the last place of the mean. Parts are merged by their means, so that the variance is off by the
                // standard deviation times that, or some units of its own.
                for scale in [1.0, 1e3] {
                    let off = 10_000.0 * unit;
                    check(far(scale), [off, off * scale + 64.0 * unit * scale * scale]);
                }
                // The sum overflows, the mean does not, and the squares are infinite in f32.
                if dtype == DType::F32 {
                    let large = |i: usize| dtype.largest() * if i.is_multiple_of(3) { -0.5 } else { 1.0 };
                    for got in
                        folded(isa, FoldKind::Mean, dtype, &(0..n).map(large).collect::<Vec<_>>(), columns)
                    {
                        let want = (0..n).map(large).sum::<f64>() / n as f64;
                        assert!(
                            (got - want).abs() <= 1e-4 * dtype.largest(),
                            "{isa} {n} {columns}: {got:e}, not {want:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn means_of_infinities_and_nan() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let rows: [(&[f64], f64); 5] = [
        (&[inf, 1.0, 2.0, inf], inf),
        (&[-inf, 1.0, 2.0, 3.0], -inf),
        (&[inf, 1.0, -inf, 3.0], nan),
        (&[nan, 1.0, 2.0, 3.0], nan),
        (&[1.0, 2.0, nan, inf], nan),
    ];
    for isa in Isa::available() {
        for (values, mean) in rows {
            for columns in COLUMNS {
                for got in folded(isa, FoldKind::Mean, DType::F32, values, columns) {
                    assert!(
                        got == mean || got.is_nan() && mean.is_nan(),
                        "{isa} {values:?}: {got}, not {mean}"
                    );
                }
                for got in folded(isa, FoldKind::Var, DType::F32, values, columns) {
                    assert!(got.is_nan(), "{isa} {values:?}: {got}");
                }
            }
        }
    }
}

/// Products whose factors overflow and underflow in whatever order lanes, tiles and chunks take them.
#[test]
fn products_at_their_worst() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::F64] {
            let large = if dtype == DType::F32 { 1e30 } else { 1e300 };
            for (n, columns) in LENGTHS.into_iter().flat_map(|n| COLUMNS.map(|c| (n, c))) {
                let half = n / 2;
                let cases: [Vec<f64>; 8] = [
                    (0..2 * half).map(|i| if i % 2 == 0 { 1.0 / large } else { large }).collect(),
                    (0..2 * half).map(|i| if i < half { large } else { -1.0 / large }).collect(),
                    (0..n).map(|i| i as f64).collect(),
                    (0..n).map(|i| if i + 1 == n { -0.0 } else { large }).collect(),
                    vec![large; n],
                    vec![1.0 / large; n],
                    (0..n).map(|i| if i == half { f64::NAN } else { large }).collect(),
                    (0..n).map(|i| [f64::INFINITY, 2.0, 0.5][i % 3]).collect(),
                ];
                for values in cases.iter().filter(|values| !values.is_empty()) {
                    let values: Vec<f64> =
                        values.iter().map(|v| Scalar::F(*v).round_to(dtype).as_f64()).collect();
                    let exact = values.iter().fold(Product::default(), |p, x| p.times(*x)).value();
                    let want = Scalar::F(exact).round_to(dtype).as_f64();
                    for got in folded(isa, FoldKind::Prod, dtype, &values, columns) {
                        let unit = if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                        let near = (got - want).abs() <= n as f64 * unit * want.abs();
                        let same = got == want || got.is_nan() && want.is_nan();
                        assert!(
                            near || same,
                            "{isa} {dtype} {n} by {columns}: {got:e}, not {want:e}: {:?}",
                            &values[..n.min(8)]
                        );
                    }
                }
            }
        }
    }
}
