//! How much of the processor's multiply-add peak filter gradients and depthwise convolutions reach, and how
//! long pooling takes.
//!
//! Operations are counted without padding left out: every tap of every output pixel.
//!
//! `cargo run --release -p graphc-cpu --example conv_grad_peak [threads] [filter]`

mod peak;

use std::error::Error;
use std::hint::black_box;

use graphc_cpu::Geometry;
use graphc_cpu::conv_grad::{self, Pixels, Problem, conv_filter_grad};
use graphc_cpu::gemm::{Epilogue, Output};
use graphc_cpu::isa::{FlushDenormals, Isa};
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;
use graphc_cpu::{depthwise, window};
use peak::{Measured, measure, peak};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A square convolution in two dimensions.
struct Layer {
    name: &'static str,
    images: usize,
    input: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    cin: usize,
    cout: usize,
}

impl Layer {
    fn geometry(&self) -> Geometry {
        let output = (self.input + 2 * self.pad - self.kernel) / self.stride + 1;
        Geometry {
            input: [1, self.input, self.input],
            output: [1, output, output],
            kernel: [1, self.kernel, self.kernel],
            stride: [1, self.stride, self.stride],
            dilation: [1; 3],
            pad: [0, self.pad, self.pad],
        }
    }

    fn output_pixels(&self) -> usize {
        self.images * self.geometry().output.iter().product::<usize>()
    }
}

fn layers() -> Vec<Layer> {
    let layer = |name, images, (input, kernel, stride), (cin, cout)| {
        let pad = if kernel > stride { kernel / 2 } else { 0 };
        Layer { name, images, input, kernel, stride, pad, cin, cout }
    };
    vec![
        layer("64x56 3x3", 1, (56, 3, 1), (64, 64)),
        layer("128x28 3x3", 1, (28, 3, 1), (128, 128)),
        layer("256x14 3x3", 1, (14, 3, 1), (256, 256)),
        layer("512x7 3x3", 1, (7, 3, 1), (512, 512)),
        layer("8x 128x28 3x3", 8, (28, 3, 1), (128, 128)),
        layer("8x 512x7 3x3", 8, (7, 3, 1), (512, 512)),
        layer("64x56 3x3 s2 128", 1, (56, 3, 2), (64, 128)),
        layer("64x56 1x1 s2 128", 1, (56, 1, 2), (64, 128)),
        layer("256x14 1x1 1024", 1, (14, 1, 1), (256, 1024)),
        layer("3x224 7x7 s2 64", 1, (224, 7, 2), (3, 64)),
        layer("3x224 3x3 64", 1, (224, 3, 1), (3, 64)),
        layer("3x224 16x16 s16 768", 1, (224, 16, 16), (3, 768)),
    ]
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = Pool::new(threads)?;
    let _flush = FlushDenormals::enable();
    for isa in Isa::available() {
        println!("\n{isa}: f32 peak {:.1} GFLOP/s a thread", peak(isa));
        println!("{:34} {:>9} {:>9} {:>7}", "filter gradient", "us", "GFLOP/s", "% peak");
        for layer in layers().iter().filter(|layer| layer.name.contains(&filter)) {
            filter_grad(&pool, isa, layer)?;
        }
        println!("{:34} {:>9} {:>9} {:>7}", "depthwise", "us", "GFLOP/s", "% peak");
        for (channels, input, stride) in [(128, 56, 1), (512, 14, 1), (128, 28, 1), (128, 56, 2)] {
            for way in [Way::Forward, Way::InputGrad, Way::FilterGrad] {
                let name = format!("{channels}x{input} 3x3 s{stride} {way:?}");
                if name.contains(&filter) {
                    let layer = Layer { input, stride, cin: channels, cout: channels, ..DEPTHWISE };
                    depthwise(&pool, isa, &layer, way, &name)?;
                }
            }
        }
        println!("{:34} {:>9} {:>9}", "3x3 s2 pooling of 64x112", "us", "ns an output");
        for way in ["maximum", "scatter", "mean"].into_iter().filter(|way| way.contains(&filter)) {
            pooling(&pool, isa, way)?;
        }
    }
    Ok(())
}

fn filter_grad(pool: &Pool, isa: Isa, layer: &Layer) -> Result<()> {
    let geometry = layer.geometry();
    let Layer { images, cin, cout, .. } = *layer;
    let x_pixels = Pixels::dense(geometry.input, cin);
    let dy_pixels = Pixels::dense(geometry.output, cout);
    let problem = Problem { geometry, images, groups: 1, cin, cout, x: x_pixels, dy: dy_pixels };
    let mut x = filled(images * x_pixels.image_stride)?;
    let dy = filled(images * dy_pixels.image_stride)?;
    let mut c = filled(problem.rows() * cout)?;
    let mut scratch = Block::new(conv_grad::scratch_bytes::<f32>(isa, &problem, pool.threads()))?;
    let output = Output { c: c.as_mut_ptr().cast::<f32>(), row_stride: cout, batch_stride: 0 };
    let mut failure = None;
    let flops = 2.0 * (problem.rows() * cout * layer.output_pixels()) as f64;
    let measured = measure(isa, size_of::<f32>(), pool.threads(), flops, || {
        let (x, dy) = (black_box(x.as_mut_ptr()).cast::<f32>(), dy.as_ptr().cast::<f32>());
        let (epilogue, scratch) = (Epilogue::Store(output), scratch.as_mut_slice());
        // SAFETY: the arrays have the sizes that the problem describes; `isa` is available.
        let result = unsafe { conv_filter_grad(pool, isa, &problem, x, dy, &epilogue, scratch) };
        failure = result.err();
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    report(layer.name, flops, &measured);
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Forward,
    InputGrad,
    FilterGrad,
}

const DEPTHWISE: Layer =
    Layer { name: "", images: 1, input: 0, kernel: 3, stride: 1, pad: 1, cin: 0, cout: 0 };

fn depthwise(pool: &Pool, isa: Isa, layer: &Layer, way: Way, name: &str) -> Result<()> {
    let (geometry, channels) = (layer.geometry(), layer.cin);
    let x = Pixels::dense(geometry.input, channels);
    let dy = Pixels::dense(geometry.output, channels);
    let problem = depthwise::Problem { geometry, images: 1, channels, x, dy, tap_stride: channels };
    let (mut images, grads) = (filled(x.image_stride)?, filled(dy.image_stride)?);
    let filters = filled(9 * channels)?;
    let mut c = filled(x.image_stride)?;
    let bytes = match way {
        Way::FilterGrad => depthwise::filter_grad_scratch_bytes::<f32>(isa, &problem, pool.threads()),
        _ => depthwise::scratch_bytes::<f32>(isa, pool.threads()),
    };
    let mut scratch = Block::new(bytes)?;
    let output = Output { c: c.as_mut_ptr().cast::<f32>(), row_stride: channels, batch_stride: 0 };
    let mut failure = None;
    let flops = 2.0 * (9 * channels * layer.output_pixels()) as f64;
    let measured = measure(isa, size_of::<f32>(), pool.threads(), flops, || {
        let x = black_box(images.as_mut_ptr()).cast::<f32>();
        let (dy, w) = (grads.as_ptr().cast::<f32>(), filters.as_ptr().cast::<f32>());
        let (epilogue, scratch) = (Epilogue::Store(output), scratch.as_mut_slice());
        // SAFETY: the arrays have the sizes that the problem describes; `isa` is available.
        let result = unsafe {
            match way {
                Way::Forward => depthwise::forward(pool, isa, &problem, x, w, &epilogue, scratch),
                Way::InputGrad => depthwise::input_grad(pool, isa, &problem, dy, w, &epilogue, scratch),
                Way::FilterGrad => depthwise::filter_grad(pool, isa, &problem, x, dy, &epilogue, scratch),
            }
        };
        failure = result.err();
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    report(name, flops, &measured);
    Ok(())
}

fn pooling(pool: &Pool, isa: Isa, way: &str) -> Result<()> {
    let channels = 64;
    let sizes = |size| [1, size, size];
    let geometry = Geometry {
        input: sizes(112),
        output: sizes(56),
        kernel: sizes(3),
        stride: [1, 2, 2],
        dilation: [1; 3],
        pad: [0, 1, 1],
    };
    let problem = window::Problem { geometry, images: 1, channels };
    let (mut x, mut c) = (filled(112 * 112 * channels)?, filled(112 * 112 * channels)?);
    let mut winner = filled(56 * 56 * channels)?;
    let mut scratch = Block::new(window::scratch_bytes::<f32>(isa, pool.threads()))?;
    let output = Output { c: c.as_mut_ptr().cast::<f32>(), row_stride: channels, batch_stride: 0 };
    let mut failure = None;
    let outputs = (56 * 56 * channels) as f64;
    let measured = measure(isa, size_of::<f32>(), pool.threads(), outputs * 9.0, || {
        let (epilogue, scratch) = (Epilogue::Store(output), scratch.as_mut_slice());
        let data = black_box(x.as_mut_ptr()).cast::<f32>().cast_const();
        let of = |size| Pixels::dense(sizes(size), channels);
        let images = window::Images { data, pixels: of(112) };
        let g = window::Images { data, pixels: of(56) };
        let winners = winner.as_mut_ptr().cast::<i32>();
        // SAFETY: the arrays have the sizes that the problem describes; `isa` is available.
        let result = unsafe {
            match way {
                "maximum" => window::max_pool(pool, isa, &problem, images, winners, &epilogue, scratch),
                "scatter" => {
                    let winner = window::Images { data: winners.cast_const(), pixels: of(56) };
                    window::window_scatter(pool, isa, &problem, g, winner, &epilogue, scratch)
                }
                _ => {
                    let divisor = window::Divisor::WithPadding([0, 1, 1]);
                    window::avg_pool(pool, isa, &problem, divisor, images, &epilogue, scratch)
                }
            }
        };
        failure = result.err();
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    println!("{way:34} {:9.1} {:9.3}", measured.time * 1e6, measured.time * 1e9 / outputs);
    Ok(())
}

fn report(name: &str, flops: f64, measured: &Measured) {
    let (us, rate) = (measured.time * 1e6, flops / measured.time / 1e9);
    let [median, best] = [measured.ratio, measured.best].map(|ratio| 100.0 * ratio);
    println!("{name:34} {us:9.1} {rate:9.1} {median:7.1} {best:7.1}");
}

fn filled(elements: usize) -> Result<Block> {
    let mut block = Block::new(elements * size_of::<f32>())?;
    for i in 0..elements {
        // SAFETY: the block has room for `elements` of them, and is aligned for any.
        unsafe { *block.as_mut_ptr().cast::<f32>().add(i) = (i % 7) as f32 };
    }
    Ok(block)
}
