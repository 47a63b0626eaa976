//! The CPU as the optimizer sees it.

use graphc_ir::program::{Choice, Form, Kernel, Program, Step};
use graphc_ir::target::{Caps, Target};

use crate::exec::{CompiledStep, Machine, filter_form, packed_elements};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;

/// A CPU with an instruction set and a number of threads.
///
/// Threads decide about scratch only: results do not depend on them.
#[derive(Clone, Copy, Debug)]
pub struct CpuTarget {
    machine: Machine,
}

impl CpuTarget {
    /// The target of Programs that run with `threads` threads.
    pub fn new(isa: Isa, threads: usize) -> CpuTarget {
        CpuTarget { machine: Machine { isa, threads } }
    }
}

impl Target for CpuTarget {
    fn caps(&self) -> &Caps {
        &Caps { name: "cpu", alignment: ALIGNMENT, max_ports: 64, folds_in_epilogues: true }
    }

    /// Panels if they are packed once for many runs; otherwise the product packs what it has to itself,
    /// block by block.
    fn operand_form(&self, program: &Program, step: &Step, staged: bool) -> Form {
        let dot = match &step.kernel {
            Kernel::Dot(dot) => dot,
            Kernel::Conv(conv) if staged => {
                let dtype = program.buffer(step.reads[1].buffer).dtype;
                return filter_form(self.machine, program, conv, dtype).unwrap_or(Form::Dense);
            }
            _ => return Form::Dense,
        };
        let port = &step.reads[1];
        let shared = dot.batch.iter().zip(&port.view.strides).any(|(size, stride)| *size > 1 && *stride == 0);
        let dtype = program.buffer(port.buffer).dtype;
        let elements = packed_elements(self.machine.isa, dtype, dot.k, dot.n);
        let products = dot.batch.iter().product::<usize>();
        match elements.and_then(|e| e.checked_mul(products)?.checked_mul(dtype.size())) {
            Some(bytes) if staged && !shared && bytes > 0 => Form::Panels { bytes },
            _ => Form::Dense,
        }
    }

    fn choose(&self, program: &Program, step: &Step) -> Choice {
        // Which ports will share memory is not planned yet; either answer must find its scratch.
        let compiled =
            [false, true].map(|shared| CompiledStep::new(self.machine, program, step, &|_, _| shared));
        let scratch = |step: &CompiledStep| step.scratch_bytes();
        match compiled {
            [Ok(apart), Ok(shared)] => Choice {
                algo: apart.algorithm(),
                scratch_bytes: scratch(&apart).max(scratch(&shared)),
                error_class: apart.error_class(),
            },
            // Compiling it says why.
            _ => Choice { algo: "none", scratch_bytes: 0, error_class: 1.0 },
        }
    }
}
