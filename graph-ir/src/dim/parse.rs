//! Reading dimensions and types.
//!
//! ```text
//! sum    = ["-"] term { ("+" | "-") term }
//! term   = factor { "*" factor }
//! factor = number | symbol | "(" sum ")" | "floor" "(" ["-"] term "/" number ")"
//! type   = dtype [ "[" [ sum { "," sum } ] "]" ]
//! ```

use std::fmt::Display;
use std::str::FromStr;

use super::bounds::Bounds;
use super::error::{DimError, DimParseError};
use super::poly::{Dim, Failure, Sum};
use super::symbol::{continues_symbol, starts_symbol};

/// The longest text of a dimension or a type, in bytes.
pub const MAX_TEXT: usize = 32 * 1024;

/// The deepest nesting of parentheses; the canonical text needs two for each nested floor.
const MAX_NESTING: usize = 64;

impl Dim {
    /// Reads a dimension: `+ - *`, parentheses and `floor(e/c)` over numbers and symbols, where `c`
    /// is a positive number and `e` a product or in parentheses. Spaces are allowed.
    ///
    /// # Errors
    /// A [`DimParseError`] says where the text is wrong, too long or nested too deeply, or where its
    /// value overflows.
    pub fn parse(text: &str) -> Result<Self, DimParseError> {
        let mut reader = Reader::new(text)?;
        let dim = reader.sum(0)?;
        reader.end()?;
        Ok(dim)
    }
}

impl FromStr for Dim {
    type Err = DimParseError;

    fn from_str(text: &str) -> Result<Self, DimParseError> {
        Self::parse(text)
    }
}

/// Splits a type such as `f32[B,784]` into the text of its dtype and its dimensions; `f32` and
/// `f32[]` have rank 0. Whether the dtype exists, and how many axes are too many, is for the caller
/// to say.
///
/// # Errors
/// A [`DimParseError`] as of [`Dim::parse`], also for a size that is always negative and for an
/// empty dtype.
pub fn parse_type(text: &str) -> Result<(&str, Vec<Dim>), DimParseError> {
    let mut reader = Reader::new(text)?;
    reader.spaces();
    let Some(dtype) = reader.word() else {
        return Err(reader.expected("a type such as `f32[B,784]`"));
    };
    let mut dims = Vec::new();
    if reader.take(b'[') && !reader.take(b']') {
        loop {
            reader.spaces();
            let at = reader.at;
            let dim = reader.sum(0)?;
            if dim.upper_bound(&Bounds::new()).is_some_and(|most| most < 0) {
                return Err(error(at, format!("the size {dim} is below 0")));
            }
            dims.push(dim);
            if reader.take(b']') {
                break;
            }
            if !reader.take(b',') {
                return Err(reader.expected("`,` or `]`"));
            }
        }
    }
    reader.end()?;
    Ok((dtype, dims))
}

/// The text of a type, as [`parse_type`] reads it: `f32[B,784]`, and `f32[]` for rank 0.
#[must_use]
pub fn format_type(dtype: impl Display, dims: &[Dim]) -> String {
    let dims: Vec<_> = dims.iter().map(Dim::to_string).collect();
    format!("{dtype}[{}]", dims.join(","))
}

fn error(at: usize, message: impl Into<String>) -> DimParseError {
    let message = message.into();
    DimParseError { at, message }
}

struct Reader<'a> {
    text: &'a str,
    /// Always at a character boundary, as only ASCII is stepped over.
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Self, DimParseError> {
        if text.len() > MAX_TEXT {
            let message = format!("the text is longer than {MAX_TEXT} bytes");
            return Err(error(MAX_TEXT, message));
        }
        Ok(Self { text, at: 0 })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Steps over `byte`, after spaces, if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.spaces();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn word(&mut self) -> Option<&'a str> {
        let starts = self.peek().is_some_and(starts_symbol);
        starts.then(|| self.take_while(continues_symbol))
    }

    fn expected(&self, what: &str) -> DimParseError {
        let message = match self.text[self.at..].chars().next() {
            Some('/') => "division is only written `floor(e/c)`, with parentheses around a sum \
                          `e` and a positive number `c`"
                .to_owned(),
            Some(found) => format!("expected {what}, found `{}`", found.escape_debug()),
            None => format!("expected {what}, found the end"),
        };
        error(self.at, message)
    }

    fn end(&mut self) -> Result<(), DimParseError> {
        self.spaces();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    fn sum(&mut self, nesting: usize) -> Result<Dim, DimParseError> {
        let (text, start) = (self.text, self.at);
        let failed_at = |end: usize| {
            move |failure: Failure| {
                let cause = failure.at(text[start..end].trim().to_owned());
                error(start, cause.to_string())
            }
        };
        // One accumulator for all terms keeps a long sum linear.
        let mut sum = Sum::default();
        let mut negative = self.take(b'-');
        loop {
            let term = self.term(negative, nesting)?;
            sum.add(&term, 1).map_err(failed_at(self.at))?;
            negative = if self.take(b'+') {
                false
            } else if self.take(b'-') {
                true
            } else {
                break;
            };
        }
        sum.finish().map_err(failed_at(self.at))
    }

    /// A product. A minus sign goes to its first number, so that the least integer can be read.
    fn term(&mut self, negative: bool, nesting: usize) -> Result<Dim, DimParseError> {
        self.spaces();
        let mut product = if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.number(negative)?
        } else {
            let sign = Dim::constant(if negative { -1 } else { 1 });
            let at = self.at;
            let factor = self.factor(nesting)?;
            sign.mul(&factor).map_err(at_byte(at))?
        };
        while self.take(b'*') {
            self.spaces();
            let at = self.at;
            let factor = self.factor(nesting)?;
            product = product.mul(&factor).map_err(at_byte(at))?;
        }
        Ok(product)
    }

    fn factor(&mut self, nesting: usize) -> Result<Dim, DimParseError> {
        self.spaces();
        let at = self.at;
        if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.number(false);
        }
        if self.take(b'(') {
            let dim = self.nested(at, nesting, Self::sum)?;
            self.close()?;
            return Ok(dim);
        }
        match self.word() {
            Some("floor") => self.floor(at, nesting),
            Some(name) => Dim::symbol(name).map_err(at_byte(at)),
            None => Err(self.expected("a number, a symbol, `(` or `floor(`")),
        }
    }

    fn floor(&mut self, at: usize, nesting: usize) -> Result<Dim, DimParseError> {
        if !self.take(b'(') {
            return Err(self.expected("`(` after `floor`"));
        }
        let negative = self.take(b'-');
        let numerator = self.nested(at, nesting, |reader, nesting| reader.term(negative, nesting))?;
        if !self.take(b'/') {
            return Err(self.expected("`/` (a sum in a floor takes parentheses: `floor((e)/c)`)"));
        }
        self.spaces();
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.expected("a positive number as the divisor"));
        }
        let divisor_at = self.at;
        let divisor = self.number(false)?.constant_term();
        let quotient = numerator.floor_div(divisor).map_err(at_byte(divisor_at))?;
        self.close()?;
        Ok(quotient)
    }

    fn nested(
        &mut self,
        at: usize,
        nesting: usize,
        read: impl Fn(&mut Self, usize) -> Result<Dim, DimParseError>,
    ) -> Result<Dim, DimParseError> {
        if nesting == MAX_NESTING {
            let message = format!("parentheses are nested more than {MAX_NESTING} deep");
            return Err(error(at, message));
        }
        read(self, nesting + 1)
    }

    fn close(&mut self) -> Result<(), DimParseError> {
        if self.take(b')') { Ok(()) } else { Err(self.expected("`)`")) }
    }

    fn number(&mut self, negative: bool) -> Result<Dim, DimParseError> {
        let at = self.at;
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if self.peek().is_some_and(continues_symbol) {
            return Err(self.expected("an operator after the number"));
        }
        let value = digits.parse::<u64>().ok().and_then(|magnitude| {
            let magnitude = i128::from(magnitude);
            i64::try_from(if negative { -magnitude } else { magnitude }).ok()
        });
        match value {
            Some(value) => Ok(Dim::constant(value)),
            None => Err(error(at, "the number does not fit a 64-bit integer")),
        }
    }
}

fn at_byte(at: usize) -> impl Fn(DimError) -> DimParseError {
    move |cause| error(at, cause.to_string())
}
