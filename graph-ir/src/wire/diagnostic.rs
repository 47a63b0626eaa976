//! Problems of a file, collected so that one reading tells all of them.

use std::fmt;

use super::json::{JsonError, LineIndex, Place};
use super::suggest::closest;
use crate::text::visible;

/// One problem of a module file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The file.
    pub file: String,
    /// Line and column.
    pub place: Option<Place>,
    /// The function that it is in.
    pub function: Option<String>,
    /// The node that it is about.
    pub node: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{place}")?;
        }
        f.write_str(": ")?;
        match (&self.function, &self.node) {
            (Some(function), Some(node)) => write!(f, "function `{function}`, node `{node}`: ")?,
            (Some(function), None) => write!(f, "function `{function}`: ")?,
            _ => {}
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// How many names are compared in all to find what misspelt names were meant to be.
const COMPARISONS: usize = 200_000;

/// The problems found so far and where the reading is.
pub(super) struct Report<'a> {
    file: &'a str,
    index: LineIndex<'a>,
    most: usize,
    found: Vec<(usize, Diagnostic)>,
    left_out: usize,
    comparisons: usize,
    /// The function being read.
    pub function: Option<String>,
    /// The node being read.
    pub node: Option<String>,
}

impl<'a> Report<'a> {
    /// No problems yet; at most `most` of them are kept.
    pub fn new(file: &'a str, bytes: &'a [u8], most: usize) -> Report<'a> {
        Report {
            file,
            index: LineIndex::new(bytes),
            most,
            found: Vec::new(),
            left_out: 0,
            comparisons: COMPARISONS,
            function: None,
            node: None,
        }
    }

    /// Records a problem at a byte of the file.
    pub fn problem(&mut self, at: usize, message: impl Into<String>, help: Option<String>) {
        if self.found.len() >= self.most {
            self.left_out += 1;
            return;
        }
        let diagnostic = Diagnostic {
            message: message.into(),
            file: self.file.into(),
            place: Some(self.index.place(at)),
            function: self.function.as_deref().map(shown),
            node: self.node.as_deref().map(shown),
            help,
        };
        self.found.push((at, diagnostic));
    }

    /// Records why the document is no JSON.
    pub fn json(&mut self, error: &JsonError) {
        let related = match &error.related {
            Some(other) => format!(" ({} at {})", other.note, self.index.place(other.offset)),
            None => String::new(),
        };
        self.problem(error.offset, format!("{}{related}", error.message), Some(error.remedy.clone()));
    }

    /// Line and column of a byte.
    pub fn place(&self, at: usize) -> Place {
        self.index.place(at)
    }

    /// "did you mean …?" for a misspelt name, as long as the budget of comparisons lasts.
    pub fn did_you_mean<'n>(
        &mut self,
        name: &str,
        candidates: impl IntoIterator<Item = &'n str>,
    ) -> Option<String> {
        let mut left = self.comparisons;
        let counted = candidates.into_iter().take_while(|_| {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        });
        let found = closest(name, counted).map(|meant| format!("did you mean `{}`?", shown(meant)));
        self.comparisons = left;
        found
    }

    /// How many problems there are so far.
    pub fn count(&self) -> usize {
        self.found.len() + self.left_out
    }

    /// The problems in the order of the file.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(at, _)| *at);
        let mut all: Vec<Diagnostic> = self.found.into_iter().map(|(_, d)| d).collect();
        if self.left_out > 0 {
            all.push(Diagnostic {
                message: format!("{} more problems are not shown", self.left_out),
                file: self.file.into(),
                place: None,
                function: None,
                node: None,
                help: None,
            });
        }
        all
    }
}

/// A name for a message: its beginning where it is long, hidden characters escaped.
pub(super) fn shown(name: &str) -> String {
    const SHOWN: usize = 64;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", visible(&name[..end])),
        None => visible(name).into_owned(),
    }
}
