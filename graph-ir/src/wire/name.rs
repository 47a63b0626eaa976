//! Names of states, inputs, nodes, outputs and functions, and references to results.

use super::json::hidden_character;
use super::normal::{is_combining, not_normal};

/// The longest name in characters.
pub const MAX_NAME: usize = 256;

/// What keeps a text from being a name: a sentence and the remedy.
pub(super) fn name_problem(name: &str) -> Option<(String, &'static str)> {
    if name.is_empty() {
        return Some(("a name is empty".into(), "give it a name"));
    }
    if name.chars().nth(MAX_NAME).is_some() {
        return Some((format!("a name is longer than {MAX_NAME} characters"), "shorten it"));
    }
    if let Some((_, c)) = hidden_character(name) {
        let message = format!("a name holds the invisible character U+{:04X}", u32::from(c));
        return Some((message, "remove the character: names that look equal must be equal"));
    }
    if let Some(c) = not_normal(name) {
        let kind = if is_combining(c) { "combining character" } else { "character" };
        let message =
            format!("a name holds the {kind} U+{:04X}, which is not in Unicode's NFC", u32::from(c));
        return Some((
            message,
            "write the composed letter (Unicode NFC): names that look equal must be equal",
        ));
    }
    if name.contains('#') {
        return Some((format!("the name `{name}` holds `#`, which selects a node's result"), "rename it"));
    }
    None
}

/// Splits `id#k` into the name and the number of the result; a name alone means result 0.
pub(super) fn split_reference(text: &str) -> Option<(&str, usize)> {
    let Some((name, number)) = text.split_once('#') else { return Some((text, 0)) };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let canonical = plain && (number == "0" || !number.starts_with('0'));
    if canonical { Some((name, number.parse().ok()?)) } else { None }
}

/// A valid name made from any text, such as that of a gradient's origin.
pub(super) fn make_name(text: &str) -> String {
    const GRADIENT: &str = "_grad";
    if let Some(of) = text.strip_prefix("gradient of ") {
        // Room for what is added: a name made of a valid one is valid.
        let of: String = make_name(of).chars().take(MAX_NAME - GRADIENT.len()).collect();
        return of + GRADIENT;
    }
    let clean: String = text
        .chars()
        .take(MAX_NAME / 2)
        .map(|c| {
            let mut bytes = [0; 4];
            let text = &*c.encode_utf8(&mut bytes);
            let bad = c == '#' || not_normal(text).is_some() || hidden_character(text).is_some();
            if bad { '_' } else { c }
        })
        .collect();
    // Valid names keep their whole length.
    match name_problem(text) {
        None => text.into(),
        Some(_) if name_problem(&clean).is_none() => clean,
        Some(_) => "node".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        assert_eq!(split_reference("h"), Some(("h", 0)));
        assert_eq!(split_reference("h#2"), Some(("h", 2)));
        for bad in ["h#", "h#-1", "h#01", "h#x", "h#1#2", "h#99999999999999999999999"] {
            assert_eq!(split_reference(bad), None, "{bad}");
        }
    }

    #[test]
    fn names() {
        for good in ["x", "conv1.weight", "größe", "a/b", "层", &"n".repeat(256)] {
            assert_eq!(name_problem(good), None, "{good}");
            assert_eq!(make_name(good), good);
        }
        for bad in ["", "a#1", "a\u{202e}b", "a\nb", "gro\u{308}ße", &"n".repeat(257)] {
            assert!(name_problem(bad).is_some(), "{bad}");
            assert!(name_problem(&make_name(bad)).is_none(), "{bad}");
        }
        assert_eq!(make_name("gradient of h"), "h_grad");
        for length in [250, 251, 252, 256, 300] {
            let name = make_name(&format!("gradient of {}", "é".repeat(length)));
            assert!(name_problem(&name).is_none() && name.ends_with("_grad"), "{length}");
        }
    }
}
