//! Matrix products: operands are read where they lie, in any of the four orientations, and their sums go through an
//! epilogue, at once or, where k was cut, when the parts of all cuts are added in order.

mod registers;
mod tiled;
mod tiles;

use graphc_ir::DType;
use graphc_ir::error::Result;
use graphc_ir::program::Dot;

use super::{Epilogue, LANES, Work, coordinates, one_each};
use crate::code::Builder;
use crate::place::Place;
use crate::wgsl::Shader;

pub use tiles::{Tiles, choose};

/// A batch of products, and what becomes of their sums.
struct Product<'a> {
    work: &'a Work<'a>,
    dot: &'a Dot,
    /// Products of the batch.
    count: usize,
    epilogue: Epilogue<'a>,
    /// Cuts of k, and where their parts go: cuts, products, rows, columns.
    cuts: Option<(usize, Place)>,
}

/// Adds the launches.
pub fn build(b: &mut Builder, work: &Work<'_>, dot: &Dot) -> Result<()> {
    let Dot { batch, m, n, k, body } = dot;
    let count: usize = batch.iter().product();
    if m * n * count == 0 {
        return Ok(());
    }
    let tiles = choose(b.caps(), [count, *m, *n, *k]);
    let epilogue = || Epilogue { body, sizes: [&batch[..], &[*m, *n]].concat() };
    let cuts = (tiles.cuts > 1)
        .then(|| (tiles.cuts, Place::whole(b.scratch(tiles.cuts * count * m * n), DType::F32)));
    let product = Product { work, dot, count, epilogue: epilogue(), cuts };
    match tiles.shared {
        None => registers::build(b, &product, &tiles)?,
        Some(_) => tiled::build(b, &product, &tiles)?,
    }
    if let Some((cuts, parts)) = &product.cuts {
        let mut shader = Shader::new(LANES, work.commits);
        let (epilogue, total) = (epilogue(), count * m * n);
        epilogue.write(&mut shader, work)?;
        let grid = one_each(&mut shader, total);
        let at = coordinates(&mut shader, "x", "i", &epilogue.sizes);
        let array = shader.bind(parts, false);
        shader.line("var sum = 0.0f;");
        shader.line(format!(
            "for (var cut = 0; cut < {cuts}; cut++) {{ sum = sum + {array}[{}]; }}",
            parts.dense(&format!("cut * {total} + i32(i)"))
        ));
        shader.line(epilogue.call("sum", &at));
        b.launch(shader, grid);
    }
    Ok(())
}

impl Product<'_> {
    /// The number of an operand's element, given the coordinates of the batch and its own two.
    fn element(&self, port: usize, batch: &[String], own: [&str; 2]) -> String {
        let (place, view) = &self.work.reads[port];
        place.element(view, &[batch, &[own[0].to_owned(), own[1].to_owned()]].concat())
    }

    /// Strides of an operand's own two dims.
    fn strides(&self, port: usize) -> [isize; 2] {
        let rank = self.dot.batch.len();
        let strides = &self.work.reads[port].1.strides;
        [strides[rank], strides[rank + 1]]
    }

    /// Writes the epilogue's function, if sums go there at once.
    fn write_epilogue(&self, shader: &mut Shader) -> Result<()> {
        if self.cuts.is_none() { self.epilogue.write(shader, self.work) } else { Ok(()) }
    }

    /// A statement that hands a sum on. The shader declares `product`, and `cut` where k is cut.
    fn finish(&self, shader: &mut Shader, sum: &str, batch: &[String], [row, col]: [&str; 2]) -> String {
        let Dot { m, n, .. } = self.dot;
        match &self.cuts {
            None => {
                let at = [batch, &[row.to_owned(), col.to_owned()]].concat();
                self.epilogue.call(sum, &at)
            }
            Some((_, parts)) => {
                let array = shader.bind(parts, true);
                let product = format!("(i32(cut) * {} + i32(product))", self.count);
                let at = parts.dense(&format!("({product} * {m} + {row}) * {n} + {col}"));
                format!("{array}[{at}] = {sum};")
            }
        }
    }
}
