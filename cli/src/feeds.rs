//! `-i`, `--inputs` and `--state`: from texts to tensors.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use graphc::ir::dim::{Binding, InputShape, Symbol, bind_shapes};
use graphc::ir::wire::suggest::closest;
use graphc::{Function, Module, Session, Tensor, TensorType};

use crate::array;
use crate::exit::{Failure, Result};
use crate::value::{Recipe, Value, image_shape};

/// Options that give values to inputs and state.
#[derive(Clone, Debug, Default, Args)]
pub struct FeedArgs {
    /// An input: @FILE.npy, @FILE.npz:KEY, @IMAGE.png, JSON, random, uniform, zeros or ones
    #[arg(short = 'i', long = "input", value_name = "NAME=VALUE")]
    pub inputs: Vec<Assignment>,
    /// Inputs by name, all arrays of an .npz file
    #[arg(long = "inputs", value_name = "FILE.npz")]
    pub archive: Option<PathBuf>,
    /// A state variable, set before the run; values as for inputs
    #[arg(long, value_name = "NAME=VALUE")]
    pub state: Vec<Assignment>,
}

/// `NAME=VALUE`.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Name of an input or a state variable.
    pub name: String,
    /// What it is given.
    pub value: Value,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Assignment, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Assignment { name: name.into(), value: value.parse()? })
            }
            _ => Err("write a name and a value, as in `x=@x.npy`".into()),
        }
    }
}

/// Something that can be assigned.
#[derive(Clone, Copy)]
struct Slot<'a> {
    name: &'a str,
    ty: &'a TensorType,
}

impl FeedArgs {
    /// The files that values are read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let assigned = self.inputs.iter().chain(&self.state).filter_map(|a| a.value.path());
        assigned.chain(&self.archive)
    }

    /// The feeds of a function, as they are given.
    pub fn feeds(&self, session: &Session, name: &str, seed: u64) -> Result<Vec<(String, Tensor)>> {
        self.completed(session, name, seed, None)
    }

    /// As [`FeedArgs::feeds`], but inputs that are not given are random, and dims that nothing tells have
    /// this size, or their least one if that is larger.
    pub fn feeds_or_random(
        &self,
        session: &Session,
        name: &str,
        seed: u64,
        size: usize,
    ) -> Result<Vec<(String, Tensor)>> {
        self.completed(session, name, seed, Some(size))
    }

    fn completed(
        &self,
        session: &Session,
        name: &str,
        seed: u64,
        fill: Option<usize>,
    ) -> Result<Vec<(String, Tensor)>> {
        let function = session.function(name)?;
        let slots = input_slots(function);
        let mut fed: Vec<(String, Tensor)> = match &self.archive {
            Some(path) => array::read_npz_file(path)?,
            None => Vec::new(),
        };
        check_names(&format!("function `{name}` has no input"), &slots, fed.iter().map(|(n, _)| n.as_str()))?;
        let mut given = self.inputs.clone();
        let twice = given.iter().find(|a| fed.iter().any(|(n, _)| *n == a.name));
        if let (Some(a), Some(path)) = (twice, &self.archive) {
            return Err(Failure::usage(format!(
                "input `{}` is given by -i and by {}; give it once",
                a.name,
                path.display()
            )));
        }
        let mut sizes = Vec::new();
        if let Some(size) = fill {
            let bounds = &function.graph.infer().bounds;
            sizes =
                session.symbols(name)?.into_iter().map(|s| (bounds.lower(&s).max(size as i64), s)).collect();
            let missing = slots
                .iter()
                .filter(|s| !given.iter().any(|a| a.name == s.name) && !fed.iter().any(|(n, _)| n == s.name));
            let random =
                |s: &Slot<'_>| Assignment { name: s.name.into(), value: Value::Recipe(Recipe::Random) };
            let missing: Vec<Assignment> = missing.map(random).collect();
            given.extend(missing);
        }
        let what = format!("function `{name}` has no input");
        let context = Context { dims: session.dims(), sizes: &sizes, seed };
        fed.extend(resolve(&what, &slots, &given, &fed, &context)?);
        Ok(fed)
    }

    /// Values for state variables.
    pub fn state_values(&self, module: &Module, dims: &Binding, seed: u64) -> Result<Vec<(String, Tensor)>> {
        let slots: Vec<_> = module.state.iter().map(|s| Slot { name: &s.name, ty: &s.ty }).collect();
        let context = Context { dims, sizes: &[], seed };
        resolve("the module has no state variable", &slots, &self.state, &[], &context)
    }
}

/// What is known beside the values.
struct Context<'a> {
    dims: &'a Binding,
    /// Sizes of symbols that nothing else tells.
    sizes: &'a [(i64, String)],
    seed: u64,
}

fn input_slots(function: &Function) -> Vec<Slot<'_>> {
    (0..function.inputs.len())
        .map(|i| Slot { name: &function.inputs[i], ty: function.input_type(i) })
        .collect()
}

/// Names exist, and none is given twice.
fn check_names<'n>(what: &str, slots: &[Slot<'_>], names: impl Iterator<Item = &'n str>) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if !slots.iter().any(|s| s.name == name) {
            let remedy = match closest(name, slots.iter().map(|s| s.name)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if slots.is_empty() => "there are none".into(),
                None => {
                    let all: Vec<String> = slots.iter().map(|s| format!("`{}`", s.name)).collect();
                    format!("there are: {}", all.join(", "))
                }
            };
            return Err(Failure::usage(format!("{what} `{name}`; {remedy}")));
        }
        if seen.contains(&name) {
            return Err(Failure::usage(format!("`{name}` is given twice; give it once")));
        }
        seen.push(name);
    }
    Ok(())
}

/// Reads values with shapes of their own first: they tell the sizes of dims that the others need.
fn resolve(
    what: &str,
    slots: &[Slot<'_>],
    given: &[Assignment],
    known: &[(String, Tensor)],
    context: &Context<'_>,
) -> Result<Vec<(String, Tensor)>> {
    check_names(what, slots, given.iter().map(|a| a.name.as_str()))?;
    let slot = |name: &str| slots.iter().find(|s| s.name == name).copied();
    let mut values: Vec<Option<Tensor>> = Vec::with_capacity(given.len());
    for a in given {
        let dtype = slot(&a.name).map(|s| s.ty.dtype).unwrap_or(graphc::DType::F32);
        values.push(a.value.with_own_shape(&a.name, dtype)?);
    }
    let own = given.iter().zip(&values).filter_map(|(a, v)| Some((a.name.as_str(), v.as_ref()?)));
    let own = own.chain(known.iter().map(|(n, t)| (n.as_str(), t)));
    let shapes: Vec<InputShape<'_>> = own
        .filter_map(|(name, t)| {
            Some(InputShape { name: slot(name)?.name, dims: &slot(name)?.ty.dims, sizes: t.shape() })
        })
        .collect();
    let mut binding = context.dims.clone();
    if let Err(e) = bind_shapes(&shapes, &mut binding) {
        let types: Vec<String> = slots.iter().map(|s| format!("`{}` {}", s.name, s.ty)).collect();
        return Err(Failure::data(format!("{e}; the types are {}", types.join(", "))));
    }
    // An image is one of a batch, unless something else says how many there are.
    let images = given.iter().filter(|a| matches!(a.value, Value::Image(_)));
    for slot in images.filter_map(|a| slot(&a.name)) {
        if let Some(shape) = image_shape(slot.ty) {
            let _ = bind_shapes(
                &[InputShape { name: slot.name, dims: &slot.ty.dims, sizes: &shape }],
                &mut binding,
            );
        }
    }
    for (size, symbol) in
        context.sizes.iter().filter(|(_, s)| binding.get(s).is_none()).cloned().collect::<Vec<_>>()
    {
        let symbol = Symbol::new(&symbol).map_err(|e| Failure::usage(e.to_string()))?;
        binding.set(&symbol, size, "the default size").map_err(|e| Failure::usage(e.to_string()))?;
    }
    let mut out = Vec::with_capacity(given.len());
    for (a, value) in given.iter().zip(values) {
        let (Some(slot), value) = (slot(&a.name), value) else { continue };
        let tensor = match value {
            Some(tensor) => tensor,
            None => a.value.of_shape(slot.name, slot.ty, &sizes(slot, &binding)?, context.seed)?,
        };
        out.push((a.name.clone(), tensor));
    }
    Ok(out)
}

fn sizes(slot: Slot<'_>, binding: &Binding) -> Result<Vec<usize>> {
    let size = |d: &graphc::Dim| {
        let open: Vec<Symbol> =
            d.symbols().into_iter().filter(|s| binding.get(s.as_str()).is_none()).collect();
        match open.first() {
            Some(s) => Err(Failure::usage(format!(
                "the size of dim `{s}` of `{}` ({}) is not known; give it, as with `--dim {s}=32`",
                slot.name, slot.ty
            ))),
            None => d.bind_size(binding).map_err(|e| Failure::data(format!("`{}`: {e}", slot.name))),
        }
    };
    slot.ty.dims.iter().map(size).collect()
}
