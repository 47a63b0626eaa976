//! Shaders as pipelines of the device.

use std::collections::HashMap;

use crate::cache::DiskCache;
use crate::device::Gpu;
use crate::error::GpuError;
use crate::unchecked;
use crate::wgsl::ShaderText;

/// Compiled shaders.
#[derive(Debug)]
pub struct Pipelines {
    /// By shader.
    pub pipelines: Vec<wgpu::ComputePipeline>,
    layouts: Vec<wgpu::BindGroupLayout>,
    layout_of: Vec<usize>,
}

impl Pipelines {
    /// The layout of what a shader binds.
    pub fn layout(&self, shader: usize) -> &wgpu::BindGroupLayout {
        &self.layouts[self.layout_of[shader]]
    }

    /// Compiles shaders, on several threads.
    ///
    /// # Errors
    /// When the driver refuses one.
    pub fn new(gpu: &Gpu, shaders: &[ShaderText]) -> Result<Pipelines, GpuError> {
        let mut made = Pipelines { pipelines: Vec::new(), layouts: Vec::new(), layout_of: Vec::new() };
        let mut known: HashMap<(Vec<bool>, bool, bool, bool), usize> = HashMap::new();
        for shader in shaders {
            let key = (shader.written.clone(), shader.fails, shader.commits, shader.env);
            let number = match known.get(&key) {
                Some(number) => *number,
                None => {
                    made.layouts.push(layout(gpu, shader)?);
                    known.insert(key, made.layouts.len() - 1);
                    made.layouts.len() - 1
                }
            };
            made.layout_of.push(number);
        }
        // Drivers take their time, and several threads at once.
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        let share = shaders.len().div_ceil(threads).max(1);
        let parts: Vec<Result<Vec<wgpu::ComputePipeline>, GpuError>> = std::thread::scope(|scope| {
            let layouts = made.layout_of.chunks(share);
            let part = |(shaders, numbers): (&'_ [ShaderText], &'_ [usize])| {
                let of =
                    |(shader, number): (&ShaderText, &usize)| pipeline(gpu, shader, &made.layouts[*number]);
                shaders.iter().zip(numbers).map(of).collect::<Result<Vec<_>, _>>()
            };
            let running: Vec<_> =
                shaders.chunks(share).zip(layouts).map(|chunk| scope.spawn(move || part(chunk))).collect();
            let joined = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| {
                    Err(GpuError::Refused {
                        what: "a shader".into(),
                        message: "its compilation panicked".into(),
                    })
                })
            };
            running.into_iter().map(joined).collect()
        });
        for part in parts {
            made.pipelines.extend(part?);
        }
        gpu.cache().map_or(Ok(()), DiskCache::keep)?;
        Ok(made)
    }
}

fn pipeline(
    gpu: &Gpu,
    shader: &ShaderText,
    group: &wgpu::BindGroupLayout,
) -> Result<wgpu::ComputePipeline, GpuError> {
    let compiled = gpu.guarded("a shader", || {
        let device = gpu.device();
        let module = unchecked::module(device, &shader.text);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(group)],
            immediate_size: 0,
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: gpu.cache().map(DiskCache::pipelines),
        })
    });
    compiled.map_err(|e| match e {
        GpuError::Refused { what, message } => {
            GpuError::Refused { what, message: format!("{message}\n{}", shader.text) }
        }
        other => other,
    })
}

fn layout(gpu: &Gpu, shader: &ShaderText) -> Result<wgpu::BindGroupLayout, GpuError> {
    let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let mut entries = Vec::new();
    if shader.env {
        entries.push(entry(0, wgpu::BufferBindingType::Uniform));
    }
    if shader.fails {
        entries.push(entry(1, wgpu::BufferBindingType::Storage { read_only: false }));
    } else if shader.commits {
        entries.push(entry(1, wgpu::BufferBindingType::Uniform));
    }
    for (written, binding) in shader.written.iter().zip(2..) {
        entries.push(entry(binding, wgpu::BufferBindingType::Storage { read_only: !written }));
    }
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    gpu.guarded("a layout of bindings", || gpu.device().create_bind_group_layout(&descriptor))
}
