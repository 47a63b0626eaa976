//! Depthwise convolutions on every instruction set of this machine, against naive sums in `f64`.

mod support;

use graphc_cpu::Geometry;
use graphc_cpu::KernelError;
use graphc_cpu::conv_grad::Pixels;
use graphc_cpu::depthwise::{
    Element, Problem, filter_grad, filter_grad_scratch_bytes, forward, input_grad, scratch_bytes,
};
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
    channels: usize,
    gap: usize,
    finish: Finish,
}

/// Sizes of one dimension: input, kernel, stride, dilation, padding before and after.
type Dim = (usize, usize, usize, usize, usize, usize);

const ONE: Dim = (1, 1, 1, 1, 0, 0);

impl Case {
    fn new(dims: [Dim; 3], channels: usize) -> Case {
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
        Case { geometry, images: 1, channels, gap: 0, finish: Finish::Store }
    }

    fn problem(&self) -> Problem {
        let Case { geometry, images, channels, gap, .. } = *self;
        let pixels = |sizes| {
            let (image_stride, strides) = strides(sizes, channels, gap);
            Pixels { image_stride, strides }
        };
        let (x, dy) = (pixels(geometry.input), pixels(geometry.output));
        Problem { geometry, images, channels, x, dy, tap_stride: channels + gap }
    }
}

struct Operands<T> {
    x: Vec<T>,
    dy: Vec<T>,
    w: Vec<T>,
}

impl<T: Float> Operands<T> {
    fn new(case: &Case) -> Operands<T> {
        let problem = case.problem();
        let mut numbers = Numbers((case.channels * 31 + problem.x.image_stride) as u64);
        Operands {
            x: numbers.array(case.images * problem.x.image_stride),
            dy: numbers.array(case.images * problem.dy.image_stride),
            w: numbers.array(case.geometry.taps() * problem.tap_stride),
        }
    }
}

fn bias(channel: usize) -> f64 {
    channel as f64 / 8.0 - 1.0
}

/// Runs one function with the case's epilogue; rows of the result have a gap.
fn run<T: Float>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    rows: usize,
    bytes: usize,
    function: impl FnOnce(&Epilogue<'_, T>, &mut [u8]) -> Result<(), KernelError>,
) -> Vec<T> {
    let row_stride = case.channels + case.gap;
    let mut c = vec![T::from_f64(UNTOUCHED); rows * row_stride];
    let bias: Vec<T> = (0..case.channels).map(bias).map(T::from_f64).collect();
    let output = Output { c: c.as_mut_ptr(), row_stride, batch_stride: 0 };
    let address = output.c as usize;
    let tile = |tile: &TileCtx<T>| {
        assert!(tile.rows <= BLOCK_ROWS && tile.cols <= block_columns::<T>(isa));
        assert!(tile.thread < pool.threads() && tile.batch == 0);
        for i in 0..tile.rows {
            for j in 0..tile.cols {
                let (row, col) = (tile.row0 + i, tile.col0 + j);
                let sum = unsafe { *tile.acc.add(i * tile.ld + j) } + bias[col];
                let to = (address as *mut T).wrapping_add(row * row_stride + col);
                assert_eq!(unsafe { *to }.into(), UNTOUCHED, "an element came twice");
                unsafe { *to = if sum < T::default() { T::default() } else { sum } };
            }
        }
    };
    let epilogue = match case.finish {
        Finish::Store => Epilogue::Store(output),
        Finish::Bias => Epilogue::Bias(output, bias.as_ptr()),
        Finish::BiasRelu => Epilogue::BiasRelu(output, bias.as_ptr()),
        Finish::Tile => Epilogue::Tile(&tile),
    };
    let mut scratch = Block::new(bytes).unwrap();
    scratch.as_mut_slice().fill(0xff);
    function(&epilogue, scratch.as_mut_slice()).unwrap();
    c
}

/// Sums, the sums of the terms' magnitudes, and the number of terms; dense.
struct Sums(Vec<(f64, f64, f64)>);

impl Sums {
    fn new(case: &Case, rows: usize) -> Sums {
        Sums(vec![(0.0, 0.0, 0.0); rows * case.channels])
    }

    fn add(&mut self, index: usize, term: f64) {
        let (sum, magnitude, terms) = self.0[index];
        self.0[index] = (sum + term, magnitude + term.abs(), terms + 1.0);
    }

    fn compare<T: Float>(&self, case: &Case, name: &str, result: &[T]) {
        let row_stride = case.channels + case.gap;
        for (index, &value) in result.iter().enumerate() {
            let (row, col) = (index / row_stride, index % row_stride);
            let value: f64 = value.into();
            if col >= case.channels {
                assert_eq!(value, UNTOUCHED, "{name} {case:?}: wrote past row {row}");
                continue;
            }
            let (mut sum, mut magnitude, terms) = self.0[row * case.channels + col];
            if case.finish != Finish::Store {
                sum += bias(col);
                magnitude += bias(col).abs();
            }
            if matches!(case.finish, Finish::BiasRelu | Finish::Tile) {
                sum = sum.max(0.0);
            }
            let bound = (terms + 2.0) * T::EPSILON * magnitude;
            assert!((value - sum).abs() <= bound, "{name} {case:?}: [{row}][{col}] is {value}, not {sum}");
        }
    }
}

/// Checks all three functions; returns the bits of all results.
fn check<T: Float + Element>(pool: &Pool, isa: Isa, case: &Case) -> Vec<u64> {
    let Case { geometry, images, channels, .. } = *case;
    let Geometry { input, output, kernel, stride, dilation, pad } = geometry;
    let problem = case.problem();
    let Operands { x, dy, w } = Operands::<T>::new(case);
    let pixels = |sizes: [usize; 3]| images * sizes.iter().product::<usize>();
    let (mut y, mut dx) = (Sums::new(case, pixels(output)), Sums::new(case, pixels(input)));
    let mut dw = Sums::new(case, geometry.taps());
    for image in 0..images {
        for (pixel, window) in positions(output).enumerate() {
            for (tap, offsets) in positions(kernel).enumerate() {
                let Some(at) = meets(window, offsets, (stride, dilation, pad), input) else { continue };
                let from = image * problem.x.image_stride + offset(at, problem.x.strides);
                let to = image * problem.dy.image_stride + offset(window, problem.dy.strides);
                let result = (image * pixels(output) / images + pixel) * channels;
                let source = Pixels::dense(input, channels);
                let source = image * source.image_stride + offset(at, source.strides);
                for channel in 0..channels {
                    let (x, dy) = (x[from + channel].into(), dy[to + channel].into());
                    let w = w[tap * problem.tap_stride + channel].into();
                    y.add(result + channel, x * w);
                    dx.add(source + channel, dy * w);
                    dw.add(tap * channels + channel, x * dy);
                }
            }
        }
    }
    let bytes = scratch_bytes::<T>(isa, pool.threads());
    let result = run::<T>(pool, isa, case, pixels(output), bytes, |epilogue, scratch| unsafe {
        forward(pool, isa, &problem, x.as_ptr(), w.as_ptr(), epilogue, scratch)
    });
    y.compare(case, "forward", &result);
    let mut bits: Vec<u64> = result.into_iter().map(Float::bits).collect();
    let result = run::<T>(pool, isa, case, pixels(input), bytes, |epilogue, scratch| unsafe {
        input_grad(pool, isa, &problem, dy.as_ptr(), w.as_ptr(), epilogue, scratch)
    });
    dx.compare(case, "input gradient", &result);
    bits.extend(result.into_iter().map(Float::bits));
    let bytes = filter_grad_scratch_bytes::<T>(isa, &problem, pool.threads());
    let result = run::<T>(pool, isa, case, geometry.taps(), bytes, |epilogue, scratch| unsafe {
        filter_grad(pool, isa, &problem, x.as_ptr(), dy.as_ptr(), epilogue, scratch)
    });
    dw.compare(case, "filter gradient", &result);
    bits.extend(result.into_iter().map(Float::bits));
    bits
}

fn serial() -> Pool {
    Pool::new(1).unwrap()
}

#[test]
fn all_channel_tails() {
    let pool = serial();
    for isa in Isa::available() {
        for channels in 1..=2 * block_columns::<f32>(isa) + 1 {
            let finish = FINISHES[channels / 3 % 4];
            let kernel = 1 + channels % 8;
            let dims = [ONE, (4, 3, 1, 1, 1, 1), (13, kernel, 1 + channels % 2, 1, kernel / 2, kernel / 2)];
            check::<f32>(&pool, isa, &Case { finish, gap: channels % 3, ..Case::new(dims, channels) });
            check::<f64>(&pool, isa, &Case { finish, ..Case::new(dims, channels) });
        }
    }
}

#[test]
fn random_geometries() {
    let pool = serial();
    let mut numbers = Numbers(31);
    for round in 0..300 {
        let draw = |numbers: &mut Numbers| {
            let (kernel, dilation) = (1 + numbers.below(4), 1 + numbers.below(3));
            let (stride, lo, hi) = (1 + numbers.below(4), numbers.below(5), numbers.below(5));
            let least = (dilation * (kernel - 1) + 1).saturating_sub(lo + hi).max(1);
            (least + numbers.below(9), kernel, stride, dilation, lo, hi)
        };
        let mut dims = [draw(&mut numbers), draw(&mut numbers), draw(&mut numbers)];
        dims[..round % 3].fill(ONE);
        let case = Case {
            images: 1 + numbers.below(2),
            gap: numbers.pick(&[0, 3]),
            finish: numbers.pick(&FINISHES),
            ..Case::new(dims, numbers.pick(&[1, 3, 16, 21]))
        };
        for isa in Isa::available() {
            check::<f32>(&pool, isa, &case);
            check::<f64>(&pool, isa, &case);
        }
    }
}

#[test]
fn large_kernels_and_long_rows() {
    let pool = serial();
    let cases = [
        Case::new([ONE, ONE, (2 * BLOCK_ROWS + 21, 5, 1, 1, 2, 2)], 70),
        Case::new([ONE, (5, 3, 2, 1, 1, 1), (150, 3, 2, 1, 1, 1)], 20),
        // More kernel rows than one call takes.
        Case { images: 2, ..Case::new([(6, 7, 1, 1, 3, 3), (8, 7, 1, 1, 3, 3), (9, 7, 1, 1, 3, 3)], 9) },
        // Kernels larger than the image.
        Case { images: 2, ..Case::new([ONE, (3, 9, 2, 1, 4, 4), (2, 7, 1, 2, 6, 6)], 12) },
        Case::new([ONE, (2, 5, 1, 1, 4, 4), (3, 15, 1, 1, 9, 9)], 17),
    ];
    for isa in Isa::available() {
        for case in cases {
            for finish in [Finish::Store, Finish::Tile] {
                check::<f32>(&pool, isa, &Case { finish, ..case });
                check::<f64>(&pool, isa, &Case { finish, ..case });
            }
        }
    }
}

#[test]
fn empty_images_and_results() {
    let pool = serial();
    for isa in Isa::available() {
        for finish in FINISHES {
            let dims = [ONE, (4, 3, 1, 1, 1, 1), (5, 3, 2, 1, 1, 1)];
            check::<f32>(&pool, isa, &Case { finish, images: 0, ..Case::new(dims, 5) });
            check::<f32>(&pool, isa, &Case { finish, ..Case::new(dims, 0) });
            let empty = [ONE, (0, 3, 1, 1, 2, 2), (5, 3, 1, 1, 1, 1)];
            check::<f32>(&pool, isa, &Case { finish, ..Case::new(empty, 20) });
            let no_output = [ONE, (2, 3, 1, 1, 0, 0), (5, 3, 1, 1, 1, 1)];
            check::<f32>(&pool, isa, &Case { finish, ..Case::new(no_output, 20) });
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let pools = [serial(), Pool::new(2).unwrap(), Pool::new(5).unwrap()];
    for isa in Isa::available() {
        for finish in [Finish::Store, Finish::Tile] {
            let dims = [ONE, (30, 3, 2, 1, 1, 1), (31, 3, 1, 1, 1, 1)];
            let case = Case { finish, images: 3, gap: 1, ..Case::new(dims, 100) };
            let [one, two, five] = [0, 1, 2].map(|pool| check::<f32>(&pools[pool], isa, &case));
            assert!(one == two && one == five, "{isa} {finish:?}");
        }
    }
}

#[test]
fn nan_reaches_the_windows_that_hold_it_and_no_other() {
    let pool = serial();
    for isa in Isa::available() {
        let case = Case::new([ONE, (6, 3, 1, 1, 1, 1), (12, 3, 1, 1, 1, 1)], 20);
        let problem = case.problem();
        let mut operands = Operands::<f32>::new(&case);
        operands.x[offset([0, 0, 11], problem.x.strides) + 7] = f32::NAN;
        let bytes = scratch_bytes::<f32>(isa, 1);
        let y = run::<f32>(&pool, isa, &case, 72, bytes, |epilogue, scratch| unsafe {
            forward(&pool, isa, &problem, operands.x.as_ptr(), operands.w.as_ptr(), epilogue, scratch)
        });
        for (index, value) in y.iter().enumerate() {
            let (pixel, channel) = (index / 20, index % 20);
            let expected = channel == 7 && pixel / 12 < 2 && pixel % 12 >= 10;
            assert_eq!(value.is_nan(), expected, "{isa} {pixel} {channel}");
        }
    }
}

#[test]
fn failures_are_errors() {
    let pool = Pool::new(2).unwrap();
    let case = Case::new([ONE, ONE, (9, 3, 1, 1, 1, 1)], 3);
    let problem = case.problem();
    let Operands { x, dy, w } = Operands::<f32>::new(&case);
    let isa = Isa::Portable;
    let panics = |_: &TileCtx<f32>| panic!("no more");
    let epilogue = Epilogue::Tile(&panics);
    let mut scratch = vec![0u8; scratch_bytes::<f32>(isa, 2)];
    let given = scratch.len() - 1;
    let (x, dy, w) = (x.as_ptr(), dy.as_ptr(), w.as_ptr());
    let error = unsafe { forward(&pool, isa, &problem, x, w, &epilogue, &mut scratch).unwrap_err() };
    assert!(error.to_string().contains("no more"));
    let short = &mut scratch[..given];
    let error = unsafe { input_grad(&pool, isa, &problem, dy, w, &epilogue, short).unwrap_err() };
    assert!(matches!(error, KernelError::Scratch { given: g, .. } if g == given));
    let mut scratch = vec![0u8; filter_grad_scratch_bytes::<f32>(isa, &problem, 2)];
    let error = unsafe { filter_grad(&pool, isa, &problem, x, dy, &epilogue, &mut scratch).unwrap_err() };
    assert!(error.to_string().contains("no more"));
    let given = scratch.len() - 1;
    let short = &mut scratch[..given];
    let error = unsafe { filter_grad(&pool, isa, &problem, x, dy, &epilogue, short).unwrap_err() };
    assert!(matches!(error, KernelError::Scratch { given: g, .. } if g == given));
}
