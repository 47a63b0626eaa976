//! Changes of bytes that readers of files stumble over.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `n`, which is above 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Numbers next to what types, limits and signs end at.
const NUMBERS: [&str; 28] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "16",
    "17",
    "63",
    "64",
    "127",
    "128",
    "255",
    "256",
    "257",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1e400",
    "0.5",
    "-0.0",
    "1e-320",
];

/// Makes inputs of others.
pub struct Mutator {
    words: &'static [&'static str],
    random: Random,
}

impl Mutator {
    pub fn new(words: &'static [&'static str], random: Random) -> Mutator {
        Mutator { words, random }
    }

    /// One of the inputs with a few changes.
    pub fn mutated(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.random.below(corpus.len())].clone();
        for _ in 0..1 + self.random.below(4) {
            self.change(&mut input, corpus);
        }
        input.truncate(1 << 20);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let length = input.len();
        let at = self.random.below(length + 1);
        let some = 1 + self.random.below(16);
        match self.random.below(12) {
            0 if at < length => input[at] ^= 1 << self.random.below(8),
            1 if at < length => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n'][self.random.below(7)],
            2 => drop(input.drain(at..(at + some).min(length))),
            3 => input.truncate(at),
            4 => {
                let copy = input[at..(at + some * 4).min(length)].to_vec();
                let to = self.random.below(length + 1);
                input.splice(to..to, copy);
            }
            5 => {
                let other = &corpus[self.random.below(corpus.len())];
                let from = self.random.below(other.len() + 1);
                let part = other[from..(from + some * 8).min(other.len())].to_vec();
                input.splice(at..at, part);
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.random.below(self.words.len())];
                input.splice(at..at, word.bytes());
            }
            7 => {
                let bytes = (self.random.below(usize::MAX) as u64).to_le_bytes();
                let width = [1, 2, 4, 8][self.random.below(4)].min(length - at);
                input[at..at + width].copy_from_slice(&bytes[..width]);
            }
            8 | 9 => self.replace(input, |b| b.is_ascii_digit() || b == b'-' || b == b'.', true),
            _ => self.replace(input, |b| b.is_ascii_alphanumeric() || b == b'_', false),
        }
    }

    /// Replaces a run of such bytes by a number, or by a word or another such run: what is changed stays well formed.
    fn replace(&mut self, input: &mut Vec<u8>, is_part: impl Fn(u8) -> bool, number: bool) {
        if input.is_empty() {
            return;
        }
        let (a, b) = (
            run(input, self.random.below(input.len()), &is_part),
            run(input, self.random.below(input.len()), &is_part),
        );
        let new = match self.random.below(3) {
            _ if number => NUMBERS[self.random.below(NUMBERS.len())].as_bytes().to_vec(),
            0 if !self.words.is_empty() => {
                self.words[self.random.below(self.words.len())].as_bytes().to_vec()
            }
            _ => input[b].to_vec(),
        };
        if !a.is_empty() {
            input.splice(a, new);
        }
    }
}

/// The first run of such bytes from a place on.
fn run(input: &[u8], from: usize, is_part: &impl Fn(u8) -> bool) -> std::ops::Range<usize> {
    let start = (from..input.len()).find(|i| is_part(input[*i])).unwrap_or(input.len());
    let end = (start..input.len()).find(|i| !is_part(input[*i])).unwrap_or(input.len());
    start..end
}
