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
use crate::graph::ValueId;

/// Copies what some values of a graph made apart are computed by into `b`; `operands` take the place of its inputs.
fn copied(
    b: &mut Builder,
    apart: Builder,
    values: &[Option<ValueId>],
    operands: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    let present: Vec<ValueId> = values.iter().flatten().copied().collect();
    let graph = apart.finish(&present)?.of_results()?;
    let mut copied = b.inline(&graph, operands)?.into_iter();
    Ok(values.iter().map(|v| v.and_then(|_| copied.next())).collect())
}
