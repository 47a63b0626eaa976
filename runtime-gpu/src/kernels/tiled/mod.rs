//! Sums of products over shared tiles: a workgroup copies a slab of both operands, and each invocation sums its rows and
//! columns from the copies. Where an operand's elements are is the caller's to say, so that products of matrices and
//! convolutions are one kernel.

mod side;

use graphc_ir::DType;
use graphc_ir::error::Result;

use super::tiles::Tiles;
use super::{Epilogue, LANES, Work, one_each};
use crate::caps::Class;
use crate::code::Builder;
use crate::place::{Place, VECTOR};
use crate::wgsl::{Grid, Shader, repeat};

use side::Copies;
pub use side::Side;

/// A batch of sums `y[row, col] = sum over k of a[row, k] * b[k, col]`, and what becomes of them.
pub struct Sums<'a> {
    pub work: &'a Work,
    pub epilogue: Epilogue<'a>,
    /// Members of the batch, rows, columns, and steps of k.
    pub shape: [usize; 4],
    /// A, then B.
    pub sides: [Side<'a>; 2],
    /// Declares what both sides need, once; the member of the batch is `product`.
    pub prepare: &'a dyn Fn(&mut Shader),
    /// Declares what it needs, and gives the result's coordinates for `product`, a row and `col`; names of variables end in
    /// the tag.
    pub result: &'a dyn Fn(&mut Shader, &str, &str) -> Vec<String>,
}

impl Sums<'_> {
    /// Whether invocations have groups of four neighbouring columns, and the epilogue can take them.
    fn in_vectors(&self) -> bool {
        !self.sides[1].k_first_copies() && self.epilogue.takes_vectors(self.work)
    }
}

/// Rows of an invocation that the epilogue takes at once.
const ROWS: usize = 4;

/// Invocations of a warp, down and across: what they load from the copies are few different vectors then.
const WARP: [usize; 2] = [4, 8];

/// Adds the launches.
pub fn build(b: &mut Builder, sums: &Sums<'_>, tiles: &Tiles) -> Result<()> {
    let [count, m, n, k] = sums.shape;
    let ([block_m, block_n], [each_m, each_n]) = (tiles.block, tiles.each);
    let (depth, lanes) = (tiles.shared.unwrap_or(VECTOR), tiles.lanes());
    let (threads_m, threads_n) = (block_m / each_m, block_n / each_n);
    let [down, across] = tiles.blocks(m, n);
    let vectors = sums.in_vectors();
    let parts = (tiles.cuts > 1).then(|| Place::whole(b.scratch(tiles.cuts * count * m * n), DType::F32));
    let mut shader = Shader::new(lanes, sums.work.commits);
    let groups = across * down * count * tiles.cuts;
    let grid = Grid::of(groups);
    // Loads of several rows are under way at once, where all rows are there.
    let whole = parts.is_none() && m.is_multiple_of(block_m) && sums.epilogue.loads();
    let rows = if whole { ROWS } else { 1 };
    if parts.is_none() {
        write_finish(&mut shader, sums, vectors, rows)?;
    }
    let copies = [0, 1].map(|side| Copies::new(sums, side, tiles));
    let halves = 1 + usize::from(tiles.ahead);
    for (name, copies) in ["sa", "sb"].iter().zip(&copies) {
        let vectors = halves * copies.vectors();
        shader.head.push_str(&format!("var<workgroup> {name}: array<vec4<f32>, {vectors}>;\n"));
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
    let (ty, tx) = if threads_n.is_multiple_of(WARP[1]) && threads_m.is_multiple_of(WARP[0]) {
        let (warp, warps) = (WARP[0] * WARP[1], threads_n / WARP[1]);
        (
            format!("lane / {warp}u / {warps}u * {}u + lane % {warp}u / {}u", WARP[0], WARP[1]),
            format!("lane / {warp}u % {warps}u * {}u + lane % {}u", WARP[1], WARP[1]),
        )
    } else {
        (format!("lane / {threads_n}u"), format!("lane % {threads_n}u"))
    };
    shader.line(format!("let ty = i32({ty});"));
    shader.line(format!("let tx = i32({tx});"));
    for i in 0..each_m {
        for j in 0..each_n {
            shader.line(format!("var c{i}_{j} = 0.0f;"));
        }
    }
    let share = k.div_ceil(tiles.cuts).next_multiple_of(depth);
    shader.line(format!("let first = i32(cut) * {share};"));
    shader.line(format!("let end = min(first + {share}, {k});"));
    (sums.prepare)(&mut shader);
    let outer = [0, 1].map(|side| copies[side].declare(&mut shader));
    let read = |shader: &mut Shader, k: &str| {
        for (copies, outer) in copies.iter().zip(&outer) {
            copies.read(shader, sums, outer, k);
        }
    };
    copies.iter().for_each(|copies| copies.variables(&mut shader));
    let bases = |half: &str| [0, 1].map(|side| format!("{half} * {} + ", copies[side].vectors()));
    let put = |shader: &mut Shader, bases: &[String; 2]| {
        copies.iter().zip(bases).for_each(|(copies, base)| copies.put(shader, base));
    };
    let whole = [String::new(), String::new()];
    let slabs = repeat(&format!("var k0 = first; k0 < end; k0 += {depth}"), share / depth);
    // Other drivers were not measured, and compiling takes its time.
    let written_out = b.caps().class == Class::Nvidia;
    if tiles.ahead {
        shader.line("var half = 0;");
        // The last cuts of a short k have no steps.
        shader.line("if (first < end) {");
        read(&mut shader, "first");
        put(&mut shader, &whole);
        shader.line("}");
        shader.line("workgroupBarrier();");
        shader.line(&slabs);
        shader.line(format!("if (k0 + {depth} < end) {{ let next = k0 + {depth};"));
        read(&mut shader, "next");
        shader.line("}");
        multiply(&mut shader, &copies, &bases("half"), tiles, written_out);
        shader.line("half = 1 - half;");
        shader.line(format!("if (k0 + {depth} < end) {{"));
        put(&mut shader, &bases("half"));
        shader.line("}");
        shader.line("workgroupBarrier();");
        shader.line("}");
    } else {
        shader.line(&slabs);
        read(&mut shader, "k0");
        put(&mut shader, &whole);
        shader.line("workgroupBarrier();");
        multiply(&mut shader, &copies, &whole, tiles, written_out);
        shader.line("workgroupBarrier();");
        shader.line("}");
    }
    finish(&mut shader, sums, &copies, tiles, parts.as_ref(), (vectors, rows));
    b.launch(shader, grid);
    match parts {
        Some(parts) => add_parts(b, sums, &parts, tiles.cuts, vectors),
        None => Ok(()),
    }
}

/// Hands an invocation's sums to the epilogue, so many rows at once, or stores them as a cut's part.
fn finish(
    shader: &mut Shader,
    sums: &Sums<'_>,
    copies: &[Copies<'_>; 2],
    tiles: &Tiles,
    parts: Option<&Place>,
    (vectors, rows): (bool, usize),
) {
    let [count, m, n, _] = sums.shape;
    let [each_m, each_n] = tiles.each;
    let (threads_m, threads_n) = (tiles.block[0] / each_m, tiles.block[1] / each_n);
    let total = count * m * n;
    let wide = if vectors { VECTOR } else { 1 };
    let sum = |i: usize, j: usize| {
        let own: Vec<String> = (j..j + wide).map(|j| format!("c{i}_{j}")).collect();
        if vectors { format!("vec4<f32>({})", own.join(", ")) } else { own[0].clone() }
    };
    for i in (0..each_m).step_by(rows) {
        for j in (0..each_n).step_by(wide) {
            let row = |i: usize| format!("(row0 + {})", copies[0].place(i, "ty", threads_m));
            let (r, c) = (row(i), format!("(col0 + {})", copies[1].place(j, "tx", threads_n)));
            let done = match parts {
                None => {
                    let several =
                        |f: &dyn Fn(usize) -> String| (i..i + rows).map(f).collect::<Vec<_>>().join(", ");
                    format!("finish({}, product, {}, {c});", several(&|i| sum(i, j)), several(&row))
                }
                Some(parts) => {
                    let number = format!("i32(cut) * {total} + (i32(product) * {m} + {r}) * {n} + {c}");
                    let (at, sum) = (parts.dense(&number), sum(i, j));
                    match vectors {
                        true => format!("{}[({at}) >> 2u] = {sum};", shader.bind_vectors(parts, true)),
                        false => format!("{}[{at}] = {sum};", shader.bind(parts, true)),
                    }
                }
            };
            shader.line(guarded(sums, tiles, &r, &c, done));
        }
    }
}

/// A statement for the elements that there are.
fn guarded(sums: &Sums<'_>, tiles: &Tiles, r: &str, c: &str, statement: String) -> String {
    let [_, m, n, _] = sums.shape;
    let mut inside = Vec::new();
    if !m.is_multiple_of(tiles.block[0]) {
        inside.push(format!("{r} < {m}"));
    }
    if !n.is_multiple_of(tiles.block[1]) {
        inside.push(format!("{c} < {n}"));
    }
    match inside.is_empty() {
        true => statement,
        false => format!("if ({}) {{ {statement} }}", inside.join(" && ")),
    }
}

/// Adds the products of a slab to the sums. Written out, the text has many steps one after the other, each loaded before the
/// one before it is summed.
fn multiply(
    shader: &mut Shader,
    copies: &[Copies<'_>; 2],
    bases: &[String; 2],
    tiles: &Tiles,
    written_out: bool,
) {
    let [each_m, each_n] = tiles.each;
    let shares = [("ty", tiles.block[0] / each_m, each_m), ("tx", tiles.block[1] / each_n, each_n)];
    let depth = tiles.shared.unwrap_or(VECTOR);
    let add = |shader: &mut Shader, s: usize| {
        for i in 0..each_m {
            for j in 0..each_n {
                // Back and forth: neighbouring products share an operand.
                let j = if i % 2 == 0 { j } else { each_n - 1 - j };
                let (x, y) = (copies[0].loaded(i, s), copies[1].loaded(j, s));
                shader.line(format!("c{i}_{j} = fma({x}, {y}, c{i}_{j});"));
            }
        }
    };
    if !written_out || copies.iter().any(|c| c.k_first) {
        let groups = depth / VECTOR;
        shader.line(repeat(&format!("var kk = 0; kk < {groups}; kk++"), groups));
        for ((copies, base), (first, apart, each)) in copies.iter().zip(bases).zip(shares) {
            copies.load(shader, base, first, apart, each);
        }
        (0..VECTOR).for_each(|s| add(shader, s));
        shader.line("}");
        return;
    }
    // All steps of a slab took 11 % off a product of 4096 x 4096 x 1024 on an H200. Where no vectors are turned, the driver
    // then reads the next slab too late (17 % slower); two halves in a loop keep it from that (10 % faster).
    let groups = if copies.iter().any(|c| c.turned) { 1 } else { 2 };
    let steps = depth / groups;
    let load = |shader: &mut Shader, s: usize| {
        for ((copies, base), share) in copies.iter().zip(bases).zip(shares) {
            copies.load_step(shader, base, &format!("kk * {steps} + {s}"), s, share);
        }
    };
    shader.line(match groups {
        1 => "{ let kk = 0;".to_owned(),
        _ => repeat(&format!("var kk = 0; kk < {groups}; kk++"), groups),
    });
    load(shader, 0);
    for s in 0..steps {
        if s + 1 < steps {
            load(shader, s + 1);
        }
        add(shader, s);
    }
    shader.line("}");
}

/// Adds the parts of all cuts in order, and finishes the sums.
fn add_parts(b: &mut Builder, sums: &Sums<'_>, parts: &Place, cuts: usize, vectors: bool) -> Result<()> {
    let [count, m, n, _] = sums.shape;
    let total = count * m * n;
    let width = if vectors { VECTOR } else { 1 };
    let mut shader = Shader::new(LANES, sums.work.commits);
    write_finish(&mut shader, sums, vectors, 1)?;
    let grid = one_each(&mut shader, total / width);
    let at = parts.dense(&format!("cut * {total} + i32(i * {width}u)"));
    let (array, zero, at) = match vectors {
        true => (shader.bind_vectors(parts, false), "vec4<f32>()", format!("({at}) >> 2u")),
        false => (shader.bind(parts, false), "0.0f", at),
    };
    shader.line(format!("var sum = {zero};"));
    let each = repeat(&format!("var cut = 0; cut < {cuts}; cut++"), cuts);
    shader.line(format!("{each} sum = sum + {array}[{at}]; }}"));
    let units = n / width;
    shader.line(format!(
        "finish(sum, i / {}u, i32(i / {units}u % {m}u), i32(i % {units}u * {width}u));",
        m * units
    ));
    b.launch(shader, grid);
    Ok(())
}

/// Writes a function that finds the coordinates of sums of so many rows and hands them to the epilogue: those of one column,
/// or of four neighbours if asked.
fn write_finish(shader: &mut Shader, sums: &Sums<'_>, vectors: bool, rows: usize) -> Result<()> {
    sums.epilogue.write_as(shader, sums.work, vectors, rows)?;
    let sum = if vectors { "vec4<f32>" } else { "f32" };
    let several =
        |name: &str, ty: &str| (0..rows).map(|r| format!("{name}{r}: {ty}")).collect::<Vec<_>>().join(", ");
    let declaration =
        format!("fn finish({}, product: u32, {}, col: i32)", several("sum", sum), several("row", "i32"));
    shader.function(&declaration, |shader| {
        let element = |r| (format!("sum{r}"), (sums.result)(shader, &format!("row{r}"), &format!("r{r}")));
        let elements: Vec<(String, Vec<String>)> = (0..rows).map(element).collect();
        shader.line(sums.epilogue.call_as(&elements));
    });
    Ok(())
}
