//! Loops over the elements of a window, as text.

use std::ops::Range;

use graphc_ir::ops::Geometry;

use crate::wgsl::repeat;

/// The loops over a window's elements inside the image, given the window's coordinates. In the loops `t` with a number
/// is the element's coordinate in the window, and `y` with a number that in the image.
pub struct Taps {
    /// Text before the work.
    pub open: String,
    /// Text after it.
    pub close: String,
    /// The coordinates in the image.
    pub image: Vec<String>,
    /// The coordinates in the window.
    pub window: Vec<String>,
}

impl Taps {
    /// Of the window at coordinates `at`: all of its elements, or these along each dim.
    pub fn of_window(g: &Geometry, at: &[String], of: &[Range<usize>]) -> Taps {
        let mut taps = Taps { open: String::new(), close: String::new(), image: vec![], window: vec![] };
        for (d, at) in at.iter().enumerate() {
            let (w, n) = (&g.window, g.image[d]);
            let (stride, dilation, lo) = (w.strides[d], w.dilations[d], w.pads_lo[d]);
            taps.open.push_str(&format!(
                "{} let y{d} = {at} * {stride} + t{d} * {dilation} - {lo}; if (y{d} < 0 || y{d} >= {n}) {{ continue; }}\n",
                along(d, w.kernel[d], of)
            ));
            taps.close.push('}');
            taps.image.push(format!("y{d}"));
            taps.window.push(format!("t{d}"));
        }
        taps
    }

    /// Over the windows that an element of the image at coordinates `at` is in: `y` with a number is the window's
    /// coordinate.
    pub fn of_element(g: &Geometry, at: &[String], of: &[Range<usize>]) -> Taps {
        let mut taps = Taps { open: String::new(), close: String::new(), image: vec![], window: vec![] };
        for (d, at) in at.iter().enumerate() {
            let (w, n) = (&g.window, g.positions[d]);
            let (stride, dilation, lo) = (w.strides[d], w.dilations[d], w.pads_lo[d]);
            taps.open.push_str(&format!(
                "{} let z{d} = {at} + {lo} - t{d} * {dilation}; if (z{d} < 0 || z{d} % {stride} != 0) {{ continue; }} \
                 let y{d} = z{d} / {stride}; if (y{d} >= {n}) {{ continue; }}\n",
                along(d, w.kernel[d], of)
            ));
            taps.close.push('}');
            taps.image.push(format!("y{d}"));
            taps.window.push(format!("t{d}"));
        }
        taps
    }

    /// The row-major number of the element in its window.
    pub fn number(&self, g: &Geometry) -> String {
        let mut number = "0".to_owned();
        for (t, kernel) in self.window.iter().zip(&g.window.kernel) {
            number = format!("({number} * {kernel} + {t})");
        }
        number
    }
}

/// The head of the loop over a window's elements along a dim: all of them, or a part.
fn along(d: usize, kernel: usize, of: &[Range<usize>]) -> String {
    let of = of.get(d).cloned().unwrap_or(0..kernel);
    repeat(&format!("var t{d} = {}; t{d} < {}; t{d}++", of.start, of.end), of.len())
}

/// The number of elements that the mean over a window is of: a product of one factor a dim.
pub fn divisor(g: &Geometry, at: &[String], count_pad: bool) -> String {
    let mut factors = Vec::new();
    for (d, at) in at.iter().enumerate() {
        let (w, n) = (&g.window, g.image[d]);
        let (kernel, stride, dilation, lo) = (w.kernel[d], w.strides[d], w.dilations[d], w.pads_lo[d]);
        let (first, end) = if count_pad { (0, lo + n + w.pads_hi[d]) } else { (lo, lo + n) };
        // The elements of the window before a place.
        let before = |place: usize| {
            format!("min({kernel}, (max({place} - {at} * {stride}, 0) + {}) / {dilation})", dilation - 1)
        };
        factors.push(format!("({} - {})", before(end), before(first)));
    }
    if factors.is_empty() { "1".into() } else { factors.join(" * ") }
}
