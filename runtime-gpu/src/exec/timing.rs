//! What runs cost: on the host, on the device as a whole, and step by step.

use std::time::{Duration, Instant};

use super::{Executable, Step};
use crate::error::GpuError;

/// Marks of time in a set, at most.
const MOST_MARKS: u32 = 4096;

impl Executable {
    /// The time that encoding the dispatches of so many runs into one pass takes, which the device never gets.
    pub fn encoding_time(&self, runs: usize) -> Duration {
        let started = Instant::now();
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current = usize::MAX;
            for _ in 0..runs {
                self.encode(&self.items, &mut pass, &mut current, &mut |_, _| {});
            }
        }
        drop(encoder.finish());
        started.elapsed()
    }

    /// The time that so many runs take one after the other on the device, from the submission to the end of the last;
    /// nothing is read. State goes on as with ordinary runs.
    ///
    /// # Errors
    /// When the device fails, or has to be asked on the way.
    pub fn replay(&self, runs: usize) -> Result<Duration, GpuError> {
        self.only_fixed()?;
        self.gpu.write(&self.memory[super::FAILURE.0], &[super::NONE, 0, 0, 0])?;
        self.bring_inputs()?;
        let started = Instant::now();
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current = usize::MAX;
            for _ in 0..runs {
                self.encode(&self.items, &mut pass, &mut current, &mut |_, _| {});
            }
        }
        self.gpu.queue().submit([encoder.finish()]);
        self.gpu.wait()?;
        Ok(started.elapsed())
    }

    /// The times of the dispatches of one run, in order, each with the number of its step; `None` where the adapter has no
    /// clock for them, or there are too many dispatches.
    ///
    /// # Errors
    /// When the device fails, or has to be asked on the way.
    pub fn profile(&self) -> Result<Option<Vec<(usize, Duration)>>, GpuError> {
        self.only_fixed()?;
        let marks = self.dispatches() as u32 + 1;
        if !self.gpu.has_clock() || marks > MOST_MARKS {
            return Ok(None);
        }
        self.gpu.write(&self.memory[super::FAILURE.0], &[super::NONE, 0, 0, 0])?;
        self.bring_inputs()?;
        let device = self.gpu.device();
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: marks,
        });
        let bytes = u64::from(marks) * 8;
        let buffer = |usage| {
            let usage = usage | wgpu::BufferUsages::COPY_DST;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        };
        let (resolved, staging) = self.gpu.guarded("memory for times", || {
            let resolve = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            (buffer(resolve), buffer(wgpu::BufferUsages::MAP_READ))
        })?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut steps = Vec::new();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current = usize::MAX;
            pass.write_timestamp(&set, 0);
            self.encode(&self.items, &mut pass, &mut current, &mut |pass, step| {
                steps.push(step);
                pass.write_timestamp(&set, steps.len() as u32);
            });
        }
        encoder.resolve_query_set(&set, 0..marks, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        self.gpu.queue().submit([encoder.finish()]);
        let ticks: Vec<u64> = self.gpu.mapped(&staging, bytes, bytemuck::pod_collect_to_vec)?;
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        let between =
            |pair: &[u64]| Duration::from_secs_f64(pair[1].saturating_sub(pair[0]) as f64 * period * 1e-9);
        Ok(Some(steps.into_iter().zip(ticks.windows(2).map(between)).collect()))
    }

    /// Brings what was written of inputs to the device, and waits.
    fn bring_inputs(&self) -> Result<(), GpuError> {
        let mut ring = self.ring();
        if let Some(current) = ring.current {
            let slot = &mut ring.slots[current];
            let mut encoder =
                self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            slot.encode_inputs(&mut encoder, &self.memory);
            self.gpu.queue().submit([encoder.finish()]);
            slot.inputs_submitted();
        }
        self.gpu.wait()
    }

    fn only_fixed(&self) -> Result<(), GpuError> {
        if self.items.iter().all(Step::is_fixed) {
            return Ok(());
        }
        Err(GpuError::Refused {
            what: "timing a Program that asks the device on the way".into(),
            message: "its dispatches are not known ahead".into(),
        })
    }
}
