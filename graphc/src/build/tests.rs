use super::*;
use graphc_ir::dim::Binding;
use graphc_ir::interp;
use graphc_ir::ops::{Normal, Op, Softmax, Uniform};

fn refusal(declare: impl FnOnce(&mut ModuleBuilder) -> Result<()>) -> String {
    let mut m = ModuleBuilder::new();
    let e = declare(&mut m).and_then(|()| m.finish().map(drop)).unwrap_err();
    e.to_string()
}

#[test]
fn names_become_origins() {
    let mut m = ModuleBuilder::new();
    m.param("w", "f32[3,2]").unwrap();
    m.function("f", |f| {
        let (x, w) = (f.input("x", "f32[B,3]")?, f.state("w")?);
        let h = f.name("h", x.matmul(w).tanh())?;
        let y = f.name("y", h * 2.0)?;
        f.name("again", h)?;
        f.output("y", y)
    })
    .unwrap();
    let module = m.finish().unwrap();
    let graph = &module.function("f").unwrap().graph;
    let described: Vec<String> = graph.nodes().map(|(id, _)| graph.describe(id)).collect();
    for part in [
        "`input` node `x`",
        "`state` node `w`",
        "`dot` node `h`",
        "`tanh` node `again`, `h`",
        "`mul` node `y`",
    ] {
        assert!(described.iter().any(|d| d == part), "no {part} in {described:?}");
    }
    let Op::Input(input) = &graph.node(graph.value(graph.inputs()[0]).node).op else { panic!("no input") };
    assert_eq!(input.dims[1], Dim::from(3usize));
}

#[test]
fn unneeded_nodes_are_left_out() {
    let mut m = ModuleBuilder::new();
    m.function("f", |f| {
        let (x, _unused) = (f.input("x", "f32[2]")?, f.input("unused", "f32[2]")?);
        f.name("dead", x.exp())?;
        f.output("y", x.tanh())
    })
    .unwrap();
    let module = m.finish().unwrap();
    let f = module.function("f").unwrap();
    assert_eq!((f.inputs.len(), f.graph.len()), (2, 3));
}

#[test]
fn derived_keys_draw_apart() {
    let mut m = ModuleBuilder::new();
    m.key("key").unwrap();
    m.function("f", |f| {
        let keys = f.split_key(f.state("key")?, 3)?;
        let draw = |key| {
            f.op(
                Uniform {
                    dtype: DType::F32,
                    dims: vec![4usize.into()],
                    lo: ops::attr::Real(0.0),
                    hi: ops::attr::Real(1.0),
                },
                &[key],
            )
        };
        f.output("a", draw(keys[0])?)?;
        f.output("b", draw(keys[1])?)?;
        f.update("key", keys[2])
    })
    .unwrap();
    let module = m.finish().unwrap();
    let key = Tensor::from_slice(&[2], &[0u32, 7]);
    let out = interp::eval(&module.function("f").unwrap().graph, &[], &[&key]).unwrap();
    assert_ne!(out[0], out[1]);
    assert_ne!(out[2], key);
}

#[test]
fn gradients_are_canonical() {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1).unwrap();
    m.value("w", Tensor::from_slice(&[2], &[-1.5f32, 2.0])).unwrap();
    m.function("step", |f| {
        let (x, w) = (f.input("x", "f32[B,2]")?, f.state("w")?);
        let h = (x * w).max(x.zero_like());
        let loss = h.mean(&[0, 1]);
        let g = f.gradients(loss, &[w])?;
        f.update("w", w - g[0])?;
        f.loss("loss", loss)
    })
    .unwrap();
    let module = m.finish().unwrap();
    let f = module.function("step").unwrap();
    let count = |name: &str| f.graph.nodes().filter(|(_, n)| n.op.name() == name).count();
    assert_eq!((count("max"), count("relu")), (0, 1));
    let mut binding = Binding::new();
    binding.set(&Symbol::new("B").unwrap(), 2, "the test").unwrap();
    let x = Tensor::from_slice(&[2, 2], &[1.0f32, 1.0, 3.0, -1.0]);
    let w = module.state[0].init.as_ref().unwrap();
    let out = interp::eval(&f.graph.bind(&binding).unwrap(), &[&x], &[&**w]).unwrap();
    assert_eq!(out[0].to_f64(), [0.5]);
    assert_eq!(out[1].to_f64(), [-1.5, 1.75]);
}

#[test]
fn refusals() {
    let in_function = |build: fn(&FunctionBuilder<'_>) -> Result<()>| {
        move |m: &mut ModuleBuilder| {
            m.param("weights", "f32[3,2]")?;
            m.function("f", build)
        }
    };
    for (message, parts) in [
        (refusal(|m| m.param("w", "f33[2]")), &["state `w`", "f33"][..]),
        (
            refusal(|m| m.state("w", StateRole::Param, "f32[2]", Some(Tensor::zeros(DType::F32, &[3])))),
            &["f32[2]", "f32[3]"],
        ),
        (refusal(|m| m.key("k").and_then(|()| m.key("k"))), &["two state variables", "`k`"]),
        (refusal(|m| m.symbol("B", -1)), &["`B`", "-1"]),
        (
            refusal(|m| {
                m.param("x", "f32[2]")?;
                m.function("f", |f| f.input("x", "f32[2]").map(drop))
            }),
            &["input `x`", "state"],
        ),
        (
            refusal(in_function(|f| f.state("wieghts").map(drop))),
            &["function `f`", "did you mean `weights`?"],
        ),
        (refusal(in_function(|f| f.input("x", "f32[").map(drop))), &["input `x`"]),
        (
            refusal(in_function(|f| {
                let x = f.input("x", "f32[B,4]")?;
                // The first error is told, not what follows from it.
                let y = x.matmul(f.state("weights")?).tanh() + 1.0;
                f.output("y", f.op(Softmax { axis: 9 }, &[y])?)
            })),
            &["4", "3"],
        ),
        (refusal(in_function(|f| f.update("weights", f.input("x", "f32[2]")?))), &["f32[3,2]", "f32[2]"]),
        (
            refusal(in_function(|f| {
                let x = f.input("x", "f32[2]")?;
                f.output("y", x)?;
                f.output("y", x)
            })),
            &["two outputs", "`y`"],
        ),
        (
            refusal(in_function(|f| {
                let key = f.input("key", "f32[2]")?;
                let (mean, std) = (ops::attr::Real(0.0), ops::attr::Real(1.0));
                f.op(Normal { dtype: DType::F32, dims: Vec::new(), mean, std }, &[key]).map(drop)
            })),
            &["u32[2]"],
        ),
    ] {
        assert!(parts.iter().all(|p| message.contains(p)), "{message} lacks one of {parts:?}");
    }
}
