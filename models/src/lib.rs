//! Builders of the shipped models and the JSON files that they write.
//!
//! The files lie beside this crate's source, in `NAME/NAME.json`; `cargo run -p graphc-models -- NAME
//! FOLDER` writes them anew.

pub mod char_lstm;
pub mod digits_cnn;
pub mod digits_mlp;
pub mod encoder;
pub mod layers;
pub mod lenet;
pub mod mlp_784;
pub mod resnet18;
pub mod resnet20;
pub mod stress;
pub mod text;
pub mod two_layer;

use graphc::build::{Error, Module, Result};
use graphc::ir::wire::suggest::closest;

/// A model by its name.
pub struct Model {
    /// Name of the model, its folder and its file.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Whether its file is shipped, or made by whoever wants it.
    pub file: File,
    /// Builds its module; parameters have no values.
    pub build: fn() -> Result<Module>,
}

/// Where a model's file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// It lies in the repository.
    Shipped,
    /// It is written on demand, with the values that `init` sets for seed 0.
    Initialized,
    /// It is written on demand, without values.
    Bare,
}

/// Every model.
pub const MODELS: &[Model] = &[
    Model {
        name: "two_layer",
        about: "1000-100-1000 regression with plain gradient descent",
        file: File::Shipped,
        build: two_layer::build,
    },
    Model {
        name: "digits_mlp",
        about: "64-256-10 classifier of 8x8 handwritten digits",
        file: File::Shipped,
        build: digits_mlp::build,
    },
    Model {
        name: "mlp_784",
        about: "784-512-512-10 classifier trained with momentum",
        file: File::Shipped,
        build: mlp_784::build,
    },
    Model {
        name: "digits_cnn",
        about: "classifier of 8x8 handwritten digits, two convolutions",
        file: File::Shipped,
        build: digits_cnn::build,
    },
    Model {
        name: "lenet",
        about: "LeNet-5, classifier of 28x28 handwritten digits",
        file: File::Shipped,
        build: lenet::build,
    },
    Model {
        name: "resnet20",
        about: "residual network of 20 layers, classifier of handwritten digits",
        file: File::Shipped,
        build: resnet20::build,
    },
    Model {
        name: "char_lstm",
        about: "language model of characters, two layers of LSTM",
        file: File::Shipped,
        build: char_lstm::build,
    },
    Model {
        name: "encoder",
        about: "transformer encoder of 4 layers that classifies every character",
        file: File::Shipped,
        build: encoder::build,
    },
    Model {
        name: "resnet18",
        about: "residual network of 18 layers for 224x224 images, with random weights",
        file: File::Initialized,
        build: resnet18::build,
    },
    Model {
        name: "residual_block",
        about: "two linear layers with batch normalization around a residual connection, trained with momentum",
        file: File::Bare,
        build: || stress::residual_block(64),
    },
    Model {
        name: "softmax_cross_entropy",
        about: "cross-entropy of integer labels and its gradient",
        file: File::Bare,
        build: || stress::softmax_cross_entropy(10),
    },
    Model {
        name: "scan_rnn",
        about: "three steps of a recurrent network as a loop, and the gradients",
        file: File::Bare,
        build: || stress::scan_rnn(8, 16),
    },
];

/// The model of a name.
///
/// # Errors
/// An unknown name, with the nearest one.
pub fn find(name: &str) -> Result<&'static Model> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| {
        let names: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
        let near = closest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        Error::new(format!("there is no model `{name}`"))
            .help(near.unwrap_or_else(|| format!("the models are {}", names.join(", "))))
    })
}
