//! Derivatives, graph to graph: what they append can be differentiated again.
//!
//! [`backward`] pulls gradients back from results to operands, [`forward`] pushes tangents from operands to
//! results. Both ask each operation for its rule; loops have theirs here, because they are made of bodies.

mod branch;
mod forward;
mod residuals;
mod reverse;
mod scan;
mod tangents;

pub(crate) use branch::branch_gradients;
pub use forward::{Dual, forward};
pub use reverse::backward;
pub(crate) use reverse::{add, sum};
pub(crate) use scan::scan_gradients;
pub(crate) use tangents::{branch_tangents, scan_tangents, while_tangents};

use crate::builder::Builder;
use crate::error::Result;
use crate::graph::{Graph, ValueId};

/// Declares inputs of the types of a graph's, in their order.
pub(crate) fn copy_inputs(b: &mut Builder, of: &Graph) -> Result<Vec<ValueId>> {
    of.inputs().iter().map(|v| copy_input(b, of, *v)).collect()
}

/// Declares an input of a value's type and names.
pub(crate) fn copy_input(b: &mut Builder, of: &Graph, v: ValueId) -> Result<ValueId> {
    let outer = b.current_origins().clone();
    b.set_origins(of.origins(of.value(v).node).clone());
    let input = b.input(of.ty(v).clone());
    b.set_origins(outer);
    input
}
