//! What steps wrote of one buffer: parts that do not overlap, of which there may be many.

use std::collections::BTreeMap;

use super::region::Region;

/// Parts of a buffer, each with the step that wrote it.
#[derive(Debug, Default)]
pub(super) struct Written {
    parts: Vec<(usize, Region)>,
    /// For each digit in which no two parts have a value in common: by their least value, one past their largest, and
    /// their number. The slabs of a concatenation have such a digit, so that those that a region meets are found
    /// without looking at all.
    apart: Vec<Option<BTreeMap<usize, (usize, usize)>>>,
    /// Elements of the parts that are known exactly.
    elements: usize,
}

impl Written {
    /// Adds a part that overlaps no other.
    pub fn add(&mut self, step: usize, region: Region) {
        if region.is_empty() {
            return;
        }
        if self.parts.is_empty() {
            self.apart = vec![Some(BTreeMap::new()); region.digits().len()];
        }
        for (apart, (low, high)) in self.apart.iter_mut().zip(region.digits()) {
            let Some(parts) = apart else { continue };
            let before = parts.range(..*high).next_back();
            if before.is_some_and(|(_, (end, _))| end > low) {
                *apart = None;
            } else {
                parts.insert(*low, (*high, self.parts.len()));
            }
        }
        self.elements += region.exact_elements();
        self.parts.push((step, region));
    }

    /// The step that wrote something of a region, the first one if there are several.
    pub fn writer_of(&self, region: &Region) -> Option<usize> {
        let found = self.near(region).into_iter().filter(|i| self.parts[*i].1.overlaps(region));
        found.min().map(|i| self.parts[i].0)
    }

    /// Whether all of a region was written; the buffer has so many elements.
    pub fn covers(&self, region: &Region, elements: usize) -> bool {
        if region.is_empty() || self.elements == elements {
            return true;
        }
        region.is_covered(self.near(region).into_iter().map(|i| &self.parts[i].1))
    }

    /// The parts that a region may meet, or more.
    fn near(&self, region: &Region) -> Vec<usize> {
        let Some((low, high, parts)) = region
            .digits()
            .iter()
            .zip(&self.apart)
            .find_map(|((low, high), parts)| parts.as_ref().map(|parts| (*low, *high, parts)))
        else {
            return (0..self.parts.len()).collect();
        };
        let first = parts.range(..=low).next_back().filter(|(_, (end, _))| *end > low);
        let others = parts.range(low.saturating_add(1)..high.max(low.saturating_add(1)));
        first.into_iter().chain(others).map(|(_, (_, part))| *part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::Access;
    use super::super::region::Radix;
    use super::*;
    use crate::program::BufferId;

    /// Random rectangles of a 12 x 10 x 2 buffer that do not overlap, against sets of elements.
    #[test]
    fn parts_are_found_as_by_looking_at_all() {
        let shape = [12usize, 10, 2];
        let radix = Radix::new(&shape);
        let mut random = 12345u64;
        let mut below = |n: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % n
        };
        let elements = |r: [(usize, usize); 2]| -> Vec<usize> {
            (r[0].0..r[0].1)
                .flat_map(|i| (r[1].0..r[1].1).flat_map(move |j| [20 * i + 2 * j, 20 * i + 2 * j + 1]))
                .collect()
        };
        let mut overlaps = 0;
        for round in 0..300 {
            let mut written = Written::default();
            let mut owner = vec![None; 240];
            for step in 0..40 {
                let mut side = |n: usize, all: bool| {
                    let low = below(n);
                    if all { (0, n) } else { (low, low + 1 + below(n - low)) }
                };
                let rectangle = [side(12, round % 3 == 1), side(10, round % 3 == 2)];
                let dims =
                    vec![(rectangle[0].1 - rectangle[0].0, 20), (rectangle[1].1 - rectangle[1].0, 2), (2, 1)];
                let offset = (20 * rectangle[0].0 + 2 * rectangle[1].0) as i128;
                let region = radix.region(&Access { buffer: BufferId(0), offset, dims });
                let inside = elements(rectangle);
                let first = inside.iter().filter_map(|e| owner[*e]).min();
                assert_eq!(written.writer_of(&region), first);
                assert_eq!(written.covers(&region, 240), inside.iter().all(|e| owner[*e].is_some()));
                if first.is_some() {
                    overlaps += 1;
                    continue;
                }
                inside.iter().for_each(|e| owner[*e] = Some(step));
                written.add(step, region);
            }
        }
        assert!(overlaps > 1000);
    }
}
