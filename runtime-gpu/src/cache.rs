//! Compiled pipelines on disk, for drivers that can take them back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::GpuError;
use crate::unchecked;

/// The variable that names the folder for compiled pipelines; without it none are kept.
pub const CACHE_VARIABLE: &str = "GRAPHC_GPU_CACHE";

/// The pipelines of one adapter.
#[derive(Debug)]
pub struct DiskCache {
    pipelines: wgpu::PipelineCache,
    file: PathBuf,
    /// What the file holds.
    held: Mutex<Option<Vec<u8>>>,
}

impl DiskCache {
    /// The cache of an adapter in a folder, which is made if it is missing; `None` where the driver keeps no pipelines.
    ///
    /// # Errors
    /// When the folder cannot be made, or the file not read.
    pub fn open(
        device: &wgpu::Device,
        adapter: &wgpu::AdapterInfo,
        folder: &Path,
    ) -> Result<Option<DiskCache>, GpuError> {
        let Some(key) = wgpu::util::pipeline_cache_key(adapter) else { return Ok(None) };
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return Ok(None);
        }
        fs::create_dir_all(folder).map_err(|e| problem(folder, &e))?;
        let file = folder.join(key);
        let held = match fs::read(&file) {
            Ok(held) => Some(held),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(problem(&file, &e)),
        };
        let pipelines = unchecked::pipeline_cache(device, held.as_deref());
        Ok(Some(DiskCache { pipelines, file, held: Mutex::new(held) }))
    }

    /// What pipelines are looked up in.
    pub fn pipelines(&self) -> &wgpu::PipelineCache {
        &self.pipelines
    }

    /// Writes what came in since the last time, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self) -> Result<(), GpuError> {
        // A panic while it was held left a file that is whole.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let data = self.pipelines.get_data();
        if data.is_some() && *held != data {
            // Another process may do the same.
            let fresh = self.file.with_extension(format!("{}.new", std::process::id()));
            let written = fs::write(&fresh, data.as_deref().unwrap_or_default());
            written.and_then(|()| fs::rename(&fresh, &self.file)).map_err(|e| {
                // What is left of it helps nobody.
                let _ = fs::remove_file(&fresh);
                problem(&self.file, &e)
            })?;
            *held = data;
        }
        Ok(())
    }
}

fn problem(path: &Path, e: &std::io::Error) -> GpuError {
    GpuError::Cache { path: path.display().to_string(), reason: e.to_string() }
}
