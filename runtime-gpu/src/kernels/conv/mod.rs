//! Convolutions and their adjoints: as sums over shared tiles whose operands are found by their coordinates in windows,
//! or, where nothing is shared, one element an invocation.

mod direct;
mod implicit;

use graphc_ir::error::Result;
use graphc_ir::program::Conv;

use super::tiles::{Of, Tiles, choose};
use super::{Epilogue, Work};
use crate::caps::GpuCaps;
use crate::code::Builder;

/// Fewer columns than this leave most of a tile empty, as those of depthwise convolutions do.
const MIN_COLUMNS: usize = 8;

/// Adds the launches.
pub fn build(b: &mut Builder, work: &Work, conv: &Conv) -> Result<()> {
    let [_, _, result] = conv.sizes();
    if result.contains(&0) {
        return Ok(());
    }
    let epilogue = Epilogue { body: &conv.body, sizes: result };
    match tiles(conv, b.caps()) {
        Some(tiles) if work.taps.is_empty() => implicit::build(b, work, conv, epilogue, &tiles),
        // Parts of windows, too, are summed by one invocation each.
        _ => direct::build(b, work, conv, &epilogue),
    }
}

/// The shared tiles that a convolution is summed over; `None` where each invocation sums by itself.
pub fn tiles(conv: &Conv, caps: &GpuCaps) -> Option<Tiles> {
    let shape = implicit::shape(conv);
    let tiles = choose(caps, Of::Windows, shape);
    (tiles.shared.is_some() && shape[2] >= MIN_COLUMNS).then_some(tiles)
}

/// Channels that each filter reads, and filters of a group.
fn of_group(conv: &Conv) -> (usize, usize) {
    let g = &conv.geometry;
    (g.channels / g.groups, g.outputs / g.groups)
}
