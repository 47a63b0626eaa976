//! The generated pages are fresh, and the examples in the written ones work.

use graphc_ir::wire::{ops_reference, schema};
use graphc_ir::{Op, ScalarFn};
use serde_json::Value;

use super::{MLP, read, write};

const OPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ops.md");
const FORMAT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md");

/// `GRAPHC_BLESS=1 cargo test -p graphc-ir` rewrites the page.
#[test]
fn the_op_reference_is_fresh() {
    let wanted = ops_reference();
    if std::env::var_os("GRAPHC_BLESS").is_some() {
        std::fs::write(OPS, &wanted).expect("docs/ops.md can be written");
    }
    let found = std::fs::read_to_string(OPS).expect("docs/ops.md is there");
    assert!(found == wanted, "docs/ops.md is stale: run the tests with GRAPHC_BLESS=1");
}

#[test]
fn the_example_of_the_format_is_valid_and_canonical() {
    let page = std::fs::read_to_string(FORMAT).expect("docs/format.md is there");
    let mut examples = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let example = examples.next().expect("docs/format.md has an example");
    assert_eq!(write(&read(example)), example);
}

#[test]
fn the_reference_and_the_schema_hold_every_operation() {
    let (page, schema) = (ops_reference(), schema());
    let schema: Value = serde_json::from_str(&schema).expect("the schema is JSON");
    let names = schema["$defs"]["node"]["properties"]["op"]["enum"].as_array().expect("a list");
    for name in Op::names() {
        assert!(names.iter().any(|n| n == name), "{name}");
        let heading =
            if ScalarFn::parse(name).is_some() { format!("| `{name}` |") } else { format!("### `{name}`") };
        assert!(page.contains(&heading), "{name}");
    }
}

/// The keywords of JSON Schema that ours uses.
fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(rules) = schema.as_object() else { return Ok(()) };
    let fails = |what: &str| Err(format!("{value} fails {what} of {schema}"));
    let each = |rule: &Value| rule.as_array().cloned().unwrap_or_default();
    for (key, rule) in rules {
        let ok = match key.as_str() {
            "$ref" => {
                let path = rule.as_str().unwrap_or("").trim_start_matches('#');
                validate(root, root.pointer(path).ok_or("a dangling reference")?, value)?;
                true
            }
            "type" => {
                let types = if rule.is_array() { each(rule) } else { vec![rule.clone()] };
                types.iter().any(|t| match t.as_str().unwrap_or("") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "integer" => value.is_i64() || value.is_u64(),
                    _ => value.is_number(),
                })
            }
            "const" => rule == value,
            "enum" => each(rule).contains(value),
            "minimum" => value.as_i64() >= rule.as_i64(),
            "minItems" => value.as_array().is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap_or(0)),
            "maxItems" => value.as_array().is_none_or(|a| a.len() as u64 <= rule.as_u64().unwrap_or(0)),
            "required" => each(rule).iter().all(|k| value.get(k.as_str().unwrap_or("")).is_some()),
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|v| validate(root, rule, v))?;
                true
            }
            "properties" => {
                for (k, rule) in rule.as_object().into_iter().flatten() {
                    value.get(k).map_or(Ok(()), |v| validate(root, rule, v))?;
                }
                true
            }
            "additionalProperties" => {
                let known = &schema["properties"];
                let mut others =
                    value.as_object().into_iter().flatten().filter(|(k, _)| known.get(k).is_none());
                match rule {
                    Value::Bool(false) => others.count() == 0,
                    rule => others.try_for_each(|(_, v)| validate(root, rule, v)).is_ok(),
                }
            }
            "anyOf" => each(rule).iter().any(|r| validate(root, r, value).is_ok()),
            "oneOf" => each(rule).iter().filter(|r| validate(root, r, value).is_ok()).count() == 1,
            "allOf" => {
                each(rule).iter().try_for_each(|r| validate(root, r, value))?;
                true
            }
            "if" => {
                let applies = validate(root, rule, value).is_ok();
                if applies {
                    validate(root, &schema["then"], value)?
                }
                true
            }
            "then" | "$schema" | "title" | "$defs" | "pattern" | "minLength" | "maxLength" => true,
            other => return Err(format!("the keyword {other} is not known here")),
        };
        if !ok {
            return fails(key);
        }
    }
    Ok(())
}

#[test]
fn the_schema_agrees_with_the_reader() {
    let schema: Value = serde_json::from_str(&schema()).expect("the schema is JSON");
    let check = |text: &str| {
        let value: Value = serde_json::from_str(text).expect("the module is JSON");
        validate(&schema, &schema, &value)
    };
    for text in [MLP.to_owned(), write(&read(MLP))] {
        assert_eq!(check(&text), Ok(()));
    }
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"op\": \"linear\"", "\"op\": \"linaer\""),
        ("\"in\": [\"h\", 0]", "\"in\": [\"h\"]"),
        ("\"axes\"", "\"axis\""),
        ("\"role\": \"buffer\"", "\"role\": \"weights\""),
        ("\"axes\": [0]", "\"axes\": [-1]"),
        ("\"outputs\"", "\"output\""),
    ] {
        assert!(MLP.contains(from) && check(&MLP.replacen(from, to, 1)).is_err(), "{to}");
    }
}
