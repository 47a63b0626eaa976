//! Matrix products.

use graphc_ir::error::Result;
use graphc_ir::program::Dot;

use super::{Epilogue, Work, coordinates};
use crate::code::Builder;
use crate::wgsl::{Grid, Shader};

/// Rows and columns of C that one invocation sums in registers.
const TILE: usize = 4;
/// Invocations of a workgroup along each axis.
const SIDE: usize = 8;

/// Adds the launch of a batch of products: each invocation sums a small tile in registers, reading both operands where
/// they lie, in any of the four orientations.
pub fn build(b: &mut Builder, work: &Work<'_>, dot: &Dot) -> Result<()> {
    let Dot { batch, m, n, k, body } = dot;
    let (m, n, k) = (*m, *n, *k);
    let products: usize = batch.iter().product();
    if m * n * products == 0 {
        return Ok(());
    }
    let block = TILE * SIDE;
    let (across, down) = (n.div_ceil(block), m.div_ceil(block));
    let mut shader = Shader::new(SIDE * SIDE, work.commits);
    let grid = Grid::of(across * down * products);
    let epilogue = Epilogue { body, sizes: [&batch[..], &[m, n]].concat() };
    epilogue.write(&mut shader, work)?;
    shader.line(format!("let block = {};", Shader::group(grid)));
    shader.line(format!("let product = block / {}u;", across * down));
    if grid.groups[1] > 1 {
        shader.line(format!("if (product >= {products}u) {{ return; }}"));
    }
    let mut at = coordinates(&mut shader, "x", "product", batch);
    shader.line(format!("let down = i32(block / {across}u % {down}u);"));
    shader.line(format!("let across = i32(block % {across}u);"));
    shader.line(format!("let row = (down * {SIDE} + i32(lane / {SIDE}u)) * {TILE};"));
    shader.line(format!("let col = (across * {SIDE} + i32(lane % {SIDE}u)) * {TILE};"));
    shader.line(format!("if (row >= {m} || col >= {n}) {{ return; }}"));
    let (a, bm) = (shader.bind(&work.reads[0].0, false), shader.bind(&work.reads[1].0, false));
    let (rows, cols) = (TILE.min(m), TILE.min(n));
    // Rows and columns beyond the last one repeat it, and are not stored.
    let mut element = |port: usize, i: usize, j: [&str; 2]| {
        let (place, view) = &work.reads[port];
        let at = [&at[..], &[j[0].to_owned(), j[1].to_owned()]].concat();
        let name = format!("{}{i}", ["p", "q"][port]);
        shader.line(format!("let {name} = {};", place.element(view, &at)));
        name
    };
    let first_a: Vec<String> =
        (0..rows).map(|i| element(0, i, [&format!("min(row + {i}, {})", m - 1), "0"])).collect();
    let first_b: Vec<String> =
        (0..cols).map(|j| element(1, j, ["0", &format!("min(col + {j}, {})", n - 1)])).collect();
    let rank = batch.len();
    let (step_a, step_b) = (work.reads[0].1.strides[rank + 1], work.reads[1].1.strides[rank]);
    for i in 0..rows {
        for j in 0..cols {
            shader.line(format!("var c{i}_{j} = 0.0f;"));
        }
    }
    shader.line(format!("for (var k = 0; k < {k}; k++) {{"));
    for (i, first) in first_a.iter().enumerate() {
        shader.line(format!("    let a{i} = {a}[{first} + k * {step_a}];"));
    }
    for (j, first) in first_b.iter().enumerate() {
        shader.line(format!("    let y{j} = {bm}[{first} + k * {step_b}];"));
    }
    for i in 0..rows {
        for j in 0..cols {
            shader.line(format!("    c{i}_{j} = fma(a{i}, y{j}, c{i}_{j});"));
        }
    }
    shader.line("}");
    at.extend([String::new(), String::new()]);
    for i in 0..rows {
        for j in 0..cols {
            at[rank] = format!("row + {i}");
            at[rank + 1] = format!("col + {j}");
            let call = epilogue.call(&format!("c{i}_{j}"), &at);
            shader.line(format!("if (row + {i} < {m} && col + {j} < {n}) {{ {call} }}"));
        }
    }
    b.launch(shader, grid);
    Ok(())
}
