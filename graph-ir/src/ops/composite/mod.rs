//! Composite operations: named, with a definition in simpler ones. One file each.

mod activation;
mod adaptive_pool;
mod attention;
mod axis;
mod batch_norm;
mod call;
mod conv_bias;
mod conv_transpose;
mod cross_entropy;
mod custom_gradient;
mod dropout;
mod embedding;
mod feature_dropout;
mod flatten;
mod global_pool;
mod layer_norm;
mod linear;
mod local_response_norm;
mod max_unpool;
mod mse;
mod normal_tail;
mod pad_mode;
mod random;
mod recurrent;
mod rms_norm;
mod softmax;
mod surrogate;
mod truncated_normal;
mod upsample;

pub use activation::{Elu, Gelu, HardTanh, LeakyRelu, Silu};
pub use adaptive_pool::{AdaptiveAvgPool, AdaptiveMaxPool};
pub use attention::ScaledDotProductAttention;
pub use batch_norm::{BatchNorm, BatchNormInference};
pub use call::Call;
pub use conv_bias::ConvBias;
pub use conv_transpose::ConvTranspose;
pub use cross_entropy::{CrossEntropy, Reduction};
pub use custom_gradient::CustomGradient;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use feature_dropout::FeatureDropout;
pub use flatten::Flatten;
pub use global_pool::{GlobalAvgPool, GlobalMaxPool};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use local_response_norm::LocalResponseNorm;
pub use max_unpool::MaxUnpool;
pub use mse::Mse;
pub use pad_mode::{PadMode, PadSource};
pub use random::{Normal, Uniform};
pub use recurrent::{Gru, Lstm, Rnn, RnnActivation};
pub use rms_norm::RmsNorm;
pub use softmax::{LogSoftmax, Softmax};
pub use surrogate::{ReverseGradient, StraightThrough};
pub use truncated_normal::TruncatedNormal;
pub use upsample::{Interpolation, Upsample};

use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::interp;
use crate::ops::OpDef;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// A composite's reference semantics: its expansion, evaluated.
pub(super) fn eval_expansion<O: OpDef>(op: &O, ins: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut b = Builder::new();
    let args =
        ins.iter().map(|t| b.input(TensorType::fixed(t.dtype(), t.shape()))).collect::<Result<Vec<_>>>()?;
    let Some(outs) = op.expand(&mut b, &args)? else {
        fail!("`{}` has neither an evaluation nor an expansion", O::NAME);
    };
    interp::eval(&b.finish(&outs)?, ins, &[])
}

/// Result types of a composite, inferred by expanding it: what the parts demand is demanded of it.
pub(super) fn infer_expansion<O: OpDef>(
    op: &O,
    ins: &[TensorType],
    cx: &mut crate::types::Infer,
) -> Result<Vec<TensorType>> {
    let mut b = Builder::with_infer(cx.clone());
    let args = ins.iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
    // What a part's signature is does not help: the builder tells that of the whole.
    let expanded = op.expand(&mut b, &args).map_err(|e| Error { help: None, ..e })?;
    let Some(outs) = expanded else {
        fail!("`{}` has neither an inference nor an expansion", O::NAME);
    };
    *cx = b.graph().infer().clone();
    Ok(outs.iter().map(|o| b.ty(*o).clone()).collect())
}

/// Checks that an operand is of floats; f16 and bf16 come here as f32.
pub(super) fn check_float(name: &str, ty: &TensorType) -> Result<()> {
    if !ty.dtype.is_compute_float() {
        fail!("{name} takes floats, but got {ty}; add a cast");
    }
    Ok(())
}

/// Checks an axis.
pub(super) fn check_axis(axis: usize, ty: &TensorType) -> Result<()> {
    if axis >= ty.rank() {
        fail!("axis {axis} is out of range for {ty}, which has {} dims", ty.rank());
    }
    Ok(())
}
