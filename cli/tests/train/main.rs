//! `graphc train` as a user calls it.

mod common;
mod endings;
#[cfg(unix)]
mod writers;

use common::{Folder, classifier, graphc, interrupt, number, ok, points, refused, state, table, text, train};

#[test]
fn a_classifier_learns() {
    let folder = Folder::new();
    let model = folder.model("m.json", 0.5);
    let data = folder.write("points.csv", points(60));
    let test = table(&data, "rows=40..60:");
    let more = ["--test", &test, "--epochs", "5", "--batch", "8", "--json"];
    let log = ok(&train(&model, &table(&data, "rows=0..40:"), &more));
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((number(lines[0], "epoch"), number(lines[4], "epoch")), (1.0, 5.0));
    assert!(number(lines[4], "loss") < number(lines[0], "loss") / 2.0, "{log}");
    assert_eq!(number(lines[4], "accuracy"), 1.0);
    assert!(state(&model).iter().all(|(_, value)| value.is_some()));
    // Without --json a line for people.
    let log = ok(&train(&model, &table(&data, ""), &["--epochs", "1", "--test", &test]));
    assert!(log.starts_with("epoch 1/1  loss ") && log.contains("test accuracy 1.00000"), "{log}");
}

#[test]
fn the_seed_alone_decides() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(50)), "");
    let run = |name: &str, more: &[&str]| {
        let model = folder.model(name, 0.5);
        let all = [&["--epochs", "3", "--batch", "8", "--json"], more].concat();
        (ok(&train(&model, &data, &all)), state(&model))
    };
    let first = run("a.json", &["--seed", "3", "--threads", "1"]);
    assert_eq!(run("b.json", &["--seed", "3", "--threads", "2"]), first);
    assert_ne!(run("c.json", &["--seed", "4"]), first);
}

#[test]
fn archives_and_compressed_tables_are_the_same_rows() {
    let folder = Folder::new();
    let run = |name: &str, data: &str| {
        let model = folder.model(name, 0.5);
        ok(&train(&model, data, &["--epochs", "2", "--batch", "4", "--json"]));
        state(&model)
    };
    let csv = folder.write("points.csv", points(10));
    let expected = run("csv.json", &table(&csv, ""));

    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gz, points(10).as_bytes()).unwrap();
    let gz = folder.write("points.csv.gz", gz.finish().unwrap());
    assert_eq!(run("gz.json", &table(&gz, "")), expected);

    let (mut x, mut y) = (Vec::new(), Vec::new());
    for line in points(10).lines() {
        let numbers: Vec<f64> = line.split(',').map(|n| n.parse().unwrap()).collect();
        x.push(format!("[{},{}]", numbers[0] / 4.0, numbers[1] / 4.0));
        y.push(numbers[2].to_string());
    }
    let npz = folder.path("rows.npz");
    let feeds = [format!("x=[{}]", x.join(",")), format!("y=[{}]", y.join(","))];
    let mut rows = graphc();
    rows.arg("run")
        .arg(folder.model("rows.json", 0.5))
        .args(["--fn", "rows", "-i", &feeds[0], "-i", &feeds[1]]);
    ok(&rows.arg("--outputs").arg(&npz).output().unwrap());
    assert_eq!(run("npz.json", &npz.display().to_string()), expected);
}

/// With a learning rate of zero an epoch's average is that of all rows, whatever the batches were.
#[test]
fn smaller_batches_weigh_less() {
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(7)), "");
    let losses: Vec<f64> = ["7", "3", "1", "100"]
        .iter()
        .map(|batch| {
            let model = folder.model("m.json", 0.0);
            let log = ok(&train(&model, &data, &["--batch", batch, "--test", &data, "--json"]));
            let (trained, tested) = log.split_once("test").unwrap();
            assert!((number(trained, "loss") - number(tested, "loss")).abs() < 1e-6, "{log}");
            number(trained, "loss")
        })
        .collect();
    assert!(losses.iter().all(|l| (l - losses[0]).abs() < 1e-6), "{losses:?}");
}

#[cfg(unix)]
#[test]
fn a_stopped_training_ends_with_the_same_bits() {
    const EPOCHS: &str = "150";
    let folder = Folder::new();
    let data = table(&folder.write("points.csv", points(200)), "");
    let whole = folder.model("whole.json", 0.1);
    let log = ok(&train(&whole, &data, &["--epochs", EPOCHS, "--batch", "2", "--json"]));

    let stopped = folder.model("stopped.json", 0.1);
    let (code, first) = interrupt(&stopped, &data, EPOCHS, &folder.path("log"), "-INT");
    assert_eq!(code, Some(75));
    let rest = ok(&train(&stopped, &data, &["--resume", "--json"]));
    assert!(first.lines().count() < 150);
    assert_eq!(first + &rest, log);
    assert_eq!(state(&stopped), state(&whole));
    // What is done is not done again.
    assert_eq!(ok(&train(&stopped, &data, &["--resume", "--json"])), "");

    let killed = folder.model("killed.json", 0.1);
    let (code, _) = interrupt(&killed, &data, EPOCHS, &folder.path("log"), "-KILL");
    assert_eq!(code, None);
    ok(&train(&killed, &data, &["--resume", "--json", "--epochs", EPOCHS, "--batch", "2"]));
    assert_eq!(state(&killed), state(&whole));
}

#[test]
fn a_resumed_training_is_the_same_training() {
    let folder = Folder::new();
    let model = folder.model("m.json", 0.5);
    let csv = folder.write("points.csv", points(12));
    let data = table(&csv, "");
    ok(&train(&model, &data, &["--epochs", "1", "--batch", "4", "--seed", "9"]));
    refused(&train(&model, &data, &["--resume", "--batch", "5"]), 2, &["--batch 4 --seed 9"]);
    refused(&train(&model, &data, &["--resume", "--seed", "8"]), 2, &["--batch 4 --seed 9"]);
    refused(&train(&model, &table(&csv, "rows=0..11:"), &["--resume"]), 65, &["11 rows", "12"]);
    // As many rows, but others.
    let other = folder.write("other.csv", points(13));
    refused(&train(&model, &table(&other, "rows=1..13:"), &["--resume"]), 65, &["other rows", "--resume"]);
    refused(&train(&model, &format!("{}:x=0..2/2:y=2", csv.display()), &["--resume"]), 65, &["other rows"]);
    // The same rows of another file are the same.
    let longer = table(&folder.write("longer.csv", points(20)), "rows=0..12:");
    ok(&train(&model, &longer, &["--resume"]));
    let log = ok(&train(&model, &data, &["--resume", "--epochs", "2", "--json"]));
    assert_eq!(number(&log, "epoch"), 2.0);
    let whole = folder.model("whole.json", 0.5);
    ok(&train(&whole, &data, &["--epochs", "2", "--batch", "4", "--seed", "9"]));
    assert_eq!(state(&model), state(&whole));
}

#[test]
fn bad_rows_are_named() {
    let folder = Folder::new();
    let model = folder.model("m.json", 0.5);
    let before = std::fs::read(&model).unwrap();
    let broken_gz = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2][..];
    for (name, bytes, rows, parts) in [
        ("ragged.csv", &b"1,2,0\n1,2\n"[..], "", &["row 1 (counted from 0)", "2 columns"][..]),
        ("long.csv", b"1,2,0\n1,2,0,7\n", "", &["row 1 (counted from 0)", "4 columns"]),
        ("narrow.csv", b"1,2\n", "", &["row 0 (counted from 0)", "`y` is columns 2..3"]),
        ("label.csv", b"1,2,0\n1,2,\n", "", &["row 1 (counted from 0)", "column 2 (input `y`) is empty"]),
        (
            "nan.csv",
            b"1,2,0\r\n\r\nNaN,2,0\r\n",
            "",
            &["row 1 (counted from 0)", "column 0 (input `x`)", "not finite"],
        ),
        ("inf.csv", b"1e999,2,0\n", "", &["row 0", "not finite"]),
        ("comma.csv", b"\"1,5\",2,0\n", "", &["row 0", "`1,5`, which is not a number"]),
        ("header.csv", b"a,b,label\n", "", &["row 0 (counted from 0)", "`a`, which is not a number"]),
        ("only_header.csv", b"a,b,label\n", "rows=1..:", &["1 rows", "from 1 on"]),
        ("empty.csv", b"", "", &["has no rows"]),
        ("short.csv", b"1,2,0\n", "rows=0..5:", &["1 rows", "0..5"]),
        ("half.csv", b"1,2,0.5\n", "", &["row 0", "0.5, which is not of type i32"]),
        ("large.csv", b"1,2,3000000000\n", "", &["3000000000, which is not of type i32"]),
        ("latin.csv", b"1,2,0\n1,\xff,0\n", "", &["row 1", "UTF-8"]),
        ("cut.csv.gz", broken_gz, "", &["cannot be decompressed"]),
    ] {
        let path = folder.write(name, bytes);
        let output = train(&model, &table(&path, rows), &[]);
        refused(&output, 65, parts);
        assert!(text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    assert_eq!(std::fs::read(&model).unwrap(), before);
}

#[test]
fn harmless_forms_are_read() {
    let folder = Folder::new();
    let run = |name: &str, bytes: &[u8], rows: &str| {
        let model = folder.model("m.json", 0.5);
        ok(&train(&model, &table(&folder.write(name, bytes), rows), &["--epochs", "2"]));
        state(&model)
    };
    let plain = run("plain.csv", b"1,2,0\n-3,4,2\n", "");
    assert_eq!(run("crlf.csv", b"1,2,0\r\n-3,4,2\r\n", ""), plain);
    assert_eq!(run("bom.csv", b"\xef\xbb\xbf1,2,0\n-3,4,2\n", ""), plain);
    assert_eq!(run("quoted.csv", b"\"1\",\"2\",\"0\"\n-3, 4 ,2", ""), plain);
    assert_eq!(run("header.csv", b"a,b,label\n1,2,0\n-3,4,2\n", "rows=1..:"), plain);
    assert_eq!(run("more.csv", b"1,2,0\n-3,4,2\n5,5,1\nnot,read\n", "rows=0..2:"), plain);
}

#[test]
fn wrong_requests_are_explained() {
    let folder = Folder::new();
    let model = folder.model("m.json", 0.5);
    let csv = folder.write("points.csv", points(12));
    let data = table(&csv, "");
    let of = |columns: &str| format!("{}:{columns}", csv.display());
    refused(&train(&model, &of("x=0..2"), &[]), 2, &["input `y`", "not in the data"]);
    refused(&train(&model, &of("xx=0..2:y=2"), &[]), 2, &["no input `xx`", "did you mean `x`?"]);
    refused(&train(&model, &of("x=0..1:y=2"), &[]), 2, &["f32[B,2]", "1 columns"]);
    refused(&train(&model, &of("rows=3..1:x=0..2:y=2"), &[]), 2, &["no rows"]);
    refused(&train(&model, "points.txt", &[]), 2, &["neither"]);
    refused(&train(&model, &data, &["--epochs", "0"]), 2, &["--epochs"]);
    refused(&train(&model, &data, &["--batch", "0"]), 2, &["--batch"]);
    refused(&train(&model, &table(&folder.path("none.csv"), ""), &[]), 66, &["none.csv"]);
    refused(&train(&folder.path("none.json"), &data, &[]), 66, &["none.json"]);
    // Labels beyond the classes fail in the model itself.
    let labels = table(&folder.write("labels.csv", "1,2,3\n"), "");
    refused(&train(&model, &labels, &[]), 65, &["outside the 3 classes"]);

    let fixed = folder.path("fixed.json");
    graphc::file::save(&classifier("4", 0.5).unwrap(), &fixed).unwrap();
    ok(&train(&fixed, &data, &["--test", &data]));
    refused(&train(&fixed, &data, &["--batch", "3"]), 2, &["batches of 4 rows"]);
    refused(&train(&fixed, &table(&csv, "rows=0..10:"), &[]), 65, &["a last batch of 2"]);
}
