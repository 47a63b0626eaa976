//! The writer, the way back through the reader, and the reader's verdicts beside those of serde_json.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Node {
    match parse(text.as_bytes(), &Limits::default()) {
        Ok(node) => node,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

const DOCUMENT: &str = r#"{"format":"x","version":1,"meta":{"über":"naïve 😀 \"quoted\" \u00e9\ud83d\ude00"},
 "init":[-1.5e-3,0.0,-0,1E+10,true,null],"nodes":[{"id":"h","in":["x","w",null]}],"outputs":{}}"#;

#[test]
fn the_writer_is_canonical() {
    let text = object_document(Layout::Block, |root| {
        root.string("format", "graphc.module");
        root.u64("version", 1);
        root.object("meta", Layout::Block, |_| {});
        root.array("nodes", Layout::Block, |nodes| {
            for id in ["h", "a"] {
                nodes.object(Layout::Inline, |node| {
                    node.string("id", id);
                    node.array("in", Layout::Block, |operands| {
                        operands.string("x");
                        operands.null();
                    });
                    node.bool("last", id == "a");
                });
            }
        });
        root.array("floats", Layout::Inline, |floats| {
            floats.f64(1.0);
            floats.f64(-0.0);
            floats.f64(1e300);
            floats.f32(0.1);
            floats.f32(f32::NAN);
            floats.f64(f64::INFINITY);
            floats.f64(f64::NEG_INFINITY);
            floats.i64(i64::MIN);
        });
        root.string("text", "\"\\\n\t\u{1}\u{202e}\u{e0041} é😀");
    });
    let expected = r#"{
  "format": "graphc.module",
  "version": 1,
  "meta": {},
  "nodes": [
    {"id": "h", "in": ["x", null], "last": false},
    {"id": "a", "in": ["x", null], "last": true}
  ],
  "floats": [1.0, -0.0, 1e300, 0.1, "nan", "inf", "-inf", -9223372036854775808],
  "text": "\"\\\n\t\u0001\u202e\udb40\udc41 é😀"
}
"#;
    assert_eq!(text, expected);
    let reread = read(&text);
    assert_eq!(reread.get("text").unwrap().as_str(), Some("\"\\\n\t\u{1}\u{202e}\u{e0041} é😀"));
}

#[test]
fn closures_hand_results_out() {
    let mut count = 0;
    let text = array_document(Layout::Block, |items| {
        count = items.object(Layout::Block, |item| item.array("x", Layout::Block, |_| 7));
        items.array(Layout::Block, |inner| inner.u64(u64::MAX));
    });
    assert_eq!(count, 7);
    assert_eq!(text, "[\n  {\n    \"x\": []\n  },\n  [\n    18446744073709551615\n  ]\n]\n");
}

/// The document written again, whatever its root is.
fn rewritten(node: &Node, layout: Layout) -> String {
    array_document(layout, |items| items.node(layout, node))
}

/// Says whether two documents hold the same values, whatever their places and spelling.
fn same(ours: &Node, theirs: &serde_json::Value) -> bool {
    use serde_json::Value as Theirs;
    match (&ours.value, theirs) {
        (Value::Null, Theirs::Null) => true,
        (Value::Bool(a), Theirs::Bool(b)) => a == b,
        (Value::String(a), Theirs::String(b)) => a == b,
        (Value::Number(a), Theirs::Number(b)) => match (b.as_u64(), b.as_i64()) {
            (Some(b), _) => a.as_u64() == Ok(b),
            (_, Some(b)) => a.as_i64() == Ok(b),
            // The other reader may be an ulp off, as its fast path rounds twice.
            _ => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 4e-16
            }
        },
        (Value::Array(a), Theirs::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Theirs::Object(b)) => {
            a.len() == b.len() && a.iter().all(|m| b.get(&m.key).is_some_and(|b| same(&m.value, b)))
        }
        _ => false,
    }
}

/// Compares the verdict on any bytes with serde_json, which accepts more only where this reader means to be stricter.
fn agrees_with_serde_json(bytes: &[u8]) -> Result<(), TestCaseError> {
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    match (parse(bytes, &Limits::default()), theirs) {
        (Ok(ours), Ok(theirs)) => prop_assert!(same(&ours, &theirs), "{ours:?} {theirs:?}"),
        (Err(ours), Ok(_)) => prop_assert!(
            matches!(ours.kind, ErrorKind::DuplicateKey | ErrorKind::HiddenCharacter | ErrorKind::Limit),
            "{ours}"
        ),
        (Ok(_), Err(theirs)) => prop_assert!(theirs.to_string().contains("number out of range"), "{theirs}"),
        (Err(ours), Err(_)) => prop_assert!(ours.offset <= bytes.len()),
    }
    Ok(())
}

fn any_document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map("[ -~é]{0,6}", inner, 0..8)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn documents_survive_the_round_trip(document in any_document()) {
        let ours = read(&document.to_string());
        prop_assert!(same(&ours, &document));
        for layout in [Layout::Inline, Layout::Block] {
            let text = rewritten(&ours, layout);
            let again = read(&text);
            prop_assert!(same(&again.as_array().unwrap()[0], &document));
            prop_assert_eq!(rewritten(&again.as_array().unwrap()[0], layout), text);
        }
    }

    #[test]
    fn floats_survive_the_round_trip(wide in any::<u64>(), narrow in any::<u32>()) {
        let (wide, narrow) = (f64::from_bits(wide), f32::from_bits(narrow));
        let text = array_document(Layout::Inline, |floats| {
            floats.f64(wide);
            floats.f32(narrow);
        });
        let root = read(&text);
        let items = root.as_array().unwrap();
        let (wide_again, narrow_again) = (items[0].as_f64().unwrap().unwrap(), items[1].as_f32().unwrap().unwrap());
        prop_assert!(wide_again.to_bits() == wide.to_bits() || wide_again.is_nan() && wide.is_nan());
        prop_assert!(narrow_again.to_bits() == narrow.to_bits() || narrow_again.is_nan() && narrow.is_nan());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees_with_serde_json(&bytes)?;
    }

    /// Random sentences over JSON's own alphabet get much further than random bytes.
    #[test]
    fn random_tokens_never_panic(tokens in prop::collection::vec(
        prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"a\"", "\"b\"", "\"", "\\", "\\u", "d83d", "\\ude00", "0", "1", "-", ".",
            "e", "+", "null", "true", "fals", " ", "\n", "é", "{\"a\":", "[1,", "1e400",
        ]), 0..40))
    {
        agrees_with_serde_json(tokens.concat().as_bytes())?;
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0..DOCUMENT.len(), byte in any::<u8>()) {
        let mut bytes = DOCUMENT.as_bytes().to_vec();
        bytes[at] = byte;
        agrees_with_serde_json(&bytes)?;
    }
}
