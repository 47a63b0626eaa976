//! Which algorithm computes a convolution: the one that a table of costs says is cheapest.

use graphc_ir::dtype::DType;

use crate::conv::{Problem, winograd};
use crate::threshold::thresholds;

/// How a convolution, or its gradient in the image, is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Register tiles read images through tables of pointers.
    Indirect,
    /// Winograd's F(2x2, 3x3).
    Winograd,
}

/// Costs in multiply-adds of a full register tile, measured on servers with AVX-512 (Zen 4 and Sapphire
/// Rapids); they differ less between machines than the algorithms do.
struct Costs {
    algorithm: Algorithm,
    /// A multiply-add of the algorithm's products.
    product: f64,
    /// Transforming a window of 4 x 4 pixels, for each channel read.
    window: f64,
    /// Transforming the sums of 2 x 2 pixels back, for each channel made.
    block: f64,
    /// Reading the prepared filters once, for each pair of channels.
    filter: f64,
    /// Preparing them, for each pair of channels.
    prepare: f64,
}

const COSTS: [Costs; 2] = [
    Costs {
        algorithm: Algorithm::Indirect,
        product: 1.08,
        window: 0.0,
        block: 0.0,
        filter: 180.0,
        prepare: 40.0,
    },
    Costs {
        algorithm: Algorithm::Winograd,
        product: 1.15,
        window: 60.0,
        block: 50.0,
        filter: 320.0,
        prepare: 160.0,
    },
];

thresholds! {
    /// Channels below which register tiles are too narrow, and transforms too much of the work.
    const WINOGRAD_CHANNELS: usize = 16, of Conv [Channels];
    /// Bytes of transformed filters that a convolution makes in each run, and that all of a Program's keep, at
    /// most.
    pub const WINOGRAD_BYTES: usize = 32 << 20, of Conv [Channels, Columns, Bytes] at WINOGRAD_BYTES / 16;
}

/// When a convolution's filters are brought into their form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// In each run.
    EachRun,
    /// Once for many runs; transformed ones may take so many bytes.
    Once { room: usize },
}

/// The cheapest algorithm.
pub fn choose(problem: &Problem, dtype: DType, preparation: Preparation) -> Algorithm {
    let pairs = (problem.cin * problem.cout) as f64;
    let transformed = 16.0 * pairs * dtype.size() as f64;
    let (prepared, room) = match preparation {
        Preparation::EachRun => (false, WINOGRAD_BYTES),
        Preparation::Once { room } => (true, room),
    };
    let small = problem.cin.min(problem.cout) < WINOGRAD_CHANNELS || transformed > room as f64;
    if !winograd::applies(problem) || small {
        return Algorithm::Indirect;
    }
    let cost = |costs: &Costs| {
        let geometry = &problem.geometry;
        let images = problem.images as f64;
        let [_, height, width] = geometry.output;
        let tiles = images * height.div_ceil(2) as f64 * width.div_ceil(2) as f64;
        let products = match costs.algorithm {
            Algorithm::Indirect => images * (geometry.pixels() * geometry.taps()) as f64,
            Algorithm::Winograd => 16.0 * tiles,
        };
        let filters = costs.filter + if prepared { 0.0 } else { costs.prepare };
        let transforms = problem.cin as f64 * costs.window + problem.cout as f64 * costs.block;
        products * pairs * costs.product + tiles * transforms + pairs * filters
    };
    let [direct, transformed] = [cost(&COSTS[0]), cost(&COSTS[1])];
    if transformed < direct { COSTS[1].algorithm } else { COSTS[0].algorithm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Geometry;

    fn problem(images: usize, cin: usize, cout: usize, size: usize, kernel: usize) -> Problem {
        Problem {
            images,
            groups: 1,
            cin,
            cout,
            geometry: Geometry {
                input: [1, size, size],
                output: [1, size, size],
                kernel: [1, kernel, kernel],
                stride: [1; 3],
                dilation: [1; 3],
                pad: [0, kernel / 2, kernel / 2],
            },
            transposed: false,
            image_stride: size * size * cin,
            pixel_strides: [size * size * cin, size * cin, cin],
        }
    }

    #[test]
    fn the_table_prefers_what_is_cheaper() {
        let choice = |images, cin, cout, size, kernel| {
            let once = Preparation::Once { room: WINOGRAD_BYTES };
            choose(&problem(images, cin, cout, size, kernel), DType::F32, once)
        };
        assert_eq!(choice(1, 64, 64, 56, 3), Algorithm::Winograd);
        assert_eq!(choice(1, 128, 128, 28, 3), Algorithm::Winograd);
        assert_eq!(choice(32, 64, 64, 8, 3), Algorithm::Winograd);
        // Other windows, few channels, few pixels.
        assert_eq!(choice(1, 64, 64, 56, 1), Algorithm::Indirect);
        assert_eq!(choice(1, 3, 64, 56, 3), Algorithm::Indirect);
        assert_eq!(choice(1, 512, 512, 3, 3), Algorithm::Indirect);
    }

    #[test]
    fn transformed_filters_keep_to_their_room() {
        let filters = 16 * 64 * 64 * 4;
        let choice = |room| choose(&problem(1, 64, 64, 56, 3), DType::F32, Preparation::Once { room });
        assert_eq!(choice(filters), Algorithm::Winograd);
        assert_eq!(choice(filters - 1), Algorithm::Indirect);
    }
}
