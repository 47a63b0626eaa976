//! The state of a session: one value a variable, and how often each has changed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use graphc_ir::dim::{Binding, bind_shape};
use graphc_ir::module::Module;
use graphc_ir::random;
use graphc_ir::tensor::element_count;
use graphc_ir::{StateDecl, StateRole, Tensor};

use super::feeds::described;
use crate::error::{Error, Result, names, suggest};

/// Reads a value from where it is.
type Fetch = Box<dyn Fn() -> Result<Tensor> + Send + Sync>;

/// A value that a device holds.
struct Away {
    fetch: Fetch,
    /// The value, once somebody asked for it.
    here: OnceLock<std::result::Result<Arc<Tensor>, String>>,
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away").field("here", &self.here).finish_non_exhaustive()
    }
}

/// The variables' values, by their position in the module.
#[derive(Debug)]
pub(crate) struct State {
    values: Vec<Option<Arc<Tensor>>>,
    /// What a device assigned and nobody asked for yet; these values count and not those above.
    away: Vec<Option<Away>>,
    /// Counts the assignments of each variable; what was computed from one holds for that count only.
    versions: Vec<u64>,
    /// Variables whose value a run left half written. They have none until they are assigned.
    lost: Vec<bool>,
    names: Vec<String>,
    /// The dims of the variables' types.
    dims: Binding,
}

impl State {
    /// The values that the module carries; `dims` are sizes that the caller knows.
    pub fn new(module: &Module, dims: Binding) -> Result<State> {
        let count = module.state.len();
        let mut state = State {
            values: vec![None; count],
            away: (0..count).map(|_| None).collect(),
            versions: vec![0; count],
            lost: vec![false; count],
            names: module.state.iter().map(|decl| decl.name.clone()).collect(),
            dims,
        };
        for (i, decl) in module.state.iter().enumerate() {
            if let Some(value) = &decl.init {
                state.set(module, i, value.clone())?;
            }
        }
        Ok(state)
    }

    /// The sizes of the dims that variables have.
    pub fn dims(&self) -> &Binding {
        &self.dims
    }

    /// Whether a variable has a value.
    pub fn has(&self, i: usize) -> bool {
        self.away[i].is_some() || self.values[i].is_some()
    }

    /// A variable's value, if it has one, wherever it is.
    ///
    /// # Errors
    /// If it was lost, or the device that holds it is.
    pub fn get(&self, i: usize) -> Result<Option<&Arc<Tensor>>> {
        if self.lost[i] {
            return Err(Error::Device(self.loss(i)));
        }
        match &self.away[i] {
            None => Ok(self.values[i].as_ref()),
            Some(away) => {
                let fetched = || (away.fetch)().map(Arc::new).map_err(|e| e.to_string());
                match away.here.get_or_init(fetched) {
                    Ok(value) => Ok(Some(value)),
                    Err(e) => Err(Error::Device(e.clone())),
                }
            }
        }
    }

    /// Notes that a device assigned a variable and holds its value.
    #[cfg(feature = "gpu")]
    pub fn assign_away(&mut self, i: usize, fetch: Fetch) {
        self.away[i] = Some(Away { fetch, here: OnceLock::new() });
        self.touch(i);
    }

    /// The value of a variable in this process's memory, for devices that compute there.
    pub fn here(&self, i: usize) -> Option<&Tensor> {
        self.values[i].as_deref()
    }

    /// All values, for devices that compute in this process's memory.
    pub fn values(&self) -> &[Option<Arc<Tensor>>] {
        &self.values
    }

    /// All values, for a run that assigns some of them; it tells which by [`State::touch`]. A value that
    /// someone else holds too has to be copied before.
    pub fn values_mut(&mut self) -> &mut [Option<Arc<Tensor>>] {
        &mut self.values
    }

    /// How often a variable was assigned.
    pub fn version(&self, i: usize) -> u64 {
        self.versions[i]
    }

    /// Notes that a variable was assigned.
    pub fn touch(&mut self, i: usize) {
        self.versions[i] += 1;
        self.lost[i] = false;
    }

    /// Notes what a run did that ended while it assigned variables: those that have their new value, and those of which
    /// some elements may be new. Gives the sentence that tells so.
    pub fn tear(&mut self, assigned: &[usize], lost: &[usize]) -> String {
        assigned.iter().for_each(|i| self.touch(*i));
        for i in lost {
            (self.values[*i], self.away[*i]) = (None, None);
            self.touch(*i);
            self.lost[*i] = true;
        }
        let named = |list: &[usize]| names(list.iter().map(|i| self.names[*i].as_str()));
        format!(
            "the run ended while it assigned state; lost: {}; with their new value: {}; all others are as they were",
            named(lost),
            named(assigned)
        )
    }

    /// That a variable was lost, and what to do; `None` if it was not.
    pub fn lost(&self, i: usize) -> Option<String> {
        self.lost[i].then(|| self.loss(i))
    }

    fn loss(&self, i: usize) -> String {
        format!(
            "the value of state variable `{}` was lost when a run failed; assign it, or read the module again",
            self.names[i]
        )
    }

    /// Assigns a value of the variable's type; the first one binds the type's dims for the session.
    pub fn set(&mut self, module: &Module, i: usize, value: Arc<Tensor>) -> Result<()> {
        let decl = &module.state[i];
        let given =
            || format!("state variable `{}` is {}, but was given {}", decl.name, decl.ty, described(&value));
        if value.dtype() != decl.ty.dtype {
            return Err(Error::Data(format!("{}; convert it to {}", given(), decl.ty.dtype)));
        }
        bind_shape(&decl.name, &decl.ty.dims, value.shape(), &mut self.dims)
            .map_err(|e| Error::Data(format!("{}: {e}", given())))?;
        self.assign(i, value);
        Ok(())
    }

    /// Assigns the value that a function made, whose type is the variable's.
    pub fn assign(&mut self, i: usize, value: Arc<Tensor>) {
        self.away[i] = None;
        self.values[i] = Some(value);
        self.touch(i);
    }

    /// Names of the variables without a value.
    pub fn unset<'m>(&self, module: &'m Module) -> Vec<&'m str> {
        let unset = |(i, decl): (usize, &'m StateDecl)| (!self.has(i)).then_some(decl.name.as_str());
        module.state.iter().enumerate().filter_map(unset).collect()
    }

    /// Sets the random keys from a seed: those without a value, or all. Different variables get different
    /// keys: word 0 of each is mixed with the variable's position.
    pub fn seed(&mut self, module: &Module, seed: u64, all: bool) -> Result<()> {
        for (i, decl) in module.state.iter().enumerate() {
            if decl.role == StateRole::Key && (all || !self.has(i)) {
                let key = random::threefry2x32(random::key(seed), [i as u32, 0]);
                self.set(module, i, Arc::new(Tensor::from_slice(&[2], &key)))?;
            }
        }
        Ok(())
    }

    /// Bytes of the variables that have a value, or get one by a run that uses the variables `used`, as far as
    /// their dims are known.
    pub fn bytes(&self, module: &Module, used: impl Fn(usize) -> bool, binding: &Binding) -> usize {
        let bytes = |decl: &StateDecl| {
            let shape = decl.ty.dims.iter().map(|d| d.bind_size(binding).ok()).collect::<Option<Vec<_>>>()?;
            element_count(&shape)?.checked_mul(decl.ty.dtype.size())
        };
        let there = |i: usize| self.has(i) || used(i);
        let state = module.state.iter().enumerate().filter(|(i, _)| there(*i));
        state.filter_map(|(_, decl)| bytes(decl)).fold(0, usize::saturating_add)
    }
}

/// Position of a variable, or an error that suggests one.
pub(crate) fn index(module: &Module, name: &str) -> Result<usize> {
    module.state_index(name).ok_or_else(|| {
        let known = module.state.iter().map(|s| s.name.as_str());
        Error::Usage(format!("the module has no state variable `{name}`; {}", suggest(name, known)))
    })
}
