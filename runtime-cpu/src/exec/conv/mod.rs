//! Convolutions and their gradients, with epilogues.

mod algorithm;
mod filters;

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::ops::Geometry;
use graphc_ir::program::{Conv, ConvRole, Form, Program, Step};

use super::epilogue::{Domain, Finish, Place};
use super::operand::{Copies, Operands};
use super::step::{Machine, Overlap, no_kernel, port_spec};
use crate::conv::{self, winograd};
use crate::conv_grad::{self, Pixels, conv_filter_grad};
use crate::depthwise;
use crate::gemm::RowBlocks;
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::nest::{Failures, Memory, PortSpec};
use crate::pool::{Pool, PoolError};
pub(super) use algorithm::THRESHOLDS;
use algorithm::{Algorithm, Preparation, choose};
use filters::{Pack, algorithm_of, filter_bytes, filter_strides, form_of};

pub use filters::{RepackFilters, filter_form};

/// Elements of the kernels: what both convolutions and their gradients have.
pub trait Element: conv_grad::Element + depthwise::Element {}

impl<T: conv_grad::Element + depthwise::Element> Element for T {}

/// A convolution, ready to run.
#[derive(Debug)]
pub struct CompiledConv {
    machine: Machine,
    dtype: DType,
    copies: Copies,
    first: Place,
    second: Place,
    work: Work,
    finish: Finish,
    /// First byte of the kernel's own scratch, and all bytes.
    scratch: usize,
    scratch_len: usize,
    total: usize,
}

#[derive(Debug)]
enum Work {
    /// A convolution, or its gradient in the image.
    Images { algorithm: Algorithm, problem: conv::Problem, pack: Option<Pack> },
    /// Register tiles of the filters, summed over pixels.
    FilterGrad(conv_grad::Problem),
    /// Any of the three where each channel is a group of its own.
    Depthwise(ConvRole, depthwise::Problem),
}

impl Work {
    fn scratch_bytes<T: Element>(&self, isa: Isa, threads: usize) -> usize {
        match self {
            Work::Images { algorithm: Algorithm::Indirect, problem, .. } => {
                conv::scratch_bytes::<T>(isa, problem, threads)
            }
            Work::Images { algorithm: Algorithm::Winograd, problem, .. } => {
                winograd::scratch_bytes::<T>(isa, problem, threads)
            }
            Work::FilterGrad(problem) => conv_grad::scratch_bytes::<T>(isa, problem, threads),
            Work::Depthwise(ConvRole::FilterGrad, problem) => {
                depthwise::filter_grad_scratch_bytes::<T>(isa, problem, threads)
            }
            Work::Depthwise(..) => depthwise::scratch_bytes::<T>(isa, threads),
        }
    }
}

/// Three spatial sizes, the leading ones 1 (or another neutral value) where there are fewer.
pub fn three(sizes: &[usize], neutral: usize) -> [usize; 3] {
    let mut three = [neutral; 3];
    three[3 - sizes.len()..].copy_from_slice(sizes);
    three
}

/// Strides of an image's batch and of its three spatial dims.
pub fn pixels(port: &PortSpec) -> Pixels {
    let strides: Vec<usize> = port.view.strides.iter().map(|s| s.unsigned_abs()).collect();
    let spatial = &strides[1..strides.len() - 1];
    Pixels { image_stride: strides[0], strides: three(spatial, 0) }
}

/// The type in which operands of a type are multiplied and summed.
fn accumulator(what: &str, dtype: DType) -> Result<DType> {
    match dtype {
        DType::F64 => Ok(DType::F64),
        DType::F32 | DType::F16 | DType::Bf16 => Ok(DType::F32),
        other => Err(no_kernel(what, other)),
    }
}

/// The problem of a convolution or of its gradient in the image; `strides` are those of what is read.
fn problem(geometry: &Geometry, role: ConvRole, strides: Pixels) -> conv::Problem {
    let (g, w) = (geometry, &geometry.window);
    let transposed = role == ConvRole::InputGrad;
    let (image, positions) = (three(&g.image, 1), three(&g.positions, 1));
    let (read, made) = (g.channels / g.groups, g.outputs / g.groups);
    let (input, output) = if transposed { (positions, image) } else { (image, positions) };
    let (cin, cout) = if transposed { (made, read) } else { (read, made) };
    conv::Problem {
        images: g.batch,
        groups: g.groups,
        cin,
        cout,
        geometry: crate::Geometry {
            input,
            output,
            kernel: three(&w.kernel, 1),
            stride: three(&w.strides, 1),
            dilation: three(&w.dilations, 1),
            pad: three(&w.pads_lo, 0),
        },
        transposed,
        image_stride: strides.image_stride,
        pixel_strides: strides.strides,
    }
}

impl CompiledConv {
    pub fn new(
        machine: Machine,
        program: &Program,
        step: &Step,
        conv: &Conv,
        overlap: Overlap,
    ) -> Result<CompiledConv> {
        let Conv { role, geometry, body } = conv;
        let [first_sizes, second_sizes, result] = conv.sizes();
        let (first, second) = (port_spec(program, &step.reads[0]), port_spec(program, &step.reads[1]));
        let dtype = accumulator("convolution", first.dtype)?;
        let mut operands = Operands::default();
        let image = |operands: &mut Operands, port: PortSpec, sizes: &[usize]| {
            let last = sizes.len() - 1;
            let fits = port.view.strides[last] == 1 || sizes[last] <= 1;
            operands.place(port, dtype, sizes, fits)
        };
        let first = image(&mut operands, first, &first_sizes);
        let packed = program.buffer(step.reads[1].buffer).form != Form::Dense;
        let depthwise = is_depthwise(geometry);
        let second = match role {
            ConvRole::FilterGrad => image(&mut operands, second, &second_sizes),
            _ if packed => second,
            _ => {
                let strides = filter_strides(&second, &geometry.window.kernel);
                let fits = strides.is_some_and(|[_, _, made]| !depthwise || made == 1);
                operands.place(second, dtype, &second_sizes, fits)
            }
        };
        let mut end = operands.end();
        let copies = operands.copies(machine)?;
        let (columns, rows) = result.split_last().map_or((1, &[][..]), |(c, r)| (*c, r));
        let together = if depthwise { columns } else { columns / geometry.groups };
        let images = (*role != ConvRole::FilterGrad && !depthwise).then(|| {
            let problem = problem(geometry, *role, pixels(&first));
            let algorithm = match program.buffer(step.reads[1].buffer).form {
                Form::Filters { form, .. } => algorithm_of(form).0,
                _ => choose(&problem, dtype, Preparation::EachRun),
            };
            (problem, algorithm)
        });
        // Groups have columns of their own, which are no whole columns of tiles.
        let blocks = images.filter(|_| geometry.groups == 1).map(|(problem, algorithm)| match dtype {
            DType::F64 => row_blocks::<f64>(machine, &problem, algorithm),
            _ => row_blocks::<f32>(machine, &problem, algorithm),
        });
        let domain = Domain { batch: &[], rows, columns, together, blocks };
        let source = (program, step, 2);
        let apart = *role == ConvRole::FilterGrad && geometry.groups > 1 && !depthwise;
        let finish = if apart {
            let finish = Finish::apart(machine, source, body, &domain, dtype, end, overlap)?;
            finish.batches_of(geometry.outputs / geometry.groups)
        } else {
            Finish::new(machine, source, body, &domain, dtype, end, overlap)?
        };
        end = finish.end();
        let work = if depthwise {
            let taps = filter_strides(&second, &geometry.window.kernel).map_or(0, |[tap, ..]| tap);
            Work::Depthwise(*role, depthwise_problem(geometry, *role, pixels(&first), &second, taps))
        } else if let Some((problem, algorithm)) = images {
            let pack = if packed {
                None
            } else {
                let pack = Pack::new(algorithm, &problem, geometry, &second, end)?;
                let form = form_of(algorithm, problem.transposed);
                let bytes = filter_bytes(machine, &problem, form, dtype).unwrap_or(0);
                end += bytes.next_multiple_of(ALIGNMENT);
                Some(pack)
            };
            Work::Images { algorithm, problem, pack }
        } else {
            Work::FilterGrad(filter_grad_problem(geometry, pixels(&first), pixels(&second)))
        };
        let threads = machine.threads;
        let scratch_len = match dtype {
            DType::F64 => work.scratch_bytes::<f64>(machine.isa, threads),
            _ => work.scratch_bytes::<f32>(machine.isa, threads),
        };
        let total = end.saturating_add(scratch_len).max(copies.scratch_bytes()).max(finish.scratch_bytes());
        let (first, second) = (Place::of(&first), Place::of(&second));
        Ok(CompiledConv {
            machine,
            dtype,
            copies,
            first,
            second,
            work,
            finish,
            scratch: end,
            scratch_len,
            total,
        })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.total
    }

    pub fn algorithm(&self) -> &'static str {
        let names = match self.work {
            Work::Images { algorithm: Algorithm::Indirect, .. } => {
                ["indirect", "indirect, chain on blocks", "indirect, body on blocks", "indirect, then a nest"]
            }
            Work::Images { algorithm: Algorithm::Winograd, .. } => {
                ["winograd", "winograd, chain on blocks", "winograd, body on blocks", "winograd, then a nest"]
            }
            Work::Depthwise(..) => [
                "depthwise",
                "depthwise, chain on blocks",
                "depthwise, body on blocks",
                "depthwise, then a nest",
            ],
            Work::FilterGrad(_) => [
                "pixel sums",
                "pixel sums, chain on blocks",
                "pixel sums, body on blocks",
                "pixel sums, then a nest",
            ],
        };
        names[self.finish.way()]
    }

    /// See [`graphc_ir::program::Choice::error_class`].
    pub fn error_class(&self) -> f32 {
        match self.work {
            Work::Images { algorithm: Algorithm::Winograd, problem, .. } => {
                winograd::error_class(problem.cin)
            }
            _ => 1.0,
        }
    }

    /// Runs the convolution; gives the first check that failed, if any.
    ///
    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<Option<usize>, PoolError> {
        // SAFETY: the caller's promise.
        unsafe {
            self.copies.run(pool, memory)?;
            match self.dtype {
                DType::F64 => self.compute::<f64>(pool, memory),
                _ => self.compute::<f32>(pool, memory),
            }
        }
    }

    /// # Safety
    /// As [`CompiledConv::run`], for the type that products are summed in.
    unsafe fn compute<T: Element>(
        &self,
        pool: &Pool,
        memory: Memory,
    ) -> std::result::Result<Option<usize>, PoolError> {
        let isa = self.machine.isa;
        let first = self.first.pointer::<T>(memory).cast_const();
        let second = self.second.pointer::<T>(memory).cast_const();
        let failures = Failures::none();
        // SAFETY: the step's scratch has these bytes, and nothing else lies there; the verifier found all
        // views inside their buffers.
        let result = unsafe {
            self.finish.begin(memory, &failures);
            let scratch = std::slice::from_raw_parts_mut(memory.scratch.add(self.scratch), self.scratch_len);
            match &self.work {
                Work::Images { algorithm, problem, pack } => {
                    let filters = match pack {
                        None => second,
                        Some(pack) => pack.run(pool, self.machine, problem, second, memory)?,
                    };
                    let conv = match algorithm {
                        Algorithm::Indirect => conv::conv::<T>,
                        Algorithm::Winograd => winograd::conv::<T>,
                    };
                    self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| {
                        conv(pool, isa, problem, first, filters, epilogue, scratch)
                    })
                }
                Work::Depthwise(role, problem) => {
                    let depthwise = match role {
                        ConvRole::Forward => depthwise::forward::<T>,
                        ConvRole::InputGrad => depthwise::input_grad::<T>,
                        ConvRole::FilterGrad => depthwise::filter_grad::<T>,
                    };
                    self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| {
                        depthwise(pool, isa, problem, first, second, epilogue, scratch)
                    })
                }
                Work::FilterGrad(problem) => {
                    self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| {
                        conv_filter_grad(pool, isa, problem, first, second, epilogue, scratch)
                    })
                }
            }
        };
        result?;
        // SAFETY: all sums are made.
        unsafe { self.finish.end_run(pool, memory, &failures) }
    }
}

/// The blocks that an algorithm makes of the pixels.
fn row_blocks<T: Element>(machine: Machine, problem: &conv::Problem, algorithm: Algorithm) -> RowBlocks {
    match algorithm {
        Algorithm::Indirect => conv::row_blocks::<T>(machine.isa, problem),
        Algorithm::Winograd => winograd::row_blocks::<T>(machine.isa, problem),
    }
}

/// Whether each channel is a group of its own, and makes one channel.
pub fn is_depthwise(geometry: &Geometry) -> bool {
    geometry.groups > 1 && geometry.groups == geometry.channels && geometry.groups == geometry.outputs
}

/// The problem of a depthwise convolution or an adjoint; `first` and `second` are its operands.
fn depthwise_problem(
    geometry: &Geometry,
    role: ConvRole,
    first: Pixels,
    second: &PortSpec,
    tap_stride: usize,
) -> depthwise::Problem {
    let nothing = Pixels { image_stride: 0, strides: [0; 3] };
    let (x, dy) = match role {
        ConvRole::Forward => (first, nothing),
        ConvRole::InputGrad => (nothing, first),
        ConvRole::FilterGrad => (first, pixels(second)),
    };
    let tap_stride = if role == ConvRole::FilterGrad { 0 } else { tap_stride };
    let conv_grad::Problem { geometry: sizes, images, .. } = filter_grad_problem(geometry, nothing, nothing);
    depthwise::Problem { geometry: sizes, images, channels: geometry.channels, x, dy, tap_stride }
}

fn filter_grad_problem(geometry: &Geometry, x: Pixels, dy: Pixels) -> conv_grad::Problem {
    let (g, w) = (geometry, &geometry.window);
    conv_grad::Problem {
        geometry: crate::Geometry {
            input: three(&g.image, 1),
            output: three(&g.positions, 1),
            kernel: three(&w.kernel, 1),
            stride: three(&w.strides, 1),
            dilation: three(&w.dilations, 1),
            pad: three(&w.pads_lo, 0),
        },
        images: g.batch,
        groups: g.groups,
        cin: g.channels / g.groups,
        cout: g.outputs / g.groups,
        x,
        dy,
    }
}
