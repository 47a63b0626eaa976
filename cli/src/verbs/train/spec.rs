//! `--data` and `--test`: where rows come from.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// A data set: `FILE.npz`, or `FILE.csv[.gz]` with the rows and columns of each input.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    /// The file.
    pub path: PathBuf,
    /// What is read of it.
    pub source: Source,
}

/// What is read of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Every array of an archive; keys are names of inputs.
    Npz,
    /// Columns of a table.
    Csv(Table),
}

/// Rows and columns of a table; all ranges are half-open and count from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Whether the file is compressed.
    pub gzip: bool,
    /// First row.
    pub first: usize,
    /// The row after the last, if given.
    pub end: Option<usize>,
    /// Columns of each input.
    pub inputs: Vec<Columns>,
}

/// `x=0..64/16`: the columns of an input, and what they are divided by.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// Name of the input.
    pub input: String,
    /// The columns.
    pub range: Range<usize>,
    /// The divisor.
    pub divisor: f64,
}

/// How a table is written, for messages.
const FORM: &str = "write it as FILE.npz, or as FILE.csv:rows=0..898:x=0..64/16:y=64";

impl FromStr for DataSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<DataSpec, String> {
        if text.ends_with(".npz") {
            return Ok(DataSpec { path: text.into(), source: Source::Npz });
        }
        // The path may hold colons, so that it ends at the first one behind an extension.
        for (extension, gzip) in [(".csv.gz", true), (".csv", false)] {
            if let Some(end) = text.find(&format!("{extension}:")).map(|at| at + extension.len()) {
                let table = table(gzip, &text[end + 1..])?;
                return Ok(DataSpec { path: text[..end].into(), source: Source::Csv(table) });
            }
            if text.ends_with(extension) {
                return Err(format!("say which columns are which input; {FORM}"));
            }
        }
        Err(format!("`{text}` is neither an .npz nor a .csv file; {FORM}"))
    }
}

fn table(gzip: bool, text: &str) -> Result<Table, String> {
    let mut table = Table { gzip, first: 0, end: None, inputs: Vec::new() };
    let mut has_rows = false;
    for part in text.split(':') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`; {FORM}"))?;
        if name == "rows" {
            if has_rows {
                return Err("rows are given twice".into());
            }
            has_rows = true;
            (table.first, table.end) = rows(value)?;
        } else if name.is_empty() || table.inputs.iter().any(|c| c.input == name) {
            return Err(format!("`{part}` names no input, or one that stands before it; {FORM}"));
        } else {
            table.inputs.push(columns(name, value)?);
        }
    }
    if table.inputs.is_empty() {
        return Err(format!("no input has columns; {FORM}"));
    }
    Ok(table)
}

/// `a..b`, `a..` or `..b`.
fn rows(text: &str) -> Result<(usize, Option<usize>), String> {
    let wrong = || format!("`rows={text}` is no range of rows; write it as rows=0..898");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let first = if first.is_empty() { 0 } else { first.parse().map_err(|_| wrong())? };
    let end: Option<usize> = if end.is_empty() { None } else { Some(end.parse().map_err(|_| wrong())?) };
    match end {
        Some(end) if end <= first => {
            Err(format!("`rows={text}` has no rows; the second number is not among them"))
        }
        _ => Ok((first, end)),
    }
}

/// `a..b`, `a..b/d`, `a` or `a/d`.
fn columns(input: &str, text: &str) -> Result<Columns, String> {
    let wrong = || format!("`{input}={text}` are no columns; write them as {input}=0..64/16 or {input}=64");
    let (range, divisor) = match text.split_once('/') {
        Some((range, divisor)) => (range, divisor.parse::<f64>().map_err(|_| wrong())?),
        None => (text, 1.0),
    };
    if !(divisor.is_finite() && divisor != 0.0) {
        return Err(format!("`{input}` is divided by {divisor}; divide by a number that is not 0"));
    }
    let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
    let range = match range.split_once("..") {
        Some((first, end)) => number(first)?..number(end)?,
        None => {
            let column = number(range)?;
            column..column.checked_add(1).ok_or_else(wrong)?
        }
    };
    if range.is_empty() {
        return Err(format!("`{input}={text}` has no columns; the second number is not among them"));
    }
    Ok(Columns { input: input.into(), range, divisor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let spec: DataSpec = "a:b/digits.csv.gz:rows=0..898:x=0..64/16:y=64".parse().unwrap();
        assert_eq!(spec.path, PathBuf::from("a:b/digits.csv.gz"));
        let column = |input: &str, range, divisor| Columns { input: input.into(), range, divisor };
        let expected = Table {
            gzip: true,
            first: 0,
            end: Some(898),
            inputs: vec![column("x", 0..64, 16.0), column("y", 64..65, 1.0)],
        };
        assert_eq!(spec.source, Source::Csv(expected));
        let Ok(DataSpec { source: Source::Csv(table), .. }) = "t.csv:y=1:rows=5..".parse() else {
            panic!("no table")
        };
        assert_eq!((table.gzip, table.first, table.end), (false, 5, None));
        assert_eq!("x.npz".parse(), Ok(DataSpec { path: "x.npz".into(), source: Source::Npz }));
    }

    #[test]
    fn refusals() {
        for (text, part) in [
            ("data.txt", "neither"),
            ("data.csv", "which columns"),
            ("data.csv:rows=0..5", "no input has columns"),
            ("data.csv:x", "has no `=`"),
            ("data.csv:x=3..3", "no columns"),
            ("data.csv:x=a..b", "write them as"),
            ("data.csv:x=0..2/0", "divided by 0"),
            ("data.csv:x=0..2/nan", "divided by NaN"),
            ("data.csv:x=-1", "write them as"),
            ("data.csv:x=18446744073709551615", "write them as"),
            ("data.csv:rows=5..5:x=0", "no rows"),
            ("data.csv:rows=5:x=0", "range of rows"),
            ("data.csv:rows=0..1:rows=0..1:x=0", "twice"),
            ("data.csv:x=0:x=1", "names no input"),
            ("data.csv:=0", "names no input"),
        ] {
            let message = text.parse::<DataSpec>().unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
