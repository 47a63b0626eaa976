//! Named numbers of optimizers, schedules and the like: ranges, defaults and how they are written, `KEY=VALUE,...`.

use std::fmt;

use graphc_ir::error::{Error, Result};
use graphc_ir::wire::suggest::closest;

/// Where a number may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Whether the lower end belongs to it.
    pub low_included: bool,
    /// Upper end.
    pub high: f64,
    /// Whether the upper end belongs to it.
    pub high_included: bool,
}

impl Range {
    const fn new(low: f64, low_included: bool, high: f64, high_included: bool) -> Range {
        Range { low, low_included, high, high_included }
    }

    /// (0, 10^6]. What is above is a slip of the pen: no step of that size converges.
    pub const POSITIVE: Range = Range::new(0.0, false, 1e6, true);
    /// \[0, 10^6].
    pub const NOT_NEGATIVE: Range = Range::new(0.0, true, 1e6, true);
    /// \[0, 1).
    pub const BELOW_ONE: Range = Range::new(0.0, true, 1.0, false);
    /// \[0, 1].
    pub const UNIT: Range = Range::new(0.0, true, 1.0, true);
    /// (0, 1).
    pub const BETWEEN: Range = Range::new(0.0, false, 1.0, false);
    /// (0, 1].
    pub const FACTOR: Range = Range::new(0.0, false, 1.0, true);
    /// (1, 10^6].
    pub const ABOVE_ONE: Range = Range::new(1.0, false, 1e6, true);
    /// \[1, 2^31 - 1]: what a step counter of type i32 can reach.
    pub const COUNT: Range = Range::new(1.0, true, i32::MAX as f64, true);
    /// \[0, 2^31 - 1].
    pub const COUNT_OR_NONE: Range = Range::new(0.0, true, i32::MAX as f64, true);

    fn contains(&self, x: f64) -> bool {
        let low = if self.low_included { x >= self.low } else { x > self.low };
        low && if self.high_included { x <= self.high } else { x < self.high }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = if self.low_included { "at least" } else { "above" };
        let high = if self.high_included { "at most" } else { "below" };
        let high_end = if self.high == 1e6 { "1e6".to_owned() } else { self.high.to_string() };
        write!(f, "{low} {} and {high} {high_end}", self.low)
    }
}

/// What is known of a parameter before it has a value.
#[derive(Clone, Debug)]
pub struct Field {
    /// Key.
    pub name: &'static str,
    /// What it is.
    pub doc: String,
    /// Its default, as it is written; `None` where one must be given.
    pub default: Option<String>,
    /// Range; `None` for truth values.
    pub range: Option<Range>,
}

/// A type of parameters.
pub(super) trait Value: Sized {
    /// What a text has to be.
    const WHAT: &'static str;

    fn read(text: &str) -> Option<Self>;

    fn show(&self) -> String;

    /// The numbers in it whose range is checked.
    fn numbers(&self) -> Vec<f64>;

    /// Whether it is a value at all; an empty list stands for one that has yet to be given.
    fn is_given(&self) -> bool {
        true
    }
}

impl Value for f64 {
    const WHAT: &'static str = "a number";

    fn read(text: &str) -> Option<f64> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        let (plain, short) = (self.to_string(), format!("{self:e}"));
        if short.len() < plain.len() { short } else { plain }
    }

    fn numbers(&self) -> Vec<f64> {
        vec![*self]
    }
}

impl Value for u32 {
    const WHAT: &'static str = "a whole number";

    fn read(text: &str) -> Option<u32> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn numbers(&self) -> Vec<f64> {
        vec![f64::from(*self)]
    }
}

impl Value for bool {
    const WHAT: &'static str = "`true` or `false`";

    fn read(text: &str) -> Option<bool> {
        match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

impl Value for Vec<u32> {
    const WHAT: &'static str = "whole numbers joined by `+`";

    fn read(text: &str) -> Option<Vec<u32>> {
        text.split('+').map(u32::read).collect()
    }

    fn show(&self) -> String {
        self.iter().map(u32::to_string).collect::<Vec<_>>().join("+")
    }

    fn numbers(&self) -> Vec<f64> {
        self.iter().map(|n| f64::from(*n)).collect()
    }

    fn is_given(&self) -> bool {
        !self.is_empty()
    }
}

impl<T: Value> Value for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn read(text: &str) -> Option<Option<T>> {
        T::read(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or("none".into(), T::show)
    }

    fn numbers(&self) -> Vec<f64> {
        self.as_ref().map_or(Vec::new(), T::numbers)
    }
}

/// What the range of a field may be: truth values have none.
pub(super) fn field<T: Value>(
    name: &'static str,
    doc: &'static str,
    default: &T,
    range: impl Into<Option<Range>>,
) -> Field {
    let range = range.into();
    let fits = |r: &Range| default.is_given() && default.numbers().iter().all(|n| r.contains(*n));
    let default = range.as_ref().is_none_or(fits).then(|| default.show());
    Field { name, doc: doc.trim().into(), default, range }
}

/// A struct of parameters.
pub trait Parameters {
    /// Name in files, messages and on the command line.
    fn name(&self) -> &'static str;

    /// What it does, with the source of its formula.
    fn doc(&self) -> &'static str;

    /// Its parameters.
    fn fields(&self) -> Vec<Field>;

    /// The values as they are written, in the order of the fields.
    fn shown(&self) -> Vec<String>;

    /// Reads a value; an unknown key changes nothing.
    ///
    /// # Errors
    /// A text that is no value of the parameter.
    fn set(&mut self, key: &str, text: &str) -> Result<()>;

    /// Numbers of each parameter.
    fn numbers(&self) -> Vec<Vec<f64>>;

    /// Checks every number against its range.
    ///
    /// # Errors
    /// The first that is out of its range, with the range.
    fn validate(&self) -> Result<()> {
        for (field, numbers) in self.fields().iter().zip(self.numbers()) {
            let Some(range) = field.range else { continue };
            if let Some(out) = numbers.iter().find(|n| !range.contains(**n)) {
                let problem = format!("{}: `{}` is {out}", self.name(), field.name);
                return Err(Error::new(problem).help(format!("it must be {range}")));
            }
        }
        Ok(())
    }

    /// Reads `KEY=VALUE,...` and checks the result.
    ///
    /// # Errors
    /// Unknown, repeated or missing keys, and values that are none or out of their range.
    fn read(&mut self, text: &str) -> Result<()> {
        let (name, fields) = (self.name(), self.fields());
        let known: Vec<&str> = fields.iter().map(|f| f.name).collect();
        let mut given: Vec<&str> = Vec::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&key) {
                let remedy = match closest(key, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it has {}", known.join(", ")),
                };
                return Err(Error::new(format!("{name} has no parameter `{key}`")).help(remedy));
            }
            if given.contains(&key) {
                return Err(Error::new(format!("`{key}` is given twice")));
            }
            given.push(key);
            self.set(key, value)?;
        }
        if let Some(missing) = fields.iter().find(|f| f.default.is_none() && !given.contains(&f.name)) {
            let problem = format!("{name} needs `{}`", missing.name);
            let doc = missing.doc.trim_end_matches('.');
            return Err(Error::new(problem).help(format!("{doc}, as in `{}=NUMBER`", missing.name)));
        }
        self.validate()
    }

    /// Name and values, as they are read.
    fn written(&self) -> String {
        let fields = self.fields();
        let pairs: Vec<String> = (fields.iter().zip(self.shown()))
            .filter(|(_, value)| value != "none")
            .map(|(f, value)| format!("{}={value}", f.name))
            .collect();
        if pairs.is_empty() { self.name().into() } else { format!("{}:{}", self.name(), pairs.join(",")) }
    }
}

/// A struct of parameters with defaults; one whose default is out of its range must be given.
macro_rules! parameters {
    (
        $(#[doc = $doc:literal])*
        $name:ident $text:literal {
            $( $(#[doc = $field_doc:literal])* $field:ident: $ty:ty = $default:expr, $range:expr; )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $field_doc])* pub $field: $ty, )* }

        impl Default for $name {
            fn default() -> $name {
                $name { $( $field: $default, )* }
            }
        }

        impl $crate::grad::parameters::Parameters for $name {
            fn name(&self) -> &'static str {
                $text
            }

            fn doc(&self) -> &'static str {
                concat!($($doc),*).trim_ascii()
            }

            fn fields(&self) -> Vec<$crate::grad::parameters::Field> {
                let defaults = $name::default();
                vec![$( $crate::grad::parameters::field(
                    stringify!($field), concat!($($field_doc),*), &defaults.$field, $range,
                ), )*]
            }

            fn shown(&self) -> Vec<String> {
                vec![$( $crate::grad::parameters::Value::show(&self.$field), )*]
            }

            fn set(&mut self, key: &str, text: &str) -> graphc_ir::error::Result<()> {
                match key {
                    $( stringify!($field) => {
                        match <$ty as $crate::grad::parameters::Value>::read(text) {
                            Some(value) => self.$field = value,
                            None => {
                                let what = <$ty as $crate::grad::parameters::Value>::WHAT;
                                graphc_ir::fail!("`{key}` is `{text}`, which is not {what}");
                            }
                        }
                    } )*
                    _ => {}
                }
                Ok(())
            }

            fn numbers(&self) -> Vec<Vec<f64>> {
                vec![$( $crate::grad::parameters::Value::numbers(&self.$field), )*]
            }
        }
    };
}

/// A closed list of structs with parameters, one of which is chosen by name.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        $name:ident $what:literal: $trait:path { $( $variant:ident ),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $(
                #[doc = concat!("[`", stringify!($variant), "`].")]
                $variant($variant),
            )*
        }

        impl $name {
            /// Each with its defaults, in the order of the list.
            pub fn all() -> Vec<$name> {
                vec![$( $name::$variant($variant::default()), )*]
            }

            /// The parameters.
            pub fn parameters(&self) -> &dyn $crate::grad::parameters::Parameters {
                match self { $( $name::$variant(p) => p, )* }
            }

            fn parameters_mut(&mut self) -> &mut dyn $crate::grad::parameters::Parameters {
                match self { $( $name::$variant(p) => p, )* }
            }

            fn behaviour(&self) -> &dyn $trait {
                match self { $( $name::$variant(p) => p, )* }
            }

            /// Checks the numbers.
            ///
            /// # Errors
            /// The first that is out of its range, or does not go together with the others.
            pub fn validate(&self) -> graphc_ir::error::Result<()> {
                self.parameters().validate()?;
                self.behaviour().check()
            }
        }

        $(
            impl From<$variant> for $name {
                fn from(p: $variant) -> $name {
                    $name::$variant(p)
                }
            }
        )*

        impl std::str::FromStr for $name {
            type Err = graphc_ir::error::Error;

            /// Reads `NAME:KEY=VALUE,...`; keys that are not given have their defaults.
            fn from_str(text: &str) -> graphc_ir::error::Result<$name> {
                let (name, keys) = text.split_once(':').unwrap_or((text, ""));
                let mut all = $name::all();
                match all.iter().position(|o| o.parameters().name() == name) {
                    Some(i) => {
                        let mut found = all.swap_remove(i);
                        found.parameters_mut().read(keys)?;
                        found.behaviour().check()?;
                        Ok(found)
                    }
                    None => {
                        let names: Vec<&str> = all.iter().map(|o| o.parameters().name()).collect();
                        let meant = graphc_ir::wire::suggest::closest(name, names.iter().copied());
                        let remedy = match meant {
                            Some(meant) => format!("did you mean `{meant}`?"),
                            None => format!("there are {}", names.join(", ")),
                        };
                        let problem = format!(concat!("there is no ", $what, " `{}`"), name);
                        Err(graphc_ir::error::Error::new(problem).help(remedy))
                    }
                }
            }
        }

        impl std::fmt::Display for $name {
            /// As it is read, with all keys.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.parameters().written())
            }
        }
    };
}

pub(super) use {choice, parameters};
