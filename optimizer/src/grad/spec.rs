//! What a training function shall do.

use graphc_ir::error::{Error, Result};

/// How a training function is made from a forward function.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSpec {
    /// The forward function.
    pub function: String,
    /// What is made small.
    pub loss: Loss,
    /// State variables that are trained; `None` for every one of role `param` that the function reads.
    pub wrt: Option<Vec<String>>,
    /// What becomes of normalization.
    pub mode: Mode,
    /// The update.
    pub optimizer: Sgd,
    /// Name of the new function.
    pub name: String,
}

impl TrainingSpec {
    /// A `train_step` of every parameter with the default optimizer.
    pub fn new(function: impl Into<String>, loss: Loss) -> TrainingSpec {
        TrainingSpec {
            function: function.into(),
            loss,
            wrt: None,
            mode: Mode::Frozen,
            optimizer: Sgd::default(),
            name: "train_step".into(),
        }
    }
}

/// A number to be made small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// An output of the function that is one number.
    Output(String),
    /// Mean cross-entropy of an output `[.., classes]` (logits, or their softmax or log-softmax)
    /// against labels, which become the new input `target`, i32`[..]`.
    CrossEntropy {
        /// The output.
        output: String,
    },
    /// Mean of the squared differences between an output and the new input `target` of its type.
    Mse {
        /// The output.
        output: String,
    },
}

/// What becomes of a normalization with given statistics in a training function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It stays: the statistics are constants.
    #[default]
    Frozen,
    /// It normalizes with the statistics of the batch and updates the given ones.
    Train,
}

/// Stochastic gradient descent: v' = momentum · v + g and p' = p - lr · v' (Polyak 1964, with the
/// learning rate outside of the sum, as in Sutskever et al. 2013, section 2), where
/// g = gradient + weight_decay · p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate; the module keeps it in the state `learning_rate`.
    pub lr: f64,
    /// Momentum; with 0 there are no slots.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 }
    }
}

/// A learning rate above this is a slip of the pen: no step of that size converges.
const LARGEST_RATE: f64 = 1e6;

impl Sgd {
    /// Checks the numbers: 0 < lr <= 10^6, 0 <= momentum < 1, 0 <= weight_decay <= 10^6.
    ///
    /// # Errors
    /// The first that is out of its range, with the range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: &str, value: f64, range: &str| {
            Err(Error::new(format!("{what} is {value}")).help(format!("it must be {range}")))
        };
        if !(self.lr > 0.0 && self.lr <= LARGEST_RATE) {
            return refuse("the learning rate `lr`", self.lr, "above 0 and at most 1e6");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return refuse("`momentum`", self.momentum, "at least 0 and below 1");
        }
        if !(0.0..=LARGEST_RATE).contains(&self.weight_decay) {
            return refuse("`weight_decay`", self.weight_decay, "at least 0 and at most 1e6");
        }
        Ok(())
    }
}
