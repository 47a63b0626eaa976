//! An order of units (clusters, and nodes that belong to none) in which operands come first, kept while clusters
//! are merged.
//!
//! Places are a linked list with labels, so that units move in constant time and two places compare by one look.
//! When there is no label left between two places, all get new ones.

/// A place in the order.
pub(super) type Place = u32;

/// No place.
const END: Place = Place::MAX;

/// Between neighbours at first; a power of two.
const GAP: u64 = 1 << 32;

/// The order of places.
#[derive(Debug)]
pub(super) struct Order {
    label: Vec<u64>,
    previous: Vec<Place>,
    next: Vec<Place>,
    first: Place,
    /// Places that were looked at when labels were given out: what the order cost.
    pub relabelled: usize,
}

impl Order {
    /// Places 0, 1, 2 and so on, in that order.
    pub fn of(count: usize) -> Order {
        let count = count as Place;
        let neighbour = |i: Place| if i < count { i } else { END };
        Order {
            label: (1..=u64::from(count)).map(|i| i * GAP).collect(),
            previous: (0..count).map(|i| neighbour(i.wrapping_sub(1))).collect(),
            next: (0..count).map(|i| neighbour(i + 1)).collect(),
            first: neighbour(0),
            relabelled: 0,
        }
    }

    /// Larger for places that come later.
    pub fn label(&self, place: Place) -> u64 {
        self.label[place as usize]
    }

    /// Takes a place out of the order.
    pub fn remove(&mut self, place: Place) {
        let (previous, next) = (self.previous[place as usize], self.next[place as usize]);
        match previous {
            END => self.first = next,
            p => self.next[p as usize] = next,
        }
        if next != END {
            self.previous[next as usize] = previous;
        }
    }

    /// Moves a place to where it comes right before another one.
    pub fn move_before(&mut self, place: Place, before: Place) {
        if place == before {
            return;
        }
        self.remove(place);
        let previous = self.previous[before as usize];
        self.previous[place as usize] = previous;
        self.next[place as usize] = before;
        self.previous[before as usize] = place;
        match previous {
            END => self.first = place,
            p => self.next[p as usize] = place,
        }
        let low = if previous == END { 0 } else { self.label(previous) };
        let room = self.label(before) - low;
        if room < 2 {
            self.relabel();
        } else {
            // Near the lower end: the next one is most often put before the same place.
            self.label[place as usize] = low + (room / 16).max(1);
        }
    }

    fn relabel(&mut self) {
        let (mut at, mut label) = (self.first, GAP);
        while at != END {
            self.label[at as usize] = label;
            label += GAP;
            self.relabelled += 1;
            at = self.next[at as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(order: &Order) -> Vec<Place> {
        let mut places = Vec::new();
        let mut at = order.first;
        while at != END {
            places.push(at);
            at = order.next[at as usize];
        }
        let labels: Vec<u64> = places.iter().map(|p| order.label(*p)).collect();
        assert!(labels.windows(2).all(|w| w[0] < w[1]), "{labels:?}");
        places
    }

    #[test]
    fn places_move_and_leave() {
        let mut order = Order::of(5);
        order.move_before(4, 1);
        assert_eq!(listed(&order), [0, 4, 1, 2, 3]);
        order.move_before(3, 0);
        assert_eq!(listed(&order), [3, 0, 4, 1, 2]);
        order.remove(3);
        order.move_before(2, 2);
        order.move_before(0, 2);
        assert_eq!(listed(&order), [4, 1, 0, 2]);
        assert_eq!(listed(&Order::of(0)), [] as [Place; 0]);
    }

    /// Labels run out at one place, and all places get new ones.
    #[test]
    fn labels_never_run_out() {
        let mut order = Order::of(3000);
        for place in (2..3000).rev() {
            order.move_before(place, 1);
            order.move_before(0, place);
        }
        assert!(order.relabelled > 0);
        let wanted: Vec<Place> = (3..3000).rev().chain([0, 2, 1]).collect();
        assert_eq!(listed(&order), wanted);
    }
}
