//! Elementwise work: one invocation an element, or four neighbours where they are one vector in memory.

use graphc_ir::error::Result;
use graphc_ir::program::Level;

use super::nest::{Domain, Task};
use super::{coordinates, one_each};
use crate::code::Builder;
use crate::place::VECTOR;
use crate::wgsl::{Shader, needed};

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
    let vectors = many_cols && elements && task.downs.is_empty() && domain.takes_vectors(|_| false);
    let width = if vectors { VECTOR } else { 1 };
    let mut shader = Shader::new(b.caps().map_lanes(), domain.commits);
    let grid = one_each(&mut shader, rows * cols / width);
    let units = cols / width;
    let (row, col) = match (rows, units) {
        (_, 1) => ("i".to_owned(), "0u".to_owned()),
        (1, _) => ("0u".to_owned(), format!("i * {width}u")),
        _ => (format!("i / {units}u"), format!("i % {units}u * {width}u")),
    };
    shader.line(format!("let row = {row};"));
    shader.line(format!("let col = {col};"));
    let zeros = |sizes: &[usize]| vec!["0".to_owned(); sizes.len()];
    let mut at =
        if many_rows { coordinates(&mut shader, "r", "row", &domain.rows) } else { zeros(&domain.rows) };
    at.extend(if many_cols {
        coordinates(&mut shader, "c", "col", &domain.cols)
    } else {
        zeros(&domain.cols)
    });
    let leaves = task.leaves(&mut shader, body)?;
    let mut printer = domain.printer(&sizes, at, &leaves);
    if vectors {
        printer.names = domain.neighbours(|i| leaves.contains_key(&i));
    }
    let insts = needed(body, roots(), &|_| false, &leaves);
    let text = printer.print(&mut shader, &insts)?;
    shader.main.push_str(&text);
    for (check, failure) in &task.checks {
        let fail = shader.fail(*failure);
        shader.line(format!("if (!({})) {{ {fail} }}", printer.all(check.reg)));
    }
    for store in &task.stores {
        let line = printer.store(&mut shader, store);
        let first = match body.inst(store.reg).level {
            Level::Elem => None,
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
    b.launch(shader, grid);
    Ok(())
}
