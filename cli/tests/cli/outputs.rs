//! Output files: row 34 of the catalogue of bad inputs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::command::{Folder, counter, model};

fn folder_with_model() -> Folder {
    let folder = Folder::new();
    folder.write("model.json", model(&["x:f32[2]"], &[r#"{"id": "r", "op": "relu", "in": ["x"]}"#], "r"));
    folder
}

const RUN: [&str; 4] = ["run", "model.json", "-i", "x=[1,-2]"];

#[test]
fn outputs_can_be_read_again() {
    let folder = folder_with_model();
    assert_eq!(folder.graphc(&[&RUN[..], &["-o", "y=@y.npy"]].concat()).succeeds(), "");
    assert_eq!(folder.graphc(&[&RUN[..], &["--outputs", "all.npz"]].concat()).succeeds(), "");
    for value in ["x=@y.npy", "x=@all.npz:y"] {
        let done = folder.graphc(&["run", "model.json", "-i", value]);
        assert_eq!(done.succeeds(), "{\"y\": [1.0, 0.0]}\n");
    }
    assert_eq!(folder.names(), ["all.npz", "model.json", "y.npy"]);
    // Written again, the file is replaced, and has the permissions of any new one.
    folder.graphc(&[&RUN[..], &["-o", "y=@y.npy"]].concat()).succeeds();
    let mode = fs::metadata(folder.path().join("y.npy")).unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_runs() {
    let folder = folder_with_model();
    fs::create_dir(folder.path().join("folder")).unwrap();
    symlink("elsewhere", folder.path().join("link")).unwrap();
    folder.graphc(&[&RUN[..], &["-o", "y=@input.npy"]].concat()).succeeds();
    let before = folder.names();
    let input = fs::read(folder.path().join("input.npy")).unwrap();
    for (args, code, part) in [
        (&["-o", "y=@folder"][..], 73, "is a folder"),
        (&["-o", "y=@missing/y.npy"], 73, "cannot be created"),
        (&["-o", "y=@link"], 73, "symbolic link"),
        (&["-o", "y=@/dev/full"], 73, "not a regular file"),
        (&["-o", "y=@model.json"], 73, "also an input"),
        (&["--outputs", "folder"], 73, "is a folder"),
        (&["--save", "folder"], 73, "is a folder"),
        (&["-o", "yy=@y.npy"], 2, "did you mean `y`?"),
        (&["-o", "y=@a.npy", "--outputs", "a.npy"], 2, "its own file"),
        (&["-o", "y"], 2, "as in `y=@y.npy`"),
    ] {
        folder.graphc(&[&RUN[..], args].concat()).fails(code, &[part], &args.join(" "));
    }
    let done = folder.graphc(&["run", "model.json", "-i", "x=@input.npy", "-o", "y=@input.npy"]);
    done.fails(73, &["also an input"], "over the input");
    assert_eq!(folder.names(), before);
    assert_eq!(fs::read(folder.path().join("input.npy")).unwrap(), input);
}

#[test]
fn a_failing_run_writes_nothing() {
    let folder = Folder::new();
    let check = r#"{"id": "c", "op": "ge", "in": ["x", 0]}, {"id": "r", "op": "check", "in": ["x", "c"], "attrs": {"message": "x is negative"}}"#;
    folder.write("model.json", model(&["x:f32[2]"], &[check], "r"));
    let kept = folder.write("y.npy", "kept");
    let done = folder.graphc(&[&RUN[..], &["-o", "y=@y.npy", "--save", "after.json"]].concat());
    done.fails(65, &["x is negative", "`r`"], "a check");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
    assert_eq!(folder.names(), ["model.json", "y.npy"]);
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // A limit on the size of files stands in for a full disk.
    let folder = Folder::new();
    folder.write("model.json", model(&["x:f32[1000,1000]"], &[], "x"));
    let kept = folder.write("y.npy", "kept");
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" run model.json -i x=ones -o y=@y.npy";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_graphc")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("as it was before"), "{stderr}");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept");
    assert_eq!(folder.names(), ["model.json", "y.npy"]);
}

#[test]
fn a_model_can_be_saved_over_itself() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    for expected in ["[1.0, 2.0]", "[2.0, 4.0]", "[3.0, 6.0]"] {
        let done = folder.graphc(&["run", "counter.json", "-i", "x=[1,2]", "--save", "counter.json"]);
        assert_eq!(done.succeeds(), format!("{{\"y\": {expected}}}\n"));
    }
    assert_eq!(folder.names(), ["counter.json"]);
}

/// State that a function filled with what is no number does not replace a model.
#[test]
fn broken_state_is_not_saved() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    let before = fs::read(folder.path().join("counter.json")).unwrap();
    let run = ["run", "counter.json", "-i", "x=[3e38,1]", "--repeat", "2", "--save"];
    for path in ["counter.json", "new.json"] {
        let done = folder.graphc(&[&run[..], &[path]].concat());
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains("state `total` is inf at element 0"), "{done:?}");
        assert!(done.stderr.contains(&format!("{path} was not written")), "{done:?}");
    }
    assert_eq!(folder.names(), ["counter.json"]);
    assert_eq!(fs::read(folder.path().join("counter.json")).unwrap(), before);
    // What the user sets is the user's.
    let set = ["run", "counter.json", "-i", "x=[0,0]", "--state", "total=[\"inf\",0]", "--save", "new.json"];
    folder.graphc(&set).succeeds();
}
