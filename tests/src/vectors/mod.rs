//! Numbers from outside graphc (`vectors/*.json`, written by the scripts beside them) as modules that
//! any [`Device`](crate::device::Device) runs.

pub mod case;
pub mod listed;
pub mod ops;
pub mod scalar;

use graphc_ir::error::{Error, Result};
use graphc_ir::module::OutputDecl;
use graphc_ir::{Function, Graph, Module, Scalar};

/// Name of the function in the modules made here.
pub const FUNCTION: &str = "main";

/// A module without state whose one function is this graph.
pub fn module_of(graph: Graph, inputs: Vec<String>, outputs: Vec<String>) -> Module {
    let outputs = outputs.into_iter().map(|name| OutputDecl { name, mark: None }).collect();
    let mut module = Module { producer: "graphc-tests".into(), ..Module::default() };
    module.functions.insert(FUNCTION.into(), Function { inputs, outputs, updates: Vec::new(), graph });
    module
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> Result<T> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let error = |e: String| Error::new(format!("{path}: {e}"));
    let text = std::fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| error(e.to_string()))
}

/// A number of a file: non-finite ones are text.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Number {
    Bool(bool),
    Int(i64),
    Large(u64),
    Real(f64),
    Text(String),
}

impl Number {
    fn value(&self) -> Result<f64> {
        Ok(self.scalar()?.as_f64())
    }

    /// The number as it stands in the file.
    fn scalar(&self) -> Result<Scalar> {
        match self {
            Number::Bool(b) => Ok(Scalar::B(*b)),
            Number::Int(v) => Ok(Scalar::I((*v).into())),
            Number::Large(v) => Ok(Scalar::I((*v).into())),
            Number::Real(v) => Ok(Scalar::F(*v)),
            Number::Text(t) => match t.as_str() {
                "nan" => Ok(Scalar::F(f64::NAN)),
                "inf" => Ok(Scalar::F(f64::INFINITY)),
                "-inf" => Ok(Scalar::F(f64::NEG_INFINITY)),
                other => Err(Error::new(format!("`{other}` is no number"))),
            },
        }
    }
}
