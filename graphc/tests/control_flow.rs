//! Loops, branches and derivatives of modules written in Rust, saved, read again and run on the CPU.

use graphc::build::{DType, Expr, Iteration, ModuleBuilder, Result, ScanMemory, ScanSpec, Scanned, Tensor};
use graphc::{Device, Session};

/// A module through its file, on a device.
fn session(m: ModuleBuilder, device: Device) -> Session {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.json");
    let module = m.finish().expect("the module is well formed");
    graphc::file::save(&module, &path).expect("it is written");
    Session::open(&path).expect("it is read").device(device).build().expect("it is compiled")
}

fn run(s: &mut Session, function: &str, feeds: &[(&str, &Tensor)], output: &str) -> Vec<f64> {
    s.run(function, feeds.iter().copied()).expect("it runs")[output].to_f64()
}

fn near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-9 * (1.0 + y.abs()), "{a:?} is not {b:?}");
    }
}

/// Newton's iteration for a square root, until the square is near enough.
#[test]
fn a_while_loop_finds_a_root() {
    for device in [Device::Cpu, Device::Reference] {
        let mut m = ModuleBuilder::new();
        m.function("root", |f| {
            let a = f.input("a", "f64[]")?;
            let start = [a.one_like(), f.constant(Tensor::from_slice(&[], &[0i32]))?];
            let outs = f.scope().while_loop(
                &[a],
                &start,
                |_, inv, x| Ok((x[0] * x[0] - inv[0]).abs().gt(inv[0] * 1e-14)),
                |_, inv, x| Ok(vec![(x[0] + inv[0] / x[0]) * 0.5, x[1] + x[1].one_like()]),
            )?;
            f.output("x", outs[0])?;
            f.output("iterations", outs[1])
        })
        .expect("it is well typed");
        let mut s = session(m, device);
        for a in [2.0, 1.0, 1e6f64] {
            let outs = s.run("root", [("a", &Tensor::from_slice(&[], &[a]))]).expect("it runs");
            near(&outs["x"].to_f64(), &[a.sqrt()]);
            assert_eq!(outs["iterations"].to_f64()[0] == 0.0, a == 1.0);
        }
    }
}

#[test]
fn a_branch_runs_one_side() {
    for device in [Device::Cpu, Device::Reference] {
        let mut m = ModuleBuilder::new();
        m.symbol("N", 0).expect("a symbol");
        m.function("f", |f| {
            let (c, x) = (f.input("c", "bool[]")?, f.input("x", "f64[N]")?);
            let y = f.scope().cond(c, &[x], |_, x| Ok(vec![x[0].exp()]), |_, x| Ok(vec![x[0] * 3.0]))?;
            f.output("y", y[0])
        })
        .expect("it is well typed");
        let mut s = session(m, device);
        let x = Tensor::from_slice(&[2], &[0.5, -1.0f64]);
        let flag = |v: bool| Tensor::scalar(DType::Bool, graphc::ir::Scalar::B(v));
        near(&run(&mut s, "f", &[("c", &flag(true)), ("x", &x)], "y"), &[0.5f64.exp(), (-1.0f64).exp()]);
        near(&run(&mut s, "f", &[("c", &flag(false)), ("x", &x)], "y"), &[1.5, -3.0]);
    }
}

/// h' = tanh(w h + x) over a sequence of any length, and the gradient of its sum.
fn recurrence(memory: ScanMemory, reverse: bool, length: &str) -> Result<ModuleBuilder> {
    let mut m = ModuleBuilder::new();
    m.symbol("T", 0)?;
    m.function("f", |f| {
        let (w, h) = (f.input("w", "f64[2]")?, f.input("h", "f64[2]")?);
        let x = f.input("x", &format!("f64[{length},2]"))?;
        let spec = ScanSpec {
            invariants: vec![w],
            carries: vec![h],
            stacks: vec![x],
            reverse,
            memory,
            ..Default::default()
        };
        let Scanned { carries, stacks } =
            f.scope().scan(spec, |_, Iteration { invariants, carries, slices }| {
                let next = (invariants[0] * carries[0] + slices[0]).tanh();
                Ok(Scanned { carries: vec![next], stacks: vec![next * slices[0]] })
            })?;
        let loss = carries[0].sum(&[0]) + stacks[0].sum(&[0, 1]);
        let grads = f.gradients(loss, &[w, h, x])?;
        f.output("loss", loss)?;
        for (name, g) in ["w", "h", "x"].iter().zip(grads) {
            f.output(&format!("{name}.gradient"), g)?;
        }
        Ok(())
    })?;
    Ok(m)
}

#[test]
fn segments_change_memory_and_nothing_else() {
    let w = Tensor::from_slice(&[2], &[0.7, -1.1f64]);
    let h = Tensor::from_slice(&[2], &[0.2, 0.4f64]);
    for reverse in [false, true] {
        for length in [0usize, 1, 7, 9] {
            let x = Tensor::from_fn(DType::F64, &[length, 2], |i| graphc::ir::Scalar::F((i as f64).sin()));
            let feeds = [("w", &w), ("h", &h), ("x", &x)];
            let build = |memory, length: &str| {
                session(recurrence(memory, reverse, length).expect("well typed"), Device::Cpu)
            };
            let fixed = length.to_string();
            let mut stored = build(ScanMemory::Store, "T");
            let wanted = stored.run("f", feeds).expect("it runs");
            for mut other in [
                build(ScanMemory::Segments(1), "T"),
                build(ScanMemory::Segments(3), "T"),
                build(ScanMemory::Segments(3), &fixed),
                build(ScanMemory::SquareRoot, &fixed),
            ] {
                let found = other.run("f", feeds).expect("it runs");
                for name in ["loss", "w.gradient", "h.gradient", "x.gradient"] {
                    near(&found[name].to_f64(), &wanted[name].to_f64());
                }
            }
        }
    }
    let error = recurrence(ScanMemory::SquareRoot, false, "T").expect_err("T is not a number").to_string();
    assert!(error.contains("root of the length") && error.contains("segment"), "{error}");
}

#[test]
fn derivatives_of_a_small_function() {
    // y = (x0² x1, sin(x1)), and the loss Σ w y².
    let mut m = ModuleBuilder::new();
    m.value("w", Tensor::from_slice(&[2], &[2.0, 3.0f64])).expect("a state");
    fn y<'s>(x: Expr<'s>) -> Vec<Expr<'s>> {
        let pick = |i: usize| {
            x * x.literal(0.0)
                + x.op(
                    graphc::build::ops::Slice { starts: vec![i.into()], limits: vec![(i + 1).into()] },
                    &[],
                )
                .sum(&[0])
        };
        vec![(pick(0) * pick(0) * pick(1)).mean(&[0]), pick(1).sin().mean(&[0])]
    }
    m.function("derivatives", |f| {
        let (x, t) = (f.input("x", "f64[2]")?, f.input("t", "f64[2]")?);
        let parts = y(x);
        let one = |v: Expr<'_>| vec![graphc::build::Dim::from(1usize); usize::from(v.ty().rank() == 0)];
        let rows: Vec<Expr<'_>> = parts.iter().map(|p| p.reshape(&one(*p))).collect();
        let v = rows[0].op(graphc::build::ops::Concat { axis: 0 }, &rows[1..]);
        let w = f.state("w")?;
        let loss = (w * v * v).sum(&[0]);
        f.output("jacobian", f.jacobian(v, x)?)?;
        f.output("hessian", f.hessian(loss, x)?)?;
        f.output("jvp", f.jvp(&[v], &[x], &[t])?[0].1)?;
        f.output("hvp", f.hvp(loss, &[x], &[t])?[0].1)?;
        f.output("jacobian_by_columns", f.jacobian(w.op(graphc::build::ops::Concat { axis: 0 }, &[v]), x)?)
    })
    .expect("it is well typed");
    let (a, b) = (0.7f64, -0.4f64);
    let x = Tensor::from_slice(&[2], &[a, b]);
    let t = Tensor::from_slice(&[2], &[0.3, 2.0f64]);
    let jacobian = [2.0 * a * b, a * a, 0.0, b.cos()];
    // loss = 2 a⁴ b² + 3 sin² b
    let hessian = [
        24.0 * a * a * b * b,
        16.0 * a.powi(3) * b,
        16.0 * a.powi(3) * b,
        4.0 * a.powi(4) + 6.0 * (2.0 * b).cos(),
    ];
    let times = |m: &[f64]| [m[0] * 0.3 + m[1] * 2.0, m[2] * 0.3 + m[3] * 2.0];
    let mut s = session(m, Device::Cpu);
    let outs = s.run("derivatives", [("x", &x), ("t", &t)]).expect("it runs");
    near(&outs["jacobian"].to_f64(), &jacobian);
    near(&outs["hessian"].to_f64(), &hessian);
    near(&outs["jvp"].to_f64(), &times(&jacobian));
    near(&outs["hvp"].to_f64(), &times(&hessian));
    near(&outs["jacobian_by_columns"].to_f64()[4..], &jacobian);
    assert_eq!(outs["jacobian"].shape(), [2, 2]);
}

#[test]
fn gradients_of_ones_own() {
    use graphc::build::ops::{ReverseGradient, StraightThrough};
    use graphc::ir::ops::attr::Real;
    let mut m = ModuleBuilder::new();
    m.function("f", |f| {
        let x = f.input("x", "f64[2]")?;
        let doubled = f.scope().call(&[x], |_, x| Ok(vec![x[0] * 2.0]))?[0];
        // The value is the sine, the gradient ten times what comes in.
        let own = f.scope().custom_gradient(
            &[doubled],
            |_, x| Ok(vec![x[0].sin()]),
            |_, given| Ok(vec![given[2] * 10.0]),
        )?[0];
        let turned = x.op(ReverseGradient { scale: Real(0.5) }, &[]);
        let hard = x.op(StraightThrough {}, &[x.sign()]);
        f.output("own", f.gradients(own.sum(&[0]), &[x])?[0])?;
        f.output("turned", f.gradients((turned * turned).sum(&[0]), &[x])?[0])?;
        f.output("hard", f.gradients((hard * 3.0).sum(&[0]), &[x])?[0])?;
        f.output("value", own)
    })
    .expect("it is well typed");
    let x = Tensor::from_slice(&[2], &[0.5, -2.0f64]);
    let mut s = session(m, Device::Cpu);
    let outs = s.run("f", [("x", &x)]).expect("it runs");
    near(&outs["own"].to_f64(), &[20.0, 20.0]);
    near(&outs["turned"].to_f64(), &[-0.5, 2.0]);
    near(&outs["hard"].to_f64(), &[3.0, 3.0]);
    near(&outs["value"].to_f64(), &[1.0f64.sin(), (-4.0f64).sin()]);
}
