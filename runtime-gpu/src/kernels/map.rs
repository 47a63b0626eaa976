//! Elementwise work: one invocation an element, or four neighbours where they are one vector in memory.

use graphc_ir::error::Result;
use graphc_ir::program::Level;

use super::coordinates;
use super::nest::{Domain, Task};
use crate::code::Builder;
use crate::place::VECTOR;
use crate::wgsl::{Grid, Names, Shader, needed};

/// Adds the launch of a task without folds, but for those that are at hand.
pub fn build(b: &mut Builder, domain: &Domain<'_>, task: &Task) -> Result<()> {
    let (rows, cols) = (domain.row_count(), domain.col_count());
    let body = domain.body;
    // Values of one kind need no more invocations than there are of it.
    let roots = || task.stores.iter().map(|s| s.reg).chain(task.checks.iter().map(|c| c.0.reg));
    let level = roots().fold(Level::Scalar, |level, r| level.join(body.inst(r).level));
    let (many_rows, many_cols) =
        (matches!(level, Level::Row | Level::Elem), matches!(level, Level::Col | Level::Elem));
    let (rows, cols) = (if many_rows { rows } else { 1 }, if many_cols { cols } else { 1 });
    if rows * cols == 0 {
        return Ok(());
    }
    let sizes = domain.sizes();
    let elements = task.stores.iter().all(|s| body.inst(s.reg).level == Level::Elem);
    let vectors = std::env::var("GC_SCALAR").is_err()
        && many_cols
        && elements
        && task.downs.is_empty()
        && domain.takes_vectors(|_| false);
    let width = if vectors { VECTOR } else { 1 };
    let units = cols / width;
    let lanes = std::env::var("GC_LANES").ok().and_then(|v| v.parse().ok()).unwrap_or(b.caps().map_lanes());
    let each: usize = std::env::var("GC_EACH").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let each = if vectors && rows * units >= 1 << 20 { each } else { 1 };
    let mut shader = Shader::new(lanes, domain.commits);
    let grid = Grid::of((rows * units).div_ceil(lanes * each));
    let leaves = task.leaves(&mut shader, body)?;
    let names = if vectors { domain.neighbours(|i| leaves.contains_key(&i)) } else { Names::single() };
    shader.line(format!("let first = {} * {}u + lane;", Shader::group(grid), lanes * each));
    let mut printers = Vec::new();
    for u in 0..each {
        let tag = if each > 1 { format!("e{u}") } else { String::new() };
        shader.line(format!("let i{tag} = first + {}u;", u * lanes));
        shader.line(if each > 1 {
            format!(
                "let in{tag} = i{tag} < {}u; let j{tag} = min(i{tag}, {}u);",
                rows * units,
                rows * units - 1
            )
        } else {
            format!("if (i >= {}u) {{ return; }} let j = i;", rows * units)
        });
        let (row, col) = match (rows, units) {
            (_, 1) => (format!("j{tag}"), "0u".to_owned()),
            (1, _) => ("0u".to_owned(), format!("j{tag} * {width}u")),
            _ => (format!("j{tag} / {units}u"), format!("j{tag} % {units}u * {width}u")),
        };
        shader.line(format!("let row{tag} = {row};"));
        shader.line(format!("let col{tag} = {col};"));
        let zeros = |sizes: &[usize]| vec!["0".to_owned(); sizes.len()];
        let mut at = if many_rows {
            coordinates(&mut shader, &format!("r{tag}_"), &format!("row{tag}"), &domain.rows)
        } else {
            zeros(&domain.rows)
        };
        at.extend(if many_cols {
            coordinates(&mut shader, &format!("c{tag}_"), &format!("col{tag}"), &domain.cols)
        } else {
            zeros(&domain.cols)
        });
        let mut printer = domain.printer(&sizes, at, &leaves);
        printer.names =
            if each > 1 { names.tagged(tag.clone(), vec![true; body.insts.len()]) } else { names.clone() };
        printers.push((printer, tag));
    }
    for i in needed(body, roots(), &|_| false, &leaves) {
        for (printer, _) in &printers {
            let text = printer.print(&mut shader, &[i])?;
            shader.main.push_str(&text);
        }
    }
    for (printer, tag) in &printers {
        let inside = (each > 1).then(|| format!("in{tag}"));
        for (check, failure) in &task.checks {
            let fail = shader.fail(*failure);
            shader.line(format!("if (!({})) {{ {fail} }}", printer.all(check.reg)));
        }
        for store in &task.stores {
            let line = printer.store(&mut shader, store);
            let first = match body.inst(store.reg).level {
                Level::Elem => inside.as_deref(),
                Level::Row if cols > 1 => Some("col == 0u"),
                Level::Col if rows > 1 => Some("row == 0u"),
                Level::Scalar if rows * cols > 1 => Some("i == 0u"),
                _ => None,
            };
            shader.line(match first {
                Some(first) => format!("if ({first}) {{ {line} }}"),
                None => line,
            });
        }
    }
    b.launch(shader, grid);
    Ok(())
}
