//! Reading symbols off the shapes that are fed.

use super::atom::Atom;
use super::bind::Binding;
use super::error::DimError;
use super::poly::Dim;
use super::symbol::Symbol;

/// A fed shape beside its declaration.
#[derive(Debug, Clone, Copy)]
pub struct InputShape<'a> {
    /// What the input is called, for messages.
    pub name: &'a str,
    /// The declared dimensions.
    pub dims: &'a [Dim],
    /// The fed sizes.
    pub sizes: &'a [usize],
}

/// Makes `pattern == value` hold by binding the one symbol that is left in it, if any.
///
/// With the bound symbols replaced, what is left must be a number, which is compared, or linear in
/// one symbol, which is solved: `2*B+1 = 9` gives `B = 4`. `place` says where the value came from.
///
/// # Errors
/// [`DimError::SizeMismatch`] when the pattern has another value, with the places its symbols were
/// bound; [`DimError::NoSolution`] when the solution is no integer from 0;
/// [`DimError::Undetermined`] when the pattern leaves the symbol open; [`DimError::Overflow`].
/// The binding is unchanged then.
pub fn unify(pattern: &Dim, value: i64, place: &str, binding: &mut Binding) -> Result<(), DimError> {
    let left = pattern.bind_partially(binding)?;
    if let Some(expected) = left.as_const() {
        if expected == value {
            return Ok(());
        }
        return Err(DimError::SizeMismatch {
            place: place.to_owned(),
            found: value,
            dim: pattern.clone(),
            expected,
            given: binding.given([pattern]),
        });
    }
    let Some((symbol, coefficient)) = linear(&left) else {
        let unknown: Vec<_> = left.symbols().iter().map(|s| format!("`{s}`")).collect();
        return Err(DimError::Undetermined {
            place: place.to_owned(),
            found: value,
            dim: pattern.clone(),
            unknown: unknown.join(" and "),
            given: binding.given([pattern]),
        });
    };
    // In 128 bits neither the difference nor the quotient can overflow.
    let difference = i128::from(value) - i128::from(left.constant_term());
    let coefficient = i128::from(coefficient);
    let solution = i64::try_from(difference / coefficient).ok();
    match solution.filter(|solution| difference % coefficient == 0 && *solution >= 0) {
        Some(solution) => binding.set(symbol, solution, place),
        None => Err(DimError::NoSolution {
            place: place.to_owned(),
            found: value,
            dim: pattern.clone(),
            symbol: symbol.clone(),
            given: binding.given([pattern]),
        }),
    }
}

/// The symbol and the coefficient of `k*s+c`.
fn linear(dim: &Dim) -> Option<(&Symbol, i64)> {
    match dim.terms() {
        [(monomial, coefficient)] => match monomial.as_atom() {
            Some(Atom::Symbol(symbol)) => Some((symbol, *coefficient)),
            _ => None,
        },
        _ => None,
    }
}

/// Binds the symbols of one declared shape from the sizes that were fed.
///
/// # Errors
/// Those of [`bind_shapes`].
pub fn bind_shape(name: &str, dims: &[Dim], sizes: &[usize], binding: &mut Binding) -> Result<(), DimError> {
    bind_shapes(&[InputShape { name, dims, sizes }], binding)
}

/// Binds the symbols of all declared shapes from the sizes that were fed.
///
/// The order of inputs and axes does not matter: an axis such as `B*H` waits until another one has
/// told `B` or `H`.
///
/// # Errors
/// [`DimError::RankMismatch`], [`DimError::SizeTooLarge`], and those of [`unify`], with places such
/// as ``axis 0 of `x` ``. The binding is unchanged then.
pub fn bind_shapes(inputs: &[InputShape<'_>], binding: &mut Binding) -> Result<(), DimError> {
    let mut waiting = Vec::new();
    for InputShape { name, dims, sizes } in inputs {
        if dims.len() != sizes.len() {
            let declared: Vec<_> = dims.iter().map(Dim::to_string).collect();
            return Err(DimError::RankMismatch {
                name: (*name).to_owned(),
                found: sizes.len(),
                shape: format!("{sizes:?}"),
                declared: declared.join(","),
                expected: dims.len(),
            });
        }
        for (axis, (dim, size)) in dims.iter().zip(*sizes).enumerate() {
            let place = format!("axis {axis} of `{name}`");
            match i64::try_from(*size) {
                Ok(value) => waiting.push((dim, value, place)),
                Err(_) => {
                    return Err(DimError::SizeTooLarge { place, found: *size });
                }
            }
        }
    }
    let mut bound = binding.clone();
    while !waiting.is_empty() {
        let mut still_waiting = Vec::new();
        let mut first_open = None;
        let count = waiting.len();
        for (dim, value, place) in waiting {
            match unify(dim, value, &place, &mut bound) {
                Ok(()) => {}
                Err(open @ DimError::Undetermined { .. }) => {
                    first_open.get_or_insert(open);
                    still_waiting.push((dim, value, place));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(open) = first_open
            && still_waiting.len() == count
        {
            return Err(open);
        }
        waiting = still_waiting;
    }
    *binding = bound;
    Ok(())
}
