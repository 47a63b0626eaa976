//! "Did you mean …?" for misspelt names.

/// Names longer than this are not compared, so that the cost stays small whatever a file holds.
const LONGEST: usize = 64;

/// The candidate that `name` was probably meant to be, or `None` where none is near.
///
/// Near is: equal but for case or the order of the words between underscores, or a Damerau-Levenshtein distance (in the
/// optimal string alignment form: insert, delete, replace, swap neighbours) of at most a third of the longer length,
/// at least 1. The nearest wins, among equals the first.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name)?;
    let wanted_words = sorted_words(&wanted);
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let Some(other) = folded(candidate) else {
            continue;
        };
        let limit = (wanted.len().max(other.len()) / 3).max(1);
        let found = if sorted_words(&other) == wanted_words {
            usize::from(other != wanted)
        } else if wanted.len().abs_diff(other.len()) > limit {
            continue;
        } else {
            distance(&wanted, &other)
        };
        // One letter may become any other by one replacement: that is no likeness.
        let alike = found <= limit && found < wanted.len().max(other.len());
        if alike && best.is_none_or(|(least, _)| found < least) {
            best = Some((found, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The characters in lower case, or `None` for an empty or overlong name.
fn folded(name: &str) -> Option<Vec<char>> {
    let characters: Vec<char> = name.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect();
    (1..=LONGEST).contains(&characters.len()).then_some(characters)
}

fn sorted_words(name: &[char]) -> Vec<&[char]> {
    let mut words: Vec<&[char]> = name.split(|&c| c == '_' || c == '-' || c == '.').collect();
    words.sort_unstable();
    words
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row[j] = least;
        }
        std::mem::swap(&mut before_last, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [&str; 8] =
        ["relu", "linear", "softmax", "log_softmax", "batch_norm", "max_pool", "add", "sub"];

    #[test]
    fn misspellings_find_their_op() {
        for (typed, meant) in [
            ("rleu", "relu"),
            ("Relu", "relu"),
            ("linaer", "linear"),
            ("softmaks", "softmax"),
            ("BatchNorm", "batch_norm"),
            ("batch-norm", "batch_norm"),
            ("softmax_log", "log_softmax"),
            ("maxpool", "max_pool"),
            ("ad", "add"),
        ] {
            assert_eq!(closest(typed, OPS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn far_names_find_nothing() {
        let long = "a".repeat(1 << 20);
        for typed in ["", "x", "convolution", "attention", long.as_str()] {
            assert_eq!(closest(typed, OPS), None);
        }
        assert_eq!(closest("x", ["y", "z"]), None);
        assert_eq!(closest("relu", []), None);
    }

    #[test]
    fn the_nearest_wins_then_the_first() {
        assert_eq!(closest("softmax1", OPS), Some("softmax"));
        assert_eq!(closest("w3", ["w1", "w2"]), Some("w1"));
        assert_eq!(closest("w2", ["w1", "w2"]), Some("w2"));
    }

    #[test]
    fn distances_of_the_literature() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(of("kitten", "sitting"), 3);
        assert_eq!(of("ca", "ac"), 1);
        assert_eq!(of("ca", "abc"), 3);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("same", "same"), 0);
    }
}
