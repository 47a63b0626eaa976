//! How trainings end: with a reader that goes away, a full disk, and numbers that are none.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use graphc::Tensor;
use graphc::build::{Module, ModuleBuilder, Result, StateRole};

use crate::common::{Folder, graphc, ok, points, refused, state, table, text, train};

#[test]
fn a_reader_that_goes_away_ends_no_training() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(60)), "");
    // More than a pipe holds.
    let more = ["--epochs", "1500", "--batch", "20", "--json", "--test", &data];
    let whole = folder.model("whole.json", 0.1);
    ok(&train(&whole, &data, &more));

    let model = folder.model("m.json", 0.1);
    let mut command = graphc();
    command.arg("train").arg(&model).args(["--data", &data]).args(more);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"epoch\": 1,"), "{line}");
    // With the pipe goes what was read ahead.
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{errors}");
    assert!(errors.contains("went away") && errors.contains("trained state written"), "{errors}");
    assert_eq!(state(&model), state(&whole));
}

#[cfg(target_os = "linux")]
#[test]
fn reports_that_cannot_be_written_end_a_training_that_is_saved() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(60)), "");
    let whole = folder.model("whole.json", 0.1);
    ok(&train(&whole, &data, &["--epochs", "9"]));

    let model = folder.model("m.json", 0.1);
    let mut command = graphc();
    command.arg("train").arg(&model).args(["--data", &data, "--epochs", "9"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    refused(&output, 74, &["standard output", "after epoch 1", "holds the state", "--resume"]);
    let rest = ok(&train(&model, &data, &["--resume"]));
    assert_eq!(rest.lines().count(), 8);
    assert_eq!(state(&model), state(&whole));
}

#[test]
fn a_broken_loss_ends_the_training() {
    let folder = Folder::new();
    let model = folder.model("m.json", 3e38);
    let data = table(&folder.write("points.csv", points(12)), "");
    let output = train(&model, &data, &["--batch", "4", "--epochs", "9"]);
    refused(&output, 1, &["epoch", "batch", "`loss` is", "holds the state before it"]);
    let module = graphc::file::load(&model).unwrap();
    let values = module.state.iter().filter(|s| s.name != "key").filter_map(|s| s.init.as_ref());
    assert!(values.flat_map(|t| t.to_f64()).all(f64::is_finite));
}

/// In the first and only step the weights overflow, which no loss tells any more.
#[test]
fn state_that_breaks_in_the_last_step_is_not_saved() {
    let folder = Folder::new();
    let model = folder.model("m.json", 3e38);
    let before = std::fs::read(&model).unwrap();
    let csv = folder.write("points.csv", points(12));
    let data = format!("{}:x=0..2:y=2", csv.display());
    let output = train(&model, &data, &["--batch", "12"]);
    refused(&output, 1, &["epoch 1, batch 1: state `w` is", "inf at element", "before it"]);
    assert_eq!(std::fs::read(&model).unwrap(), before);
}

/// A state that is multiplied in each step, beside a loss that is always finite, or is its square.
fn growing(start: f32, factor: f64, squared: bool) -> Result<Module> {
    let mut m = ModuleBuilder::new();
    m.state_of("acc", StateRole::Buffer, Tensor::from_slice(&[], &[start]))?;
    m.function("train_step", |f| {
        let (x, acc) = (f.input("x", "f32[B,2]")?, f.state("acc")?);
        f.update("acc", acc * factor)?;
        let mean = x.mean(&[0, 1]);
        f.loss("loss", if squared { acc * acc + mean } else { mean })
    })?;
    m.finish()
}

/// Whatever the pause between saves, the file holds the state before the step that broke.
#[test]
fn the_state_before_a_broken_step_is_kept() {
    let folder = Folder::new();
    let model = folder.path("m.json");
    let data = format!("{}:x=0..2", folder.write("points.csv", points(60)).display());
    // The first step squares 1, the twenty-first 1e20.
    let parts = ["epoch 1, batch 21: `loss` is inf", "holds the state before it"];
    let run = |every: &str| {
        graphc::file::save(&growing(1.0, 10.0, true).unwrap(), &model).unwrap();
        let mut command = graphc();
        command.arg("train").arg(&model).args(["--data", &data, "--batch", "2", "--seed", "5"]);
        refused(&command.env("GRAPHC_SAVE_EVERY", every).output().unwrap(), 1, &parts);
        std::fs::read(&model).unwrap()
    };
    let often = run("0");
    assert_eq!(text(&run("100")), text(&often));
    let acc = graphc::file::load(&model).unwrap().state[0].init.as_ref().unwrap().get(0).as_f64();
    assert!((acc / 1e20 - 1.0).abs() < 1e-4, "{acc}");
    // Going on meets the same step, and leaves the same file.
    refused(&train(&model, &data, &["--resume"]), 1, &parts);
    assert_eq!(std::fs::read(&model).unwrap(), often);
}

/// A step that leaves numbers which the next one cannot take is found although no step follows it.
#[test]
fn the_state_after_the_last_step_is_tried() {
    let folder = Folder::new();
    let model = folder.path("m.json");
    let data = format!("{}:x=0..2", folder.write("points.csv", points(40)).display());
    graphc::file::save(&growing(1.0, 10.0, true).unwrap(), &model).unwrap();
    // The twentieth step squares 1e19 and leaves 1e20.
    let parts = ["epoch 1, batch 20: `loss` is inf after this step", "holds the state before it"];
    refused(&train(&model, &data, &["--batch", "2", "--epochs", "1"]), 1, &parts);
    let acc = graphc::file::load(&model).unwrap().state[0].init.as_ref().unwrap().get(0).as_f64();
    assert!((acc / 1e19 - 1.0).abs() < 1e-4, "{acc}");
}

#[test]
fn state_that_breaks_behind_a_finite_loss_is_found() {
    let folder = Folder::new();
    let model = folder.path("m.json");
    let data = format!("{}:x=0..2", folder.write("points.csv", points(60)).display());
    graphc::file::save(&growing(1.0, 10.0, false).unwrap(), &model).unwrap();
    // 1e38 is finite, and 1e39 is not: 30 steps in the first epoch, 9 in the second.
    for every in ["0", "10"] {
        let mut command = graphc();
        command.arg("train").arg(&model).args(["--data", &data, "--batch", "2", "--epochs", "9"]);
        let output = command.env("GRAPHC_SAVE_EVERY", every).output().unwrap();
        refused(&output, 1, &["epoch 2, batch 9: state `acc` is inf", "before it"]);
        let module = graphc::file::load(&model).unwrap();
        let acc = module.state[0].init.as_ref().unwrap().get(0).as_f64();
        assert!((acc / 1e38 - 1.0).abs() < 1e-4, "{acc}");
        graphc::file::save(&growing(1.0, 10.0, false).unwrap(), &model).unwrap();
    }
    // What was infinite before may stay so, as a mask does.
    graphc::file::save(&growing(f32::NEG_INFINITY, 2.0, false).unwrap(), &model).unwrap();
    ok(&train(&model, &data, &["--epochs", "2"]));
}

#[test]
fn the_pause_between_saves_is_checked() {
    let folder = Folder::new();
    let model = folder.model("m.json", 0.1);
    for every in ["", "-1", "soon", "nan", "inf", "1e9"] {
        let mut command = graphc();
        command.arg("train").arg(&model).args(["--data", "points.csv:x=0..2:y=2"]);
        refused(&command.env("GRAPHC_SAVE_EVERY", every).output().unwrap(), 2, &["GRAPHC_SAVE_EVERY"]);
    }
}
