//! Text as numbers: the characters that models of text know, and windows of a text as rows of a table.

/// Number of characters: every printable one of ASCII, the end of a line, and 0 for all others.
pub const CHARACTERS: usize = 97;

/// The characters by number; the replacement character stands for those that have none.
pub fn characters() -> impl Iterator<Item = char> {
    ['\u{fffd}', '\n'].into_iter().chain(' '..='~')
}

/// The number of a character.
pub fn number(c: char) -> i32 {
    match c {
        '\n' => 1,
        ' '..='~' => c as i32 - ' ' as i32 + 2,
        _ => 0,
    }
}

/// The numbers of a text's characters.
pub fn numbers(text: &str) -> Vec<i32> {
    text.chars().map(number).collect()
}

/// The parts of texts that a model is trained and tested on: the last tenth of each is held out.
pub fn split(texts: &[String]) -> [Vec<Vec<i32>>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    for text in texts {
        let mut kept = numbers(text);
        let held_out = kept.split_off(kept.len() - kept.len() / 10);
        parts[0].push(kept);
        parts[1].push(held_out);
    }
    parts
}

/// Rows of `steps` + 1 characters, each row's last one being the next one's first: characters and those that
/// follow them. What is left at the end of a text is in no row.
pub fn windows(texts: &[Vec<i32>], steps: usize) -> Vec<&[i32]> {
    let rows = |text: &[i32]| text.len().saturating_sub(1) / steps;
    texts.iter().flat_map(|t| (0..rows(t)).map(|r| &t[r * steps..=(r + 1) * steps])).collect()
}

/// Rows as comma-separated values.
pub fn table(rows: &[&[i32]]) -> String {
    let line = |row: &&[i32]| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") + "\n";
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_its_number() {
        let all: Vec<char> = characters().collect();
        assert_eq!(all.len(), CHARACTERS);
        assert!(all.iter().enumerate().all(|(i, c)| number(*c) == i as i32));
        assert_eq!(numbers("a\té\n"), [67, 0, 0, 1]);
    }

    #[test]
    fn windows_overlap_by_one() {
        let texts = [vec![1, 2, 3, 4, 5, 6], vec![7, 8], vec![9, 8, 7]];
        assert_eq!(windows(&texts, 2), [&[1, 2, 3], &[3, 4, 5], &[9, 8, 7]]);
        assert_eq!(table(&windows(&texts[2..], 2)), "9,8,7\n");
        assert_eq!(split(&["x".repeat(25)]).map(|p| p[0].len()), [23, 2]);
    }
}
