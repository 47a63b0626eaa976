//! Characters to tokens.

use super::Limits;
use super::error::{ErrorKind, JsonError};
use super::value::{Number, Span, shortened};

#[derive(Debug)]
pub(super) enum Token {
    ObjectOpen,
    ObjectClose,
    ArrayOpen,
    ArrayClose,
    Colon,
    Comma,
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    End,
}

impl Token {
    /// The token as an error message names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Token::ObjectOpen => "`{`",
            Token::ObjectClose => "`}`",
            Token::ArrayOpen => "`[`",
            Token::ArrayClose => "`]`",
            Token::Colon => "`:`",
            Token::Comma => "`,`",
            Token::Null => "null",
            Token::Bool(_) => "a boolean",
            Token::Number(_) => "a number",
            Token::String(_) => "a string",
            Token::End => "the end of the file",
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    limits: &'a Limits,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, limits: &'a Limits) -> Lexer<'a> {
        Lexer { text, at: 0, limits }
    }

    /// The offset of the next token, or `None` where only white space is left.
    pub(super) fn skip_space(&mut self) -> Option<usize> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        (self.at < self.text.len()).then_some(self.at)
    }

    pub(super) fn next_token(&mut self) -> Result<(Token, Span), JsonError> {
        self.skip_space();
        let start = self.at;
        let token = match self.peek() {
            None => Token::End,
            Some(b'{') => self.single(Token::ObjectOpen),
            Some(b'}') => self.single(Token::ObjectClose),
            Some(b'[') => self.single(Token::ArrayOpen),
            Some(b']') => self.single(Token::ArrayClose),
            Some(b':') => self.single(Token::Colon),
            Some(b',') => self.single(Token::Comma),
            Some(b'"') => Token::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Token::Number(self.number()?),
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            Some(_) => return Err(self.unexpected_character()),
        };
        let end = self.at;
        Ok((token, Span { start, end }))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn single(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// Moves over bytes while `wanted` holds and returns how many there were.
    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self) -> Result<Token, JsonError> {
        let start = self.at;
        self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        let word = &self.text[start..self.at];
        let at_end = self.at == self.text.len();
        match word {
            "null" => Ok(Token::Null),
            "true" => Ok(Token::Bool(true)),
            "false" => Ok(Token::Bool(false)),
            _ if at_end && ["null", "true", "false"].iter().any(|w| w.starts_with(word)) => {
                Err(self.truncated("a literal"))
            }
            _ if is_non_finite(word) => Err(JsonError::new(
                ErrorKind::BadNumber,
                start,
                format!("{word} is not a JSON number"),
                NON_FINITE_REMEDY,
            )),
            _ => Err(JsonError::new(
                ErrorKind::Syntax,
                start,
                format!("unexpected word {}", shortened(word)),
                match word {
                    "None" | "undefined" | "nil" => "write null",
                    "True" => "write true",
                    "False" => "write false",
                    _ => "put text in double quotes; the only bare words of JSON are null, true and false",
                },
            )),
        }
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
            let length = self.skip_while(|b| b.is_ascii_alphanumeric());
            if is_non_finite(&self.text[self.at - length..self.at]) {
                let message = format!("{} is not a JSON number", &self.text[start..self.at]);
                return Err(bad_number(start, message, NON_FINITE_REMEDY));
            }
            return Err(bad_number(start, "`-` without digits", "write a number such as -1"));
        }
        let leading_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && leading_zero {
            return Err(bad_number(
                start,
                "a number with a leading zero",
                "write it without the zero, in decimal",
            ));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        if text.len() > self.limits.number_chars {
            return Err(JsonError::new(
                ErrorKind::Limit,
                start,
                format!(
                    "a number of {} characters; at most {} are read",
                    text.len(),
                    self.limits.number_chars
                ),
                "write it with fewer digits: 17 are enough for any f64",
            ));
        }
        if self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_') {
            return Err(bad_number(
                start,
                format!("{} is followed by a letter, digit or dot", shortened(text)),
                "write a decimal number, without prefix, suffix and digit separators",
            ));
        }
        Ok(Number::from_grammatical(text))
    }

    /// Moves over a run of digits, of which there must be one at least.
    fn digits(&mut self) -> Result<usize, JsonError> {
        match self.skip_while(|b| b.is_ascii_digit()) {
            0 if self.at == self.text.len() => Err(self.truncated("a number")),
            0 => Err(bad_number(
                self.at,
                "a number without digits here",
                "write digits on both sides of a dot and after an exponent's `e`, as in -1.0e5",
            )),
            count => Ok(count),
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let open = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            let run = self.at;
            self.skip_while(|b| b != b'"' && b != b'\\' && b >= b' ');
            if value.len() + (self.at - run) > self.limits.string_bytes {
                return Err(JsonError::new(
                    ErrorKind::Limit,
                    open,
                    format!("a string of more than {} bytes", self.limits.string_bytes),
                    "shorten it, or keep large data in a weights file",
                ));
            }
            value.push_str(&self.text[run..self.at]);
            match self.peek() {
                None => {
                    return Err(self.truncated("a string").related(open, "the string begins"));
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => value.push(self.escape()?),
                Some(control) => {
                    let what = match control {
                        b'\n' | b'\r' => "a line break in a string".to_owned(),
                        _ => format!("control character U+{control:04X} in a string"),
                    };
                    return Err(JsonError::new(
                        ErrorKind::BadString,
                        self.at,
                        what,
                        "close the string with a double quote, or write the character as an escape such as \\n",
                    )
                    .related(open, "the string begins"));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let Some(letter) = self.peek() else {
            return Err(self.truncated("an escape"));
        };
        let character = match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(start),
            _ => {
                return Err(JsonError::new(
                    ErrorKind::BadString,
                    start,
                    "an escape that JSON does not have",
                    "write a backslash itself as \\\\; the escapes are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX",
                ));
            }
        };
        self.at += 1;
        Ok(character)
    }

    /// `\uXXXX`, or two of them that are a surrogate pair (RFC 8259, section 7).
    fn unicode_escape(&mut self, start: usize) -> Result<char, JsonError> {
        let first = self.code_unit(start)?;
        let second = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                self.at += 1;
                Some(self.code_unit(start)?)
            }
            0xd800..=0xdbff if "\\u".starts_with(&self.text[self.at..]) => {
                return Err(self.truncated("a surrogate pair"));
            }
            _ => None,
        };
        let units = [Some(first), second];
        let mut decoded = char::decode_utf16(units.into_iter().flatten());
        match decoded.next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(JsonError::new(
                ErrorKind::BadString,
                start,
                "half a surrogate pair",
                "write the character itself, or both halves, as in \\uD83D\\uDE00",
            )),
        }
    }

    /// The four digits after a `u`, on which the lexer stands.
    fn code_unit(&mut self, start: usize) -> Result<u16, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.peek() else {
                return Err(self.truncated("an escape"));
            };
            let digit = char::from(byte).to_digit(16).ok_or_else(|| {
                JsonError::new(
                    ErrorKind::BadString,
                    start,
                    "\\u without four hexadecimal digits",
                    "write four, as in \\u00e9",
                )
            })?;
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }

    fn truncated(&self, inside: &str) -> JsonError {
        JsonError::new(
            ErrorKind::Truncated,
            self.text.len(),
            format!("the file ends inside {inside}"),
            TRUNCATED_REMEDY,
        )
    }

    fn unexpected_character(&self) -> JsonError {
        let found = self.text[self.at..].chars().next();
        let remedy = match found {
            Some('\'' | '‘' | '’' | '“' | '”') => "JSON strings stand in straight double quotes",
            Some('/' | '#') => "JSON has no comments: remove it",
            Some('+' | '.') => "write numbers with a digit first, as in 0.5, and without `+`",
            _ => "remove it, or check that this is the right file",
        };
        let shown = found.map_or(String::new(), |c| format!(" {}", c.escape_debug()));
        JsonError::new(ErrorKind::Syntax, self.at, format!("unexpected character{shown}"), remedy)
    }
}

pub(super) const TRUNCATED_REMEDY: &str = "get the whole file again, or close what is open";

const NON_FINITE_REMEDY: &str = "write \"nan\", \"inf\" or \"-inf\" with the quotes";

fn is_non_finite(word: &str) -> bool {
    ["nan", "inf", "infinity"].iter().any(|w| word.eq_ignore_ascii_case(w))
}

fn bad_number(offset: usize, message: impl Into<String>, remedy: &str) -> JsonError {
    JsonError::new(ErrorKind::BadNumber, offset, message, remedy)
}
