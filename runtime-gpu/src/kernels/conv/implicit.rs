//! Convolutions as sums over shared tiles: the matrix of windows is never made, its elements are found when they are
//! copied.
//!
//! The number of an element is the sum of what its row or column and what its step of k adds: an invocation finds the one
//! before it goes along k. For a group of channels, of which there are `made` filters over `inputs` channels:
//!
//! | role | rows | columns | steps of k |
//! |---|---|---|---|
//! | forward | images, windows | filters | taps, channels |
//! | gradient in the image | images, pixels | channels | taps, filters |
//! | gradient in the filters | taps, channels | filters | images, windows |

use graphc_ir::error::Result;
use graphc_ir::program::{Conv, ConvRole};

use super::of_group;
use crate::code::Builder;
use crate::kernels::tiled::{self, Side, Sums};
use crate::kernels::tiles::Tiles;
use crate::kernels::{Epilogue, Work};
use crate::place::VECTOR;
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
pub fn build(b: &mut Builder, work: &Work, conv: &Conv, epilogue: Epilogue<'_>, tiles: &Tiles) -> Result<()> {
    let (g, role) = (&conv.geometry, conv.role);
    let (inputs, made) = of_group(conv);
    let rank = g.image.len();
    let sizes = conv.sizes();
    let windows = [&[g.batch], &g.positions[..]].concat();
    let pixels = [&[g.batch], &g.image[..]].concat();
    let tapped = |channels: usize| [&g.window.kernel[..], &[channels]].concat();
    let strides = |port: usize| work.reads[port].1.strides.clone();
    // What the first operand has of a channel in each group: an image's channels, or a result's filters.
    let of_first = if role == ConvRole::InputGrad { made } else { inputs };
    let begin = |port: usize, of_group: usize| {
        let (place, view) = work.reads[port].clone();
        let rest = place.element(&view, &vec!["0".to_owned(); view.strides.len()]);
        let channel = view.strides[view.strides.len() - 1];
        format!("{rest} + i32(product) * {}", of_group as isize * channel)
    };
    let begins = [begin(0, of_first), begin(1, made)];

    // A: the part of a pixel's or window's number, and the part of a tap's and channel's.
    let (first, image_dims) = (strides(0), &strides(0)[1..=rank]);
    let of_place = |shader: &mut Shader, flat: &str, tag: &str| {
        let sizes = if role == ConvRole::InputGrad { &pixels } else { &windows };
        let at = declare(shader, &format!("w{tag}_"), flat, sizes);
        let mut names = vec![String::new()];
        let mut sum = vec![begins[0].clone(), format!("{} * {}", at[0], first[0])];
        for d in 0..rank {
            let w = &g.window;
            let name = format!("y{d}{tag}");
            let from = match role {
                ConvRole::InputGrad => format!("{} + {}", at[1 + d], w.pads_lo[d]),
                _ => format!("{} * {} - {}", at[1 + d], w.strides[d], w.pads_lo[d]),
            };
            shader.line(format!("let {name} = {from};"));
            if is_sum(conv, d) {
                sum.push(format!("{name} * {}", image_dims[d]));
            }
            names.push(name);
        }
        names[0] = format!("q{tag}");
        shader.line(format!("let {} = {};", names[0], sum.join(" + ")));
        names
    };
    let of_tap = |shader: &mut Shader, flat: &str, tag: &str| {
        let at = declare(shader, &format!("t{tag}_"), flat, &tapped(of_first));
        let mut names = vec![String::new()];
        let mut sum = vec![format!("{} * {}", at[rank], first[rank + 1])];
        for d in 0..rank {
            let (name, dilation) = (format!("d{d}{tag}"), g.window.dilations[d] as isize);
            let step = if role == ConvRole::InputGrad { -dilation } else { dilation };
            shader.line(format!("let {name} = {} * {step};", at[d]));
            if is_sum(conv, d) {
                sum.push(format!("{name} * {}", image_dims[d]));
            }
            names.push(name);
        }
        names[0] = format!("r{tag}");
        shader.line(format!("let {} = {};", names[0], sum.join(" + ")));
        names
    };
    let found = |shader: &mut Shader, place: &[String], tap: &[String], tag: &str| {
        let mut number = format!("{} + {}", place[0], tap[0]);
        let mut inside = Vec::new();
        for d in 0..rank {
            let z = format!("({} + {})", place[1 + d], tap[1 + d]);
            inside.extend(in_bounds(conv, d, &z));
            if !is_sum(conv, d) {
                shader.line(format!("let z{d}{tag} = {z} / {};", g.window.strides[d]));
                number.push_str(&format!(" + z{d}{tag} * {}", image_dims[d]));
            }
        }
        ((!inside.is_empty()).then(|| inside.join(" && ")), number)
    };
    let found_turned =
        |shader: &mut Shader, tap: &[String], place: &[String], tag: &str| found(shader, place, tap, tag);

    // B: filters or, where those are made, the gradient of windows.
    let second = strides(1);
    let channel = rank;
    let of_column = |shader: &mut Shader, flat: &str, tag: &str| {
        let dim = if role == ConvRole::InputGrad { channel } else { second.len() - 1 };
        shader.line(format!("let q{tag} = {} + {flat} * {};", begins[1], second[dim]));
        vec![format!("q{tag}")]
    };
    let of_step = |shader: &mut Shader, flat: &str, tag: &str| {
        let (sizes, strides) = match role {
            ConvRole::Forward => (tapped(inputs), second[..=rank].to_vec()),
            ConvRole::InputGrad => (tapped(made), [&second[..rank], &second[rank + 1..]].concat()),
            ConvRole::FilterGrad => (windows.clone(), second[..=rank].to_vec()),
        };
        vec![number(shader, tag, flat, &sizes, &strides)]
    };
    let sum = |_: &mut Shader, column: &[String], step: &[String], _: &str| {
        (None, format!("{} + {}", column[0], step[0]))
    };

    let vectors = |port: usize, of_group: usize| {
        let ((place, view), sizes) = (&work.reads[port], &sizes[port]);
        of_group.is_multiple_of(VECTOR) && place.in_vectors(view, sizes.len() - 1, sizes)
    };
    let turned = role == ConvRole::FilterGrad;
    let a = Side {
        port: 0,
        // Where neighbours in memory are: channels follow each other in images, filters in filters.
        k_first: !turned,
        vectors: vectors(0, of_first),
        outer: if turned { &of_tap } else { &of_place },
        step: if turned { &of_place } else { &of_tap },
        element: if turned { &found_turned } else { &found },
    };
    let b_side = Side {
        port: 1,
        k_first: role == ConvRole::InputGrad,
        vectors: vectors(1, made),
        outer: &of_column,
        step: &of_step,
        element: &sum,
    };
    let of_result = |c: usize| format!("i32(product) * {c} + col");
    let result = |shader: &mut Shader, row: &str, tag: &str| {
        let (sizes, made) = match role {
            ConvRole::Forward => (windows.clone(), made),
            ConvRole::InputGrad => (pixels.clone(), inputs),
            ConvRole::FilterGrad => (tapped(inputs), made),
        };
        [declare(shader, &format!("w{tag}_"), row, &sizes), vec![of_result(made)]].concat()
    };
    let sides = [a, b_side];
    let sums = Sums { work, epilogue, shape: shape(conv), sides, prepare: &|_| {}, result: &result };
    tiled::build(b, &sums, tiles)
}

/// Whether a pixel's coordinate is the sum of what a window and a tap add, so that its number is too; in the gradient of
/// the image a window's is a quotient, if windows are more than one step apart.
fn is_sum(conv: &Conv, d: usize) -> bool {
    conv.role != ConvRole::InputGrad || conv.geometry.window.strides[d] == 1
}

/// The conditions that a coordinate is in the image, or in the gradient of the image that of a window; those that always
/// hold are left out.
fn in_bounds(conv: &Conv, d: usize, z: &str) -> Vec<String> {
    let g = &conv.geometry;
    let w = &g.window;
    let [stride, lo, reach, windows, image] =
        [w.strides[d], w.pads_lo[d], (w.kernel[d] - 1) * w.dilations[d], g.positions[d], g.image[d]]
            .map(|n| n as isize);
    let (least, most, end) = match conv.role {
        ConvRole::InputGrad => (lo - reach, image - 1 + lo, (windows - 1) * stride + 1),
        _ => (-lo, (windows - 1) * stride + reach - lo, image),
    };
    let mut conditions = Vec::new();
    if least < 0 {
        conditions.push(format!("{z} >= 0"));
    }
    if most >= end {
        conditions.push(format!("{z} < {end}"));
    }
    if !is_sum(conv, d) {
        conditions.push(format!("{z} % {stride} == 0"));
    }
    conditions
}

/// Declares the coordinates of a flat number (`i32`, not negative), one for each dim.
fn declare(shader: &mut Shader, prefix: &str, flat: &str, sizes: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    for (d, size) in sizes.iter().enumerate() {
        let below: usize = sizes[d + 1..].iter().product();
        let part = if below == 1 { format!("u32({flat})") } else { format!("u32({flat}) / {below}u") };
        let value = if d == 0 { part } else { format!("{part} % {size}u") };
        shader.line(format!("let {prefix}{d} = i32({value});"));
        names.push(format!("{prefix}{d}"));
    }
    names
}

/// Declares the number of an element given its flat number among dims with these strides; neighbouring dims that lie
/// one behind the other are taken as one.
fn number(shader: &mut Shader, tag: &str, flat: &str, sizes: &[usize], strides: &[isize]) -> String {
    let mut dims: Vec<(usize, isize)> = Vec::new();
    for (size, stride) in sizes.iter().zip(strides) {
        match dims.last_mut() {
            Some((outer, of_outer)) if *of_outer == *size as isize * stride || *outer == 1 => {
                *outer *= size;
                *of_outer = *stride;
            }
            _ => dims.push((*size, *stride)),
        }
    }
    let sizes: Vec<usize> = dims.iter().map(|d| d.0).collect();
    let at = declare(shader, &format!("t{tag}_"), flat, &sizes);
    let terms: Vec<String> =
        at.iter().zip(&dims).map(|(at, (_, stride))| format!("{at} * {stride}")).collect();
    shader.line(format!("let r{tag} = {};", terms.join(" + ")));
    format!("r{tag}")
}
