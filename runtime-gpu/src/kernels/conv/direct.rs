//! Convolutions and their adjoints where each invocation sums one element of the result by itself.

use graphc_ir::error::Result;
use graphc_ir::program::{Conv, ConvRole};

use super::of_group;
use crate::code::Builder;
use crate::kernels::window::Taps;
use crate::kernels::{Epilogue, LANES, Work, coordinates, one_each};
use crate::wgsl::{Shader, repeat};

/// Adds the launch.
pub fn build(b: &mut Builder, work: &Work, conv: &Conv, epilogue: &Epilogue<'_>) -> Result<()> {
    let (g, result) = (&conv.geometry, &epilogue.sizes);
    let count: usize = result.iter().product();
    let mut shader = Shader::new(LANES, work.commits);
    epilogue.write(&mut shader, work)?;
    let grid = one_each(&mut shader, count);
    let at = coordinates(&mut shader, "x", "i", result);
    let (first, last) = (at[0].clone(), at[at.len() - 1].clone());
    let spatial = at[1..at.len() - 1].to_vec();
    let (inputs, made) = of_group(conv);
    let (a, f) = (shader.bind(&work.reads[0].0, false), shader.bind(&work.reads[1].0, false));
    let element = |port: usize, at: Vec<String>| {
        let (place, view) = &work.reads[port];
        place.element(view, &at)
    };
    let image = |n: &str, y: &[String], c: String| [&[n.to_owned()], y, &[c]].concat();
    shader.line("var sum = 0.0f;");
    match conv.role {
        ConvRole::Forward => {
            let taps = Taps::of_window(g, &spatial, &work.taps);
            let x = element(0, image(&first, &taps.image, format!("({last} / {made} * {inputs} + c)")));
            let w = element(1, [&taps.window[..], &["c".into(), last.clone()]].concat());
            shader.line(&taps.open);
            let channels = repeat(&format!("var c = 0; c < {inputs}; c++"), inputs);
            shader.line(format!("{channels} sum = fma({a}[{x}], {f}[{w}], sum); }}"));
            shader.line(&taps.close);
        }
        ConvRole::InputGrad => {
            let taps = Taps::of_element(g, &spatial, &work.taps);
            let output = format!("({last} / {inputs} * {made} + o)");
            let y = element(0, image(&first, &taps.image, output.clone()));
            let w = element(1, [&taps.window[..], &[format!("({last} % {inputs})"), output]].concat());
            shader.line(&taps.open);
            let filters = repeat(&format!("var o = 0; o < {made}; o++"), made);
            shader.line(format!("{filters} sum = fma({a}[{y}], {f}[{w}], sum); }}"));
            shader.line(&taps.close);
        }
        ConvRole::FilterGrad => {
            // The result's dims are those of the filters: taps, channels of a group, outputs.
            let rank = g.image.len();
            let (window, channel) = (&at[..rank], &at[rank]);
            shader.line(repeat(&format!("var n = 0; n < {}; n++", g.batch), g.batch));
            let mut places = Vec::new();
            let mut pixels = Vec::new();
            for (d, tap) in window.iter().enumerate() {
                let (w, size) = (&g.window, g.image[d]);
                let (stride, dilation, lo) = (w.strides[d], w.dilations[d], w.pads_lo[d]);
                let count = g.positions[d];
                shader.line(repeat(&format!("var p{d} = 0; p{d} < {count}; p{d}++"), count));
                shader.line(format!("let y{d} = p{d} * {stride} + {tap} * {dilation} - {lo};"));
                shader.line(format!("if (y{d} < 0 || y{d} >= {size}) {{ continue; }}"));
                places.push(format!("p{d}"));
                pixels.push(format!("y{d}"));
            }
            let x = element(0, image("n", &pixels, format!("({last} / {made} * {inputs} + {channel})")));
            let y = element(1, image("n", &places, last.clone()));
            shader.line(format!("sum = fma({a}[{x}], {f}[{y}], sum);"));
            shader.line("}".repeat(rank + 1));
        }
    }
    shader.line(epilogue.call("sum", &at));
    b.launch(shader, grid);
    Ok(())
}
