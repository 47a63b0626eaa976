//! The canonical text of a dimension, which [`Dim::parse`] reads back.

use std::fmt;

use super::atom::{Atom, Monomial};
use super::poly::Dim;

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let constant = self.constant_term();
        if self.terms().is_empty() {
            return write!(f, "{constant}");
        }
        let terms = self.terms().iter().map(|(m, k)| (Some(m), *k));
        let constant = (constant != 0).then_some((None, constant));
        let all: Vec<_> = terms.chain(constant).collect();
        // `4-B` reads better than `-B+4`: a positive term leads when there is one.
        let lead = all.iter().position(|(_, k)| *k > 0).unwrap_or(0);
        write_term(f, all[lead], true)?;
        for (index, term) in all.iter().enumerate() {
            if index != lead {
                write_term(f, *term, false)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_term(
    f: &mut fmt::Formatter<'_>,
    (monomial, coefficient): (Option<&Monomial>, i64),
    first: bool,
) -> fmt::Result {
    match (coefficient < 0, first) {
        (true, _) => f.write_str("-")?,
        (false, true) => {}
        (false, false) => f.write_str("+")?,
    }
    let magnitude = coefficient.unsigned_abs();
    let Some(monomial) = monomial else {
        return write!(f, "{magnitude}");
    };
    let mut separator = "";
    if magnitude != 1 {
        write!(f, "{magnitude}")?;
        separator = "*";
    }
    for (atom, exponent) in monomial.factors() {
        for _ in 0..*exponent {
            f.write_str(separator)?;
            write_atom(f, atom)?;
            separator = "*";
        }
    }
    Ok(())
}

fn write_atom(f: &mut fmt::Formatter<'_>, atom: &Atom) -> fmt::Result {
    let floor = match atom {
        Atom::Symbol(symbol) => return write!(f, "{symbol}"),
        Atom::Floor(floor) => floor,
    };
    let (numerator, divisor) = (&floor.numerator, floor.divisor);
    if numerator.terms().len() == 1 && numerator.constant_term() == 0 {
        write!(f, "floor({numerator}/{divisor})")
    } else {
        write!(f, "floor(({numerator})/{divisor})")
    }
}
