//! Rows in memory, and batches of them.

use std::path::Path;

use graphc::ir::dim::Dim;
use graphc::ir::wire::suggest::closest;
use graphc::{DType, Function, Tensor, TensorType};

use super::spec::{DataSpec, Source, Table};
use super::{fingerprint, table};
use crate::array::read_npz_file;
use crate::exit::{Failure, Result};

/// Examples by row: for every input of a function, one slice a row.
#[derive(Debug)]
pub struct Dataset {
    rows: usize,
    inputs: Vec<Column>,
}

/// The slices of one input, one after the other.
#[derive(Debug)]
struct Column {
    name: String,
    dtype: DType,
    /// Shape of a slice.
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Column {
    /// Bytes of a slice.
    fn size(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// How many rows a function takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// Any number: the first axis of its inputs is a symbol.
    Any,
    /// Only this one.
    Fixed(usize),
}

/// The size of the first axis of all inputs of a function.
pub fn batch_size(name: &str, function: &Function) -> Result<BatchSize> {
    let mut common: Option<&Dim> = None;
    for (i, input) in function.inputs.iter().enumerate() {
        let ty = function.input_type(i);
        let Some(first) = ty.dims.first() else {
            return Err(Failure::data(format!(
                "input `{input}` of function `{name}` is {ty}, which has no axis for the rows of a batch"
            )));
        };
        if common.get_or_insert(first) != &first {
            return Err(Failure::data(format!(
                "the first axes of the inputs of function `{name}` differ: `{input}` is {ty}"
            )));
        }
    }
    match common.map(|d| (d.as_const(), d.as_symbol())) {
        Some((Some(n), _)) if n > 0 => Ok(BatchSize::Fixed(n as usize)),
        Some((None, Some(_))) => Ok(BatchSize::Any),
        _ => Err(Failure::data(format!(
            "function `{name}` takes no batches: the first axis of its inputs is no size"
        ))),
    }
}

impl Dataset {
    /// Reads the rows of all inputs of a function.
    pub fn load(spec: &DataSpec, name: &str, function: &Function) -> Result<Dataset> {
        let what = spec.path.display().to_string();
        let given: Vec<String> = match &spec.source {
            Source::Npz => Vec::new(),
            Source::Csv(table) => table.inputs.iter().map(|c| c.input.clone()).collect(),
        };
        let dataset = match &spec.source {
            Source::Npz => {
                let arrays = read_npz_file(&spec.path)?;
                let keys: Vec<String> = arrays.iter().map(|(key, _)| key.clone()).collect();
                check_names(&what, name, function, &keys)?;
                from_arrays(&what, function, arrays)?
            }
            Source::Csv(table) => {
                check_names(&what, name, function, &given)?;
                from_table(&spec.path, function, table)?
            }
        };
        if dataset.rows == 0 {
            return Err(Failure::data(format!("{what}: has no rows")));
        }
        Ok(dataset)
    }

    /// How many examples there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What tells these rows from others, whatever kind of file they came from. It takes a fraction of the time that
    /// reading them took.
    pub fn fingerprint(&self) -> u64 {
        let mut columns: Vec<&Column> = self.inputs.iter().collect();
        columns.sort_by_key(|c| &c.name);
        columns.iter().fold(self.rows as u64, |hash, c| {
            let kind = format!("{} {} {:?}", c.name, c.dtype, c.shape);
            fingerprint::xxh64(&c.bytes, fingerprint::xxh64(kind.as_bytes(), hash))
        })
    }

    /// The examples of some rows, in that order, by input. They lie in `batch`, whose memory is used again as long as
    /// the number of rows stays the same.
    pub fn batch<'b>(
        &'b self,
        rows: &[usize],
        batch: &'b mut Batch,
    ) -> impl Iterator<Item = (&'b str, &'b Tensor)> {
        if batch.rows != rows.len() {
            let zeros =
                |column: &Column| Tensor::zeros(column.dtype, &[&[rows.len()], &column.shape[..]].concat());
            *batch = Batch { rows: rows.len(), tensors: self.inputs.iter().map(zeros).collect() };
        }
        for (column, tensor) in self.inputs.iter().zip(&mut batch.tensors) {
            let size = column.size();
            if size > 0 {
                for (to, row) in tensor.bytes_mut().chunks_exact_mut(size).zip(rows) {
                    to.copy_from_slice(&column.bytes[row * size..][..size]);
                }
            }
        }
        self.inputs.iter().map(|column| column.name.as_str()).zip(&batch.tensors)
    }
}

/// Memory for the rows of one data set that a function gets at once.
#[derive(Debug, Default)]
pub struct Batch {
    rows: usize,
    tensors: Vec<Tensor>,
}

/// Every input must be given, and nothing else.
fn check_names(what: &str, name: &str, function: &Function, given: &[String]) -> Result<()> {
    let mut problems = Vec::new();
    for extra in given.iter().filter(|g| !function.inputs.contains(g)) {
        let remedy = match closest(extra, function.inputs.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it has {}", function.inputs.join(", ")),
        };
        problems.push(format!("{what}: function `{name}` has no input `{extra}`; {remedy}"));
    }
    for missing in function.inputs.iter().filter(|i| !given.contains(i)) {
        problems.push(format!("{what}: the input `{missing}` of function `{name}` is not in the data"));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::usage(problems.join("\n"))) }
}

/// Shape of one row of an input.
fn row_shape(what: &str, input: &str, ty: &TensorType) -> Result<Vec<usize>> {
    let tail = TensorType::new(ty.dtype, ty.dims.get(1..).unwrap_or_default());
    tail.shape().ok_or_else(|| {
        Failure::data(format!("{what}: the rows of input `{input}` have no fixed shape: it is {ty}"))
    })
}

fn from_table(path: &Path, function: &Function, table: &Table) -> Result<Dataset> {
    let what = path.display().to_string();
    let mut shapes = Vec::new();
    let mut dtypes = Vec::new();
    for columns in &table.inputs {
        let i = function.inputs.iter().position(|n| *n == columns.input).unwrap_or_default();
        let ty = function.input_type(i);
        let shape = row_shape(&what, &columns.input, ty)?;
        let wanted: usize = shape.iter().product();
        if wanted != columns.range.len() {
            return Err(Failure::usage(format!(
                "{what}: a row of input `{}` ({ty}) has {wanted} elements, but {} columns are given",
                columns.input,
                columns.range.len()
            )));
        }
        shapes.push(shape);
        dtypes.push(ty.dtype);
    }
    let (rows, elements) = table::read(path, table, &dtypes)?;
    let named = table.inputs.iter().map(|c| c.input.clone());
    let inputs = named
        .zip(shapes)
        .zip(elements)
        .map(|((name, shape), e)| Column { name, dtype: e.dtype, shape, bytes: e.bytes })
        .collect();
    Ok(Dataset { rows, inputs })
}

fn from_arrays(what: &str, function: &Function, arrays: Vec<(String, Tensor)>) -> Result<Dataset> {
    let mut dataset = Dataset { rows: 0, inputs: Vec::new() };
    for (name, tensor) in arrays {
        let i = function.inputs.iter().position(|n| *n == name).unwrap_or_default();
        let ty = function.input_type(i);
        let shape = row_shape(what, &name, ty)?;
        let Some((&rows, tail)) = tensor.shape().split_first() else {
            return Err(Failure::data(format!("{what}: `{name}` is one number, not an array of rows")));
        };
        if tail != shape {
            return Err(Failure::data(format!(
                "{what}: rows of `{name}` have shape {tail:?}, but the input is {ty}"
            )));
        }
        if let Some(first) = dataset.inputs.first().filter(|_| rows != dataset.rows) {
            return Err(Failure::data(format!(
                "{what}: `{}` has {} rows, but `{name}` has {rows}",
                first.name, dataset.rows
            )));
        }
        dataset.rows = rows;
        let tensor = converted(what, &name, tensor, ty.dtype)?;
        dataset.inputs.push(Column { name, dtype: ty.dtype, shape, bytes: tensor.bytes().to_vec() });
    }
    Ok(dataset)
}

/// Floats become other floats, integers other integers that hold every element.
fn converted(what: &str, name: &str, tensor: Tensor, to: DType) -> Result<Tensor> {
    let from = tensor.dtype();
    if from == to {
        return Ok(tensor);
    }
    if from.is_float() && to.is_float() {
        let narrow = tensor.cast(to);
        let infinite = |i: &usize| tensor.get(*i).as_f64().is_finite() != narrow.get(*i).as_f64().is_finite();
        if let Some(row) = (0..tensor.len()).find(infinite) {
            let value = tensor.get(row).as_f64();
            return Err(Failure::data(format!(
                "{what}: element {row} of `{name}` is {value:?}, which does not fit {to}"
            )));
        }
        return Ok(narrow);
    }
    if !from.is_int() || !to.is_int() {
        return Err(Failure::data(format!("{what}: `{name}` is {from}, but the input is {to}; convert it")));
    }
    let (lo, hi) = to.int_range();
    if let Some(at) = (0..tensor.len()).find(|i| !(lo..=hi).contains(&tensor.get(*i).as_int())) {
        let value = tensor.get(at).as_int();
        let slice: usize = tensor.shape().iter().skip(1).product();
        let (row, element) = (at / slice.max(1), at % slice.max(1));
        let element = if slice > 1 { format!(", element {element} of it") } else { String::new() };
        return Err(Failure::data(format!(
            "{what}: row {row} (counted from 0) of `{name}`{element} is {value}, which is not of type {to}"
        )));
    }
    Ok(tensor.cast(to))
}
