//! Plans are run by a simulator that walks domains in hostile orders and poisons dead memory, and
//! compared with the unplanned program run with a buffer for each value.

mod commit;
mod memory;
mod random;
mod simulate;
mod sketch;
mod training;

use graphc_ir::program::Program;

use super::{PlanOptions, plan};

/// Every combination of options that tests compare.
pub(super) const OPTIONS: [PlanOptions; 4] = [
    PlanOptions { in_place: true, reuse: true, alignment: 64 },
    PlanOptions { in_place: false, reuse: true, alignment: 64 },
    PlanOptions { in_place: true, reuse: false, alignment: 64 },
    PlanOptions { in_place: false, reuse: false, alignment: 128 },
];

/// Plans, and lets the verifier of the Program language judge the result.
pub(super) fn planned(program: &Program, options: &PlanOptions) -> Program {
    let planned = plan(program.clone(), options).expect("the program can be planned");
    planned.clone().verify().expect("the plan is valid");
    planned
}
