//! Products in registers alone: nothing is shared, and there are no barriers.

use graphc_ir::error::Result;
use graphc_ir::program::Dot;

use crate::code::Builder;
use crate::kernels::tiles::Tiles;
use crate::kernels::{Epilogue, Work, coordinates};
use crate::wgsl::{Grid, Shader, repeat};

/// Adds the launch.
pub fn build(b: &mut Builder, work: &Work, dot: &Dot, epilogue: &Epilogue<'_>, tiles: &Tiles) -> Result<()> {
    let Dot { batch, m, n, k, .. } = dot;
    let (count, rank): (usize, usize) = (batch.iter().product(), batch.len());
    let [tile_rows, tile_cols] = tiles.each;
    let side = [tiles.block[0] / tile_rows, tiles.block[1] / tile_cols];
    let [down, across] = tiles.blocks(*m, *n);
    let mut shader = Shader::new(tiles.lanes(), work.commits);
    let grid = Grid::of(across * down * count);
    epilogue.write(&mut shader, work)?;
    shader.line(format!("let block = {};", Shader::group(grid)));
    shader.line(format!("let product = block / {}u;", across * down));
    if grid.groups[1] > 1 {
        shader.line(format!("if (product >= {count}u) {{ return; }}"));
    }
    let at = coordinates(&mut shader, "x", "product", batch);
    let row =
        format!("(i32(block / {across}u % {down}u) * {} + i32(lane / {}u)) * {tile_rows}", side[0], side[1]);
    let col = format!("(i32(block % {across}u) * {} + i32(lane % {}u)) * {tile_cols}", side[1], side[1]);
    shader.line(format!("let row = {row};"));
    shader.line(format!("let col = {col};"));
    shader.line(format!("if (row >= {m} || col >= {n}) {{ return; }}"));
    let arrays = [0, 1].map(|port| shader.bind(&work.reads[port].0, false));
    let (rows, cols) = (tile_rows.min(*m), tile_cols.min(*n));
    let element = |port: usize, own: [String; 2]| {
        let (place, view) = &work.reads[port];
        place.element(view, &[&at[..], &own].concat())
    };
    // Rows and columns beyond the last one repeat it, and are not stored.
    for i in 0..rows {
        let first = element(0, [format!("min(row + {i}, {})", m - 1), "0".into()]);
        shader.line(format!("let p{i} = {first};"));
    }
    for j in 0..cols {
        let first = element(1, ["0".into(), format!("min(col + {j}, {})", n - 1)]);
        shader.line(format!("let q{j} = {first};"));
    }
    let steps = [work.reads[0].1.strides[rank + 1], work.reads[1].1.strides[rank]];
    for i in 0..rows {
        for j in 0..cols {
            shader.line(format!("var c{i}_{j} = 0.0f;"));
        }
    }
    shader.line(repeat(&format!("var k = 0; k < {k}; k++"), *k));
    for i in 0..rows {
        shader.line(format!("    let x{i}_ = {}[p{i} + k * {}];", arrays[0], steps[0]));
    }
    for j in 0..cols {
        shader.line(format!("    let y{j}_ = {}[q{j} + k * {}];", arrays[1], steps[1]));
    }
    for i in 0..rows {
        for j in 0..cols {
            shader.line(format!("    c{i}_{j} = fma(x{i}_, y{j}_, c{i}_{j});"));
        }
    }
    shader.line("}");
    for i in 0..rows {
        for j in 0..cols {
            let (r, c) = (format!("row + {i}"), format!("col + {j}"));
            let done = epilogue.call(&format!("c{i}_{j}"), &[&at[..], &[r.clone(), c.clone()]].concat());
            shader.line(format!("if ({r} < {m} && {c} < {n}) {{ {done} }}"));
        }
    }
    b.launch(shader, grid);
    Ok(())
}
