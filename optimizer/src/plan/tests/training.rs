//! Memory of realistic graphs: the arena against what is live, and the schedule against the program's
//! own order; and that large graphs are planned in linear time.

use std::time::Instant;

use graphc_ir::program::{BufferId, FoldAxis, Kernel, Program};

use super::random::Rng;
use super::sketch::{Read, Sketch, fold, half_sum};
use super::{OPTIONS, planned};
use crate::plan::plan;

/// One training step of a perceptron with Adam; the layers' widths follow one another. Gradients of
/// weights are computed in the same backward sweep, all updates come at the end.
fn perceptron(batch: usize, widths: &[usize], scratch: usize) -> Program {
    let mut s = Sketch::default();
    let x = s.input(&[batch, widths[0]]);
    let loss = s.output(&[batch, widths[widths.len() - 1]]);
    let mut activations = vec![x];
    let mut weights = Vec::new();
    for pair in widths.windows(2) {
        let w = s.state(&[pair[0], pair[1]]);
        let (z, a) = (s.temp(&[batch, pair[1]]), s.temp(&[batch, pair[1]]));
        let x = activations[activations.len() - 1];
        s.dot(x, w, &[], z);
        s.mean(&[Read::Same(z)], a);
        weights.push(w);
        activations.push(a);
    }
    let last = activations.len() - 1;
    let mut gradient = s.temp(&[batch, widths[last]]);
    s.mean(&[Read::Same(activations[last])], gradient);
    s.copy(activations[last], loss);
    let mut gradients = Vec::new();
    for layer in (0..last).rev() {
        let [rows, cols] = [widths[layer], widths[layer + 1]];
        let dw = s.temp(&[rows, cols]);
        let at = s.dot(activations[layer], gradient, &[], dw);
        // The activation is read transposed: its columns are the rows of the product.
        let step = &mut s.program.steps[at];
        let Kernel::Dot(dot) = &mut step.kernel else { unreachable!("a dot") };
        (dot.m, dot.k) = (rows, batch);
        step.reads[0].view.strides = vec![1, rows as isize];
        step.writes[0].view.strides = vec![cols as isize, 1];
        step.choice.scratch_bytes = scratch;
        gradients.push((layer, dw));
        if layer > 0 {
            let dx = s.temp(&[batch, rows]);
            let at = s.dot(gradient, weights[layer], &[activations[layer]], dx);
            let step = &mut s.program.steps[at];
            let Kernel::Dot(dot) = &mut step.kernel else { unreachable!("a dot") };
            (dot.n, dot.k) = (rows, cols);
            step.reads[1].view.strides = vec![1, cols as isize];
            for port in &mut step.reads[2..] {
                port.view.strides = vec![rows as isize, 1];
            }
            step.writes[0].view.strides = vec![rows as isize, 1];
            gradient = dx;
        }
    }
    for (layer, dw) in gradients {
        let shape = [widths[layer], widths[layer + 1]];
        let (m, v) = (s.state(&shape), s.state(&shape));
        let new = [s.temp(&shape), s.temp(&shape), s.temp(&shape)];
        let reads = [dw, weights[layer], m, v].map(Read::Same);
        s.nest(shape, &reads, &new, |body, x| {
            let (m, v) = (half_sum(body, &[x[2], x[0]]), half_sum(body, &[x[3], x[0]]));
            vec![half_sum(body, &[x[1], m, v]), m, v]
        });
        for (state, temp) in [weights[layer], m, v].into_iter().zip(new) {
            s.update(state, temp);
        }
    }
    s.finish()
}

/// Residual blocks with normalization over stages of different sizes, forward and backward.
fn residual(stages: &[(usize, usize)], blocks: usize) -> Program {
    let mut s = Sketch::default();
    let mut saved: Vec<(BufferId, BufferId, BufferId)> = Vec::new();
    let first = s.input(&[stages[0].0, stages[0].1]);
    let mut x = first;
    for (rows, cols) in stages {
        let shape = [*rows, *cols];
        let entry = s.temp(&shape);
        resize(&mut s, x, entry);
        x = entry;
        for _ in 0..blocks {
            let (h, normal, y) = (s.temp(&shape), s.temp(&shape), s.temp(&shape));
            let at = s.mean(&[Read::Same(x)], h);
            s.program.steps[at].choice.scratch_bytes = 4096;
            s.nest(shape, &[Read::Same(h)], &[normal], |body, x| {
                let mean = fold(body, x[0], FoldAxis::Cols);
                vec![half_sum(body, &[x[0], mean])]
            });
            s.mean(&[Read::Same(normal), Read::Same(x)], y);
            saved.push((x, h, normal));
            x = y;
        }
    }
    let out = s.output(&s.shape(x).clone());
    s.copy(x, out);
    let mut g = s.temp(&s.shape(x).clone());
    s.mean(&[Read::Same(x)], g);
    for (x, h, normal) in saved.into_iter().rev() {
        let shape = s.shape(x);
        if shape != s.shape(g) {
            let entry = s.temp(&shape);
            resize(&mut s, g, entry);
            g = entry;
        }
        let (dn, dh, dx, dw) = (s.temp(&shape), s.temp(&shape), s.temp(&shape), s.temp(&[shape[1]]));
        s.mean(&[Read::Same(g), Read::Same(normal)], dn);
        s.nest([shape[0], shape[1]], &[Read::Same(dn), Read::Same(h)], &[dh], |body, x| {
            let mean = fold(body, x[0], FoldAxis::Cols);
            vec![half_sum(body, &[x[0], x[1], mean])]
        });
        s.nest([shape[0], shape[1]], &[Read::Same(dh), Read::Same(x)], &[dw], |body, x| {
            let both = half_sum(body, x);
            vec![fold(body, both, FoldAxis::Rows)]
        });
        s.mean(&[Read::Same(dh), Read::Same(g)], dx);
        let w = s.output(&[shape[1]]);
        let copy = s.copy(dw, w);
        s.program.steps[copy].choice.scratch_bytes = 64;
        g = dx;
    }
    let out = s.output(&s.shape(g).clone());
    s.copy(g, out);
    s.finish()
}

/// A stand-in for pooling and upsampling: the first elements, at a stride of 0 where there are none.
fn resize(s: &mut Sketch, from: BufferId, to: BufferId) {
    let (a, b) = (s.shape(from), s.shape(to));
    let at = s.mean(&[Read::Same(from)], to);
    let strides = &mut s.program.steps[at].reads[0].view.strides;
    *strides = vec![0, 0];
    if a[1] >= b[1] {
        *strides = vec![if a[0] >= b[0] { a[1] as isize } else { 0 }, 1];
    }
}

/// Random graphs with sizes over three orders of magnitude and reads at random distances.
fn irregular(seed: u64, steps: usize) -> Program {
    let mut rng = Rng(seed);
    let mut s = Sketch::default();
    let mut values = vec![s.input(&[64, 64])];
    for _ in 0..steps {
        let rows = 1usize << rng.below(7);
        let cols = 16 * (1 + rng.below(40));
        let t = s.temp(&[rows, cols]);
        let distance =
            1 + if rng.below(3) == 0 { rng.below(values.len()) } else { rng.below(values.len().min(3)) };
        let (a, b) = (values[values.len() - distance], values[values.len() - 1]);
        let at = s.mean(&[Read::Same(a), Read::Same(b)], t);
        for (port, source) in [a, b].into_iter().enumerate() {
            let have = s.shape(source);
            if have != [rows, cols] {
                s.program.steps[at].reads[port].view.strides = vec![0, 0];
            }
        }
        values.push(t);
    }
    let last = values[values.len() - 1];
    let y = s.output(&s.shape(last).clone());
    s.copy(last, y);
    s.finish()
}

#[test]
fn the_arena_is_little_larger_than_what_is_live() {
    let mut programs = vec![
        ("perceptron".to_string(), perceptron(128, &[784, 512, 256, 10], 0)),
        ("wide and narrow".to_string(), perceptron(64, &[784, 2048, 32, 1024, 64, 512, 10], 1 << 16)),
        ("deep".to_string(), perceptron(256, &[96; 40], 1 << 14)),
        ("pyramid".to_string(), perceptron(200, &[1000, 900, 700, 650, 500, 333, 200, 100, 50, 10], 5000)),
        ("residual".to_string(), residual(&[(4096, 64), (1024, 128), (256, 256), (64, 512)], 3)),
        ("residual, deep".to_string(), residual(&[(3136, 24), (784, 40), (196, 112), (49, 320)], 8)),
    ];
    programs
        .extend((0..12).map(|seed| (format!("irregular {seed}"), irregular(seed, 60 + 20 * seed as usize))));
    let mut worst: f64 = 0.0;
    for (name, program) in programs {
        let plan = planned(&program, &OPTIONS[0]).plan;
        let apart = planned(&program, &OPTIONS[1]).plan;
        let ratio = plan.arena_bytes as f64 / plan.live_bytes as f64;
        println!(
            "{name:16} {:4} steps: arena {:9} live {:9} ratio {ratio:.4}; without in-place {:9}, own places {:9}",
            program.steps.len(),
            plan.arena_bytes,
            plan.live_bytes,
            apart.arena_bytes,
            planned(&program, &OPTIONS[3]).plan.arena_bytes,
        );
        assert!(plan.live_bytes <= plan.arena_bytes);
        assert!(plan.live_bytes <= apart.live_bytes);
        worst = worst.max(ratio);
    }
    assert!(worst <= 1.10, "{worst}");
}

#[test]
fn updates_move_to_their_gradients() {
    // All updates come last in the program; each can run as soon as its gradient is there and the
    // backward product has read the weights, so that one gradient is live at a time.
    let program = perceptron(16, &[256; 12], 0);
    let plan = planned(&program, &OPTIONS[0]);
    let gradient = 4 * 256 * 256;
    println!("live {} bytes, one gradient is {gradient}", plan.plan.live_bytes);
    assert!(plan.plan.live_bytes < 3 * gradient);
    assert!(program.steps.len() - plan.steps.len() == 3 * 11, "all copies are gone");
}

#[test]
fn large_programs_are_planned_in_linear_time() {
    let deep = perceptron(4, &[8; 12_500], 64);
    let wide = irregular(1, 100_000);
    for (name, program) in [("deep", deep), ("wide", wide)] {
        let steps = program.steps.len();
        assert!(steps > 90_000, "{steps}");
        let clock = Instant::now();
        let plan = plan(program, &OPTIONS[0]).expect("the program can be planned").plan;
        let seconds = clock.elapsed().as_secs_f64();
        println!(
            "{name}: {steps} steps in {seconds:.2} s, ratio {:.4}",
            plan.arena_bytes as f64 / plan.live_bytes as f64
        );
        assert!(seconds < 30.0, "{seconds}");
    }
}
