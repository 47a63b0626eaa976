//! Residual networks of basic blocks (He et al., "Deep residual learning for image recognition", 2016).

use graphc::build::ops::{AvgPool, Flatten, GlobalAvgPool, Layout, Linear, MaxPool, Pad};
use graphc::build::{Dim, Expr, FunctionBuilder, ModuleBuilder, Result};

use super::Param;
use super::convolution::{NormalizedConvolution, Statistics};

/// What a block adds to its branch where sizes change; elsewhere it is the block's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Every second row and column, with channels of zeros appended: the paper's option A.
    Padded,
    /// A normalized convolution of size 1 with the block's stride: option B.
    Projected,
}

/// The sizes of a network.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a> {
    /// Channels of the image.
    pub channels: usize,
    /// Height and width of the image, divisible by all strides.
    pub size: usize,
    /// Height and width of the first filters, and their stride.
    pub stem: (usize, usize),
    /// Whether a pool of 3 x 3 with stride 2 follows the first convolution.
    pub pool: bool,
    /// Channels of each stage; all but the first begin with a stride of 2.
    pub widths: &'a [usize],
    /// Blocks of each stage.
    pub blocks: usize,
    /// What goes around blocks that change sizes.
    pub shortcut: Shortcut,
    /// Classes.
    pub classes: usize,
}

#[derive(Clone, Debug)]
struct Block {
    name: String,
    first: NormalizedConvolution,
    second: NormalizedConvolution,
    projection: Option<NormalizedConvolution>,
}

/// A network: convolutions and blocks, a mean over the image, and a linear layer `fc.w`, `fc.b`.
#[derive(Clone, Debug)]
pub struct Residual {
    stem: NormalizedConvolution,
    pool: bool,
    blocks: Vec<Block>,
    classes: usize,
}

impl Residual {
    /// The network of these sizes.
    pub fn new(sizes: &Sizes<'_>) -> Residual {
        let (kernel, stride) = sizes.stem;
        let mut size = sizes.size / stride;
        let mut inputs = sizes.widths[0];
        let stem = NormalizedConvolution {
            name: "stem".into(),
            inputs: sizes.channels,
            outputs: inputs,
            kernel,
            stride,
            size,
        };
        size /= if sizes.pool { 2 } else { 1 };
        let mut blocks = Vec::new();
        for (stage, width) in sizes.widths.iter().enumerate() {
            for block in 0..sizes.blocks {
                let name = format!("stage{}.block{}", stage + 1, block + 1);
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                size /= stride;
                let layer = |part: &str, inputs, kernel, stride| NormalizedConvolution {
                    name: format!("{name}.{part}"),
                    inputs,
                    outputs: *width,
                    kernel,
                    stride,
                    size,
                };
                let projected = sizes.shortcut == Shortcut::Projected && (stride, inputs) != (1, *width);
                blocks.push(Block {
                    first: layer("conv1", inputs, 3, stride),
                    second: layer("conv2", *width, 3, 1),
                    projection: projected.then(|| layer("shortcut", inputs, 1, stride)),
                    name,
                });
                inputs = *width;
            }
        }
        Residual { stem, pool: sizes.pool, blocks, classes: sizes.classes }
    }

    fn convolutions(&self) -> impl Iterator<Item = &NormalizedConvolution> {
        let blocks = self.blocks.iter().flat_map(|b| [&b.first, &b.second].into_iter().chain(&b.projection));
        std::iter::once(&self.stem).chain(blocks)
    }

    fn features(&self) -> usize {
        self.blocks.last().map_or(self.stem.outputs, |b| b.second.outputs)
    }

    /// Names and shapes of the parameters.
    pub fn params(&self) -> Vec<Param> {
        let linear =
            [("fc.w".into(), vec![self.features(), self.classes]), ("fc.b".into(), vec![self.classes])];
        self.convolutions().flat_map(NormalizedConvolution::params).chain(linear).collect()
    }

    /// Declares the running statistics, without values.
    pub fn declare_statistics(&self, m: &mut ModuleBuilder) -> Result<()> {
        self.convolutions().try_for_each(|c| c.declare_statistics(m))
    }

    /// Assigns means of 0 and variances of 1 to the running statistics.
    pub fn initialize_statistics(&self, f: &FunctionBuilder<'_>) -> Result<()> {
        self.convolutions().try_for_each(|c| c.initialize_statistics(f))
    }

    /// `logits` f32`[B,classes]` of images.
    pub fn logits<'s>(
        &self,
        f: &'s FunctionBuilder<'_>,
        x: Expr<'s>,
        statistics: Statistics<'s>,
    ) -> Result<Expr<'s>> {
        let mut h = f.name("stem.relu", self.stem.apply(f, x, statistics)?.relu())?;
        if self.pool {
            let op = MaxPool {
                strides: vec![2; 2],
                pads_lo: vec![1; 2],
                pads_hi: vec![1; 2],
                ..MaxPool::new(&[3, 3])
            };
            h = f.name("stem.pool", f.op(op, &[h])?)?;
        }
        for block in &self.blocks {
            let branch = block.first.apply(f, h, statistics)?;
            let branch = f.name(&format!("{}.relu1", block.name), branch.relu())?;
            let branch = block.second.apply(f, branch, statistics)?;
            let around = match &block.projection {
                Some(projection) => projection.apply(f, h, statistics)?,
                None if block.first.stride == 1 => h,
                None => padded(f, h, &block.first)?,
            };
            h = f.name(&format!("{}.relu2", block.name), (branch + around).relu())?;
        }
        let mean =
            f.op(Flatten { axis: 1 }, &[f.op(GlobalAvgPool { layout: Layout::ChannelsFirst }, &[h])?])?;
        let mean = f.name("features", mean)?;
        f.name("logits", f.op(Linear {}, &[mean, f.state("fc.w")?, f.state("fc.b")?])?)
    }
}

/// [`Shortcut::Padded`] around a block that begins with `layer`.
fn padded<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'_>, layer: &NormalizedConvolution) -> Result<Expr<'s>> {
    // A mean over windows of one element is a slice with steps.
    let picked = f.op(AvgPool { strides: vec![layer.stride; 2], ..AvgPool::new(&[1, 1]) }, &[x])?;
    let along_channels = |n: usize| [0, n, 0, 0].map(Dim::from).to_vec();
    let op = Pad { lo: along_channels(0), hi: along_channels(layer.outputs - layer.inputs), value: 0.into() };
    f.op(op, &[picked])
}
