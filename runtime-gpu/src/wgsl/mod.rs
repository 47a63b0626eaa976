//! WGSL as text.

mod body;
mod fold;
mod literal;
mod names;
mod prelude;
mod shader;
mod turns;

pub use body::{Index, Leaf, Printer, needed, rounded};
pub use fold::FoldCode;
pub use literal::literal;
pub use names::Names;
pub use shader::{Grid, Shader, ShaderText};
pub use turns::repeat;
