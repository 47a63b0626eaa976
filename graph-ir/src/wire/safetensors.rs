//! Weights files in the safetensors format (<https://huggingface.co/docs/safetensors>): eight bytes with the length
//! of a JSON header, the header, and the elements in row-major order, little endian, without gaps.
//!
//! The header is read by our own JSON reader: it refuses duplicate names and says where things stand, and a
//! tensor's bytes go straight from the file into the tensor.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::json::{self, Layout, Node as Json, object_document};
use crate::dtype::DType;
use crate::tensor::{Tensor, element_count};
use crate::types::MAX_RANK;

/// The longest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// What the header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Offset of the first byte in the file.
    start: u64,
    /// Number of bytes.
    bytes: usize,
}

impl Entry {
    /// Number of bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An open weights file whose header was checked.
#[derive(Debug)]
pub struct Weights<R> {
    reader: R,
    entries: Vec<Entry>,
    // Looked up only.
    index: HashMap<String, usize>,
}

/// The name of an element type in a header.
fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::Bf16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl<R: Read + Seek> Weights<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// A sentence: the header does not fit the file, is no JSON or names types, shapes or offsets that do
    /// not fit each other and the file. Nothing larger than the header is allocated.
    pub fn open(mut reader: R) -> Result<Weights<R>, String> {
        let io = |e: io::Error| format!("cannot be read: {e}");
        let length = reader.seek(SeekFrom::End(0)).map_err(io)?;
        reader.seek(SeekFrom::Start(0)).map_err(io)?;
        if length < 8 {
            return Err(format!("is no safetensors file: it has only {length} bytes"));
        }
        let mut size = [0; 8];
        reader.read_exact(&mut size).map_err(io)?;
        let header = u64::from_le_bytes(size);
        if header > MAX_HEADER {
            return Err(format!(
                "is no safetensors file: its header would have {header} bytes, more than {MAX_HEADER}"
            ));
        }
        if header > length - 8 {
            return Err(format!(
                "is cut off or no safetensors file: its header would have {header} of {length} bytes"
            ));
        }
        let mut text = Vec::new();
        text.try_reserve_exact(header as usize)
            .map_err(|_| format!("has a header of {header} bytes, for which there is no memory"))?;
        text.resize(header as usize, 0);
        reader.read_exact(&mut text).map_err(io)?;
        let limits = json::Limits { depth: 8, ..json::Limits::default() };
        let root = json::parse(&text, &limits).map_err(|e| format!("has a bad header: {e}"))?;
        let entries = read_entries(&root, 8 + header)?;
        check_layout(&entries, 8 + header, length)?;
        let index = entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        Ok(Weights { reader, entries, index })
    }

    /// The tensors in the order of the header.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the header says of a tensor.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|i| &self.entries[*i])
    }

    /// Reads a tensor's elements.
    ///
    /// # Errors
    /// If there is no such tensor, the file cannot be read, or a boolean is neither 0 nor 1.
    pub fn read(&mut self, name: &str) -> Result<Tensor, String> {
        let Some(entry) = self.index.get(name).map(|i| &self.entries[*i]) else {
            return Err(format!("has no tensor `{name}`"));
        };
        let mut tensor = Tensor::try_zeros(entry.dtype, &entry.shape).ok_or_else(|| {
            format!("has tensor `{name}` of {} bytes, for which there is no memory", entry.bytes)
        })?;
        let read = self.reader.seek(SeekFrom::Start(entry.start));
        let read = read.and_then(|_| self.reader.read_exact(tensor.bytes_mut()));
        read.map_err(|e| format!("cannot be read at tensor `{name}`: {e}"))?;
        if entry.dtype == DType::Bool && tensor.bytes().iter().any(|b| *b > 1) {
            return Err(format!("has a boolean in tensor `{name}` that is neither 0 nor 1"));
        }
        Ok(tensor)
    }
}

fn read_entries(root: &Json, base: u64) -> Result<Vec<Entry>, String> {
    let members = root.as_object().ok_or("has a bad header: it is no JSON object")?;
    let mut entries = Vec::with_capacity(members.len());
    for m in members.iter().filter(|m| m.key != "__metadata__") {
        let entry = read_entry(&m.key, &m.value, base);
        entries.push(
            entry.map_err(|e| {
                format!("has a bad header: tensor `{}` {e}", super::diagnostic::shown(&m.key))
            })?,
        );
    }
    Ok(entries)
}

fn read_entry(name: &str, node: &Json, base: u64) -> Result<Entry, String> {
    let known = ["dtype", "shape", "data_offsets"];
    if let Some(m) = node.as_object().and_then(|all| all.iter().find(|m| !known.contains(&m.key.as_str()))) {
        return Err(format!("has the unknown field `{}`", super::diagnostic::shown(&m.key)));
    }
    let dtype = node.get("dtype").and_then(Json::as_str).ok_or("has no dtype")?;
    let found = DType::ALL.into_iter().find(|t| dtype_name(*t) == dtype);
    let dtype = found.ok_or_else(|| {
        format!("has the element type `{}`, which graphc does not have", super::diagnostic::shown(dtype))
    })?;
    let numbers = |key: &str| -> Option<Vec<u64>> {
        node.get(key)?.as_array()?.iter().map(|n| n.as_number()?.as_u64().ok()).collect()
    };
    let shape = numbers("shape").ok_or("has no shape of non-negative integers")?;
    if shape.len() > MAX_RANK {
        return Err(format!("has {} dims; at most {MAX_RANK} are supported", shape.len()));
    }
    let shape: Option<Vec<usize>> = shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = shape.ok_or("has a size that overflows")?;
    let count = element_count(&shape).and_then(|n| n.checked_mul(dtype.size()));
    let bytes = count.ok_or("has a shape whose size overflows")?;
    let offsets = numbers("data_offsets");
    let Some(&[start, end]) = offsets.as_deref() else {
        return Err("has no data_offsets [begin, end]".into());
    };
    if end.checked_sub(start) != Some(bytes as u64) {
        return Err(format!("has the offsets {start}..{end}, but its shape and type take {bytes} bytes"));
    }
    let start = start.checked_add(base).ok_or("has an offset that overflows")?;
    Ok(Entry { name: name.into(), dtype, shape, start, bytes })
}

/// Tensors fill the file without gap, overlap or rest.
fn check_layout(entries: &[Entry], base: u64, length: u64) -> Result<(), String> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|e| (e.start, e.bytes));
    let mut at = base;
    for e in sorted {
        if e.start != at {
            let what = if e.start < at { "overlaps another" } else { "leaves a gap before it" };
            return Err(format!("has a bad header: tensor `{}` {what}", super::diagnostic::shown(&e.name)));
        }
        at = at.checked_add(e.bytes as u64).ok_or("has a bad header: offsets overflow")?;
    }
    match at.cmp(&length) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(format!("is cut off: {length} of {at} bytes are there")),
        std::cmp::Ordering::Less => Err(format!("has {} bytes after its last tensor", length - at)),
    }
}

/// Writes a weights file. The wider element types come first, so that every tensor is aligned.
pub fn write(out: &mut dyn Write, tensors: &[(&str, &Tensor)]) -> io::Result<()> {
    let mut order: Vec<&(&str, &Tensor)> = tensors.iter().collect();
    order.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size()));
    let mut header = object_document(Layout::Inline, |w| {
        let mut at = 0u64;
        for (name, tensor) in &order {
            w.object(name, Layout::Inline, |w| {
                w.string("dtype", dtype_name(tensor.dtype()));
                w.array("shape", Layout::Inline, |w| tensor.shape().iter().for_each(|d| w.u64(*d as u64)));
                let end = at + tensor.bytes().len() as u64;
                w.array("data_offsets", Layout::Inline, |w| {
                    w.u64(at);
                    w.u64(end);
                });
                at = end;
            });
        }
    });
    header.truncate(header.trim_end().len());
    while !(8 + header.len()).is_multiple_of(8) {
        header.push(' ');
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    order.iter().try_for_each(|(_, t)| out.write_all(t.bytes()))
}
