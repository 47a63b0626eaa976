//! What is measured.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Conv, CrossEntropy, Gelu, LayerNorm, Linear, Reduction, Softmax};

use graphc::build::{Expr, FunctionBuilder, ModuleBuilder};
use graphc_ir::Module;

use super::Result;

/// A function to measure.
pub struct Work {
    pub name: &'static str,
    pub module: Module,
    pub function: &'static str,
    /// Size of dims that are symbols.
    pub batch: usize,
    /// Operations of a run, if they are what counts.
    pub flops: f64,
    /// Bytes that a run has to move, if they are what counts.
    pub bytes: f64,
    /// Whether to measure it with a session around it too.
    pub host: bool,
    /// Cuts of k to compare.
    pub cuts: &'static [usize],
}

/// Everything, small for a software driver.
pub fn all(small: bool) -> Result<Vec<Work>> {
    let n = if small { 64 } else { 4096 };
    let mut all = Vec::new();
    for (name, a_turned, b_turned) in
        [("gemm_nn", false, false), ("gemm_nt", false, true), ("gemm_tn", true, false)]
    {
        all.push(product(name, [n, n, n], [a_turned, b_turned], Tail::Nothing)?);
    }
    let (m, k) = if small { (64, 32) } else { (4096, 1024) };
    all.push(product("gemm_plain", [m, m, k], [false; 2], Tail::Nothing)?);
    all.push(product("gemm_fused", [m, m, k], [false; 2], Tail::Everything)?);
    for (name, tail) in
        [("gemm_bias", Tail::Bias), ("gemm_gelu", Tail::Activation), ("gemm_sum", Tail::Other)]
    {
        all.push(product(name, [m, m, k], [false; 2], tail)?);
    }
    let medium = if small { 64 } else { 1024 };
    all.push(product("gemm_1024", [medium; 3], [false; 2], Tail::Nothing)?);
    let medium = if small { 32 } else { 512 };
    all.push(product("gemm_512", [medium; 3], [false; 2], Tail::Nothing)?);
    let wide = if small { 64 } else { 4096 };
    all.push(product("gemm_64", [64, wide, wide], [false; 2], Tail::Nothing)?);

    let elements = if small { 1 << 12 } else { 1 << 28 };
    all.push(elementwise("scale", elements, |x| Ok(x * 1.0001))?);
    all.push(elementwise("chain_8", elements, |x| {
        let y = (x * 1.01 + 0.5).relu() - 0.25;
        Ok((y * y + 1.0).sqrt() * 0.5)
    })?);
    let (rows, cols) = if small { (8, 512) } else { (8192, 4096) };
    for (name, rows, cols) in
        [("softmax", rows, cols), ("softmax_50k", rows / 8, if small { 1024 } else { 50_000 })]
    {
        all.push(row_work(name, rows, cols, |f, x| f.op(Softmax { axis: 1 }, &[x]))?);
    }
    all.push(row_work("layer_norm", rows, cols, |f, x| {
        let cols = format!("f32[{cols}]");
        let (scale, shift) = (f.input("scale", &cols)?, f.input("shift", &cols)?);
        f.op(LayerNorm { axes: 1, eps: Real(1e-5) }, &[x, scale, shift])
    })?);
    let (rows, cols) = if small { (1 << 8, 64) } else { (1 << 19, 512) };
    all.push(folded("column_sum", rows, cols, &[0])?);
    all.push(folded("full_sum", rows, cols, &[0, 1])?);

    for (name, image, from, to, kernel, stride) in [
        ("conv_56", 56, 64, 64, 3, 1),
        ("conv_28", 28, 128, 128, 3, 1),
        ("conv_14", 14, 256, 256, 3, 1),
        ("conv_7", 7, 512, 512, 3, 1),
        ("conv_stem", 224, 3, 64, 7, 2),
        ("conv_down", 56, 64, 128, 3, 2),
    ] {
        all.push(convolution(name, if small { 1 } else { 16 }, image, [from, to], kernel, stride)?);
    }

    let model = |name, function, batch| -> Result<Work> {
        let model = graphc_models::MODELS.iter().find(|m| m.name == name).ok_or("there is no such model")?;
        let module = (model.build)()?;
        Ok(Work { name, module, function, batch, flops: 0.0, bytes: 0.0, host: true, cuts: &[1] })
    };
    all.push(Work { name: "mlp", module: mlp()?, ..model("mlp_784", "train_step", 128)? });
    all.push(model("mlp_784", "train_step", 128)?);
    if !small {
        all.push(Work { flops: 2.0 * 16.0 * 1.814e9, ..model("resnet18", "predict", 16)? });
        all.push(Work { name: "resnet18_step", ..model("resnet18", "train_step", 16)? });
        all.push(model("resnet20", "train_step", 128)?);
        all.push(model("encoder", "train_step", 8)?);
        all.push(model("char_lstm", "train_step", 32)?);
    }
    Ok(all)
}

/// What follows a product.
enum Tail {
    Nothing,
    Bias,
    Activation,
    /// Another operand.
    Other,
    /// All three.
    Everything,
}

fn module(f: impl FnOnce(&FunctionBuilder<'_>) -> graphc::build::Result<()>) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.function("f", f)?;
    Ok(m.finish()?)
}

fn plain(name: &'static str, module: Module) -> Work {
    Work { name, module, function: "f", batch: 1, flops: 0.0, bytes: 0.0, host: false, cuts: &[1] }
}

fn product(name: &'static str, [m, n, k]: [usize; 3], turned: [bool; 2], tail: Tail) -> Result<Work> {
    let module = module(|f| {
        let shape = |rows, cols, turned| {
            if turned { format!("f32[{cols},{rows}]") } else { format!("f32[{rows},{cols}]") }
        };
        let a = f.input("a", &shape(m, k, turned[0]))?;
        let b = f.input("b", &shape(k, n, turned[1]))?;
        let a = if turned[0] { a.transpose(&[1, 0]) } else { a };
        let b = if turned[1] { b.transpose(&[1, 0]) } else { b };
        let y = a.matmul(b);
        let bias = || f.input("bias", &format!("f32[{n}]"));
        let other = || f.input("other", &format!("f32[{m},{n}]"));
        let gelu = Gelu { tanh: false };
        f.output(
            "y",
            match tail {
                Tail::Nothing => y,
                Tail::Bias => y + bias()?,
                Tail::Activation => y.op(gelu, &[]),
                Tail::Other => y + other()?,
                Tail::Everything => (y + bias()?).op(gelu, &[]) + other()?,
            },
        )
    })?;
    let cuts: &[usize] = if m * n >= 2048 * 2048 { &[1] } else { &[1, 4] };
    Ok(Work { flops: 2.0 * (m * n * k) as f64, cuts, ..plain(name, module) })
}

fn elementwise(
    name: &'static str,
    elements: usize,
    body: impl for<'s> FnOnce(Expr<'s>) -> graphc::build::Result<Expr<'s>>,
) -> Result<Work> {
    let module = module(|f| f.output("y", body(f.input("x", &format!("f32[{elements}]"))?)?))?;
    Ok(Work { bytes: 8.0 * elements as f64, ..plain(name, module) })
}

fn row_work(
    name: &'static str,
    rows: usize,
    cols: usize,
    body: impl for<'s> FnOnce(&'s FunctionBuilder<'_>, Expr<'s>) -> graphc::build::Result<Expr<'s>>,
) -> Result<Work> {
    let module = module(|f| f.output("y", body(f, f.input("x", &format!("f32[{rows},{cols}]"))?)?))?;
    Ok(Work { bytes: 8.0 * (rows * cols) as f64, ..plain(name, module) })
}

fn folded(name: &'static str, rows: usize, cols: usize, axes: &[usize]) -> Result<Work> {
    let module = module(|f| f.output("y", f.input("x", &format!("f32[{rows},{cols}]"))?.sum(axes)))?;
    Ok(Work { bytes: 4.0 * (rows * cols) as f64, ..plain(name, module) })
}

/// A convolution without padding of its image's edges beyond what keeps the size.
fn convolution(
    name: &'static str,
    batch: usize,
    size: usize,
    [from, to]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Result<Work> {
    let pads = vec![kernel / 2; 2];
    let module = module(|f| {
        let x = f.input("x", &format!("f32[{batch},{from},{size},{size}]"))?;
        let w = f.input("w", &format!("f32[{to},{from},{kernel},{kernel}]"))?;
        let op = Conv {
            strides: vec![stride; 2],
            pads_lo: pads.clone(),
            pads_hi: pads.clone(),
            ..Conv::default()
        };
        f.output("y", f.op(op, &[x, w])?)
    })?;
    let windows = batch * size.div_ceil(stride) * size.div_ceil(stride);
    let flops = 2.0 * (windows * to * from * kernel * kernel) as f64;
    Ok(Work { flops, cuts: &[1, 4], ..plain(name, module) })
}

/// A perceptron 784-256-128-10 and its training step with momentum.
fn mlp() -> Result<Module> {
    const SIZES: [usize; 4] = [784, 256, 128, 10];
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    let names: Vec<String> = (1..SIZES.len()).flat_map(|n| [format!("w{n}"), format!("b{n}")]).collect();
    for (n, pair) in SIZES.windows(2).enumerate() {
        for role in ["", ".momentum"] {
            m.param(&format!("w{}{role}", n + 1), &format!("f32[{},{}]", pair[0], pair[1]))?;
            m.param(&format!("b{}{role}", n + 1), &format!("f32[{}]", pair[1]))?;
        }
    }
    m.function("train_step", |f| {
        let mut h = f.input("x", &format!("f32[B,{}]", SIZES[0]))?;
        for n in 1..SIZES.len() {
            let z = f.op(Linear {}, &[h, f.state(&format!("w{n}"))?, f.state(&format!("b{n}"))?])?;
            h = if n + 1 < SIZES.len() { z.relu() } else { z };
        }
        let loss = f.op(CrossEntropy { reduction: Reduction::Mean }, &[h, f.input("y", "i32[B]")?])?;
        let params = names.iter().map(|name| f.state(name)).collect::<graphc::build::Result<Vec<_>>>()?;
        for ((name, param), gradient) in names.iter().zip(&params).zip(f.gradients(loss, &params)?) {
            let velocity = f.state(&format!("{name}.momentum"))? * 0.9 + gradient;
            f.update(&format!("{name}.momentum"), velocity)?;
            f.update(name, *param - velocity * 0.01)?;
        }
        f.loss("loss", loss)
    })?;
    Ok(m.finish()?)
}
