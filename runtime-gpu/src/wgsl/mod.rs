//! WGSL as text.

mod body;
mod fold;
mod literal;
mod prelude;
mod shader;

pub use body::{Leaf, Printer, needed};
pub use fold::FoldCode;
pub use literal::literal;
pub use shader::{Grid, Shader, ShaderText};
