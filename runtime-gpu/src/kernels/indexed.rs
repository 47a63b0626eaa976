//! Kernels whose addresses are data: the index of an extreme, rows by index, sums by index.

use std::ops::Range;

use graphc_ir::error::Result;

use super::{LANES, Port, Work, coordinates, one_each};
use crate::code::Builder;
use crate::wgsl::{Grid, Shader, repeat, rounded};
use crate::words::Word;

/// Lanes that share a row of an arg-reduction, at most, and columns of each, at least.
const ROW_LANES: usize = 256;
const MIN_COLUMNS: usize = 4;
/// Turns of a lane from which on it compares several elements in each, and how many.
const TURNS: usize = 4096;
const AT_ONCE: usize = 8;

/// The index of the first largest or smallest element of each row; NaN wins.
pub fn arg_reduce(b: &mut Builder, work: &Work, max: bool, rows: &[usize], cols: usize) -> Result<()> {
    let count: usize = rows.iter().product();
    if count == 0 {
        return Ok(());
    }
    let width = (cols / MIN_COLUMNS).next_power_of_two().clamp(1, ROW_LANES);
    let lanes = width.max(LANES);
    let together = lanes / width;
    let mut shader = Shader::new(lanes, work.commits);
    let grid = Grid::of(count.div_ceil(together));
    let group = Shader::group(grid);
    if grid.groups[1] > 1 {
        // Whole workgroups, so that barriers stay uniform.
        shader.line(format!("if ({group} * {together}u >= {count}u) {{ return; }}"));
    }
    shader.line(format!("let slot = lane % {width}u;"));
    shader.line(format!("let place = {group} * {together}u + lane / {width}u;"));
    shader.line(format!("let i = min(place, {}u);", count - 1));
    let at = coordinates(&mut shader, "r", "i", rows);
    let (place, view) = &work.reads[0];
    let array = shader.bind(place, false);
    let element = |j: &str| format!("{array}[{}]", place.element(view, &[&at[..], &[j.into()]].concat()));
    let beats = if max { ">" } else { "<" };
    let better = if place.dtype.is_float() {
        format!(
            "(gc_is_nan(x) && (!gc_is_nan(best) || j < winner)) || (!gc_is_nan(x) && !gc_is_nan(best) && \
             (x {beats} best || (x == best && j < winner)))"
        )
    } else {
        format!("x {beats} best || (x == best && j < winner)")
    };
    shader.line("var winner = i32(slot);");
    shader.line(format!("var best = {};", element("winner")));
    // Of a long row several elements are compared in a turn.
    let at_once = if cols / width > TURNS { AT_ONCE } else { 1 };
    let step = width * at_once;
    let head = format!("var first = i32(slot) + {width}; first < {cols}; first += {step}");
    shader.line(repeat(&head, cols.div_ceil(step)));
    for n in 0..at_once {
        let inside = if n > 0 { format!("j < {cols} && ") } else { String::new() };
        let place = if n > 0 { format!("min(j, {})", cols - 1) } else { "j".to_owned() };
        shader.line(format!("    {{ let j = first + {}; let x = {};", n * width, element(&place)));
        shader.line(format!("    if ({inside}({better})) {{ best = x; winner = j; }} }}"));
    }
    shader.line("}");
    if width > 1 {
        let word = Word::of(place.dtype).unwrap_or(Word::F32).name();
        shader.head.push_str(&format!("var<workgroup> values: array<{word}, {lanes}>;\n"));
        shader.head.push_str(&format!("var<workgroup> winners: array<i32, {lanes}>;\n"));
        shader.line("values[lane] = best; winners[lane] = winner;");
        shader.line("workgroupBarrier();");
        let head = format!("var half = {}u; half > 0u; half = half >> 1u", width / 2);
        shader.line(repeat(&head, width.ilog2() as usize));
        shader.line("    if (slot < half) {");
        shader.line("        let x = values[lane + half]; let j = winners[lane + half];");
        shader.line(format!("        if ({better}) {{ best = x; winner = j; }}"));
        shader.line("        values[lane] = best; winners[lane] = winner;");
        shader.line("    }");
        shader.line("    workgroupBarrier();");
        shader.line("}");
    }
    let (place, view) = &work.writes[0];
    let out = shader.bind(place, true);
    let done = format!("{out}[{}] = winner;", place.element(view, &at));
    shader.line(format!("if (slot == 0u && place < {count}u) {{ {done} }}"));
    b.launch(shader, grid);
    Ok(())
}

/// `out[o, i, n] = x[o, idx[i], n]`. A piece with a part of the axis leaves alone what is elsewhere.
pub fn gather(b: &mut Builder, work: &Work, [outer, axis, inner, count]: [usize; 4]) {
    let total = outer * count * inner;
    if total == 0 {
        return check_indices(b, work, axis, count);
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, total);
    let at = coordinates(&mut shader, "x", "i", &[outer, count, inner]);
    let (x, idx) = (shader.bind(&work.reads[0].0, false), shader.bind(&work.reads[1].0, false));
    let out = shader.bind(&work.writes[0].0, true);
    let fail = work.failures.first().map(|f| shader.fail(*f)).unwrap_or_default();
    shader.line(format!("let index = i32({idx}[{}]);", element(&work.reads[1], [&at[1]])));
    shader.line(format!("if (index < 0 || index >= {axis}) {{ {fail} return; }}"));
    let part = part(work, axis);
    if part.len() < axis {
        shader.line(format!("if (index < {} || index >= {}) {{ return; }}", part.start, part.end));
    }
    let own = format!("(index - {})", part.start);
    let from = element(&work.reads[0], [&at[0], if part.start > 0 { &own } else { "index" }, &at[2]]);
    let to = element(&work.writes[0], [&at[0], &at[1], &at[2]]);
    shader.line(format!("{out}[{to}] = {x}[{from}];"));
    b.launch(shader, grid);
}

/// `out = base; out[o, idx[i], n] += upd[o, i, n]` in the order of the indices, each sum by one invocation.
pub fn scatter_add(b: &mut Builder, work: &Work, [outer, axis, inner, count]: [usize; 4]) {
    let part = part(work, axis);
    let total = outer * part.len() * inner;
    if total == 0 {
        return check_indices(b, work, axis, count);
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, total);
    let at = coordinates(&mut shader, "x", "i", &[outer, part.len(), inner]);
    let base = shader.bind(&work.reads[0].0, false);
    let (idx, upd) = (shader.bind(&work.reads[1].0, false), shader.bind(&work.reads[2].0, false));
    let out = shader.bind(&work.writes[0].0, true);
    let fail = work.failures.first().map(|f| shader.fail(*f)).unwrap_or_default();
    shader.line(format!("var sum = {base}[{}];", element(&work.reads[0], [&at[0], &at[1], &at[2]])));
    shader.line(repeat(&format!("var j = 0; j < {count}; j++"), count));
    shader.line(format!("    let index = i32({idx}[{}]);", element(&work.reads[1], ["j"])));
    shader.line(format!("    if (index < 0 || index >= {axis}) {{ {fail} return; }}"));
    let from = element(&work.reads[2], [&at[0], "j", &at[2]]);
    let own = if part.start > 0 { format!("{} + {}", at[1], part.start) } else { at[1].clone() };
    shader.line(format!("    if (index == {own}) {{ sum = sum + {upd}[{from}]; }}"));
    shader.line("}");
    let to = element(&work.writes[0], [&at[0], &at[1], &at[2]]);
    shader.line(format!("{out}[{to}] = {};", rounded(work.writes[0].0.dtype, "sum")));
    b.launch(shader, grid);
}

/// The part of the axis that is looked up.
fn part(work: &Work, axis: usize) -> Range<usize> {
    work.looked_up.clone().unwrap_or(0..axis)
}

fn element<const N: usize>((place, view): &Port, at: [&str; N]) -> String {
    place.element(view, &at.map(str::to_owned))
}

/// A bad index fails the run, even where no element depends on it.
fn check_indices(b: &mut Builder, work: &Work, axis: usize, count: usize) {
    if count == 0 {
        return;
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, count);
    let idx = shader.bind(&work.reads[1].0, false);
    let fail = work.failures.first().map(|f| shader.fail(*f)).unwrap_or_default();
    shader.line(format!("let index = i32({idx}[{}]);", element(&work.reads[1], ["i32(i)"])));
    shader.line(format!("if (index < 0 || index >= {axis}) {{ {fail} }}"));
    b.launch(shader, grid);
}
