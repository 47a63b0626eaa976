//! Convolutions and pools that cannot be: row 23 of the catalogue of bad inputs. Every message shows the place,
//! the operation's signature and the sizes.

use crate::command::{Folder, model};

/// Checks a node `y` over images `x` (channels first) and, for a convolution, filters `w`.
#[track_caller]
fn refused(folder: &Folder, image: &str, filters: Option<&str>, op: &str, attrs: &str, part: &str) {
    let inputs: Vec<String> =
        [Some(format!("x:{image}")), filters.map(|w| format!("w:{w}"))].into_iter().flatten().collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let ins = if filters.is_some() { r#""x", "w""# } else { r#""x""# };
    let node = format!(r#"{{"id": "y", "op": "{op}", "in": [{ins}], "attrs": {{{attrs}}}}}"#);
    let mut parts = vec!["model.json:4:8", "`y`", part, image];
    let signature = format!("{op}{{");
    parts.push(&signature);
    folder.refuses(model(&inputs, &[&node], "y"), &parts);
}

#[test]
fn windows_of_convolutions_are_checked() {
    let folder = Folder::new();
    let conv = |image, filters, attrs, part| refused(&folder, image, Some(filters), "conv", attrs, part);
    let (x, w) = ("f32[1,4,5,5]", "f32[6,4,3,3]");
    conv(x, "f32[6,4,0,3]", "", "kernel lie in 1..=");
    conv(x, w, r#""strides": [0, 1]"#, "strides lie in 1..=");
    conv(x, w, r#""dilations": [1, 0]"#, "dilations lie in 1..=");
    conv(x, w, r#""strides": [1]"#, "strides [1] has 1 entries for 2 spatial dims");
    conv(x, w, r#""pads_lo": [1, 1, 1]"#, "pads_lo [1, 1, 1] has 3 entries for 2 spatial dims");
    conv(
        x,
        w,
        r#""dilations": [2, 3]"#,
        "the window spans 7 (kernel 3, dilation 3), but spatial dim 1 has 5",
    );
    conv("f32[1,4,2,5]", w, "", "the window spans 3 (kernel 3, dilation 1), but spatial dim 0 has 2");
    conv("f32[1,4,0,5]", w, r#""pads_lo": [1, 0]"#, "spatial dim 0 has 0 elements with 1 and 0 of padding");
    conv(x, w, r#""groups": 0"#, "at least 1 group");
    conv(x, "f32[6,2,3,3]", r#""groups": 4"#, "groups divide the filters' output channels");
    conv(x, "f32[6,3,3,3]", r#""groups": 2"#, "as many channels as all groups of the filters read");
    conv(x, "f32[6,3,3,3]", "", "as many channels as all groups of the filters read");
    conv(x, "f32[6,4,3]", "", "two operands of one rank");
    conv("f32[1,4]", "f32[6,4]", "", "rank 3 to 5");
    conv(x, "f64[6,4,3,3]", "", "two operands of one float type");
    conv(x, "f32[6,4,K,3]", "", "the spatial sizes of filters are numbers");
    conv(x, w, r#""pads_lo": [4294967296, 0]"#, "pads_lo lie in 0..=");
}

#[test]
fn windows_of_pools_are_checked() {
    let folder = Folder::new();
    for op in ["max_pool", "avg_pool"] {
        let pool = |image, attrs, part| refused(&folder, image, None, op, attrs, part);
        let x = "f32[1,4,5,5]";
        pool(x, r#""kernel": [0, 2]"#, "kernel lie in 1..=");
        pool(x, r#""kernel": []"#, "kernel has no entries");
        pool(x, r#""kernel": [2]"#, "a window of [2] slides over 2 spatial dims");
        pool(x, r#""kernel": [2, 2], "strides": [2]"#, "strides [2] has 1 entries for 2 spatial dims");
        pool(x, r#""kernel": [2, 2], "strides": [2, 0]"#, "strides lie in 1..=");
        pool(x, r#""kernel": [2, 2], "pads_lo": [2, 0]"#, "the padding of a pool is smaller than its window");
        pool(x, r#""kernel": [2, 2], "pads_hi": [0, 3]"#, "the padding of a pool is smaller than its window");
        pool(x, r#""kernel": [2, 6]"#, "the window spans 6 (kernel 6, dilation 1), but spatial dim 1 has 5");
        pool("f32[1,4,0,5]", r#""kernel": [1, 1], "ceil": true"#, "spatial dim 0 has 0 elements");
        pool("i32[1,4,5,5]", r#""kernel": [2, 2]"#, "takes floats");
    }
    let dilated = r#""kernel": [2, 2], "dilations": [1, 5]"#;
    refused(&folder, "f32[1,4,5,5]", None, "max_pool", dilated, "the window spans 6 (kernel 2, dilation 5)");
}

/// Sizes that are known only when they are bound are refused then, before anything is computed.
#[test]
fn symbolic_images_are_checked_when_they_are_bound() {
    let folder = Folder::new();
    let node = r#"{"id": "y", "op": "conv", "in": ["x", "w"], "attrs": {"strides": [2]}}"#;
    folder.write("model.json", model(&["x:f32[1,1,S]", "w:f32[1,1,3]"], &[node], "y"));
    for device in ["cpu", "reference"] {
        let run = |x: &str| {
            folder.graphc(&["run", "model.json", "-i", x, "-i", "w=[[[1,1,1]]]", "--device", device])
        };
        assert_eq!(run("x=[[[1,2,3,4,5]]]").succeeds(), "{\"y\": [[[6.0, 12.0]]]}\n");
        run("x=[[[1,2]]]").fails(65, &["there is place for a window in each spatial dim", "S = 2"], device);
    }
}

/// The last window of a pool with `ceil` starts inside the image, so none is empty.
#[test]
fn ceil_leaves_no_window_empty() {
    let folder = Folder::new();
    for (op, expected) in [("max_pool", "[[[3.0, 3.0]]]"), ("avg_pool", "[[[2.0, 3.0]]]")] {
        let attrs = r#""kernel": [3], "strides": [2], "ceil": true"#;
        let node = format!(r#"{{"id": "y", "op": "{op}", "in": ["x"], "attrs": {{{attrs}}}}}"#);
        folder.write("model.json", model(&["x:f32[1,1,4]"], &[&node], "y"));
        for device in ["cpu", "reference"] {
            let done = folder.graphc(&["run", "model.json", "-i", "x=[[[1,2,3,3]]]", "--device", device]);
            assert_eq!(done.succeeds(), format!("{{\"y\": {expected}}}\n"), "{op} on {device}");
        }
    }
}
