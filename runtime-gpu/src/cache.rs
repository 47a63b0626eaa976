//! Compiled pipelines on disk, for drivers that can take them back.
//!
//! A driver believes what it is given, so a file says how long its pipelines are and what they hash to. What does not agree, or
//! is of an older form, is left alone and written anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::GpuError;
use crate::unchecked;

/// The variable that names the folder for compiled pipelines; without it none are kept.
pub const CACHE_VARIABLE: &str = "GRAPHC_GPU_CACHE";

/// What a file begins with.
const MAGIC: [u8; 8] = *b"graphcP1";
/// Bytes before the pipelines: these, their length and their hash.
const HEAD: usize = 24;

/// The pipelines of one adapter.
#[derive(Debug)]
pub struct DiskCache {
    pipelines: wgpu::PipelineCache,
    file: PathBuf,
    /// What the file holds, if it is whole.
    held: Mutex<Option<Vec<u8>>>,
    /// What the user should know of the file.
    note: Option<String>,
}

impl DiskCache {
    /// The cache of an adapter in a folder, which is made if it is missing; `None` where the driver keeps no pipelines. A
    /// file that is damaged, or that the driver does not take, is as good as none.
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
        let found = match fs::read(&file) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(problem(&file, &e)),
        };
        let whole = found.as_deref().and_then(unpacked);
        let mut taken = whole.map(|data| (unchecked::pipeline_cache(device, Some(data)), data.to_vec()));
        if let Some(Err(_)) = taken.as_ref().map(|t| &t.0) {
            taken = None;
        }
        let note = (found.is_some() && taken.is_none()).then(|| {
            format!(
                "the compiled shaders in {} are damaged or of another version; they are made anew",
                file.display()
            )
        });
        let (pipelines, held) = match taken {
            Some((pipelines, held)) => (pipelines, Some(held)),
            None => (unchecked::pipeline_cache(device, None), None),
        };
        let pipelines = pipelines
            .map_err(|message| GpuError::Refused { what: "a place for compiled shaders".into(), message })?;
        Ok(Some(DiskCache { pipelines, file, held: Mutex::new(held), note }))
    }

    /// What the user should know of the file.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
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
        if let Some(data) = data.filter(|data| held.as_ref() != Some(data)) {
            // Another process may do the same.
            let fresh = self.file.with_extension(format!("{}.new", std::process::id()));
            let written = fs::write(&fresh, packed(&data));
            written.and_then(|()| fs::rename(&fresh, &self.file)).map_err(|e| {
                // What is left of it helps nobody.
                let _ = fs::remove_file(&fresh);
                problem(&self.file, &e)
            })?;
            *held = Some(data);
        }
        Ok(())
    }
}

/// A file of pipelines.
fn packed(data: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEAD + data.len());
    file.extend(MAGIC);
    file.extend((data.len() as u64).to_le_bytes());
    file.extend(hash(data).to_le_bytes());
    file.extend(data);
    file
}

/// The pipelines of a file, if it is whole.
fn unpacked(file: &[u8]) -> Option<&[u8]> {
    let (head, data) = file.split_at_checked(HEAD)?;
    let whole = head[..8] == MAGIC
        && head[8..16] == (data.len() as u64).to_le_bytes()
        && head[16..] == hash(data).to_le_bytes();
    whole.then_some(data)
}

/// FNV-1a of 64 bits: it finds damage, not forgery.
fn hash(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn problem(path: &Path, e: &std::io::Error) -> GpuError {
    GpuError::Cache { path: path.display().to_string(), reason: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_byte_is_found() {
        let data: Vec<u8> = (0..100).collect();
        let file = packed(&data);
        assert_eq!(unpacked(&file), Some(&data[..]));
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(unpacked(&damaged), None, "bit {bit} of byte {at}");
            }
            assert_eq!(unpacked(&file[..at]), None, "{at} bytes");
        }
        assert_eq!(unpacked(&[&file[..], &[0]].concat()), None);
    }
}
