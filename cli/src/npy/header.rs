//! The header: a magic number, a version, a length, and a Python dictionary of three fixed keys.

use super::{MAGIC, NpyError, NpyErrorKind, NpyType};

/// No header that NumPy writes for plain elements comes near this; NumPy itself reads 10,000 bytes.
const LONGEST: usize = 1 << 16;
/// NumPy's own limit of axes.
const MOST_AXES: usize = 64;

pub(super) struct Header {
    pub(super) dtype: NpyType,
    pub(super) big_endian: bool,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
    /// Where the elements begin; at most the length of the file.
    pub(super) data_offset: usize,
}

pub(super) fn read(bytes: &[u8]) -> Result<Header, NpyError> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(not_npy(bytes));
    };
    let (length, start) = match rest {
        [1, 0, a, b, ..] => (u16::from_le_bytes([*a, *b]).into(), 10),
        [2 | 3, 0, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]), 12),
        [1..=3, 0, ..] | [] | [_] => return Err(cut_off(bytes.len())),
        [major, minor, ..] => {
            return Err(NpyError::new(
                NpyErrorKind::Version,
                MAGIC.len(),
                format!("version {major}.{minor} of the .npy format; 1.0, 2.0 and 3.0 are known"),
                "write the file again with numpy.save",
            ));
        }
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LONGEST {
        return Err(NpyError::new(
            NpyErrorKind::Header,
            8,
            format!("a header of {length} bytes; at most {LONGEST} are read"),
            "the file is damaged or holds a structured type: save plain arrays",
        ));
    }
    let Some(text) = bytes.get(start..start + length) else {
        return Err(cut_off(bytes.len()));
    };
    let mut literal = Literal { text, at: 0, start };
    let (dtype, big_endian, fortran_order, shape) = literal.dictionary()?;
    Ok(Header { dtype, big_endian, fortran_order, shape, data_offset: start + length })
}

fn not_npy(bytes: &[u8]) -> NpyError {
    let (looks_like, remedy) = match bytes {
        [] => ("an empty file", "check that the file was written completely"),
        [b'P', b'K', ..] => ("an .npz or another zip archive", "name the array in it, as in @file.npz:key"),
        [0x1f, 0x8b, ..] => ("gzip data", "unpack it first, as with `gzip -d`"),
        [0x80, 2..=5, ..] => (
            "a Python pickle",
            "pickles are never opened, because they can run code: save the array with numpy.save",
        ),
        _ if MAGIC.starts_with(bytes) => return cut_off(bytes.len()),
        _ => ("something else", "write the file with numpy.save"),
    };
    NpyError::new(NpyErrorKind::NotNpy, 0, format!("not an .npy file: this looks like {looks_like}"), remedy)
}

fn cut_off(length: usize) -> NpyError {
    NpyError::new(
        NpyErrorKind::Header,
        length,
        "the file ends inside its header",
        "the file is cut off: get the whole file again",
    )
}

/// A cursor over the header's text, which is the Python literal of a dictionary.
struct Literal<'a> {
    text: &'a [u8],
    at: usize,
    /// Offset of the text in the file.
    start: usize,
}

type Fields = (NpyType, bool, bool, Vec<usize>);

impl<'a> Literal<'a> {
    fn dictionary(&mut self) -> Result<Fields, NpyError> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{', "the header is not a dictionary")?;
        while !self.accept(b'}') {
            let at = self.at;
            let key = self.string("a key in the header is not a string")?;
            self.expect(b':', "a key in the header has no value")?;
            let twice = match key {
                b"descr" => descr.replace(self.descr()?).is_some(),
                b"fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                b"shape" => shape.replace(self.shape()?).is_some(),
                _ => return Err(self.header_error(at, "an unknown key in the header")),
            };
            if twice {
                return Err(self.header_error(at, "a key stands twice in the header"));
            }
            if !self.accept(b',') {
                self.expect(b'}', "the dictionary in the header is not closed")?;
                break;
            }
        }
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.header_error(self.at, "text after the dictionary in the header"));
        }
        match (descr, fortran_order, shape) {
            (Some((dtype, big_endian)), Some(fortran_order), Some(shape)) => {
                Ok((dtype, big_endian, fortran_order, shape))
            }
            _ => Err(self.header_error(0, "the header lacks one of 'descr', 'fortran_order' and 'shape'")),
        }
    }

    /// The type and whether it is big-endian.
    fn descr(&mut self) -> Result<(NpyType, bool), NpyError> {
        self.skip_space();
        let at = self.at;
        if matches!(self.text.get(at), Some(b'[' | b'(' | b'{')) {
            return Err(self.type_error(
                at,
                "elements of a structured type",
                "save each field as an array of its own",
            ));
        }
        let descr = self.string("the type in the header is not a string")?;
        let found = match descr {
            [order @ (b'<' | b'>' | b'|'), kind, size] => NpyType::TABLE
                .into_iter()
                .find(|row| row.1 == char::from(*kind) && row.2.to_string().as_bytes() == [*size])
                // A type of more than one byte needs an order.
                .filter(|row| row.2 == 1 || *order != b'|')
                .map(|row| (row.0, *order == b'>')),
            _ => None,
        };
        found.ok_or_else(|| self.refused_type(at, descr))
    }

    fn refused_type(&self, at: usize, descr: &[u8]) -> NpyError {
        let (what, remedy) = match descr.get(1) {
            Some(b'O') => (
                "Python objects, which need a pickle",
                "pickles are never opened, because they can run code: save an array of numbers",
            ),
            Some(b'f') => (
                "floats of another width than 16, 32 and 64 bits",
                "save it with array.astype(numpy.float64)",
            ),
            Some(b'c') => ("complex numbers", "save real and imaginary parts apart"),
            Some(b'U' | b'S' | b'a') => ("text", "save numbers, such as the index of each label"),
            Some(b'M' | b'm') => ("dates or times", "save it with array.astype(numpy.int64)"),
            Some(b'V') => {
                ("raw bytes, such as bfloat16 is saved as", "save it with array.astype(numpy.float32)")
            }
            _ => ("a type that is not read", "save it with array.astype"),
        };
        let shown: String = descr.iter().take(20).map(|b| b.escape_ascii().to_string()).collect();
        self.type_error(at, &format!("elements of type '{shown}': {what}"), remedy)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.header_error(self.at, "'fortran_order' is neither True nor False"))
    }

    /// A tuple of integers: `()`, `(3,)`, `(2, 3)`.
    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        let no_tuple = "'shape' is not a tuple of integers of at least 0";
        self.expect(b'(', no_tuple)?;
        let mut shape = Vec::new();
        while !self.accept(b')') {
            if shape.len() == MOST_AXES {
                return Err(NpyError::new(
                    NpyErrorKind::Shape,
                    self.start + self.at,
                    format!("more than {MOST_AXES} axes"),
                    "the file is damaged or forged: write it again with numpy.save",
                ));
            }
            shape.push(self.integer(no_tuple)?);
            if !self.accept(b',') {
                let last = self.at;
                self.expect(b')', no_tuple)?;
                // `(3)` is a number in Python; a tuple of one has a comma.
                if shape.len() == 1 {
                    return Err(self.header_error(last, no_tuple));
                }
                break;
            }
        }
        Ok(shape)
    }

    fn integer(&mut self, message: &str) -> Result<usize, NpyError> {
        self.skip_space();
        let at = self.at;
        let mut value = Some(0usize);
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            let digit = usize::from(digit - b'0');
            value = value.and_then(|v| v.checked_mul(10)?.checked_add(digit));
            self.at += 1;
        }
        if self.at == at {
            return Err(self.header_error(at, message));
        }
        // Python 2 wrote long integers as `3L`.
        if self.text.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        value.ok_or_else(|| {
            NpyError::new(
                NpyErrorKind::Shape,
                self.start + at,
                "an axis whose length overflows",
                "the file is damaged or forged: write it again with numpy.save",
            )
        })
    }

    /// A string in either quotes, without escapes: no key or type that is known needs one.
    fn string(&mut self, message: &str) -> Result<&'a [u8], NpyError> {
        self.skip_space();
        let open = self.at;
        let quote = match self.text.get(open) {
            Some(&quote @ (b'\'' | b'"')) => quote,
            _ => return Err(self.header_error(open, message)),
        };
        let inside = open + 1;
        match self.text[inside..].iter().position(|&b| b == quote) {
            Some(length) => {
                self.at = inside + length + 1;
                Ok(&self.text[inside..inside + length])
            }
            None => Err(self.header_error(open, message)),
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn accept(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.text.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8, message: &str) -> Result<(), NpyError> {
        match self.accept(wanted) {
            true => Ok(()),
            false => Err(self.header_error(self.at, message)),
        }
    }

    fn header_error(&self, at: usize, message: &str) -> NpyError {
        NpyError::new(
            NpyErrorKind::Header,
            self.start + at,
            message,
            "the file is damaged: write it again with numpy.save",
        )
    }

    fn type_error(&self, at: usize, message: &str, remedy: &'static str) -> NpyError {
        NpyError::new(NpyErrorKind::Type, self.start + at, message, remedy)
    }
}

/// Magic number, version, length and text, padded so that the elements are aligned.
pub(super) fn write(dtype: NpyType, shape: &[usize]) -> Vec<u8> {
    const ALIGNMENT: usize = 64;
    let mut axes: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let shorter = axes.trim_end_matches(if shape.len() == 1 { " " } else { ", " });
    axes.truncate(shorter.len());
    let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({axes}), }}", dtype.descr());
    let length = |start: usize| (start + text.len() + 1).next_multiple_of(ALIGNMENT) - start;
    let mut out = MAGIC.to_vec();
    match u16::try_from(length(10)) {
        Ok(short) => {
            out.extend([1, 0]);
            out.extend(short.to_le_bytes());
        }
        Err(_) => {
            out.extend([2, 0]);
            out.extend((length(12) as u32).to_le_bytes());
        }
    }
    let end = out.len() + length(out.len()) - 1;
    out.extend(text.as_bytes());
    out.resize(end, b' ');
    out.push(b'\n');
    out
}
