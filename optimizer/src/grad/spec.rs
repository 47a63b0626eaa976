//! What a training function shall do.

use super::update::UpdateRule;

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
    pub update: UpdateRule,
    /// Whether gradients are accumulated over several batches, by functions of their own.
    pub accumulate: Option<Accumulate>,
    /// Name of the new function, where there is one.
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
            update: UpdateRule::default(),
            accumulate: None,
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

/// How the gradients of several batches become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Their mean. Where the loss is a mean over the batch and all batches have one size, it is the gradient of the
    /// joint batch.
    Mean,
    /// Their sum, which is the gradient of the joint batch where the loss is a sum over the batch.
    Sum,
}
