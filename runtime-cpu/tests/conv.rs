//! Convolutions on every instruction set of this machine, against naive sums in `f64`.

use graphc_cpu::conv::{
    FilterSource, Geometry, Problem, conv, pack_filters, pack_filters_parallel, packed_filters_len,
    scratch_bytes,
};
use graphc_cpu::gemm::{BLOCK_ROWS, Element, Epilogue, GemmError, Output, TileCtx, block_columns};
use graphc_cpu::isa::Isa;
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;

trait Float: Element + Into<f64> + std::fmt::Debug {
    const EPSILON: f64;
    fn from_f64(x: f64) -> Self;
    fn bits(self) -> u64;
}

impl Float for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Float for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn from_f64(x: f64) -> f64 {
        x
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Numbers from a linear congruential generator (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    /// In [-1, 1).
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    fn below(&mut self, end: usize) -> usize {
        (((self.draw() + 1.0) / 2.0) * end as f64) as usize
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn array<T: Float>(&mut self, len: usize) -> Vec<T> {
        (0..len).map(|_| T::from_f64(self.draw())).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Finish {
    Store,
    Bias,
    BiasRelu,
    /// Bias and relu by a function.
    Tile,
}

const FINISHES: [Finish; 4] = [Finish::Store, Finish::Bias, Finish::BiasRelu, Finish::Tile];

/// How filters lie before they are packed, outermost dim first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    TapInOut,
    TapOutIn,
    OutInTap,
}

const FORMS: [Form; 3] = [Form::TapInOut, Form::TapOutIn, Form::OutInTap];

#[derive(Clone, Copy, Debug)]
struct Case {
    images: usize,
    groups: usize,
    cin: usize,
    cout: usize,
    geometry: Geometry,
    form: Form,
    finish: Finish,
    /// Elements between the end of a pixel and the next, and at the end of rows and images.
    gap: usize,
}

impl Case {
    /// A two-dimensional convolution of stride 1 that keeps an odd filter's image size.
    fn same(images: usize, size: [usize; 2], kernel: usize, cin: usize, cout: usize) -> Case {
        let geometry = Geometry {
            input: [1, size[0], size[1]],
            output: [1, size[0], size[1]],
            kernel: [1, kernel, kernel],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0, kernel / 2, kernel / 2],
            transposed: false,
        };
        Case { images, groups: 1, cin, cout, geometry, form: Form::TapInOut, finish: Finish::Store, gap: 0 }
    }

    fn problem(&self) -> Problem {
        let Case { images, groups, cin, cout, geometry, gap, .. } = *self;
        let [d, h, w] = geometry.input;
        let pixel = groups * cin + gap;
        let row = w * pixel + gap;
        let plane = h * row + gap;
        let image_stride = d * plane + gap;
        Problem { images, groups, cin, cout, geometry, image_stride, pixel_strides: [plane, row, pixel] }
    }

    fn k(&self) -> usize {
        self.geometry.taps() * self.cin
    }

    fn source<T>(&self, filters: *const T) -> FilterSource<T> {
        let Case { groups, cin, cout, .. } = *self;
        let taps = self.geometry.taps();
        let (tap_stride, in_stride, out_stride) = match self.form {
            Form::TapInOut => (cin * cout, cout, 1),
            Form::TapOutIn => (cin * cout, 1, cin),
            Form::OutInTap => (1, taps, cin * taps),
        };
        let group_stride = cin * cout * taps;
        FilterSource { filters, groups, taps, cin, cout, group_stride, tap_stride, in_stride, out_stride }
    }

    fn filter_index(&self, group: usize, tap: usize, i: usize, o: usize) -> usize {
        let source = self.source(std::ptr::null::<f32>());
        group * source.group_stride + tap * source.tap_stride + i * source.in_stride + o * source.out_stride
    }

    /// Calls `visit` with each tap and the offset of the pixel that output pixel `at` reads with it.
    fn each_read(&self, image: usize, at: usize, mut visit: impl FnMut(usize, usize)) {
        let Geometry { input, output, kernel, stride, dilation, pad, transposed } = self.geometry;
        let at = [at / output[2] / output[1], at / output[2] % output[1], at % output[2]];
        let problem = self.problem();
        for tap in 0..self.geometry.taps() {
            let taps = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
            let mut offset = image * problem.image_stride;
            let inside = (0..3).all(|dim| {
                let (p, pad, t) = (at[dim] as isize, pad[dim] as isize, (taps[dim] * dilation[dim]) as isize);
                let stride = stride[dim] as isize;
                let read = if transposed {
                    if (p + pad - t) % stride != 0 {
                        return false;
                    }
                    (p + pad - t) / stride
                } else {
                    p * stride - pad + t
                };
                offset = offset.wrapping_add((read as usize).wrapping_mul(problem.pixel_strides[dim]));
                (0..input[dim] as isize).contains(&read)
            });
            if inside {
                visit(tap, offset);
            }
        }
    }
}

struct Operands<T> {
    x: Vec<T>,
    filters: Vec<T>,
    bias: Vec<T>,
}

impl<T: Float> Operands<T> {
    fn new(case: &Case) -> Operands<T> {
        let mut numbers = Numbers((case.cin * 31 + case.cout * 7 + case.geometry.pixels()) as u64);
        Operands {
            x: numbers.array(case.problem().image_stride * case.images),
            filters: numbers.array(case.groups * case.k() * case.cout),
            bias: numbers.array(case.groups * case.cout),
        }
    }
}

/// Columns of C that no convolution may touch hold this.
const UNTOUCHED: f64 = -77.0;

fn compute<T: Float>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    operands: &Operands<T>,
) -> Result<Vec<T>, GemmError> {
    let Case { groups, cin, cout, geometry, .. } = *case;
    let problem = case.problem();
    let pixels = case.images * geometry.pixels();
    let row_stride = groups * cout + case.gap;
    let mut c = vec![T::from_f64(UNTOUCHED); pixels * row_stride];
    let packed = packed_filters_len::<T>(isa, groups, geometry.taps(), cin, cout);
    let mut filters = Block::new(packed * size_of::<T>()).unwrap();
    let to = filters.as_mut_ptr().cast::<T>();
    unsafe { pack_filters(isa, &case.source(operands.filters.as_ptr()), to) };
    let output = Output { c: c.as_mut_ptr(), row_stride, batch_stride: 0 };
    let bias = operands.bias.as_ptr();
    let address = output.c as usize;
    let tile = |tile: &TileCtx<T>| {
        assert!(
            tile.rows <= BLOCK_ROWS && tile.cols <= block_columns::<T>(isa) && tile.thread < pool.threads()
        );
        assert_eq!(tile.batch, 0);
        for i in 0..tile.rows {
            for j in 0..tile.cols {
                let (row, col) = (tile.row0 + i, tile.col0 + j);
                let sum = unsafe { *tile.acc.add(i * tile.ld + j) } + operands.bias[col];
                let value = if sum < T::default() { T::default() } else { sum };
                let to = (address as *mut T).wrapping_add(row * row_stride + col);
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
    unsafe { conv(pool, isa, &problem, operands.x.as_ptr(), to, &epilogue, scratch.as_mut_slice())? };
    Ok(c)
}

/// Computes a case and compares each element with a naive sum; the bound is that of a sum of `k`
/// rounded products in any order (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.5).
fn check<T: Float>(pool: &Pool, isa: Isa, case: &Case) {
    let operands = Operands::<T>::new(case);
    let c = compute(pool, isa, case, &operands).unwrap();
    compare(isa, case, &operands, &c, (case.k() as f64 + 2.0) * T::EPSILON);
}

fn compare<T: Float>(isa: Isa, case: &Case, operands: &Operands<T>, c: &[T], bound: f64) {
    let Case { groups, cin, cout, .. } = *case;
    let row_stride = groups * cout + case.gap;
    let pixels = case.geometry.pixels();
    for row in 0..case.images * pixels {
        let mut reads = Vec::new();
        case.each_read(row / pixels, row % pixels, |tap, offset| reads.push((tap, offset)));
        for col in 0..row_stride {
            let value: f64 = c[row * row_stride + col].into();
            if col >= groups * cout {
                assert_eq!(value, UNTOUCHED, "{case:?} {isa}: wrote past row {row}");
                continue;
            }
            let (group, o) = (col / cout, col % cout);
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for &(tap, offset) in &reads {
                for i in 0..cin {
                    let x: f64 = operands.x[offset + group * cin + i].into();
                    let filter: f64 = operands.filters[case.filter_index(group, tap, i, o)].into();
                    sum += x * filter;
                    magnitude += (x * filter).abs();
                }
            }
            if case.finish != Finish::Store {
                let bias: f64 = operands.bias[col].into();
                sum += bias;
                magnitude += bias.abs();
            }
            if matches!(case.finish, Finish::BiasRelu | Finish::Tile) {
                sum = sum.max(0.0);
            }
            assert!(
                (value - sum).abs() <= bound * magnitude,
                "{case:?} {isa}: pixel {row} channel {col} is {value}, not {sum}"
            );
        }
    }
}

fn serial() -> Pool {
    Pool::new(1).unwrap()
}

/// The output's size along a dim whose high padding is `high`, or 0 where no window fits.
fn windows(input: usize, kernel: usize, stride: usize, dilation: usize, padding: usize) -> usize {
    let reach = dilation * (kernel - 1) + 1;
    if input + padding < reach { 0 } else { (input + padding - reach) / stride + 1 }
}

/// A small case of 1 to 3 dims with any strides, dilations and paddings.
fn any_case(numbers: &mut Numbers) -> Case {
    let dims = 1 + numbers.below(3);
    let mut geometry = Geometry {
        input: [1; 3],
        output: [1; 3],
        kernel: [1; 3],
        stride: [1; 3],
        dilation: [1; 3],
        pad: [0; 3],
        transposed: numbers.below(2) == 1,
    };
    let largest = [14, 9, 5][dims - 1];
    for dim in 3 - dims..3 {
        let (kernel, stride) = (1 + numbers.below(5), 1 + numbers.below(3));
        let (dilation, low) = (1 + numbers.below(3), numbers.below(4));
        let high = numbers.below(4);
        // The sizes of a convolution, and of its gradient.
        let large = 1 + numbers.below(largest);
        let small = windows(large, kernel, stride, dilation, low + high).max(1);
        let sizes = if geometry.transposed { (small, large) } else { (large, small) };
        (geometry.input[dim], geometry.output[dim]) = sizes;
        (geometry.kernel[dim], geometry.stride[dim]) = (kernel, stride);
        (geometry.dilation[dim], geometry.pad[dim]) = (dilation, low);
    }
    let channels = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20];
    Case {
        images: 1 + numbers.below(3),
        groups: numbers.one_of(&[1, 1, 1, 2, 3]),
        cin: numbers.one_of(&channels),
        cout: numbers.one_of(&channels),
        geometry,
        form: numbers.one_of(&FORMS),
        finish: numbers.one_of(&FINISHES),
        gap: numbers.one_of(&[0, 0, 1, 3]),
    }
}

fn any_geometry<T: Float>() {
    let pool = serial();
    let mut numbers = Numbers(size_of::<T>() as u64);
    for _ in 0..400 {
        let case = any_case(&mut numbers);
        for isa in Isa::available() {
            check::<T>(&pool, isa, &case);
        }
    }
}

#[test]
fn any_geometry_in_f32() {
    any_geometry::<f32>();
}

#[test]
fn any_geometry_in_f64() {
    any_geometry::<f64>();
}

#[test]
fn all_tails_of_channels() {
    let pool = serial();
    let channels = [1, 2, 3, 4, 5, 15, 16, 17, 31, 63, 64, 65];
    for isa in Isa::available() {
        for (i, cin) in channels.into_iter().enumerate() {
            for (o, cout) in channels.into_iter().chain([127, 129]).enumerate() {
                let (form, finish) = (FORMS[(i + o) % 3], FINISHES[(i + o / 3) % 4]);
                let mut case = Case { form, finish, ..Case::same(1, [3 + o % 3, 5], 3, cin, cout) };
                case.geometry.transposed = (i + o) % 2 == 1;
                check::<f32>(&pool, isa, &case);
                if (i + o) % 5 == 0 {
                    check::<f64>(&pool, isa, &case);
                }
            }
        }
    }
}

#[test]
fn single_pixels_and_filters_larger_than_the_image() {
    let pool = serial();
    for isa in Isa::available() {
        for transposed in [false, true] {
            for (images, size, kernel, pad) in [
                (1, [1, 1], 1, 0),
                (1, [1, 1], 3, 1),
                (30, [1, 1], 3, 1),
                (2, [2, 3], 7, 3),
                (1, [1, 9], 13, 6),
            ] {
                for finish in FINISHES {
                    let mut case = Case { finish, ..Case::same(images, size, kernel, 19, 70) };
                    case.geometry.pad = [0, pad, pad];
                    case.geometry.transposed = transposed;
                    check::<f32>(&pool, isa, &case);
                }
            }
        }
    }
}

#[test]
fn windows_without_any_pixel_are_the_epilogue_of_zero() {
    let pool = serial();
    for isa in Isa::available() {
        for finish in FINISHES {
            // Padding is wider than the filter, and strides of the gradient leave pixels out.
            let mut case = Case { finish, ..Case::same(2, [4, 5], 2, 3, 33) };
            case.geometry.output = [1, 12, 13];
            case.geometry.pad = [0, 4, 4];
            check::<f32>(&pool, isa, &case);
            case.geometry.transposed = true;
            case.geometry.stride = [1, 3, 3];
            check::<f32>(&pool, isa, &case);
            check::<f32>(&pool, isa, &Case { cin: 0, ..case });
        }
    }
}

#[test]
fn nothing_to_make_is_no_error() {
    let pool = serial();
    for isa in Isa::available() {
        let case = Case::same(1, [3, 3], 3, 2, 4);
        check::<f32>(&pool, isa, &Case { images: 0, ..case });
        check::<f32>(&pool, isa, &Case { cout: 0, ..case });
        let mut empty = case;
        empty.geometry.output = [1, 0, 3];
        check::<f32>(&pool, isa, &empty);
    }
}

#[test]
fn long_sums_are_cut_into_blocks() {
    let pool = serial();
    for isa in Isa::available() {
        for (k, finish) in FINISHES.into_iter().enumerate() {
            // Blocks of whole taps, and of some channels of one tap.
            for (kernel, cin) in [(3, 300 + k), (5, 171), (1, 4099), (2, 2050 + k)] {
                let mut case = Case { finish, gap: 1, ..Case::same(1, [3, 9], kernel, cin, 21) };
                check::<f32>(&pool, isa, &case);
                case.geometry.transposed = true;
                check::<f32>(&pool, isa, &case);
            }
        }
    }
}

#[test]
fn thin_inputs_are_folded() {
    let pool = serial();
    for isa in Isa::available() {
        for (index, (kernel, stride, cin)) in
            [(7, 2, 3), (7, 2, 1), (3, 1, 4), (5, 3, 12), (2, 1, 1), (11, 4, 3), (3, 2, 21)]
                .into_iter()
                .enumerate()
        {
            for (low, high) in [(0, 0), (kernel / 2, kernel / 2), (0, 2), (kernel + 3, 1)] {
                for gap in [0, 1] {
                    let mut case = Case { gap, ..Case::same(3, [15, 17], kernel, cin, 20) };
                    case.geometry.stride = [1, stride, stride];
                    case.geometry.pad = [0, low, low];
                    case.geometry.output = [
                        1,
                        windows(15, kernel, stride, 1, low + high),
                        windows(17, kernel, stride, 1, low + high),
                    ];
                    case.finish = FINISHES[(index + gap) % 4];
                    check::<f32>(&pool, isa, &case);
                    check::<f64>(&pool, isa, &case);
                }
            }
        }
    }
}

/// Many images are folded some at a time.
#[test]
fn images_are_folded_in_turn() {
    let mut case = Case { finish: Finish::Tile, ..Case::same(5, [96, 512], 3, 2, 3) };
    case.geometry.stride = [1, 8, 8];
    case.geometry.output = [1, 12, 64];
    for threads in [1, 2] {
        for isa in Isa::available() {
            check::<f32>(&Pool::new(threads).unwrap(), isa, &case);
        }
    }
}

#[test]
fn pixels_of_their_own_are_a_product() {
    let pool = serial();
    for isa in Isa::available() {
        for (gap, transposed) in [(0, false), (0, true), (2, false)] {
            for (images, size) in [(1, [9, 11]), (4, [3, 4]), (7, [1, 1]), (1, [1, 30])] {
                let mut case = Case { gap, finish: Finish::BiasRelu, ..Case::same(images, size, 1, 33, 70) };
                case.geometry.transposed = transposed;
                check::<f32>(&pool, isa, &case);
            }
        }
        let mut strided = Case::same(2, [5, 7], 1, 33, 70);
        strided.geometry.stride = [1, 2, 2];
        strided.geometry.output = [1, 3, 4];
        check::<f32>(&pool, isa, &strided);
        (strided.geometry.input, strided.geometry.output) = (strided.geometry.output, strided.geometry.input);
        strided.geometry.transposed = true;
        check::<f32>(&pool, isa, &strided);
    }
}

/// Cases large enough for several threads.
fn large_cases() -> Vec<Case> {
    let mut strided = Case { finish: Finish::BiasRelu, ..Case::same(2, [21, 22], 3, 40, 70) };
    strided.geometry.stride = [1, 2, 2];
    strided.geometry.output = [1, 11, 11];
    let mut gradient = Case { finish: Finish::Tile, form: Form::TapOutIn, ..strided };
    (gradient.geometry.input, gradient.geometry.output) = (strided.geometry.output, strided.geometry.input);
    gradient.geometry.transposed = true;
    let mut stem = Case::same(3, [40, 41], 7, 3, 64);
    stem.geometry.stride = [1, 2, 2];
    stem.geometry.output = [1, 20, 21];
    vec![
        Case { finish: Finish::Bias, ..Case::same(1, [19, 17], 3, 48, 80) },
        Case { finish: Finish::Tile, ..Case::same(1, [7, 7], 3, 100, 200) },
        Case { groups: 5, ..Case::same(2, [13, 13], 5, 9, 17) },
        Case { finish: Finish::Tile, groups: 2, ..Case::same(1, [5, 5], 3, 256, 96) },
        strided,
        gradient,
        stem,
    ]
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pools = [1, 2, 3, 5].map(|threads| Pool::new(threads).unwrap());
    for isa in Isa::available() {
        for case in large_cases() {
            let mut operands = Operands::<f32>::new(&case);
            // Padding times infinity is NaN, and has to be so for any number of threads.
            operands.filters[0] = f32::INFINITY;
            let results = pools.each_ref().map(|pool| compute(pool, isa, &case, &operands).unwrap());
            for result in &results[1..] {
                let same = result.iter().zip(&results[0]).all(|(a, b)| a.bits() == b.bits());
                assert!(same, "{case:?} {isa}");
            }
            check::<f32>(&pools[3], isa, &case);
            check::<f64>(&pools[1], isa, &case);
        }
    }
}

#[test]
fn packing_with_threads_is_packing() {
    let pool = Pool::new(3).unwrap();
    let mut numbers = Numbers(5);
    for isa in Isa::available() {
        for form in FORMS {
            let case = Case { groups: 2, form, ..Case::same(1, [1, 1], 3, 50, 129) };
            let filters: Vec<f32> = numbers.array(case.groups * case.k() * case.cout);
            let source = case.source(filters.as_ptr());
            let len = packed_filters_len::<f32>(isa, 2, 9, 50, 129);
            let (mut one, mut two) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            unsafe { pack_filters(isa, &source, one.as_mut_ptr()) };
            unsafe { pack_filters_parallel(&pool, isa, &source, two.as_mut_ptr()) }.unwrap();
            assert_eq!(one, two);
        }
    }
}

#[test]
fn nan_and_infinity_reach_the_windows_that_hold_them_and_no_other() {
    let pool = serial();
    for isa in Isa::available() {
        for case in
            [Case::same(2, [6, 7], 3, 3, 20), Case::same(1, [9, 9], 5, 30, 33)].into_iter().flat_map(|case| {
                let mut gradient = case;
                gradient.geometry.transposed = true;
                gradient.geometry.stride = [1, 2, 2];
                [case, gradient]
            })
        {
            for special in [f32::NAN, f32::INFINITY] {
                let mut operands = Operands::<f32>::new(&case);
                let problem = case.problem();
                let at = problem.pixel_strides[1] + 2 * problem.pixel_strides[2];
                operands.x[at + case.cin - 1] = special;
                let c = compute(&pool, isa, &case, &operands).unwrap();
                let pixels = case.geometry.pixels();
                for (row, values) in c.chunks(case.cout).enumerate() {
                    let mut holds = false;
                    case.each_read(row / pixels, row % pixels, |_, offset| holds |= offset == at);
                    for value in values {
                        assert_eq!(value.is_finite(), !holds, "{case:?} {isa} pixel {row}: {value}");
                        assert!(!holds || value.is_nan() == special.is_nan(), "{case:?} {isa}: {value}");
                    }
                }
            }
        }
    }
}

#[test]
fn scratch_that_is_too_small_is_an_error() {
    let case = Case::same(1, [8, 8], 3, 5, 6);
    let problem = case.problem();
    let operands = Operands::<f32>::new(&case);
    let needed = scratch_bytes::<f32>(Isa::Portable, &problem, 1);
    let mut scratch = vec![0u8; needed - 1];
    let mut c = vec![0f32; 64 * 6];
    let output = Output { c: c.as_mut_ptr(), row_stride: 6, batch_stride: 0 };
    let error = unsafe {
        let (x, filters) = (operands.x.as_ptr(), operands.filters.as_ptr());
        conv(&serial(), Isa::Portable, &problem, x, filters, &Epilogue::Store(output), &mut scratch)
            .unwrap_err()
    };
    assert!(matches!(error, GemmError::Scratch { needed: n, given } if n == needed && given == needed - 1));
}

#[test]
fn huge_shapes_ask_for_huge_scratch_without_overflow() {
    let huge = usize::MAX / 2;
    let mut case = Case::same(1, [1, 1], 1, 1, 1);
    case.geometry.input = [huge; 3];
    case.geometry.output = [huge; 3];
    case.geometry.kernel = [huge; 3];
    for transposed in [false, true] {
        case.geometry.transposed = transposed;
        let problem = Problem {
            images: huge,
            groups: huge,
            cin: huge,
            cout: huge,
            geometry: case.geometry,
            image_stride: huge,
            pixel_strides: [huge; 3],
        };
        for isa in Isa::available() {
            assert_eq!(scratch_bytes::<f32>(isa, &problem, 64), usize::MAX);
        }
    }
}

#[test]
fn a_panicking_epilogue_is_an_error() {
    let pool = Pool::new(2).unwrap();
    let case = Case::same(1, [30, 30], 3, 40, 60);
    let problem = case.problem();
    let operands = Operands::<f32>::new(&case);
    let mut scratch = vec![0u8; scratch_bytes::<f32>(Isa::Portable, &problem, 2)];
    let filters = vec![0f32; packed_filters_len::<f32>(Isa::Portable, 1, 9, 40, 60)];
    let epilogue = |tile: &TileCtx<f32>| assert!(tile.row0 < 400, "no more");
    let error = unsafe {
        let (x, filters) = (operands.x.as_ptr(), filters.as_ptr());
        conv(&pool, Isa::Portable, &problem, x, filters, &Epilogue::Tile(&epilogue), &mut scratch)
            .unwrap_err()
    };
    assert!(error.to_string().contains("no more"), "{error}");
}
