//! How much of the processor's multiply-add peak matrix products reach.
//!
//! Each sample of a product stands between two bursts of multiply-adds in registers, and the figure is
//! the median of the ratios: clocks and neighbours change from one moment to the next, ratios hardly do.
//! `best` compares the shortest sample with the shortest burst: what an undisturbed machine would do.
//!
//! `cargo run --release -p graphc-cpu --example gemm_peak [threads] [filter]`

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use graphc_cpu::gemm::{
    ALayout, BLayout, Element, Epilogue, Output, PackSource, Problem, gemm, pack_b, packed_len, scratch_bytes,
};
use graphc_cpu::isa::{FlushDenormals, Isa};
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum B {
    Packed,
    RowMajor,
    Transposed,
}

struct Product {
    m: usize,
    n: usize,
    k: usize,
    batch: usize,
    b: B,
    transposed_a: bool,
    bias_relu: bool,
}

impl Product {
    fn new(m: usize, n: usize, k: usize, b: B) -> Product {
        Product { m, n, k, batch: 1, b, transposed_a: false, bias_relu: false }
    }

    fn flops(&self) -> f64 {
        2.0 * (self.m * self.n * self.k * self.batch) as f64
    }

    fn name(&self) -> String {
        let batch = if self.batch > 1 { format!("{}x ", self.batch) } else { String::new() };
        let a = if self.transposed_a { "A^T " } else { "" };
        let epilogue = if self.bias_relu { " bias+relu" } else { "" };
        format!("{batch}{}x{}x{} {a}{:?}{epilogue}", self.m, self.n, self.k, self.b)
    }
}

fn products() -> Vec<Product> {
    let mut all: Vec<Product> = [64, 128, 256, 512, 768, 1024]
        .into_iter()
        .flat_map(|size| [B::Packed, B::RowMajor, B::Transposed].map(|b| Product::new(size, size, size, b)))
        .collect();
    all.push(Product { bias_relu: true, ..Product::new(512, 512, 512, B::Packed) });
    all.push(Product { bias_relu: true, ..Product::new(512, 512, 512, B::RowMajor) });
    for (m, n, k) in [(64, 100, 1000), (64, 1000, 100), (128, 768, 768), (197, 768, 3072), (3136, 64, 576)] {
        all.push(Product::new(m, n, k, B::Packed));
    }
    for (m, n, k) in [(1, 1000, 512), (1, 4096, 4096), (4, 1024, 1024), (8, 1000, 2048), (32, 1000, 4096)] {
        all.extend([B::Packed, B::RowMajor, B::Transposed].map(|b| Product::new(m, n, k, b)));
    }
    all.push(Product::new(4096, 1, 1024, B::RowMajor));
    all.push(Product { transposed_a: true, ..Product::new(4096, 1, 1024, B::RowMajor) });
    for (m, n, k) in [(784, 128, 64), (512, 512, 512), (1024, 1024, 1024), (128, 128, 12544)] {
        all.push(Product { transposed_a: true, ..Product::new(m, n, k, B::RowMajor) });
    }
    all.push(Product { batch: 12, ..Product::new(128, 128, 64, B::Transposed) });
    all.push(Product { batch: 12, ..Product::new(128, 64, 128, B::RowMajor) });
    all
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let filter = arguments.next().unwrap_or_default();
    let pool = Pool::new(threads)?;
    let _flush = FlushDenormals::enable();
    for isa in Isa::available() {
        println!("\n{isa}: f32 peak {:.1} GFLOP/s a thread", gflops(peak_flops(isa), || peak_burst(isa)));
        println!("{:34} {:>9} {:>9} {:>7} {:>7}", "product", "us", "GFLOP/s", "% peak", "best");
        for product in products().iter().filter(|product| product.name().contains(&filter)) {
            measure::<f32>(&pool, isa, product)?;
        }
        let double = Product::new(512, 512, 512, B::Packed);
        if double.name().contains(&filter) {
            print!("f64 ");
            measure::<f64>(&pool, isa, &double)?;
        }
    }
    Ok(())
}

fn measure<T: Element + From<u8>>(pool: &Pool, isa: Isa, product: &Product) -> Result<()> {
    let Product { m, n, k, batch, .. } = *product;
    let mut a = filled::<T>(m * k * batch)?;
    let mut b = filled::<T>(k * n * batch)?;
    let bias = filled::<T>(n)?;
    let mut c = filled::<T>(m * n * batch)?;
    let (layout, b_stride) = match product.b {
        B::RowMajor => (BLayout::RowMajor { stride: n }, k * n),
        B::Transposed => (BLayout::Transposed { stride: k }, k * n),
        B::Packed => {
            let mut packed = Block::new(packed_len::<T>(isa, k, n) * size_of::<T>())?;
            let source = PackSource { b: b.as_ptr().cast::<T>(), k_stride: n, n_stride: 1, k, n };
            // SAFETY: `b` holds k x n elements, and `packed` has the length that packing asks for.
            unsafe { pack_b(isa, &source, packed.as_mut_ptr().cast::<T>()) };
            b = packed;
            (BLayout::Packed, 0)
        }
    };
    let (row_stride, k_stride) = if product.transposed_a { (1, m) } else { (k, 1) };
    let a_layout = ALayout { row_stride, k_stride, batch_stride: m * k };
    let problem = Problem { m, n, k, batch, a: a_layout, b: layout, b_batch_stride: b_stride };
    let mut scratch = Block::new(scratch_bytes::<T>(isa, &problem, pool.threads()))?;
    let output = Output { c: c.as_mut_ptr().cast::<T>(), row_stride: n, batch_stride: m * n };
    let epilogue = if product.bias_relu {
        Epilogue::BiasRelu(output, bias.as_ptr().cast())
    } else {
        Epilogue::Store(output)
    };
    let mut failure = None;
    let mut once = || {
        let (a, b) = (black_box(a.as_mut_ptr()).cast::<T>(), b.as_ptr().cast::<T>());
        // SAFETY: the arrays have the sizes that the problem's layouts describe; `isa` is available.
        let result = unsafe { gemm(pool, isa, &problem, a, b, &epilogue, scratch.as_mut_slice()) };
        failure = result.err();
    };

    let peak_of_type = peak_flops(isa) * size_of::<f32>() as f64 / size_of::<T>() as f64;
    let repeats = (4e7 / product.flops()).ceil() as usize;
    let mut ratios = Vec::new();
    let mut times = Vec::new();
    let mut bursts = Vec::new();
    let samples = if product.flops() < 1e9 { 41 } else { 15 };
    for _ in 0..samples {
        let before = seconds(|| peak_burst(isa));
        let time = seconds(|| (0..repeats).for_each(|_| once())) / repeats as f64;
        let after = seconds(|| peak_burst(isa));
        let peak_time = (before + after) / 2.0 / peak_of_type;
        ratios.push(product.flops() / time * peak_time / pool.threads() as f64);
        times.push(time);
        bursts.push(before.min(after));
    }
    if let Some(error) = failure {
        return Err(error.into());
    }
    let ratio = median(&mut ratios) * 100.0;
    let time = median(&mut times);
    let shortest_burst = bursts.into_iter().fold(f64::INFINITY, f64::min);
    // Sorted by `median`.
    let best = product.flops() / times[0] * shortest_burst / peak_of_type / pool.threads() as f64 * 100.0;
    let (name, rate) = (product.name(), product.flops() / time / 1e9);
    println!("{name:34} {:9.1} {rate:9.1} {ratio:7.1} {best:7.1}", time * 1e6);
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

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn gflops(flops: f64, work: impl Fn()) -> f64 {
    let mut times: Vec<f64> = (0..101).map(|_| seconds(&work)).collect();
    flops / median(&mut times) / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const BURST_STEPS: usize = 40_000;

/// `f32` operations in one [`peak_burst`].
fn peak_flops(isa: Isa) -> f64 {
    let lanes = match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Portable => 4,
    };
    (BURST_STEPS * 12 * lanes * 2) as f64
}

#[cfg(target_arch = "x86_64")]
fn peak_burst(isa: Isa) {
    use std::arch::x86_64::*;

    macro_rules! burst {
        ($name:ident, $target:literal, $set1:ident, $vector:ty, |$acc:ident, $x:ident, $y:ident| $step:expr) => {
            #[target_feature(enable = $target)]
            fn $name() -> [$vector; 12] {
                let mut acc = [$set1(black_box(0.0)); 12];
                let ($x, $y) = ($set1(black_box(1.0)), $set1(black_box(0.5)));
                for _ in 0..BURST_STEPS {
                    for $acc in &mut acc {
                        *$acc = $step;
                    }
                }
                acc
            }
        };
    }
    burst!(avx512, "avx512f", _mm512_set1_ps, __m512, |acc, x, y| _mm512_fmadd_ps(*acc, y, x));
    burst!(avx2, "avx2,fma", _mm256_set1_ps, __m256, |acc, x, y| _mm256_fmadd_ps(*acc, y, x));
    burst!(portable, "sse2", _mm_set1_ps, __m128, |acc, x, y| _mm_add_ps(_mm_mul_ps(*acc, y), x));
    match isa {
        // SAFETY: callers pass instruction sets that this machine has.
        Isa::Avx512 => drop(black_box(unsafe { avx512() })),
        // SAFETY: as above.
        Isa::Avx2 => drop(black_box(unsafe { avx2() })),
        // SAFETY: as above.
        Isa::Portable => drop(black_box(unsafe { portable() })),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn peak_burst(_isa: Isa) {
    let mut acc = [black_box(0.0f32); 48];
    let (x, y) = (black_box(1.0f32), black_box(0.5f32));
    for _ in 0..BURST_STEPS {
        for acc in &mut acc {
            *acc = *acc * y + x;
        }
    }
    black_box(acc);
}
