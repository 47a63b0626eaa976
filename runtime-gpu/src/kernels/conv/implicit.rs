//! Convolutions as sums over shared tiles: the matrix of windows is never made, its elements are found when they are
//! copied.
//!
//! For a group of channels, of which there are `made` filters over `inputs` channels:
//!
//! | role | rows | columns | steps of k |
//! |---|---|---|---|
//! | forward | images, windows | filters | taps, channels |
//! | gradient in the image | images, pixels | channels | taps, filters |
//! | gradient in the filters | taps, channels | filters | images, windows |

use graphc_ir::error::Result;
use graphc_ir::ops::Geometry;
use graphc_ir::program::{Conv, ConvRole};

use super::of_group;
use crate::code::Builder;
use crate::kernels::tiled::{self, Side, Sums};
use crate::kernels::tiles::Tiles;
use crate::kernels::{Epilogue, Work};
use crate::wgsl::Shader;

/// Groups, rows, columns and steps of k.
pub fn shape(conv: &Conv) -> [usize; 4] {
    let g = &conv.geometry;
    let (inputs, made) = of_group(conv);
    let windows = g.batch * g.positions.iter().product::<usize>();
    let pixels = g.batch * g.image.iter().product::<usize>();
    let taps = g.window.taps();
    match conv.role {
        ConvRole::Forward => [g.groups, windows, made, taps * inputs],
        ConvRole::InputGrad => [g.groups, pixels, inputs, taps * made],
        ConvRole::FilterGrad => [g.groups, taps * inputs, made, windows],
    }
}

/// Adds the launches.
pub fn build(
    b: &mut Builder,
    work: &Work<'_>,
    conv: &Conv,
    epilogue: Epilogue<'_>,
    tiles: &Tiles,
) -> Result<()> {
    let g = &conv.geometry;
    let (inputs, made) = of_group(conv);
    let kernel = &g.window.kernel;
    let windows = [&[g.batch], &g.positions[..]].concat();
    let pixels = [&[g.batch], &g.image[..]].concat();
    let channel = move |c: &str| format!("(i32(product) * {inputs} + {c})");
    let filter = move |o: &str| format!("(i32(product) * {made} + {o})");
    let read = |port: usize, at: &[String]| {
        let (place, view) = &work.reads[port];
        place.element(view, at)
    };
    let role = conv.role;

    let a = |shader: &mut Shader| match role {
        ConvRole::Forward => {
            let at = declare(shader, "w", "o", &windows);
            let tap = declare(shader, "t", "k", &[&kernel[..], &[inputs]].concat());
            let (inside, pixel) = pixel_of(shader, g, &at[1..], &tap);
            let place = [&at[..1], &pixel, &[channel(&tap[kernel.len()])]].concat();
            (inside, read(0, &place))
        }
        ConvRole::InputGrad => {
            let at = declare(shader, "w", "o", &pixels);
            let tap = declare(shader, "t", "k", &[&kernel[..], &[made]].concat());
            let (inside, window) = window_of(shader, g, &at[1..], &tap);
            let place = [&at[..1], &window, &[filter(&tap[kernel.len()])]].concat();
            (inside, read(0, &place))
        }
        ConvRole::FilterGrad => {
            let at = declare(shader, "w", "k", &windows);
            let tap = declare(shader, "t", "o", &[&kernel[..], &[inputs]].concat());
            let (inside, pixel) = pixel_of(shader, g, &at[1..], &tap);
            let place = [&at[..1], &pixel, &[channel(&tap[kernel.len()])]].concat();
            (inside, read(0, &place))
        }
    };
    let c = |shader: &mut Shader| match role {
        ConvRole::Forward => {
            let tap = declare(shader, "t", "k", &[&kernel[..], &[inputs]].concat());
            (None, read(1, &[&tap[..], &[filter("o")]].concat()))
        }
        ConvRole::InputGrad => {
            let tap = declare(shader, "t", "k", &[&kernel[..], &[made]].concat());
            let (taps, o) = tap.split_at(kernel.len());
            (None, read(1, &[taps, &["o".to_owned(), filter(&o[0])]].concat()))
        }
        ConvRole::FilterGrad => {
            let at = declare(shader, "w", "k", &windows);
            (None, read(1, &[&at[..], &[filter("o")]].concat()))
        }
    };
    // Where neighbours in memory are: channels follow each other in images, filters in filters.
    let sides = [
        Side { port: 0, k_first: role != ConvRole::FilterGrad, address: &a },
        Side { port: 1, k_first: role == ConvRole::InputGrad, address: &c },
    ];
    let result = |shader: &mut Shader| match role {
        ConvRole::Forward => {
            let at = declare(shader, "w", "row", &windows);
            [&at[..], &[filter("col")]].concat()
        }
        ConvRole::InputGrad => {
            let at = declare(shader, "w", "row", &pixels);
            [&at[..], &[channel("col")]].concat()
        }
        ConvRole::FilterGrad => {
            let tap = declare(shader, "t", "row", &[&kernel[..], &[inputs]].concat());
            [&tap[..], &[filter("col")]].concat()
        }
    };
    let sums = Sums { work, epilogue, shape: shape(conv), sides, result: &result };
    tiled::build(b, &sums, tiles)
}

/// Declares the coordinates of a flat number (`i32`), one for each dim.
fn declare(shader: &mut Shader, prefix: &str, flat: &str, sizes: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    for (d, size) in sizes.iter().enumerate() {
        let below: usize = sizes[d + 1..].iter().product();
        let part = if below == 1 { flat.to_owned() } else { format!("{flat} / {below}") };
        let value = if d == 0 { part } else { format!("({part}) % {size}") };
        shader.line(format!("let {prefix}{d} = {value};"));
        names.push(format!("{prefix}{d}"));
    }
    names
}

/// Declares the pixel that a tap of a window is at, and gives the condition that it is in the image.
fn pixel_of(
    shader: &mut Shader,
    g: &Geometry,
    window: &[String],
    tap: &[String],
) -> (Option<String>, Vec<String>) {
    let mut inside = Vec::new();
    for (d, (p, t)) in window.iter().zip(tap).enumerate() {
        let w = &g.window;
        shader.line(format!(
            "let y{d} = {p} * {} + {t} * {} - {};",
            w.strides[d], w.dilations[d], w.pads_lo[d]
        ));
        inside.push(format!("y{d} >= 0 && y{d} < {}", g.image[d]));
    }
    ((!inside.is_empty()).then(|| inside.join(" && ")), (0..window.len()).map(|d| format!("y{d}")).collect())
}

/// Declares the window of which a pixel is this tap, and gives the condition that there is one.
fn window_of(
    shader: &mut Shader,
    g: &Geometry,
    pixel: &[String],
    tap: &[String],
) -> (Option<String>, Vec<String>) {
    let mut inside = Vec::new();
    for (d, (p, t)) in pixel.iter().zip(tap).enumerate() {
        let w = &g.window;
        shader.line(format!("let z{d} = {p} + {} - {t} * {};", w.pads_lo[d], w.dilations[d]));
        shader.line(format!("let y{d} = z{d} / {};", w.strides[d]));
        let whole =
            if w.strides[d] == 1 { String::new() } else { format!(" && z{d} % {} == 0", w.strides[d]) };
        inside.push(format!("z{d} >= 0{whole} && y{d} < {}", g.positions[d]));
    }
    ((!inside.is_empty()).then(|| inside.join(" && ")), (0..pixel.len()).map(|d| format!("y{d}")).collect())
}
