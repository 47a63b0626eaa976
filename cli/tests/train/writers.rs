//! Who may write a module's file, and what those leave who are stopped or killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use graphc_benches::kills::{Campaign, run};

use crate::common::{Folder, graphc, ok, points, refused, signal, state, table, text, train};

/// A training that is under way; it is killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a training without end and waits until it reports.
    fn new(model: &Path, data: &str, log: &Path) -> Running {
        let out = std::fs::File::create(log).unwrap();
        let mut command = graphc();
        command.arg("train").arg(model).args(["--data", data, "--epochs", "1000000", "--resume", "--json"]);
        command.env("GRAPHC_SAVE_EVERY", "0.002").stdout(out).stderr(Stdio::null());
        let running = Running(command.spawn().unwrap());
        let started = Instant::now();
        while std::fs::metadata(log).unwrap().len() < 100 {
            assert!(started.elapsed() < Duration::from_secs(60), "no epoch was written");
            sleep(Duration::from_millis(2));
        }
        running
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }
}

fn graphc_with(args: &[&str]) -> std::process::Output {
    graphc().args(args).output().unwrap()
}

#[test]
fn one_process_writes_and_all_may_read() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(40)), "");
    let model = folder.model("m.json", 0.1);
    let path = model.to_str().unwrap();
    let other = folder.path("other.json");
    let other = other.to_str().unwrap();
    let running = Running::new(&model, &data, &folder.path("log"));

    let process = format!("process {}", running.id());
    let told = [path, &process, " on ", "nothing was changed"];
    let feeds = ["-i", "x=[[1,2]]", "-i", "y=[0]"];
    refused(&train(&model, &data, &[]), 73, &told);
    refused(&train(&model, &data, &["--resume", "-q"]), 73, &told);
    let step = [&["run", path, "--fn", "train_step"][..], &feeds].concat();
    refused(&graphc_with(&[&step[..], &["--save", path]].concat()), 73, &told);
    refused(&graphc_with(&["fmt", path, "-o", path]), 73, &told);
    let grad =
        ["grad", path, "--fn", "evaluate", "--loss", "loss", "--derivative", "gradient", "--wrt", "w", "-o"];
    refused(&graphc_with(&[&grad[..], &[path]].concat()), 73, &told);
    // Into the file from another model, too.
    ok(&graphc_with(&["fmt", path, "-o", other]));
    refused(&graphc_with(&["fmt", other, "-o", path]), 73, &told);

    // Readers see a whole module, and another file may be written.
    for _ in 0..30 {
        ok(&graphc_with(&[&step[..], &["-q"]].concat()));
    }
    ok(&graphc_with(&[&step[..], &["--save", other, "-q"]].concat()));
    ok(&graphc_with(&[&grad[..], &[other, "-q"]].concat()));

    // The lock of a process that is killed holds nobody up, and nothing of it stays.
    drop(running);
    ok(&graphc_with(&["fmt", path, "-o", path]));
    assert_eq!(names(&folder), ["log", "m.json", "other.json", "points.csv"]);
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Wherever a training stands still, also in the midst of a save of weights, nobody takes its place.
#[test]
fn a_training_that_stands_still_keeps_its_file() {
    let folder = Folder::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let data = format!("{}:rows=0..100:x=0..64/16:y=64", shipped.join("data/digits.csv.gz").display());
    let model = folder.path("m.json");
    let module = graphc::file::load(&shipped.join("digits_mlp/digits_mlp.json")).unwrap();
    graphc::file::save(&module, &model).unwrap();
    let mut running = Running::new(&model, &data, &folder.path("log"));
    for i in 0..8 {
        signal(&running.0, "-STOP");
        refused(&train(&model, &data, &["--resume", "--epochs", "1"]), 73, &[&running.id()]);
        graphc::file::load(&model).unwrap();
        signal(&running.0, "-CONT");
        sleep(Duration::from_millis(3 * i));
    }
    signal(&running.0, "-TERM");
    assert_eq!(running.0.wait().unwrap().code(), Some(75));
    let first = state(&model);
    ok(&train(&model, &data, &["--resume", "--epochs", "1"]));
    assert_eq!(state(&model), first);
}

/// Signals that end processes end the step, and save; a second one ends at once.
#[test]
fn signals_end_a_training_that_can_go_on() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(40)), "");
    for name in ["-INT", "-TERM", "-HUP"] {
        let model = folder.model("m.json", 0.1);
        let mut running = Running::new(&model, &data, &folder.path("log"));
        signal(&running.0, name);
        assert_eq!(running.0.wait().unwrap().code(), Some(75), "{name}");
        graphc::file::load(&model).unwrap();
    }
    assert!(!folder.path(".m.lock").exists());
}

/// The short form of `cargo run -p graphc-benches --bin kills`.
#[test]
fn killed_trainings_end_with_the_same_bits() {
    let campaign = Campaign { graphc: env!("CARGO_BIN_EXE_graphc").into(), kills: 20, epochs: 300, seed: 3 };
    let findings = run(&campaign).unwrap_or_else(|e| panic!("{e}"));
    assert!(findings.kills >= 20 && findings.in_saves > 0 && findings.advanced > 0, "{findings}");
}

/// A reader of both streams that goes away, as in `2>&1 | head`.
#[test]
fn nobody_to_tell_is_no_reason_to_stop() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(40)), "");
    let model = folder.model("m.json", 0.1);
    let script =
        "\"$0\" train \"$1\" --data \"$2\" --epochs 1500 --json 2>&1 | head -1; exit \"${PIPESTATUS[0]}\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_graphc")]).arg(&model).arg(&data);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    ok(&train(&model, &data, &["--resume", "--epochs", "1500"]));
    assert!(text(&std::fs::read(&model).unwrap()).contains("\"epoch\": 1500"));
}
