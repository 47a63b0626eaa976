//! Convolutions and their adjoints: as sums over shared tiles whose operands are found by their coordinates in windows,
//! or, where nothing is shared, one element an invocation.

mod direct;
mod implicit;

use graphc_ir::error::Result;
use graphc_ir::program::Conv;

use super::tiles::choose;
use super::{Epilogue, Work};
use crate::code::Builder;

/// Fewer columns than this leave most of a tile empty, as those of depthwise convolutions do.
const MIN_COLUMNS: usize = 8;

/// Adds the launches.
pub fn build(b: &mut Builder, work: &Work<'_>, conv: &Conv) -> Result<()> {
    let [_, _, result] = conv.sizes();
    if result.contains(&0) {
        return Ok(());
    }
    let epilogue = Epilogue { body: &conv.body, sizes: result };
    let shape = implicit::shape(conv);
    let tiles = choose(b.caps(), shape);
    if tiles.shared.is_none() || shape[2] < MIN_COLUMNS {
        return direct::build(b, work, conv, &epilogue);
    }
    implicit::build(b, work, conv, epilogue, &tiles)
}

/// Channels that each filter reads, and filters of a group.
fn of_group(conv: &Conv) -> (usize, usize) {
    let g = &conv.geometry;
    (g.channels / g.groups, g.outputs / g.groups)
}
