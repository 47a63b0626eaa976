//! Row clusters: the lanes of a workgroup share a row, fold it as often as the body asks, and make its results.

use graphc_ir::error::Result;
use graphc_ir::program::{FoldAxis, InstOp, Level, Reg, Store};

use super::coordinates;
use super::nest::{Domain, Task};
use crate::caps::{Class, GpuCaps};
use crate::code::Builder;
use crate::place::VECTOR;
use crate::wgsl::{FoldCode, Grid, Leaf, Names, Shader, needed, repeat};
use crate::words::Word;

/// Lanes that share a row where each goes along it in a loop, at most.
const MAX_LANES: usize = 256;
/// Lanes of a workgroup, at least: several short rows share one.
const MIN_LANES: usize = 64;
/// Elements of a row that a lane keeps, at most.
const MAX_KEPT: usize = 16;
/// Lanes that share a row before each takes more than one element or vector.
const WARP: usize = 32;

/// How the lanes of a workgroup share a row.
struct Shares {
    /// Elements that a lane computes at once.
    vector: usize,
    /// Lanes of a row.
    width: usize,
    /// How often a lane computes, if all that it loads and computes is kept from fold to fold; else it goes along the row
    /// in a loop, again for each fold.
    kept: Option<usize>,
}

impl Shares {
    /// `apart` says that what is computed of a column is not kept.
    fn of(caps: &GpuCaps, cols: usize, vectors: bool, apart: bool) -> Shares {
        let looping = Shares { vector: 1, width: cols.next_power_of_two().clamp(1, MAX_LANES), kept: None };
        if caps.class == Class::Software || cols == 0 || apart {
            return looping;
        }
        let vector = if vectors { VECTOR } else { 1 };
        let (units, most) = (cols / vector, MAX_KEPT / vector);
        let lanes = caps.workgroup_lanes.min(1024);
        let wanted = units.next_power_of_two().min(WARP.max(units.div_ceil(most).next_power_of_two()));
        if wanted > lanes {
            return Shares { vector, width: lanes.min(MAX_LANES), kept: None };
        }
        Shares { vector, width: wanted, kept: Some(units.div_ceil(wanted)) }
    }
}

/// One of the times that a lane computes.
#[derive(Clone)]
struct Unit {
    names: Names,
    coordinates: Vec<String>,
    /// The condition that there is such a column, if not always.
    inside: Option<String>,
}

/// Adds the launch of a task that folds rows. The body's other folds, if any, are at hand.
pub fn build(b: &mut Builder, domain: &Domain<'_>, task: &Task) -> Result<()> {
    let (rows, cols) = (domain.row_count(), domain.col_count());
    if rows == 0 {
        return Ok(());
    }
    let (body, sizes) = (domain.body, domain.sizes());
    let by_row = |i: usize| matches!(body.insts[i].level, Level::Row | Level::Scalar);
    let narrow = |s: &Store| by_row(s.reg.index());
    let vectors = task.downs.is_empty() && domain.takes_vectors(narrow);
    // What was folded down a column is read where the column is at hand.
    let shares = Shares::of(b.caps(), cols, vectors, !task.downs.is_empty());
    let Shares { vector, width, kept } = shares;
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
    let names = match vector {
        1 => Names::single(),
        _ => domain.neighbours(|i| by_row(i) || leaves.contains_key(&i)),
    };

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
    let printer_at = |at: &[String], names: Names| {
        let mut printer = domain.printer(&sizes, [&row_at[..], at].concat(), &leaves);
        printer.names = names;
        printer
    };
    let units: Option<Vec<Unit>> = kept.map(|count| {
        let of_unit = |e: usize| {
            shader.line(format!("let p{e} = (slot + {}u) * {vector}u;", e * width));
            // Lanes without a column go through the motions of the last one.
            let partial = (e + 1) * width * vector > cols;
            let inside = partial.then(|| format!("p{e} < {cols}u"));
            let col = if partial { format!("min(p{e}, {}u)", cols - vector) } else { format!("p{e}") };
            shader.line(format!("let col{e} = {col};"));
            let coordinates = coordinates(&mut shader, &format!("c{e}_"), &format!("col{e}"), &domain.cols);
            let apart = (0..body.insts.len()).map(|i| !by_row(i) && !leaves.contains_key(&i)).collect();
            Unit { names: names.tagged(format!("e{e}"), apart), coordinates, inside }
        };
        (0..count).map(of_unit).collect()
    });
    let zeros = vec!["0".to_owned(); domain.cols.len()];
    let mut known = vec![false; body.insts.len()];
    let mut shared: Vec<Word> = Vec::new();
    for pass in 0..=passes {
        // What does not change along the row comes before the columns.
        let ready: Vec<usize> = all
            .iter()
            .copied()
            .filter(|i| by_row(*i) && !known[*i] && depth[*i] <= pass)
            .filter(|i| folds.iter().all(|(fold, _)| fold != i))
            .collect();
        let text = printer_at(&zeros, Names::single()).print(&mut shader, &ready)?;
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
        let insts = needed(body, wanted.iter().copied(), &|i| known[i], &leaves);
        let compute = |shader: &mut Shader, unit: Unit| -> Result<()> {
            let inside = printer_at(&unit.coordinates, unit.names);
            let text = inside.print(shader, &insts)?;
            shader.main.push_str(&text);
            if last {
                let also = |condition: &str| match &unit.inside {
                    Some(inside) => format!("{condition} && {inside}"),
                    None => condition.to_owned(),
                };
                for (check, failure) in task.checks.iter().filter(|c| !by_row(c.0.reg.index())) {
                    let fail = shader.fail(*failure);
                    let holds = inside.all(check.reg);
                    shader.line(format!("if ({} && !({holds})) {{ {fail} }}", also("live")));
                }
                for store in task.stores.iter().filter(|s| !by_row(s.reg.index())) {
                    let line = inside.store(shader, store);
                    let first = if body.inst(store.reg).level == Level::Col { "place == 0u" } else { "live" };
                    shader.line(format!("if ({}) {{ {line} }}", also(first)));
                }
                return Ok(());
            }
            let mut taken = String::new();
            for (i, code) in &now {
                for lane in 0..vector {
                    let x = inside.names.of(body.insts[*i].args[0].index(), lane);
                    taken.push_str(&code.take(&format!("f{i}"), &x));
                }
            }
            shader.line(match &unit.inside {
                Some(inside) => format!("if ({inside}) {{ {taken} }}"),
                None => taken,
            });
            Ok(())
        };
        if let (Some(units), false) = (&units, wanted.is_empty()) {
            for unit in units {
                compute(&mut shader, unit.clone())?;
            }
            insts.iter().for_each(|i| known[*i] = true);
        } else if !wanted.is_empty() {
            let (first, step) = (format!("slot * {vector}u"), width * vector);
            let head = format!("var col = {first}; col < {cols}u; col += {step}u");
            shader.line(repeat(&head, cols.div_ceil(step)));
            let coordinates = coordinates(&mut shader, "c", "col", &domain.cols);
            compute(&mut shader, Unit { names: names.clone(), coordinates, inside: None })?;
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
    let printer = printer_at(&zeros, Names::single());
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
    let put = |shader: &mut Shader| {
        for (field, n) in &arrays {
            shader.line(format!("w{n}[lane] = f{i}{field};"));
        }
        shader.line("workgroupBarrier();");
    };
    let merge = |shader: &mut Shader, from: &str, stride: usize, count: usize| {
        let other = |field: &str| {
            let n = arrays.iter().find(|(f, _)| *f == field).map_or(0, |(_, n)| *n);
            format!("w{n}[{from} + j * {stride}u]")
        };
        let step = code.merge(&format!("f{i}"), &other);
        let head = repeat(&format!("var j = 1u; j < {count}u; j++"), count - 1);
        shader.line(format!("{head} {step} }}"));
    };
    // Some lanes merge the states of all, and every lane the results of those: few barriers, and no more work than a tree
    // has steps.
    put(shader);
    let some = 1 << width.ilog2().div_ceil(2);
    if some < width {
        shader.line(format!("if (slot < {some}u) {{"));
        merge(shader, "lane", some, width / some);
        for (field, n) in &arrays {
            shader.line(format!("w{n}[lane] = f{i}{field};"));
        }
        shader.line("}");
        shader.line("workgroupBarrier();");
    }
    for (field, n) in &arrays {
        shader.line(format!("f{i}{field} = w{n}[lane - slot];"));
    }
    merge(shader, "lane - slot", 1, some.min(width));
    shader.line("workgroupBarrier();");
}
