//! How much of the processor's multiply-add peak convolutions reach, directly and with Winograd's
//! algorithm. Operations are those of the sums that are asked for, padding counted, so Winograd's, which
//! does fewer, can be above the peak.
//!
//! `cargo run --release -p graphc-cpu --example conv_peak [threads] [filter]`

use std::error::Error;
use std::hint::black_box;

use graphc_cpu::Geometry;
use graphc_cpu::conv::{
    FilterSource, Problem, conv, pack_filters, packed_filters_len, scratch_bytes, winograd,
};
use graphc_cpu::gemm::{Element, Epilogue, Output};
use graphc_cpu::isa::{FlushDenormals, ISA_VARIABLE, Isa};
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;

mod peak;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Layer {
    name: &'static str,
    problem: Problem,
}

impl Layer {
    /// A layer of `images` square images of `size` pixels; padding keeps its size at stride 1.
    fn new(
        name: &'static str,
        images: usize,
        [cin, cout]: [usize; 2],
        size: usize,
        kernel: usize,
        stride: usize,
    ) -> Layer {
        let output = (size - 1) / stride + 1;
        let geometry = Geometry {
            input: [1, size, size],
            output: [1, output, output],
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            dilation: [1; 3],
            pad: [0, kernel / 2, kernel / 2],
        };
        Layer { name, problem: problem(images, cin, cout, geometry) }
    }

    /// Its gradient in the input.
    fn gradient(self, name: &'static str) -> Layer {
        let Problem { images, cin, cout, mut geometry, .. } = self.problem;
        (geometry.input, geometry.output) = (geometry.output, geometry.input);
        Layer { name, problem: Problem { transposed: true, ..problem(images, cout, cin, geometry) } }
    }

    fn flops(&self) -> f64 {
        let Problem { images, cin, cout, geometry, transposed, .. } = self.problem;
        let windows = if transposed { geometry.input } else { geometry.output };
        let windows: usize = windows.into_iter().product();
        2.0 * (images * windows * geometry.taps() * cin * cout) as f64
    }
}

fn problem(images: usize, cin: usize, cout: usize, geometry: Geometry) -> Problem {
    let [depth, height, width] = geometry.input;
    Problem {
        images,
        groups: 1,
        cin,
        cout,
        geometry,
        transposed: false,
        image_stride: depth * height * width * cin,
        pixel_strides: [height * width * cin, width * cin, cin],
    }
}

fn layers() -> Vec<Layer> {
    let first = || Layer::new("64 56x56 3x3", 1, [64, 64], 56, 3, 1);
    let strided = || Layer::new("64->128 56x56 3x3 s2", 1, [64, 128], 56, 3, 2);
    vec![
        first(),
        strided(),
        Layer::new("128 28x28 3x3", 1, [128, 128], 28, 3, 1),
        Layer::new("256 14x14 3x3", 1, [256, 256], 14, 3, 1),
        Layer::new("512 7x7 3x3", 1, [512, 512], 7, 3, 1),
        Layer::new("512 7x7 3x3 of 8 images", 8, [512, 512], 7, 3, 1),
        Layer::new("3->64 224x224 7x7 s2", 1, [3, 64], 224, 7, 2),
        Layer::new("256->64 56x56 1x1", 1, [256, 64], 56, 1, 1),
        Layer::new("64->128 56x56 1x1 s2", 1, [64, 128], 56, 1, 2),
        first().gradient("gradient of 64 56x56 3x3"),
        strided().gradient("gradient of 64->128 3x3 s2"),
        Layer::new("", 1, [512, 512], 7, 3, 1).gradient("gradient of 512 7x7 3x3"),
    ]
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = Pool::new(threads)?;
    let _flush = FlushDenormals::enable();
    let forced = std::env::var_os(ISA_VARIABLE).map(|_| Isa::detect()).transpose()?;
    for isa in forced.map_or_else(Isa::available, |isa| vec![isa]) {
        println!("\n{isa}: f32 peak {:.1} GFLOP/s a thread", peak::peak(isa));
        println!("{:44} {:>9} {:>9} {:>7} {:>7}", "convolution", "us", "GFLOP/s", "% peak", "best");
        for layer in layers().iter().filter(|layer| layer.name.contains(&filter)) {
            direct::<f32>(&pool, isa, layer)?;
            if winograd::applies(&layer.problem) {
                by_winograd::<f32>(&pool, isa, layer)?;
            }
        }
    }
    Ok(())
}

fn direct<T: Element + From<u8>>(pool: &Pool, isa: Isa, layer: &Layer) -> Result<()> {
    let problem = layer.problem;
    let Problem { cin, cout, geometry, .. } = problem;
    let taps = geometry.taps();
    let values = filled::<T>(taps * cin * cout)?;
    let source = source(&problem, values.as_ptr().cast::<T>());
    let mut filters = Block::new(packed_filters_len::<T>(isa, 1, taps, cin, cout) * size_of::<T>())?;
    // SAFETY: the source has all filters, and the target the length that packing asks for.
    unsafe { pack_filters(isa, &source, filters.as_mut_ptr().cast::<T>()) };
    let scratch = scratch_bytes::<T>(isa, &problem, pool.threads());
    measure::<T>(pool, isa, layer, "direct", scratch, |x, epilogue, scratch| {
        let filters = filters.as_ptr().cast::<T>();
        // SAFETY: the arrays have the sizes that the problem describes; `isa` is available.
        unsafe { conv(pool, isa, &problem, x, filters, epilogue, scratch)? };
        Ok(())
    })
}

fn by_winograd<T: Element + From<u8>>(pool: &Pool, isa: Isa, layer: &Layer) -> Result<()> {
    let problem = layer.problem;
    let Problem { cin, cout, geometry, .. } = problem;
    let values = filled::<T>(geometry.taps() * cin * cout)?;
    let source = source(&problem, values.as_ptr().cast::<T>());
    let mut filters = Block::new(winograd::packed_filters_len::<T>(isa, cin, cout) * size_of::<T>())?;
    // SAFETY: as in `direct`.
    unsafe { winograd::pack_filters(isa, &source, problem.transposed, filters.as_mut_ptr().cast::<T>()) };
    let scratch = winograd::scratch_bytes::<T>(isa, &problem, pool.threads());
    measure::<T>(pool, isa, layer, "Winograd", scratch, |x, epilogue, scratch| {
        let filters = filters.as_ptr().cast::<T>();
        // SAFETY: as in `direct`.
        unsafe { winograd::conv(pool, isa, &problem, x, filters, epilogue, scratch)? };
        Ok(())
    })
}

/// Filters with the channels that are made innermost.
fn source<T>(problem: &Problem, filters: *const T) -> FilterSource<T> {
    let Problem { groups, cin, cout, geometry, .. } = *problem;
    FilterSource {
        filters,
        groups,
        taps: geometry.taps(),
        cin,
        cout,
        group_stride: 0,
        tap_stride: cin * cout,
        in_stride: cout,
        out_stride: 1,
    }
}

fn measure<T: Element + From<u8>>(
    pool: &Pool,
    isa: Isa,
    layer: &Layer,
    algorithm: &str,
    scratch: usize,
    mut run: impl FnMut(*const T, &Epilogue<'_, T>, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let Problem { images, cout, geometry, image_stride, .. } = layer.problem;
    let mut x = filled::<T>(images * image_stride)?;
    let bias = filled::<T>(cout)?;
    let mut c = Block::new(images * geometry.pixels() * cout * size_of::<T>())?;
    let mut scratch = Block::new(scratch)?;
    let output = Output { c: c.as_mut_ptr().cast::<T>(), row_stride: cout, batch_stride: 0 };
    let epilogue = if layer.problem.transposed {
        Epilogue::Store(output)
    } else {
        Epilogue::BiasRelu(output, bias.as_ptr().cast())
    };
    let mut failure = None;
    let measured = peak::measure(isa, size_of::<T>(), pool.threads(), layer.flops(), || {
        let x = black_box(x.as_mut_ptr()).cast::<T>();
        failure = run(x, &epilogue, scratch.as_mut_slice()).err();
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let peak::Measured { time, ratio, best } = measured;
    let (name, rate) = (format!("{} {algorithm}", layer.name), layer.flops() / time / 1e9);
    println!("{name:44} {:9.1} {rate:9.1} {:7.1} {:7.1}", time * 1e6, ratio * 100.0, best * 100.0);
    Ok(())
}

fn filled<T: Element + From<u8>>(elements: usize) -> Result<Block> {
    let mut block = Block::new(elements * size_of::<T>())?;
    for i in 0..elements {
        // SAFETY: the block has room for `elements` of them, and is aligned for any.
        unsafe { *block.as_mut_ptr().cast::<T>().add(i) = T::from((i % 7) as u8) };
    }
    Ok(block)
}
