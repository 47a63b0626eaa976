//! The models of text: what they say of characters, and that their training steps learn.

use std::path::Path;

use graphc::{Device, Session, Tensor};
use graphc_models::{char_lstm, encoder, text};

use crate::common::assert_near;

/// Characters by number, without structure.
fn characters(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n).map(|i| ((i * i * 31 + i * 17 + seed * 7) % 97) as i32).collect();
    Tensor::from_slice(shape, &values)
}

fn start(module: graphc::build::Result<graphc::Module>) -> Session {
    let mut session = Session::from_module(module.unwrap()).device(Device::Cpu).build().unwrap();
    session.init(3).unwrap();
    session
}

fn part(x: &Tensor, from: usize, to: usize) -> Tensor {
    let [rows, steps] = *x.shape() else { panic!("rows of characters") };
    let row = |r: usize| (from..to).map(move |t| r * steps + t);
    let values: Vec<i32> = (0..rows).flat_map(row).map(|i| x.get(i).as_int() as i32).collect();
    Tensor::from_slice(&[rows, to - from], &values)
}

/// A text read in two parts, the second one from the states after the first, is read as a whole.
#[test]
fn states_are_carried_from_part_to_part() {
    let session = start(char_lstm::build());
    let x = characters(&[2, 7], 1);
    let zeros = Tensor::from_slice(&[2, 2, 128], &[0f32; 512]);
    let run = |x: &Tensor, h: &Tensor, c: &Tensor| {
        session.run_shared("predict", [("x", x), ("h", h), ("c", c)]).unwrap()
    };
    let whole = run(&x, &zeros, &zeros);
    let first = run(&part(&x, 0, 3), &zeros, &zeros);
    let second = run(&part(&x, 3, 7), &first["h_next"], &first["c_next"]);
    let logits = whole["logits"].to_f64();
    for row in 0..2 {
        let wanted = &logits[row * 7 * 97..][..7 * 97];
        assert_near("first", &first["logits"].to_f64()[row * 3 * 97..][..3 * 97], &wanted[..3 * 97], 1e-5);
        assert_near("second", &second["logits"].to_f64()[row * 4 * 97..][..4 * 97], &wanted[3 * 97..], 1e-5);
    }
    for state in ["h_next", "c_next"] {
        assert_near(state, &second[state].to_f64(), &whole[state].to_f64(), 1e-5);
    }
}

/// The loss of a step is that of the old weights, about ln 97 at first, and falls.
fn learns(mut session: Session, x: &Tensor, y: &Tensor) {
    let feeds = [("x", x), ("y", y)];
    let before = session.run("evaluate", feeds).unwrap()["loss"].get(0).as_f64();
    let mut losses = Vec::new();
    for _ in 0..4 {
        losses.push(session.run("train_step", feeds).unwrap()["loss"].get(0).as_f64());
    }
    assert!((losses[0] - before).abs() < 1e-5 * before, "{before}, {losses:?}");
    assert!((before - 97f64.ln()).abs() < 1.0, "{before}");
    assert!(losses[3] < losses[0] - 0.01, "{losses:?}");
    assert_eq!(session.state("step").unwrap().unwrap().to_f64(), [4.0]);
}

#[test]
fn the_language_model_learns() {
    learns(start(char_lstm::build()), &characters(&[2, 64], 1), &characters(&[2, 64], 2));
}

#[test]
fn the_encoder_learns() {
    learns(start(encoder::build()), &characters(&[2, 128], 1), &characters(&[2, 128], 2));
}

/// Every token sees every other one of its sequence, and no other sequence.
#[test]
fn the_encoder_looks_both_ways() {
    let session = start(encoder::build());
    let logits = |x: &Tensor| session.run_shared("predict", [("x", x)]).unwrap()["logits"].to_f64();
    let x = characters(&[2, 128], 1);
    let mut other = x.clone();
    other.set(64, graphc::ir::Scalar::I(i128::from(x.get(64).as_int() == 0)));
    let (a, b) = (logits(&x), logits(&other));
    let differ = |token: usize| a[token * 97..][..97] != b[token * 97..][..97];
    assert!((0..128).all(differ));
    assert!(!(128..256).any(differ));
}

/// The last tenth of the project's pages, which the weights were not trained on.
#[test]
fn shipped_weights_know_the_held_out_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = |name| std::fs::read_to_string(folder.join("..").join(name)).unwrap();
    let texts = ["README.md", "ARCHITECTURE.md", "docs/format.md", "docs/numerics.md"].map(page);
    let [_, held_out] = text::split(&texts);
    let rows = text::windows(&held_out, char_lstm::STEPS);
    assert!(rows.len() > 50, "{} rows", rows.len());
    let columns = |from: usize| {
        let values: Vec<i32> =
            rows.iter().flat_map(|r| r[from..][..char_lstm::STEPS].iter().copied()).collect();
        Tensor::from_slice(&[rows.len(), char_lstm::STEPS], &values)
    };
    let session = Session::open(folder.join("char_lstm/char_lstm.json")).unwrap().build().unwrap();
    let found = session.run_shared("evaluate", [("x", &columns(0)), ("y", &columns(1))]).unwrap();
    let loss = found["loss"].get(0).as_f64();
    assert!(loss < 2.4, "{loss} nats a character");
}
