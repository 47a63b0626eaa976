//! Row clusters: the lanes of a workgroup share a row, fold it as often as the body asks, and make its results.

use graphc_ir::error::Result;
use graphc_ir::program::{FoldAxis, InstOp, Level, Reg};

use super::coordinates;
use super::nest::{Domain, Task};
use crate::code::Builder;
use crate::wgsl::{FoldCode, Grid, Leaf, Shader, needed};
use crate::words::Word;

/// Lanes that share a row, at most.
const MAX_LANES: usize = 256;
/// Lanes of a workgroup, at least: several short rows share one.
const MIN_LANES: usize = 64;

/// Adds the launch of a task that folds rows. The body's other folds, if any, are at hand.
pub fn build(b: &mut Builder, domain: &Domain<'_>, task: &Task) -> Result<()> {
    let (rows, cols) = (domain.row_count(), domain.col_count());
    if rows == 0 {
        return Ok(());
    }
    let body = domain.body;
    let width = cols.next_power_of_two().clamp(1, MAX_LANES);
    let lanes = width.max(MIN_LANES);
    let together = lanes / width;
    let mut shader = Shader::new(lanes, domain.commits);
    let grid = Grid::of(rows.div_ceil(together));
    let group = Shader::group(grid);
    if grid.groups[1] > 1 {
        // Whole workgroups, so that barriers stay uniform.
        shader.line(format!("if ({group} * {together}u >= {rows}u) {{ return; }}"));
    }
    shader.line(format!("let slot = lane % {width}u;"));
    shader.line(format!("let place = {group} * {together}u + lane / {width}u;"));
    // Lanes without a row go through the motions of the last one, and store nothing.
    shader.line(format!("let live = place < {rows}u;"));
    shader.line(format!("let row = min(place, {}u);", rows - 1));
    let row_at = coordinates(&mut shader, "r", "row", &domain.rows);
    let leaves = task.leaves(&mut shader, body)?;

    let depth = depths(domain, &leaves);
    let roots: Vec<Reg> = task
        .stores
        .iter()
        .map(|s| s.reg)
        .chain(task.checks.iter().map(|c| c.0.reg))
        .chain(task.kept.iter().map(|k| Reg(k.0 as u32)))
        .collect();
    let all = needed(body, roots.iter().copied(), &|_| false, &leaves);
    let fold = |i: usize| Some((i, FoldCode::of(&body.insts[i], FoldAxis::Cols)?));
    let folds: Vec<(usize, FoldCode)> =
        all.iter().filter(|i| !leaves.contains_key(i)).filter_map(|i| fold(*i)).collect();
    let passes = folds.iter().map(|(i, _)| depth[*i]).max().unwrap_or(0);
    let sizes = domain.sizes();
    let by_row = |i: usize| matches!(body.insts[i].level, Level::Row | Level::Scalar);
    let mut known = vec![false; body.insts.len()];
    let mut shared: Vec<Word> = Vec::new();
    for pass in 0..=passes {
        // What does not change along the row comes before the loop.
        let ready: Vec<usize> = all
            .iter()
            .copied()
            .filter(|i| by_row(*i) && !known[*i] && depth[*i] <= pass)
            .filter(|i| folds.iter().all(|(fold, _)| fold != i))
            .collect();
        let (leaf_rows, leaf_cols): (Vec<String>, Vec<String>) =
            (row_at.clone(), vec!["0".to_owned(); domain.cols.len()]);
        let outside = domain.printer(&sizes, [leaf_rows.clone(), leaf_cols].concat(), &leaves);
        let text = outside.print(&mut shader, &ready)?;
        shader.main.push_str(&text);
        ready.iter().for_each(|i| known[*i] = true);

        let now: Vec<(usize, FoldCode)> =
            folds.iter().copied().filter(|(i, _)| depth[*i] == pass + 1).collect();
        for (i, code) in &now {
            shader.line(code.declare(&format!("f{i}"))?);
        }
        let last = pass == passes;
        let wanted: Vec<Reg> = if last {
            roots.iter().copied().filter(|r| !by_row(r.index())).collect()
        } else {
            now.iter().map(|(i, _)| body.insts[*i].args[0]).collect()
        };
        if !wanted.is_empty() {
            shader.line(format!("for (var col = slot; col < {cols}u; col += {width}u) {{"));
            let col_at = coordinates(&mut shader, "c", "col", &domain.cols);
            let inside = domain.printer(&sizes, [leaf_rows, col_at].concat(), &leaves);
            let insts = needed(body, wanted, &|i| known[i], &leaves);
            let text = inside.print(&mut shader, &insts)?;
            shader.main.push_str(&text);
            if last {
                for (check, failure) in task.checks.iter().filter(|c| !by_row(c.0.reg.index())) {
                    let fail = shader.fail(*failure);
                    shader.line(format!("if (live && !v{}) {{ {fail} }}", check.reg.index()));
                }
                for store in task.stores.iter().filter(|s| !by_row(s.reg.index())) {
                    let line = inside.store(&mut shader, store);
                    let first = if body.inst(store.reg).level == Level::Col { "place == 0u" } else { "live" };
                    shader.line(format!("if ({first}) {{ {line} }}"));
                }
            } else {
                for (i, code) in &now {
                    let x = format!("v{}", body.insts[*i].args[0].index());
                    shader.line(code.take(&format!("f{i}"), &x));
                }
            }
            shader.line("}");
        }
        for (i, code) in &now {
            if width > 1 {
                merge_lanes(&mut shader, *code, *i, width, &mut shared);
            }
            shader.line(format!("let v{i} = {};", code.result(&format!("f{i}"))));
            known[*i] = true;
        }
    }
    for (check, failure) in task.checks.iter().filter(|c| by_row(c.0.reg.index())) {
        let fail = shader.fail(*failure);
        shader.line(format!("if (live && slot == 0u && !v{}) {{ {fail} }}", check.reg.index()));
    }
    let at = [row_at, vec!["0".to_owned(); domain.cols.len()]].concat();
    let printer = domain.printer(&sizes, at, &leaves);
    for store in task.stores.iter().filter(|s| by_row(s.reg.index())) {
        let line = printer.store(&mut shader, store);
        let first = if body.inst(store.reg).level == Level::Scalar { "place == 0u" } else { "live" };
        shader.line(format!("if ({first} && slot == 0u) {{ {line} }}"));
    }
    for (inst, place) in &task.kept {
        let array = shader.bind(place, true);
        shader.line(format!("if (live && slot == 0u) {{ {array}[{}] = v{inst}; }}", place.dense("i32(row)")));
    }
    for (n, word) in shared.iter().enumerate() {
        shader.head.push_str(&format!("var<workgroup> w{n}: array<{}, {lanes}>;\n", word.name()));
    }
    b.launch(shader, grid);
    Ok(())
}

/// How many folds along rows each instruction lies behind.
fn depths(domain: &Domain<'_>, leaves: &Leaf) -> Vec<usize> {
    let body = domain.body;
    let mut depth = vec![0; body.insts.len()];
    for (i, inst) in body.insts.iter().enumerate() {
        if leaves.contains_key(&i) {
            continue;
        }
        depth[i] = inst.args.iter().map(|r| depth[r.index()]).max().unwrap_or(0);
        if matches!(inst.op, InstOp::Fold(_, FoldAxis::Cols)) {
            depth[i] += 1;
        }
    }
    depth
}

/// Merges the states of the lanes of a row, always in the same order; every lane has the result.
fn merge_lanes(shader: &mut Shader, code: FoldCode, i: usize, width: usize, shared: &mut Vec<Word>) {
    let mut arrays = Vec::new();
    for (field, word) in code.fields() {
        let used = arrays.iter().map(|(_, n)| *n).collect::<Vec<usize>>();
        let free = (0..shared.len()).find(|n| shared[*n] == word && !used.contains(n));
        let n = free.unwrap_or_else(|| {
            shared.push(word);
            shared.len() - 1
        });
        arrays.push((field, n));
    }
    for (field, n) in &arrays {
        shader.line(format!("w{n}[lane] = f{i}{field};"));
    }
    shader.line("workgroupBarrier();");
    shader.line(format!("for (var half = {}u; half > 0u; half = half >> 1u) {{", width / 2));
    shader.line("    if (slot < half) {");
    let other = |field: &str| {
        let n = arrays.iter().find(|(f, _)| *f == field).map_or(0, |(_, n)| *n);
        format!("w{n}[lane + half]")
    };
    shader.line(format!("        {}", code.merge(&format!("f{i}"), &other)));
    for (field, n) in &arrays {
        shader.line(format!("        w{n}[lane] = f{i}{field};"));
    }
    shader.line("    }");
    shader.line("    workgroupBarrier();");
    shader.line("}");
    for (field, n) in &arrays {
        shader.line(format!("f{i}{field} = w{n}[lane - slot];"));
    }
    shader.line("workgroupBarrier();");
}
