//! Matrix products: operands are read where they lie, in any of the four orientations.

mod registers;

use graphc_ir::error::Result;
use graphc_ir::program::Dot;

use super::tiled::{self, Side, Sums};
use super::tiles::choose;
use super::{Epilogue, Work, coordinates};
use crate::code::Builder;
use crate::wgsl::Shader;

/// Adds the launches.
pub fn build(b: &mut Builder, work: &Work<'_>, dot: &Dot) -> Result<()> {
    let Dot { batch, m, n, k, body } = dot;
    let count: usize = batch.iter().product();
    if m * n * count == 0 {
        return Ok(());
    }
    let tiles = choose(b.caps(), [count, *m, *n, *k]);
    let epilogue = Epilogue { body, sizes: [&batch[..], &[*m, *n]].concat() };
    if tiles.shared.is_none() {
        return registers::build(b, work, dot, &epilogue, &tiles);
    }
    let rank = batch.len();
    let side = |port: usize, own: [&'static str; 2]| {
        let (place, view) = work.reads[port].clone();
        move |shader: &mut Shader| {
            let at = coordinates(shader, "x", "product", batch);
            let own = own.map(str::to_owned);
            (None, place.element(&view, &[&at[..], &own].concat()))
        }
    };
    let (a, c) = (side(0, ["o", "k"]), side(1, ["k", "o"]));
    let stride = |port: usize, dim: usize| work.reads[port].1.strides[rank + dim].unsigned_abs();
    let sides = [
        Side { port: 0, k_first: stride(0, 1) < stride(0, 0), address: &a },
        Side { port: 1, k_first: stride(1, 0) < stride(1, 1), address: &c },
    ];
    let result = |shader: &mut Shader| {
        let at = coordinates(shader, "x", "product", batch);
        [&at[..], &["row".to_owned(), "col".to_owned()]].concat()
    };
    tiled::build(b, &Sums { work, epilogue, shape: [count, *m, *n, *k], sides, result: &result }, &tiles)
}
