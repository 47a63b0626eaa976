//! Filter gradients on every instruction set of this machine, against naive sums in `f64`.

mod support;

use graphc_cpu::Geometry;
use graphc_cpu::KernelError;
use graphc_cpu::conv_grad::{Element, Pixels, Problem, conv_filter_grad, scratch_bytes};
use graphc_cpu::gemm::{BLOCK_ROWS, Epilogue, Output, TileCtx, block_columns};
use graphc_cpu::isa::Isa;
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;
use support::{Float, Numbers, UNTOUCHED, meets, offset, positions, strides};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Finish {
    Store,
    Bias,
    BiasRelu,
    /// Bias and relu by a function.
    Tile,
}

const FINISHES: [Finish; 4] = [Finish::Store, Finish::Bias, Finish::BiasRelu, Finish::Tile];

#[derive(Clone, Copy, Debug)]
struct Case {
    geometry: Geometry,
    images: usize,
    groups: usize,
    cin: usize,
    cout: usize,
    gap: usize,
    finish: Finish,
}

/// Sizes of one dimension: input, kernel, stride, dilation, padding before and after.
type Dim = (usize, usize, usize, usize, usize, usize);

const ONE: Dim = (1, 1, 1, 1, 0, 0);

impl Case {
    fn new(dims: [Dim; 3], cin: usize, cout: usize) -> Case {
        let of = |part: fn(Dim) -> usize| dims.map(part);
        let output = of(|(input, kernel, stride, dilation, lo, hi)| {
            (input + lo + hi).checked_sub(dilation * (kernel - 1) + 1).map_or(0, |free| free / stride + 1)
        });
        let geometry = Geometry {
            input: of(|dim| dim.0),
            output,
            kernel: of(|dim| dim.1),
            stride: of(|dim| dim.2),
            dilation: of(|dim| dim.3),
            pad: of(|dim| dim.4),
        };
        Case { geometry, images: 1, groups: 1, cin, cout, gap: 0, finish: Finish::Store }
    }

    fn problem(&self) -> Problem {
        let Case { geometry, images, groups, cin, cout, gap, .. } = *self;
        let pixels = |sizes, channels| {
            let (image_stride, strides) = strides(sizes, channels, gap);
            Pixels { image_stride, strides }
        };
        let (x, dy) = (pixels(geometry.input, groups * cin), pixels(geometry.output, groups * cout));
        Problem { geometry, images, groups, cin, cout, x, dy }
    }

    fn row_stride(&self) -> usize {
        self.cout + self.gap
    }
}

struct Operands<T> {
    x: Vec<T>,
    dy: Vec<T>,
    bias: Vec<T>,
}

impl<T: Float> Operands<T> {
    fn new(case: &Case) -> Operands<T> {
        let problem = case.problem();
        let mut numbers = Numbers((case.cin * 31 + case.cout * 7 + problem.x.image_stride) as u64);
        Operands {
            x: numbers.array(case.images * problem.x.image_stride),
            dy: numbers.array(case.images * problem.dy.image_stride),
            bias: numbers.array(case.cout),
        }
    }
}

fn compute<T: Float + Element>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    operands: &Operands<T>,
) -> Result<Vec<T>, KernelError> {
    let problem = case.problem();
    let (rows, row_stride) = (problem.rows(), case.row_stride());
    let mut c = vec![T::from_f64(UNTOUCHED); case.groups * rows * row_stride];
    let output = Output { c: c.as_mut_ptr(), row_stride, batch_stride: rows * row_stride };
    let bias = operands.bias.as_ptr();
    let address = output.c as usize;
    let tile = |tile: &TileCtx<T>| {
        assert!(
            tile.rows <= BLOCK_ROWS && tile.cols <= block_columns::<T>(isa) && tile.thread < pool.threads()
        );
        for i in 0..tile.rows {
            for j in 0..tile.cols {
                let (row, col) = (tile.row0 + i, tile.col0 + j);
                let sum = unsafe { *tile.acc.add(i * tile.ld + j) } + operands.bias[col];
                let value = if sum < T::default() { T::default() } else { sum };
                let to = (address as *mut T).wrapping_add((tile.batch * rows + row) * row_stride + col);
                assert_eq!(unsafe { *to }.into(), UNTOUCHED, "an element came twice");
                unsafe { *to = value };
            }
        }
    };
    let epilogue = match case.finish {
        Finish::Store => Epilogue::Store(output),
        Finish::Bias => Epilogue::Bias(output, bias),
        Finish::BiasRelu => Epilogue::BiasRelu(output, bias),
        Finish::Tile => Epilogue::Tile(&tile),
    };
    let mut scratch = Block::new(scratch_bytes::<T>(isa, &problem, pool.threads())).unwrap();
    scratch.as_mut_slice().fill(0xff);
    let (x, dy) = (operands.x.as_ptr(), operands.dy.as_ptr());
    unsafe { conv_filter_grad(pool, isa, &problem, x, dy, &epilogue, scratch.as_mut_slice())? };
    Ok(c)
}

/// The sums of one row of the result, and the sums of the terms' magnitudes.
fn naive_row<T: Float>(case: &Case, operands: &Operands<T>, group: usize, row: usize) -> Vec<(f64, f64)> {
    let problem = case.problem();
    let Geometry { input, output, kernel, stride, dilation, pad } = case.geometry;
    let (tap, channel) = (row / case.cin, row % case.cin);
    let tap = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
    let mut sums = vec![(0.0, 0.0); case.cout];
    for image in 0..case.images {
        for position in positions(output) {
            let Some(at) = meets(position, tap, (stride, dilation, pad), input) else { continue };
            let x = image * problem.x.image_stride + offset(at, problem.x.strides);
            let x: f64 = operands.x[x + group * case.cin + channel].into();
            let dy = image * problem.dy.image_stride + offset(position, problem.dy.strides);
            for (col, sum) in sums.iter_mut().enumerate() {
                let dy: f64 = operands.dy[dy + group * case.cout + col].into();
                *sum = (sum.0 + x * dy, sum.1 + (x * dy).abs());
            }
        }
    }
    sums
}

/// Compares every `every`th row with naive sums; the bound is that of a sum of rounded products in any
/// order (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.5).
fn check<T: Float + Element>(pool: &Pool, isa: Isa, case: &Case, every: usize) -> Vec<T> {
    let operands = Operands::<T>::new(case);
    let c = compute(pool, isa, case, &operands).unwrap();
    let (rows, row_stride) = (case.problem().rows(), case.row_stride());
    let terms = case.images * case.geometry.output.iter().product::<usize>();
    for row in (0..case.groups * rows).step_by(every) {
        let sums = naive_row(case, &operands, row / rows, row % rows);
        for (col, &value) in c[row * row_stride..][..row_stride].iter().enumerate() {
            let value: f64 = value.into();
            let Some(&(mut sum, mut magnitude)) = sums.get(col) else {
                assert_eq!(value, UNTOUCHED, "{case:?} {isa}: wrote past row {row}");
                continue;
            };
            if case.finish != Finish::Store {
                let bias: f64 = operands.bias[col].into();
                sum += bias;
                magnitude += bias.abs();
            }
            if matches!(case.finish, Finish::BiasRelu | Finish::Tile) {
                sum = sum.max(0.0);
            }
            let bound = (terms as f64 + 2.0) * T::EPSILON * magnitude;
            assert!((value - sum).abs() <= bound, "{case:?} {isa}: [{row}][{col}] is {value}, not {sum}");
        }
    }
    c
}

fn serial() -> Pool {
    Pool::new(1).unwrap()
}

fn all_tails<T: Float + Element>() {
    let pool = serial();
    for isa in Isa::available() {
        for cout in 1..=2 * block_columns::<T>(isa) + 1 {
            for cin in [cout % 13 + 1, cout % 7 + 12] {
                let (finish, gap) = (FINISHES[(cout + cin) % 4], cout % 3);
                let kernel = 1 + cout % 3;
                let dims = [ONE, (4, kernel, 1, 1, kernel / 2, kernel / 2), (5, kernel, 1, 1, 1, 1)];
                check::<T>(&pool, isa, &Case { finish, gap, ..Case::new(dims, cin, cout) }, 1);
            }
        }
    }
}

#[test]
fn all_tails_in_f32() {
    all_tails::<f32>();
}

#[test]
fn all_tails_in_f64() {
    all_tails::<f64>();
}

#[test]
fn random_geometries() {
    let pool = serial();
    let mut numbers = Numbers(11);
    for round in 0..400 {
        let dim = |numbers: &mut Numbers| {
            let kernel = 1 + numbers.below(4);
            let (stride, dilation) = (1 + numbers.below(3), 1 + numbers.below(3));
            let (lo, hi) = (numbers.below(4), numbers.below(4));
            let least = (dilation * (kernel - 1) + 1).saturating_sub(lo + hi).max(1);
            (least + numbers.below(6), kernel, stride, dilation, lo, hi)
        };
        let mut dims = [dim(&mut numbers), dim(&mut numbers), dim(&mut numbers)];
        dims[..round % 3].fill(ONE);
        let (cin, cout) = (1 + numbers.below(14), 1 + numbers.below(20));
        let case = Case {
            images: 1 + numbers.below(3),
            groups: 1 + numbers.below(3),
            gap: numbers.pick(&[0, 0, 3]),
            finish: numbers.pick(&FINISHES),
            ..Case::new(dims, cin, cout)
        };
        for isa in Isa::available() {
            check::<f32>(&pool, isa, &case, 1);
            check::<f64>(&pool, isa, &case, 1);
        }
    }
}

#[test]
fn shapes_that_take_each_way() {
    let pool = serial();
    let cases = [
        // Kernel columns folded into rows, with a copy and in place; pieces of long rows.
        Case::new([ONE, (40, 7, 2, 1, 3, 3), (44, 7, 2, 1, 3, 3)], 3, 70),
        Case::new([ONE, (32, 16, 16, 1, 0, 0), (48, 16, 16, 1, 0, 0)], 3, 65),
        Case::new([ONE, ONE, (1600, 5, 1, 1, 2, 2)], 2, 20),
        Case::new([ONE, (3, 3, 1, 1, 1, 1), (1100, 3, 2, 1, 1, 1)], 1, 3),
        // A copy that is too large folds nothing.
        Case::new([(3, 3, 1, 1, 1, 1), (70, 3, 1, 1, 1, 1), (300, 3, 1, 1, 1, 1)], 11, 2),
        // One row of pixels for all images; splits of pixels.
        Case { images: 3, ..Case::new([ONE, (20, 1, 1, 1, 0, 0), (50, 1, 1, 1, 0, 0)], 8, 6) },
        Case { images: 3, gap: 1, ..Case::new([ONE, (40, 1, 2, 1, 0, 0), (150, 1, 2, 1, 0, 0)], 8, 70) },
        // Several blocks of pixels, chunks of rows, and panels whose gradient is copied.
        Case { images: 2, ..Case::new([ONE, (30, 3, 1, 1, 1, 1), (30, 3, 1, 1, 1, 1)], 40, 150) },
        Case { images: 12, groups: 2, ..Case::new([ONE, (7, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1)], 130, 80) },
        // More taps than a chunk has rows; a kernel larger than the image.
        Case::new([(6, 5, 1, 1, 2, 2), (12, 11, 1, 1, 5, 5), (12, 11, 1, 1, 5, 5)], 7, 5),
        Case { images: 2, ..Case::new([ONE, (3, 9, 1, 1, 4, 4), (2, 5, 1, 2, 6, 6)], 13, 18) },
    ];
    for isa in Isa::available() {
        for (index, case) in cases.iter().enumerate() {
            for finish in [FINISHES[index % 4], Finish::Tile] {
                let case = Case { finish, ..*case };
                check::<f32>(&pool, isa, &case, 7);
                check::<f64>(&pool, isa, &case, 13);
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let pools = [serial(), Pool::new(2).unwrap(), Pool::new(5).unwrap()];
    let cases = [
        Case::new([ONE, (56, 3, 1, 1, 1, 1), (56, 3, 1, 1, 1, 1)], 16, 32),
        Case { images: 2, ..Case::new([ONE, (60, 7, 2, 1, 3, 3), (60, 7, 2, 1, 3, 3)], 3, 64) },
        Case::new([ONE, (60, 1, 1, 1, 0, 0), (60, 1, 1, 1, 0, 0)], 8, 64),
        Case { images: 5, groups: 3, ..Case::new([ONE, (7, 3, 1, 1, 1, 1), (7, 3, 2, 1, 1, 1)], 30, 70) },
        Case { images: 9, ..Case::new([ONE, (7, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1)], 100, 130) },
    ];
    for isa in Isa::available() {
        for (index, case) in cases.iter().enumerate() {
            let case = Case { finish: FINISHES[index % 4], ..*case };
            check::<f32>(&pools[1], isa, &case, 29);
            let operands = Operands::<f32>::new(&case);
            let [one, two, five] = [0, 1, 2].map(|pool| {
                let c = compute(&pools[pool], isa, &case, &operands).unwrap();
                c.into_iter().map(Float::bits).collect::<Vec<_>>()
            });
            assert!(one == two && one == five, "{case:?} {isa}");
        }
    }
}

#[test]
fn empty_sums_and_empty_results() {
    let pool = serial();
    let dims = [ONE, (5, 3, 1, 1, 1, 1), (5, 3, 1, 1, 1, 1)];
    let empty_image = [ONE, (0, 3, 1, 1, 2, 2), (4, 3, 1, 1, 1, 1)];
    let no_output = [ONE, (2, 3, 1, 1, 0, 0), (4, 3, 1, 1, 1, 1)];
    for isa in Isa::available() {
        for finish in FINISHES {
            for (cin, cout) in [(4, 5), (8, 70), (0, 3), (3, 0), (2, 20)] {
                for groups in [0, 1, 2] {
                    let case = |dims| Case { finish, groups, ..Case::new(dims, cin, cout) };
                    check::<f32>(&pool, isa, &Case { images: 0, ..case(dims) }, 1);
                    check::<f32>(&pool, isa, &case(empty_image), 1);
                    check::<f32>(&pool, isa, &case(no_output), 1);
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_reach_their_elements_and_no_other() {
    let pool = serial();
    for isa in Isa::available() {
        for (cin, cout) in [(16, 70), (8, 5), (3, 9)] {
            let dims = [ONE, (6, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1)];
            let case = Case { finish: Finish::BiasRelu, ..Case::new(dims, cin, cout) };
            let mut operands = Operands::<f32>::new(&case);
            let strides = case.problem().x.strides;
            // A corner: the taps that would look past it from the other side miss it.
            operands.x[offset([0, 0, 0], strides) + cin - 1] = f32::NAN;
            operands.dy[offset([0, 3, 3], case.problem().dy.strides)] = f32::INFINITY;
            let c = compute(&pool, isa, &case, &operands).unwrap();
            for (index, value) in c.iter().enumerate() {
                let (row, col) = (index / cout, index % cout);
                let (tap, channel) = (row / cin, row % cin);
                let meets_corner = tap / 3 < 2 && tap % 3 < 2;
                let expected = channel == cin - 1 && meets_corner;
                if col > 0 {
                    assert_eq!(value.is_nan(), expected, "{isa} [{row}][{col}] {value}");
                    assert!(value.is_nan() || value.is_finite(), "{isa} [{row}][{col}] {value}");
                } else if !expected {
                    assert!(value.is_infinite() || *value == 0.0, "{isa} [{row}][{col}] {value}");
                }
            }
        }
    }
}

#[test]
fn scratch_that_is_too_small_is_an_error() {
    let case = Case::new([ONE, (9, 3, 1, 1, 1, 1), (9, 3, 1, 1, 1, 1)], 8, 8);
    let problem = case.problem();
    let needed = scratch_bytes::<f32>(Isa::Portable, &problem, 1);
    let operands = Operands::<f32>::new(&case);
    let mut c = vec![0f32; problem.rows() * 8];
    let output = Output { c: c.as_mut_ptr(), row_stride: 8, batch_stride: 0 };
    let mut scratch = vec![0u8; needed - 1];
    let (x, dy, epilogue) = (operands.x.as_ptr(), operands.dy.as_ptr(), Epilogue::Store(output));
    let result =
        unsafe { conv_filter_grad(&serial(), Isa::Portable, &problem, x, dy, &epilogue, &mut scratch) };
    let error = result.unwrap_err();
    assert!(matches!(error, KernelError::Scratch { needed: n, given, .. } if n == needed && given == n - 1));
}

#[test]
fn a_panicking_epilogue_is_an_error() {
    let pool = Pool::new(2).unwrap();
    let case = Case { finish: Finish::Tile, ..Case::new([ONE, ONE, (3, 1, 1, 1, 0, 0)], 3, 3) };
    let problem = case.problem();
    let operands = Operands::<f32>::new(&case);
    let mut scratch = vec![0u8; scratch_bytes::<f32>(Isa::Portable, &problem, 2)];
    let panics = |_: &TileCtx<f32>| panic!("no more");
    let (x, dy, epilogue) = (operands.x.as_ptr(), operands.dy.as_ptr(), Epilogue::Tile(&panics));
    let result = unsafe { conv_filter_grad(&pool, Isa::Portable, &problem, x, dy, &epilogue, &mut scratch) };
    assert!(result.unwrap_err().to_string().contains("no more"));
    check::<f32>(&pool, Isa::Portable, &case, 1);
}
