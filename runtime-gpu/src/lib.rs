//! Runs Programs as compute shaders on wgpu.
//!
//! [`Code`] is a Program as launches of WGSL shaders over pieces of memory, made without a device; [`Gpu`] is an
//! adapter that was opened, and [`Executable`] code with its pipelines, memory and bind groups there.

#[cfg(not(target_arch = "wasm32"))]
mod cache;
mod caps;
mod code;
#[cfg(not(target_arch = "wasm32"))]
mod device;
#[cfg(not(target_arch = "wasm32"))]
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod exec;
mod kernels;
mod place;
mod target;
#[cfg(not(target_arch = "wasm32"))]
mod unchecked;
mod wgsl;
mod words;

#[cfg(not(target_arch = "wasm32"))]
pub use cache::CACHE_VARIABLE;
pub use caps::{Class, GpuCaps};
pub use code::{Code, Failure, Home, Item, Launch, MemoryDecl};
#[cfg(not(target_arch = "wasm32"))]
pub use device::{ADAPTER_VARIABLE, AdapterInfo, DeviceMemory, Gpu, adapters};
#[cfg(not(target_arch = "wasm32"))]
pub use error::GpuError;
#[cfg(not(target_arch = "wasm32"))]
pub use exec::{Executable, RunError, Started};
pub use kernels::Tiles;
pub use place::{Bound, Mem, Place, Slice, Window};
pub use target::GpuTarget;
pub use wgsl::{Grid, ShaderText};
pub use words::{Word, from_words, to_words};
