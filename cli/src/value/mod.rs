//! VALUE on the command line: a file, a literal, or a recipe for the type of the input.

pub(crate) mod image;
mod literal;
mod random;

use std::path::PathBuf;
use std::str::FromStr;

use graphc::ir::wire::json::{self, Node};
use graphc::{DType, Tensor, TensorType};

use crate::array;
use crate::exit::{Failure, Result};

pub use image::image_shape;

/// What stands behind the `=` of `-i x=…`.
#[derive(Clone, Debug)]
pub enum Value {
    /// `@file.npy`.
    Npy(PathBuf),
    /// `@file.npz:key`, or `@file.npz` for the key of the same name.
    Npz(PathBuf, Option<String>),
    /// `@image.png`.
    Image(PathBuf),
    /// JSON.
    Literal(Node),
    /// What depends on the type and shape of the input alone.
    Recipe(Recipe),
}

/// How to make a tensor of any type and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Standard normal for floats, zeros for integers and booleans.
    Random,
    /// Uniform in [0, 1) for floats, zeros for integers and booleans.
    Uniform,
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Value, String> {
        if let Some(file) = text.strip_prefix('@') {
            return match file {
                "" => Err("`@` is followed by the name of a file".into()),
                _ => Ok(file_value(file)),
            };
        }
        match text {
            "random" => Ok(Value::Recipe(Recipe::Random)),
            "uniform" => Ok(Value::Recipe(Recipe::Uniform)),
            "zeros" => Ok(Value::Recipe(Recipe::Zeros)),
            "ones" => Ok(Value::Recipe(Recipe::Ones)),
            _ => json::parse(text.as_bytes(), &json::Limits::default()).map(Value::Literal).map_err(|e| {
                format!(
                    "`{}` is no value: {}; write @FILE, random, uniform, zeros, ones or JSON such as [[1,2],[3,4]]",
                    text.chars().take(40).collect::<String>(),
                    e.message.trim_start_matches("not a graphc JSON model: ")
                )
            }),
        }
    }
}

fn file_value(file: &str) -> Value {
    if let Some((archive, key)) = file.rsplit_once(':')
        && archive.ends_with(".npz")
    {
        return Value::Npz(archive.into(), Some(key.to_owned()));
    }
    match file {
        f if f.ends_with(".npz") => Value::Npz(f.into(), None),
        f if f.ends_with(".png") => Value::Image(f.into()),
        f => Value::Npy(f.into()),
    }
}

impl Value {
    /// The tensor of a value that has a shape of its own; `None` for images and recipes. `name` is that of
    /// the input, `dtype` its element type, by which literals are read.
    pub fn with_own_shape(&self, name: &str, dtype: DType) -> Result<Option<Tensor>> {
        match self {
            Value::Npy(path) => array::read_npy_file(path).map(Some),
            Value::Npz(path, key) => {
                let (wanted, arrays) = (key.as_deref().unwrap_or(name), array::read_npz_file(path)?);
                let keys: Vec<String> = arrays.iter().map(|(k, _)| format!("`{k}`")).collect();
                match arrays.into_iter().find(|(k, _)| k == wanted) {
                    Some((_, tensor)) => Ok(Some(tensor)),
                    None => Err(Failure::data(format!(
                        "{}: has no array `{wanted}`; it has {}",
                        path.display(),
                        keys.join(", ")
                    ))),
                }
            }
            Value::Literal(node) => literal::tensor(node, dtype)
                .map(Some)
                .map_err(|e| Failure::data(format!("the value of `{name}`: {e}"))),
            Value::Image(_) | Value::Recipe(_) => Ok(None),
        }
    }

    /// The tensor of an image or a recipe, for a shape that is known by now.
    pub fn of_shape(&self, name: &str, ty: &TensorType, shape: &[usize], seed: u64) -> Result<Tensor> {
        graphc::memory::check_tensor(&format!("`{name}`"), ty.dtype, shape)?;
        match self {
            Value::Image(path) => image::tensor(path, name, ty, shape),
            Value::Recipe(recipe) => Ok(recipe.tensor(name, ty.dtype, shape, seed)),
            Value::Npy(_) | Value::Npz(..) | Value::Literal(_) => {
                Err(Failure::data(format!("the value of `{name}` has a shape of its own")))
            }
        }
    }

    /// The file that the value is read from.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Value::Npy(path) | Value::Npz(path, _) | Value::Image(path) => Some(path),
            Value::Literal(_) | Value::Recipe(_) => None,
        }
    }
}

impl Recipe {
    /// A tensor of this type and shape; random ones depend on the seed and the name alone.
    pub fn tensor(self, name: &str, dtype: DType, shape: &[usize], seed: u64) -> Tensor {
        match self {
            Recipe::Random if dtype.is_float() => random::normal(name, dtype, shape, seed),
            Recipe::Uniform if dtype.is_float() => random::uniform(name, dtype, shape, seed),
            Recipe::Random | Recipe::Uniform | Recipe::Zeros => Tensor::zeros(dtype, shape),
            Recipe::Ones => Tensor::full(dtype, shape, graphc::ir::Scalar::one(dtype)),
        }
    }
}
