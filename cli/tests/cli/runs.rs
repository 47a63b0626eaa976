//! Running: rows 33 and 35 of the catalogue of bad inputs, state, and the standard streams.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use crate::command::{Folder, counter, function, limited, model, module, relu};

#[test]
fn wrong_feeds_are_told_with_a_remedy() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    for (args, code, parts) in [
        (&[][..], 2, &["`x`", "not fed", "f32[B,3]"][..]),
        (&["-i", "xx=[[1,2,3]]"], 2, &["no input `xx`", "did you mean `x`?"]),
        (&["-i", "x=[[1,2,3]]", "-i", "extra=1"], 2, &["no input `extra`"]),
        (&["-i", "x=[[1,2,3]]", "-i", "x=[[1,2,3]]"], 2, &["`x` is given twice"]),
        (&["-i", "x=[1,2,3]"], 65, &["rank 1", "[B,3]"]),
        (&["-i", "x=[[1,2]]"], 65, &["axis 1 of `x` has size 2", "3"]),
        (&["-i", "x=random"], 2, &["`B`", "--dim B=32"]),
        (&["-i", "x=@missing.npy"], 66, &["missing.npy", "no such file"]),
        (&["-i", "x=@."], 74, &["folder"]),
        (&["--fn", "g"], 2, &["no function `g`", "`f`"]),
    ] {
        let args = [&["run", "relu.json"], args].concat();
        folder.graphc(&args).fails(code, parts, &args.join(" "));
    }
    folder.graphc(&["run", "missing.json"]).fails(66, &["missing.json", "no such file"], "no model");
    folder.graphc(&["run", "."]).fails(74, &["not a regular file"], "a folder");
}

#[test]
fn what_is_no_command_line_exits_2() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    for args in [
        &["fly"][..],
        &["run"],
        &["run", "relu.json", "--threads", "0"],
        &["run", "relu.json", "--threads", "1000000"],
        &["run", "relu.json", "--device", "tpu"],
        &["run", "relu.json", "--dim", "B"],
        &["run", "relu.json", "--seed", "18446744073709551616"],
        &["run", "relu.json", "--repeat", "0"],
        &["run", "relu.json", "--color", "mauve"],
        &["bench", "relu.json", "--seconds", "-1"],
        &["show", "relu.json", "--stage", "baked"],
    ] {
        let done = folder.graphc(args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?} {done:?}");
        assert!(!done.stderr.is_empty() && !done.stderr.contains("panicked"), "{done:?}");
    }
    let mut command = limited(folder.path(), &["run"]);
    assert_eq!(command.arg(OsStr::from_bytes(b"x\xff.json")).output().unwrap().status.code(), Some(66));
    let mut command = limited(folder.path(), &["run", "relu.json", "-i"]);
    assert_eq!(command.arg(OsStr::from_bytes(b"x=\xff")).output().unwrap().status.code(), Some(2));
    for args in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert!(!folder.graphc(args).succeeds().is_empty());
    }
}

#[test]
fn a_device_that_is_not_there_exits_69() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    let mut command = limited(folder.path(), &["run", "relu.json", "-i", "x=[[1,2,3]]", "--device", "gpu"]);
    let output = command.env("GRAPHC_ADAPTER", "no such adapter").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(69) && text.contains("no GPU adapter is"), "{output:?}");
    let mut command = limited(folder.path(), &["run", "relu.json", "-i", "x=[[1,2,3]]"]);
    let output = command.env("GRAPHC_ISA", "sse9").output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}

#[test]
fn more_than_the_memory_is_refused_before_it_is_taken() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    for size in ["1000000000", "1000000000000", "9223372036854775807", "400000000"] {
        let done = folder.graphc(&["run", "relu.json", "-i", "x=zeros", "--dim", &format!("B={size}")]);
        assert!(matches!(done.code, Some(65 | 69)), "{size} {done:?}");
        assert!(!done.stderr.contains("panicked") && done.stderr.contains("error:"), "{size} {done:?}");
    }
    let grow = r#"{"id": "y", "op": "broadcast", "in": ["x"], "attrs": {"dims": ["1000*B", 1000, 3000], "axes": [2]}}"#;
    folder.write("grow.json", model(&["x:f32[3000]", "n:f32[B]"], &[grow], "y"));
    for device in ["cpu", "reference"] {
        let done = folder.graphc(&["run", "grow.json", "-i", "x=zeros", "-i", "n=[1]", "--device", device]);
        done.fails(69, &["of memory", "may be used"], "an output of 12 GB");
    }
}

#[test]
fn updates_are_committed_from_run_to_run() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    for device in ["cpu", "reference"] {
        let args = [
            "run",
            "counter.json",
            "-i",
            "x=[1,2]",
            "--repeat",
            "3",
            "--save",
            "after.json",
            "--device",
            device,
        ];
        let expected = "{\"y\": [1.0, 2.0]}\n{\"y\": [2.0, 4.0]}\n{\"y\": [3.0, 6.0]}\n";
        assert_eq!(folder.graphc(&args).succeeds(), expected);
        let done = folder.graphc(&["run", "after.json", "-i", "x=[0,0]"]);
        assert_eq!(done.succeeds(), "{\"y\": [3.0, 6.0]}\n");
        let done = folder.graphc(&["run", "counter.json", "-i", "x=[0,0]", "--state", "total=[7,8]"]);
        assert_eq!(done.succeeds(), "{\"y\": [7.0, 8.0]}\n");
    }
    let done = folder.graphc(&["run", "counter.json", "-i", "x=[0,0]", "--state", "totl=[7,8]"]);
    done.fails(2, &["no state variable `totl`", "did you mean `total`?"], "misspelt state");
    let done = folder.graphc(&["run", "counter.json", "-i", "x=[0,0]", "--state", "total=[7]"]);
    done.fails(65, &["`total`", "size 1"], "state of another shape");
}

#[test]
fn state_without_a_value_is_set_by_init() {
    let folder = Folder::new();
    let state = r#"{"name": "key", "role": "key", "type": "u32[2]"}, {"name": "w", "role": "param", "type": "f32[2]"}"#;
    let read = function(&[], &[], "w");
    let uniform = r#"{"id": "u", "op": "uniform", "in": ["key"], "attrs": {"dtype": "f32", "dims": [2], "lo": 0.0, "hi": 1.0}}"#;
    let init = function(&[], &[uniform], "u").replace("\"f\"", "\"init\"");
    let init = init.replace("{\"y\": \"u\"}", "{}").replace("\"updates\": {}", "\"updates\": {\"w\": \"u\"}");
    folder.write("init.json", module(state, &format!("{read}, {init}")));
    let run = |seed: &str| folder.graphc(&["run", "init.json", "--fn", "f", "--seed", seed]);
    let done = run("3");
    done.succeeds();
    assert!(done.stderr.contains("`w`") && done.stderr.contains("`init`") && done.stderr.contains("seed 3"));
    assert_eq!(run("3").stdout, done.stdout);
    assert_ne!(run("4").stdout, done.stdout);
    assert_eq!(folder.graphc(&["run", "init.json", "--fn", "f", "--seed", "3", "-q"]).stderr, "");
    folder.write("without.json", module(state, &read));
    let done = folder.graphc(&["run", "without.json"]);
    done.fails(65, &["state `w` has no value", "--state w="], "no init");
    let done = folder.graphc(&["run", "init.json"]);
    done.fails(2, &["--fn", "`f`", "`init`"], "two functions, none of them predict");
}

#[test]
fn classes_are_named_beside_the_numbers() {
    let folder = Folder::new();
    let text = model(&["x:f32[1,3]"], &[], "x").replace("\"y\"", "\"probabilities\"");
    let text = text.replace("\"symbols\": {}", r#""meta": {"classes": ["cat", "dog", "cow"]}"#);
    folder.write("cat.json", text);
    let done = folder.graphc(&["run", "cat.json", "-i", "x=[[0.1,0.2,0.7]]"]);
    assert_eq!(done.succeeds(), "{\"probabilities\": [[0.1, 0.2, 0.7]]}\n");
    assert_eq!(done.stderr, "class: cow\n");
}

#[test]
fn threads_do_not_change_a_bit() {
    let folder = Folder::new();
    let nodes = [
        r#"{"id": "h", "op": "dot", "in": ["x", "w"]}"#,
        r#"{"id": "p", "op": "softmax", "in": ["h"], "attrs": {"axis": 1}}"#,
    ];
    folder.write("model.json", model(&["x:f32[97,300]", "w:f32[300,131]"], &nodes, "p"));
    let run = |threads: &str| {
        let args = ["run", "model.json", "-i", "x=random", "-i", "w=random", "--threads", threads];
        folder.graphc(&args).succeeds().to_owned()
    };
    let one = run("1");
    for threads in ["2", "3", "8"] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn a_closed_or_full_standard_output_is_no_disaster() {
    let folder = Folder::new();
    folder.write("big.json", model(&["x:f32[200,200]"], &[], "x"));
    let script =
        "\"$0\" run big.json -i x=ones --repeat 20 | head -c 10; echo; echo \"${PIPESTATUS[0]}\" >&2";
    let output = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_graphc")])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n", "{output:?}");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = folder.graphc_to(&["run", "big.json", "-i", "x=ones"], Stdio::from(full));
    done.fails(74, &["standard output"], "a full disk");
    let closed = "\"$0\" run big.json -i x=ones >&- 2>&-";
    let status = std::process::Command::new("bash")
        .args(["-c", closed, env!("CARGO_BIN_EXE_graphc")])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(matches!(status.code(), Some(0 | 74)), "{status:?}");
}

/// What a verb does beside printing, and what its exit code says, do not depend on a reader.
#[test]
fn a_reader_that_goes_away_changes_no_result() {
    let folder = Folder::new();
    folder.write("counter.json", counter());
    let to_nobody = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        folder.graphc_to(args, Stdio::from(writer))
    };
    let run = ["run", "counter.json", "-i", "x=[1,2]", "--repeat", "2000", "--save", "after.json"];
    assert_eq!(to_nobody(&run).code, Some(0));
    let after = ["run", "after.json", "-i", "x=[0,0]"];
    assert_eq!(folder.graphc(&after).succeeds(), "{\"y\": [2000.0, 4000.0]}\n");
    // Nothing can agree to no error at all with what rounds otherwise.
    let exp = model(&["x:f32[64]"], &[r#"{"id": "y", "op": "exp", "in": ["x"]}"#], "y");
    folder.write("exp.json", exp);
    let verify = ["verify", "exp.json", "--tolerance", "0"];
    assert_eq!(folder.graphc(&verify).code, Some(1));
    to_nobody(&verify).fails(1, &["from the definition"], "verify");
    for args in [&["--help"][..], &["check", "exp.json"], &["ops"], &["schema"], &["completions", "bash"]] {
        assert_eq!(to_nobody(args).code, Some(0), "{args:?}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(folder.graphc_to(args, Stdio::from(full)).code, Some(74), "{args:?}");
    }
    // Outputs that cannot be printed are not saved either.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run = ["run", "counter.json", "-i", "x=[1,2]", "--save", "full.json"];
    folder.graphc_to(&run, Stdio::from(full)).fails(74, &["standard output"], "a full disk");
    assert!(!folder.names().contains(&"full.json".into()));
}

#[test]
fn colors_are_for_those_who_want_them() {
    let folder = Folder::new();
    let colored = |args: &[&str]| folder.graphc(args).stderr.contains('\x1b');
    assert!(!colored(&["run", "missing.json"]));
    assert!(colored(&["run", "missing.json", "--color", "always"]));
    assert!(!colored(&["run", "missing.json", "--color", "never"]));
}
