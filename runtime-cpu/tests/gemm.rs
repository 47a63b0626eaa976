//! Matrix products on every instruction set of this machine, against naive sums in `f64`.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use graphc_cpu::KernelError;
use graphc_cpu::gemm::{
    ALayout, BLOCK_ROWS, BLayout, Epilogue, Output, PackSource, Problem, block_columns, gemm, pack_b,
    pack_b_parallel, packed_len, scratch_bytes,
};
use graphc_cpu::isa::Isa;
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;
use support::{Float, Numbers};

#[derive(Clone, Copy, Debug, PartialEq)]
enum FormA {
    RowMajor,
    Transposed,
    /// Neither stride is 1.
    Strided,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum FormB {
    RowMajor,
    Transposed,
    Packed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Finish {
    Store,
    Bias,
    BiasRelu,
    /// Bias and relu by a function.
    Tile,
}

const FORMS_A: [FormA; 3] = [FormA::RowMajor, FormA::Transposed, FormA::Strided];
const FORMS_B: [FormB; 3] = [FormB::RowMajor, FormB::Transposed, FormB::Packed];

#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    batch: usize,
    shared_b: bool,
    form_a: FormA,
    form_b: FormB,
    finish: Finish,
    /// Elements between the end of a row (or column) and the next.
    gap: usize,
}

impl Case {
    fn new(m: usize, n: usize, k: usize) -> Case {
        let (form_a, form_b, finish) = (FormA::RowMajor, FormB::RowMajor, Finish::Store);
        Case { m, n, k, batch: 1, shared_b: false, form_a, form_b, finish, gap: 0 }
    }

    fn a_layout(&self) -> ALayout {
        let Case { m, k, gap, .. } = *self;
        let (row_stride, k_stride) = match self.form_a {
            FormA::RowMajor => (k + gap, 1),
            FormA::Transposed => (1, m + gap),
            FormA::Strided => (2 * k + gap, 2),
        };
        ALayout { row_stride, k_stride, batch_stride: 2 * m.max(1) * (k + gap) + (m + gap) * k }
    }

    fn b_strides(&self) -> (usize, usize) {
        match self.form_b {
            FormB::Transposed => (1, self.k + self.gap),
            FormB::RowMajor | FormB::Packed => (self.n + self.gap, 1),
        }
    }

    fn b_products(&self) -> usize {
        if self.shared_b { 1 } else { self.batch }
    }

    fn b_len(&self) -> usize {
        (self.n + self.gap) * (self.k + self.gap)
    }
}

struct Operands<T> {
    a: Vec<T>,
    b: Vec<T>,
    bias: Vec<T>,
}

impl<T: Float> Operands<T> {
    fn new(case: &Case) -> Operands<T> {
        let mut numbers = Numbers((case.m * 31 + case.n * 7 + case.k) as u64);
        Operands {
            a: numbers.array(case.a_layout().batch_stride * case.batch),
            b: numbers.array(case.b_len() * case.b_products()),
            bias: numbers.array(case.n),
        }
    }

    fn a(&self, case: &Case, product: usize, i: usize, k: usize) -> f64 {
        let layout = case.a_layout();
        self.a[product * layout.batch_stride + i * layout.row_stride + k * layout.k_stride].into()
    }

    fn b(&self, case: &Case, product: usize, k: usize, j: usize) -> f64 {
        let (k_stride, n_stride) = case.b_strides();
        let product = if case.shared_b { 0 } else { product };
        self.b[product * case.b_len() + k * k_stride + j * n_stride].into()
    }
}

/// Columns of C that no product may touch hold this.
const UNTOUCHED: f64 = -77.0;

fn compute<T: Float>(
    pool: &Pool,
    isa: Isa,
    case: &Case,
    operands: &Operands<T>,
) -> Result<Vec<T>, KernelError> {
    let Case { m, n, k, batch, .. } = *case;
    let row_stride = n + case.gap;
    let mut c = vec![T::from_f64(UNTOUCHED); batch * m * row_stride];
    let packed_size = packed_len::<T>(isa, k, n);
    let mut packed = Block::new(packed_size * case.b_products() * size_of::<T>()).unwrap();
    let (k_stride, n_stride) = case.b_strides();
    let (b, layout, stride) = match case.form_b {
        FormB::RowMajor => (operands.b.as_ptr(), BLayout::RowMajor { stride: k_stride }, case.b_len()),
        FormB::Transposed => (operands.b.as_ptr(), BLayout::Transposed { stride: n_stride }, case.b_len()),
        FormB::Packed => {
            let to = packed.as_mut_ptr().cast::<T>();
            for product in 0..case.b_products() {
                let source =
                    PackSource { b: operands.b[product * case.b_len()..].as_ptr(), k_stride, n_stride, k, n };
                unsafe { pack_b(isa, &source, to.add(product * packed_size)) };
            }
            (to.cast_const(), BLayout::Packed, packed_size)
        }
    };
    let b_batch_stride = if case.shared_b { 0 } else { stride };
    let problem = Problem { m, n, k, batch, a: case.a_layout(), b: layout, b_batch_stride };
    let output = Output { c: c.as_mut_ptr(), row_stride, batch_stride: m * row_stride };
    let bias = operands.bias.as_ptr();
    let address = output.c as usize;
    let tile = |tile: &graphc_cpu::gemm::TileCtx<T>| {
        assert!(
            tile.rows <= BLOCK_ROWS && tile.cols <= block_columns::<T>(isa) && tile.thread < pool.threads()
        );
        for i in 0..tile.rows {
            for j in 0..tile.cols {
                let (row, col) = (tile.row0 + i, tile.col0 + j);
                let sum = unsafe { *tile.acc.add(i * tile.ld + j) } + operands.bias[col];
                let value = if sum < T::default() { T::default() } else { sum };
                let to = (address as *mut T).wrapping_add((tile.batch * m + row) * row_stride + col);
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
    unsafe { gemm(pool, isa, &problem, operands.a.as_ptr(), b, &epilogue, scratch.as_mut_slice())? };
    Ok(c)
}

/// Computes a case and compares each element with a naive sum; the bound is that of a sum of `k`
/// rounded products in any order (Higham, *Accuracy and Stability of Numerical Algorithms*, 3.5).
fn check<T: Float>(pool: &Pool, isa: Isa, case: &Case) {
    let operands = Operands::<T>::new(case);
    let c = compute(pool, isa, case, &operands).unwrap();
    let row_stride = case.n + case.gap;
    for (index, &value) in c.iter().enumerate() {
        let (product, row, col) =
            (index / row_stride / case.m, index / row_stride % case.m, index % row_stride);
        let value: f64 = value.into();
        if col >= case.n {
            assert_eq!(value, UNTOUCHED, "{case:?} {isa}: wrote past row {row}");
            continue;
        }
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for k in 0..case.k {
            let term = operands.a(case, product, row, k) * operands.b(case, product, k, col);
            sum += term;
            magnitude += term.abs();
        }
        if case.finish != Finish::Store {
            let bias: f64 = operands.bias[col].into();
            sum += bias;
            magnitude += bias.abs();
        }
        if matches!(case.finish, Finish::BiasRelu | Finish::Tile) {
            sum = sum.max(0.0);
        }
        let bound = (case.k as f64 + 2.0) * T::EPSILON * magnitude;
        assert!((value - sum).abs() <= bound, "{case:?} {isa}: C[{row}][{col}] is {value}, not {sum}");
    }
}

fn serial() -> Pool {
    Pool::new(1).unwrap()
}

fn all_tails<T: Float>() {
    let pool = serial();
    for isa in Isa::available() {
        let columns = block_columns::<T>(isa);
        for n in 1..=2 * columns + 1 {
            for m in 1..=13 {
                let form_b = FORMS_B[(n + m) % 3];
                let finish = [Finish::Store, Finish::BiasRelu, Finish::Bias, Finish::Tile][(n / 3 + m) % 4];
                let k = [1, 3, 6, 9, 17, 21][(n + 5 * m) % 6];
                let form_a = FORMS_A[(n + m / 3) % 3];
                check::<T>(&pool, isa, &Case { form_a, form_b, finish, gap: m % 4, ..Case::new(m, n, k) });
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
fn every_form_with_every_epilogue() {
    let pool = serial();
    for isa in Isa::available() {
        for form_a in FORMS_A {
            for form_b in FORMS_B {
                for finish in [Finish::Store, Finish::Bias, Finish::BiasRelu, Finish::Tile] {
                    for (m, n, k) in [(1, 130, 33), (4, 67, 40), (53, 1, 70), (50, 200, 35)] {
                        let case = Case { form_a, form_b, finish, gap: 3, ..Case::new(m, n, k) };
                        check::<f32>(&pool, isa, &case);
                        check::<f64>(&pool, isa, &case);
                    }
                }
            }
        }
    }
}

#[test]
fn empty_sums_and_empty_results() {
    let pool = serial();
    for isa in Isa::available() {
        for form_b in FORMS_B {
            for (m, n, k) in [(1, 5, 0), (7, 70, 0), (9, 1, 0), (0, 5, 5), (5, 0, 5), (0, 0, 0)] {
                for finish in [Finish::Store, Finish::Bias, Finish::Tile] {
                    check::<f32>(&pool, isa, &Case { form_b, finish, ..Case::new(m, n, k) });
                }
            }
            check::<f32>(&pool, isa, &Case { form_b, batch: 0, ..Case::new(3, 4, 5) });
        }
    }
}

#[test]
fn long_sums_are_cut_into_blocks() {
    let pool = serial();
    for isa in Isa::available() {
        for (k, finish) in
            [(2048, Finish::Bias), (2049, Finish::BiasRelu), (4099, Finish::Tile), (6150, Finish::Store)]
        {
            for form_a in FORMS_A {
                for form_b in FORMS_B {
                    check::<f32>(&pool, isa, &Case { form_a, form_b, finish, ..Case::new(31, 21, k) });
                }
            }
        }
        check::<f64>(&pool, isa, &Case { finish: Finish::Tile, ..Case::new(3, 40, 5000) });
    }
}

#[test]
fn threads_change_no_bit() {
    let pools = [serial(), Pool::new(2).unwrap(), Pool::new(5).unwrap()];
    let mut numbers = Numbers(3);
    for isa in Isa::available() {
        for round in 0..40 {
            let (m, n, k) = (1 + numbers.below(150), 1 + numbers.below(200), 1 + numbers.below(300));
            let mut case = Case::new(m, n, k);
            match round % 4 {
                0 => case.m = 1 + m % 4,
                1 => case.n = 1,
                2 => case.batch = 2 + round % 5,
                _ => {}
            }
            let shared_b = round % 3 == 0;
            let (form_a, form_b) = (FORMS_A[numbers.below(3)], FORMS_B[numbers.below(3)]);
            let finish = [Finish::Store, Finish::BiasRelu, Finish::Tile][numbers.below(3)];
            // Enough multiply-adds to be cut for several threads.
            case.k = case.k.max(1_200_000 / (case.m * case.n * case.batch)).min(30_000);
            case = Case { shared_b, form_a, form_b, finish, gap: numbers.below(3), ..case };
            check::<f32>(&pools[1], isa, &case);
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
fn forms_of_b_agree_to_the_bit() {
    let pool = serial();
    for isa in Isa::available() {
        let case = Case { form_b: FormB::RowMajor, ..Case::new(30, 150, 77) };
        let operands = Operands::<f32>::new(&case);
        let unpacked = compute(&pool, isa, &case, &operands).unwrap();
        let packed = compute(&pool, isa, &Case { form_b: FormB::Packed, ..case }, &operands).unwrap();
        assert_eq!(unpacked, packed);
    }
}

#[test]
fn packing_is_the_same_for_both_orders_and_any_threads() {
    let pool = Pool::new(2).unwrap();
    for isa in Isa::available() {
        for (k, n) in [(1, 1), (17, 16), (33, 65), (70, 131), (16, 64), (300, 333)] {
            let row_major: Vec<f32> = Numbers(5).array(k * n);
            let transposed: Vec<f32> = (0..n * k).map(|i| row_major[i % k * n + i / k]).collect();
            let len = packed_len::<f32>(isa, k, n);
            let sources = [
                PackSource { b: row_major.as_ptr(), k_stride: n, n_stride: 1, k, n },
                PackSource { b: transposed.as_ptr(), k_stride: 1, n_stride: k, k, n },
            ];
            let packed = sources.map(|source| {
                let (mut one, mut two) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                unsafe { pack_b(isa, &source, one.as_mut_ptr()) };
                unsafe { pack_b_parallel(&pool, isa, &source, two.as_mut_ptr()) }.unwrap();
                assert_eq!(one, two);
                one
            });
            assert_eq!(packed[0], packed[1], "{isa} {k} {n}");
            assert_eq!(
                packed[0].iter().filter(|x| **x != 0.0).count(),
                row_major.iter().filter(|x| **x != 0.0).count()
            );
        }
    }
}

#[test]
fn nan_and_infinity_reach_their_elements_and_no_other() {
    let pool = serial();
    for isa in Isa::available() {
        for form_b in FORMS_B {
            for (m, n, k) in [(1, 70, 19), (3, 33, 40), (20, 70, 19), (9, 1, 50)] {
                let case = Case { form_b, finish: Finish::BiasRelu, ..Case::new(m, n, k) };
                let mut operands = Operands::<f32>::new(&case);
                let (row, col) = (m / 2, n - 1);
                operands.a[row * k + k - 1] = f32::NAN;
                operands.bias.fill(0.5);
                if n > 1 {
                    operands.bias[0] = f32::INFINITY;
                }
                let c = compute(&pool, isa, &case, &operands).unwrap();
                for (index, value) in c.iter().enumerate() {
                    let (i, j) = (index / n, index % n);
                    assert_eq!(value.is_nan(), i == row, "{case:?} {isa} [{i}][{j}] {value}");
                    if i != row {
                        assert_eq!(value.is_infinite(), n > 1 && j == 0, "{case:?} {isa} [{i}][{j}] {value}");
                    }
                }
                assert!(c[row * n + col].is_nan());
            }
        }
    }
}

#[test]
fn scratch_that_is_too_small_is_an_error() {
    let problem = Problem {
        m: 60,
        n: 60,
        k: 60,
        batch: 1,
        a: ALayout { row_stride: 60, k_stride: 1, batch_stride: 0 },
        b: BLayout::Transposed { stride: 60 },
        b_batch_stride: 0,
    };
    let needed = scratch_bytes::<f32>(Isa::Portable, &problem, 1);
    let zeros = vec![0f32; 3600];
    let mut c = vec![0f32; 3600];
    let output = Output { c: c.as_mut_ptr(), row_stride: 60, batch_stride: 0 };
    let mut scratch = vec![0u8; needed - 1];
    let error = unsafe {
        let (a, b) = (zeros.as_ptr(), zeros.as_ptr());
        gemm(&serial(), Isa::Portable, &problem, a, b, &Epilogue::Store(output), &mut scratch).unwrap_err()
    };
    assert!(
        matches!(error, KernelError::Scratch { needed: n, given, .. } if n == needed && given == needed - 1)
    );
}

#[test]
fn a_panicking_epilogue_is_an_error() {
    let pool = Pool::new(2).unwrap();
    let case = Case { finish: Finish::Tile, ..Case::new(200, 200, 200) };
    let operands = Operands::<f32>::new(&case);
    let calls = AtomicUsize::new(0);
    let problem = Problem {
        m: 200,
        n: 200,
        k: 200,
        batch: 1,
        a: case.a_layout(),
        b: BLayout::RowMajor { stride: 200 },
        b_batch_stride: 0,
    };
    let mut scratch = vec![0u8; scratch_bytes::<f32>(Isa::Portable, &problem, 2)];
    let epilogue = |_: &_| assert_ne!(calls.fetch_add(1, Ordering::Relaxed), 3, "no more");
    let error = unsafe {
        let (a, b) = (operands.a.as_ptr(), operands.b.as_ptr());
        gemm(&pool, Isa::Portable, &problem, a, b, &Epilogue::Tile(&epilogue), &mut scratch).unwrap_err()
    };
    assert!(error.to_string().contains("no more"), "{error}");
    check::<f32>(&pool, Isa::Portable, &case);
}
