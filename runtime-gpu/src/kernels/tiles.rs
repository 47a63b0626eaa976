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

    /// Bytes that they share.
    pub fn bytes(&self) -> usize {
        let copies = 1 + usize::from(self.ahead);
        self.shared.map_or(0, |k| {
            copies * k * (self.block[0] + self.block[1] + 2 * VECTOR.max(PAD)) * size_of::<f32>()
        })
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

/// What was measured of tiles on an H200 (`gpu_speed --tiles` of `benches/`).
struct Speed {
    tiles: Tiles,
    /// Workgroups that a multiprocessor holds at once.
    resident: usize,
    /// Sums of products in a second, in 10^12, of all multiprocessors when they are full: of matrices, of windows.
    rates: [f64; 2],
}

const SPEEDS: [Speed; 4] = [
    Speed { tiles: LARGE, resident: 2, rates: [17.5, 9.5] },
    Speed { tiles: TALL, resident: 3, rates: [16.5, 12.5] },
    Speed { tiles: MIDDLE, resident: 4, rates: [16.5, 10.0] },
    Speed { tiles: SMALL, resident: 8, rates: [14.5, 8.5] },
];

/// Multiprocessors of the card that was measured.
const MEASURED: f64 = 132.0;
// The rest is fitted by hand to the same runs.

/// The share of a full wave's time that one workgroup takes by itself: it cannot hide what it waits for.
const ALONE: f64 = 0.35;
/// Seconds that another dispatch costs.
const DISPATCH: f64 = 6e-6;
/// Words in a second, in 10^12, that parts of cuts are written and read with.
const WORDS: f64 = 0.75;

impl Speed {
    /// The seconds that a product is expected to take, cut so often.
    fn time(&self, busy: usize, of: Of, [count, m, n, k]: [usize; 4], cuts: usize) -> f64 {
        let Speed { tiles, resident, rates } = self;
        let rate = rates[usize::from(of == Of::Windows)] * 1e12 * busy as f64 / MEASURED;
        let slots = busy * resident;
        let groups = count * tiles.blocks(m, n)[0] * tiles.blocks(m, n)[1] * cuts;
        let sums = tiles.block[0] * tiles.block[1] * k.div_ceil(cuts);
        let wave = (slots * sums) as f64 / rate;
        let (full, rest) = (groups / slots, groups % slots);
        let last = if rest > 0 { ALONE + (1.0 - ALONE) * rest as f64 / slots as f64 } else { 0.0 };
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
        assert_eq!(nvidia(Of::Matrices, [1, 4096, 4096, 4096]), LARGE);
        assert_eq!(nvidia(Of::Matrices, [1, 128, 512, 784]), cut(SMALL, 3));
        assert_eq!(nvidia(Of::Matrices, [1, 64, 4096, 4096]), cut(MIDDLE, 8));
        assert_eq!(nvidia(Of::Windows, [1, 50_176, 64, 576]), TALL);
        assert_eq!(nvidia(Of::Windows, [1, 784, 512, 4608]), cut(TALL, 7));
        assert_eq!(choose(&GpuCaps::portable(), Of::Matrices, [1, 1024, 1024, 512]), MIDDLE);
    }
}
