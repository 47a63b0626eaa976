//! Build or load a computation graph once, compile it, run it many times.
//!
//! A [`Module`] holds functions over state: it is read from a file by [`Session::open`], or written in
//! Rust with [`build`]. A [`Session`] puts it on a device, compiles each function when it is first run
//! with feeds of certain shapes, and keeps the state there between runs.
//!
//! ```
//! use graphc::build::{ModuleBuilder, Tensor};
//! use graphc::{Device, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The least squares fit of y = w x by gradient descent.
//! let mut m = ModuleBuilder::new();
//! m.symbol("B", 1)?;
//! m.value("w", Tensor::from_slice(&[1, 1], &[0f32]))?;
//! m.function("predict", |f| {
//!     let (x, w) = (f.input("x", "f32[B,1]")?, f.state("w")?);
//!     f.output("y", x.matmul(w))
//! })?;
//! m.function("train_step", |f| {
//!     let (x, y) = (f.input("x", "f32[B,1]")?, f.input("y", "f32[B,1]")?);
//!     let w = f.state("w")?;
//!     let difference = x.matmul(w) - y;
//!     let loss = (difference * difference).mean(&[0, 1]);
//!     let gradients = f.gradients(loss, &[w])?;
//!     f.update("w", w - gradients[0] * 0.05)?;
//!     f.loss("loss", loss)
//! })?;
//!
//! // Built once …
//! let mut session = Session::from_module(m.finish()?).device(Device::Cpu).build()?;
//!
//! // … and run many times, here without allocating anything after the first.
//! let x = Tensor::from_slice(&[4, 1], &[1f32, 2.0, 3.0, 4.0]);
//! let y = Tensor::from_slice(&[4, 1], &[3f32, 6.0, 9.0, 12.0]);
//! let feeds = [("x", &x), ("y", &y)];
//! let mut outputs = session.new_outputs("train_step", &feeds)?;
//! for _ in 0..100 {
//!     session.run_into("train_step", &feeds, &mut outputs)?;
//! }
//! assert!(outputs[0].as_slice::<f32>()[0] < 1e-6);
//!
//! // Another batch size is another specialization, made when it is first needed.
//! let x = Tensor::from_slice(&[1, 1], &[10f32]);
//! let y = session.run("predict", [("x", &x)])?;
//! assert!((y["y"].as_slice::<f32>()[0] - 30.0).abs() < 1e-2);
//! # Ok(())
//! # }
//! ```

pub mod build;
pub mod error;
mod executor;
pub mod file;
pub mod memory;
mod options;
mod peaks;
mod session;
pub mod verify;

pub use graphc_cpu::pool::MAX_THREADS;
#[cfg(feature = "gpu")]
pub use graphc_gpu::{AdapterInfo, adapters};
pub use graphc_ir as ir;
pub use graphc_ir::{
    DType, Dim, Element, Function, Graph, Module, Op, StateDecl, StateRole, Tensor, TensorType,
};
pub use graphc_optimizer as optimizer;

pub use error::{Error, ErrorKind, Result};
pub use options::{Device, Options};
pub use peaks::Peaks;
pub use session::{Explanation, Outputs, PlanInfo, Profile, Session, SessionBuilder, Started, StepInfo};
