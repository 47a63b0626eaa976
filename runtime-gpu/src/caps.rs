//! What kernels are chosen by: facts of an adapter, as plain data.

use crate::kernels::Tiles;

/// Kinds of adapters that want different tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A driver that computes on the CPU: barriers are dear, and compiling even more so.
    Software,
    /// Any other.
    Portable,
    /// A large NVIDIA card.
    Nvidia,
}

/// Facts of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GpuCaps {
    /// Its kind.
    pub class: Class,
    /// Workgroups that keep it busy.
    pub busy: usize,
    /// Arrays that a shader binds, at most.
    pub bindings: usize,
    /// Bytes of an array that a shader binds, at most. What is larger is bound in windows.
    pub binding_bytes: usize,
    /// Bytes of which the first byte of a window is a multiple.
    pub window_alignment: usize,
    /// Bytes of a memory, at most.
    pub memory_bytes: usize,
    /// Bytes that the invocations of a workgroup share, at most.
    pub workgroup_bytes: usize,
    /// Invocations of a workgroup, at most.
    pub workgroup_lanes: usize,
    /// How often the loops of an invocation may turn, all of them together, where drivers end them after that without a word.
    pub turns: Option<usize>,
    /// The tiles of all products and convolutions, whatever their shapes, for who compares tiles.
    pub tiles: Option<Tiles>,
}

/// What Mesa's llvmpipe counts down from in each invocation, and ends all loops at 0 (`LP_MAX_TGSI_LOOP_ITERATIONS` of its
/// `gallivm/lp_bld_limits.h`).
pub const SOFTWARE_TURNS: usize = 65_535;

impl GpuCaps {
    /// What every adapter can do: the limits that WebGPU guarantees.
    pub fn portable() -> GpuCaps {
        GpuCaps {
            class: Class::Portable,
            busy: 32,
            bindings: 8,
            binding_bytes: 128 << 20,
            window_alignment: 256,
            memory_bytes: 256 << 20,
            workgroup_bytes: 16 << 10,
            workgroup_lanes: 256,
            turns: None,
            tiles: None,
        }
    }

    /// Mesa's software driver.
    pub fn software() -> GpuCaps {
        GpuCaps {
            class: Class::Software,
            bindings: 32,
            workgroup_bytes: 32 << 10,
            turns: Some(SOFTWARE_TURNS),
            ..GpuCaps::portable()
        }
    }

    /// Invocations of a workgroup of elementwise work.
    pub fn map_lanes(&self) -> usize {
        if self.class == Class::Nvidia { 256.min(self.workgroup_lanes) } else { 64 }
    }

    /// An NVIDIA card of the size of an H200.
    pub fn nvidia() -> GpuCaps {
        GpuCaps {
            class: Class::Nvidia,
            busy: 132,
            bindings: 32,
            binding_bytes: (1 << 31) - 4,
            window_alignment: 32,
            memory_bytes: (4 << 30) - (2 << 20),
            workgroup_bytes: 48 << 10,
            workgroup_lanes: 1024,
            turns: None,
            tiles: None,
        }
    }
}
