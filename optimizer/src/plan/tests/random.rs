//! Random programs over square matrices: whatever the options, the plan computes the same.

use graphc_ir::program::{BufferKind, FoldAxis, Program};

use super::simulate::{Contents, Memory, run};
use super::sketch::{Read, Sketch, fold, half_sum, scaled};
use super::{OPTIONS, planned};

/// A splitmix generator.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Inputs and states hold small numbers that differ everywhere.
pub fn contents(program: &Program, seed: u64) -> Contents {
    let mut rng = Rng(seed);
    let mut contents = Contents::new();
    for (i, decl) in program.buffers.iter().enumerate() {
        if matches!(decl.kind, BufferKind::Input(_) | BufferKind::State(_)) {
            let n: usize = decl.shape.iter().product();
            let values = (0..n).map(|_| rng.below(2001) as f32 / 1000.0 - 1.0).collect();
            contents.insert(i as u32, values);
        }
    }
    contents
}

/// Inputs, states and outputs by kind: plans may number buffers anew.
pub fn interface(program: &Program, contents: &Contents) -> Vec<(String, Vec<u32>)> {
    let mut values: Vec<(String, Vec<u32>)> = program
        .buffers
        .iter()
        .enumerate()
        .filter(|(_, decl)| decl.kind != BufferKind::Temp)
        .map(|(i, decl)| {
            let bits = contents[&(i as u32)].iter().map(|x| x.to_bits()).collect();
            (format!("{:?}", decl.kind), bits)
        })
        .collect();
    values.sort();
    values
}

/// A program of about `steps` steps over `n x n` matrices and `n` vectors.
fn random_program(seed: u64, n: usize, steps: usize) -> Program {
    let mut rng = Rng(seed);
    let mut s = Sketch::default();
    let shape = [n, n];
    let mut matrices = vec![s.input(&shape), s.input(&shape)];
    let mut vectors = vec![s.input(&[n])];
    let states: Vec<_> = (0..1 + rng.below(4)).map(|_| s.state(&shape)).collect();
    let vector_states: Vec<_> = (0..rng.below(3)).map(|_| s.state(&[n])).collect();
    matrices.extend(&states);
    vectors.extend(&vector_states);
    for _ in 0..steps {
        // Mostly recent values, so that lifetimes end.
        let recent = matrices.len() - rng.below(matrices.len().min(6)) - 1;
        let (a, b) = (matrices[recent], matrices[rng.below(matrices.len())]);
        let v = vectors[rng.below(vectors.len())];
        let to = s.temp(&shape);
        match rng.below(10) {
            0 | 1 => s.mean(&[Read::Same(a), Read::Same(b)], to),
            2 => s.mean(&[Read::Same(a), Read::Transposed(b)], to),
            3 => s.mean(&[Read::Same(a), Read::Col(v), Read::Transposed(a)], to),
            4 => s.dot(a, b, &[], to),
            5 => {
                let c = matrices[rng.below(matrices.len())];
                s.dot(a, b, &[c, matrices[recent]], to)
            }
            6 => s.checked(a, 1e30, to),
            7 => {
                // A row cluster.
                s.nest(shape, &[Read::Same(a)], &[to], |body, x| {
                    let mean = fold(body, x[0], FoldAxis::Cols);
                    vec![half_sum(body, &[x[0], mean])]
                })
            }
            8 => {
                // An elementwise result and the sum of its columns.
                let sums = s.temp(&[n]);
                vectors.push(sums);
                s.nest(shape, &[Read::Same(a), Read::Col(v)], &[to, sums], |body, x| {
                    let y = scaled(body, x[0], 0.75);
                    let mean = fold(body, y, FoldAxis::Rows);
                    vec![y, half_sum(body, &[mean, x[1]])]
                })
            }
            _ => {
                // The halves of a matrix, written by two steps.
                let half = |s: &mut Sketch, from, lower: usize| {
                    let at = s.mean(&[Read::Same(from)], to);
                    let step = &mut s.program.steps[at];
                    let rows = if lower == 0 { n / 2 } else { n - n / 2 };
                    let graphc_ir::program::Kernel::Nest(nest) = &mut step.kernel else { return };
                    nest.rows = vec![rows];
                    for port in step.reads.iter_mut().chain(&mut step.writes) {
                        port.view.offset = (lower * (n / 2) * n) as isize;
                    }
                };
                half(&mut s, a, 0);
                half(&mut s, b, 1);
                s.program.steps.len() - 1
            }
        };
        if rng.below(4) == 0 {
            let last = s.program.steps.len() - 1;
            s.program.steps[last].choice.scratch_bytes = 4 * (1 + rng.below(3 * n * n));
        }
        matrices.push(to);
    }
    for state in states {
        let to = s.temp(&shape);
        let any = matrices[2 + rng.below(matrices.len() - 2)];
        match rng.below(5) {
            0 => s.copy(any, to),
            1 => s.mean(&[Read::Same(state), Read::Transposed(any)], to),
            2 => s.mean(&[Read::Same(any), Read::Transposed(state)], to),
            3 => s.dot(any, state, &[], to),
            _ => s.dot(any, any, &[state], to),
        };
        s.update(state, to);
    }
    for state in vector_states {
        let to = s.temp(&[n]);
        let any = matrices[rng.below(matrices.len())];
        let other = s.temp(&[n]);
        s.nest(shape, &[Read::Same(any), Read::Col(state)], &[to, other], |body, x| {
            let mean = fold(body, x[0], FoldAxis::Rows);
            vec![half_sum(body, &[mean, x[1]]), scaled(body, x[1], 0.5)]
        });
        if rng.below(2) == 0 {
            s.update(state, to);
        } else {
            s.update(state, other);
        }
    }
    for _ in 0..2 {
        let y = s.output(&shape);
        let any = matrices[matrices.len() - 1 - rng.below(4)];
        s.mean(&[Read::Transposed(any)], y);
    }
    s.finish()
}

#[test]
fn plans_compute_what_the_program_computes() {
    let (mut shared, mut direct, mut kept) = (0, 0, 0);
    for seed in 0..150 {
        let program = random_program(seed, 4 + seed as usize % 3, 5 + (seed as usize * 7) % 40);
        let (result, want) = run(&program, Memory::Separate, contents(&program, seed));
        assert_eq!(result, Ok(()));
        let want = interface(&program, &want);
        assert!(want.iter().all(|(_, v)| v.iter().all(|x| !f32::from_bits(*x).is_nan())), "seed {seed}");
        for options in OPTIONS {
            let planned = planned(&program, &options);
            let (result, got) = run(&planned, Memory::Arena, contents(&planned, seed));
            assert_eq!(result, Ok(()));
            assert_eq!(interface(&planned, &got), want, "seed {seed}, {options:?}");
            if options == OPTIONS[0] {
                let states = |p: &Program| {
                    let state = |b: &&graphc_ir::program::BufferDecl| matches!(b.kind, BufferKind::State(_));
                    p.buffers.iter().filter(state).count()
                };
                shared += planned.plan.in_place.len();
                direct += program.steps.len() - planned.steps.len();
                kept += states(&program) - (program.steps.len() - planned.steps.len());
            }
        }
    }
    println!("{shared} results in place, {direct} states written directly, {kept} copied");
    assert!(shared > 300 && direct > 150 && kept > 20);
}

#[test]
fn planning_is_deterministic() {
    let program = random_program(3, 5, 60);
    let texts: Vec<String> = (0..2).map(|_| format!("{:?}", planned(&program, &OPTIONS[0]))).collect();
    assert_eq!(texts[0], texts[1]);
}
