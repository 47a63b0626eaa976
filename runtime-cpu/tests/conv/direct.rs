//! Direct convolutions.

use graphc_cpu::Geometry;
use graphc_cpu::KernelError;
use graphc_cpu::conv::{
    Problem, conv, pack_filters, pack_filters_parallel, packed_filters_len, scratch_bytes,
};
use graphc_cpu::gemm::{Epilogue, Output, TileCtx};
use graphc_cpu::isa::Isa;
use graphc_cpu::pool::Pool;

use crate::case::{Algorithm, Case, FINISHES, FORMS, Finish, Float, Form, Numbers, Operands, serial};

fn check<T: Float>(pool: &Pool, isa: Isa, case: &Case) {
    crate::case::check::<T>(pool, isa, Algorithm::Direct, case);
}

fn compute<T: Float>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    operands: &Operands<T>,
) -> Result<Vec<T>, KernelError> {
    crate::case::compute(pool, isa, Algorithm::Direct, case, operands)
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
    };
    let transposed = numbers.below(2) == 1;
    let largest = [14, 9, 5][dims - 1];
    for dim in 3 - dims..3 {
        let (kernel, stride) = (1 + numbers.below(5), 1 + numbers.below(3));
        let (dilation, low) = (1 + numbers.below(3), numbers.below(4));
        let high = numbers.below(4);
        // The sizes of a convolution, and of its gradient.
        let large = 1 + numbers.below(largest);
        let small = windows(large, kernel, stride, dilation, low + high).max(1);
        let sizes = if transposed { (small, large) } else { (large, small) };
        (geometry.input[dim], geometry.output[dim]) = sizes;
        (geometry.kernel[dim], geometry.stride[dim]) = (kernel, stride);
        (geometry.dilation[dim], geometry.pad[dim]) = (dilation, low);
    }
    let channels = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20];
    Case {
        images: 1 + numbers.below(3),
        groups: numbers.pick(&[1, 1, 1, 2, 3]),
        cin: numbers.pick(&channels),
        cout: numbers.pick(&channels),
        geometry,
        transposed,
        form: numbers.pick(&FORMS),
        finish: numbers.pick(&FINISHES),
        gap: numbers.pick(&[0, 0, 1, 3]),
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
                case.transposed = (i + o) % 2 == 1;
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
                    case.transposed = transposed;
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
            case.transposed = true;
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
                case.transposed = true;
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
                case.transposed = transposed;
                check::<f32>(&pool, isa, &case);
            }
        }
        let mut strided = Case::same(2, [5, 7], 1, 33, 70);
        strided.geometry.stride = [1, 2, 2];
        strided.geometry.output = [1, 3, 4];
        check::<f32>(&pool, isa, &strided);
        (strided.geometry.input, strided.geometry.output) = (strided.geometry.output, strided.geometry.input);
        strided.transposed = true;
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
    gradient.transposed = true;
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
                gradient.transposed = true;
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
    assert!(
        matches!(error, KernelError::Scratch { needed: n, given, .. } if n == needed && given == needed - 1)
    );
}

#[test]
fn huge_shapes_ask_for_huge_scratch_without_overflow() {
    let huge = usize::MAX / 2;
    let mut case = Case::same(1, [1, 1], 1, 1, 1);
    case.geometry.input = [huge; 3];
    case.geometry.output = [huge; 3];
    case.geometry.kernel = [huge; 3];
    for transposed in [false, true] {
        let problem = Problem {
            images: huge,
            groups: huge,
            cin: huge,
            cout: huge,
            geometry: case.geometry,
            transposed,
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
