//! What the reader keeps, and what it promises for bad bytes.

use super::*;

fn read(text: &str) -> Node {
    match parse(text.as_bytes(), &Limits::default()) {
        Ok(node) => node,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

fn refused(bytes: impl AsRef<[u8]>) -> JsonError {
    refused_within(bytes, &Limits::default())
}

fn refused_within(bytes: impl AsRef<[u8]>, limits: &Limits) -> JsonError {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    match parse(bytes, limits) {
        Ok(node) => panic!("{shown:?} was read as {}", node.value.kind()),
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{shown:?}: {error}");
            assert!(!error.message.is_empty() && !error.remedy.is_empty());
            error
        }
    }
}

#[track_caller]
fn assert_refused(text: impl AsRef<[u8]>, kind: ErrorKind, offset: usize) {
    let error = refused(text);
    assert_eq!((error.kind, error.offset), (kind, offset), "{error}");
}

/// A small module in the style of the file format.
const MODULE: &str = r#"{"format":"graphc.module","version":1,"meta":{"über":"naïve 😀 \"quoted\" \u00e9\ud83d\ude00"},
 "state":[{"name":"w","role":"param","type":"f32[2,3]","init":[-1.5e-3,0.0,-0,1E+10,true,null]}],
 "functions":{"predict":{"nodes":[{"id":"h","op":"linear","in":["x","w",null]}],"outputs":{"y":"h"},"updates":{}}}}
"#;

#[test]
fn values_keep_order_text_and_place() {
    let root = read(MODULE);
    let members = root.as_object().unwrap();
    let keys: Vec<&str> = members.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(keys, ["format", "version", "meta", "state", "functions"]);
    assert_eq!(root.get("meta").unwrap().get("über").unwrap().as_str(), Some("naïve 😀 \"quoted\" é😀"));
    let init = root.get("state").unwrap().as_array().unwrap()[0].get("init").unwrap();
    let texts: Vec<&str> =
        init.as_array().unwrap()[..4].iter().map(|n| n.as_number().unwrap().text()).collect();
    assert_eq!(texts, ["-1.5e-3", "0.0", "-0", "1E+10"]);
    assert_eq!(init.as_array().unwrap()[4].as_bool(), Some(true));

    let version = &members[1];
    assert_eq!(&MODULE[version.key_span.start..version.key_span.end], "\"version\"");
    assert_eq!(&MODULE[version.value.span.start..version.value.span.end], "1");
    let span = root.get("functions").unwrap().span;
    assert!(MODULE[span.start..span.end].starts_with("{\"predict\"") && span.end < MODULE.len());
    assert_eq!(root.span.end, MODULE.trim_end().len());
}

#[test]
fn any_value_may_be_the_document() {
    for (text, kind) in [
        (" null\r\n", "null"),
        ("false", "a boolean"),
        ("\t-0", "a number"),
        ("\"\"", "a string"),
        ("[ ]", "an array"),
        ("{ }", "an object"),
    ] {
        assert_eq!(read(text).value.kind(), kind);
    }
}

#[test]
fn every_truncation_is_an_error_at_the_end() {
    for end in 0..MODULE.trim_end().len() {
        let error = refused(&MODULE.as_bytes()[..end]);
        if end == 0 {
            assert_eq!(error.kind, ErrorKind::Empty);
        } else {
            assert_eq!((error.kind, error.offset), (ErrorKind::Truncated, end));
        }
    }
    assert_eq!(refused("{\"a\": [1, \"b").related.unwrap().offset, 10);
}

#[test]
fn other_formats_are_named() {
    let mut safetensors = 12u64.to_le_bytes().to_vec();
    safetensors.extend(b"{\"a\":{}}    ");
    for (bytes, kind, name) in [
        (&b""[..], ErrorKind::Empty, "an empty file"),
        (b" \r\n\t ", ErrorKind::Empty, "white space"),
        (b"\xef\xbb\xbf{}", ErrorKind::Encoding, "byte order mark"),
        (b"\xff\xfe{\0}\0", ErrorKind::Encoding, "UTF-16"),
        (b"\xfe\xff\0{\0}", ErrorKind::Encoding, "UTF-16"),
        (b"{\0}\0", ErrorKind::Encoding, "UTF-16"),
        (b"\0{\0}", ErrorKind::Encoding, "UTF-16"),
        (b"\xff\xfe\0\0{\0\0\0", ErrorKind::Encoding, "UTF-32"),
        (b"{\0\0\0", ErrorKind::Encoding, "UTF-32"),
        (b"\x1f\x8b\x08\0\0", ErrorKind::OtherFormat, "gzip"),
        (b"\x28\xb5\x2f\xfd", ErrorKind::OtherFormat, "zstd"),
        (b"PK\x03\x04\x14\0", ErrorKind::OtherFormat, "zip"),
        (b"\x93NUMPY\x01\0", ErrorKind::OtherFormat, ".npy"),
        (b"\x80\x02}q\0", ErrorKind::OtherFormat, "pickle"),
        (b"\x89HDF\r\n", ErrorKind::OtherFormat, "HDF5"),
        (b"\x08\x07\x12\x07pytorch", ErrorKind::OtherFormat, "ONNX"),
        (b"\x08\x0a\x3a\x80\x02", ErrorKind::OtherFormat, "ONNX"),
        (&safetensors, ErrorKind::OtherFormat, "safetensors"),
        (b"<!DOCTYPE html>", ErrorKind::OtherFormat, "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", ErrorKind::OtherFormat, "LFS"),
        (b"{\"a\": \"\0\"}", ErrorKind::Encoding, "NUL"),
        (b"{\"a\": \"\xe9t\xe9\"}", ErrorKind::Encoding, "not UTF-8"),
        (b"[\"\xed\xa0\x80\"]", ErrorKind::Encoding, "not UTF-8"),
    ] {
        let error = refused(bytes);
        assert_eq!(error.kind, kind, "{error}");
        assert!(
            error.message.starts_with("not a graphc JSON model") && error.message.contains(name),
            "{name}: {error}"
        );
    }
}

#[test]
fn syntax_errors_point_at_the_place() {
    for (text, kind, offset) in [
        ("{} {}", ErrorKind::TrailingData, 3),
        ("[1]\n]", ErrorKind::TrailingData, 4),
        ("1 \u{1}", ErrorKind::TrailingData, 2),
        ("[1 2]", ErrorKind::Syntax, 3),
        ("[1,]", ErrorKind::Syntax, 3),
        ("[,1]", ErrorKind::Syntax, 1),
        ("{\"a\":1,}", ErrorKind::Syntax, 7),
        ("{\"a\" 1}", ErrorKind::Syntax, 5),
        ("{a:1}", ErrorKind::Syntax, 1),
        ("{1:1}", ErrorKind::Syntax, 1),
        ("{'a':1}", ErrorKind::Syntax, 1),
        ("{\"a\":}", ErrorKind::Syntax, 5),
        ("{\"a\":1]", ErrorKind::Syntax, 6),
        ("[1}", ErrorKind::Syntax, 2),
        ("]", ErrorKind::Syntax, 0),
        ("// no\n{}", ErrorKind::Syntax, 0),
        ("[nul]", ErrorKind::Syntax, 1),
        ("[True]", ErrorKind::Syntax, 1),
        ("\u{a0}1", ErrorKind::Syntax, 0),
        ("[01]", ErrorKind::BadNumber, 1),
        ("[-01]", ErrorKind::BadNumber, 1),
        ("[1.]", ErrorKind::BadNumber, 3),
        ("[1e+]", ErrorKind::BadNumber, 4),
        ("[-]", ErrorKind::BadNumber, 2),
        ("[0x10]", ErrorKind::BadNumber, 1),
        ("[1_000]", ErrorKind::BadNumber, 1),
        ("[1.2.3]", ErrorKind::BadNumber, 1),
        ("[1.0f]", ErrorKind::BadNumber, 1),
        ("[.5]", ErrorKind::Syntax, 1),
        ("[+1]", ErrorKind::Syntax, 1),
        ("[NaN]", ErrorKind::BadNumber, 1),
        ("[Infinity]", ErrorKind::BadNumber, 1),
        ("[-Infinity]", ErrorKind::BadNumber, 1),
        ("[-inf]", ErrorKind::BadNumber, 1),
        ("[\"a\nb\"]", ErrorKind::BadString, 3),
        ("[\"a\u{1}b\"]", ErrorKind::BadString, 3),
        (r#"["\x41"]"#, ErrorKind::BadString, 2),
        (r#"["\u00g0"]"#, ErrorKind::BadString, 2),
        (r#"["\ud83d"]"#, ErrorKind::BadString, 2),
        (r#"["\ud83dx"]"#, ErrorKind::BadString, 2),
        (r#"["\ud83d\u0041"]"#, ErrorKind::BadString, 2),
        (r#"["\ude00"]"#, ErrorKind::BadString, 2),
    ] {
        assert_refused(text, kind, offset);
    }
}

#[test]
fn non_finite_literals_are_told_the_spelling() {
    for text in ["[NaN]", "[-Infinity]", "[inf]"] {
        assert!(refused(text).remedy.contains("\"nan\""));
    }
    let spelt = read(r#"["nan","inf","-inf",-0.0,"x",0.1]"#);
    let items = spelt.as_array().unwrap();
    assert!(items[0].as_f64().unwrap().unwrap().is_nan());
    assert_eq!(items[1].as_f32(), Some(Ok(f32::INFINITY)));
    assert_eq!(items[2].as_f64(), Some(Ok(f64::NEG_INFINITY)));
    let zero = items[3].as_f64().unwrap().unwrap();
    assert!(zero == 0.0 && zero.is_sign_negative());
    assert_eq!(items[4].as_f64(), None);
    assert_eq!(items[5].as_f32(), Some(Ok(0.1)));
}

#[test]
fn numbers_are_typed() {
    let number = |text: &str| read(text).as_number().unwrap().clone();
    assert_eq!(number("9223372036854775807").as_i64(), Ok(i64::MAX));
    assert_eq!(number("-9223372036854775808").as_i64(), Ok(i64::MIN));
    assert_eq!(number("18446744073709551615").as_u64(), Ok(u64::MAX));
    assert_eq!(number("-0").as_i64(), Ok(0));
    assert_eq!(number("-0").as_u64(), Ok(0));
    let range = |result: Result<_, NumberError>| matches!(result, Err(NumberError::OutOfRange { .. }));
    assert!(range(number("9223372036854775808").as_i64().map(drop)));
    assert!(range(number("18446744073709551616").as_u64().map(drop)));
    assert!(range(number("-1").as_u64().map(drop)));
    assert!(range(number("1e400").as_f64().map(drop)));
    assert!(range(number("-1e400").as_f64().map(drop)));
    assert!(range(number("1e39").as_f32().map(drop)));
    assert_eq!(number("1e-400").as_f64(), Ok(0.0));
    for text in ["1.0", "1e3", "0.5", "-0.0"] {
        assert!(!number(text).is_integer());
        let error = number(text).as_i64().unwrap_err();
        assert_eq!(error, NumberError::NotAnInteger { text: text.into() });
        assert_eq!(number(text).as_u64().unwrap_err(), error);
    }
    // A double rounding by way of f64 would give 1.0: this is just above the middle of 1 and the next f32.
    let above = number("1.00000005960464477540");
    assert_eq!(above.as_f32(), Ok(1.0 + f32::EPSILON));
    assert!(number("1e400").as_f64().unwrap_err().to_string().contains("f64"));
}

#[test]
fn duplicate_keys_name_both_places() {
    let error = refused("{\"a\": 1, \"b\": 2, \"\\u0061\": 3}");
    assert_eq!((error.kind, error.offset), (ErrorKind::DuplicateKey, 17));
    assert_eq!(error.related.unwrap().offset, 1);

    let mut text = String::from("{");
    for i in 0..1000 {
        text += &format!("\"k{i}\":{i},");
    }
    let second = text.len();
    text += "\"k500\":0}";
    let error = refused(&text);
    assert_eq!((error.kind, error.offset), (ErrorKind::DuplicateKey, second));
    assert_eq!(error.related.unwrap().offset, text.find("\"k500\"").unwrap());
    assert_eq!(read("[{\"a\":1},{\"a\":2}]").as_array().unwrap().len(), 2);
}

#[test]
fn keys_with_hidden_characters_are_refused() {
    for key in ["a\u{202e}b", "\u{200b}", "x\u{feff}", "\u{85}", "\u{2067}y", "\u{e0041}"] {
        assert_refused(format!("{{\"ok\":{{\"{key}\":1}}}}"), ErrorKind::HiddenCharacter, 7);
    }
    assert_refused("{\"a\\u0000\":1}", ErrorKind::HiddenCharacter, 1);
    assert_eq!(read("{\"größe-Δ/重み.0\":1}").as_object().unwrap().len(), 1);
    assert_eq!(hidden_character("ab\u{200f}"), Some((2, '\u{200f}')));
    assert_eq!(hidden_character("héllo 重み"), None);
}

#[test]
fn depth_is_limited_without_recursion() {
    let nested = |depth: usize, open: &str, close: &str| open.repeat(depth) + "0" + &close.repeat(depth);
    assert_eq!(read(&nested(128, "[", "]")).span.end, 257);
    assert_refused(nested(129, "[", "]"), ErrorKind::Limit, 128);
    assert_refused(nested(1_000_000, "[", "]"), ErrorKind::Limit, 128);
    assert_refused(nested(1_000_000, "{\"a\":", "}"), ErrorKind::Limit, 128 * 5);
    assert_refused("[".repeat(1_000_000), ErrorKind::Limit, 128);

    let unlimited = Limits { depth: usize::MAX, ..Limits::default() };
    let deep = nested(Limits::MAX_DEPTH, "{\"a\":", "}");
    let tree = parse(deep.as_bytes(), &unlimited).unwrap();
    assert_eq!(tree.clone(), tree);
    drop(tree);
    let error = refused_within(nested(Limits::MAX_DEPTH + 1, "[", "]"), &unlimited);
    assert_eq!(error.kind, ErrorKind::Limit);
}

#[test]
fn sizes_are_limited() {
    let limits = Limits { bytes: 40, nodes: 4, string_bytes: 5, number_chars: 3, ..Limits::default() };
    for within in ["[1,2,3]", "{\"a\":[{}]}", "[123,\"ab\\u00e9d\"]"] {
        assert!(parse(within.as_bytes(), &limits).is_ok(), "{within}");
    }
    for (beyond, offset) in [
        ("[1,2,3,4]", 7),
        ("[[],[],[[]]]", 8),
        ("[\"abcdef\"]", 1),
        ("[\"abcd\\u00e9\"]", 1),
        ("{\"abcdef\":0}", 1),
        ("[1234]", 1),
        ("                                          ", 0),
    ] {
        let error = refused_within(beyond, &limits);
        assert_eq!((error.kind, error.offset), (ErrorKind::Limit, offset), "{beyond}");
    }
    assert_refused("7".repeat(1 << 22), ErrorKind::Limit, 0);
    assert_refused(format!("[\"{}\"]", "x".repeat((1 << 20) + 1)), ErrorKind::Limit, 1);
}

/// Inputs whose cost would be quadratic in a careless reader; they take milliseconds in a linear one.
#[test]
fn large_documents_are_read_in_linear_time() {
    let members: Vec<String> = (0..100_000).map(|i| format!("\"key{i}\": [{i}]")).collect();
    let text = format!("{{{}}}", members.join(","));
    let root = read(&text);
    assert_eq!(root.as_object().unwrap().len(), 100_000);

    // All on one line: the column of every key.
    let index = LineIndex::new(text.as_bytes());
    for member in root.as_object().unwrap() {
        let place = index.place(member.key_span.start);
        assert_eq!((place.line, place.column), (1, member.key_span.start + 1));
    }
}

#[test]
fn places_count_lines_and_characters() {
    let text = "{\n  \"größe\": 1,\r\n\t\"重\": x\n}".repeat(40);
    let index = LineIndex::new(text.as_bytes());
    let (mut line, mut column) = (1, 1);
    for (offset, c) in text.char_indices() {
        for byte in offset..offset + c.len_utf8() {
            assert_eq!(index.place(byte), Place { line, column }, "byte {byte}");
        }
        (line, column) = match c {
            '\n' => (line + 1, 1),
            _ => (line, column + 1),
        };
    }
    assert_eq!(index.place(text.len()), Place { line, column });
    assert_eq!(index.place(usize::MAX), Place { line, column });
    assert_eq!(LineIndex::new(b"").place(9).to_string(), "1:1");
    let exact = "x".repeat(512);
    assert_eq!(LineIndex::new(exact.as_bytes()).place(512).column, 513);
}

#[test]
fn errors_read_as_sentences() {
    let text = "{\"a\": 1,\n \"ä\": 2, \"a\": 3}";
    let error = refused(text);
    assert_eq!(
        error.describe("m.json", &LineIndex::new(text.as_bytes())),
        "m.json:2:10: the key \"a\" stands twice in one object (the first one is at 1:2); \
         remove or rename one of the two"
    );
    assert_eq!(
        refused("[[1, ").to_string(),
        "byte 5: the file ends where a value is expected (the open array begins at byte 1); \
         get the whole file again, or close what is open"
    );
}
