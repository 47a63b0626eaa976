//! The shipped files are what the builders write.

use std::io::Read;
use std::path::{Path, PathBuf};

use graphc::build::Module;
use graphc::ir::wire::{EncodeOptions, encode};
use graphc::{Session, Tensor};
use graphc_models::{File, MODELS};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join(format!("{name}.json"))
}

/// The text of a module without the values of its state.
fn graphs(mut module: Module) -> String {
    for decl in &mut module.state {
        decl.init = None;
    }
    encode(&module, &EncodeOptions::default()).unwrap()
}

#[test]
fn files_are_as_built() {
    for model in MODELS.iter().filter(|m| m.file == File::Shipped) {
        let file = graphc::file::load(&path(model.name)).unwrap_or_else(|e| panic!("{e}"));
        let built = (model.build)().unwrap();
        assert_eq!(
            graphs(file),
            graphs(built),
            "write it anew: cargo run -p graphc-models -- {0} models/{0}",
            model.name
        );
    }
}

#[test]
fn every_model_can_be_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    for model in MODELS {
        let path = folder.path().join(format!("{}.json", model.name));
        let built = (model.build)().unwrap();
        graphc::file::save(&built, &path).unwrap();
        let read = graphc::file::load(&path).unwrap_or_else(|e| panic!("{}: {e}", model.name));
        for (name, function) in &built.functions {
            assert_eq!(read.functions[name].inputs, function.inputs, "{}", model.name);
            assert_eq!(read.functions[name].outputs, function.outputs, "{}", model.name);
        }
        assert_eq!(graphs(read.clone()), graphs(read));
    }
}

#[test]
fn a_misspelt_name_is_suggested() {
    assert!(graphc_models::find("mlp784").err().unwrap().to_string().contains("did you mean `mlp_784`?"));
}

/// Models of the digits whose weights are shipped, and what they read of the test half at least.
const TRAINED: [(&str, f64); 3] = [("digits_mlp", 0.96), ("digits_cnn", 0.97), ("resnet20", 0.97)];

#[test]
fn names_and_images_of_the_digits_are_in_their_files() {
    for (name, _) in TRAINED {
        let meta = graphc::file::load(&path(name)).unwrap().meta;
        let classes = meta.get("classes").and_then(|c| c.texts().map(|t| t.join(" ")));
        assert_eq!(classes.as_deref(), Some("0 1 2 3 4 5 6 7 8 9"), "{name}");
        let image = meta.get("image").expect("how images are read");
        assert!(image.get("mean").is_some() && image.get("std").is_some(), "{name}");
    }
}

/// Rows of `data/digits.csv.gz` as `x` and `y`.
fn digits(rows: std::ops::Range<usize>) -> (Tensor, Tensor) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for line in text.lines().skip(rows.start).take(rows.len()) {
        let numbers: Vec<i32> = line.split(',').map(|n| n.parse().unwrap()).collect();
        x.extend(numbers[..64].iter().map(|n| *n as f32 / 16.0));
        y.push(numbers[64]);
    }
    (Tensor::from_slice(&[y.len(), 1, 8, 8], &x), Tensor::from_slice(&[y.len()], &y))
}

/// Writers whose hand the weights were not trained on.
#[test]
fn shipped_weights_read_the_test_half() {
    let (x, y) = digits(898..1797);
    for (name, least) in TRAINED {
        let session = Session::open(path(name)).unwrap().build().unwrap();
        let found = session.run_shared("evaluate", [("x", &x), ("y", &y)]).unwrap();
        let accuracy = found["accuracy"].get(0).as_f64();
        assert!(accuracy > least, "{name}: {accuracy}");
    }
}

#[test]
fn shipped_weights_read_the_images() {
    let image = |digit: i64| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("digits/digit-{digit}.png"));
        let image = image::open(file).unwrap().into_luma8();
        assert_eq!(image.dimensions(), (8, 8));
        let pixels: Vec<f32> = image.into_raw().iter().map(|v| f32::from(*v) / 255.0).collect();
        Tensor::from_slice(&[1, 1, 8, 8], &pixels)
    };
    for (name, _) in TRAINED {
        let session = Session::open(path(name)).unwrap().build().unwrap();
        for digit in [0, 3, 5, 7] {
            let found = session.run_shared("predict", [("x", &image(digit))]).unwrap();
            assert_eq!(found["class"].to_f64(), [digit as f64], "{name}");
        }
    }
}
