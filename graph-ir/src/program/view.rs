//! How views turn coordinates into elements.

use super::View;

/// What the coordinates of some dims of a view add up to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Sum of coordinate times stride.
    pub at: isize,
    /// Whether the guard admits these coordinates.
    pub inside: bool,
}

/// A view over `rows x cols`, flattened: the element of (row `r`, column `c`) is
/// `offset + rows[r] + cols[c]`.
#[derive(Clone, Debug)]
pub(super) struct FlatView {
    offset: isize,
    rows: Vec<Part>,
    cols: Vec<Part>,
}

impl View {
    /// Flattens the view over a domain whose first `rows.len()` dims are the rows. Sizes are `None`
    /// where an access does not vary: then only coordinate 0 exists, even if the domain is empty.
    pub(super) fn flatten(&self, rows: Option<&[usize]>, cols: Option<&[usize]>, split: usize) -> FlatView {
        let rank = self.strides.len();
        FlatView {
            offset: self.offset,
            rows: self.parts(rows, 0..split.min(rank)),
            cols: self.parts(cols, split.min(rank)..rank),
        }
    }

    fn parts(&self, sizes: Option<&[usize]>, dims: std::ops::Range<usize>) -> Vec<Part> {
        let mut parts = Vec::new();
        let ones = vec![1; dims.len()];
        coordinates(sizes.unwrap_or(&ones), |at| {
            let mut part = Part { at: 0, inside: true };
            for (d, c) in dims.clone().zip(at) {
                part.at += *c as isize * self.strides[d];
                if let Some(g) = &self.guard {
                    part.inside &= g.lo[d] <= *c && *c < g.hi[d];
                }
            }
            parts.push(part);
        });
        parts
    }
}

impl FlatView {
    /// The element of a row and a column; `None` where the guard's fill is read instead.
    pub fn element(&self, r: usize, c: usize) -> Option<usize> {
        let (row, col) = (self.rows[r], self.cols[c]);
        (row.inside && col.inside).then_some((self.offset + row.at + col.at) as usize)
    }

    /// The sum for a row and a column, where it is a number rather than an element.
    pub fn number(&self, r: usize, c: usize) -> i64 {
        (self.offset + self.rows[r].at + self.cols[c].at) as i64
    }

    /// Number of rows and of columns.
    pub fn sizes(&self) -> (usize, usize) {
        (self.rows.len(), self.cols.len())
    }
}

/// Visits the coordinates of a shape in row-major order.
fn coordinates(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    let n: usize = shape.iter().product();
    let mut at = vec![0; shape.len()];
    for _ in 0..n {
        visit(&at);
        for d in (0..shape.len()).rev() {
            at[d] += 1;
            if at[d] < shape[d] {
                break;
            }
            at[d] = 0;
        }
    }
}
