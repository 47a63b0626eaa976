//! Recognises the files that are handed in for a model by mistake.

use super::error::{ErrorKind, JsonError};

const JSON_REMEDY: &str = "save it as UTF-8 without a byte order mark";

/// The error for bytes that are plainly no JSON document, or `None` where the parser should look.
///
/// No document that the parser would accept is refused here: every signature holds a byte that JSON forbids there.
pub(super) fn refuse_other_formats(bytes: &[u8]) -> Option<JsonError> {
    if bytes.iter().all(|b| b" \t\r\n".contains(b)) {
        let what = if bytes.is_empty() { "an empty file" } else { "a file of white space only" };
        return Some(error(ErrorKind::Empty, what, "check that the file was written completely"));
    }
    if let Some((what, remedy)) = by_encoding(bytes) {
        return Some(error(ErrorKind::Encoding, what, remedy));
    }
    let (what, remedy) = by_signature(bytes)?;
    Some(error(ErrorKind::OtherFormat, what, remedy))
}

fn error(kind: ErrorKind, what: &str, remedy: &str) -> JsonError {
    JsonError::new(kind, 0, format!("not a graphc JSON model: this looks like {what}"), remedy)
}

fn by_encoding(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let what = match bytes {
        [0xef, 0xbb, 0xbf, ..] => "UTF-8 text with a byte order mark",
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32 text",
        [b'{' | b'[', 0, 0, 0, ..] | [0, 0, 0, b'{' | b'[', ..] => "UTF-32 text",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16 text",
        [b'{' | b'[', 0, ..] | [0, b'{' | b'[', ..] => "UTF-16 text",
        _ => return None,
    };
    Some((what, JSON_REMEDY))
}

fn by_signature(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let found = match bytes {
        [0x1f, 0x8b, ..] => ("gzip data", "unpack it first, as with `gzip -d`"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd data", "unpack it first, as with `zstd -d`"),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => (
            "a zip archive (.npz arrays or a PyTorch checkpoint)",
            "give arrays as inputs, and export a PyTorch model to ONNX to import it",
        ),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            ("a NumPy .npy array", "give the model here and the array as an input, as in `-i x=@file.npy`")
        }
        [0x89, b'H', b'D', b'F', ..] => ("an HDF5 file", "export the model to ONNX and use `graphc import`"),
        [0x80, 2..=5, ..] => (
            "a Python pickle",
            "pickles are never opened, because they can run code: export the model to ONNX and use `graphc import`",
        ),
        [b'<', ..] => ("an HTML or XML page", "download the file itself"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            ("a Git LFS pointer", "fetch the file itself, as with `git lfs pull`")
        }
        _ if is_safetensors(bytes) => {
            ("a safetensors file", "give the .json file that stands beside these weights")
        }
        _ if is_onnx(bytes) => ("an ONNX protobuf", "convert it with `graphc import IN.onnx -o OUT.json`"),
        _ => return None,
    };
    Some(found)
}

/// A safetensors file begins with the length of its header, a little-endian u64 of at most 100 MB, and `{`.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= 100_000_000
}

/// An ONNX `ModelProto` as all known exporters write it begins with field 1, the IR version, a small varint; another
/// field of the message follows (its tags: 2 to 6 strings and the model version, 7 the graph, 8 the opset imports).
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=0x1f, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72, ..])
}
