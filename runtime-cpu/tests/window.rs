//! Pooling on every instruction set of this machine, against definitions in scalar code.

mod support;

use graphc_cpu::Geometry;
use graphc_cpu::KernelError;
use graphc_cpu::conv_grad::Pixels;
use graphc_cpu::gemm::{BLOCK_ROWS, Epilogue, Output, TileCtx, block_columns};
use graphc_cpu::isa::Isa;
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;
use graphc_cpu::window::{
    Divisor, Element, Images, Problem, avg_pool, avg_pool_grad, max_pool, scratch_bytes, window_gather,
    window_scatter,
};
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
    divisor: Divisor,
    finish: Finish,
}

/// Sizes of one dimension: input, output, kernel, stride, dilation, padding before and after.
type Dim = (usize, usize, usize, usize, usize, usize, usize);

const ONE: Dim = (1, 1, 1, 1, 1, 0, 0);

fn dim(input: usize, kernel: usize, stride: usize, dilation: usize, lo: usize, hi: usize) -> Dim {
    let free = (input + lo + hi).checked_sub(dilation * (kernel - 1) + 1);
    (input, free.map_or(0, |free| free / stride + 1), kernel, stride, dilation, lo, hi)
}

impl Case {
    fn new(dims: [Dim; 3], channels: usize) -> Case {
        let of = |part: fn(Dim) -> usize| dims.map(part);
        let geometry = Geometry {
            input: of(|dim| dim.0),
            output: of(|dim| dim.1),
            kernel: of(|dim| dim.2),
            stride: of(|dim| dim.3),
            dilation: of(|dim| dim.4),
            pad: of(|dim| dim.5),
        };
        let (divisor, finish) = (Divisor::WithPadding(of(|dim| dim.6)), Finish::Store);
        Case { geometry, images: 1, channels, gap: 0, divisor, finish }
    }

    fn problem(&self) -> Problem {
        Problem { geometry: self.geometry, images: self.images, channels: self.channels }
    }

    fn pixels(&self, sizes: [usize; 3]) -> Pixels {
        let (image_stride, strides) = strides(sizes, self.channels, self.gap);
        Pixels { image_stride, strides }
    }

    /// The input position of an offset in a window, unless it is padding.
    fn at(&self, window: [usize; 3], tap: [usize; 3]) -> Option<[usize; 3]> {
        let Geometry { input, stride, dilation, pad, .. } = self.geometry;
        meets(window, tap, (stride, dilation, pad), input)
    }

    fn count(&self, window: [usize; 3]) -> f64 {
        let Geometry { input, kernel, stride, dilation, pad, .. } = self.geometry;
        let counted = |tap: &[usize; 3]| match self.divisor {
            Divisor::Elements => self.at(window, *tap).is_some(),
            Divisor::WithPadding(after) => (0..3).all(|dim| {
                window[dim] * stride[dim] + tap[dim] * dilation[dim] < pad[dim] + input[dim] + after[dim]
            }),
        };
        positions(kernel).filter(counted).count().max(1) as f64
    }

    fn each_tap(&self, mut tap: impl FnMut(usize, [usize; 3], i32, [usize; 3])) {
        for image in 0..self.images {
            for window in positions(self.geometry.output) {
                for (index, offset) in positions(self.geometry.kernel).enumerate() {
                    if let Some(at) = self.at(window, offset) {
                        tap(image, window, index as i32, at);
                    }
                }
            }
        }
    }
}

/// A whole result: dense, channels-last.
struct Dense<'a> {
    case: &'a Case,
    sizes: [usize; 3],
    values: Vec<f64>,
}

impl<'a> Dense<'a> {
    fn new(case: &'a Case, sizes: [usize; 3], value: f64) -> Dense<'a> {
        let values = vec![value; case.images * sizes.iter().product::<usize>() * case.channels];
        Dense { case, sizes, values }
    }

    fn at(&mut self, image: usize, position: [usize; 3], channel: usize) -> &mut f64 {
        let pixels = Pixels::dense(self.sizes, self.case.channels);
        &mut self.values[image * pixels.image_stride + offset(position, pixels.strides) + channel]
    }
}

/// An operand with gaps.
struct Array<T> {
    data: Vec<T>,
    pixels: Pixels,
}

impl<T: Copy> Array<T> {
    fn images(&self) -> Images<T> {
        Images { data: self.data.as_ptr(), pixels: self.pixels }
    }

    fn get(&self, image: usize, position: [usize; 3], channel: usize) -> T {
        self.data[image * self.pixels.image_stride + offset(position, self.pixels.strides) + channel]
    }
}

fn random<T: Float>(case: &Case, sizes: [usize; 3], seed: u64) -> Array<T> {
    let pixels = case.pixels(sizes);
    // Few different numbers, so that maxima are not unique.
    let data: Vec<T> = Numbers(seed).array(case.images * pixels.image_stride);
    let data = data.into_iter().map(|x| T::from_f64((x.into() * 4.0).round() / 4.0)).collect();
    Array { data, pixels }
}

/// Runs one function with the case's epilogue; rows of the result have a gap.
fn run<T: Float + Element>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    sizes: [usize; 3],
    function: impl FnOnce(&Epilogue<'_, T>, &mut [u8]) -> Result<(), KernelError>,
) -> Vec<T> {
    let row_stride = case.channels + case.gap;
    let rows = case.images * sizes.iter().product::<usize>();
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
    let mut scratch = Block::new(scratch_bytes::<T>(isa, pool.threads())).unwrap();
    scratch.as_mut_slice().fill(0xff);
    function(&epilogue, scratch.as_mut_slice()).unwrap();
    c
}

fn bias(channel: usize) -> f64 {
    channel as f64 / 8.0 - 1.0
}

/// Compares a result, with gaps, with what it should be before the epilogue.
fn compare<T: Float>(case: &Case, name: &str, result: &[T], expected: &Dense<'_>, bound: f64) {
    let row_stride = case.channels + case.gap;
    for (index, &value) in result.iter().enumerate() {
        let (row, col) = (index / row_stride, index % row_stride);
        let value: f64 = value.into();
        if col >= case.channels {
            assert_eq!(value, UNTOUCHED, "{name} {case:?}: wrote past row {row}");
            continue;
        }
        let mut wanted = expected.values[row * case.channels + col];
        if case.finish != Finish::Store {
            wanted += bias(col);
        }
        if matches!(case.finish, Finish::BiasRelu | Finish::Tile) && wanted < 0.0 {
            wanted = 0.0;
        }
        let same = value == wanted || (value - wanted).abs() <= bound || value.is_nan() && wanted.is_nan();
        assert!(same, "{name} {case:?}: [{row}][{col}] is {value}, not {wanted}");
    }
}

/// Checks all five functions; returns the bits of all results.
fn check<T: Float + Element>(pool: &Pool, isa: Isa, case: &Case) -> Vec<u64> {
    let Geometry { input, output, kernel, .. } = case.geometry;
    let problem = case.problem();
    let x = random::<T>(case, input, 1);
    let g = random::<T>(case, output, 2);
    let bound = kernel.iter().product::<usize>() as f64 * 8.0 * T::EPSILON;
    let mut bits = Vec::new();
    let mut keep = |values: &[T]| bits.extend(values.iter().map(|value| value.bits()));

    let (mut most, mut first) = (Dense::new(case, output, f64::NEG_INFINITY), Dense::new(case, output, -1.0));
    let mut means = Dense::new(case, output, 0.0);
    case.each_tap(|image, window, index, at| {
        for channel in 0..case.channels {
            let x: f64 = x.get(image, at, channel).into();
            let most = most.at(image, window, channel);
            let first = first.at(image, window, channel);
            if *first < 0.0 || x > *most || x.is_nan() && !most.is_nan() {
                (*most, *first) = (x, f64::from(index));
            }
            *means.at(image, window, channel) += x / case.count(window);
        }
    });
    let mut winner = vec![-7i32; most.values.len()];
    let result = run::<T>(pool, isa, case, output, |epilogue, scratch| unsafe {
        max_pool(pool, isa, &problem, x.images(), winner.as_mut_ptr(), epilogue, scratch)
    });
    compare(case, "max", &result, &most, 0.0);
    keep(&result);
    let expected: Vec<i32> = first.values.iter().map(|&offset| offset.max(0.0) as i32).collect();
    assert_eq!(winner, expected, "{case:?}");

    let result = run::<T>(pool, isa, case, output, |epilogue, scratch| unsafe {
        avg_pool(pool, isa, &problem, case.divisor, x.images(), epilogue, scratch)
    });
    compare(case, "mean", &result, &means, bound);
    keep(&result);

    // Winners of any kind, padding and positions that are in no window too.
    let taps = kernel.iter().product::<usize>();
    let mut numbers = Numbers(5);
    let pixels = case.pixels(output);
    let data = (0..case.images * pixels.image_stride).map(|_| numbers.below(taps + 1) as i32).collect();
    let winner = Array { data, pixels };
    let (mut scattered, mut gathered) = (Dense::new(case, input, 0.0), Dense::new(case, output, 0.0));
    let mut spread = Dense::new(case, input, 0.0);
    case.each_tap(|image, window, index, at| {
        for channel in 0..case.channels {
            let value: f64 = g.get(image, window, channel).into();
            if winner.get(image, window, channel) == index {
                *scattered.at(image, at, channel) += value;
                *gathered.at(image, window, channel) = x.get(image, at, channel).into();
            }
            *spread.at(image, at, channel) += value / case.count(window);
        }
    });
    let result = run::<T>(pool, isa, case, output, |epilogue, scratch| unsafe {
        window_gather(pool, isa, &problem, x.images(), winner.images(), epilogue, scratch)
    });
    compare(case, "gather", &result, &gathered, 0.0);
    keep(&result);
    let result = run::<T>(pool, isa, case, input, |epilogue, scratch| unsafe {
        window_scatter(pool, isa, &problem, g.images(), winner.images(), epilogue, scratch)
    });
    compare(case, "scatter", &result, &scattered, bound);
    keep(&result);
    let result = run::<T>(pool, isa, case, input, |epilogue, scratch| unsafe {
        avg_pool_grad(pool, isa, &problem, case.divisor, g.images(), epilogue, scratch)
    });
    compare(case, "spread", &result, &spread, bound);
    keep(&result);
    bits
}

fn serial() -> Pool {
    Pool::new(1).unwrap()
}

#[test]
fn all_channel_tails() {
    let pool = serial();
    for isa in Isa::available() {
        for channels in (1..=2 * block_columns::<f32>(isa) + 1).filter(|channels| channels % 7 < 4) {
            let dims = [ONE, dim(5, 3, 2, 1, 1, 1), dim(6, 2, 1, 1, 0, 1)];
            let finish = FINISHES[channels / 3 % 4];
            check::<f32>(&pool, isa, &Case { finish, gap: channels % 2, ..Case::new(dims, channels) });
            check::<f64>(&pool, isa, &Case { finish, ..Case::new(dims, channels) });
        }
    }
}

#[test]
fn random_geometries() {
    let pool = serial();
    let mut numbers = Numbers(21);
    for round in 0..300 {
        let draw = |numbers: &mut Numbers| {
            let (kernel, dilation) = (1 + numbers.below(4), 1 + numbers.below(3));
            let (stride, lo, hi) = (1 + numbers.below(4), numbers.below(4), numbers.below(4));
            let least = (dilation * (kernel - 1) + 1).saturating_sub(lo + hi).max(1);
            let mut drawn = dim(least + numbers.below(6), kernel, stride, dilation, lo, hi);
            // A last window that runs past the padding, as in ceil mode, where it still starts before that.
            if numbers.below(2) == 0 && drawn.1 * stride < drawn.0 + lo {
                drawn.1 += 1;
            }
            drawn
        };
        let mut dims = [draw(&mut numbers), draw(&mut numbers), draw(&mut numbers)];
        dims[..round % 3].fill(ONE);
        let after = dims.map(|dim| dim.6);
        let case = Case {
            images: 1 + numbers.below(2),
            gap: numbers.pick(&[0, 3]),
            divisor: numbers.pick(&[Divisor::WithPadding(after), Divisor::Elements]),
            finish: numbers.pick(&FINISHES),
            ..Case::new(dims, numbers.pick(&[1, 3, 8, 19, 40]))
        };
        for isa in Isa::available() {
            check::<f32>(&pool, isa, &case);
            check::<f64>(&pool, isa, &case);
        }
    }
}

#[test]
fn rows_longer_than_a_block_and_windows_as_large_as_the_image() {
    let pool = serial();
    for isa in Isa::available() {
        for finish in FINISHES {
            let long = [ONE, dim(4, 2, 2, 1, 0, 0), dim(2 * BLOCK_ROWS + 9, 3, 1, 1, 1, 1)];
            check::<f32>(&pool, isa, &Case { finish, ..Case::new(long, 70) });
            let whole = [dim(3, 3, 1, 1, 0, 0), dim(9, 9, 1, 1, 0, 0), dim(11, 11, 11, 1, 0, 0)];
            check::<f32>(&pool, isa, &Case { finish, images: 2, ..Case::new(whole, 33) });
            let padded = [ONE, dim(3, 9, 2, 1, 4, 4), dim(2, 7, 1, 2, 6, 6)];
            check::<f64>(&pool, isa, &Case { finish, images: 2, ..Case::new(padded, 12) });
        }
    }
}

#[test]
fn empty_images_and_results() {
    let pool = serial();
    for isa in Isa::available() {
        for finish in FINISHES {
            let dims = [ONE, dim(4, 2, 2, 1, 0, 0), dim(4, 3, 1, 1, 1, 1)];
            check::<f32>(&pool, isa, &Case { finish, images: 0, ..Case::new(dims, 5) });
            check::<f32>(&pool, isa, &Case { finish, ..Case::new(dims, 0) });
            // Windows in padding alone.
            let empty = [ONE, dim(0, 2, 1, 1, 1, 1), dim(4, 3, 1, 1, 1, 1)];
            for divisor in [Divisor::WithPadding([0, 1, 1]), Divisor::Elements] {
                check::<f32>(&pool, isa, &Case { finish, divisor, ..Case::new(empty, 5) });
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let pools = [serial(), Pool::new(2).unwrap(), Pool::new(5).unwrap()];
    for isa in Isa::available() {
        for finish in [Finish::Store, Finish::Tile] {
            let dims = [ONE, dim(30, 3, 2, 1, 1, 1), dim(31, 3, 2, 1, 1, 1)];
            let case = Case { finish, images: 3, gap: 1, ..Case::new(dims, 100) };
            let [one, two, five] = [0, 1, 2].map(|pool| check::<f32>(&pools[pool], isa, &case));
            assert!(one == two && one == five, "{isa} {finish:?}");
        }
    }
}

#[test]
fn the_first_nan_wins_and_infinities_compare() {
    let pool = serial();
    let case = Case::new([ONE, dim(2, 2, 1, 1, 0, 0), dim(4, 2, 2, 1, 0, 0)], 40);
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let windows: [([f32; 4], f32, i32); 6] = [
        ([1.0, nan, 3.0, nan], nan, 1),
        ([nan, 1.0, infinity, 2.0], nan, 0),
        ([-infinity, -infinity, -infinity, -infinity], -infinity, 0),
        ([-infinity, -infinity, -1.0, -1.0], -1.0, 2),
        ([0.0, -0.0, infinity, infinity], infinity, 2),
        ([-0.0, 0.0, -0.0, 0.0], 0.0, 0),
    ];
    for isa in Isa::available() {
        for pair in windows.chunks(2) {
            let mut x = vec![0f32; 2 * 4 * 40];
            for (window, (values, ..)) in pair.iter().enumerate() {
                for (tap, value) in values.iter().enumerate() {
                    let pixel = tap / 2 * 4 + window * 2 + tap % 2;
                    x[pixel * 40..][..40].fill(*value);
                }
            }
            let images = Images { data: x.as_ptr(), pixels: case.pixels([1, 2, 4]) };
            let mut winner = vec![-1i32; 2 * 40];
            let to = winner.as_mut_ptr();
            let values = run::<f32>(&pool, isa, &case, [1, 1, 2], |epilogue, scratch| unsafe {
                max_pool(&pool, isa, &case.problem(), images, to, epilogue, scratch)
            });
            for (window, &(_, most, first)) in pair.iter().enumerate() {
                for channel in window * 40..(window + 1) * 40 {
                    let value = values[channel];
                    assert!(value == most || value.is_nan() && most.is_nan(), "{isa} {value} {most}");
                    assert_eq!(winner[channel], first, "{isa}");
                }
            }
        }
    }
}

#[test]
fn means_count_what_they_should() {
    // Input 4, window 3, stride 2, padding 1 and 1, ceil mode: windows at -1, 1 and 3.
    let pool = serial();
    let case = Case::new([ONE, ONE, (4, 3, 3, 2, 1, 1, 1)], 1);
    let x = [1.0f64, 2.0, 3.0, 4.0];
    for (divisor, expected) in [
        (Divisor::WithPadding([0, 0, 1]), [3.0 / 3.0, 9.0 / 3.0, 4.0 / 2.0]),
        (Divisor::Elements, [3.0 / 2.0, 9.0 / 3.0, 4.0 / 1.0]),
    ] {
        let images = Images { data: x.as_ptr(), pixels: case.pixels([1, 1, 4]) };
        let means = run::<f64>(&pool, Isa::Portable, &case, [1, 1, 3], |epilogue, scratch| unsafe {
            avg_pool(&pool, Isa::Portable, &case.problem(), divisor, images, epilogue, scratch)
        });
        assert_eq!(means, expected);
    }
}

#[test]
fn failures_are_errors() {
    let pool = Pool::new(2).unwrap();
    let case = Case::new([ONE, ONE, dim(9, 3, 1, 1, 1, 1)], 3);
    let x = random::<f32>(&case, case.geometry.input, 3);
    let mut scratch = vec![0u8; scratch_bytes::<f32>(Isa::Portable, 2)];
    let mean = |scratch: &mut [u8]| {
        let panics = |_: &TileCtx<f32>| panic!("no more");
        let (problem, epilogue) = (case.problem(), Epilogue::Tile(&panics));
        let divisor = Divisor::Elements;
        unsafe { avg_pool(&pool, Isa::Portable, &problem, divisor, x.images(), &epilogue, scratch) }
            .unwrap_err()
    };
    assert!(mean(&mut scratch).to_string().contains("no more"));
    let given = scratch.len() - 1;
    assert!(matches!(mean(&mut scratch[..given]), KernelError::Scratch { given: g, .. } if g == given));
}
