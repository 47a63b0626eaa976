//! Kernels whose addresses are data: the index of an extreme, rows by index, sums by index.

use graphc_ir::error::Result;

use super::{LANES, Work, coordinates, one_each};
use crate::code::Builder;
use crate::wgsl::Shader;

/// The index of the first largest or smallest element of each row; NaN wins.
pub fn arg_reduce(b: &mut Builder, work: &Work<'_>, max: bool, rows: &[usize], cols: usize) -> Result<()> {
    let count: usize = rows.iter().product();
    if count == 0 {
        return Ok(());
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, count);
    let at = coordinates(&mut shader, "r", "i", rows);
    let (place, view) = &work.reads[0];
    let array = shader.bind(place, false);
    let element = |j: &str| format!("{array}[{}]", place.element(view, &[&at[..], &[j.into()]].concat()));
    let beats = if max { ">" } else { "<" };
    let better = if place.dtype.is_float() {
        format!("!gc_is_nan(best) && (gc_is_nan(x) || x {beats} best)")
    } else {
        format!("x {beats} best")
    };
    shader.line("var winner = 0;");
    shader.line(format!("var best = {};", element("0")));
    shader.line(format!("for (var j = 1; j < {cols}; j++) {{"));
    shader.line(format!("    let x = {};", element("j")));
    shader.line(format!("    if ({better}) {{ best = x; winner = j; }}"));
    shader.line("}");
    let (place, view) = &work.writes[0];
    let out = shader.bind(place, true);
    shader.line(format!("{out}[{}] = winner;", place.element(view, &at)));
    b.launch(shader, grid);
    Ok(())
}

/// `out[o, i, n] = x[o, idx[i], n]`.
pub fn gather(b: &mut Builder, work: &Work<'_>, [outer, axis, inner, count]: [usize; 4]) {
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
    shader.line(format!("let index = i32({idx}[{}]);", work.reads[1].0.dense(&at[1])));
    shader.line(format!("if (index < 0 || index >= {axis}) {{ {fail} return; }}"));
    let from = work.reads[0].0.dense(&format!("({} * {axis} + index) * {inner} + {}", at[0], at[2]));
    shader.line(format!("{out}[{}] = {x}[{from}];", work.writes[0].0.dense("i32(i)")));
    b.launch(shader, grid);
}

/// `out = base; out[o, idx[i], n] += upd[o, i, n]` in the order of the indices, each sum by one invocation.
pub fn scatter_add(b: &mut Builder, work: &Work<'_>, [outer, axis, inner, count]: [usize; 4]) {
    let total = outer * axis * inner;
    if total == 0 {
        return check_indices(b, work, axis, count);
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, total);
    let at = coordinates(&mut shader, "x", "i", &[outer, axis, inner]);
    let base = shader.bind(&work.reads[0].0, false);
    let (idx, upd) = (shader.bind(&work.reads[1].0, false), shader.bind(&work.reads[2].0, false));
    let out = shader.bind(&work.writes[0].0, true);
    let fail = work.failures.first().map(|f| shader.fail(*f)).unwrap_or_default();
    shader.line(format!("var sum = {base}[{}];", work.reads[0].0.dense("i32(i)")));
    shader.line(format!("for (var j = 0; j < {count}; j++) {{"));
    shader.line(format!("    let index = i32({idx}[{}]);", work.reads[1].0.dense("j")));
    shader.line(format!("    if (index < 0 || index >= {axis}) {{ {fail} return; }}"));
    let from = work.reads[2].0.dense(&format!("({} * {count} + j) * {inner} + {}", at[0], at[2]));
    shader.line(format!("    if (index == {}) {{ sum = sum + {upd}[{from}]; }}", at[1]));
    shader.line("}");
    shader.line(format!("{out}[{}] = sum;", work.writes[0].0.dense("i32(i)")));
    b.launch(shader, grid);
}

/// A bad index fails the run, even where no element depends on it.
fn check_indices(b: &mut Builder, work: &Work<'_>, axis: usize, count: usize) {
    if count == 0 {
        return;
    }
    let mut shader = Shader::new(LANES, work.commits);
    let grid = one_each(&mut shader, count);
    let idx = shader.bind(&work.reads[1].0, false);
    let fail = work.failures.first().map(|f| shader.fail(*f)).unwrap_or_default();
    shader.line(format!("let index = i32({idx}[{}]);", work.reads[1].0.dense("i32(i)")));
    shader.line(format!("if (index < 0 || index >= {axis}) {{ {fail} }}"));
    b.launch(shader, grid);
}
