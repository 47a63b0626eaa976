//! What a long loop takes of the host's memory: a test alone in its process, whose peak it looks at. Without an adapter it
//! is skipped.

use std::fs;

use graphc_ir::Tensor;
use graphc_ir::error::Result;
use graphc_ir::wire::{DecodeOptions, decode};
use graphc_tests::device::Device;
use graphc_tests::gpu::{GpuDevice, adapter};

/// The most memory that this process had, in kilobytes, where the system tells.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn scan(length: usize) -> String {
    format!(
        r#"{{"format": "graphc.module", "version": 1, "functions": {{
            "main": {{"inputs": [{{"name": "x", "type": "f32[2]"}}], "nodes": [{{"id": "s", "op": "scan", "in": ["x"],
                "attrs": {{"body": "b", "carries": 1, "stacks": 0, "length": {length}}}}}], "outputs": {{"y": "s"}}}},
            "b": {{"inputs": [{{"name": "c", "type": "f32[2]"}}], "nodes": [{{"id": "n", "op": "add", "in": ["c", 1.0]}}],
                "outputs": {{"o": "n"}}}}}}}}"#
    )
}

/// Iterations are submitted some thousand dispatches at a time: a hundred times as many take no more memory.
#[test]
fn a_long_scan_takes_no_more_memory_than_a_short_one() -> Result<()> {
    let Some(gpu) = adapter() else { return Ok(()) };
    let device = GpuDevice::new(gpu);
    let mut peaks = Vec::new();
    for length in [1000usize, 100_000] {
        let module =
            decode(scan(length).as_bytes(), &DecodeOptions::default()).unwrap_or_else(|e| panic!("{}", e[0]));
        let found = device.run(&module, "main", &[Tensor::from_slice(&[2], &[0f32, 1.0])])?.outputs;
        assert_eq!(found[0].to_f64(), [length as f64, length as f64 + 1.0]);
        peaks.push(peak());
    }
    if let [Some(short), Some(long)] = peaks[..] {
        // All at once they took 230 MB.
        assert!(long < short + 50_000, "{long} kB after {short} kB");
    }
    Ok(())
}
