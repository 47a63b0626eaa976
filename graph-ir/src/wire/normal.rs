//! When two names look the same: Unicode's normal form C, and letters that differ in case only.

/// What two names have in common that differ in case only.
pub(super) fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    // Upper case first, so that ß is ss and both small sigmas are one.
    name.to_uppercase().to_lowercase()
}

/// The first character that keeps a text from being in normal form C: one that is written as others there,
/// or that would be joined to the one before it. Whether marks stand in canonical order is not looked at.
pub(super) fn not_normal(text: &str) -> Option<char> {
    let mut before = None;
    for c in text.chars() {
        if is_combining(c) || is_replaced(c) || before.is_some_and(|b| joins(b, c)) {
            return Some(c);
        }
        before = Some(c);
    }
    None
}

/// The blocks of combining marks, whose sequences have composed forms that look the same.
pub(super) fn is_combining(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{3099}' | '\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

/// Characters whose normal form is another text (NFC_Quick_Check=No of Unicode 15, without the blocks of
/// combining marks).
fn is_replaced(c: char) -> bool {
    matches!(c, '\u{374}' | '\u{37e}' | '\u{387}' | '\u{958}'..='\u{95f}' | '\u{9dc}'..='\u{9dd}' | '\u{9df}' | '\u{a33}' | '\u{a36}' | '\u{a59}'..='\u{a5b}' | '\u{a5e}' | '\u{b5c}'..='\u{b5d}' | '\u{f43}' | '\u{f4d}' | '\u{f52}' | '\u{f57}' | '\u{f5c}' | '\u{f69}' | '\u{f73}' | '\u{f75}'..='\u{f76}' | '\u{f78}' | '\u{f81}' | '\u{f93}' | '\u{f9d}' | '\u{fa2}' | '\u{fa7}' | '\u{fac}' | '\u{fb9}' | '\u{1f71}' | '\u{1f73}' | '\u{1f75}' | '\u{1f77}' | '\u{1f79}' | '\u{1f7b}' | '\u{1f7d}' | '\u{1fbb}' | '\u{1fbe}' | '\u{1fc9}' | '\u{1fcb}' | '\u{1fd3}' | '\u{1fdb}' | '\u{1fe3}' | '\u{1feb}' | '\u{1fee}'..='\u{1fef}' | '\u{1ff9}' | '\u{1ffb}' | '\u{1ffd}' | '\u{2000}'..='\u{2001}' | '\u{2126}' | '\u{212a}'..='\u{212b}' | '\u{2329}'..='\u{232a}' | '\u{2adc}' | '\u{f900}'..='\u{fa0d}' | '\u{fa10}' | '\u{fa12}' | '\u{fa15}'..='\u{fa1e}' | '\u{fa20}' | '\u{fa22}' | '\u{fa25}'..='\u{fa26}' | '\u{fa2a}'..='\u{fa6d}' | '\u{fa70}'..='\u{fad9}' | '\u{fb1d}' | '\u{fb1f}' | '\u{fb2a}'..='\u{fb36}' | '\u{fb38}'..='\u{fb3c}' | '\u{fb3e}' | '\u{fb40}'..='\u{fb41}' | '\u{fb43}'..='\u{fb44}' | '\u{fb46}'..='\u{fb4e}' | '\u{1d15e}'..='\u{1d164}' | '\u{1d1bb}'..='\u{1d1c0}' | '\u{2f800}'..='\u{2fa1d}')
}

/// Pairs that normal form C writes as one character, without those of combining marks: the letters of
/// Hangul, and the primary composites of Unicode 15.
fn joins(first: char, second: char) -> bool {
    let hangul = matches!((first, second), ('\u{1100}'..='\u{1112}', '\u{1161}'..='\u{1175}'))
        || matches!(second, '\u{11a8}'..='\u{11c2}')
            && matches!(first, '\u{ac00}'..='\u{d7a3}')
            && (u32::from(first) - 0xac00).is_multiple_of(28);
    hangul
        || matches!(
            (first, second),
            ('\u{627}', '\u{653}')
                | ('\u{627}' | '\u{648}' | '\u{64a}' | '\u{6d5}' | '\u{6c1}' | '\u{6d2}', '\u{654}')
                | ('\u{627}', '\u{655}')
                | ('\u{928}' | '\u{930}' | '\u{933}', '\u{93c}')
                | ('\u{9c7}', '\u{9be}')
                | ('\u{9c7}', '\u{9d7}')
                | ('\u{b47}', '\u{b3e}')
                | ('\u{b47}', '\u{b56}')
                | ('\u{b47}', '\u{b57}')
                | ('\u{bc6}' | '\u{bc7}', '\u{bbe}')
                | ('\u{b92}' | '\u{bc6}', '\u{bd7}')
                | ('\u{c46}', '\u{c56}')
                | ('\u{cc6}', '\u{cc2}')
                | ('\u{cbf}' | '\u{cc6}' | '\u{cca}', '\u{cd5}')
                | ('\u{cc6}', '\u{cd6}')
                | ('\u{d46}' | '\u{d47}', '\u{d3e}')
                | ('\u{d46}', '\u{d57}')
                | ('\u{dd9}' | '\u{ddc}', '\u{dca}')
                | ('\u{dd9}', '\u{dcf}')
                | ('\u{dd9}', '\u{ddf}')
                | ('\u{1025}', '\u{102e}')
                | (
                    '\u{1b05}'
                        | '\u{1b07}'
                        | '\u{1b09}'
                        | '\u{1b0b}'
                        | '\u{1b0d}'
                        | '\u{1b11}'
                        | '\u{1b3a}'
                        | '\u{1b3c}'
                        | '\u{1b3e}'
                        | '\u{1b3f}'
                        | '\u{1b42}',
                    '\u{1b35}'
                )
                | ('\u{11099}' | '\u{1109b}' | '\u{110a5}', '\u{110ba}')
                | ('\u{11131}' | '\u{11132}', '\u{11127}')
                | ('\u{11347}', '\u{1133e}')
                | ('\u{11347}', '\u{11357}')
                | ('\u{114b9}', '\u{114b0}')
                | ('\u{114b9}', '\u{114ba}')
                | ('\u{114b9}', '\u{114bd}')
                | ('\u{115b8}' | '\u{115b9}', '\u{115af}')
                | ('\u{11935}', '\u{11930}')
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded() {
        for (a, b) in [("W", "w"), ("Größe", "GRÖSSE"), ("ΣΑΣ", "σας"), ("\u{212a}", "k")] {
            assert_eq!(folded(a), folded(b));
        }
        assert_ne!(folded("ı"), folded("l"));
        assert_ne!(folded("a1"), folded("a2"));
    }

    #[test]
    fn normal_forms() {
        for normal in ["conv1.weight", "größe", "Å", "Ω", "层", "한", "की", "কা", "が", "آ"] {
            assert_eq!(not_normal(normal), None, "{normal}");
        }
        for other in [
            "o\u{308}",
            "\u{212b}",
            "\u{2126}",
            "\u{f900}",
            "\u{1112}\u{1161}",
            "\u{ac00}\u{11a8}",
            "\u{928}\u{93c}",
            "\u{9c7}\u{9be}",
            "か\u{3099}",
            "\u{627}\u{653}",
            "\u{958}",
        ] {
            assert!(not_normal(other).is_some(), "{other}");
        }
    }
}
