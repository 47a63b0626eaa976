//! Mutated files against everything that reads one, and mutated modules against the interpreter.
//!
//! Each target takes bytes and says what is wrong with how they were answered; a panic, a run of several seconds and more memory than the
//! heap's limit are wrong for all. The tests below run for a moment each. For longer, one target at a time:
//!
//! ```text
//! GRAPHC_FUZZ_SECONDS=3600 GRAPHC_FUZZ_SEED=7 cargo test -p graphc-cli --bin graphc fuzz::module
//! ```
//!
//! What is found is made as short as it can be and left in the folder `graphc-fuzz` of the system's temporary files; `GRAPHC_FUZZ_INPUT=FILE` runs a target on one file.

mod mutate;
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::{Mutator, Random};
use targets::Target;

/// What the answer to one input was: a class of answers, or what is wrong with it.
type Answer = Result<String, String>;

/// Answers take at most so long.
const SLOW: Duration = Duration::from_secs(8);

/// Bytes that all targets of this process may take together.
const MOST_MEMORY: usize = 3 << 30;

/// Inputs with answers of a class that was not seen before are mutated further; so many are kept.
const CORPUS: usize = 4000;

fn answer(target: &Target, input: &[u8]) -> Answer {
    let started = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of another kind")))
    });
    match started.elapsed() {
        time if time > SLOW => Err(format!("slow: {time:?}")),
        _ => answer,
    }
}

/// The answer without what differs between equal problems: numbers, and what is quoted.
fn class(text: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in text.chars().take(400) {
        match c {
            '`' | '"' | '\'' => quoted = !quoted,
            c if quoted || c.is_ascii_digit() => {}
            c => out.push(c),
        }
    }
    out
}

/// A shorter input with a wrong answer of the same class.
fn minimized(target: &Target, input: Vec<u8>, wrong: &str) -> Vec<u8> {
    let (mut best, end) = (input, Instant::now() + Duration::from_secs(20));
    let mut size = best.len() / 2;
    while size > 0 && Instant::now() < end {
        let mut at = 0;
        while at < best.len() && Instant::now() < end {
            let mut shorter = best.clone();
            shorter.drain(at..(at + size).min(best.len()));
            match answer(target, &shorter) {
                Err(e) if class(&e) == class(wrong) => best = shorter,
                _ => at += size,
            }
        }
        size /= 2;
    }
    best
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join("graphc-fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a target for its time and panics with all that it found.
fn fuzz(target: &Target) {
    graphc::memory::heap::set_limit(MOST_MEMORY);
    let variable = |name: &str| std::env::var(name).ok();
    if let Some(path) = variable("GRAPHC_FUZZ_INPUT") {
        let found = answer(target, &std::fs::read(&path).unwrap());
        println!("{path}: {found:?}");
        assert!(found.is_ok());
        return;
    }
    let seconds: Option<f64> = variable("GRAPHC_FUZZ_SECONDS").map(|s| s.parse().unwrap());
    let seed = variable("GRAPHC_FUZZ_SEED").map_or(1, |s| s.parse().unwrap());
    let mut mutator = Mutator::new(target.words, Random(seed));
    let mut corpus = (target.seeds)();
    let (mut classes, mut found) = (HashSet::new(), Vec::<(String, PathBuf)>::new());
    for input in &corpus {
        classes.insert(class(&answer(target, input).expect("the examples are answered as they should be")));
    }
    // Without a time an equal number of inputs each time, unless the machine is very slow.
    let most = if seconds.is_some() { u64::MAX } else { target.runs };
    let (mut runs, end) = (0u64, Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(30.0)));
    while runs < most && Instant::now() < end && found.len() < 20 {
        let input = mutator.mutated(&corpus);
        if seconds.is_some() {
            // A process that is ended from outside leaves what it was at.
            std::fs::write(folder().join(format!("{}.last", target.name)), &input).unwrap();
        }
        runs += 1;
        match answer(target, &input) {
            Ok(text) => {
                if corpus.len() < CORPUS && classes.insert(class(&text)) {
                    corpus.push(input);
                }
            }
            Err(wrong) if found.iter().any(|(w, _)| class(w) == class(&wrong)) => {}
            Err(wrong) => {
                let input = minimized(target, input, &wrong);
                let path = folder().join(format!("{}-{seed}-{}", target.name, found.len()));
                std::fs::write(&path, input).unwrap();
                found.push((wrong, path));
            }
        }
    }
    println!("{}: {runs} inputs, {} classes of answers, seed {seed}", target.name, classes.len());
    let list: Vec<String> =
        found.iter().map(|(wrong, path)| format!("{}: {wrong}", path.display())).collect();
    assert!(found.is_empty(), "{} of {runs} inputs, seed {seed}:\n{}", found.len(), list.join("\n"));
}

macro_rules! tests {
    ($($name:ident),*) => { $(
        #[test]
        fn $name() {
            fuzz(&targets::$name());
        }
    )* };
}

tests!(module, safetensors, npy, npz, csv, png, graph, grad);

#[test]
fn what_is_planted_is_found_and_made_short() {
    let run = |input: &[u8]| -> Answer {
        assert!(!input.windows(2).any(|w| w == b"]]"), "planted");
        Ok(String::new())
    };
    let target =
        Target { name: "planted", runs: 1, words: &["]"], seeds: || vec![b"[1, [2, 3]".to_vec()], run };
    let mut mutator = Mutator::new(target.words, Random(1));
    let corpus = (target.seeds)();
    let wrong = (0..100_000).map(|_| mutator.mutated(&corpus)).find(|input| answer(&target, input).is_err());
    let short = minimized(&target, wrong.unwrap(), "panic: planted");
    assert_eq!(short, b"]]");
}
