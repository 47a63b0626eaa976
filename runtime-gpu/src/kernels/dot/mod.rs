//! Matrix products: operands are read where they lie, in any of the four orientations.

mod registers;

use graphc_ir::error::Result;
use graphc_ir::program::Dot;

use super::tiled::{self, Side, Sums};
use super::tiles::{Of, choose};
use super::{Epilogue, Work, coordinates};
use crate::code::Builder;
use crate::wgsl::Shader;

/// Adds the launches.
pub fn build(b: &mut Builder, work: &Work, dot: &Dot) -> Result<()> {
    let Dot { batch, m, n, k, body } = dot;
    let count: usize = batch.iter().product();
    if m * n * count == 0 {
        return Ok(());
    }
    let tiles = choose(b.caps(), Of::Matrices, [count, *m, *n, *k]);
    let epilogue = Epilogue { body, sizes: [&batch[..], &[*m, *n]].concat() };
    if tiles.shared.is_none() {
        return registers::build(b, work, dot, &epilogue, &tiles);
    }
    let rank = batch.len();
    let strides = |port: usize| [rank, rank + 1].map(|d| work.reads[port].1.strides[d]);
    // Where the batch's member begins, and how far rows or columns and steps are from each other.
    let side = |port: usize, outer: usize| {
        let (place, view) = work.reads[port].clone();
        let steps = strides(port);
        let (of_outer, of_k) = (steps[outer], steps[1 - outer]);
        let k_first = of_k.unsigned_abs() < of_outer.unsigned_abs();
        let along = rank + if k_first { 1 - outer } else { outer };
        let sizes = [&batch[..], &if port == 0 { [*m, *k] } else { [*k, *n] }].concat();
        let vectors = place.in_vectors(&view, along, &sizes);
        let begin = move |shader: &mut Shader, o: &str, tag: &str| {
            let at = (0..rank).map(|d| if batch[d] == 1 { "0".into() } else { format!("x{d}") });
            let own = ["0".to_owned(), "0".to_owned()];
            let element = place.element(&view, &[&at.collect::<Vec<String>>()[..], &own].concat());
            shader.line(format!("let m{tag} = {element} + {o} * {of_outer};"));
            vec![format!("m{tag}")]
        };
        (k_first, vectors, begin, of_k)
    };
    let sides = [side(0, 0), side(1, 1)];
    let step = |_: &mut Shader, k: &str, _: &str| vec![k.to_owned()];
    let elements = [0, 1].map(|port| {
        let of_k = sides[port].3;
        move |_: &mut Shader, o: &[String], k: &[String], _: &str| {
            (None, format!("{} + {} * {of_k}", o[0], k[0]))
        }
    });
    let operand = |port: usize| Side {
        port,
        k_first: sides[port].0,
        vectors: sides[port].1,
        outer: &sides[port].2,
        step: &step,
        element: &elements[port],
    };
    let prepare = |shader: &mut Shader| {
        coordinates(shader, "x", "product", batch);
    };
    let result = |shader: &mut Shader, row: &str, tag: &str| {
        let at = coordinates(shader, &format!("x{tag}_"), "product", batch);
        [&at[..], &[row.to_owned(), "col".to_owned()]].concat()
    };
    let shape = [count, *m, *n, *k];
    let sides = [operand(0), operand(1)];
    tiled::build(b, &Sums { work, epilogue, shape, sides, prepare: &prepare, result: &result }, &tiles)
}
