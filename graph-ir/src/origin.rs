//! Where a node came from, in the user's words.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A node of the user's: its name and, if it was read from a file, its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Name, perhaps with what was derived from it ("gradient of h").
    pub name: Arc<str>,
    /// Line and column in the module's file, from 1.
    pub place: Option<(usize, usize)>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.name)?;
        if let Some((line, column)) = self.place {
            write!(f, " ({line}:{column})")?;
        }
        Ok(())
    }
}

/// A set of origins, kept outside the key by which nodes are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeSet<Origin>);

/// More origins than this say nothing any more; a shared node keeps the first ones.
const MAX_ORIGINS: usize = 8;

impl Origins {
    /// One name.
    pub fn named(name: impl Into<Arc<str>>) -> Origins {
        Origins(BTreeSet::from([Origin { name: name.into(), place: None }]))
    }

    /// One name with its place in a file.
    pub fn placed(name: impl Into<Arc<str>>, line: usize, column: usize) -> Origins {
        Origins(BTreeSet::from([Origin { name: name.into(), place: Some((line, column)) }]))
    }

    /// Adds the other set's origins.
    pub fn extend(&mut self, other: &Origins) {
        for o in &other.0 {
            if self.0.len() >= MAX_ORIGINS {
                break;
            }
            self.0.insert(o.clone());
        }
    }

    /// The same origins, said to be of a derived thing ("gradient of" h).
    pub fn derived(&self, what: &str) -> Origins {
        let rename = |o: &Origin| {
            let name =
                if o.name.starts_with(what) { o.name.clone() } else { format!("{what} {}", o.name).into() };
            Origin { name, place: o.place }
        };
        Origins(self.0.iter().map(rename).collect())
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The origins in order.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter()
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, o) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            o.fmt(f)?;
        }
        Ok(())
    }
}
