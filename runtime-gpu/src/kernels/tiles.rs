//! Which tiles a product is cut into, from its shape and the kind of adapter alone.

use crate::caps::{Class, GpuCaps};
use crate::place::VECTOR;

/// How a product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Rows and columns that a workgroup sums.
    pub block: [usize; 2],
    /// Rows and columns that an invocation sums.
    pub each: [usize; 2],
    /// Steps of k that the invocations of a workgroup share copies of; `None` if each reads for itself.
    pub shared: Option<usize>,
    /// Whether the next steps' copies are read from memory while these are summed, into copies of their own.
    pub ahead: bool,
    /// Parts that k is cut into.
    pub cuts: usize,
}

/// Steps of k that a part has, at least.
const MIN_CUT: usize = 256;

/// Parts of k, at most.
const MAX_CUTS: usize = 64;

/// Padding of a step of shared copies, in vectors of four steps each: what neighbouring invocations write then falls on
/// different banks.
pub const PAD: usize = 2;

impl Tiles {
    /// Those with shared copies, the largest first.
    pub const SHARED: [Tiles; 4] = [LARGE, TALL, MIDDLE, SMALL];

    const fn shared(block: [usize; 2], each: [usize; 2]) -> Tiles {
        Tiles { block, each, shared: Some(16), ahead: false, cuts: 1 }
    }

    /// Invocations of a workgroup.
    pub fn lanes(&self) -> usize {
        self.block[0] / self.each[0] * (self.block[1] / self.each[1])
    }

    /// Bytes that they share, with a vector between the steps of either operand, which is the most that lies there.
    pub fn bytes(&self) -> usize {
        let copies = 1 + usize::from(self.ahead);
        self.shared
            .map_or(0, |k| copies * k * (self.block[0] + self.block[1] + 2 * VECTOR) * size_of::<f32>())
    }

    /// Workgroups for a product.
    pub fn blocks(&self, m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(self.block[0]), n.div_ceil(self.block[1])]
    }
}

const REGISTERS: Tiles = Tiles { block: [32, 32], each: [4, 4], shared: None, ahead: false, cuts: 1 };
const LARGE: Tiles = Tiles { ahead: true, ..Tiles::shared([128, 128], [8, 8]) };
const TALL: Tiles = Tiles::shared([128, 64], [8, 8]);
const MIDDLE: Tiles = Tiles::shared([64, 64], [8, 4]);
const SMALL: Tiles = Tiles::shared([32, 32], [4, 4]);

/// What sums are of: the rate of tiles depends on what finding elements costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Products of matrices.
    Matrices,
    /// Convolutions.
    Windows,
}

/// What was measured of tiles on an H200 (`gpu_speed --tiles` of `benches/`), fitted to its times of four products and six
/// convolutions, as the numbers of workgroups were too: they are not the driver's.
struct Speed {
    tiles: Tiles,
    /// Workgroups that a multiprocessor holds at once.
    resident: usize,
    /// The share of a full wave's time that one workgroup takes by itself: it cannot hide what it waits for.
    alone: f64,
    /// Sums of products in a second, in 10^12, of all multiprocessors when they are full: of matrices, of windows.
    rates: [f64; 2],
}

const fn speed(tiles: Tiles, ahead: bool, resident: usize, alone: f64, rates: [f64; 2]) -> Speed {
    Speed { tiles: Tiles { ahead, ..tiles }, resident, alone, rates }
}

const SPEEDS: [Speed; 7] = [
    speed(LARGE, true, 1, 0.91, [19.9, 12.2]),
    speed(TALL, false, 3, 0.31, [14.8, 13.9]),
    speed(TALL, true, 1, 0.91, [17.5, 12.9]),
    speed(MIDDLE, false, 4, 0.36, [15.3, 10.8]),
    speed(MIDDLE, true, 2, 0.68, [15.6, 10.2]),
    speed(SMALL, false, 8, 0.3, [10.5, 8.6]),
    speed(SMALL, true, 8, 0.3, [11.9, 8.6]),
];

/// Multiprocessors of the card that was measured.
const MEASURED: f64 = 132.0;
/// Seconds that another dispatch costs, by the same fit.
const DISPATCH: f64 = 1e-5;
/// Words in a second, in 10^12, that parts of cuts are written and read with, by the same fit.
const WORDS: f64 = 1.2;

impl Speed {
    /// The seconds that a product is expected to take, cut so often.
    fn time(&self, busy: usize, of: Of, [count, m, n, k]: [usize; 4], cuts: usize) -> f64 {
        let Speed { tiles, resident, alone, rates } = self;
        let rate = rates[usize::from(of == Of::Windows)] * 1e12 * busy as f64 / MEASURED;
        let slots = busy * resident;
        let groups = count * tiles.blocks(m, n)[0] * tiles.blocks(m, n)[1] * cuts;
        let sums = tiles.block[0] * tiles.block[1] * k.div_ceil(cuts);
        let wave = (slots * sums) as f64 / rate;
        let (full, rest) = (groups / slots, groups % slots);
        let last = if rest > 0 { alone + (1.0 - alone) * rest as f64 / slots as f64 } else { 0.0 };
        let parts =
            if cuts > 1 { DISPATCH + (2 * cuts * count * m * n) as f64 / (WORDS * 1e12) } else { 0.0 };
        wave * (full as f64 + last) + parts
    }
}

/// The tiles of a batch of products of `[count, m, n, k]`: those that are expected to take the least time on a card with so
/// many multiprocessors as `caps` says, with as many cuts of a long k.
pub fn choose(caps: &GpuCaps, of: Of, shape: [usize; 4]) -> Tiles {
    if let Some(tiles) = caps.tiles {
        return tiles;
    }
    if caps.class == Class::Software {
        return REGISTERS;
    }
    let fits =
        |s: &&Speed| s.tiles.lanes() <= caps.workgroup_lanes && s.tiles.bytes() <= caps.workgroup_bytes;
    let [count, m, n, k] = shape;
    let parts = caps.binding_bytes / (size_of::<f32>() * (count * m * n).max(1));
    let most = (k / MIN_CUT).min(parts).clamp(1, MAX_CUTS);
    let choices = SPEEDS.iter().filter(fits).flat_map(|s| (1..=most).map(move |cuts| (s, cuts)));
    let timed = choices.map(|(s, cuts)| (s.time(caps.busy, of, shape, cuts), Tiles { cuts, ..s.tiles }));
    timed.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(REGISTERS, |(_, tiles)| tiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_and_keep_the_device_busy() {
        let sizes = [1, 7, 33, 64, 130, 1000, 4096];
        for caps in [GpuCaps::portable(), GpuCaps::software(), GpuCaps::nvidia()] {
            for m in sizes {
                for n in sizes {
                    for (of, k) in [(Of::Matrices, 1), (Of::Windows, 300), (Of::Matrices, 12_544)] {
                        let tiles = choose(&caps, of, [1, m, n, k]);
                        assert!(
                            tiles.lanes() <= caps.workgroup_lanes && tiles.bytes() <= caps.workgroup_bytes
                        );
                        assert!(tiles.cuts == 1 || k / tiles.cuts >= MIN_CUT, "{tiles:?} for k {k}");
                    }
                }
            }
        }
        let nvidia = |of, shape| choose(&GpuCaps::nvidia(), of, shape);
        let cut = |tiles, cuts| Tiles { cuts, ..tiles };
        let ahead = |tiles, cuts| Tiles { ahead: true, ..cut(tiles, cuts) };
        assert_eq!(nvidia(Of::Matrices, [1, 4096, 4096, 4096]), LARGE);
        assert_eq!(nvidia(Of::Matrices, [1, 1024, 1024, 1024]), ahead(TALL, 1));
        assert_eq!(nvidia(Of::Matrices, [1, 128, 512, 784]), ahead(SMALL, 3));
        assert_eq!(nvidia(Of::Matrices, [1, 64, 4096, 4096]), ahead(MIDDLE, 4));
        assert_eq!(nvidia(Of::Windows, [1, 50_176, 64, 576]), TALL);
        assert_eq!(nvidia(Of::Windows, [1, 784, 512, 4608]), cut(TALL, 7));
        assert_eq!(choose(&GpuCaps::portable(), Of::Matrices, [1, 1024, 1024, 512]), MIDDLE);
    }
}
