//! Reading tables: comma-separated numbers, one row an example.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;
use graphc::ir::Scalar;
use graphc::ir::scalar::narrow;
use graphc::ir::text::visible;
use graphc::{DType, Tensor};

use super::spec::{Columns, Table};
use crate::exit::{Exit, Failure, Result};

/// Elements that are collected row by row.
pub struct Elements {
    /// Their type.
    pub dtype: DType,
    /// Their bytes so far.
    pub bytes: Vec<u8>,
}

/// Reads the rows of a table; returns their number and the elements of each input, in the order of the
/// table's inputs. `dtypes` are their types.
pub fn read(path: &Path, table: &Table, dtypes: &[DType]) -> Result<(usize, Vec<Elements>)> {
    let metadata = path.metadata().map_err(|e| Failure::reading(path, &e))?;
    if !metadata.is_file() {
        return Err(Failure::new(Exit::Io, format!("{}: is not a regular file", path.display())));
    }
    read_from(File::open(path).map_err(|e| Failure::reading(path, &e))?, path, table, dtypes)
}

/// As [`read`], of what `path` names.
pub fn read_from(
    file: impl Read,
    path: &Path,
    table: &Table,
    dtypes: &[DType],
) -> Result<(usize, Vec<Elements>)> {
    let file = BufReader::new(file);
    let mut reader = Reader { path, table, width: None, row: 0 };
    let mut elements: Vec<Elements> =
        dtypes.iter().map(|dtype| Elements { dtype: *dtype, bytes: Vec::new() }).collect();
    if table.gzip {
        reader.read(MultiGzDecoder::new(file), &mut elements)?;
    } else {
        reader.read(file, &mut elements)?;
    }
    let end = reader.row;
    match table.end {
        _ if end == 0 => Err(Failure::data(format!("{}: has no rows", path.display()))),
        Some(wanted) if end < wanted => {
            Err(reader.too_short(format!("rows {}..{wanted} are asked for", table.first)))
        }
        None if end <= table.first => {
            Err(reader.too_short(format!("rows from {} on are asked for", table.first)))
        }
        _ => Ok((table.end.unwrap_or(end) - table.first, elements)),
    }
}

/// The longest row in bytes, which may hold a million numbers: a compressed file may have one that has no end.
const MAX_ROW: usize = 16 << 20;

/// Text that ends with an error where a row gets too long. The reader of rows asks for some more text than it needs.
struct RowLimit<'c, R> {
    text: R,
    /// Bytes since the row before.
    since: &'c Cell<usize>,
}

impl<R: Read> Read for RowLimit<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > MAX_ROW {
            let message = format!("it is longer than {MAX_ROW} bytes, which no row may be");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let read = self.text.read(to)?;
        self.since.set(self.since.get() + read);
        Ok(read)
    }
}

struct Reader<'a> {
    path: &'a Path,
    table: &'a Table,
    /// Columns of the first row that was read.
    width: Option<usize>,
    /// Rows before the one being read; empty lines are none.
    row: usize,
}

impl Reader<'_> {
    fn read(&mut self, text: impl Read, elements: &mut [Elements]) -> Result<()> {
        let since = Cell::new(0);
        let text = RowLimit { text, since: &since };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        let mut record = StringRecord::new();
        while self.table.end.is_none_or(|end| self.row < end) {
            match reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(self.unreadable(&e)),
            }
            since.set(0);
            if self.row >= self.table.first {
                self.add(&record, elements)?;
            }
            self.row += 1;
        }
        Ok(())
    }

    fn add(&mut self, record: &StringRecord, elements: &mut [Elements]) -> Result<()> {
        let width = *self.width.get_or_insert(record.len());
        if record.len() != width {
            return Err(self.bad(format!("has {} columns, but the rows before have {width}", record.len())));
        }
        for (columns, elements) in self.table.inputs.iter().zip(elements) {
            if columns.range.end > width {
                return Err(self.bad(format!(
                    "has {width} columns, but `{}` is columns {}..{}",
                    columns.input, columns.range.start, columns.range.end
                )));
            }
            let bytes = columns.range.len() * elements.dtype.size();
            elements.bytes.try_reserve(bytes).map_err(|_| {
                let (what, taken) =
                    (format!("{} up to row {}", self.path.display(), self.row), elements.bytes.len());
                graphc::memory::refused(&what, taken + bytes)
            })?;
            // One element, which knows how a number of its type is stored.
            let mut element = Tensor::zeros(elements.dtype, &[]);
            for column in columns.range.clone() {
                let value = number(record[column].trim(), columns, elements.dtype)
                    .map_err(|why| self.bad(format!("column {column} (input `{}`) {why}", columns.input)))?;
                element.set(0, value);
                elements.bytes.extend_from_slice(element.bytes());
            }
        }
        Ok(())
    }

    /// An error in the row being read.
    fn bad(&self, what: String) -> Failure {
        Failure::data(format!("{}: row {} (counted from 0): {what}", self.path.display(), self.row))
    }

    fn too_short(&self, asked: String) -> Failure {
        Failure::data(format!("{}: has {} rows, but {asked}", self.path.display(), self.row))
    }

    fn unreadable(&self, e: &csv::Error) -> Failure {
        match e.kind() {
            csv::ErrorKind::Utf8 { .. } => self.bad("is not UTF-8 text".into()),
            csv::ErrorKind::Io(e)
                if e.kind() == io::ErrorKind::InvalidData && e.get_ref().is_some_and(is_own) =>
            {
                self.bad(e.to_string())
            }
            csv::ErrorKind::Io(e) if self.table.gzip => {
                self.bad(format!("cannot be decompressed: {e}; is the file complete, and a gzip file?"))
            }
            csv::ErrorKind::Io(e) => Failure::reading(self.path, e),
            _ => self.bad(format!("cannot be read: {e}")),
        }
    }
}

/// Whether an error is that of [`RowLimit`], and none of decompression.
fn is_own(e: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    e.to_string().ends_with("which no row may be")
}

/// The number of a field, or why it is none for this input.
fn number(text: &str, columns: &Columns, dtype: DType) -> std::result::Result<Scalar, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    // Large integers are not numbers of f64.
    let whole = text.parse::<i128>().ok().filter(|_| columns.divisor == 1.0);
    let value = match (whole, text.parse::<f64>()) {
        (Some(whole), _) => Scalar::I(whole),
        (None, Ok(value)) => Scalar::F(value / columns.divisor),
        (None, Err(_)) => return Err(format!("is `{}`, which is not a number", shortened(text))),
    };
    if !value.as_f64().is_finite() {
        return Err(format!("is {}, which is not finite", value.as_f64()));
    }
    if dtype.is_float() {
        // Rounded once, unless it is divided.
        let undivided = narrow::from_text(text, dtype).filter(|_| columns.divisor == 1.0);
        let rounded = undivided.map_or_else(|| value.cast(dtype), Scalar::F);
        if !rounded.as_f64().is_finite() {
            return Err(format!("is {}, which does not fit {dtype}", shortened(text)));
        }
        return Ok(rounded);
    }
    let (lo, hi) = if dtype == DType::Bool { (0, 1) } else { dtype.int_range() };
    if value.as_f64().fract() != 0.0 || !(lo..=hi).contains(&value.as_int()) {
        return Err(format!("is {}, which is not of type {dtype}", shortened(text)));
    }
    Ok(Scalar::I(value.as_int()))
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 32;
    let mut shown = visible(&text.chars().take(SHOWN).collect::<String>()).into_owned();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
