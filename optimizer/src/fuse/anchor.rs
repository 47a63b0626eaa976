//! Nodes that make sums or picks over operands of other domains, and take elementwise work as an epilogue.

use graphc_ir::ops::{Layout, Op};

/// Whether a node is one.
pub fn is_anchor(op: &Op) -> bool {
    matches!(
        op,
        Op::Dot(_)
            | Op::Conv(_)
            | Op::ConvInputGrad(_)
            | Op::ConvFilterGrad(_)
            | Op::MaxPool(_)
            | Op::WindowScatter(_)
            | Op::WindowGather(_)
            | Op::AvgPool(_)
            | Op::AvgPoolGrad(_)
    )
}

/// Whether an anchor's epilogue may fold its result down to one value a column: the kernels that go over their rows
/// block by block, all columns of a kind together.
pub fn folds_rows(op: &Op) -> bool {
    match op {
        Op::Dot(_) => true,
        Op::Conv(o) => o.groups == 1,
        Op::ConvInputGrad(o) => o.groups == 1,
        _ => false,
    }
}

/// The order in which a kernel iterates over the axes of an anchor's result: the last one is its column.
pub fn order(op: &Op, rank: usize) -> Vec<usize> {
    let image = |layout| images(layout, rank);
    match op {
        Op::Conv(o) => image(o.layout),
        Op::ConvInputGrad(o) => image(o.layout),
        Op::MaxPool(o) => image(o.layout),
        Op::WindowScatter(o) => image(o.layout),
        Op::WindowGather(o) => image(o.layout),
        Op::AvgPool(o) => image(o.layout),
        Op::AvgPoolGrad(o) => image(o.layout),
        Op::ConvFilterGrad(o) => filters(o.layout, rank),
        _ => (0..rank).collect(),
    }
}

/// The order of the axes of images with their channels last.
pub fn images(layout: Layout, rank: usize) -> Vec<usize> {
    match layout {
        Layout::ChannelsFirst => [0].into_iter().chain(2..rank).chain([1]).collect(),
        Layout::ChannelsLast => (0..rank).collect(),
    }
}

/// The order of the axes of filters with their channels last.
pub fn filters(layout: Layout, rank: usize) -> Vec<usize> {
    match layout {
        Layout::ChannelsFirst => (2..rank).chain([1, 0]).collect(),
        Layout::ChannelsLast => (0..rank).collect(),
    }
}
