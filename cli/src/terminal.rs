//! The standard output, for results, and the standard error, for everything else.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use graphc::ir::text::visible_lines;

use crate::args::{Color, Global};
use crate::exit::{Failure, Result};

/// Where results and messages go.
#[derive(Debug)]
pub struct Terminal {
    out: BufWriter<Stdout>,
    reader_is_gone: bool,
    quiet: bool,
    verbose: bool,
    colored: bool,
}

impl Terminal {
    /// As the options say.
    pub fn new(global: &Global) -> Terminal {
        let colored = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            }
        };
        let (quiet, verbose) = (global.quiet, global.verbose);
        Terminal { out: BufWriter::new(io::stdout()), reader_is_gone: false, quiet, verbose, colored }
    }

    /// Whether results are read by a person.
    pub fn is_interactive(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes a part of the results. Whatever the text is, no command to a terminal is in it. If their reader went away
    /// there is nothing more to write, which ends nothing else: what a verb does beside printing, it does all the same.
    pub fn print(&mut self, text: &str) -> Result<()> {
        self.unless_gone(|out| out.write_all(visible_lines(text).as_bytes()))
    }

    /// Makes the results visible.
    pub fn flush(&mut self) -> Result<()> {
        self.unless_gone(BufWriter::flush)
    }

    /// Whether the reader of the results went away, as `head` does.
    pub fn reader_is_gone(&self) -> bool {
        self.reader_is_gone
    }

    fn unless_gone(&mut self, put: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) -> Result<()> {
        if self.reader_is_gone {
            return Ok(());
        }
        match put(&mut self.out) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_is_gone = true;
                Ok(())
            }
            result => result.map_err(|e| Failure::printing(&e)),
        }
    }

    /// A line on the standard error, unless `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.message(None, text);
        }
    }

    /// A line on the standard error if `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            self.message(None, text);
        }
    }

    /// A warning, unless `--quiet`.
    pub fn warning(&self, text: &str) {
        if !self.quiet {
            self.message(Some(("warning", "\x1b[33m")), text);
        }
    }

    /// An error.
    pub fn error(&self, text: &str) {
        self.message(Some(("error", "\x1b[31m")), text);
    }

    fn message(&self, label: Option<(&str, &str)>, text: &str) {
        let label = match label {
            Some((word, color)) if self.colored => format!("{color}{word}:\x1b[0m "),
            Some((word, _)) => format!("{word}: "),
            None => String::new(),
        };
        let mut lines = String::new();
        for line in visible_lines(text).lines() {
            lines.push_str(&label);
            lines.push_str(line);
            lines.push('\n');
        }
        // There is nowhere left to say that the standard error is closed, and no two messages mix.
        let _ = io::stderr().write_all(lines.as_bytes());
    }
}

/// Says what is wrong with the command line, or what was asked for of it. Arguments may hold anything, and stand in the messages.
///
/// # Errors
/// When the stream cannot be written to.
pub fn usage(e: &clap::Error) -> io::Result<()> {
    let text = e.render().to_string();
    let shown = visible_lines(&text);
    match shown == text {
        true => e.print(),
        false if e.use_stderr() => io::stderr().write_all(shown.as_bytes()),
        false => io::stdout().write_all(shown.as_bytes()),
    }
}
