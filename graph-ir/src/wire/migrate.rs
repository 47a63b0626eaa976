//! The version gate: what is looked at before anything else in a file.

use super::diagnostic::{Report, shown};
use super::json::{Node, Value};

/// The format of every module file.
pub const FORMAT: &str = "graphc.module";

/// The newest version that is read, and the one that is written.
pub const VERSION: u64 = 1;

/// Who writes files.
pub const PRODUCER: &str = concat!("graphc ", env!("CARGO_PKG_VERSION"));

/// Checks `format` and `version`; `false` and one problem if this is no module that can be read.
///
/// There is one version so far. When there is a second, this is where a file of the first becomes one
/// of the second, wire struct by wire struct, before it is decoded.
pub(super) fn gate(root: &Node, report: &mut Report<'_>) -> bool {
    match check(root) {
        Ok(()) => true,
        Err((at, message, help)) => {
            report.problem(at, message, Some(help));
            false
        }
    }
}

fn check(root: &Node) -> Result<(), (usize, String, String)> {
    let begin = root.span.start;
    if root.as_object().is_none() {
        let message = format!("not a graphc module: the document is {}", root.value.kind());
        return Err((begin, message, "a module is an object that begins with its \"format\"".into()));
    }
    let wanted = format!("a module begins with \"format\": \"{FORMAT}\", \"version\": {VERSION}");
    let Some(format) = root.get("format") else {
        return Err((begin, "not a graphc module: it has no \"format\"".into(), wanted));
    };
    match format.as_str() {
        Some(FORMAT) => {}
        Some(other) => {
            return Err((
                format.span.start,
                format!("not a graphc module: its format is `{}`", shown(other)),
                wanted,
            ));
        }
        None => {
            let message = format!("\"format\" is {}, not a string", format.value.kind());
            return Err((format.span.start, message, wanted));
        }
    }
    let Some(version) = root.get("version") else {
        return Err((begin, "the module has no \"version\"".into(), wanted));
    };
    let at = version.span.start;
    let number = match &version.value {
        Value::Number(n) => n.as_u64().map_err(|e| (at, format!("\"version\": {e}"), wanted.clone()))?,
        other => {
            return Err((at, format!("\"version\" is {}, not an integer", other.kind()), wanted));
        }
    };
    if number > VERSION {
        let producer = root.get("producer").and_then(Node::as_str).unwrap_or("a newer graphc");
        let message = format!(
            "written by {} in version {number} of the format, and {PRODUCER} reads up to version {VERSION}",
            shown(producer)
        );
        return Err((at, message, format!("it needs {} or newer", shown(producer))));
    }
    if number == 0 {
        return Err((at, "there is no version 0 of the format".into(), wanted));
    }
    Ok(())
}
