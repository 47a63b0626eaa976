//! Which tiles a product is cut into, from its shape and the kind of adapter alone.

use crate::caps::{Class, GpuCaps};

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
const MAX_CUTS: usize = 32;

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
        self.shared.map_or(0, |k| copies * k * (self.block[0] + self.block[1] + 2 * PAD) * size_of::<f32>())
    }

    /// Workgroups for a product.
    pub fn blocks(&self, m: usize, n: usize) -> [usize; 2] {
        [m.div_ceil(self.block[0]), n.div_ceil(self.block[1])]
    }
}

const REGISTERS: Tiles = Tiles { block: [32, 32], each: [4, 4], shared: None, ahead: false, cuts: 1 };
const LARGE: Tiles = Tiles::shared([128, 128], [8, 8]);
const TALL: Tiles = Tiles::shared([128, 64], [8, 8]);
const MIDDLE: Tiles = Tiles::shared([64, 64], [8, 4]);
const SMALL: Tiles = Tiles::shared([32, 32], [4, 4]);

/// The tiles of a batch of products of `[count, m, n, k]`: the largest that still make enough workgroups for the kind
/// of adapter, and cuts of a long k where even the smallest do not.
pub fn choose(caps: &GpuCaps, [count, m, n, k]: [usize; 4]) -> Tiles {
    if let Some(tiles) = caps.tiles {
        return tiles;
    }
    let candidates: &[Tiles] = match caps.class {
        Class::Software => return REGISTERS,
        Class::Portable => &[MIDDLE, SMALL],
        Class::Nvidia => {
            if n <= TALL.block[1] {
                &[TALL, MIDDLE, SMALL]
            } else {
                &[LARGE, MIDDLE, SMALL]
            }
        }
    };
    let busy = caps.busy;
    let groups = |t: &Tiles| count * t.blocks(m, n)[0] * t.blocks(m, n)[1];
    let fits = |t: &&Tiles| t.lanes() <= caps.workgroup_lanes && t.bytes() <= caps.workgroup_bytes;
    let candidates: Vec<&Tiles> = candidates.iter().filter(fits).collect();
    let tiles = candidates.iter().find(|t| groups(t) >= busy).or(candidates.last());
    let tiles = tiles.map_or(REGISTERS, |t| **t);
    let wanted = (2 * busy).div_ceil(groups(&tiles).max(1));
    let cuts = if groups(&tiles) < busy { wanted.min(k / MIN_CUT).clamp(1, MAX_CUTS) } else { 1 };
    Tiles { cuts, ..tiles }
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
                    for k in [1, 300, 12_544] {
                        let tiles = choose(&caps, [1, m, n, k]);
                        assert!(
                            tiles.lanes() <= caps.workgroup_lanes && tiles.bytes() <= caps.workgroup_bytes
                        );
                        assert!(tiles.cuts == 1 || k / tiles.cuts >= MIN_CUT, "{tiles:?} for k {k}");
                    }
                }
            }
        }
        let nvidia = |shape| choose(&GpuCaps::nvidia(), shape);
        assert_eq!(nvidia([1, 4096, 4096, 4096]), LARGE);
        assert_eq!(nvidia([1, 1024, 1024, 256]), MIDDLE);
        assert_eq!(nvidia([1, 128, 512, 784]), Tiles { cuts: 3, ..SMALL });
        assert_eq!(nvidia([1, 10, 64, 12_544]).cuts, MAX_CUTS);
        assert_eq!(choose(&GpuCaps::portable(), [1, 512, 512, 512]), MIDDLE);
    }
}
