//! Movement operations as views: the only place where they become addresses.

use graphc_ir::program::{Guard, View};
use graphc_ir::scalar::Scalar;
use graphc_ir::tensor::row_major;

/// Repeats along the axes of the result that `axes` does not name.
pub fn broadcast(view: &View, rank: usize, axes: &[usize], sizes: &[usize]) -> View {
    let mut strides = vec![0; rank];
    for (i, a) in axes.iter().enumerate() {
        strides[*a] = view.strides[i];
    }
    let guard = view.guard.as_ref().map(|g| {
        let (mut lo, mut hi) = (vec![0; rank], sizes.to_vec());
        for (i, a) in axes.iter().enumerate() {
            (lo[*a], hi[*a]) = (g.lo[i], g.hi[i]);
        }
        Guard { lo, hi, fill: g.fill }
    });
    View { offset: view.offset, strides, guard }
}

/// Reorders axes.
pub fn transpose(view: &View, perm: &[usize]) -> View {
    let pick = |v: &[usize]| perm.iter().map(|p| v[*p]).collect::<Vec<_>>();
    View {
        offset: view.offset,
        strides: perm.iter().map(|p| view.strides[*p]).collect(),
        guard: view.guard.as_ref().map(|g| Guard { lo: pick(&g.lo), hi: pick(&g.hi), fill: g.fill }),
    }
}

/// A box that starts at `starts` and has `sizes`.
pub fn slice(view: &View, starts: &[usize], sizes: &[usize]) -> View {
    let shift: isize = view.strides.iter().zip(starts).map(|(s, t)| s * *t as isize).sum();
    let guard = view.guard.as_ref().map(|g| Guard {
        lo: g.lo.iter().zip(starts).zip(sizes).map(|((l, s), n)| l.saturating_sub(*s).min(*n)).collect(),
        hi: g.hi.iter().zip(starts).zip(sizes).map(|((h, s), n)| h.saturating_sub(*s).min(*n)).collect(),
        fill: g.fill,
    });
    View { offset: view.offset + shift, strides: view.strides.clone(), guard }
}

/// A border of `fill`; `None` if there is one already.
pub fn pad(view: &View, lo: &[usize], inner: &[usize], fill: Scalar) -> Option<View> {
    if view.guard.is_some() {
        return None;
    }
    let shift: isize = view.strides.iter().zip(lo).map(|(s, l)| s * *l as isize).sum();
    let hi = lo.iter().zip(inner).map(|(l, n)| l + n).collect();
    Some(View {
        offset: view.offset - shift,
        strides: view.strides.clone(),
        guard: Some(Guard { lo: lo.to_vec(), hi, fill }),
    })
}

/// The same elements in row-major order under another shape; `None` if no strides express that.
pub fn reshape(view: &View, from: &[usize], to: &[usize]) -> Option<View> {
    if from.contains(&0) {
        return Some(View { offset: 0, strides: row_major(to), guard: None });
    }
    if let Some(g) = &view.guard {
        // Only dims of size 1 may come and go: the others keep their guards.
        let wide = |s: &[usize]| (0..s.len()).filter(|d| s[*d] != 1).collect::<Vec<_>>();
        let (a, b) = (wide(from), wide(to));
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| from[*x] == to[*y]);
        let narrow_whole = (0..from.len()).all(|d| from[d] != 1 || (g.lo[d] == 0 && g.hi[d] == 1));
        if !same || !narrow_whole {
            return None;
        }
        let mut out = View { offset: view.offset, strides: vec![0; to.len()], guard: None };
        let (mut lo, mut hi) = (vec![0; to.len()], vec![1; to.len()]);
        for (x, y) in a.into_iter().zip(b) {
            out.strides[y] = view.strides[x];
            (lo[y], hi[y]) = (g.lo[x], g.hi[x]);
        }
        out.guard = Some(Guard { lo, hi, fill: g.fill });
        return Some(out);
    }
    // Dims of size 1 carry no information; the rest is cut into groups of equal products.
    let source: Vec<(usize, isize)> =
        from.iter().copied().zip(view.strides.iter().copied()).filter(|(s, _)| *s != 1).collect();
    let mut strides = vec![0; to.len()];
    let (mut i, mut j) = (0, 0);
    while i < source.len() {
        let (start, first) = (i, j);
        let (mut p, mut q) = (source[i].0, 1);
        i += 1;
        while p != q {
            if q < p {
                q *= to[j];
                j += 1;
            } else {
                p *= source[i].0;
                i += 1;
            }
        }
        // The group's source dims must be one dim of equal steps.
        let group = &source[start..i];
        if group.windows(2).any(|w| w[0].1 != w[1].1 * w[1].0 as isize) {
            return None;
        }
        let mut step = group[group.len() - 1].1;
        for d in (first..j).rev() {
            if to[d] != 1 {
                strides[d] = step;
                step *= to[d] as isize;
            }
        }
    }
    Some(View { offset: view.offset, strides, guard: None })
}

/// Whether a view is the whole of a dense buffer.
pub fn is_dense(view: &View, shape: &[usize]) -> bool {
    let dense = row_major(shape);
    view.offset == 0
        && view.guard.is_none()
        && (0..shape.len()).all(|d| shape[d] <= 1 || view.strides[d] == dense[d] || shape.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(view: &View, shape: &[usize]) -> Vec<isize> {
        let n: usize = shape.iter().product();
        (0..n)
            .map(|i| {
                let (mut rest, mut at) = (i, view.offset);
                for d in (0..shape.len()).rev() {
                    at += (rest % shape[d]) as isize * view.strides[d];
                    rest /= shape[d];
                }
                at
            })
            .collect()
    }

    #[test]
    fn a_reshape_lists_the_same_elements_or_is_refused() {
        let dense = View::dense(&[4, 6]);
        let t = transpose(&dense, &[1, 0]);
        for (from, view, to, possible) in [
            (&[4, 6][..], &dense, &[24][..], true),
            (&[4, 6], &dense, &[2, 2, 1, 3, 2], true),
            (&[6, 4], &t, &[6, 2, 2], true),
            (&[6, 4], &t, &[2, 3, 1, 4], true),
            (&[6, 4], &t, &[24], false),
            (&[6, 4], &t, &[3, 8], false),
        ] {
            match reshape(view, from, to) {
                Some(v) => assert_eq!(elements(&v, to), elements(view, from), "{to:?}"),
                None => assert!(!possible, "{to:?}"),
            }
        }
    }

    #[test]
    fn a_slice_of_a_padding_sees_the_border() {
        let padded = pad(&View::dense(&[3]), &[2], &[3], Scalar::F(9.0)).expect("no guard yet");
        let part = slice(&padded, &[1], &[3]);
        let g = part.guard.clone().expect("kept");
        assert_eq!((g.lo, g.hi, part.offset), (vec![1], vec![3], -1));
    }
}
