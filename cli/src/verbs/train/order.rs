//! The order of rows in an epoch.

use graphc::ir::random;

/// A permutation of `0..rows` that depends on the seed and the epoch alone (Fisher and Yates's shuffle,
/// in Durstenfeld's form of 1964).
pub fn shuffled(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let key = random::threefry2x32(random::key(seed), [epoch as u32, (epoch >> 32) as u32]);
    let mut order: Vec<usize> = (0..rows).collect();
    for i in (1..rows).rev() {
        order.swap(i, below(key, i));
    }
    order
}

/// A number in `0..=i`: the upper part of a 64-bit word times i + 1. No number is preferred by more than
/// (i + 1) / 2^64.
fn below(key: [u32; 2], i: usize) -> usize {
    let [hi, lo] = random::threefry2x32(key, [i as u32, (i as u64 >> 32) as u32]);
    let word = u128::from(u64::from(hi) << 32 | u64::from(lo));
    ((word * (i as u128 + 1)) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once() {
        for rows in [0, 1, 2, 897] {
            let mut order = shuffled(rows, 3, 5);
            order.sort_unstable();
            assert_eq!(order, (0..rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seeds_and_epochs_differ() {
        let order = shuffled(100, 0, 0);
        assert_eq!(order, shuffled(100, 0, 0));
        assert_ne!(order, shuffled(100, 1, 0));
        assert_ne!(order, shuffled(100, 0, 1));
    }

    /// All 24 orders of four rows come about equally often: 1000 each, with a standard deviation of 31.
    #[test]
    fn orders_are_uniform() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(shuffled(4, 7, epoch)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
    }
}
