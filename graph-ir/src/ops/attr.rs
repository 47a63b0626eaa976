//! Attributes of operations, in a form that the file format can read and write.

use std::sync::Arc;

use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Graph;
use crate::scalar::Number;
use crate::tensor::Tensor;

/// A neutral attribute value; the file format maps it to and from JSON.
#[derive(Clone, Debug)]
pub enum AttrValue {
    /// true or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Real(f64),
    /// A number for an element type that the operation knows.
    Number(Number),
    /// A name of a fixed set, or free text.
    Text(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Symbolic sizes.
    Dims(Vec<Dim>),
    /// One symbolic size.
    Dim(Dim),
    /// A constant's type and elements.
    Tensor(Arc<Tensor>),
    /// Another function of the module, as a loop's body.
    Body(Arc<Graph>),
}

/// What a field accepts, for messages and the JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrKind {
    /// true or false.
    Bool,
    /// A non-negative integer.
    Index,
    /// A number.
    Real,
    /// A number, integers exactly.
    Number,
    /// Free text.
    Text,
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// An element type's name.
    DType,
    /// Non-negative integers.
    Indices,
    /// Sizes.
    Dims,
    /// One size.
    Dim,
    /// A constant.
    Tensor,
    /// The name of a function.
    Body,
}

/// One attribute of an operation.
#[derive(Clone, Copy, Debug)]
pub struct AttrSpec {
    /// Name.
    pub name: &'static str,
    /// What it accepts.
    pub kind: AttrKind,
    /// Whether it may be left out.
    pub optional: bool,
}

/// A Rust type that is an attribute.
pub trait AttrField: Sized {
    /// What it accepts.
    const KIND: AttrKind;
    /// To the neutral form.
    fn to_attr(&self) -> AttrValue;
    /// From the neutral form, or what is wrong with it.
    fn from_attr(value: AttrValue) -> Option<Self>;
}

/// An f64 compared by its bits, so that operations can be compared and hashed.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, h: &mut H) {
        self.0.to_bits().hash(h);
    }
}

macro_rules! field {
    ($t:ty, $kind:expr, |$s:ident| $to:expr, $pat:pat => $from:expr) => {
        impl AttrField for $t {
            const KIND: AttrKind = $kind;
            fn to_attr(&self) -> AttrValue {
                let $s = self;
                $to
            }
            fn from_attr(value: AttrValue) -> Option<Self> {
                match value {
                    $pat => $from,
                    _ => None,
                }
            }
        }
    };
}

field!(bool, AttrKind::Bool, |s| AttrValue::Bool(*s), AttrValue::Bool(v) => Some(v));
field!(usize, AttrKind::Index, |s| AttrValue::Int(*s as i64), AttrValue::Int(v) => usize::try_from(v).ok());
field!(Real, AttrKind::Real, |s| AttrValue::Real(s.0), AttrValue::Real(v) => Some(Real(v)));
field!(Number, AttrKind::Number, |s| AttrValue::Number(*s), AttrValue::Number(v) => Some(v));
field!(String, AttrKind::Text, |s| AttrValue::Text(s.clone()), AttrValue::Text(v) => Some(v));
field!(DType, AttrKind::DType, |s| AttrValue::Text(s.name().into()), AttrValue::Text(v) => DType::parse(&v));
field!(Vec<usize>, AttrKind::Indices, |s| AttrValue::Ints(s.iter().map(|v| *v as i64).collect()),
    AttrValue::Ints(v) => v.into_iter().map(|x| usize::try_from(x).ok()).collect());
field!(Vec<Dim>, AttrKind::Dims, |s| AttrValue::Dims(s.clone()), AttrValue::Dims(v) => Some(v));
field!(Dim, AttrKind::Dim, |s| AttrValue::Dim(s.clone()), AttrValue::Dim(v) => Some(v));
field!(Arc<Tensor>, AttrKind::Tensor, |s| AttrValue::Tensor(s.clone()), AttrValue::Tensor(v) => Some(v));
field!(Arc<Graph>, AttrKind::Body, |s| AttrValue::Body(s.clone()), AttrValue::Body(v) => Some(v));

/// An operation's attributes as a list.
pub trait Attrs: Sized {
    /// Their names and kinds.
    const SPECS: &'static [AttrSpec];
    /// Their values, in the order of `SPECS`.
    fn values(&self) -> Vec<AttrValue>;
    /// From values by name; `get` returns `None` for one that is absent.
    fn from_values(get: &mut dyn FnMut(&'static str, AttrKind) -> Result<Option<AttrValue>>) -> Result<Self>;
}

/// Reads one field (or its default).
pub fn read_field<T: AttrField>(
    get: &mut dyn FnMut(&'static str, AttrKind) -> Result<Option<AttrValue>>,
    name: &'static str,
    default: Option<T>,
) -> Result<T> {
    match (get(name, T::KIND)?, default) {
        (Some(v), _) => match T::from_attr(v.clone()) {
            Some(t) => Ok(t),
            None => fail!("attribute `{name}` must be {}, but is {v:?}", describe(T::KIND)),
        },
        (None, Some(d)) => Ok(d),
        (None, None) => fail!("attribute `{name}` ({}) is missing", describe(T::KIND)),
    }
}

/// A kind in words.
pub fn describe(kind: AttrKind) -> String {
    match kind {
        AttrKind::Bool => "true or false".into(),
        AttrKind::Index => "a non-negative integer".into(),
        AttrKind::Real | AttrKind::Number => "a number".into(),
        AttrKind::Text => "text".into(),
        AttrKind::OneOf(names) => format!("one of {}", names.join(", ")),
        AttrKind::DType => "an element type such as f32".into(),
        AttrKind::Indices => "a list of non-negative integers".into(),
        AttrKind::Dims => "a list of sizes".into(),
        AttrKind::Dim => "a size".into(),
        AttrKind::Tensor => "a constant".into(),
        AttrKind::Body => "the name of a function".into(),
    }
}

/// Declares an operation's struct and its attributes; `field: Type = default` may be left out of a file.
#[macro_export]
macro_rules! op_struct {
    ($(#[$m:meta])* $name:ident { $( $(#[$fm:meta])* $f:ident : $t:ty $(= $d:expr)? ),* $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $( $(#[$fm])* pub $f: $t, )* }

        impl $crate::ops::attr::Attrs for $name {
            const SPECS: &'static [$crate::ops::attr::AttrSpec] = &[ $( $crate::ops::attr::AttrSpec {
                name: stringify!($f),
                kind: <$t as $crate::ops::attr::AttrField>::KIND,
                optional: $crate::op_struct!(@optional $($d)?),
            }, )* ];
            fn values(&self) -> Vec<$crate::ops::attr::AttrValue> {
                vec![ $( $crate::ops::attr::AttrField::to_attr(&self.$f), )* ]
            }
            #[allow(unused_variables)]
            fn from_values(
                get: &mut dyn FnMut(&'static str, $crate::ops::attr::AttrKind)
                    -> $crate::error::Result<Option<$crate::ops::attr::AttrValue>>,
            ) -> $crate::error::Result<Self> {
                Ok($name { $( $f: $crate::ops::attr::read_field::<$t>(
                    get, stringify!($f), $crate::op_struct!(@default $($d)?))?, )* })
            }
        }
    };
    (@optional) => { false };
    (@optional $d:expr) => { true };
    (@default) => { None };
    (@default $d:expr) => { Some($d) };
}

/// Declares an enumeration that is an attribute.
#[macro_export]
macro_rules! attr_enum {
    ($(#[$m:meta])* $name:ident { $( $(#[$vm:meta])* $v:ident = $text:literal ),* $(,)? }) => {
        $(#[$m])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vm])* $v, )* }

        impl $name {
            /// Name in files.
            pub fn name(self) -> &'static str {
                match self { $( $name::$v => $text, )* }
            }
        }

        impl $crate::ops::attr::AttrField for $name {
            const KIND: $crate::ops::attr::AttrKind = $crate::ops::attr::AttrKind::OneOf(&[ $( $text, )* ]);
            fn to_attr(&self) -> $crate::ops::attr::AttrValue {
                $crate::ops::attr::AttrValue::Text(self.name().into())
            }
            fn from_attr(value: $crate::ops::attr::AttrValue) -> Option<Self> {
                let $crate::ops::attr::AttrValue::Text(text) = value else { return None };
                match text.as_str() { $( $text => Some($name::$v), )* _ => None }
            }
        }
    };
}
