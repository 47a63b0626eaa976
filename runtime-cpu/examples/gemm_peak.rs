//! How much of the processor's multiply-add peak matrix products reach.
//!
//! Each sample of a product stands between two bursts of multiply-adds in registers, and the figure is
//! the median of the ratios: clocks and neighbours change from one moment to the next, ratios hardly do.
//! `best` compares the shortest sample with the shortest burst: what an undisturbed machine would do.
//!
//! `cargo run --release -p graphc-cpu --example gemm_peak [threads] [filter]`

use std::error::Error;
use std::hint::black_box;

use graphc_cpu::gemm::{
    ALayout, BLayout, Element, Epilogue, Output, PackSource, Problem, gemm, pack_b, packed_len, scratch_bytes,
};
use graphc_cpu::isa::{FlushDenormals, ISA_VARIABLE, Isa};
use graphc_cpu::memory::Block;
use graphc_cpu::pool::Pool;

mod peak;

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
    let forced = std::env::var_os(ISA_VARIABLE).map(|_| Isa::detect()).transpose()?;
    for isa in forced.map_or_else(Isa::available, |isa| vec![isa]) {
        println!("\n{isa}: f32 peak {:.1} GFLOP/s a thread", peak::peak(isa));
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

    let measured = peak::measure(isa, size_of::<T>(), pool.threads(), product.flops(), &mut once);
    if let Some(error) = failure {
        return Err(error.into());
    }
    let peak::Measured { time, ratio, best } = measured;
    let (ratio, best) = (ratio * 100.0, best * 100.0);
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
