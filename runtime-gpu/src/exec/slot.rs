//! What a run under way has for itself: the host's memory that its inputs come from and its results arrive in.

use crate::code::{FAILURE, Home, MemoryDecl};
use crate::device::{DeviceMemory, Gpu};
use crate::error::GpuError;
use crate::place::Mem;

/// An input on its way.
#[derive(Debug)]
struct Upload {
    mem: Mem,
    staging: wgpu::Buffer,
    bytes: u64,
    /// Whether there are elements for the next run, so that the host cannot write.
    full: bool,
}

/// Memory of one run at a time. Several runs may be under way, each with a slot.
#[derive(Debug)]
pub struct Slot {
    uploads: Vec<Upload>,
    /// The failure and the outputs.
    results: wgpu::Buffer,
    bytes: u64,
    /// The run whose results it has or gets, unless they were read, and what tells that it ended.
    run: Option<(u64, wgpu::SubmissionIndex)>,
}

impl Slot {
    /// Memory for the inputs among these, and so many bytes of results.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(gpu: &Gpu, decls: &[MemoryDecl], bytes: u64) -> Result<Slot, GpuError> {
        let memory = |what: &str, size: u64, usage, mapped_at_creation| {
            let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
            gpu.guarded(&format!("{size} bytes for {what}"), || gpu.device().create_buffer(&descriptor))
        };
        let mut uploads = Vec::new();
        for (i, decl) in decls.iter().enumerate() {
            if matches!(decl.home, Home::Input(_)) && decl.words > 0 {
                let bytes = decl.words as u64 * 4;
                let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
                let staging = memory("inputs", bytes, usage, true)?;
                uploads.push(Upload { mem: Mem(i), staging, bytes, full: false });
            }
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let results = memory("results", bytes, usage, false)?;
        Ok(Slot { uploads, results, bytes, run: None })
    }

    /// The number of the run whose results it has or gets.
    pub fn run(&self) -> Option<u64> {
        self.run.as_ref().map(|run| run.0)
    }

    /// Waits until the host may write inputs and nobody reads results.
    ///
    /// # Errors
    /// When the device is gone, or does not answer.
    pub fn free(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        if let Some((_, submission)) = self.run.take() {
            gpu.wait_for(submission)?;
            self.results.unmap();
        }
        Ok(())
    }

    /// Has a closure write the bytes of a memory's elements.
    ///
    /// # Errors
    /// When the device is gone, or does not answer.
    pub fn fill(
        &mut self,
        gpu: &Gpu,
        mem: Mem,
        write: impl FnOnce(wgpu::WriteOnly<'_, [u8]>),
    ) -> Result<(), GpuError> {
        self.free(gpu)?;
        let Some(upload) = self.uploads.iter_mut().find(|u| u.mem == mem) else { return Ok(()) };
        if upload.full {
            upload.staging.map_async(wgpu::MapMode::Write, .., |_| {});
            gpu.wait()?;
        }
        let view = upload.staging.get_mapped_range_mut(..);
        let mut view =
            view.map_err(|e| GpuError::Refused { what: "writing inputs".into(), message: e.to_string() })?;
        write(view.slice(..));
        drop(view);
        upload.staging.unmap();
        upload.full = true;
        Ok(())
    }

    /// Copies what was written to the device.
    pub fn encode_inputs(&self, encoder: &mut wgpu::CommandEncoder, memory: &[DeviceMemory]) {
        for upload in self.uploads.iter().filter(|u| u.full) {
            encoder.copy_buffer_to_buffer(&upload.staging, 0, &memory[upload.mem.0].buffer, 0, upload.bytes);
        }
    }

    /// Copies the failure and outputs, which begin at these bytes, from the device.
    pub fn encode_results(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        memory: &[DeviceMemory],
        outputs: &[(usize, Mem, u64)],
    ) {
        encoder.copy_buffer_to_buffer(&memory[FAILURE.0].buffer, 0, &self.results, 0, 16);
        for (_, mem, at) in outputs {
            let bytes = memory[mem.0].words() as u64 * 4;
            if bytes > 0 {
                encoder.copy_buffer_to_buffer(&memory[mem.0].buffer, 0, &self.results, *at, bytes);
            }
        }
    }

    /// Notes that a run was submitted.
    pub fn submitted(&mut self, number: u64, submission: wgpu::SubmissionIndex) {
        self.inputs_submitted();
        self.results.map_async(wgpu::MapMode::Read, ..self.bytes, |_| {});
        self.run = Some((number, submission));
    }

    /// Notes that the copies of inputs were submitted: the host may write again when they are done.
    pub fn inputs_submitted(&mut self) {
        for upload in self.uploads.iter_mut().filter(|u| u.full) {
            upload.staging.map_async(wgpu::MapMode::Write, .., |_| {});
            upload.full = false;
        }
    }

    /// Waits for the run, and reads its results; `None` if there is none.
    ///
    /// # Errors
    /// When the device is gone, or does not answer.
    pub fn read<R>(&mut self, gpu: &Gpu, f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, GpuError> {
        let Some((_, submission)) = self.run.take() else { return Ok(None) };
        gpu.wait_for(submission)?;
        let view = self.results.get_mapped_range(..self.bytes);
        let view =
            view.map_err(|e| GpuError::Refused { what: "reading results".into(), message: e.to_string() })?;
        let result = f(&view);
        drop(view);
        self.results.unmap();
        Ok(Some(result))
    }
}
