//! The axes that a step's work extends along, and what cutting it there takes.

use std::ops::Range;

use graphc_ir::ops::Geometry;
use graphc_ir::program::{Conv, ConvRole, FoldAxis, Kernel, Pool, PoolKind};

use crate::kernels::Work;

/// What cutting a step across an axis takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It cannot be cut there.
    Never,
    /// Pieces make different results.
    Results,
    /// Pieces, in order, make the same results together.
    Terms,
}

/// What a dim of a port lies along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// An axis.
    Axis(usize),
    /// What is within the windows of positions on an axis, or the positions whose windows an axis' pixels are in.
    Windows(usize),
    /// A dim of so many elements that is never cut.
    Whole(usize),
}

/// An axis of a step's work.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its size.
    pub size: usize,
    /// What cutting across it takes.
    pub cut: Cut,
    windows: Option<Windows>,
}

/// How positions of windows and pixels belong together along one dim.
#[derive(Clone, Debug)]
struct Windows {
    /// Whether the axis is one of pixels.
    of_pixels: bool,
    positions: usize,
    pixels: usize,
    stride: usize,
    /// From the first pixel of a window to its last.
    reach: usize,
    pad: usize,
}

/// The axes of a step, and what each dim of its ports and of its domain lies along.
#[derive(Clone, Debug)]
pub struct Axes {
    pub axes: Vec<Axis>,
    /// The axes that are the dims of windows, along which a window is seen whole or in part; no port lies along them.
    pub taps: Range<usize>,
    pub reads: Vec<Vec<Along>>,
    pub writes: Vec<Vec<Along>>,
    pub domain: Vec<Along>,
}

impl Windows {
    fn of(g: &Geometry, dim: usize, of_pixels: bool) -> Windows {
        let w = &g.window;
        Windows {
            of_pixels,
            positions: g.positions[dim],
            pixels: g.image[dim],
            stride: w.strides[dim],
            reach: w.kernel[dim].saturating_sub(1) * w.dilations[dim],
            pad: w.pads_lo[dim],
        }
    }

    /// The axis' size, and that of what is within its windows or of the windows it is in.
    fn sizes(&self) -> [usize; 2] {
        if self.of_pixels { [self.pixels, self.positions] } else { [self.positions, self.pixels] }
    }

    /// The pixels within the windows of positions, or the positions of windows that pixels are in.
    fn range(&self, of: &Range<usize>) -> Range<usize> {
        let [whole, other] = self.sizes();
        if of.len() == whole {
            // Also what is in no window.
            return 0..other;
        }
        let last = of.end.saturating_sub(1).max(of.start);
        let (lo, hi, most) = if self.of_pixels {
            let lo = (of.start + self.pad).saturating_sub(self.reach) / self.stride;
            (lo, (last + self.pad) / self.stride + 1, self.positions)
        } else {
            let lo = (of.start * self.stride).saturating_sub(self.pad);
            (lo, (last * self.stride + self.reach + 1).saturating_sub(self.pad), self.pixels)
        };
        lo.min(most)..hi.clamp(lo.min(most), most)
    }

    /// The most of those for so many.
    fn most(&self, count: usize) -> usize {
        let [whole, other] = self.sizes();
        let most = match self.of_pixels {
            _ if count == whole => other,
            true => (count + self.reach) / self.stride + 2,
            false => count.saturating_sub(1) * self.stride + self.reach + 1,
        };
        most.min(other)
    }
}

fn axis(size: usize, cut: Cut) -> Axis {
    Axis { size, cut, windows: None }
}

fn axes_of(sizes: &[usize], cut: Cut) -> Vec<Axis> {
    sizes.iter().map(|size| axis(*size, cut)).collect()
}

fn along(axes: impl IntoIterator<Item = usize>) -> Vec<Along> {
    axes.into_iter().map(Along::Axis).collect()
}

impl Axes {
    /// Those of a step or a piece. Loops and branches have none.
    pub fn of(work: &Work) -> Axes {
        let (reads, writes) = (work.reads.len(), work.writes.len());
        let looked_up = |whole: usize| work.looked_up.as_ref().map_or(whole, Range::len);
        let swept = |axes: Vec<Axis>, operands: Vec<Vec<Along>>, domain: Vec<Along>| {
            let rest = reads.saturating_sub(operands.len());
            let reads = operands.into_iter().chain(vec![domain.clone(); rest]).collect();
            Axes { axes, taps: 0..0, reads, writes: vec![domain.clone(); writes], domain }
        };
        match &work.kernel {
            Kernel::Nest(nest) => {
                let folds = |axis| nest.body.folds(axis);
                let rows = if folds(FoldAxis::Rows) { Cut::Terms } else { Cut::Results };
                let cols = if folds(FoldAxis::Cols) { Cut::Never } else { Cut::Results };
                let axes = [axes_of(&nest.rows, rows), axes_of(&nest.cols, cols)].concat();
                let domain = along(0..axes.len());
                swept(axes, Vec::new(), domain)
            }
            Kernel::Dot(dot) => {
                let rank = dot.batch.len();
                let results = [&dot.batch[..], &[dot.m, dot.n]].concat();
                let mut axes = axes_of(&results, Cut::Results);
                axes.push(axis(dot.k, Cut::Terms));
                let side = |last: [usize; 2]| along((0..rank).chain(last));
                let operands = vec![side([rank, rank + 2]), side([rank + 2, rank + 1])];
                swept(axes, operands, along(0..rank + 2))
            }
            Kernel::Conv(conv) => {
                let (axes, operands, domain) = of_conv(conv);
                let cut = if conv.role == ConvRole::FilterGrad { Cut::Never } else { Cut::Terms };
                let taps = taps(&conv.geometry, &work.taps, |_| cut);
                swept(axes, operands.to_vec(), domain).with_taps(taps)
            }
            Kernel::Pool(pool) => {
                let (axes, operands, domain) = of_pool(pool);
                // The first of equal elements is found in order: pieces have to be, too.
                let kernel = &pool.geometry.window.kernel;
                let outermost = |d: usize| kernel[..d].iter().all(|size| *size == 1);
                let cut = |d: usize| match pool.kind {
                    PoolKind::Max { .. } if !outermost(d) => Cut::Never,
                    _ => Cut::Terms,
                };
                let taps = taps(&pool.geometry, &work.taps, cut);
                swept(axes, operands, domain).with_taps(taps)
            }
            Kernel::ArgReduce { rows, cols, .. } => {
                let axes = [axes_of(rows, Cut::Results), axes_of(&[*cols], Cut::Never)].concat();
                let [read, write] = [along(0..rows.len() + 1), along(0..rows.len())];
                Axes { axes, taps: 0..0, reads: vec![read], writes: vec![write.clone()], domain: write }
            }
            Kernel::Gather { outer, axis: size, inner, count } => {
                let cuts = [Cut::Results, Cut::Terms, Cut::Never, Cut::Results];
                let axes = [*outer, looked_up(*size), *inner, *count].into_iter().zip(cuts);
                Axes {
                    axes: axes.map(|(size, cut)| axis(size, cut)).collect(),
                    taps: 0..0,
                    reads: vec![along([0, 1, 2]), along([3])],
                    writes: vec![along([0, 3, 2])],
                    domain: along([0, 3, 2]),
                }
            }
            Kernel::ScatterAdd { outer, axis: size, inner, count } => {
                let cuts = [Cut::Results, Cut::Results, Cut::Never, Cut::Terms];
                let axes = [*outer, looked_up(*size), *inner, *count].into_iter().zip(cuts);
                Axes {
                    axes: axes.map(|(size, cut)| axis(size, cut)).collect(),
                    taps: 0..0,
                    reads: vec![along([0, 1, 2]), along([3]), along([0, 3, 2])],
                    writes: vec![along([0, 1, 2])],
                    domain: along([0, 1, 2]),
                }
            }
            _ => Axes {
                axes: Vec::new(),
                taps: 0..0,
                reads: Vec::new(),
                writes: Vec::new(),
                domain: Vec::new(),
            },
        }
    }

    /// The same with axes of windows' elements.
    fn with_taps(mut self, taps: Vec<Axis>) -> Axes {
        self.taps = self.axes.len()..self.axes.len() + taps.len();
        self.axes.extend(taps);
        self
    }

    /// The most elements of a dim, given those of a piece along each axis.
    pub fn most(&self, along: Along, sizes: &[usize]) -> usize {
        match along {
            Along::Axis(a) => sizes[a],
            Along::Windows(a) => self.axes[a].windows.as_ref().map_or(sizes[a], |w| w.most(sizes[a])),
            Along::Whole(size) => size,
        }
    }

    /// The part of a dim that a piece has, given its parts of the axes.
    pub fn range(&self, along: Along, of: &[Range<usize>]) -> Range<usize> {
        match along {
            Along::Axis(a) => of[a].clone(),
            Along::Windows(a) => {
                self.axes[a].windows.as_ref().map_or_else(|| of[a].clone(), |w| w.range(&of[a]))
            }
            Along::Whole(size) => 0..size,
        }
    }

    /// The kernel of a piece, given its parts of the axes. What gathers and scatters look up stays whole.
    pub fn piece(&self, kernel: &Kernel, of: &[Range<usize>]) -> Kernel {
        let mut piece = kernel.clone();
        let size = |a: usize| of[a].len();
        match &mut piece {
            Kernel::Nest(nest) => {
                let rows = nest.rows.len();
                nest.rows = (0..rows).map(size).collect();
                nest.cols = (rows..of.len()).map(size).collect();
            }
            Kernel::Dot(dot) => {
                let rank = dot.batch.len();
                dot.batch = (0..rank).map(size).collect();
                [dot.m, dot.n, dot.k] = [rank, rank + 1, rank + 2].map(size);
            }
            Kernel::Conv(conv) => {
                let g = &mut conv.geometry;
                let rank = g.image.len();
                self.windows_piece(g, of);
                if g.groups == 1 {
                    (g.channels, g.outputs) = (size(rank + 1), size(rank + 2));
                }
            }
            Kernel::Pool(pool) => {
                let g = &mut pool.geometry;
                self.windows_piece(g, of);
                (g.channels, g.outputs) = (size(g.image.len() + 1), size(g.image.len() + 1));
            }
            Kernel::ArgReduce { rows, .. } => *rows = (0..rows.len()).map(size).collect(),
            Kernel::Gather { outer, count, .. } | Kernel::ScatterAdd { outer, count, .. } => {
                (*outer, *count) = (size(0), size(3));
            }
            _ => {}
        }
        piece
    }

    /// The images, positions and pixels of a piece, and the padding that is left around them.
    fn windows_piece(&self, g: &mut Geometry, of: &[Range<usize>]) {
        g.batch = of[0].len();
        for d in 0..g.image.len() {
            let (own, other) = (of[1 + d].clone(), self.range(Along::Windows(1 + d), of));
            let Some(windows) =
                self.axes[1 + d].windows.as_ref().filter(|_| own.len() < self.axes[1 + d].size)
            else {
                continue;
            };
            let (positions, pixels) = if windows.of_pixels { (other, own) } else { (own, other) };
            // Where the first window of the piece begins in the padded image, and where that ends.
            let begin = positions.start * windows.stride;
            let end = windows.pad + windows.pixels + g.window.pads_hi[d];
            g.window.pads_lo[d] = (windows.pad + pixels.start).saturating_sub(begin);
            g.window.pads_hi[d] = end.saturating_sub(begin + g.window.pads_lo[d] + pixels.len());
            (g.positions[d], g.image[d]) = (positions.len(), pixels.len());
        }
    }
}

/// The dims of windows, or of the parts of them that a piece has.
fn taps(g: &Geometry, of: &[Range<usize>], cut: impl Fn(usize) -> Cut) -> Vec<Axis> {
    let size = |(d, size): (usize, &usize)| axis(of.get(d).map_or(*size, Range::len), cut(d));
    g.window.kernel.iter().enumerate().map(size).collect()
}

/// Images, then the dims of windows, then an image's channels and a result's.
fn of_conv(conv: &Conv) -> (Vec<Axis>, [Vec<Along>; 2], Vec<Along>) {
    let g = &conv.geometry;
    let rank = g.image.len();
    let (batch, cut) = match conv.role {
        ConvRole::FilterGrad => (Cut::Terms, Cut::Terms),
        _ => (Cut::Results, Cut::Results),
    };
    let mut axes = vec![axis(g.batch, batch)];
    let of_pixels = conv.role == ConvRole::InputGrad;
    for d in 0..rank {
        let size = if of_pixels { g.image[d] } else { g.positions[d] };
        axes.push(Axis { size, cut, windows: Some(Windows::of(g, d, of_pixels)) });
    }
    // Groups stay whole, and so do channels that are summed over within them.
    let summed = match conv.role {
        ConvRole::Forward => [true, false],
        ConvRole::InputGrad => [false, true],
        ConvRole::FilterGrad => [false, false],
    };
    for (size, summed) in [g.channels, g.outputs].into_iter().zip(summed) {
        axes.push(axis(
            size,
            match summed {
                _ if g.groups > 1 => Cut::Never,
                true => Cut::Terms,
                false => Cut::Results,
            },
        ));
    }
    let images = |of_axis: bool, channels: usize| -> Vec<Along> {
        let dim = |a: usize| if of_axis { Along::Axis(a) } else { Along::Windows(a) };
        [Along::Axis(0)].into_iter().chain((1..=rank).map(dim)).chain([Along::Axis(channels)]).collect()
    };
    let (image, result) = (images(of_pixels, rank + 1), images(!of_pixels, rank + 2));
    let taps = g.window.kernel.iter().map(|size| Along::Whole(*size));
    let inputs = if g.groups > 1 { Along::Whole(g.channels / g.groups) } else { Along::Axis(rank + 1) };
    let filters: Vec<Along> = taps.chain([inputs, Along::Axis(rank + 2)]).collect();
    let (operands, domain) = match conv.role {
        ConvRole::Forward => ([image, filters], result),
        ConvRole::InputGrad => ([result, filters], image),
        ConvRole::FilterGrad => ([image, result], filters),
    };
    (axes, operands, domain)
}

/// Images, then the dims of windows, then channels.
fn of_pool(pool: &Pool) -> (Vec<Axis>, Vec<Vec<Along>>, Vec<Along>) {
    let g = &pool.geometry;
    let rank = g.image.len();
    let of_pixels = pool.kind.makes_image();
    // How many pixels a window has is counted at its edges, which a piece does not know.
    let cut = if matches!(pool.kind, PoolKind::MeanGrad { .. }) { Cut::Never } else { Cut::Results };
    let mut axes = vec![axis(g.batch, Cut::Results)];
    for d in 0..rank {
        let size = if of_pixels { g.image[d] } else { g.positions[d] };
        axes.push(Axis { size, cut, windows: Some(Windows::of(g, d, of_pixels)) });
    }
    axes.push(axis(g.channels, Cut::Results));
    let images = |dims: fn(usize) -> Along| -> Vec<Along> {
        [Along::Axis(0)].into_iter().chain((1..=rank).map(dims)).chain([Along::Axis(rank + 1)]).collect()
    };
    let (own, other) = (images(Along::Axis), images(Along::Windows));
    let operands = match pool.kind {
        // The winners are those of the results.
        PoolKind::Gather => vec![other, own.clone()],
        kind => vec![other; kind.operands()],
    };
    (axes, operands, own)
}
