//! What compiling costs grows with the number of nodes and no faster: every family of `graphc_tests::scale`, from the
//! module through the file format to compiled code.
//!
//! Counted are calls of the allocator and bytes asked of it, which are the same in every run; loops that allocate
//! nothing are seen by the processor time of the thread, with a wide margin.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use graphc::{Device, Session, Tensor};
use graphc_ir::wire::{self, DecodeOptions, EncodeOptions};
use graphc_tests::scale::{FAMILIES, Family};

/// The system's allocator, counting for each thread.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that ends has no counters any more, and nobody reads them.
    CALLS.try_with(|c| c.set(c.get() + 1)).ok();
    BYTES.try_with(|b| b.set(b.get() + bytes as u64)).ok();
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A vector that grows by doubling asks for twice its size in all.
        count(size.saturating_sub(layout.size()));
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

/// What one compilation costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    calls: f64,
    bytes: f64,
    /// Processor time of this thread in nanoseconds; 0 where the system does not tell.
    time: f64,
}

/// Nanoseconds that this thread has had a processor.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|t| t.parse().ok()).unwrap_or(0.0)
}

fn cost(family: &Family, nodes: usize) -> Cost {
    let (calls, bytes, time) = (CALLS.get(), BYTES.get(), processor_time());
    let module = (family.build)(nodes).unwrap();
    let text = wire::encode(&module, &EncodeOptions { weights: Some("w.safetensors") }).unwrap();
    // Values of state in a file of weights are left out where there is no folder; constants are small.
    let read = wire::decode(text.as_bytes(), &DecodeOptions::default()).unwrap();
    assert_eq!(read.functions["f"].outputs.len(), module.functions["f"].outputs.len());
    let function = &module.functions["f"];
    let values: Vec<Tensor> = (0..function.inputs.len())
        .map(|i| {
            let ty = function.input_type(i);
            let sizes = ty.dims.iter().map(|d| d.as_const().map_or(2, |n| n as usize)).collect::<Vec<_>>();
            Tensor::zeros(ty.dtype, &sizes)
        })
        .collect();
    let names = function.inputs.clone();
    let feeds: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&values).collect();
    let mut session = Session::from_module(module).device(Device::Cpu).threads(1).build().unwrap();
    let mut outputs = session.new_outputs("f", &feeds).unwrap();
    session.run_into("f", &feeds, &mut outputs).unwrap();
    Cost {
        calls: (CALLS.get() - calls) as f64,
        bytes: (BYTES.get() - bytes) as f64,
        time: processor_time() - time,
    }
}

/// The least of several: what disturbs a measurement only adds to it.
fn least(family: &Family, nodes: usize, times: usize) -> Cost {
    let all: Vec<Cost> = (0..times).map(|_| cost(family, nodes)).collect();
    let least = |f: fn(&Cost) -> f64| all.iter().map(f).fold(f64::INFINITY, f64::min);
    Cost { calls: least(|c| c.calls), bytes: least(|c| c.bytes), time: least(|c| c.time) }
}

const NODES: usize = 400;
const FACTOR: usize = 4;

/// A cost that grows with the square is [`FACTOR`] times this or more.
const COUNTED: f64 = 1.5 * FACTOR as f64;
const TIMED: f64 = 2.5 * FACTOR as f64;

#[test]
fn cost_grows_with_the_number_of_nodes() {
    let mut problems = Vec::new();
    for family in FAMILIES {
        let (small, large) = (least(family, NODES, 2), least(family, FACTOR * NODES, 1));
        let mut time = large.time / small.time.max(1.0);
        if time > TIMED {
            time = least(family, FACTOR * NODES, 3).time / least(family, NODES, 3).time.max(1.0);
        }
        let (calls, bytes) = (large.calls / small.calls, large.bytes / small.bytes);
        println!("{}: calls {calls:.2}, bytes {bytes:.2}, time {time:.2}", family.name);
        if calls > COUNTED || bytes > COUNTED || time > TIMED {
            problems.push(format!(
                "{}: {FACTOR} times the nodes cost {calls:.1} times the allocations, {bytes:.1} times the bytes, {time:.1} times the time",
                family.name
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
