//! The GPU as the optimizer sees it.

use graphc_ir::program::{Choice, Form, Program, Step};
use graphc_ir::target::{Caps, Target};

use crate::caps::GpuCaps;
use crate::kernels::algorithm;

/// More than this many only press on registers.
const MOST: usize = 32;
/// Arrays that a shader may bind besides those of its step: the parts of folds, and what rows have.
const OWN: usize = 2;

/// A GPU: operands as they lie, and no scratch in the Program's plan, because memory is planned by pieces.
#[derive(Clone, Debug)]
pub struct GpuTarget {
    caps: Caps,
    gpu: GpuCaps,
}

impl GpuTarget {
    /// An adapter.
    pub fn new(gpu: &GpuCaps) -> GpuTarget {
        let max_ports = gpu.bindings.clamp(OWN + 1, MOST) - OWN;
        let caps = Caps { name: "gpu", alignment: 256, max_ports, folds_in_epilogues: false };
        GpuTarget { caps, gpu: gpu.clone() }
    }
}

impl Target for GpuTarget {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn operand_form(&self, _: &Program, _: &Step, _: bool) -> Form {
        Form::Dense
    }

    fn choose(&self, _: &Program, step: &Step) -> Choice {
        let algo = algorithm(&step.kernel, &self.gpu);
        Choice { algo, scratch_bytes: 0, error_class: 1.0 }
    }
}
