//! How far results are from exact ones, beside sums that add one product after the other.

use graphc_cpu::conv::winograd;
use graphc_cpu::isa::Isa;

use crate::case::{Algorithm, Case, Operands, compute, serial};

/// Sums of a case's products, one after the other in `f32`, and as they are.
fn sums(case: &Case, operands: &Operands<f32>) -> (Vec<f32>, Vec<f64>) {
    let Case { cin, cout, .. } = *case;
    let pixels = case.geometry.pixels();
    let (mut one_by_one, mut exact) = (Vec::new(), Vec::new());
    for row in 0..case.images * pixels {
        let mut reads = Vec::new();
        case.each_read(row / pixels, row % pixels, |tap, offset| reads.push((tap, offset)));
        for out in 0..cout {
            let (mut single, mut double) = (0f32, 0f64);
            for &(tap, offset) in &reads {
                for i in 0..cin {
                    let (x, filter) =
                        (operands.x[offset + i], operands.filters[(tap * cin + i) * cout + out]);
                    single += x * filter;
                    double += f64::from(x) * f64::from(filter);
                }
            }
            one_by_one.push(single);
            exact.push(double);
        }
    }
    (one_by_one, exact)
}

fn root_mean_square(values: &[f32], exact: &[f64]) -> f64 {
    let squares = values.iter().zip(exact).map(|(v, e)| (f64::from(*v) - e).powi(2));
    (squares.sum::<f64>() / exact.len() as f64).sqrt()
}

/// The error of an algorithm over that of the sums that add one product after the other, as measured and as its class
/// says, for an image of either sign or one after a relu.
fn check(isa: Isa, algorithm: Algorithm, cin: usize, positive: bool) {
    let case = Case::same(1, [12, 12], 3, cin, 32);
    let mut operands = Operands::<f32>::new(&case);
    if positive {
        operands.x.iter_mut().for_each(|x| *x = x.max(0.0));
    }
    let c = compute(&serial(), isa, algorithm, &case, &operands).unwrap();
    let (one_by_one, exact) = sums(&case, &operands);
    let measured = root_mean_square(&c, &exact) / root_mean_square(&one_by_one, &exact);
    let class = match algorithm {
        Algorithm::Direct => 1.0,
        Algorithm::Winograd => f64::from(winograd::error_class(cin)),
    };
    println!("{isa} {algorithm:?} {cin}, positive {positive}: {measured:.3} of {class:.3}");
    // Signs decide how errors add up, so a measured one lies anywhere below the bound, but not far.
    let share = measured / class;
    assert!((0.2..1.05).contains(&share), "{isa} {algorithm:?} {cin}: {measured} of {class}");
}

#[test]
fn errors_are_those_of_their_class() {
    for isa in Isa::available() {
        for algorithm in [Algorithm::Direct, Algorithm::Winograd] {
            for cin in [4, 16, 64, 256] {
                check(isa, algorithm, cin, false);
                check(isa, algorithm, cin, true);
            }
        }
    }
}
