//! WGSL as text.

mod body;
mod fold;
mod literal;
mod names;
mod prelude;
mod shader;

pub use body::{Index, Leaf, Printer, needed};
pub use fold::FoldCode;
pub use literal::literal;
pub use names::Names;
pub use shader::{Grid, Shader, ShaderText};
