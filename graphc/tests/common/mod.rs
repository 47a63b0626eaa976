//! Small modules.

use graphc::build::{Module, ModuleBuilder, StateRole, Tensor, ops};
use graphc::{Device, Session};

/// Devices that every build has.
pub const DEVICES: [Device; 2] = [Device::Reference, Device::Cpu];

pub fn session(module: Module, device: Device) -> Session {
    Session::from_module(module).device(device).threads(2).build().unwrap()
}

pub fn matrix(rows: usize, columns: usize, value: f32) -> Tensor {
    Tensor::from_slice(&[rows, columns], &vec![value; rows * columns])
}

/// `predict`: y = x w + b; `grow`: w += 1.
pub fn linear() -> Module {
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1).unwrap();
    m.value("w", Tensor::from_slice(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
    m.value("b", Tensor::from_slice(&[2], &[0.5f32, 0.5])).unwrap();
    m.function("predict", |f| {
        let (x, w, b) = (f.input("x", "f32[B,3]")?, f.state("w")?, f.state("b")?);
        let y = f.op(ops::Linear {}, &[x, w, b])?;
        f.output("y", y)
    })
    .unwrap();
    m.function("grow", |f| f.update("w", f.state("w")? + 1.0)).unwrap();
    m.finish().unwrap()
}

/// `count`: total += x, unless an element of x is negative.
pub fn checked_counter() -> Module {
    let mut m = ModuleBuilder::new();
    m.value("total", Tensor::from_slice(&[2], &[0f32, 0.0])).unwrap();
    m.function("count", |f| {
        let (x, total) = (f.input("x", "f32[2]")?, f.state("total")?);
        let sum = total + x;
        f.update("total", sum)?;
        let holds = x.ge(x.literal(0.0));
        let checked = f.op(ops::Check { message: "x must not be negative".into() }, &[sum, holds])?;
        f.output("sum", checked)
    })
    .unwrap();
    m.finish().unwrap()
}

/// `init` draws w and zeroes `kept`, which has the value 5; `read` reads both.
pub fn with_init() -> Module {
    let mut m = ModuleBuilder::new();
    m.key("key").unwrap();
    m.param("w", "f32[4]").unwrap();
    m.value("kept", Tensor::from_slice(&[1], &[5f32])).unwrap();
    m.function("init", |f| {
        let uniform = ops::Uniform {
            dtype: graphc::DType::F32,
            dims: vec![4usize.into()],
            lo: ops::attr::Real(-1.0),
            hi: ops::attr::Real(1.0),
        };
        let w = f.op(uniform, &[f.state("key")?])?;
        f.update("w", w)?;
        f.update("kept", f.state("kept")?.zero_like())
    })
    .unwrap();
    m.function("read", |f| {
        f.output("w", f.state("w")?)?;
        f.output("kept", f.state("kept")?)
    })
    .unwrap();
    let module = m.finish().unwrap();
    assert_eq!(module.state[0].role, StateRole::Key);
    module
}
