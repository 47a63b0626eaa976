//! A module: state and the functions over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::attr_enum;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;
use crate::types::TensorType;

attr_enum! {
    /// What a state variable is for.
    StateRole {
        /// Trained.
        Param = "param",
        /// Kept by the model, such as running statistics.
        Buffer = "buffer",
        /// Kept by the optimizer.
        Slot = "slot",
        /// A random key, `u32[2]`.
        Key = "key",
    }
}

attr_enum! {
    /// What an output is for, beyond being one.
    OutputMark {
        /// A loss, averaged by evaluations.
        Loss = "loss",
        /// A metric, averaged by evaluations.
        Metric = "metric",
    }
}

/// A state variable.
#[derive(Clone, Debug)]
pub struct StateDecl {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: StateRole,
    /// Type; its dims are numbers or symbols bound once a session.
    pub ty: TensorType,
    /// Its value, if the module carries one.
    pub init: Option<Arc<Tensor>>,
}

/// An output of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputDecl {
    /// Name.
    pub name: String,
    /// What it is for.
    pub mark: Option<OutputMark>,
}

/// A function over the module's state.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Names of the graph's inputs, in order.
    pub inputs: Vec<String>,
    /// The outputs: the first results of the graph.
    pub outputs: Vec<OutputDecl>,
    /// The state variables assigned at the end, all at once, by the graph's remaining results.
    pub updates: Vec<usize>,
    /// The computation; its results are the outputs, then the updates.
    pub graph: Graph,
}

impl Function {
    /// Values of the outputs.
    pub fn output_values(&self) -> &[ValueId] {
        &self.graph.results()[..self.outputs.len()]
    }

    /// Values of the updates.
    pub fn update_values(&self) -> &[ValueId] {
        &self.graph.results()[self.outputs.len()..]
    }

    /// Type of input `i`.
    pub fn input_type(&self, i: usize) -> &TensorType {
        self.graph.ty(self.graph.inputs()[i])
    }

    /// The same function over another graph with the same inputs and results.
    pub fn with_graph(&self, graph: Graph) -> Function {
        Function { graph, ..self.clone() }
    }
}

/// A free-form value of a module's `meta` section.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Meta {
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    Text(String),
    List(Vec<Meta>),
    Map(IndexMap<String, Meta>),
}

impl Default for Meta {
    fn default() -> Meta {
        Meta::Map(IndexMap::new())
    }
}

impl Meta {
    /// The entry of a map.
    pub fn get(&self, key: &str) -> Option<&Meta> {
        match self {
            Meta::Map(m) => m.get(key),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self) -> Option<Vec<&str>> {
        let Meta::List(items) = self else { return None };
        items.iter().map(|m| if let Meta::Text(t) = m { Some(t.as_str()) } else { None }).collect()
    }
}

/// What users ship: state and functions.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Who wrote it.
    pub producer: String,
    /// Free-form information, such as class names.
    pub meta: Meta,
    /// Lower bounds of symbols, where they are not 0.
    pub symbols: BTreeMap<String, i64>,
    /// State variables.
    pub state: Vec<StateDecl>,
    /// Functions by name.
    pub functions: IndexMap<String, Function>,
}

impl Module {
    /// Position of a state variable.
    pub fn state_index(&self, name: &str) -> Option<usize> {
        self.state.iter().position(|s| s.name == name)
    }

    /// A function, or an error that lists the names there are.
    pub fn function(&self, name: &str) -> Result<&Function> {
        match self.functions.get(name) {
            Some(f) => Ok(f),
            None => {
                let names: Vec<_> = self.functions.keys().map(String::as_str).collect();
                fail!("the module has no function `{name}`; it has {}", names.join(", "))
            }
        }
    }
}
