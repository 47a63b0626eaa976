//! Layers by themselves.

use std::collections::BTreeSet;
use std::f64::consts::PI;

use crate::common::{assert_near, data, session};
use graphc::Tensor;
use graphc::build::ModuleBuilder;
use graphc_models::layers::{augmentation, declare_momentum, momentum};

#[test]
fn rates_fall_along_a_cosine() {
    const STEPS: i32 = 4;
    let mut m = ModuleBuilder::new();
    declare_momentum(&mut m, 0.5, &[] as &[(&str, &[usize])]).unwrap();
    momentum::declare_schedule(&mut m, STEPS).unwrap();
    m.function("init", momentum::initialize_schedule).unwrap();
    m.function("train_step", |f| f.output("rate", momentum::cosine_rate(f)?)).unwrap();
    let mut session = session(m.finish().unwrap());
    session.init(0).unwrap();
    for step in 0..STEPS + 2 {
        let rate = session.run("train_step", []).unwrap()["rate"].to_f64();
        let part = f64::from(step.min(STEPS)) / f64::from(STEPS);
        assert!((rate[0] - 0.25 * (1.0 + (PI * part).cos())).abs() < 1e-6, "step {step}: {rate:?}");
    }
}

/// `image` of `SIZE` x `SIZE` moved down and right, with zeros elsewhere.
fn moved(image: &[f64], down: i64, right: i64) -> Vec<f64> {
    let from = |i: usize, by: i64| usize::try_from(i as i64 - by).ok().filter(|i| *i < SIZE);
    let at = |p: usize| {
        let (row, column) = (from(p / SIZE, down)?, from(p % SIZE, right)?);
        Some(image[row * SIZE + column])
    };
    (0..SIZE * SIZE).map(|p| at(p).unwrap_or(0.0)).collect()
}

const SIZE: usize = 5;

#[test]
fn images_are_shifted_each_by_its_own_distance() {
    const IMAGES: usize = 300;
    let mut m = ModuleBuilder::new();
    m.symbol("B", 1).unwrap();
    augmentation::declare_shift(&mut m, 2.0).unwrap();
    m.key("key").unwrap();
    m.function("shift", |f| {
        let keys = f.split_key(f.state("key")?, 2)?;
        let x = f.input("x", &format!("f32[B,1,{SIZE},{SIZE}]"))?;
        f.output("y", augmentation::shifted(f, x, SIZE, [keys[0], keys[1]])?)
    })
    .unwrap();
    let mut session = session(m.finish().unwrap());
    session.set_state("key", Tensor::from_slice(&[2], &[1u32, 2])).unwrap();
    let x = data(&[IMAGES, 1, SIZE, SIZE], 1);
    let y = session.run("shift", [("x", &x)]).unwrap()["y"].to_f64();
    let mut seen = BTreeSet::new();
    for (x, y) in x.to_f64().chunks(SIZE * SIZE).zip(y.chunks(SIZE * SIZE)) {
        let all = (-2..=2).flat_map(|down| (-2..=2).map(move |right| (down, right)));
        let found = all.into_iter().find(|(down, right)| moved(x, *down, *right) == y);
        seen.insert(found.expect("a shift of at most 2"));
    }
    // Each of 25 is missed with a probability of 5e-6.
    assert_eq!(seen.len(), 25);
    session.set_state("shift", Tensor::from_slice(&[], &[0f32])).unwrap();
    let y = session.run("shift", [("x", &x)]).unwrap()["y"].to_f64();
    assert_near("unshifted images", &y, &x.to_f64(), 0.0);
}

#[test]
fn dropout_draws_anew_in_every_step_and_only_there() {
    let mut session = session(graphc_models::digits_cnn::build().unwrap());
    session.init(5).unwrap();
    session.set_state("learning_rate", Tensor::from_slice(&[], &[0f32])).unwrap();
    let (x, y) = (data(&[4, 1, 8, 8], 1), Tensor::from_slice(&[4], &[0i32, 3, 9, 1]));
    let mut run = |function| session.run(function, [("x", &x), ("y", &y)]).unwrap()["loss"].to_f64();
    let (first, second) = (run("train_step"), run("train_step"));
    assert_ne!(first, second);
    assert_eq!(run("evaluate"), run("evaluate"));
}
