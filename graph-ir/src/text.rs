//! Text of others on a terminal: what a file says may be shown, but not obeyed.

use std::borrow::Cow;

use crate::wire::json::is_hidden;

/// The text on one line, with control characters and characters that hide or reorder others as escapes (`\u{1b}`): neither a
/// terminal's command nor a line that seems to be of somebody else is left in it.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// As [`visible`], but line breaks and tabs stay: for text whose lines are known to be the program's own.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    // Most text is printable ASCII, which needs no second look.
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) || !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_is_left() {
        assert_eq!(visible("größe 层 a\tb"), "größe 层 a\\tb");
        assert_eq!(visible("\u{1b}]0;x\u{7}\nerror: no"), "\\u{1b}]0;x\\u{7}\\nerror: no");
        assert_eq!(visible_lines("a\u{9b}31m\nb\u{202e}c\r"), "a\\u{9b}31m\nb\\u{202e}c\\r");
        assert!(matches!(visible("plain"), Cow::Borrowed(_)));
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let text = String::from_iter(['a', c]);
            assert!(!visible(&text).chars().any(char::is_control), "{c:?}");
            assert!(!visible_lines(&text).chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{c:?}");
        }
    }
}
