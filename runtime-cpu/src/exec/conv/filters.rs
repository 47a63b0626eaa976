//! Filters in the forms that convolutions read.

use graphc_ir::dtype::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::ops::{Geometry, Layout, Window};
use graphc_ir::program::{Conv, ConvRole, FilterForm, Form, Program, Step};

use super::algorithm::{Algorithm, Preparation, WINOGRAD_BYTES, choose};
use super::{Element, is_depthwise, problem};
use crate::conv::{self, FilterSource, pack_filters_parallel, winograd};
use crate::conv_grad::Pixels;
use crate::exec::epilogue::{Place, single_stride};
use crate::exec::operand::{Copies, Operands};
use crate::exec::step::{Machine, no_kernel, port_spec};
use crate::nest::{Memory, PortSpec};
use crate::pool::{Pool, PoolError};

/// Strides of an image that nobody reads.
const NO_PIXELS: Pixels = Pixels { image_stride: 0, strides: [0; 3] };

/// The form of an algorithm's filters.
pub fn form_of(algorithm: Algorithm, transposed: bool) -> FilterForm {
    match (algorithm, transposed) {
        (Algorithm::Indirect, false) => FilterForm::Direct,
        (Algorithm::Indirect, true) => FilterForm::DirectTransposed,
        (Algorithm::Winograd, false) => FilterForm::Winograd,
        (Algorithm::Winograd, true) => FilterForm::WinogradTransposed,
    }
}

/// The algorithm of a form, and whether it is for gradients in the image.
pub fn algorithm_of(form: FilterForm) -> (Algorithm, bool) {
    match form {
        FilterForm::Direct => (Algorithm::Indirect, false),
        FilterForm::DirectTransposed => (Algorithm::Indirect, true),
        FilterForm::Winograd => (Algorithm::Winograd, false),
        FilterForm::WinogradTransposed => (Algorithm::Winograd, true),
    }
}

/// The form that filters are best staged in, with its size; `program` has those that are staged so far.
///
/// Transformed filters take 16 / 9 of the memory, and what they save in time goes with the pixels of an image, of
/// which a network's first convolutions have most: so they have the first claim.
pub fn filter_form(machine: Machine, program: &Program, conv: &Conv, dtype: DType) -> Option<Form> {
    if conv.role == ConvRole::FilterGrad || !dtype.is_compute_float() || is_depthwise(&conv.geometry) {
        return None;
    }
    let problem = problem(&conv.geometry, conv.role, NO_PIXELS);
    let transformed = program.buffers.iter().map(|buffer| match buffer.form {
        Form::Filters { bytes, form: FilterForm::Winograd | FilterForm::WinogradTransposed } => bytes,
        _ => 0,
    });
    let room = WINOGRAD_BYTES.saturating_sub(transformed.fold(0, usize::saturating_add));
    let form = form_of(choose(&problem, dtype, Preparation::Once { room }), problem.transposed);
    let bytes = filter_bytes(machine, &problem, form, dtype)?;
    (bytes > 0).then_some(Form::Filters { bytes, form })
}

/// Bytes of a problem's filters in a form.
pub fn filter_bytes(machine: Machine, p: &conv::Problem, form: FilterForm, dtype: DType) -> Option<usize> {
    fn elements<T: Element>(machine: Machine, p: &conv::Problem, algorithm: Algorithm) -> usize {
        let (isa, taps) = (machine.isa, p.geometry.taps());
        match algorithm {
            Algorithm::Indirect => conv::packed_filters_len::<T>(isa, p.groups, taps, p.cin, p.cout),
            Algorithm::Winograd => winograd::packed_filters_len::<T>(isa, p.cin, p.cout),
        }
    }
    let (algorithm, _) = algorithm_of(form);
    let len = match dtype {
        DType::F32 => elements::<f32>(machine, p, algorithm),
        DType::F64 => elements::<f64>(machine, p, algorithm),
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

/// How dense filters are brought into a form.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    algorithm: Algorithm,
    transposed: bool,
    group_stride: usize,
    tap_stride: usize,
    in_stride: usize,
    out_stride: usize,
    /// Where they go in the step's scratch.
    to: usize,
}

impl Pack {
    pub fn new(
        algorithm: Algorithm,
        problem: &conv::Problem,
        geometry: &Geometry,
        port: &PortSpec,
        to: usize,
    ) -> Result<Pack> {
        let [tap_stride, read, made] = filter_strides(port, &geometry.window.kernel)
            .ok_or_else(|| Error::new("the taps of filters are not one stride apart"))?;
        let group_stride = geometry.outputs / geometry.groups * made;
        let transposed = problem.transposed;
        let (in_stride, out_stride) = if transposed { (made, read) } else { (read, made) };
        Ok(Pack { algorithm, transposed, group_stride, tap_stride, in_stride, out_stride, to })
    }

    /// Packs the filters, and gives their first element.
    ///
    /// # Safety
    /// The filters and the scratch are as the step was compiled for.
    pub unsafe fn run<T: Element>(
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
            taps: problem.geometry.taps(),
            cin: problem.cin,
            cout: problem.cout,
            group_stride: self.group_stride,
            tap_stride: self.tap_stride,
            in_stride: self.in_stride,
            out_stride: self.out_stride,
        };
        let to = memory.scratch.wrapping_add(self.to).cast::<T>();
        // SAFETY: the caller's promise; the step's scratch has room for the packed filters.
        unsafe {
            match self.algorithm {
                Algorithm::Indirect => pack_filters_parallel(pool, machine.isa, &source, to)?,
                Algorithm::Winograd => {
                    winograd::pack_filters_parallel(pool, machine.isa, &source, self.transposed, to)?;
                }
            }
        }
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
        let wrong = || no_kernel("form of filters", dtype);
        let Form::Filters { bytes, form } = program.buffer(step.writes[0].buffer).form else {
            return Err(wrong());
        };
        // Filters do not know their images: any serve.
        let geometry = Geometry {
            layout: Layout::ChannelsLast,
            batch: 1,
            channels: inputs * groups,
            outputs,
            groups,
            image: kernel.to_vec(),
            positions: vec![1; kernel.len()],
            window: Window {
                kernel: kernel.to_vec(),
                strides: vec![1; kernel.len()],
                dilations: vec![1; kernel.len()],
                pads_lo: vec![0; kernel.len()],
                pads_hi: vec![0; kernel.len()],
                ceil: false,
            },
        };
        let (algorithm, transposed) = algorithm_of(form);
        let role = if transposed { ConvRole::InputGrad } else { ConvRole::Forward };
        let problem = problem(&geometry, role, NO_PIXELS);
        if filter_bytes(machine, &problem, form, dtype) != Some(bytes) {
            return Err(wrong().help("ask the same target for the form that the Program is compiled for"));
        }
        let mut operands = Operands::default();
        let sizes = [kernel, &[inputs, outputs]].concat();
        let fits = filter_strides(&port, kernel).is_some();
        let source = operands.place(port, dtype, &sizes, fits);
        let copies = operands.copies(machine)?;
        let pack = Pack::new(algorithm, &problem, &geometry, &source, 0)?;
        let to = step.writes[0].buffer.index();
        Ok(RepackFilters { machine, dtype, copies, source: Place::of(&source), problem, pack, to })
    }

    pub fn scratch_bytes(&self) -> usize {
        self.copies.scratch_bytes()
    }

    /// # Safety
    /// As [`crate::exec::step::CompiledStep::run`].
    pub unsafe fn run(&self, pool: &Pool, memory: Memory) -> std::result::Result<(), PoolError> {
        // The packed filters fill the buffer as they would fill scratch.
        let written = Memory { buffers: memory.buffers, scratch: memory.buffers[self.to] };
        // SAFETY: the caller's promise.
        unsafe {
            self.copies.run(pool, memory)?;
            match self.dtype {
                DType::F64 => self.pack::<f64>(pool, memory, written),
                _ => self.pack::<f32>(pool, memory, written),
            }
        }
    }

    /// # Safety
    /// As [`RepackFilters::run`], for the element type.
    unsafe fn pack<T: Element>(
        &self,
        pool: &Pool,
        memory: Memory,
        written: Memory,
    ) -> std::result::Result<(), PoolError> {
        let source = self.source.pointer::<T>(memory).cast_const();
        // SAFETY: the caller's promise.
        unsafe { self.pack.run(pool, self.machine, &self.problem, source, written).map(drop) }
    }
}

#[cfg(test)]
mod tests {
    use graphc_ir::program::{Body, BufferDecl, BufferKind};

    use super::*;
    use crate::isa::Isa;

    #[test]
    fn transformed_filters_of_a_program_keep_to_a_budget() {
        let window = Window {
            kernel: vec![3; 2],
            strides: vec![1; 2],
            dilations: vec![1; 2],
            pads_lo: vec![1; 2],
            pads_hi: vec![1; 2],
            ceil: false,
        };
        let geometry = Geometry {
            layout: Layout::ChannelsLast,
            batch: 1,
            channels: 64,
            outputs: 64,
            groups: 1,
            image: vec![56; 2],
            positions: vec![56; 2],
            window,
        };
        let conv = Conv { role: ConvRole::Forward, geometry, body: Body::default() };
        let machine = Machine { isa: Isa::Portable, threads: 1 };
        let filters = 16 * 64 * 64 * 4;
        let form = |staged: usize| {
            let form = Form::Filters { bytes: staged, form: FilterForm::Winograd };
            let decl =
                BufferDecl { dtype: DType::F32, shape: vec![3, 3, 1, 1], form, kind: BufferKind::Temp };
            let program = Program { buffers: vec![decl], ..Program::default() };
            filter_form(machine, &program, &conv, DType::F32)
        };
        let fitting = form(WINOGRAD_BYTES - filters);
        assert_eq!(fitting, Some(Form::Filters { bytes: filters, form: FilterForm::Winograd }));
        let direct = Form::Filters { bytes: filters / 16 * 9, form: FilterForm::Direct };
        assert_eq!(form(WINOGRAD_BYTES - filters + 1), Some(direct));
    }
}
