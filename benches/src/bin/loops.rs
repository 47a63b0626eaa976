//! What an iteration of a loop costs beyond its work: loops over bodies of one small step, for a scan, its gradient,
//! a while loop and a scan over branches. Prints microseconds an iteration.
//!
//! `cargo run --release -p graphc-benches --bin loops [THREADS]`

use std::time::Instant;

use graphc::build::{Iteration, ModuleBuilder, Result as BuildResult, ScanSpec, Scanned};
use graphc::ir::ops::sample_tensor;
use graphc::{DType, Device, Error, Session, Tensor};

const LENGTH: usize = 20_000;
const WIDTH: usize = 8;
const ROUNDS: usize = 15;

fn module() -> BuildResult<ModuleBuilder> {
    let mut m = ModuleBuilder::new();
    let inputs = [
        ("w", format!("f32[{WIDTH}]")),
        ("h", format!("f32[{WIDTH}]")),
        ("x", format!("f32[{LENGTH},{WIDTH}]")),
    ];
    for gradient in [false, true] {
        m.function(if gradient { "scan and its gradient" } else { "scan" }, |f| {
            let [w, h, x] = inputs.each_ref().map(|(name, ty)| f.input(name, ty));
            let (w, h, x) = (w?, h?, x?);
            let spec =
                ScanSpec { invariants: vec![w], carries: vec![h], stacks: vec![x], ..ScanSpec::default() };
            let outs = f.scope().scan(spec, |_, Iteration { invariants, carries, slices }| {
                let next = (invariants[0] * carries[0] + slices[0]).tanh();
                Ok(Scanned { carries: vec![next], stacks: Vec::new() })
            })?;
            let loss = outs.carries[0].sum(&[0]);
            f.output("y", if gradient { f.gradients(loss, &[h])?[0] } else { outs.carries[0] })
        })?;
    }
    m.function("while", |f| {
        let (w, h) = (f.input("w", &inputs[0].1)?, f.input("h", &inputs[1].1)?);
        f.input("x", &inputs[2].1)?;
        let zero = f.constant(Tensor::from_slice(&[], &[0i32]))?;
        let outs = f.scope().while_loop(
            &[w],
            &[h, zero],
            |_, _, x| Ok(x[1].lt(x[1].literal(LENGTH as f64))),
            |_, inv, x| Ok(vec![(inv[0] * x[0]).tanh(), x[1] + x[1].one_like()]),
        )?;
        f.output("y", outs[0])
    })?;
    m.function("scan over branches", |f| {
        let [w, h, x] = inputs.each_ref().map(|(name, ty)| f.input(name, ty));
        let spec =
            ScanSpec { invariants: vec![w?], carries: vec![h?], stacks: vec![x?], ..ScanSpec::default() };
        let outs = f.scope().scan(spec, |s, Iteration { invariants, carries, slices }| {
            let positive = slices[0].sum(&[0]).gt(slices[0].sum(&[0]).zero_like());
            let operands = [invariants[0], carries[0], slices[0]];
            let next = s.cond(
                positive,
                &operands,
                |_, v| Ok(vec![(v[0] * v[1] + v[2]).tanh()]),
                |_, v| Ok(vec![v[1] * v[0]]),
            )?;
            Ok(Scanned { carries: next, stacks: Vec::new() })
        })?;
        f.output("y", outs.carries[0])
    })?;
    Ok(m)
}

fn main() -> Result<(), Error> {
    let threads = std::env::args().nth(1).and_then(|t| t.parse().ok()).unwrap_or(1);
    let module = module().and_then(ModuleBuilder::finish).map_err(|e| Error::Data(e.to_string()))?;
    let names: Vec<String> = module.functions.keys().cloned().collect();
    let tensor = |shape: &[usize], seed| sample_tensor(shape, seed).cast(DType::F32);
    let (w, h, x) = (tensor(&[WIDTH], 1), tensor(&[WIDTH], 2), tensor(&[LENGTH, WIDTH], 3));
    let feeds = [("w", &w), ("h", &h), ("x", &x)];
    let mut session = Session::from_module(module).device(Device::Cpu).threads(threads).build()?;
    for name in names {
        let mut outputs = session.new_outputs(&name, &feeds)?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            session.run_into(&name, &feeds, &mut outputs)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let each = times[ROUNDS / 2].as_secs_f64() * 1e6 / LENGTH as f64;
        println!("{name}: {each:.3} us an iteration, {threads} threads");
    }
    Ok(())
}
