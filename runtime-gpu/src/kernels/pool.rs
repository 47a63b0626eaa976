//! Work on windows, each invocation on one element of the result: gradients gather what the windows around give them.

use graphc_ir::error::Result;
use graphc_ir::program::{Pool, PoolKind};

use super::window::{Taps, divisor};
use super::{Epilogue, LANES, Leaves, Work, coordinates, one_each};
use crate::code::Builder;
use crate::wgsl::Shader;

/// Adds the launch.
pub fn build(b: &mut Builder, work: &Work, pool: &Pool) -> Result<()> {
    let g = &pool.geometry;
    let result = pool.result();
    let count: usize = result.iter().product();
    if count == 0 {
        return Ok(());
    }
    let mut shader = Shader::new(LANES, work.commits);
    let epilogue = Epilogue { body: &pool.body, sizes: result.clone() };
    epilogue.write(&mut shader, work)?;
    let grid = one_each(&mut shader, count);
    let at = coordinates(&mut shader, "x", "i", &result);
    let (n, c) = (at[0].clone(), at[at.len() - 1].clone());
    let spatial = at[1..at.len() - 1].to_vec();
    let taps = if pool.kind.makes_image() {
        Taps::of_element(g, &spatial, &work.taps)
    } else {
        Taps::of_window(g, &spatial, &work.taps)
    };
    let whole = |y: &[String]| [std::slice::from_ref(&n), y, std::slice::from_ref(&c)].concat();
    let best = work.leaves.as_ref().map(|leaves| leaves.best.each_ref().map(|place| place.dense("i32(i)")));
    let begin = match (&work.leaves, &best) {
        (Some(leaves), Some([value, winner])) if leaves.goes_on => {
            let [values, winners] = leaves.best.each_ref().map(|place| shader.bind(place, true));
            format!("var sum = {values}[{value}]; var winner = {winners}[{winner}];")
        }
        _ => "var sum = gc_bits(0xff800000u); var winner = -1;".to_owned(),
    };
    let mut read = |port: usize, at: &[String]| {
        let (place, view) = &work.reads[port];
        let array = shader.bind(place, false);
        format!("{array}[{}]", place.element(view, at))
    };
    let number = taps.number(g);
    let x = read(0, &whole(&taps.image));
    let text = match pool.kind {
        PoolKind::Max { .. } => format!(
            "{begin}\n{}let x = {x}; if (winner < 0 || (!gc_is_nan(sum) && (gc_is_nan(x) || x > sum))) \
             {{ sum = x; winner = {number}; }}\n{}",
            taps.open, taps.close
        ),
        PoolKind::Mean { count_pad } => format!(
            "var sum = 0.0f;\n{}sum = sum + {x};\n{}\nsum = gc_hidden(sum) / f32({});",
            taps.open,
            taps.close,
            divisor(g, &spatial, count_pad)
        ),
        PoolKind::MeanGrad { count_pad } => format!(
            "var sum = 0.0f;\n{}sum = sum + {x} / f32({});\n{}",
            taps.open,
            divisor(g, &taps.image, count_pad),
            taps.close
        ),
        PoolKind::Scatter => {
            let winner = read(1, &whole(&taps.image));
            format!(
                "var sum = 0.0f;\n{}if (i32({winner}) == {number}) {{ sum = sum + {x}; }}\n{}",
                taps.open, taps.close
            )
        }
        PoolKind::Gather => {
            let winner = read(1, &at);
            format!(
                "var sum = 0.0f; let winner = i32({winner});\n{}if (winner == {number}) {{ sum = {x}; }}\n{}",
                taps.open, taps.close
            )
        }
    };
    shader.line(text);
    if let (Some(Leaves { best: places, last: false, .. }), Some([value, winner])) = (&work.leaves, &best) {
        let [values, winners] = places.each_ref().map(|place| shader.bind(place, true));
        shader.line(format!("{values}[{value}] = sum; {winners}[{winner}] = winner;"));
        b.launch(shader, grid);
        return Ok(());
    }
    if let (PoolKind::Max { winner: true }, Some((place, view))) = (pool.kind, work.writes.last()) {
        let array = shader.bind(place, true);
        let word = crate::words::Word::of(place.dtype).unwrap_or(crate::words::Word::I32).name();
        // A window without elements has number 0.
        shader.line(format!("{array}[{}] = {word}(max(winner, 0));", place.element(view, &at)));
    }
    shader.line(epilogue.call("sum", &at));
    b.launch(shader, grid);
    Ok(())
}
