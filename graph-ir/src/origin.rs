//! Where a node came from, in the user's words.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::text::visible;

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
        write!(f, "`{}`", visible(&self.name))?;
        if let Some((line, column)) = self.place {
            write!(f, " ({line}:{column})")?;
        }
        Ok(())
    }
}

/// A set of origins, kept outside the key by which nodes are shared. In order, each once; shared by the graphs between passes, of
/// which there are several at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Option<Arc<[Origin]>>);

/// More origins than this say nothing any more; a shared node keeps the first ones.
const MAX_ORIGINS: usize = 8;

impl Origins {
    fn one(origin: Origin) -> Origins {
        Origins(Some(Arc::new([origin])))
    }

    /// One name.
    pub fn named(name: impl Into<Arc<str>>) -> Origins {
        Origins::one(Origin { name: name.into(), place: None })
    }

    /// One name with its place in a file.
    pub fn placed(name: impl Into<Arc<str>>, line: usize, column: usize) -> Origins {
        Origins::one(Origin { name: name.into(), place: Some((line, column)) })
    }

    fn all(&self) -> &[Origin] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Adds the other set's origins.
    pub fn extend(&mut self, other: &Origins) {
        if self.is_empty() {
            *self = other.clone();
        }
        if self.all() == other.all() {
            return;
        }
        let mut all = self.all().to_vec();
        for o in other.all() {
            if all.len() >= MAX_ORIGINS {
                break;
            }
            if let Err(place) = all.binary_search(o) {
                all.insert(place, o.clone());
            }
        }
        if all.len() > self.all().len() {
            self.0 = Some(all.into());
        }
    }

    /// The same origins, said to be of a derived thing ("gradient of" h).
    pub fn derived(&self, what: &str) -> Origins {
        let rename = |o: &Origin| {
            let name =
                if o.name.starts_with(what) { o.name.clone() } else { format!("{what} {}", o.name).into() };
            Origin { name, place: o.place }
        };
        let renamed: BTreeSet<Origin> = self.iter().map(rename).collect();
        if renamed.is_empty() { Origins(None) } else { Origins(Some(renamed.into_iter().collect())) }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The origins in order.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.all().iter()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_set_of_at_most_eight_in_order() {
        let mut all = Origins::default();
        for name in ["d", "b", "d", "a", "c", "h", "g", "f", "e", "z", "0"] {
            all.extend(&Origins::named(name));
        }
        assert_eq!(all.to_string(), "`a`, `b`, `c`, `d`, `e`, `f`, `g`, `h`");
        let mut same = all.clone();
        same.extend(&all);
        same.extend(&Origins::default());
        assert_eq!(same, all);
        assert_eq!(Origins::placed("x", 1, 2).derived("gradient of").to_string(), "`gradient of x` (1:2)");
        assert!(Origins::default().derived("gradient of").is_empty());
    }
}
