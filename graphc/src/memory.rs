//! How much memory this process may take.

use graphc_ir::tensor::element_count;
use graphc_ir::types::TensorType;
use graphc_ir::{DType, Graph};

use crate::error::{Error, Result};

pub use graphc_cpu::heap;

mod system;

/// The least of the machine's memory, the limits of the process and its control groups, and the limit of its [heap]; `None` where
/// the system does not say.
pub fn available() -> Option<usize> {
    system::limit().into_iter().chain(heap::limit()).min()
}

/// A number of bytes as people write it: `1500000`, `64K`, `512MB`, `2GiB`; the units are powers of 1024.
///
/// # Errors
/// A sentence that tells how to write it.
pub fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => 64,
    };
    let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(1usize.checked_shl(power)?));
    bytes
        .filter(|b| *b > 0)
        .ok_or_else(|| "write a number of bytes above 0, as in 1500000, 512M or 2G".into())
}

/// The error of memory that was refused.
pub fn refused(what: &str, bytes: usize) -> Error {
    Error::Device(format!(
        "the system refused {} of memory for {what}; use smaller dims or files, or allow more memory",
        readable(bytes)
    ))
}

/// Bytes that a node takes while its function is compiled: a chain of 10^6 elementwise functions takes 2.6 GB in all.
pub(crate) const COMPILED_NODE: usize = 2600;

/// Refuses what needs more than the limit.
pub(crate) fn check(what: &str, bytes: usize, limit: Option<usize>) -> Result<()> {
    match limit {
        Some(limit) if bytes > limit => Err(Error::Device(format!(
            "{what} needs {} of memory, and {} may be used; use smaller dims, such as a smaller batch",
            readable(bytes),
            readable(limit)
        ))),
        _ => Ok(()),
    }
}

/// Refuses a tensor that is too large to exist or for this process; `what` names it in the error.
///
/// # Errors
/// [`Error::Device`] with the sizes.
pub fn check_tensor(what: &str, dtype: DType, shape: &[usize]) -> Result<()> {
    let bytes = bytes_of(what, dtype, shape)?;
    check(what, bytes, available())?;
    reserve(what, bytes)
}

/// Refuses tensors of which one is too large to exist or for this process. Asks the system once for all of them.
pub(crate) fn check_tensors(what: &str, types: &[(DType, Vec<usize>)]) -> Result<()> {
    let most = available();
    types.iter().try_for_each(|(dtype, shape)| check(what, bytes_of(what, *dtype, shape)?, most))
}

/// Blocks below this size come from memory that the allocator has, or the process is at its end anyhow.
const SMALL: usize = 1 << 20;

/// Refuses a tensor that was checked before, if the system has no room for it now. Asks nothing for small ones.
pub(crate) fn check_room(what: &str, dtype: DType, shape: &[usize]) -> Result<()> {
    match bytes_of(what, dtype, shape)? {
        bytes if bytes < SMALL => Ok(()),
        bytes => reserve(what, bytes),
    }
}

fn bytes_of(what: &str, dtype: DType, shape: &[usize]) -> Result<usize> {
    let bytes = element_count(shape).and_then(|n| n.checked_mul(dtype.size()));
    bytes.ok_or_else(|| Error::Device(format!("{what} of shape {shape:?} is too large to exist")))
}

/// What is promised may still be refused: asking is the only way to know.
fn reserve(what: &str, bytes: usize) -> Result<()> {
    let mut room: Vec<u64> = Vec::new();
    room.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| refused(what, bytes))
}

/// Bytes of a tensor of fixed dims; `None` if no tensor that large can exist.
pub(crate) fn tensor_bytes(ty: &TensorType) -> Option<usize> {
    let shape = ty.shape()?;
    element_count(&shape)?.checked_mul(ty.dtype.size())
}

/// Bytes that are live at once when a bound graph is evaluated node by node; an error names a value that
/// is too large to exist.
pub(crate) fn live_bytes(graph: &Graph) -> Result<usize> {
    let mut sizes = vec![0usize; graph.value_count()];
    for (id, node) in graph.nodes() {
        for v in node.outs() {
            sizes[v.index()] = tensor_bytes(graph.ty(v)).ok_or_else(|| {
                Error::Device(format!(
                    "{}: a tensor {} is too large to exist; use smaller dims",
                    graph.describe(id),
                    graph.ty(v)
                ))
            })?;
        }
    }
    let (live_nodes, mut uses) = (graph.live_nodes(), graph.use_counts());
    let (mut live, mut most) = (0usize, 0usize);
    for (id, node) in graph.nodes().filter(|(id, _)| live_nodes[id.index()]) {
        let made: usize = graph.node(id).outs().fold(0, |sum, v| sum.saturating_add(sizes[v.index()]));
        live = live.saturating_add(made);
        most = most.max(live);
        for v in &node.ins {
            uses[v.index()] -= 1;
            if uses[v.index()] == 0 {
                live = live.saturating_sub(sizes[v.index()]);
            }
        }
    }
    Ok(most)
}

/// Bytes for a person: "1.5 MiB".
pub fn readable(bytes: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn bytes_are_read_with_their_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("3B", 3),
            ("64K", 64 << 10),
            ("512MB", 512 << 20),
            ("2 GiB", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5G", "1X", "99999999999999999999", "99999999999T"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_limit_is_enforced() {
        assert!(check("it", 10, None).is_ok() && check("it", 10, Some(10)).is_ok());
        let error = check("it", 11, Some(10)).unwrap_err().to_string();
        assert_eq!(
            error,
            "it needs 11 bytes of memory, and 10 bytes may be used; use smaller dims, such as a smaller batch"
        );
    }
}
