//! The list of all operations.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::attr::{AttrKind, AttrSpec, AttrValue, Attrs};
use super::half;
use super::*;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scalar::Number;

/// What the list knows of an operation without an instance of it.
#[derive(Clone, Copy)]
pub struct OpInfo {
    /// Name in files.
    pub name: &'static str,
    /// Operands and results.
    pub signature: &'static str,
    /// Meaning.
    pub doc: &'static str,
    /// Attributes.
    pub attrs: &'static [AttrSpec],
    /// Number of operands.
    pub arity: (usize, usize),
    /// Whether it is defined by an expansion.
    pub composite: bool,
    /// Samples of the registry tests.
    pub samples: fn() -> Vec<Sample>,
    /// Makes the operation from its attributes.
    #[allow(clippy::type_complexity)]
    pub from_values: fn(&mut dyn FnMut(&'static str, AttrKind) -> Result<Option<AttrValue>>) -> Result<Op>,
}

macro_rules! op_set {
    (primitives { $($p:ident),* $(,)? } composites { $($c:ident),* $(,)? }) => {
        /// An operation with its attributes.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Op { $( $p($p), )* $( $c($c), )* }

        $( impl From<$p> for Op { fn from(op: $p) -> Op { Op::$p(op) } } )*
        $( impl From<$c> for Op { fn from(op: $c) -> Op { Op::$c(op) } } )*

        impl Op {
            /// Every operation of the list. `map` stands for all scalar functions.
            pub const LIST: &'static [OpInfo] = &[
                $( op_set!(@info $p, false), )*
                $( op_set!(@info $c, true), )*
            ];

            /// Whether the operation is defined by an expansion.
            pub fn is_composite(&self) -> bool {
                match self { $( Op::$p(_) => false, )* $( Op::$c(_) => true, )* }
            }

            /// Name in files; a map has the name of its function.
            pub fn name(&self) -> &'static str {
                match self { $( Op::$p(op) => OpDef::name(op), )* $( Op::$c(op) => OpDef::name(op), )* }
            }

            /// Operands and results.
            pub fn signature(&self) -> String {
                match self { $( Op::$p(op) => OpDef::signature(op), )* $( Op::$c(op) => OpDef::signature(op), )* }
            }

            /// Number of operands.
            pub fn arity(&self) -> RangeInclusive<usize> {
                match self { $( Op::$p(op) => op.arity(), )* $( Op::$c(op) => op.arity(), )* }
            }

            /// Attribute names and values.
            pub fn attrs(&self) -> Vec<(&'static str, AttrValue)> {
                match self {
                    $( Op::$p(op) => $p::SPECS.iter().map(|s| s.name).zip(op.values()).collect(), )*
                    $( Op::$c(op) => $c::SPECS.iter().map(|s| s.name).zip(op.values()).collect(), )*
                }
            }

            /// See [`OpDef::takes_halves`].
            pub fn takes_halves(&self) -> bool {
                match self { $( Op::$p(op) => op.takes_halves(), )* $( Op::$c(op) => op.takes_halves(), )* }
            }

            fn own_infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
                match self { $( Op::$p(op) => op.infer(ins, cx), )* $( Op::$c(op) => op.infer(ins, cx), )* }
            }

            fn own_eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
                match self { $( Op::$p(op) => op.eval(ins, outs), )* $( Op::$c(op) => op.eval(ins, outs), )* }
            }

            fn own_vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
                match self { $( Op::$p(op) => op.vjp(cx), )* $( Op::$c(op) => op.vjp(cx), )* }
            }

            /// See [`OpDef::jvp`].
            pub fn jvp(&self, cx: &mut JvpCx<'_>) -> Result<Jvp> {
                match self { $( Op::$p(op) => op.jvp(cx), )* $( Op::$c(op) => op.jvp(cx), )* }
            }

            fn specs(&self) -> &'static [AttrSpec] {
                match self { $( Op::$p(_) => $p::SPECS, )* $( Op::$c(_) => $c::SPECS, )* }
            }

            /// The same operation with every attribute replaced.
            fn with_attrs(
                &self,
                get: &mut dyn FnMut(&'static str, AttrKind) -> Result<Option<AttrValue>>,
            ) -> Result<Op> {
                Ok(match self {
                    $( Op::$p(_) => Op::$p($p::from_values(get)?), )*
                    $( Op::$c(_) => Op::$c($c::from_values(get)?), )*
                })
            }

            fn own_expansion(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
                match self { $( Op::$p(op) => op.expand(b, ins), )* $( Op::$c(op) => op.expand(b, ins), )* }
            }

            /// See [`OpDef::map_dims`].
            pub fn map_dims(&self, f: &mut dyn FnMut(&Dim) -> Result<Dim>) -> Result<Op> {
                Ok(match self {
                    $( Op::$p(op) => Op::$p(op.map_dims(f)?), )*
                    $( Op::$c(op) => Op::$c(op.map_dims(f)?), )*
                })
            }

            /// See [`OpDef::flops`].
            pub fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
                match self { $( Op::$p(op) => op.flops(ins, outs), )* $( Op::$c(op) => op.flops(ins, outs), )* }
            }
        }
    };
    (@info $t:ident, $composite:literal) => { OpInfo {
        name: $t::NAME,
        signature: $t::SIGNATURE,
        doc: $t::DOC,
        attrs: $t::SPECS,
        arity: (*$t::ARITY.start(), *$t::ARITY.end()),
        composite: $composite,
        samples: $t::samples,
        from_values: |get| Ok(Op::$t($t::from_values(get)?)),
    } };
}

op_set! {
    primitives {
        Input, StateRead, Const, Iota, RandomBits, Map, Cast, Check, Broadcast, Reshape, Transpose,
        Slice, Pad, Concat, Gather, ScatterAdd, Reduce, Moments, ArgReduce, Dot, Conv, ConvInputGrad,
        ConvFilterGrad, MaxPool, WindowScatter, WindowGather, AvgPool, AvgPoolGrad, Scan, Cond, While,
        StopGradient, Fused,
    }
    composites {
        Linear, LeakyRelu, Elu, Gelu, Silu, HardTanh, Softmax, LogSoftmax, CrossEntropy, Mse,
        Flatten, Dropout, BatchNorm, BatchNormInference, Uniform, Normal, TruncatedNormal, ConvBias, ConvTranspose,
        GlobalAvgPool, GlobalMaxPool, AdaptiveAvgPool, AdaptiveMaxPool, LocalResponseNorm, FeatureDropout,
        PadMode, Upsample, MaxUnpool, Call, CustomGradient, ReverseGradient, StraightThrough,
        LayerNorm, RmsNorm, Embedding, ScaledDotProductAttention,
        Rnn, Lstm, Gru,
    }
}

impl Op {
    /// Whether operands of these types are computed on in f32: then [`Op::expand`] says how.
    pub fn widens(&self, operands: impl Iterator<Item = DType> + Clone) -> bool {
        matches!(half::storage(self, operands), Ok(Some(_)))
    }

    /// See [`OpDef::infer`].
    pub fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let storage = half::storage(self, ins.iter().map(|t| t.dtype))?;
        let outs = match storage {
            Some(half) => self.own_infer(&half::widened(ins, half), cx)?,
            None => self.own_infer(ins, cx)?,
        };
        self.check_numbers(&outs)?;
        Ok(if let Some(half) = storage { half::narrowed(outs, half) } else { outs })
    }

    /// Checks that numbers among the attributes fit the type that is computed in, as they will where they become
    /// constants.
    fn check_numbers(&self, outs: &[TensorType]) -> Result<()> {
        if self.specs().iter().all(|s| s.kind != AttrKind::Real) {
            return Ok(());
        }
        let Some(float) = outs.iter().map(|t| t.dtype).find(|t| t.is_float()) else { return Ok(()) };
        for (name, value) in self.attrs() {
            if let AttrValue::Real(v) = value {
                Number::from(v)
                    .of(float)
                    .map_err(|e| Error::new(format!("attribute `{name}`: {}", e.message)))?;
            }
        }
        Ok(())
    }

    /// See [`OpDef::eval`].
    pub fn eval(&self, ins: &[&Tensor], outs: &[TensorType]) -> Result<Vec<Tensor>> {
        let Some(half) = half::storage(self, ins.iter().map(|t| t.dtype()))? else {
            return self.own_eval(ins, outs);
        };
        let wide = half::widened_tensors(ins, half);
        let wide: Vec<&Tensor> = wide.iter().map(AsRef::as_ref).collect();
        let results = self.own_eval(&wide, &half::widened(outs, half))?;
        Ok(results
            .into_iter()
            .zip(outs)
            .map(|(t, ty)| if t.dtype() == ty.dtype { t } else { t.cast(ty.dtype) })
            .collect())
    }

    /// See [`OpDef::vjp`].
    pub fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        match half::storage(self, cx.ins.iter().map(|v| cx.b.ty(*v).dtype))? {
            Some(_) => Ok(Vjp::Expand),
            None => self.own_vjp(cx),
        }
    }

    /// See [`OpDef::expand`]. An operation on f16 or bf16 that computes in f32 is casts around one on f32.
    pub fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        match half::storage(self, ins.iter().map(|v| b.ty(*v).dtype))? {
            Some(half) => half::expand(self, b, ins, half).map(Some),
            None => self.own_expansion(b, ins),
        }
    }

    /// Whether an attribute is another function: a loop's body, a branch, what is called.
    pub fn has_bodies(&self) -> bool {
        self.specs().iter().any(|s| s.kind == AttrKind::Body)
    }

    /// The functions among the attributes, by the attributes' names.
    pub fn bodies(&self) -> Vec<(&'static str, Arc<Graph>)> {
        if !self.has_bodies() {
            return Vec::new();
        }
        let body = |(name, value)| if let AttrValue::Body(g) = value { Some((name, g)) } else { None };
        self.attrs().into_iter().filter_map(body).collect()
    }

    /// The same operation with every such function replaced.
    pub fn map_bodies(&self, f: &mut dyn FnMut(&Graph) -> Result<Graph>) -> Result<Op> {
        if !self.has_bodies() {
            return Ok(self.clone());
        }
        let attrs = self.attrs();
        self.with_attrs(&mut |name, _| {
            let value = attrs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
            Ok(match value {
                Some(AttrValue::Body(g)) => Some(AttrValue::Body(Arc::new(f(&g)?))),
                value => value,
            })
        })
    }

    /// Whether what the operands hold can fail a run: a check that does not hold, an index or a label that is outside.
    ///
    /// That is an effect: such a node is computed whenever its graph is, whether or not a result depends on it.
    pub fn can_fail(&self) -> bool {
        match self {
            Op::Check(_) | Op::Gather(_) | Op::ScatterAdd(_) | Op::Embedding(_) | Op::CrossEntropy(_) => true,
            // A sequence's length is checked.
            Op::Rnn(_) | Op::Lstm(_) | Op::Gru(_) => true,
            Op::Call(op) => op.body.can_fail(),
            Op::CustomGradient(op) => op.body.can_fail(),
            Op::Scan(op) => op.body.can_fail(),
            Op::While(op) => op.condition.can_fail() || op.body.can_fail(),
            Op::Cond(op) => op.then.can_fail() || op.otherwise.can_fail(),
            Op::Fused(op) => op.body.can_fail(),
            _ => false,
        }
    }

    /// The list's entry of a name that is not a scalar function.
    pub fn find(name: &str) -> Option<&'static OpInfo> {
        Op::LIST.iter().find(|i| i.name == name && !Op::INTERNAL.contains(&i.name))
    }

    /// Operations that no file names: inputs and states have their own sections, a map is named by
    /// its function, clusters exist after fusion only.
    pub const INTERNAL: &'static [&'static str] = &["input", "state", "map", "fused"];

    /// All names that a file may use.
    pub fn names() -> Vec<&'static str> {
        let listed = Op::LIST.iter().map(|i| i.name).filter(|n| !Op::INTERNAL.contains(n));
        crate::scalar::ScalarFn::ALL.iter().map(|f| f.name()).chain(listed).collect()
    }
}
