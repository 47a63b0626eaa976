//! Loops over the elements of a window, as text.

use graphc_ir::ops::Geometry;

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
    /// Of the window at coordinates `at`.
    pub fn of_window(g: &Geometry, at: &[String]) -> Taps {
        let mut taps = Taps { open: String::new(), close: String::new(), image: vec![], window: vec![] };
        for (d, at) in at.iter().enumerate() {
            let (w, n) = (&g.window, g.image[d]);
            let (kernel, stride, dilation, lo) = (w.kernel[d], w.strides[d], w.dilations[d], w.pads_lo[d]);
            taps.open.push_str(&format!(
                "for (var t{d} = 0; t{d} < {kernel}; t{d}++) {{ let y{d} = {at} * {stride} + t{d} * {dilation} - {lo}; \
                 if (y{d} < 0 || y{d} >= {n}) {{ continue; }}\n"
            ));
            taps.close.push('}');
            taps.image.push(format!("y{d}"));
            taps.window.push(format!("t{d}"));
        }
        taps
    }

    /// Over the windows that an element of the image at coordinates `at` is in: `y` with a number is the window's
    /// coordinate.
    pub fn of_element(g: &Geometry, at: &[String]) -> Taps {
        let mut taps = Taps { open: String::new(), close: String::new(), image: vec![], window: vec![] };
        for (d, at) in at.iter().enumerate() {
            let (w, n) = (&g.window, g.positions[d]);
            let (kernel, stride, dilation, lo) = (w.kernel[d], w.strides[d], w.dilations[d], w.pads_lo[d]);
            taps.open.push_str(&format!(
                "for (var t{d} = 0; t{d} < {kernel}; t{d}++) {{ let z{d} = {at} + {lo} - t{d} * {dilation}; \
                 if (z{d} < 0 || z{d} % {stride} != 0) {{ continue; }} let y{d} = z{d} / {stride}; \
                 if (y{d} >= {n}) {{ continue; }}\n"
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

/// The number of elements that the mean over a window is of: a product of one factor a dim.
pub fn divisor(g: &Geometry, at: &[String], count_pad: bool) -> String {
    let mut factors = Vec::new();
    for (d, at) in at.iter().enumerate() {
        let (w, n) = (&g.window, g.image[d]);
        let (kernel, stride, dilation, lo) = (w.kernel[d], w.strides[d], w.dilations[d], w.pads_lo[d]);
        let (first, end) = if count_pad { (0, lo + n + w.pads_hi[d]) } else { (lo, lo + n) };
        let terms: Vec<String> = (0..kernel)
            .map(|t| {
                let place = format!("({at} * {stride} + {})", t * dilation);
                format!("select(0, 1, {place} >= {first} && {place} < {end})")
            })
            .collect();
        factors.push(format!("({})", terms.join(" + ")));
    }
    if factors.is_empty() { "1".into() } else { factors.join(" * ") }
}
