//! Adapters, and the one that was opened.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache::{CACHE_VARIABLE, DiskCache};
use crate::caps::{Class, GpuCaps, SOFTWARE_TURNS};
use crate::error::{GpuError, TIMEOUT};
use crate::place::VECTOR;
use crate::target::GpuTarget;

/// The variable that names the adapter to use: part of its name, in any case.
pub const ADAPTER_VARIABLE: &str = "GRAPHC_ADAPTER";

/// An adapter, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Name.
    pub name: String,
    /// Vulkan, Metal and so on.
    pub backend: String,
    /// Kind: discrete, integrated, or cpu for a software driver.
    pub kind: String,
    /// Driver and its version.
    pub driver: String,
    /// Bytes of an array that a shader may bind, at most.
    pub max_binding: u64,
    /// Arrays that a shader may bind, at most.
    pub max_bindings: u32,
    /// Bytes that the invocations of a workgroup may share.
    pub workgroup_bytes: u32,
    /// Invocations of a workgroup, at most.
    pub workgroup_size: u32,
    /// Names of what it can do beyond the standard.
    pub features: Vec<String>,
}

impl AdapterInfo {
    fn of(adapter: &wgpu::Adapter) -> AdapterInfo {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "cpu",
            wgpu::DeviceType::Other => "other",
        };
        let interesting = [
            (wgpu::Features::SUBGROUP, "subgroup"),
            (wgpu::Features::SHADER_F16, "f16"),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
            (wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES, "timestamps inside passes"),
            (wgpu::Features::PIPELINE_CACHE, "pipeline cache"),
        ];
        let features = adapter.features();
        AdapterInfo {
            name: info.name,
            backend: info.backend.to_string(),
            kind: kind.into(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            max_binding: limits.max_storage_buffer_binding_size,
            max_bindings: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            features: interesting
                .into_iter()
                .filter(|(f, _)| features.contains(*f))
                .map(|(_, name)| name.to_owned())
                .collect(),
        }
    }

    /// Whether it is a driver that computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.kind == "cpu"
    }
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}; {})", self.name, self.backend, self.kind, self.driver)
    }
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    // Validation layers and the check of indirect dispatches, which caps buffers, are for developers of shaders.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

fn found() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// The adapters of this machine.
pub fn adapters() -> Vec<AdapterInfo> {
    found().iter().map(AdapterInfo::of).collect()
}

/// An adapter that was opened. Clones are the same device.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: AdapterInfo,
    caps: GpuCaps,
    cache: Option<DiskCache>,
    lost: Arc<Mutex<Option<String>>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("info", &self.inner.info).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens the adapter that is named, or named by the environment, or else the most powerful one. Compiled pipelines are kept
    /// in the folder that the environment names, if it does.
    ///
    /// # Errors
    /// When there is none, or its driver refuses, or the folder cannot be used.
    pub fn open(wanted: Option<&str>) -> Result<Gpu, GpuError> {
        let folder = std::env::var_os(CACHE_VARIABLE).filter(|folder| !folder.is_empty());
        Gpu::open_with(wanted, folder.as_deref().map(Path::new))
    }

    /// The same with a folder for compiled pipelines.
    ///
    /// # Errors
    /// Those of [`Gpu::open`].
    pub fn open_with(wanted: Option<&str>, folder: Option<&Path>) -> Result<Gpu, GpuError> {
        let named = std::env::var(ADAPTER_VARIABLE).ok().filter(|name| !name.is_empty());
        let wanted = wanted.map(str::to_owned).or(named);
        let mut all = found();
        if all.is_empty() {
            return Err(GpuError::NoAdapter);
        }
        let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        all.sort_by_key(rank);
        let place = match &wanted {
            None => Some(0),
            Some(name) => {
                let name = name.to_lowercase();
                all.iter().position(|a| a.get_info().name.to_lowercase().contains(&name))
            }
        };
        let Some(place) = place else {
            let known: Vec<String> = all.iter().map(|a| format!("`{}`", a.get_info().name)).collect();
            return Err(GpuError::Unknown { wanted: wanted.unwrap_or_default(), known: known.join(" and ") });
        };
        let adapter = all.swap_remove(place);
        let info = AdapterInfo::of(&adapter);
        let limits = adapter.limits();
        let caps = caps(&adapter.get_info(), &limits);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("graphc"),
            required_features: adapter.features() & (CLOCK | wgpu::Features::PIPELINE_CACHE),
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| GpuError::Open { adapter: info.name.clone(), reason: e.to_string() })?;
        let cache = match folder {
            Some(folder) => DiskCache::open(&device, &adapter.get_info(), folder)?,
            None => None,
        };
        Ok(Gpu::of(device, queue, info, caps, cache))
    }

    /// A device that validates everything and computes nothing, with the limits that WebGPU guarantees, or bindings of no
    /// more than so many bytes.
    #[cfg(feature = "noop")]
    pub fn noop(binding_bytes: usize) -> Gpu {
        let guaranteed = wgpu::Limits::default();
        let binding = guaranteed.max_storage_buffer_binding_size.min(binding_bytes as u64);
        let limits = wgpu::Limits { max_storage_buffer_binding_size: binding, ..guaranteed };
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: limits.clone(), ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = wgpu::Device::noop(&descriptor);
        let info = AdapterInfo {
            name: "noop".into(),
            backend: "noop".into(),
            kind: "other".into(),
            driver: String::new(),
            max_binding: limits.max_storage_buffer_binding_size,
            max_bindings: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            features: Vec::new(),
        };
        let caps = GpuCaps { binding_bytes: binding as usize, ..GpuCaps::portable() };
        Gpu::of(device, queue, info, caps, None)
    }

    fn of(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: AdapterInfo,
        caps: GpuCaps,
        cache: Option<DiskCache>,
    ) -> Gpu {
        let lost = Arc::new(Mutex::new(None));
        let (told, uncaptured) = (Arc::clone(&lost), Arc::clone(&lost));
        device.set_device_lost_callback(move |reason, message| {
            note(&told, format!("{reason:?} {message}"));
        });
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&uncaptured, e.to_string())));
        Gpu { inner: Arc::new(Inner { device, queue, info, caps, cache, lost }) }
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.inner.info
    }

    /// What kernels are chosen by.
    pub fn caps(&self) -> &GpuCaps {
        &self.inner.caps
    }

    /// The adapter as the optimizer sees it.
    pub fn target(&self) -> GpuTarget {
        GpuTarget::new(&self.inner.caps)
    }

    /// What the user should know of the folder for compiled shaders, such as that a file there is damaged.
    pub fn note(&self) -> Option<&str> {
        self.inner.cache.as_ref().and_then(DiskCache::note)
    }

    /// Compiled pipelines on disk, if any are kept.
    pub(crate) fn cache(&self) -> Option<&DiskCache> {
        self.inner.cache.as_ref()
    }

    /// Whether dispatches can be timed.
    pub(crate) fn has_clock(&self) -> bool {
        self.inner.device.features().contains(CLOCK)
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// An error if the device is gone.
    pub(crate) fn check(&self) -> Result<(), GpuError> {
        let lost = self.inner.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone().map_or(Ok(()), |why| Err(GpuError::Lost(why)))
    }

    /// Runs a function, and gives what the driver has against it.
    pub(crate) fn guarded<R>(&self, what: &str, f: impl FnOnce() -> R) -> Result<R, GpuError> {
        self.check()?;
        let memory = self.inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.inner.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.inner.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let result = f();
        let refused = pollster::block_on(internal.pop());
        let refused = refused.or(pollster::block_on(validation.pop()));
        let exhausted = pollster::block_on(memory.pop());
        if exhausted.is_some() {
            return Err(GpuError::OutOfMemory { what: what.to_owned() });
        }
        match refused {
            Some(e) => Err(GpuError::Refused { what: what.to_owned(), message: e.to_string() }),
            None => Ok(result),
        }
    }

    /// Memory for so many words, all zero.
    ///
    /// # Errors
    /// When no memory may be that large, or there is none.
    pub fn memory(&self, words: usize) -> Result<DeviceMemory, GpuError> {
        let needed = words * size_of::<u32>();
        let limit = self.inner.caps.memory_bytes;
        if needed > limit {
            return Err(GpuError::TooLarge { needed, limit });
        }
        // Whole vectors.
        let bytes = words.max(1).next_multiple_of(VECTOR) * size_of::<u32>();
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        // Uniform bindings are short; only the first memories are bound so.
        let usage = if words > 1024 { usage & !wgpu::BufferUsages::UNIFORM } else { usage };
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
        let buffer =
            self.guarded(&format!("{bytes} bytes"), || self.inner.device.create_buffer(&descriptor))?;
        Ok(DeviceMemory { buffer, words })
    }

    /// Waits for everything that was submitted.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        self.wait_until(None)
    }

    /// Waits for a submission and those before it.
    pub(crate) fn wait_for(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.wait_until(Some(submission))
    }

    fn wait_until(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<(), GpuError> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: Some(TIMEOUT) };
        self.inner.device.poll(poll).map_err(|_| GpuError::Timeout)?;
        self.check()
    }

    /// Writes words to the beginning of a memory.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn write(&self, memory: &DeviceMemory, words: &[u32]) -> Result<(), GpuError> {
        self.check()?;
        if !words.is_empty() {
            self.inner.queue.write_buffer(&memory.buffer, 0, bytemuck::cast_slice(words));
        }
        Ok(())
    }

    /// The words of a memory.
    ///
    /// # Errors
    /// When the device is gone, or does not answer.
    pub fn read(&self, memory: &DeviceMemory) -> Result<Vec<u32>, GpuError> {
        if memory.words == 0 {
            return Ok(Vec::new());
        }
        let bytes = memory.words as u64 * 4;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let staging = self.guarded("a copy for reading", || self.inner.device.create_buffer(&descriptor))?;
        let mut encoder =
            self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&memory.buffer, 0, &staging, 0, bytes);
        self.inner.queue.submit([encoder.finish()]);
        self.mapped(&staging, bytes, bytemuck::pod_collect_to_vec)
    }

    /// Maps a buffer when all work is done, and reads it.
    pub(crate) fn mapped<R>(
        &self,
        staging: &wgpu::Buffer,
        bytes: u64,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, GpuError> {
        staging.map_async(wgpu::MapMode::Read, ..bytes, |_| {});
        self.wait()?;
        let view = staging.get_mapped_range(..bytes);
        let view =
            view.map_err(|e| GpuError::Refused { what: "reading results".into(), message: e.to_string() })?;
        let result = f(&view);
        drop(view);
        staging.unmap();
        Ok(result)
    }
}

/// What timing dispatches takes.
const CLOCK: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// NVIDIA's number among vendors of PCI devices.
const NVIDIA: u32 = 0x10DE;

fn caps(info: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> GpuCaps {
    let class = match info.device_type {
        wgpu::DeviceType::Cpu => Class::Software,
        wgpu::DeviceType::DiscreteGpu if info.vendor == NVIDIA => Class::Nvidia,
        _ => Class::Portable,
    };
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    // Whole vectors.
    let memory_bytes =
        bytes(limits.max_buffer_size) / (VECTOR * size_of::<u32>()) * (VECTOR * size_of::<u32>());
    let busy = if class == Class::Nvidia { GpuCaps::nvidia().busy } else { GpuCaps::portable().busy };
    GpuCaps {
        class,
        busy,
        bindings: limits.max_storage_buffers_per_shader_stage as usize,
        binding_bytes: bytes(limits.max_storage_buffer_binding_size).min(memory_bytes),
        window_alignment: (limits.min_storage_buffer_offset_alignment as usize)
            .max(VECTOR * size_of::<u32>()),
        memory_bytes,
        workgroup_bytes: limits.max_compute_workgroup_storage_size as usize,
        workgroup_lanes: limits.max_compute_invocations_per_workgroup as usize,
        turns: (class == Class::Software).then_some(SOFTWARE_TURNS),
        tiles: None,
    }
}

fn note(place: &Mutex<Option<String>>, message: String) {
    place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
}

/// Memory of a device. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct DeviceMemory {
    pub(crate) buffer: wgpu::Buffer,
    words: usize,
}

impl DeviceMemory {
    /// Its words.
    pub fn words(&self) -> usize {
        self.words
    }
}
