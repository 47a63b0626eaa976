//! Results and gradients of operations that are made by name and attributes from the list of operations:
//! `convolution.json`, `sequences.json` and `element_types.json`.

use graphc_ir::error::{Error, Result};
use graphc_ir::ops::Map;
use graphc_ir::ops::attr::{AttrKind, AttrValue};
use graphc_ir::{DType, Dim, Op, ScalarFn, ValueId};
use indexmap::IndexMap;
use serde_json::Value;

use super::case::{Entry, File, OpVector};
use super::read;

type Attrs = IndexMap<String, Value>;

/// The cases of a file, with floats of this type.
///
/// # Errors
/// A file that cannot be read, or unknown operations and attributes.
pub fn load(file: &str, float: DType) -> Result<Vec<OpVector>> {
    let vector = |entry: &Entry<Attrs>| {
        let op = op(&entry.op, &entry.attrs)?;
        entry.vector(float, |b, ins| {
            let operands: Vec<ValueId> = ins.values().copied().collect();
            Ok(entry.results().zip(b.op(op, &operands)?).collect())
        })
    };
    let file = read::<File<Attrs>>(file)?;
    file.cases.iter().map(|e| vector(e).map_err(|x| x.at(&e.name))).collect()
}

/// The operation of a name with these attributes.
fn op(name: &str, attrs: &Attrs) -> Result<Op> {
    if let Some(f) = ScalarFn::parse(name) {
        return Ok(Map { f }.into());
    }
    let info = Op::find(name).ok_or_else(|| Error::new(format!("no operation is called `{name}`")))?;
    if let Some(unknown) = attrs.keys().find(|k| info.attrs.iter().all(|a| a.name != k.as_str())) {
        return Err(Error::new(format!("`{name}` has no attribute `{unknown}`")));
    }
    (info.from_values)(&mut |name, kind| attrs.get(name).map(|v| attribute(v, kind)).transpose())
}

fn attribute(value: &Value, kind: AttrKind) -> Result<AttrValue> {
    let numbers = || value.as_array()?.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>();
    let found = match kind {
        AttrKind::Bool => value.as_bool().map(AttrValue::Bool),
        AttrKind::Index => value.as_i64().map(AttrValue::Int),
        AttrKind::Real => value.as_f64().map(AttrValue::Real),
        AttrKind::Number => value.as_f64().map(|v| AttrValue::Number(v.into())),
        AttrKind::OneOf(_) | AttrKind::DType => value.as_str().map(|s| AttrValue::Text(s.into())),
        AttrKind::Indices => numbers().map(AttrValue::Ints),
        AttrKind::Dims => numbers().map(|n| AttrValue::Dims(n.into_iter().map(Dim::from).collect())),
        _ => None,
    };
    found.ok_or_else(|| Error::new(format!("{value} is no attribute of the kind {kind:?}")))
}
