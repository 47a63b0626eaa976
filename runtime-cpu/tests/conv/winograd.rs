//! Winograd's algorithm.

use graphc_cpu::KernelError;
use graphc_cpu::conv::{Problem, winograd};
use graphc_cpu::gemm::{Epilogue, Output, TileCtx};
use graphc_cpu::isa::Isa;
use graphc_cpu::pool::Pool;

use crate::case::{
    Algorithm, Case, FINISHES, FORMS, Finish, Float, Numbers, Operands, check, compute, serial,
};

fn check_both<T: Float>(pool: &Pool, isa: Isa, case: &Case) {
    check::<T>(pool, isa, Algorithm::Winograd, case);
    let mut gradient = *case;
    gradient.transposed = true;
    check::<T>(pool, isa, Algorithm::Winograd, &gradient);
}

#[test]
fn all_sizes_of_images() {
    let pool = serial();
    let mut numbers = Numbers(3);
    for isa in Isa::available() {
        for height in 1..9 {
            for width in 1..9 {
                let mut case = Case::same(1 + numbers.below(3), [height, width], 3, 5, 7);
                case.finish = FINISHES[(height + width) % 4];
                case.form = FORMS[(height + 2 * width) % 3];
                case.gap = width % 2;
                check_both::<f32>(&pool, isa, &case);
                // Paddings of 0 to 3 pixels, and any size that is made.
                case.geometry.pad = [0, numbers.below(4), numbers.below(4)];
                case.geometry.output = [1, 1 + numbers.below(11), 1 + numbers.below(11)];
                check_both::<f32>(&pool, isa, &case);
                check_both::<f64>(&pool, isa, &case);
            }
        }
    }
}

#[test]
fn all_tails_of_channels() {
    let pool = serial();
    let channels = [1, 2, 3, 5, 15, 16, 17, 64, 65];
    for isa in Isa::available() {
        for (i, cin) in channels.into_iter().enumerate() {
            for (o, cout) in channels.into_iter().chain([129]).enumerate() {
                let (form, finish) = (FORMS[(i + o) % 3], FINISHES[(i + o / 3) % 4]);
                let case = Case { form, finish, ..Case::same(1, [3 + o % 3, 5], 3, cin, cout) };
                check_both::<f32>(&pool, isa, &case);
                if (i + o) % 5 == 0 {
                    check_both::<f64>(&pool, isa, &case);
                }
            }
        }
    }
}

/// Cases of several blocks, with rows of tiles that are cut by them, and large enough for several threads.
fn large_cases() -> Vec<Case> {
    vec![
        Case { finish: Finish::Tile, ..Case::same(2, [19, 17], 3, 48, 80) },
        Case { finish: Finish::BiasRelu, gap: 2, ..Case::same(1, [5, 120], 3, 20, 70) },
        Case { finish: Finish::Tile, ..Case::same(1, [7, 7], 3, 100, 200) },
        Case { finish: Finish::Bias, ..Case::same(5, [7, 7], 3, 200, 100) },
        Case::same(1, [6, 6], 3, 700, 40),
    ]
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pools = [1, 2, 3, 5].map(|threads| Pool::new(threads).unwrap());
    for isa in Isa::available() {
        for case in large_cases() {
            let operands = Operands::<f32>::new(&case);
            let results = pools
                .each_ref()
                .map(|pool| compute(pool, isa, Algorithm::Winograd, &case, &operands).unwrap());
            for result in &results[1..] {
                let same = result.iter().zip(&results[0]).all(|(a, b)| a.bits() == b.bits());
                assert!(same, "{case:?} {isa}");
            }
            check_both::<f32>(&pools[3], isa, &case);
            check_both::<f64>(&pools[1], isa, &case);
        }
    }
}

#[test]
fn nothing_to_make_is_no_error() {
    let pool = serial();
    for isa in Isa::available() {
        let case = Case::same(1, [3, 3], 3, 2, 4);
        check_both::<f32>(&pool, isa, &Case { images: 0, ..case });
        check_both::<f32>(&pool, isa, &Case { cout: 0, ..case });
        check_both::<f32>(&pool, isa, &Case { cin: 0, finish: Finish::Bias, ..case });
    }
}

#[test]
fn transforming_with_threads_is_transforming() {
    let pool = Pool::new(3).unwrap();
    let mut numbers = Numbers(5);
    for isa in Isa::available() {
        for form in FORMS {
            for transposed in [false, true] {
                let case = Case { form, ..Case::same(1, [1, 1], 3, 50, 129) };
                let filters: Vec<f32> = numbers.array(case.k() * case.cout);
                let source = case.source(filters.as_ptr());
                let len = winograd::packed_filters_len::<f32>(isa, 50, 129);
                let (mut one, mut two) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                unsafe { winograd::pack_filters(isa, &source, transposed, one.as_mut_ptr()) };
                let to = two.as_mut_ptr();
                unsafe { winograd::pack_filters_parallel(&pool, isa, &source, transposed, to) }.unwrap();
                assert_eq!(one, two);
            }
        }
    }
}

#[test]
fn a_value_that_is_not_finite_stays_in_the_tiles_that_read_it() {
    let pool = serial();
    for isa in Isa::available() {
        let case = Case::same(1, [10, 12], 3, 6, 9);
        let mut operands = Operands::<f32>::new(&case);
        let (y, x) = (4, 7);
        operands.x[(y * 12 + x) * 6 + 2] = f32::NAN;
        let c = compute(&pool, isa, Algorithm::Winograd, &case, &operands).unwrap();
        for (pixel, values) in c.chunks(9).enumerate() {
            let (top, left) = (pixel / 12 / 2 * 2, pixel % 12 / 2 * 2);
            let read = (top..top + 4).contains(&(y + 1)) && (left..left + 4).contains(&(x + 1));
            let near = (pixel / 12).abs_diff(y) <= 1 && (pixel % 12).abs_diff(x) <= 1;
            for value in values {
                assert!(read || value.is_finite(), "{isa} {pixel} {value}");
                assert!(!near || value.is_nan(), "{isa} {pixel} {value}");
            }
        }
    }
}

#[test]
fn only_what_it_can_compute_applies() {
    let case = Case::same(1, [8, 8], 3, 4, 4);
    let problem = case.problem();
    assert!(winograd::applies(&problem));
    let with = |change: &dyn Fn(&mut Problem)| {
        let mut problem = problem;
        change(&mut problem);
        winograd::applies(&problem)
    };
    assert!(with(&|problem| problem.transposed = true));
    assert!(!with(&|problem| problem.groups = 2));
    assert!(!with(&|problem| problem.geometry.stride[2] = 2));
    assert!(!with(&|problem| problem.geometry.dilation[1] = 2));
    assert!(!with(&|problem| problem.geometry.kernel[1] = 5));
    assert!(!with(&|problem| problem.geometry.input[0] = 2));
}

#[test]
fn scratch_that_is_too_small_is_an_error() {
    let case = Case::same(1, [8, 8], 3, 5, 6);
    let problem = case.problem();
    let operands = Operands::<f32>::new(&case);
    let needed = winograd::scratch_bytes::<f32>(Isa::Portable, &problem, 1);
    let mut scratch = vec![0u8; needed - 1];
    let mut c = vec![0f32; 64 * 6];
    let epilogue = Epilogue::Store(Output { c: c.as_mut_ptr(), row_stride: 6, batch_stride: 0 });
    let error = unsafe {
        let (x, filters) = (operands.x.as_ptr(), operands.filters.as_ptr());
        winograd::conv(&serial(), Isa::Portable, &problem, x, filters, &epilogue, &mut scratch).unwrap_err()
    };
    assert!(
        matches!(error, KernelError::Scratch { needed: n, given, .. } if n == needed && given == needed - 1)
    );
}

#[test]
fn huge_shapes_ask_for_huge_scratch_without_overflow() {
    let mut problem = Case::same(1, [8, 8], 3, 5, 6).problem();
    let huge = usize::MAX / 2;
    (problem.images, problem.cin, problem.cout) = (huge, huge, huge);
    (problem.geometry.input, problem.geometry.output) = ([1, huge, huge], [1, huge, huge]);
    for isa in Isa::available() {
        assert_eq!(winograd::scratch_bytes::<f32>(isa, &problem, 64), usize::MAX);
    }
}

#[test]
fn a_panicking_epilogue_is_an_error() {
    let pool = Pool::new(2).unwrap();
    let case = Case::same(1, [30, 30], 3, 40, 60);
    let problem = case.problem();
    let operands = Operands::<f32>::new(&case);
    let mut scratch = vec![0u8; winograd::scratch_bytes::<f32>(Isa::Portable, &problem, 2)];
    let filters = vec![0f32; winograd::packed_filters_len::<f32>(Isa::Portable, 40, 60)];
    let epilogue = |tile: &TileCtx<f32>| assert!(tile.row0 < 400, "no more");
    let epilogue = Epilogue::Tile(&epilogue);
    let error = unsafe {
        let (x, filters) = (operands.x.as_ptr(), filters.as_ptr());
        winograd::conv(&pool, Isa::Portable, &problem, x, filters, &epilogue, &mut scratch).unwrap_err()
    };
    assert!(error.to_string().contains("no more"), "{error}");
}
