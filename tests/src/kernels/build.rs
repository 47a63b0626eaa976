//! One kernel of each kind, with operands in every order that views can have.

use graphc_cpu::threshold::{Axis, Kernels};
use graphc_ir::error::Result;
use graphc_ir::ops::{
    ArgKind, ArgReduce, AvgPool, AvgPoolGrad, Conv, ConvFilterGrad, ConvInputGrad, Gather, Layout, MaxPool,
    ScatterAdd, WindowGather, WindowScatter,
};
use graphc_ir::{DType, Dim, ValueId};

use super::{Draft, Fill, Sizes};

impl Draft {
    /// The results of a kernel.
    pub(super) fn kernel(&mut self, kernels: Kernels, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        match kernels {
            Kernels::Dot => self.dot(sizes, fill),
            Kernels::Conv => {
                let role = Role::pick(self, &[Role::Forward, Role::Input]);
                self.conv(sizes, fill, role)
            }
            Kernels::FilterGrad => self.conv(sizes, fill, Role::Filter),
            Kernels::Depthwise => self.depthwise(sizes, fill),
            Kernels::Window => self.window(sizes, fill),
            Kernels::Nest => self.nest(sizes, fill),
            Kernels::Gather => self.gather(sizes, fill),
            Kernels::ArgReduce => self.arg_reduce(sizes, fill),
        }
    }

    /// An operand of a product, its rows or its columns contiguous, or a part of something larger.
    fn matrix(&mut self, batch: &[usize], rows: usize, columns: usize, fill: Fill) -> Result<ValueId> {
        let shape = |rows: usize, columns: usize| [batch, &[rows, columns]].concat();
        let rank = batch.len() + 2;
        let transposed = self.prng.chance(0.5);
        let (first, second) = if transposed { (columns, rows) } else { (rows, columns) };
        let cut = self.prng.chance(0.1);
        let gap = if cut { 1 + self.prng.below(3) } else { 0 };
        let mut x = self.operand(&shape(first, second + gap), fill)?;
        if cut {
            let start = self.prng.below(gap + 1);
            x = self.b.slice_axis(x, rank - 1, &start.into(), &(start + second).into())?;
            self.say("a part");
        }
        if transposed {
            self.say("transposed");
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(rank - 2, rank - 1);
            x = self.b.transpose(x, &perm)?;
        }
        Ok(x)
    }

    fn dot(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let (m, n, k) = (sizes.get(Axis::Rows), sizes.get(Axis::Columns), sizes.get(Axis::Depth));
        let small = m * n * k < 1 << 20;
        let batch: Vec<usize> = match self.prng.below(6) {
            0 if small => vec![2 + self.prng.below(3)],
            1 if small => vec![2, 1 + self.prng.below(3)],
            _ => Vec::new(),
        };
        let a = self.matrix(&batch, m, k, fill)?;
        let b = if !batch.is_empty() && self.prng.chance(0.3) {
            let shared = self.matrix(&[], k, n, fill)?;
            let dims: Vec<Dim> = batch.iter().copied().chain([k, n]).map(Dim::from).collect();
            self.b.broadcast_to(shared, &dims)?
        } else {
            self.matrix(&batch, k, n, fill)?
        };
        self.say(format_args!("batch {batch:?}"));
        Ok(vec![self.b.op1(graphc_ir::ops::Dot {}, &[a, b])?])
    }

    /// Height and width of images that have so many rows in all, about.
    fn image(&mut self, sizes: &Sizes) -> [usize; 3] {
        let images = sizes.get(Axis::Images);
        let each = sizes.get(Axis::Rows).div_ceil(images);
        let width = match sizes.get(Axis::Width) {
            wide if wide > 64 && each < wide => wide,
            some if self.prng.chance(0.5) => some.min(each),
            _ => self.prng.pick(&[each, (each as f64).sqrt().ceil() as usize, 1, 14]).clamp(1, each),
        };
        [images, each.div_ceil(width), width]
    }

    fn conv(&mut self, sizes: &Sizes, fill: Fill, role: Role) -> Result<Vec<ValueId>> {
        let [images, height, width] = self.image(sizes);
        let groups = self.prng.pick(&[1, 1, 1, 1, 2, 3]);
        let (channels, outputs) = (sizes.get(Axis::Channels), sizes.get(Axis::Columns));
        let kernel = vec![sizes.get(Axis::Window), sizes.get(Axis::Window)];
        let stride = self.prng.pick(&[1, 1, 1, 2]);
        let dilation = self.prng.pick(&[1, 1, 1, 1, 2]);
        let same = self.prng.chance(0.7);
        self.convolution(
            role,
            fill,
            Shape {
                image: [images, height, width],
                channels: channels * groups,
                outputs: outputs * groups,
                groups,
                kernel,
                stride,
                dilation,
                same,
            },
        )
    }

    fn depthwise(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let image = self.image(sizes);
        let channels = sizes.get(Axis::Columns);
        let role = Role::pick(self, &[Role::Forward, Role::Input, Role::Filter]);
        // Windows of one axis can be long.
        let window = sizes.get(Axis::Window);
        let kernel = if window > 7 { vec![window, 1] } else { vec![window, window] };
        let stride = self.prng.pick(&[1, 1, 2]);
        self.convolution(
            role,
            fill,
            Shape {
                image,
                channels,
                outputs: channels,
                groups: channels,
                kernel,
                stride,
                dilation: 1,
                same: true,
            },
        )
    }

    fn convolution(&mut self, role: Role, fill: Fill, shape: Shape) -> Result<Vec<ValueId>> {
        let Shape {
            image: [images, height, width],
            channels,
            outputs,
            groups,
            kernel,
            stride,
            dilation,
            same,
        } = shape;
        let layout = self.prng.pick(&[Layout::ChannelsLast, Layout::ChannelsLast, Layout::ChannelsFirst]);
        let extents: Vec<usize> = kernel.iter().map(|k| (k - 1) * dilation + 1).collect();
        let pads: Vec<usize> = extents.iter().map(|e| if same { e / 2 } else { 0 }).collect();
        // Without padding the image is as much larger.
        let size: Vec<usize> = [height, width]
            .iter()
            .zip(&extents)
            .map(|(n, e)| if same { n * stride } else { (n - 1) * stride + e })
            .collect();
        let made: Vec<usize> = (0..2).map(|i| (size[i] + 2 * pads[i] - extents[i]) / stride + 1).collect();
        let (strides, dilations) = (vec![stride; 2], vec![dilation; 2]);
        let (pads_lo, pads_hi) = (pads.clone(), pads);
        let of_image = |channels: usize, size: &[usize]| match layout {
            Layout::ChannelsFirst => vec![images, channels, size[0], size[1]],
            Layout::ChannelsLast => vec![images, size[0], size[1], channels],
        };
        let filters = match layout {
            Layout::ChannelsFirst => vec![outputs, channels / groups, kernel[0], kernel[1]],
            Layout::ChannelsLast => vec![kernel[0], kernel[1], channels / groups, outputs],
        };
        let (x, y) = (of_image(channels, &size), of_image(outputs, &made));
        self.say(format_args!(
            "{role:?} {x:?} by {filters:?}, stride {stride}, dilation {dilation}, padding {pads_lo:?}, groups {groups}, \
             {layout:?}"
        ));
        let result = match role {
            Role::Forward => {
                let (x, w) = (self.operand(&x, fill)?, self.operand(&filters, fill)?);
                self.b.op1(Conv { strides, dilations, pads_lo, pads_hi, groups, layout }, &[x, w])?
            }
            Role::Input => {
                let (g, w) = (self.operand(&y, fill)?, self.operand(&filters, fill)?);
                let size = size.iter().copied().map(Dim::from).collect();
                let op = ConvInputGrad { strides, dilations, pads_lo, pads_hi, groups, layout, size };
                self.b.op1(op, &[g, w])?
            }
            Role::Filter => {
                let (x, g) = (self.operand(&x, fill)?, self.operand(&y, fill)?);
                let op = ConvFilterGrad { strides, dilations, pads_lo, pads_hi, groups, layout, kernel };
                self.b.op1(op, &[x, g])?
            }
        };
        Ok(vec![result])
    }

    fn window(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let [images, height, width] = self.image(sizes);
        let channels = sizes.get(Axis::Columns);
        let window = sizes.get(Axis::Window);
        let kernel = vec![window.min(height), window.min(width)];
        let strides = vec![self.prng.pick(&[1, 2, 3]); 2];
        let pads: Vec<usize> = kernel.iter().map(|k| if self.prng.chance(0.5) { k / 2 } else { 0 }).collect();
        let (pads_lo, pads_hi, layout) = (pads.clone(), pads, Layout::ChannelsLast);
        let shape = [images, height, width, channels];
        let x = self.operand(&shape, fill)?;
        self.say(format_args!("{shape:?}, window {kernel:?}, strides {strides:?}, padding {pads_lo:?}"));
        let size: Vec<Dim> = vec![height.into(), width.into()];
        let which = self.prng.below(4);
        if which < 2 {
            let (ceil, count_pad) = (self.prng.chance(0.3), self.prng.chance(0.5));
            let op = AvgPool { kernel, strides, pads_lo, pads_hi, ceil, count_pad, layout };
            let mean = self.b.op1(op.clone(), &[x])?;
            if which == 0 {
                return Ok(vec![mean]);
            }
            let shape = self.b.ty(mean).static_shape();
            let g = self.operand(&shape, fill)?;
            let AvgPool { kernel, strides, pads_lo, pads_hi, ceil, count_pad, layout } = op;
            let op = AvgPoolGrad { kernel, strides, pads_lo, pads_hi, ceil, count_pad, layout, size };
            return Ok(vec![self.b.op1(op, &[g])?]);
        }
        let dilations = vec![1; 2];
        let ceil = self.prng.chance(0.3);
        let op = MaxPool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout };
        let pooled = self.b.op(op.clone(), &[x])?;
        if which == 2 {
            return Ok(vec![pooled[0]]);
        }
        let shape = self.b.ty(pooled[0]).static_shape();
        let g = self.operand(&shape, fill)?;
        let MaxPool { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout } = op;
        let scatter = WindowScatter {
            kernel: kernel.clone(),
            strides: strides.clone(),
            dilations: dilations.clone(),
            pads_lo: pads_lo.clone(),
            pads_hi: pads_hi.clone(),
            ceil,
            layout,
            size,
        };
        let scattered = self.b.op1(scatter, &[g, pooled[1]])?;
        let gather = WindowGather { kernel, strides, dilations, pads_lo, pads_hi, ceil, layout };
        let gathered = self.b.op1(gather, &[scattered, pooled[1]])?;
        Ok(vec![pooled[0], scattered, gathered])
    }

    fn nest(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let (rows, columns) = (sizes.get(Axis::Rows), sizes.get(Axis::Columns));
        let shape = match self.prng.below(4) {
            0 => vec![columns],
            1 if rows.is_multiple_of(2) => vec![2, rows / 2, columns],
            _ => vec![rows, columns],
        };
        self.say(format_args!("{shape:?}"));
        Ok(vec![match self.prng.below(4) {
            0 if shape.len() == 2 => {
                let x = self.operand(&[columns, rows], fill)?;
                self.b.transpose(x, &[1, 0])?
            }
            _ => self.operand(&shape, fill)?,
        }])
    }

    fn gather(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let (rows, columns) = (sizes.get(Axis::Rows), sizes.get(Axis::Columns));
        let of = self.prng.pick(&[1, 2, 17, 100]);
        let axis = self.prng.below(2);
        let table = if axis == 0 { [of, columns] } else { [columns, of] };
        let result = if axis == 0 { [rows, columns] } else { [columns, rows] };
        let dtype = self.prng.pick(&[DType::I32, DType::I64]);
        let indices = self.input(dtype, &[rows], Fill::Indices(of))?;
        self.say(format_args!("{table:?} along {axis} at {rows}"));
        let table = self.operand(&table, fill)?;
        Ok(vec![if self.prng.chance(0.5) {
            self.b.op1(Gather { axis }, &[table, indices])?
        } else {
            let updates = self.operand(&result, fill)?;
            self.b.op1(ScatterAdd { axis }, &[table, indices, updates])?
        }])
    }

    fn arg_reduce(&mut self, sizes: &Sizes, fill: Fill) -> Result<Vec<ValueId>> {
        let (rows, columns) = (sizes.get(Axis::Rows), sizes.get(Axis::Columns));
        let axis = self.prng.below(2);
        let x = self.operand(&[rows, columns], fill)?;
        let kind = self.prng.pick(&[ArgKind::Max, ArgKind::Min]);
        self.say(format_args!("{rows} by {columns} along {axis}"));
        let index = self.b.op1(ArgReduce { kind, axis }, &[x])?;
        self.outputs.push(index);
        Ok(vec![x])
    }
}

/// Which of a convolution's three kernels.
#[derive(Clone, Copy, Debug)]
enum Role {
    Forward,
    Input,
    Filter,
}

impl Role {
    fn pick(draft: &mut Draft, of: &[Role]) -> Role {
        draft.prng.pick(of)
    }
}

struct Shape {
    image: [usize; 3],
    channels: usize,
    outputs: usize,
    groups: usize,
    kernel: Vec<usize>,
    stride: usize,
    dilation: usize,
    same: bool,
}
