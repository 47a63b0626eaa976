//! Parts of buffers as boxes in a mixed radix, so that overlap and coverage are exact.

use std::collections::HashSet;

use super::access::Access;

/// How the element index of a buffer is cut into digits: strides from its size down to 1, each a
/// divisor of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Radix(Vec<usize>);

/// A set of elements of one buffer: an interval of every digit.
#[derive(Clone, Debug)]
pub(super) struct Region {
    digits: Vec<(usize, usize)>,
    /// Whether the box is the set rather than a superset.
    exact: bool,
}

impl Radix {
    /// The digits that a buffer's shape suggests.
    pub fn new(shape: &[usize]) -> Radix {
        let mut radix = Radix(vec![shape.iter().product(), 1]);
        let mut stride = 1;
        for n in shape.iter().rev() {
            stride *= n;
            radix.refine(stride);
        }
        radix
    }

    /// Adds the digits that an access needs, where they fit.
    pub fn refine_for(&mut self, access: &Access) {
        for (n, stride) in &access.dims {
            if *n > 1 {
                self.refine(usize::try_from(stride.unsigned_abs()).unwrap_or(0));
            }
        }
    }

    /// As [`Radix::refine_for`], unless some of the accesses that are boxes now would not be any more:
    /// a read with a stride must not blur the writes that it reads from. What was refused before is kept in `refused`:
    /// it is refused again without looking at all accesses.
    pub fn refine_keeping(&mut self, access: &Access, boxes: &[Access], refused: &mut HashSet<Radix>) {
        let mut finer = self.clone();
        finer.refine_for(access);
        if finer.0.len() == self.0.len() || refused.contains(&finer) {
            return;
        }
        if boxes.iter().all(|b| self.boxed(b).is_none() || finer.boxed(b).is_some()) {
            *self = finer;
        } else {
            refused.insert(finer);
        }
    }

    fn refine(&mut self, stride: usize) {
        let at = self.0.partition_point(|t| *t > stride);
        if stride > 1 && at > 0 && at < self.0.len() && self.0[at] != stride {
            let (above, below) = (self.0[at - 1], self.0[at]);
            if above.is_multiple_of(stride) && stride.is_multiple_of(below) {
                self.0.insert(at, stride);
            }
        }
    }

    /// Number of values of a digit; digit 0 is the least significant.
    fn base(&self, digit: usize) -> usize {
        let at = self.0.len() - 1 - digit;
        self.0[at - 1] / self.0[at]
    }

    fn digits(&self) -> usize {
        self.0.len() - 1
    }

    /// The whole buffer.
    pub fn whole(&self) -> Region {
        let digits = match self.0[0] {
            0 => vec![(0, 0)],
            _ => (0..self.digits()).map(|d| (0, self.base(d))).collect(),
        };
        Region { digits, exact: true }
    }

    /// The elements of an access that lies inside the buffer.
    pub fn region(&self, access: &Access) -> Region {
        if self.0[0] == 0 || access.bounds().is_none() {
            return Region { digits: vec![(0, 0)], exact: true };
        }
        let all: usize = access.dims.iter().filter(|(_, s)| *s != 0).map(|(n, _)| n).product();
        if all == self.0[0] && access.injective() {
            return self.whole();
        }
        match self.boxed(access) {
            Some(digits) => Region { digits, exact: true },
            None => Region { exact: false, ..self.whole() },
        }
    }

    fn boxed(&self, access: &Access) -> Option<Vec<(usize, usize)>> {
        let mut offset = usize::try_from(access.bounds()?.0).ok()?;
        let mut digits = Vec::with_capacity(self.digits());
        for d in 0..self.digits() {
            let low = offset % self.base(d);
            digits.push((low, low + 1));
            offset /= self.base(d);
        }
        for (mut n, stride) in merged(access)? {
            let at = self.0.iter().position(|t| *t == stride)?;
            let mut digit = self.0.len() - 1 - at;
            loop {
                if digit >= self.digits() {
                    return None;
                }
                let (base, (low, high)) = (self.base(digit), digits[digit]);
                if high - low != 1 {
                    return None;
                }
                if low + n <= base {
                    digits[digit].1 = low + n;
                    break;
                }
                if low != 0 || !n.is_multiple_of(base) {
                    return None;
                }
                digits[digit].1 = base;
                n /= base;
                digit += 1;
            }
        }
        Some(digits)
    }
}

/// Sizes and positive strides in increasing order, with dims merged that continue each other.
fn merged(access: &Access) -> Option<Vec<(usize, usize)>> {
    let mut dims = Vec::new();
    for (n, stride) in &access.dims {
        if *n > 1 && *stride != 0 {
            dims.push((usize::try_from(stride.unsigned_abs()).ok()?, *n));
        }
    }
    dims.sort_unstable();
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (stride, n) in dims {
        match out.last_mut() {
            Some((m, s)) if s.checked_mul(*m) == Some(stride) => *m *= n,
            _ => out.push((n, stride)),
        }
    }
    Some(out)
}

impl Region {
    fn shared(&self, other: &Region) -> usize {
        let digits = self.digits.iter().zip(&other.digits);
        digits.map(|((a, b), (c, d))| (*b.min(d)).saturating_sub(*a.max(c))).product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.digits.iter().any(|(a, b)| a == b)
    }

    /// The interval of every digit, the least significant one first.
    pub fn digits(&self) -> &[(usize, usize)] {
        &self.digits
    }

    /// Number of elements, if it is known exactly, else 0.
    pub fn exact_elements(&self) -> usize {
        if self.exact { self.digits.iter().map(|(a, b)| b - a).product() } else { 0 }
    }

    /// Whether the two may share an element.
    pub fn overlaps(&self, other: &Region) -> bool {
        !self.is_empty() && !other.is_empty() && self.shared(other) > 0
    }

    /// Whether every element is in one of the others, which are disjoint.
    pub fn is_covered<'a>(&self, others: impl Iterator<Item = &'a Region>) -> bool {
        let here: usize = self.digits.iter().map(|(a, b)| b - a).product();
        let found: usize = others.filter(|o| o.exact && !o.is_empty()).map(|o| self.shared(o)).sum();
        self.is_empty() || found == here
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::program::BufferId;

    fn elements(access: &Access) -> BTreeSet<i128> {
        access.dims.iter().fold(BTreeSet::from([access.offset]), |set, (n, stride)| {
            set.iter().flat_map(|e| (0..*n as i128).map(move |c| e + c * stride)).collect()
        })
    }

    fn access(offset: i128, dims: &[(usize, i128)]) -> Access {
        Access { buffer: BufferId(0), offset, dims: dims.to_vec() }
    }

    /// Every pair of blocks of a 2 x 3 x 4 buffer, seen through different splits of its dims.
    #[test]
    fn boxes_are_exact() {
        let mut all = Vec::new();
        for (lo, hi) in [(0, 1), (0, 2), (1, 2)] {
            for (from, to) in [(0, 4), (0, 2), (2, 4), (1, 2), (1, 1)] {
                for (dims, at) in [
                    (vec![(hi - lo, 12), (3, 4), (to - from, 1)], 0),
                    (vec![(to - from, 1), (3 * (hi - lo), 4)], 0),
                    (vec![(hi - lo, -12), (3, 4), (to - from, 1)], 12 * (hi - lo - 1)),
                    (vec![(5, 0), (hi - lo, 12), (to - from, 1)], 4),
                ] {
                    all.push(access((12 * lo + at + from) as i128, &dims));
                }
            }
        }
        let mut radix = Radix::new(&[2, 3, 4]);
        all.iter().for_each(|a| radix.refine_for(a));
        for a in &all {
            for b in &all {
                let (ra, rb) = (radix.region(a), radix.region(b));
                assert!(ra.exact && rb.exact);
                let (ea, eb) = (elements(a), elements(b));
                assert_eq!(ra.overlaps(&rb), !ea.is_disjoint(&eb), "{a:?} {b:?}");
                assert_eq!(ra.is_covered([&rb].into_iter()), ea.is_subset(&eb), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn others_are_supersets() {
        let radix = Radix::new(&[3, 3]);
        // The diagonal, and windows that overlap.
        for a in [access(0, &[(3, 4)]), access(0, &[(2, 1), (3, 1)]), access(1, &[(3, 2)])] {
            let region = radix.region(&a);
            assert!(!region.exact && region.overlaps(&radix.whole()));
            assert!(region.is_covered([&radix.whole()].into_iter()));
            assert!(!radix.whole().is_covered([&region].into_iter()));
        }
        // A permutation writes everything.
        let transposed = access(0, &[(3, 1), (3, 3)]);
        assert!(radix.whole().is_covered([&radix.region(&transposed)].into_iter()));
    }
}
