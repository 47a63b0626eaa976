//! Byte offsets to lines and columns.

use std::fmt;

/// A line and a column, both counted from 1; columns count characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Turns byte offsets of a document into places.
///
/// It keeps the place at every 256th byte, not at every line: one lookup then costs at most 256 steps and the index a
/// sixteenth of the document, also where the document is one long line or nothing but line breaks.
#[derive(Debug, Clone)]
pub struct LineIndex<'a> {
    bytes: &'a [u8],
    blocks: Vec<Place>,
}

const BLOCK: usize = 256;

impl<'a> LineIndex<'a> {
    /// Reads the document once. Bytes that are not UTF-8 count as characters unless they look like continuations.
    pub fn new(bytes: &'a [u8]) -> LineIndex<'a> {
        let mut place = Place { line: 1, column: 1 };
        let mut blocks = Vec::with_capacity(bytes.len() / BLOCK + 1);
        for block in bytes.chunks(BLOCK) {
            blocks.push(place);
            place = walk(place, block);
        }
        LineIndex { bytes, blocks }
    }

    /// The place of the character that holds byte `offset`. An offset past the end means the end.
    pub fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.bytes.len());
        let Some(last) = self.blocks.len().checked_sub(1) else {
            return Place { line: 1, column: 1 };
        };
        let block = (offset / BLOCK).min(last);
        let mut end = offset;
        while end > block * BLOCK && self.bytes.get(end).is_some_and(|&b| is_continuation(b)) {
            end -= 1;
        }
        walk(self.blocks[block], &self.bytes[block * BLOCK..end])
    }
}

fn walk(mut place: Place, bytes: &[u8]) -> Place {
    for &byte in bytes {
        if byte == b'\n' {
            place = Place { line: place.line + 1, column: 1 };
        } else if !is_continuation(byte) {
            place.column += 1;
        }
    }
    place
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}
