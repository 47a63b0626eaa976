//! The instruction sets that kernels are written for, and the floating-point mode that they run in.

use std::fmt;
use std::marker::PhantomData;

use thiserror::Error;

/// Environment variable that forces an instruction set: `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "GRAPHC_ISA";

/// An instruction set that every kernel of this crate has a version for.
///
/// Results of floating-point sums depend on it, because it decides vector widths and whether
/// multiply-add is fused; they depend on nothing else of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// AVX-512 F, BW, DQ and VL with FMA.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// Plain Rust, vectorized by the compiler for the target's baseline.
    Portable,
}

/// Why no instruction set could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IsaError {
    /// `GRAPHC_ISA` holds a value that names no instruction set.
    #[error(
        "{ISA_VARIABLE} is {value:?}, which is not one of avx512, avx2 and portable; correct it or unset it"
    )]
    Unknown {
        /// The variable's value.
        value: String,
    },
    /// `GRAPHC_ISA` names an instruction set that this machine lacks.
    #[error(
        "{ISA_VARIABLE} asks for {isa}, which this machine lacks (it has {}); choose one of those or unset it",
        Names(.available)
    )]
    Unavailable {
        /// What was asked for.
        isa: Isa,
        /// What the machine has, best first.
        available: Vec<Isa>,
    },
}

struct Names<'a>(&'a [Isa]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, isa) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{isa}")?;
        }
        Ok(())
    }
}

impl Isa {
    /// All instruction sets, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// The best instruction set of this machine, or the one that `GRAPHC_ISA` asks for.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that this machine lacks.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            None => Ok(Isa::available()[0]),
            Some(value) => Isa::forced(&value.to_string_lossy()),
        }
    }

    /// The instruction sets of this machine, best first. The last one is always [`Isa::Portable`].
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine can run kernels of this instruction set.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }

    /// The name that `GRAPHC_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    fn forced(value: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == value)
            .ok_or_else(|| IsaError::Unknown { value: value.to_owned() })?;
        if isa.is_available() {
            Ok(isa)
        } else {
            Err(IsaError::Unavailable { isa, available: Isa::available() })
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// While it lives, this thread takes denormal operands as zero and flushes denormal results to zero.
///
/// Denormals slow some kernels down a hundredfold. Each thread has its own mode, so the guard cannot
/// be sent to another one. On machines other than x86-64 it changes nothing.
#[derive(Debug)]
pub struct FlushDenormals {
    saved: u32,
    this_thread_only: PhantomData<*const ()>,
}

/// Flush-to-zero (bit 15) and denormals-are-zero (bit 6) of MXCSR; Intel SDM volume 1, section 10.2.3.
const FLUSH_BITS: u32 = 1 << 15 | 1 << 6;

impl FlushDenormals {
    /// Switches the mode on; dropping the guard restores what was before.
    pub fn enable() -> FlushDenormals {
        let saved = control::read();
        // Writing the register serializes, so nested guards leave it alone.
        if saved & FLUSH_BITS != FLUSH_BITS {
            control::write(saved | FLUSH_BITS);
        }
        FlushDenormals { saved, this_thread_only: PhantomData }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        if self.saved & FLUSH_BITS != FLUSH_BITS {
            control::write(self.saved);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub fn read() -> u32 {
        let mut value = 0u32;
        // SAFETY: stores the four bytes of MXCSR in `value`.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut value, options(nostack, preserves_flags)) };
        value
    }

    pub fn write(value: u32) {
        // SAFETY: `value` is what MXCSR held, with flush bits added or taken away; reserved bits stay
        // clear, so the load cannot fault, and exception masks and rounding stay as they were.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &value, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod control {
    pub fn read() -> u32 {
        0
    }

    pub fn write(_value: u32) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn the_best_instruction_set_comes_first_and_portable_last() {
        let available = Isa::available();
        assert!(available.is_sorted());
        assert_eq!(available.last(), Some(&Isa::Portable));
    }

    #[test]
    fn forcing_takes_names_and_refuses_others() {
        for isa in Isa::available() {
            assert_eq!(Isa::forced(isa.name()), Ok(isa));
        }
        let unknown = Isa::forced("sse9").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "GRAPHC_ISA is \"sse9\", which is not one of avx512, avx2 and portable; correct it or unset it"
        );
        let lacking = IsaError::Unavailable { isa: Isa::Avx512, available: vec![Isa::Avx2, Isa::Portable] };
        assert!(lacking.to_string().contains("lacks (it has avx2, portable)"));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn denormals_are_flushed_only_while_the_guard_lives() {
        let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert_ne!(half(), 0.0);
        {
            let _outer = FlushDenormals::enable();
            {
                let _inner = FlushDenormals::enable();
                assert_eq!(half(), 0.0);
            }
            assert_eq!(half(), 0.0);
        }
        assert_ne!(half(), 0.0);
    }
}
