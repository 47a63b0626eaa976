//! VALUE in all its forms.

use crate::command::{Folder, model, relu};

#[test]
fn recipes_make_tensors_of_the_inputs_type() {
    let folder = Folder::new();
    folder.write("f.json", model(&["x:f32[B,2]"], &[], "x"));
    folder.write("i.json", model(&["x:i32[2]"], &[], "x"));
    folder.write("b.json", model(&["x:bool[]"], &[], "x"));
    for (file, value, expected) in [
        ("f.json", "zeros", "[[0.0, 0.0]]"),
        ("f.json", "ones", "[[1.0, 1.0]]"),
        ("f.json", "[[0.5, 1e-3]]", "[[0.5, 0.001]]"),
        ("i.json", "random", "[0, 0]"),
        ("i.json", "uniform", "[0, 0]"),
        ("i.json", "ones", "[1, 1]"),
        ("b.json", "random", "false"),
        ("b.json", "true", "true"),
    ] {
        let mut args = vec!["run", file, "-i"];
        let value = format!("x={value}");
        args.push(&value);
        if file == "f.json" {
            args.extend(["--dim", "B=1"]);
        }
        assert_eq!(folder.graphc(&args).succeeds(), format!("{{\"y\": {expected}}}\n"), "{value}");
    }
}

#[test]
fn random_values_depend_on_the_seed_and_the_name() {
    let folder = Folder::new();
    folder.write("x.json", model(&["x:f32[3]"], &[], "x"));
    folder.write("z.json", model(&["z:f32[3]"], &[], "z"));
    let run = |file: &str, value: &str, seed: &str| {
        folder.graphc(&["run", file, "-i", value, "--seed", seed]).succeeds().to_owned()
    };
    assert_eq!(run("x.json", "x=random", "1"), run("x.json", "x=random", "1"));
    assert_ne!(run("x.json", "x=random", "1"), run("x.json", "x=random", "2"));
    assert_ne!(run("x.json", "x=random", "1"), run("z.json", "z=random", "1"));
    let repeated = folder.graphc(&["run", "x.json", "-i", "x=uniform", "--repeat", "3"]);
    let lines: Vec<&str> = repeated.succeeds().lines().collect();
    assert!(lines.len() == 3 && lines[0] == lines[1] && lines[1] == lines[2], "{lines:?}");
}

#[test]
fn images_are_scaled_to_the_input() {
    let folder = Folder::new();
    image::GrayImage::from_fn(2, 2, |x, y| image::Luma([(255 * x * y) as u8]))
        .save(folder.path().join("dot.png"))
        .unwrap();
    folder.write("flat.json", model(&["x:f32[B,4]"], &[], "x"));
    let done = folder.graphc(&["run", "flat.json", "-i", "x=@dot.png"]);
    assert_eq!(done.succeeds(), "{\"y\": [[0.0, 0.0, 0.0, 1.0]]}\n");
    folder.write("broken.png", "not an image");
    folder.graphc(&["run", "flat.json", "-i", "x=@broken.png"]).fails(
        65,
        &["broken.png", "PNG"],
        "a broken image",
    );
}

#[test]
fn what_is_no_value_is_told_at_once() {
    let folder = Folder::new();
    folder.write("relu.json", relu());
    for (value, part) in [
        ("x=randon", "is no value"),
        ("x=[1,2", "is no value"),
        ("x=", "is no value"),
        ("x=@", "name of a file"),
        ("x", "as in `x=@x.npy`"),
        ("=1", "as in `x=@x.npy`"),
    ] {
        folder.graphc(&["run", "relu.json", "-i", value]).fails(2, &[part], value);
    }
    for (value, part) in
        [("x=[[1,2,3],[4]]", "beside arrays of 3"), ("x=[[true,1,2]]", "f32"), ("x=[[1,2,1e39]]", "f32")]
    {
        folder.graphc(&["run", "relu.json", "-i", value]).fails(65, &["`x`", part], value);
    }
}
