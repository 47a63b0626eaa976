//! Runs that end in a kernel that panics, and machines that lack an instruction set.

use std::sync::Arc;

use graphc_ir::dtype::DType;
use graphc_ir::program::{Body, BufferId, BufferKind, Kernel, Level, Nest};
use graphc_ir::tensor::Tensor;

use super::tests::{Draft, load, sample, store};
use super::{CpuOptions, Executable, RunError, check_machine};
use crate::isa::Isa;
use crate::pool::Pool;
use crate::target::CpuTarget;

const SHAPE: [usize; 1] = [40];

/// x to a temporary, and that to three variables.
fn draft() -> Draft {
    let mut draft = Draft::default();
    let x = draft.input(DType::F32, &SHAPE);
    let t = draft.temp(DType::F32, &SHAPE);
    let copy = |draft: &mut Draft, from: BufferId, to: BufferId| {
        let mut body = Body::default();
        let value = load(&mut body, 0, Level::Elem);
        store(&mut body, value, 0);
        let (from, to) = (draft.port(from), draft.port(to));
        draft.step(Kernel::Nest(Nest { rows: vec![], cols: SHAPE.to_vec(), body }), vec![from], vec![to]);
    };
    copy(&mut draft, x, t);
    for i in 0..3 {
        let state = draft.buffer(BufferKind::State(i), DType::F32, &SHAPE);
        copy(&mut draft, t, state);
    }
    draft
}

/// What a run does in which a step panics, and the variables after it.
fn broken(step: usize) -> (RunError, Vec<Tensor>) {
    let program = draft().plan(&CpuTarget::new(Isa::Portable, 1));
    let options = CpuOptions { pool: Arc::new(Pool::new(1).unwrap()), isa: Isa::Portable };
    let mut executable = Executable::compile(&program, options).unwrap();
    Arc::get_mut(&mut executable.shared).unwrap().code.break_step(step);
    let mut workspace = executable.workspace().unwrap();
    let mut states: Vec<Tensor> = (0..3).map(|i| sample(DType::F32, &SHAPE, 2 + i)).collect();
    let x = sample(DType::F32, &SHAPE, 1);
    let mut binding = executable.bind(&mut workspace).input(0, x.bytes()).unwrap();
    for (i, state) in states.iter_mut().enumerate() {
        binding = binding.state_mut(i, state.bytes_mut()).unwrap();
    }
    (binding.run().unwrap_err(), states)
}

#[test]
fn a_kernel_that_panics_tells_what_is_left_of_the_state() {
    let new = sample(DType::F32, &SHAPE, 1);
    let old = |i: usize| sample(DType::F32, &SHAPE, 2 + i);
    let (error, states) = broken(0);
    assert!(matches!(error, RunError::Step { .. }), "{error:?}");
    assert!((0..3).all(|i| states[i] == old(i)));
    for step in 1..4 {
        let (error, states) = broken(step);
        assert!(error.to_string().contains("a kernel that is broken"), "{error}");
        let RunError::Torn { at, assigned, lost, .. } = error else { panic!("{error:?}") };
        assert_eq!(at, format!("`node{step}`"));
        assert_eq!((&assigned[..], &lost[..]), (&[0, 1, 2][..step - 1], &[step - 1][..]));
        assert!((0..step - 1).all(|i| states[i] == new));
        assert!((step..3).all(|i| states[i] == old(i)));
    }
}

#[test]
fn an_instruction_set_that_the_machine_lacks_is_refused() {
    for isa in Isa::ALL {
        assert!(check_machine(isa, |_| true).is_ok());
        let error = check_machine(isa, |_| false).unwrap_err().to_string();
        assert!(error.contains(isa.name()), "{error}");
        // Compiling asks the machine itself.
        let program = draft().plan(&CpuTarget::new(isa, 1));
        let options = CpuOptions { pool: Arc::new(Pool::new(1).unwrap()), isa };
        assert_eq!(Executable::compile(&program, options).is_ok(), isa.is_available());
    }
}
