//! A convolution to test, its operands, and naive sums in `f64` to compare with.

use graphc_cpu::Geometry;
use graphc_cpu::KernelError;
use graphc_cpu::conv::{
    FilterSource, Problem, conv, pack_filters, packed_filters_len, scratch_bytes, winograd,
};
use graphc_cpu::gemm::{BLOCK_ROWS, Epilogue, Output, TileCtx, block_columns};
use graphc_cpu::isa::Isa;
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;

pub use crate::support::{Float, Numbers};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finish {
    Store,
    Bias,
    BiasRelu,
    /// Bias and relu by a function.
    Tile,
}

pub const FINISHES: [Finish; 4] = [Finish::Store, Finish::Bias, Finish::BiasRelu, Finish::Tile];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    Direct,
    Winograd,
}

/// How filters lie before they are packed, outermost dim first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    TapInOut,
    TapOutIn,
    OutInTap,
}

pub const FORMS: [Form; 3] = [Form::TapInOut, Form::TapOutIn, Form::OutInTap];

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub images: usize,
    pub groups: usize,
    pub cin: usize,
    pub cout: usize,
    pub geometry: Geometry,
    pub transposed: bool,
    pub form: Form,
    pub finish: Finish,
    /// Elements between the end of a pixel and the next, and at the end of rows and images.
    pub gap: usize,
}

impl Case {
    /// A two-dimensional convolution of stride 1 that keeps an odd filter's image size.
    pub fn same(images: usize, size: [usize; 2], kernel: usize, cin: usize, cout: usize) -> Case {
        let geometry = Geometry {
            input: [1, size[0], size[1]],
            output: [1, size[0], size[1]],
            kernel: [1, kernel, kernel],
            stride: [1; 3],
            dilation: [1; 3],
            pad: [0, kernel / 2, kernel / 2],
        };
        Case {
            images,
            groups: 1,
            cin,
            cout,
            geometry,
            transposed: false,
            form: Form::TapInOut,
            finish: Finish::Store,
            gap: 0,
        }
    }

    pub fn problem(&self) -> Problem {
        let Case { images, groups, cin, cout, geometry, transposed, gap, .. } = *self;
        let [d, h, w] = geometry.input;
        let pixel = groups * cin + gap;
        let row = w * pixel + gap;
        let plane = h * row + gap;
        let image_stride = d * plane + gap;
        Problem {
            images,
            groups,
            cin,
            cout,
            geometry,
            transposed,
            image_stride,
            pixel_strides: [plane, row, pixel],
        }
    }

    pub fn k(&self) -> usize {
        self.geometry.taps() * self.cin
    }

    pub fn source<T>(&self, filters: *const T) -> FilterSource<T> {
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

    /// Calls `visit` with each tap and the offset of the pixel that output pixel `at` reads with it.
    pub fn each_read(&self, image: usize, at: usize, mut visit: impl FnMut(usize, usize)) {
        let transposed = self.transposed;
        let Geometry { input, output, kernel, stride, dilation, pad } = self.geometry;
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

pub struct Operands<T> {
    pub x: Vec<T>,
    pub filters: Vec<T>,
    pub bias: Vec<T>,
}

impl<T: Float> Operands<T> {
    pub fn new(case: &Case) -> Operands<T> {
        let mut numbers = Numbers((case.cin * 31 + case.cout * 7 + case.geometry.pixels()) as u64);
        Operands {
            x: numbers.array(case.problem().image_stride * case.images),
            filters: numbers.array(case.groups * case.k() * case.cout),
            bias: numbers.array(case.groups * case.cout),
        }
    }
}

/// Columns of C that no convolution may touch hold this.
pub const UNTOUCHED: f64 = -77.0;

pub fn compute<T: Float>(
    pool: &Pool,
    isa: Isa,
    algorithm: Algorithm,
    case: &Case,
    operands: &Operands<T>,
) -> Result<Vec<T>, KernelError> {
    let Case { groups, cin, cout, geometry, .. } = *case;
    let problem = case.problem();
    let pixels = case.images * geometry.pixels();
    let row_stride = groups * cout + case.gap;
    let mut c = vec![T::from_f64(UNTOUCHED); pixels * row_stride];
    let source = case.source(operands.filters.as_ptr());
    let threads = pool.threads();
    let (packed, scratch) = match algorithm {
        Algorithm::Direct => (
            packed_filters_len::<T>(isa, groups, geometry.taps(), cin, cout),
            scratch_bytes::<T>(isa, &problem, threads),
        ),
        Algorithm::Winograd => (
            winograd::packed_filters_len::<T>(isa, cin, cout),
            winograd::scratch_bytes::<T>(isa, &problem, threads),
        ),
    };
    let mut filters = Block::new(packed * size_of::<T>()).unwrap();
    filters.as_mut_slice().fill(0xff);
    let to = filters.as_mut_ptr().cast::<T>();
    match algorithm {
        Algorithm::Direct => unsafe { pack_filters(isa, &source, to) },
        Algorithm::Winograd => unsafe { winograd::pack_filters(isa, &source, case.transposed, to) },
    }
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
    let mut scratch = Block::new(scratch).unwrap();
    scratch.as_mut_slice().fill(0xff);
    let (x, scratch) = (operands.x.as_ptr(), scratch.as_mut_slice());
    match algorithm {
        Algorithm::Direct => unsafe { conv(pool, isa, &problem, x, to, &epilogue, scratch)? },
        Algorithm::Winograd => unsafe { winograd::conv(pool, isa, &problem, x, to, &epilogue, scratch)? },
    }
    Ok(c)
}

/// Computes a case and compares each element with a naive sum.
///
/// The bound is that of a sum of `k` rounded products in any order (Higham, *Accuracy and Stability of
/// Numerical Algorithms*, 3.5). Winograd's sums are of transformed values: a window's are at most 4 times
/// its largest pixel, which is below 1, a filter's at most the sum of its taps, and 9 of them make a pixel.
pub fn check<T: Float>(pool: &Pool, isa: Isa, algorithm: Algorithm, case: &Case) {
    let operands = Operands::<T>::new(case);
    let c = compute(pool, isa, algorithm, case, &operands).unwrap();
    let Case { groups, cin, cout, .. } = *case;
    let row_stride = groups * cout + case.gap;
    let pixels = case.geometry.pixels();
    let source = case.source(std::ptr::null::<T>());
    let filter_index = |group: usize, tap: usize, i: usize, o: usize| {
        group * source.group_stride + tap * source.tap_stride + i * source.in_stride + o * source.out_stride
    };
    let filters: Vec<f64> = (0..groups * cout)
        .map(|col| {
            let all = (0..case.geometry.taps()).flat_map(|tap| (0..cin).map(move |i| (tap, i)));
            let index = |(tap, i)| filter_index(col / cout, tap, i, col % cout);
            all.map(|at| operands.filters[index(at)].into().abs()).sum()
        })
        .collect();
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
                    let filter: f64 = operands.filters[filter_index(group, tap, i, o)].into();
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
            let bound = match algorithm {
                Algorithm::Direct => (case.k() as f64 + 2.0) * magnitude,
                Algorithm::Winograd => (cin as f64 + 20.0) * (36.0 * filters[col] + magnitude),
            };
            assert!(
                (value - sum).abs() <= bound * T::EPSILON,
                "{case:?} {isa} {algorithm:?}: pixel {row} channel {col} is {value}, not {sum}"
            );
        }
    }
}

pub fn serial() -> Pool {
    Pool::new(1).unwrap()
}
