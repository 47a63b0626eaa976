//! Tokens to a tree, without recursion.

use super::Limits;
use super::error::{ErrorKind, JsonError};
use super::lexer::{Lexer, TRUNCATED_REMEDY, Token};
use super::sniff::refuse_other_formats;
use super::value::{Member, Node, Span, Value, hidden_character, shortened};
use std::collections::HashMap;

/// Reads one JSON document in time linear in its length.
///
/// # Errors
/// The first thing wrong: see [`ErrorKind`]. Nothing is allocated beyond what `limits` allow.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Node, JsonError> {
    if bytes.len() > limits.bytes {
        return Err(JsonError::new(
            ErrorKind::Limit,
            0,
            format!("a file of {} bytes; at most {} are read", bytes.len(), limits.bytes),
            "keep tensors in a weights file, or raise the limit",
        ));
    }
    if let Some(error) = refuse_other_formats(bytes) {
        return Err(error);
    }
    Parser::new(utf8(bytes)?, limits).document()
}

fn utf8(bytes: &[u8]) -> Result<&str, JsonError> {
    let refused = |offset, what: &str, remedy: &str| {
        let message = format!("not a graphc JSON model: {what}");
        Err(JsonError::new(ErrorKind::Encoding, offset, message, remedy))
    };
    if let Some(offset) = bytes.iter().position(|&b| b == 0) {
        return refused(
            offset,
            "it holds NUL bytes, so this looks like binary data or a half-written file",
            "get the whole file again, or give the model's .json file",
        );
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if error.error_len().is_none() => Err(JsonError::new(
            ErrorKind::Truncated,
            bytes.len(),
            "the file ends inside a character",
            TRUNCATED_REMEDY,
        )),
        Err(error) => refused(
            error.valid_up_to(),
            "it is not UTF-8, so this looks like binary data or text in an old encoding",
            "save it as UTF-8, or give the model's .json file",
        ),
    }
}

/// An open container. Its finished children lie on the parser's stacks from `first` on, so that closing it allocates
/// exactly what it needs.
enum Frame {
    Array { open: usize, first: usize },
    Object { open: usize, first: usize, key: Option<(String, Span)> },
}

impl Frame {
    fn open(&self) -> usize {
        match self {
            Frame::Array { open, .. } | Frame::Object { open, .. } => *open,
        }
    }
}

/// What may come next.
enum Expect {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    CommaOrClose,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    limits: &'a Limits,
    depth: usize,
    frames: Vec<Frame>,
    nodes: Vec<Node>,
    members: Vec<Member>,
    count: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, limits: &'a Limits) -> Parser<'a> {
        Parser {
            lexer: Lexer::new(text, limits),
            limits,
            depth: limits.depth.min(Limits::MAX_DEPTH),
            frames: Vec::new(),
            nodes: Vec::new(),
            members: Vec::new(),
            count: 0,
        }
    }

    fn document(&mut self) -> Result<Node, JsonError> {
        let mut expect = Expect::Value;
        loop {
            let (token, span) = self.lexer.next_token().map_err(|error| self.name_open_container(error))?;
            expect = match self.step(expect, token, span)? {
                Step::Continue(next) => next,
                Step::Finished(root) => return self.finish(root),
            };
        }
    }

    fn finish(&mut self, root: Node) -> Result<Node, JsonError> {
        match self.lexer.skip_space() {
            None => Ok(root),
            Some(offset) => Err(JsonError::new(
                ErrorKind::TrailingData,
                offset,
                "text after the end of the document",
                "a file holds one document: remove the rest, or split the file",
            )
            .related(root.span.start, "the document begins")),
        }
    }

    fn step(&mut self, expect: Expect, token: Token, span: Span) -> Result<Step, JsonError> {
        match (expect, token) {
            (Expect::FirstElement, Token::ArrayClose) | (Expect::FirstKey, Token::ObjectClose) => {
                self.close(span)
            }
            (Expect::Value | Expect::FirstElement, token) => self.value(token, span),
            (Expect::FirstKey | Expect::Key, Token::String(key)) => self.key(key, span),
            (Expect::FirstKey, token) => Err(self.unexpected(&token, span, "a key in double quotes or `}`")),
            (Expect::Key, token) => Err(self.unexpected(&token, span, "a key in double quotes")),
            (Expect::Colon, Token::Colon) => Ok(Step::Continue(Expect::Value)),
            (Expect::Colon, token) => Err(self.unexpected(&token, span, "`:` after the key")),
            (Expect::CommaOrClose, token) => match (self.frames.last(), token) {
                (Some(Frame::Array { .. }), Token::Comma) => Ok(Step::Continue(Expect::Value)),
                (Some(Frame::Object { .. }), Token::Comma) => Ok(Step::Continue(Expect::Key)),
                (Some(Frame::Array { .. }), Token::ArrayClose)
                | (Some(Frame::Object { .. }), Token::ObjectClose) => self.close(span),
                (Some(Frame::Array { .. }), token) => Err(self.unexpected(&token, span, "`,` or `]`")),
                (_, token) => Err(self.unexpected(&token, span, "`,` or `}`")),
            },
        }
    }

    fn value(&mut self, token: Token, span: Span) -> Result<Step, JsonError> {
        let scalar = match token {
            Token::Null => Value::Null,
            Token::Bool(value) => Value::Bool(value),
            Token::Number(number) => Value::Number(number),
            Token::String(text) => Value::String(text),
            Token::ArrayOpen => {
                let first = self.nodes.len();
                let open = span.start;
                self.enter(Frame::Array { open, first }, span)?;
                return Ok(Step::Continue(Expect::FirstElement));
            }
            Token::ObjectOpen => {
                let first = self.members.len();
                let (open, key) = (span.start, None);
                self.enter(Frame::Object { open, first, key }, span)?;
                return Ok(Step::Continue(Expect::FirstKey));
            }
            other => return Err(self.unexpected(&other, span, "a value")),
        };
        self.count_node(span)?;
        Ok(self.attach(Node { value: scalar, span }))
    }

    fn enter(&mut self, frame: Frame, span: Span) -> Result<(), JsonError> {
        if self.frames.len() >= self.depth {
            return Err(JsonError::new(
                ErrorKind::Limit,
                span.start,
                format!("arrays and objects nested deeper than {}", self.depth),
                "flatten the document: a module needs fewer than 20 levels",
            ));
        }
        self.count_node(span)?;
        self.frames.push(frame);
        Ok(())
    }

    fn count_node(&mut self, span: Span) -> Result<(), JsonError> {
        if self.count >= self.limits.nodes {
            return Err(JsonError::new(
                ErrorKind::Limit,
                span.start,
                format!("more than {} values", self.limits.nodes),
                "keep tensors in a weights file, or raise the limit",
            ));
        }
        self.count += 1;
        Ok(())
    }

    fn key(&mut self, text: String, span: Span) -> Result<Step, JsonError> {
        if let Some((_, c)) = hidden_character(&text) {
            return Err(JsonError::new(
                ErrorKind::HiddenCharacter,
                span.start,
                format!("a key that holds the invisible character U+{:04X}", u32::from(c)),
                "remove the character: names that look equal must be equal",
            ));
        }
        if let Some(Frame::Object { key, .. }) = self.frames.last_mut() {
            *key = Some((text, span));
        }
        Ok(Step::Continue(Expect::Colon))
    }

    /// Closes the innermost container at the bracket `span`.
    fn close(&mut self, span: Span) -> Result<Step, JsonError> {
        let (open, value) = match self.frames.pop() {
            Some(Frame::Array { open, first }) => (open, Value::Array(self.nodes.drain(first..).collect())),
            Some(Frame::Object { open, first, .. }) => {
                let members: Vec<Member> = self.members.drain(first..).collect();
                refuse_duplicates(&members)?;
                (open, Value::Object(members))
            }
            None => return Err(self.unexpected(&Token::ObjectClose, span, "a value")),
        };
        let (start, end) = (open, span.end);
        Ok(self.attach(Node { value, span: Span { start, end } }))
    }

    /// Puts a finished value where it belongs.
    fn attach(&mut self, node: Node) -> Step {
        match self.frames.last_mut() {
            None => return Step::Finished(node),
            Some(Frame::Array { .. }) => self.nodes.push(node),
            Some(Frame::Object { key, .. }) => {
                // A value in an object is expected only after its key, so the key is always there.
                if let Some((key, key_span)) = key.take() {
                    self.members.push(Member { key, key_span, value: node });
                }
            }
        }
        Step::Continue(Expect::CommaOrClose)
    }

    fn unexpected(&self, token: &Token, span: Span, wanted: &str) -> JsonError {
        if matches!(token, Token::End) {
            let error = JsonError::new(
                ErrorKind::Truncated,
                span.start,
                format!("the file ends where {wanted} is expected"),
                TRUNCATED_REMEDY,
            );
            return self.name_open_container(error);
        }
        let remedy = match token {
            Token::ObjectClose | Token::ArrayClose => "remove the comma before it, or add what is missing",
            Token::String(_) | Token::Number(_) | Token::ObjectOpen | Token::ArrayOpen
                if wanted.starts_with("`,`") =>
            {
                "put a comma before it"
            }
            _ => "add what is missing, or remove it",
        };
        JsonError::new(
            ErrorKind::Syntax,
            span.start,
            format!("expected {wanted}, found {}", token.name()),
            remedy,
        )
    }

    /// Says of a truncation where the innermost open container begins, unless it says something nearer already.
    fn name_open_container(&self, error: JsonError) -> JsonError {
        match self.frames.last() {
            Some(frame) if error.kind == ErrorKind::Truncated && error.related.is_none() => {
                let note = match frame {
                    Frame::Array { .. } => "the open array begins",
                    Frame::Object { .. } => "the open object begins",
                };
                error.related(frame.open(), note)
            }
            _ => error,
        }
    }
}

enum Step {
    Continue(Expect),
    Finished(Node),
}

fn refuse_duplicates(members: &[Member]) -> Result<(), JsonError> {
    const FEW: usize = 16;
    let twice = if members.len() <= FEW {
        members.iter().enumerate().find_map(|(i, later)| {
            let earlier = members[..i].iter().find(|m| m.key == later.key)?;
            Some((earlier, later))
        })
    } else {
        let mut seen: HashMap<&str, &Member> = HashMap::with_capacity(members.len());
        members.iter().find_map(|later| Some((seen.insert(&later.key, later)?, later)))
    };
    match twice {
        None => Ok(()),
        Some((earlier, later)) => Err(JsonError::new(
            ErrorKind::DuplicateKey,
            later.key_span.start,
            format!("the key \"{}\" stands twice in one object", shortened(&later.key)),
            "remove or rename one of the two",
        )
        .related(earlier.key_span.start, "the first one is")),
    }
}
