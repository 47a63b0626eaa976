//! Sums of products over shared tiles: a workgroup copies a slab of both operands, and each invocation sums its rows and
//! columns from the copies. Where an operand's elements are is the caller's to say, so that products of matrices and
//! convolutions are one kernel.

use graphc_ir::DType;
use graphc_ir::error::Result;

use super::tiles::{PAD, Tiles};
use super::{Epilogue, LANES, Work, one_each};
use crate::code::Builder;
use crate::place::Place;
use crate::wgsl::{Grid, Shader};

/// A batch of sums `y[row, col] = sum over k of a[row, k] * b[k, col]`, and what becomes of them.
pub struct Sums<'a> {
    pub work: &'a Work<'a>,
    pub epilogue: Epilogue<'a>,
    /// Members of the batch, rows, columns, and steps of k.
    pub shape: [usize; 4],
    /// A, then B.
    pub sides: [Side<'a>; 2],
    /// Declares what it needs, and gives the result's coordinates for `product`, `row` and `col`.
    pub result: &'a dyn Fn(&mut Shader) -> Vec<String>,
}

/// An operand.
pub struct Side<'a> {
    /// Its read port.
    pub port: usize,
    /// Whether neighbouring steps of k are neighbours in memory, rather than neighbouring rows or columns.
    pub k_first: bool,
    /// Declares what it needs, and gives the element for `product`, a row or column `o`, and a step `k`, with the
    /// condition that there is one; it counts as zero elsewhere.
    pub address: &'a dyn Fn(&mut Shader) -> (Option<String>, String),
}

/// Adds the launches.
pub fn build(b: &mut Builder, sums: &Sums<'_>, tiles: &Tiles) -> Result<()> {
    let [count, m, n, k] = sums.shape;
    let ([block_m, block_n], [each_m, each_n]) = (tiles.block, tiles.each);
    let (depth, lanes) = (tiles.shared.unwrap_or(1), tiles.lanes());
    let (threads_m, threads_n) = (block_m / each_m, block_n / each_n);
    let [down, across] = tiles.blocks(m, n);
    let parts = (tiles.cuts > 1).then(|| Place::whole(b.scratch(tiles.cuts * count * m * n), DType::F32));
    let mut shader = Shader::new(lanes, sums.work.commits);
    let groups = across * down * count * tiles.cuts;
    let grid = Grid::of(groups);
    if parts.is_none() {
        write_finish(&mut shader, sums)?;
    }
    for (name, width) in [("sa", block_m), ("sb", block_n)] {
        shader.head.push_str(&format!("var<workgroup> {name}: array<f32, {}>;\n", depth * (width + PAD)));
    }
    shader.line(format!("let block = {};", Shader::group(grid)));
    if grid.groups[1] > 1 {
        // Whole workgroups, so that barriers stay uniform.
        shader.line(format!("if (block >= {groups}u) {{ return; }}"));
    }
    shader.line(format!("let cut = block / {}u;", across * down * count));
    shader.line(format!("let product = block / {}u % {count}u;", across * down));
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
    copy(&mut shader, sums, 0, [block_m, depth, lanes]);
    copy(&mut shader, sums, 1, [block_n, depth, lanes]);
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
    let total = count * m * n;
    for i in 0..each_m {
        for j in 0..each_n {
            let (r, c) =
                (format!("(row0 + ty + {})", i * threads_m), format!("(col0 + tx + {})", j * threads_n));
            let done = match &parts {
                None => format!("finish(c{i}_{j}, product, {r}, {c});"),
                Some(parts) => {
                    let array = shader.bind(parts, true);
                    let at = format!("i32(cut) * {total} + (i32(product) * {m} + {r}) * {n} + {c}");
                    format!("{array}[{}] = c{i}_{j};", parts.dense(&at))
                }
            };
            shader.line(format!("if ({r} < {m} && {c} < {n}) {{ {done} }}"));
        }
    }
    b.launch(shader, grid);
    match parts {
        Some(parts) => add_parts(b, sums, &parts, tiles.cuts),
        None => Ok(()),
    }
}

/// Adds the parts of all cuts in order, and finishes the sums.
fn add_parts(b: &mut Builder, sums: &Sums<'_>, parts: &Place, cuts: usize) -> Result<()> {
    let [count, m, n, _] = sums.shape;
    let total = count * m * n;
    let mut shader = Shader::new(LANES, sums.work.commits);
    write_finish(&mut shader, sums)?;
    let grid = one_each(&mut shader, total);
    let array = shader.bind(parts, false);
    shader.line("var sum = 0.0f;");
    let at = parts.dense(&format!("cut * {total} + i32(i)"));
    shader.line(format!("for (var cut = 0; cut < {cuts}; cut++) {{ sum = sum + {array}[{at}]; }}"));
    shader.line(format!("finish(sum, i / {}u, i32(i / {n}u % {m}u), i32(i % {n}u));", m * n));
    b.launch(shader, grid);
    Ok(())
}

/// Writes a function that finds a sum's coordinates and hands it to the epilogue.
fn write_finish(shader: &mut Shader, sums: &Sums<'_>) -> Result<()> {
    sums.epilogue.write(shader, sums.work)?;
    shader.function("fn finish(sum: f32, product: u32, row: i32, col: i32)", |shader| {
        let at = (sums.result)(shader);
        shader.line(sums.epilogue.call("sum", &at));
    });
    Ok(())
}

/// Copies a slab of an operand: `width` rows of A or columns of B, for `depth` steps of k, with zeros beyond the end.
fn copy(shader: &mut Shader, sums: &Sums<'_>, side: usize, [width, depth, lanes]: [usize; 3]) {
    let Side { port, k_first, address } = &sums.sides[side];
    let array = shader.bind(&sums.work.reads[*port].0, false);
    let (name, first, size) = [("sa", "row0", sums.shape[1]), ("sb", "col0", sums.shape[2])][side];
    // Neighbouring invocations copy neighbours in memory.
    shader.line(format!("for (var e = i32(lane); e < {}; e += {lanes}) {{", width * depth));
    let (w, s) = if *k_first {
        (format!("e / {depth}"), format!("e % {depth}"))
    } else {
        (format!("e % {width}"), format!("e / {width}"))
    };
    shader.line(format!("let w = {w}; let s = {s};"));
    shader.line(format!("let o = {first} + w; let k = k0 + s;"));
    let (inside, element) = address(shader);
    let inside = inside.map_or(String::new(), |inside| format!(" && {inside}"));
    shader.line("var v = 0.0f;");
    shader.line(format!("if (o < {size} && k < end{inside}) {{ v = {array}[{element}]; }}"));
    shader.line(format!("{name}[s * {} + w] = v;", width + PAD));
    shader.line("}");
}
