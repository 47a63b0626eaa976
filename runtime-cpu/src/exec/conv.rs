//! Convolutions and their gradients, with epilogues.

use graphc_ir::dtype::DType;
use graphc_ir::error::Result;
use graphc_ir::ops::Geometry;
use graphc_ir::program::{Conv, ConvRole, FilterForm, Form, Program, Step};

use super::epilogue::{Domain, Finish, Place, single_stride};
use super::operand::{Copies, Operands};
use super::step::{Machine, Overlap, no_kernel, port_spec};
use crate::conv::{self, FilterSource, pack_filters_parallel, packed_filters_len};
use crate::conv_grad::{self, Pixels, conv_filter_grad};
use crate::gemm::GemmError;
use crate::memory::ALIGNMENT;
use crate::nest::{Failures, Memory, PortSpec};
use crate::pool::{Pool, PoolError};

/// Elements of the kernels: what both convolutions and their gradients have.
pub trait Element: conv_grad::Element {}

impl<T: conv_grad::Element> Element for T {}

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
    /// The register tiles read images through tables of pointers.
    Indirect { problem: conv::Problem, pack: Option<Pack> },
    /// Register tiles of the filters, summed over pixels.
    FilterGrad(conv_grad::Problem),
}

/// Filters that are packed in each run.
#[derive(Clone, Copy, Debug)]
struct Pack {
    taps: usize,
    group_stride: usize,
    tap_stride: usize,
    in_stride: usize,
    out_stride: usize,
    /// Where they go in the step's scratch.
    to: usize,
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
        geometry: conv::Geometry {
            input,
            output,
            kernel: three(&w.kernel, 1),
            stride: three(&w.strides, 1),
            dilation: three(&w.dilations, 1),
            pad: three(&w.pads_lo, 0),
            transposed,
        },
        image_stride: strides.image_stride,
        pixel_strides: strides.strides,
    }
}

/// The form that filters are best staged in, with its size.
pub fn filter_form(machine: Machine, conv: &Conv, dtype: DType) -> Option<Form> {
    let form = match conv.role {
        ConvRole::Forward => FilterForm::Direct,
        ConvRole::InputGrad => FilterForm::DirectTransposed,
        ConvRole::FilterGrad => return None,
    };
    let bytes = filter_bytes(machine, &conv.geometry, form, dtype)?;
    (bytes > 0).then_some(Form::Filters { bytes, form })
}

/// Bytes of filters in a form.
pub fn filter_bytes(machine: Machine, geometry: &Geometry, form: FilterForm, dtype: DType) -> Option<usize> {
    let g = geometry;
    let (read, made) = (g.channels / g.groups, g.outputs / g.groups);
    let (cin, cout) = match form {
        FilterForm::Direct | FilterForm::Winograd => (read, made),
        FilterForm::DirectTransposed | FilterForm::WinogradTransposed => (made, read),
    };
    let len = match dtype {
        DType::F32 => packed_filters_len::<f32>(machine.isa, g.groups, g.window.taps(), cin, cout),
        DType::F64 => packed_filters_len::<f64>(machine.isa, g.groups, g.window.taps(), cin, cout),
        _ => return None,
    };
    len.checked_mul(dtype.size())
}

/// Strides of filters `[k.., C / groups, O]`: between taps, channels read and channels made; `None` if
/// taps are not one stride apart.
pub fn filter_strides(port: &PortSpec, kernel: &[usize]) -> Option<[usize; 3]> {
    let strides: Vec<usize> = port.view.strides.iter().map(|s| s.unsigned_abs()).collect();
    let rank = kernel.len();
    Some([single_stride(kernel, &strides[..rank])?, strides[rank], strides[rank + 1]])
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
        let second = match role {
            ConvRole::FilterGrad => image(&mut operands, second, &second_sizes),
            _ if packed => second,
            _ => {
                let fits = filter_strides(&second, &geometry.window.kernel).is_some();
                operands.place(second, dtype, &second_sizes, fits)
            }
        };
        let mut end = operands.end();
        let copies = operands.copies(machine)?;
        let (columns, rows) = result.split_last().map_or((1, &[][..]), |(c, r)| (*c, r));
        let domain = Domain { batch: &[], rows, columns };
        let source = (program, step, 2);
        let apart = *role == ConvRole::FilterGrad && geometry.groups > 1;
        let finish = if apart {
            let finish = Finish::apart(machine, source, body, &domain, dtype, end, overlap)?;
            finish.batches_of(geometry.outputs / geometry.groups)
        } else {
            Finish::new(machine, source, body, &domain, dtype, end, overlap)?
        };
        end = finish.end();
        let work = if *role == ConvRole::FilterGrad {
            Work::FilterGrad(filter_grad_problem(geometry, pixels(&first), pixels(&second)))
        } else {
            let problem = problem(geometry, *role, pixels(&first));
            let pack = if packed { None } else { Some(pack(&problem, geometry, &second, end)?) };
            if pack.is_some() {
                let form = if problem.geometry.transposed {
                    FilterForm::DirectTransposed
                } else {
                    FilterForm::Direct
                };
                let bytes = filter_bytes(machine, geometry, form, dtype).unwrap_or(0);
                end += bytes.next_multiple_of(ALIGNMENT);
            }
            Work::Indirect { problem, pack }
        };
        let threads = machine.threads;
        let scratch_len = match (&work, dtype) {
            (Work::Indirect { problem, .. }, DType::F64) => {
                conv::scratch_bytes::<f64>(machine.isa, problem, threads)
            }
            (Work::Indirect { problem, .. }, _) => conv::scratch_bytes::<f32>(machine.isa, problem, threads),
            (Work::FilterGrad(problem), DType::F64) => {
                conv_grad::scratch_bytes::<f64>(machine.isa, problem, threads)
            }
            (Work::FilterGrad(problem), _) => conv_grad::scratch_bytes::<f32>(machine.isa, problem, threads),
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
        match (&self.work, self.finish.name()) {
            (Work::Indirect { .. }, "in registers") => "indirect",
            (Work::Indirect { .. }, "chain on blocks") => "indirect, chain on blocks",
            (Work::Indirect { .. }, "body on blocks") => "indirect, body on blocks",
            (Work::Indirect { .. }, _) => "indirect, then a nest",
            (Work::FilterGrad(_), "in registers") => "pixel sums",
            (Work::FilterGrad(_), "chain on blocks") => "pixel sums, chain on blocks",
            (Work::FilterGrad(_), "body on blocks") => "pixel sums, body on blocks",
            (Work::FilterGrad(_), _) => "pixel sums, then a nest",
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
                Work::Indirect { problem, pack } => {
                    let filters = match pack {
                        None => second,
                        Some(pack) => pack.run(pool, self.machine, problem, second, memory)?,
                    };
                    self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| {
                        conv::conv(pool, isa, problem, first, filters, epilogue, scratch).map_err(failed)
                    })
                }
                Work::FilterGrad(problem) => {
                    self.finish.with::<T, _>(memory, &failures, (0, 0, 0), |epilogue| {
                        conv_filter_grad(pool, isa, problem, first, second, epilogue, scratch).map_err(|e| {
                            match e {
                                conv_grad::ConvGradError::Pool(e) => e,
                                other => PoolError::Panicked { message: other.to_string() },
                            }
                        })
                    })
                }
            }
        };
        result?;
        // SAFETY: all sums are made.
        unsafe { self.finish.end_run(pool, memory, &failures) }
    }
}

fn failed(error: GemmError) -> PoolError {
    match error {
        GemmError::Pool(error) => error,
        other => PoolError::Panicked { message: other.to_string() },
    }
}

fn filter_grad_problem(geometry: &Geometry, x: Pixels, dy: Pixels) -> conv_grad::Problem {
    let (g, w) = (geometry, &geometry.window);
    conv_grad::Problem {
        geometry: conv_grad::Geometry {
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

/// How dense filters are packed.
fn pack(problem: &conv::Problem, geometry: &Geometry, port: &PortSpec, to: usize) -> Result<Pack> {
    let kernel = &geometry.window.kernel;
    let [tap_stride, read, made] = filter_strides(port, kernel)
        .ok_or_else(|| graphc_ir::error::Error::new("the taps of filters are not one stride apart"))?;
    let group_stride = geometry.outputs / geometry.groups * made;
    let (in_stride, out_stride) = if problem.geometry.transposed { (made, read) } else { (read, made) };
    Ok(Pack { taps: geometry.window.taps(), group_stride, tap_stride, in_stride, out_stride, to })
}

impl Pack {
    /// # Safety
    /// As [`CompiledConv::run`].
    unsafe fn run<T: Element>(
        &self,
        pool: &Pool,
        machine: Machine,
        problem: &conv::Problem,
        filters: *const T,
        memory: Memory,
    ) -> std::result::Result<*const T, PoolError> {
        let source = FilterSource {
            filters,
            groups: problem.groups,
            taps: self.taps,
            cin: problem.cin,
            cout: problem.cout,
            group_stride: self.group_stride,
            tap_stride: self.tap_stride,
            in_stride: self.in_stride,
            out_stride: self.out_stride,
        };
        let to = memory.scratch.wrapping_add(self.to).cast::<T>();
        // SAFETY: the caller's promise; the step's scratch has room for the packed filters.
        unsafe { pack_filters_parallel(pool, machine.isa, &source, to)? };
        Ok(to.cast_const())
    }
}

/// Filters put in the form of a buffer.
#[derive(Debug)]
pub struct RepackFilters {
    machine: Machine,
    dtype: DType,
    copies: Copies,
    source: Place,
    problem: conv::Problem,
    pack: Pack,
    to: usize,
}

impl RepackFilters {
    pub fn new(
        machine: Machine,
        program: &Program,
        step: &Step,
        kernel: &[usize],
        [inputs, outputs, groups]: [usize; 3],
    ) -> Result<RepackFilters> {
        let port = port_spec(program, &step.reads[0]);
        let dtype = port.dtype;
        let decl = program.buffer(step.writes[0].buffer);
        let wrong = || no_kernel("form of filters", dtype);
        let Form::Filters { bytes, form } = decl.form else { return Err(wrong()) };
        let window = graphc_ir::ops::Window {
            kernel: kernel.to_vec(),
            strides: vec![1; kernel.len()],
            dilations: vec![1; kernel.len()],
            pads_lo: vec![0; kernel.len()],
            pads_hi: vec![0; kernel.len()],
            ceil: false,
        };
        let geometry = Geometry {
            layout: graphc_ir::ops::Layout::ChannelsLast,
            batch: 1,
            channels: inputs * groups,
            outputs,
            groups,
            image: kernel.to_vec(),
            positions: vec![1; kernel.len()],
            window,
        };
        if filter_bytes(machine, &geometry, form, dtype) != Some(bytes) {
            return Err(wrong().help("ask the same target for the form that the Program is compiled for"));
        }
        let mut operands = Operands::default();
        let sizes = [kernel, &[inputs, outputs]].concat();
        let fits = filter_strides(&port, kernel).is_some();
        let source = operands.place(port, dtype, &sizes, fits);
        let copies = operands.copies(machine)?;
        let role = match form {
            FilterForm::Direct | FilterForm::Winograd => ConvRole::Forward,
            FilterForm::DirectTransposed | FilterForm::WinogradTransposed => ConvRole::InputGrad,
        };
        let problem = problem(&geometry, role, Pixels { image_stride: 0, strides: [0; 3] });
        let pack = pack(&problem, &geometry, &source, 0)?;
        let to = step.writes[0].buffer.index();
        Ok(RepackFilters { machine, dtype, copies, source: Place::of(&source), problem, pack, to })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.copies.scratch_bytes()
    }

    /// # Safety
    /// As [`super::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        // The packed filters fill the buffer as they would fill scratch.
        let written = Memory { buffers: memory.buffers, scratch: memory.buffers[self.to] };
        // SAFETY: the caller's promise.
        unsafe {
            self.copies.run(pool, memory)?;
            match self.dtype {
                DType::F64 => {
                    let source = self.source.pointer::<f64>(memory).cast_const();
                    self.pack.run(pool, self.machine, &self.problem, source, written).map(drop)
                }
                _ => {
                    let source = self.source.pointer::<f32>(memory).cast_const();
                    self.pack.run(pool, self.machine, &self.problem, source, written).map(drop)
                }
            }
        }
    }
}
