//! Runs in the steady state allocate nothing, on no thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use graphc::build::{Module, ModuleBuilder, Tensor, ops};
use graphc::ir::ops::{sample_indices, sample_tensor};
use graphc::{Device, Session};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Images in a batch of the models: batch normalization needs two.
const BATCH: usize = 2;

/// Threads allocate when they start, and on a busy machine not all have by the time that a session is built.
fn let_threads_start() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// Every function of every model, a few runs each, on two threads.
fn models_allocate_nothing() {
    for model in graphc_models::MODELS {
        let module = (model.build)().unwrap();
        let mut session =
            Session::from_module(module.clone()).device(Device::Cpu).threads(2).build().unwrap();
        session.init_missing(0).unwrap();
        let_threads_start();
        for (name, function) in &module.functions {
            let tensor = |i: usize| {
                let ty = function.input_type(i);
                let size = |d: &graphc::Dim| d.as_const().map_or(BATCH, |n| n as usize);
                let shape: Vec<usize> = ty.dims.iter().map(size).collect();
                match ty.dtype.is_int() {
                    true => sample_indices(&shape, 10, i as u64).cast(ty.dtype),
                    false => sample_tensor(&shape, i as u64).cast(ty.dtype),
                }
            };
            let values: Vec<Tensor> = (0..function.inputs.len()).map(tensor).collect();
            let feeds: Vec<(&str, &Tensor)> =
                function.inputs.iter().map(String::as_str).zip(&values).collect();
            let mut outputs = session.new_outputs(name, &feeds).unwrap();
            for _ in 0..2 {
                session.run_into(name, &feeds, &mut outputs).unwrap();
            }
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..3 {
                session.run_into(name, &feeds, &mut outputs).unwrap();
            }
            let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(count, 0, "{name} of {}", model.name);
        }
    }
}

/// A classifier of two layers with its training step, large enough for several threads.
fn classifier() -> graphc::build::Result<Module> {
    let ramp = |shape: &[usize]| {
        let n: usize = shape.iter().product();
        Tensor::from_slice(
            shape,
            &(0..n).map(|i| ((i * 7919) % 101) as f32 / 1000.0 - 0.05).collect::<Vec<_>>(),
        )
    };
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1)?;
    for (name, shape) in [("w1", &[64, 96][..]), ("b1", &[96]), ("w2", &[96, 10]), ("b2", &[10])] {
        m.value(name, ramp(shape))?;
    }
    m.function("predict", |f| {
        let h = f.op(ops::Linear {}, &[f.input("x", "f32[B,64]")?, f.state("w1")?, f.state("b1")?])?.relu();
        f.output("logits", f.op(ops::Linear {}, &[h, f.state("w2")?, f.state("b2")?])?)
    })?;
    m.function("train_step", |f| {
        let (x, t) = (f.input("x", "f32[B,64]")?, f.input("t", "f32[B,10]")?);
        let names = ["w1", "b1", "w2", "b2"];
        let state = names.iter().map(|n| f.state(n)).collect::<Result<Vec<_>, _>>()?;
        let h = f.op(ops::Linear {}, &[x, state[0], state[1]])?.relu();
        let difference = f.op(ops::Linear {}, &[h, state[2], state[3]])? - t;
        let loss = (difference * difference).mean(&[0, 1]);
        for ((name, w), g) in names.iter().zip(&state).zip(f.gradients(loss, &state)?) {
            f.update(name, *w - g * 0.01)?;
        }
        f.loss("loss", loss)
    })?;
    m.finish()
}

// One test, so that nothing else allocates at the same time.
#[test]
fn the_steady_state_allocates_nothing() {
    let mut session =
        Session::from_module(classifier().unwrap()).device(Device::Cpu).threads(4).build().unwrap();
    let_threads_start();
    let batch = |b: usize, n: usize| Tensor::from_slice(&[b, n], &vec![0.25f32; b * n]);
    let (x, t, other) = (batch(128, 64), batch(128, 10), batch(32, 64));
    // Both orders of the feeds, two functions over one state, and two specializations.
    let trained = [("t", &t), ("x", &x)];
    let mut loss = session.new_outputs("train_step", &trained).unwrap();
    let mut logits = session.new_outputs("predict", &[("x", &x)]).unwrap();
    let mut fewer = session.new_outputs("predict", &[("x", &other)]).unwrap();
    let mut round = |count: usize| {
        for _ in 0..count {
            session.run_into("train_step", &trained, &mut loss).unwrap();
            session.run_into("predict", &[("x", &x)], &mut logits).unwrap();
            session.run_into("predict", &[("x", &other)], &mut fewer).unwrap();
        }
    };
    round(3);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    round(50);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    let loss = loss[0].as_slice::<f32>()[0];
    assert!(loss.is_finite() && loss < 0.2, "{loss}");
    models_allocate_nothing();
    // The counter counts.
    drop(vec![1u8; 100]);
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}
