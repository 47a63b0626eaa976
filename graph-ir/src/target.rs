//! What the optimizer asks a device before memory is planned.

use crate::program::Program;
use crate::program::{Choice, Form, Step};

/// Facts of a device that decide about the shape of a Program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Name in messages.
    pub name: &'static str,
    /// Alignment of buffers in the arena, in bytes.
    pub alignment: usize,
    /// Largest number of ports of a step.
    pub max_ports: usize,
    /// Whether kernels with epilogues fold their results down to one value a column.
    pub folds_in_epilogues: bool,
}

/// A device as the optimizer sees it: pure and deterministic.
pub trait Target {
    /// Facts.
    fn caps(&self) -> &Caps;

    /// The form that the device wants the second operand of a dot or a convolution in; `staged` says that the
    /// operand depends on state and constants alone, so that packing is paid once.
    fn operand_form(&self, program: &Program, step: &Step, staged: bool) -> Form;

    /// Algorithm and scratch of a step whose operands have their forms.
    fn choose(&self, program: &Program, step: &Step) -> Choice;
}

/// The target of the reference executor: dense forms, no scratch.
#[derive(Clone, Debug)]
pub struct Reference;

impl Target for Reference {
    fn caps(&self) -> &Caps {
        &Caps { name: "reference", alignment: 64, max_ports: 64, folds_in_epilogues: true }
    }

    fn operand_form(&self, _: &Program, _: &Step, _: bool) -> Form {
        Form::Dense
    }

    fn choose(&self, _: &Program, _: &Step) -> Choice {
        Choice { algo: "reference", scratch_bytes: 0, error_class: 0.0 }
    }
}
