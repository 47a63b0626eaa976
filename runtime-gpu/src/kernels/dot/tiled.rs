//! Products of shared tiles: a workgroup copies a slab of both operands, and each invocation sums its rows and columns
//! from the copies.

use graphc_ir::error::Result;

use super::tiles::PAD;
use super::{Product, Tiles};
use crate::code::Builder;
use crate::kernels::coordinates;
use crate::wgsl::{Grid, Shader};

/// Adds the launch.
pub fn build(b: &mut Builder, product: &Product<'_>, tiles: &Tiles) -> Result<()> {
    let (m, n, k) = (product.dot.m, product.dot.n, product.dot.k);
    let [block_m, block_n] = tiles.block;
    let [each_m, each_n] = tiles.each;
    let depth = tiles.shared.unwrap_or(1);
    let (lanes, threads_n) = (tiles.lanes(), block_n / each_n);
    let threads_m = block_m / each_m;
    let [down, across] = tiles.blocks(m, n);
    let mut shader = Shader::new(lanes, product.work.commits);
    let groups = across * down * product.count * tiles.cuts;
    let grid = Grid::of(groups);
    product.write_epilogue(&mut shader)?;
    for (name, width) in [("sa", block_m), ("sb", block_n)] {
        shader.head.push_str(&format!("var<workgroup> {name}: array<f32, {}>;\n", depth * (width + PAD)));
    }
    shader.line(format!("let block = {};", Shader::group(grid)));
    if grid.groups[1] > 1 {
        // Whole workgroups, so that barriers stay uniform.
        shader.line(format!("if (block >= {groups}u) {{ return; }}"));
    }
    shader.line(format!("let cut = block / {}u;", across * down * product.count));
    shader.line(format!("let product = block / {}u % {}u;", across * down, product.count));
    let at = coordinates(&mut shader, "x", "product", &product.dot.batch);
    shader.line(format!("let row0 = i32(block / {across}u % {down}u) * {block_m};"));
    shader.line(format!("let col0 = i32(block % {across}u) * {block_n};"));
    shader.line(format!("let ty = i32(lane) / {threads_n};"));
    shader.line(format!("let tx = i32(lane) % {threads_n};"));
    for i in 0..each_m {
        for j in 0..each_n {
            shader.line(format!("var c{i}_{j} = 0.0f;"));
        }
    }
    let share = k.div_ceil(tiles.cuts).next_multiple_of(depth);
    shader.line(format!("let first = i32(cut) * {share};"));
    shader.line(format!("let end = min(first + {share}, {k});"));
    shader.line(format!("for (var k0 = first; k0 < end; k0 += {depth}) {{"));
    copy(&mut shader, product, &at, 0, [block_m, depth, lanes], m);
    copy(&mut shader, product, &at, 1, [block_n, depth, lanes], n);
    shader.line("workgroupBarrier();");
    shader.line(format!("for (var kk = 0; kk < {depth}; kk++) {{"));
    // Neighbouring invocations have neighbouring columns, so that copies are read without conflicts.
    for i in 0..each_m {
        shader.line(format!("let a{i} = sa[kk * {} + ty + {}];", block_m + PAD, i * threads_m));
    }
    for j in 0..each_n {
        shader.line(format!("let y{j} = sb[kk * {} + tx + {}];", block_n + PAD, j * threads_n));
    }
    for i in 0..each_m {
        for j in 0..each_n {
            shader.line(format!("c{i}_{j} = fma(a{i}, y{j}, c{i}_{j});"));
        }
    }
    shader.line("}");
    shader.line("workgroupBarrier();");
    shader.line("}");
    for i in 0..each_m {
        for j in 0..each_n {
            let (r, c) =
                (format!("(row0 + ty + {})", i * threads_m), format!("(col0 + tx + {})", j * threads_n));
            let done = product.finish(&mut shader, &format!("c{i}_{j}"), &at, [&r, &c]);
            shader.line(format!("if ({r} < {m} && {c} < {n}) {{ {done} }}"));
        }
    }
    b.launch(shader, grid);
    Ok(())
}

/// Copies a slab of an operand: `width` rows of A or columns of B, for `depth` steps of k, with zeros beyond the end.
fn copy(
    shader: &mut Shader,
    product: &Product<'_>,
    batch: &[String],
    port: usize,
    [width, depth, lanes]: [usize; 3],
    size: usize,
) {
    let array = shader.bind(&product.work.reads[port].0, false);
    let (name, first) = [("sa", "row0"), ("sb", "col0")][port];
    let [outer, inner] = product.strides(port);
    let along_k = if port == 0 { inner } else { outer }.unsigned_abs();
    let along_width = if port == 0 { outer } else { inner }.unsigned_abs();
    // Neighbouring invocations copy neighbours in memory.
    let k_first = along_k < along_width;
    shader.line(format!("for (var e = i32(lane); e < {}; e += {lanes}) {{", width * depth));
    let (w, s) = if k_first {
        (format!("e / {depth}"), format!("e % {depth}"))
    } else {
        (format!("e % {width}"), format!("e / {width}"))
    };
    shader.line(format!("    let w = {w}; let s = {s};"));
    shader.line(format!("    let o = {first} + w; let k = k0 + s;"));
    let inside = format!("o < {size} && k < end");
    let own = if port == 0 { ["o", "k"] } else { ["k", "o"] };
    let element = product.element(port, batch, own);
    shader.line(format!("    var v = 0.0f; if ({inside}) {{ v = {array}[{element}]; }}"));
    shader.line(format!("    {name}[s * {} + w] = v;", width + PAD));
    shader.line("}");
}
