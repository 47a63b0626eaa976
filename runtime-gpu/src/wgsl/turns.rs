//! How often the loops of a shader turn, at most: a number of its text.
//!
//! Some drivers end loops after a number of turns without a word. Every loop says how often it turns where it is written, so
//! that what an invocation does can be added up before it runs.

use std::collections::HashMap;

/// The head of a loop that turns so often at most, up to and with the brace that opens its body.
pub fn repeat(head: &str, turns: usize) -> String {
    format!("for ({head}) {{ /* turns {turns} */")
}

/// The turns of all loops of an invocation, at most; a loop that does not say how often it turns may do so for ever.
///
/// A driver counts how often the end of a body is reached, which is once more than a body is done.
pub fn total(text: &str) -> usize {
    let functions = functions(text);
    let mut known = HashMap::new();
    of_function("main", &functions, &mut known)
}

/// The bodies of functions, by name.
fn functions(text: &str) -> HashMap<&str, &str> {
    let mut functions = HashMap::new();
    let mut rest = text;
    while let Some(at) = rest.find("fn ") {
        let signature = &rest[at + 3..];
        let name = &signature[..signature.find('(').unwrap_or(0)];
        let open = signature.find('{').unwrap_or(signature.len());
        let length = block(&signature[open..]);
        functions.insert(name, &signature[open..open + length]);
        rest = &signature[open + length..];
    }
    functions
}

/// The length of the block that a text begins with.
fn block(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in text.bytes().enumerate() {
        match c {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn of_function<'a>(
    name: &'a str,
    functions: &HashMap<&'a str, &'a str>,
    known: &mut HashMap<&'a str, usize>,
) -> usize {
    if let Some(turns) = known.get(name) {
        return *turns;
    }
    let Some(body) = functions.get(name) else { return 0 };
    let mut total = 0usize;
    // How often what stands at the end of each open block is done.
    let mut times = vec![1usize];
    let mut rest = *body;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{' || c == '}') {
        rest = &rest[at..];
        let now = times.last().copied().unwrap_or(1);
        if rest.starts_with(['{', '}']) {
            if rest.starts_with('{') {
                times.push(now);
            } else {
                times.pop();
            }
            rest = &rest[1..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        match word {
            "for" => {
                let open = rest.find('{').map_or(rest.len(), |at| at + 1);
                // What a loop's head calls is done as often as its body.
                let turns = said(&rest[open..]);
                let inside = now.saturating_mul(turns);
                total = total.saturating_add(inside.saturating_add(now));
                times.push(inside);
                rest = &rest[open..];
            }
            "while" | "loop" => return usize::MAX,
            callee if rest.starts_with('(') && functions.contains_key(callee) => {
                let turns = of_function(callee, functions, known);
                total = total.saturating_add(now.saturating_mul(turns));
            }
            _ => {}
        }
    }
    known.insert(name, total);
    total
}

/// How often a loop turns, by what follows the brace of its body.
fn said(body: &str) -> usize {
    let number = body.strip_prefix(" /* turns ").and_then(|rest| rest.split(' ').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_added_up_through_loops_and_calls() {
        let (outer, inner) = (repeat("var i = 0; i < 10; i++", 10), repeat("var j = 0; j < 5; j++", 5));
        let text = format!(
            "fn f(x: u32) -> u32 {{ {inner} x += 1u; }} if (x > 3u) {{ return x; }} return 0u; }}\n\
             @compute fn main() {{ {outer} let y = f(2u); {{ {inner} }} }} }} let z = f(1u); }}"
        );
        // Of a loop of 5, 6 ends are reached; of one of 10, 11.
        assert_eq!(total(&text), 11 + 10 * (6 + 6) + 6);
        assert_eq!(total("fn main() { let before = 1; }"), 0);
    }

    #[test]
    fn loops_that_do_not_say_are_endless() {
        for text in [
            "fn main() { for (;;) { } }",
            "fn main() { loop { break; } }",
            "fn g() { while (true) {} } fn main() { g(); }",
        ] {
            assert_eq!(total(text), usize::MAX, "{text}");
        }
    }
}
