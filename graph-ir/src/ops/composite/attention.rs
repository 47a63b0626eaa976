use std::ops::RangeInclusive;

use super::check_float;
use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::expr::{Expr, Scope};
use crate::graph::ValueId;
use crate::op_struct;
use crate::ops::attr::Real;
use crate::ops::{Dot, Iota, OpDef, ReduceKind, Sample, StopGradient, Vjp, VjpCx, sample_tensor};
use crate::scalar::{Scalar, ScalarFn};
use crate::tensor::Tensor;
use crate::types::{Infer, TensorType};

op_struct! {
    /// Attention by scaled products (Vaswani et al. 2017).
    ScaledDotProductAttention {
        /// Whether query i sees keys 0..=i only.
        causal: bool = false,
        /// Factor of the products; 0 stands for 1 / sqrt(d).
        scale: Real = Real(0.0),
    }
}

/// What an expansion and a gradient have in common.
struct Parts {
    /// The weights of the keys, after softmax.
    weights: ValueId,
    /// The factor of the products, of their dims.
    scale: ValueId,
}

impl ScaledDotProductAttention {
    /// Softmax of the scaled and masked products of queries and keys. A row whose keys are all masked
    /// has weights of 0.
    fn parts(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Parts> {
        let (q, k) = (ins[0], ins[1]);
        let keys = b.swap_last(k)?;
        let products = b.op1(Dot {}, &[q, keys])?;
        let rank = b.ty(products).rank();
        let scale = if self.scale.0 == 0.0 {
            let d = b.count_along(q, &[rank - 1])?;
            b.map(ScalarFn::Rsqrt, &[d])?
        } else {
            b.scalar(b.ty(q).dtype, self.scale.0)?
        };
        let dims = b.ty(products).dims.clone();
        let scale = b.broadcast(scale, &dims, &[])?;
        let seen = self.seen(b, ins.get(3).copied(), &dims)?;
        let added = ins.get(3).copied().filter(|m| b.ty(*m).dtype != DType::Bool);
        let added = added.map(|m| b.broadcast_to(m, &dims)).transpose()?;
        let scope = Scope::new(b);
        let mut scores = scope.expr(products) * scope.expr(scale);
        if let Some(added) = added {
            scores = scores + scope.expr(added);
        }
        if let Some(seen) = seen {
            scores = scope.expr(seen).select(scores, scores.literal(f64::NEG_INFINITY));
        }
        let weights = softmax(scores, ins.len() > 3).id();
        scope.finish()?;
        Ok(Parts { weights, scale })
    }

    /// Where keys are seen, if not everywhere.
    fn seen(&self, b: &mut Builder, mask: Option<ValueId>, dims: &[Dim]) -> Result<Option<ValueId>> {
        let mask = mask.filter(|m| b.ty(*m).dtype == DType::Bool);
        let mask = mask.map(|m| b.broadcast_to(m, dims)).transpose()?;
        if !self.causal {
            return Ok(mask);
        }
        let rank = dims.len();
        let mut along = |axis| b.op1(Iota { dtype: DType::I32, dims: dims.to_vec(), axis }, &[]);
        let (query, key) = (along(rank - 2)?, along(rank - 1)?);
        let past = b.map(ScalarFn::Le, &[key, query])?;
        Ok(Some(match mask {
            Some(mask) => b.map(ScalarFn::And, &[mask, past])?,
            None => past,
        }))
    }
}

/// Softmax over the last axis; rows of -inf, which a mask may make, become 0 and not NaN.
fn softmax(scores: Expr<'_>, masked: bool) -> Expr<'_> {
    let last = scores.ty().rank() - 1;
    let mut max = scores.reduce(ReduceKind::Max, &[last]).op(StopGradient {}, &[]);
    if masked {
        max = max.eq(max.literal(f64::NEG_INFINITY)).select(max.zero_like(), max);
    }
    let e = (scores - max.unreduce(scores, &[last])).exp();
    let mut sum = e.sum(&[last]);
    if masked {
        sum = sum.eq(sum.zero_like()).select(sum.one_like(), sum);
    }
    e / sum.unreduce(scores, &[last])
}

impl OpDef for ScaledDotProductAttention {
    const NAME: &'static str = "scaled_dot_product_attention";
    const SIGNATURE: &'static str = "scaled_dot_product_attention{causal = false, scale = 0}(q [.., m, d], k [.., n, d], \
        v [.., n, e], mask [.., m, n] = none) -> y [.., m, e]";
    const DOC: &'static str = "y = softmax(scale * q · k^T + mask) · v over the keys; a `scale` of 0 stands for \
        1 / sqrt(d). A mask of booleans leaves out the keys where it is false, one of floats is added; it is repeated \
        to [.., m, n] by NumPy's rule. With `causal`, query i sees keys 0..=i only. A query that sees no key, \
        because all of its row is false or -inf, gives zeros, and takes and gives no gradient.";
    const ARITY: RangeInclusive<usize> = 3..=4;

    fn infer(&self, ins: &[TensorType], cx: &mut Infer) -> Result<Vec<TensorType>> {
        let (q, k, v) = (&ins[0], &ins[1], &ins[2]);
        check_float(Self::NAME, q)?;
        let rank = q.rank();
        if rank < 2 || [k, v].iter().any(|t| t.rank() != rank || t.dtype != q.dtype) {
            fail!(
                "queries, keys and values have one element type and rank, of 2 or more, but got {q}, {k} and {v}"
            );
        }
        if !self.scale.0.is_finite() {
            fail!("scale is finite, but is {}", self.scale.0);
        }
        cx.same(&q.dims[..rank - 2], &k.dims[..rank - 2], "queries and keys have the same leading dims")?;
        cx.same(&k.dims[..rank - 1], &v.dims[..rank - 1], "there is one value for each key")?;
        cx.eq(&q.dims[rank - 1], &k.dims[rank - 1], "queries are as long as keys")?;
        let mut scores = q.dims.clone();
        scores[rank - 1] = k.dims[rank - 2].clone();
        if let Some(mask) = ins.get(3) {
            if mask.dtype != DType::Bool && mask.dtype != q.dtype || mask.rank() > rank {
                fail!("a mask is bool or {} and has at most {rank} dims, but got {mask}", q.dtype);
            }
            let one = Dim::from(1usize);
            for (d, s) in mask.dims.iter().zip(&scores[rank - mask.rank()..]).filter(|(d, _)| **d != one) {
                cx.eq(d, s, "a mask has an element for each pair of query and key")?;
            }
        }
        let mut dims = q.dims.clone();
        dims[rank - 1] = v.dims[rank - 1].clone();
        Ok(vec![TensorType::new(q.dtype, dims)])
    }

    /// Written on the weights w and the result y: with dw = g · v^T, the gradient of the scores is
    /// w * (dw - sum(g * y)), because sum(dw * w) over the keys is sum(g * y) over the values' elements.
    fn vjp(&self, cx: &mut VjpCx<'_>) -> Result<Vjp> {
        let (q, k, v) = (cx.ins[0], cx.ins[1], cx.ins[2]);
        let (y, g) = (cx.outs[0], cx.g());
        let Parts { weights, scale } = self.parts(cx.b, cx.ins)?;
        let last = cx.b.ty(y).rank() - 1;
        let values = cx.b.swap_last(v)?;
        let dw = cx.b.op1(Dot {}, &[g, values])?;
        let scope = Scope::new(cx.b);
        let (g, y, w, dw) = (scope.expr(g), scope.expr(y), scope.expr(weights), scope.expr(dw));
        let ds = w * (dw - (g * y).sum(&[last]).unreduce(dw, &[last]));
        let (g, ds, dp) = (g.id(), ds.id(), (ds * scope.expr(scale)).id());
        scope.finish()?;
        let turned = cx.b.swap_last(dp)?;
        let weights = cx.b.swap_last(weights)?;
        let dq = cx.b.op1(Dot {}, &[dp, k])?;
        let dk = cx.b.op1(Dot {}, &[turned, q])?;
        let dv = cx.b.op1(Dot {}, &[weights, g])?;
        let mut grads = vec![Some(dq), Some(dk), Some(dv)];
        if let Some(mask) = cx.ins.get(3) {
            let ty = cx.b.ty(*mask).clone();
            grads.push(if ty.dtype == DType::Bool { None } else { Some(unbroadcast(cx.b, ds, &ty)?) });
        }
        Ok(Vjp::Grads(grads))
    }

    fn expand(&self, b: &mut Builder, ins: &[ValueId]) -> Result<Option<Vec<ValueId>>> {
        let weights = self.parts(b, ins)?.weights;
        Ok(Some(vec![b.op1(Dot {}, &[weights, ins[2]])?]))
    }

    fn flops(&self, ins: &[TensorType], outs: &[TensorType]) -> Option<f64> {
        let (q, k, y) = (ins[0].shape()?, ins[1].shape()?, outs[0].shape()?);
        let rank = q.len();
        let rows: f64 = q[..rank - 1].iter().map(|d| *d as f64).product();
        let keys = k[rank - 2] as f64;
        Some(rows * keys * (2.0 * q[rank - 1] as f64 + 2.0 * y[rank - 1] as f64 + 5.0))
    }

    fn samples() -> Vec<Sample> {
        let case = |lead: &[usize], [m, n, d, e]: [usize; 4], causal, scale, mask: Option<Tensor>| {
            let of = |a, b, seed| sample_tensor(&[lead, &[a, b]].concat(), seed);
            let mut ins = vec![of(m, d, 1), of(n, d, 2), of(n, e, 3)];
            ins.extend(mask);
            Sample::new(ScaledDotProductAttention { causal, scale: Real(scale) }, ins)
        };
        // Every third key is left out, and all of the keys of the query 1.
        let bools = |m: usize, n: usize| {
            Tensor::from_fn(DType::Bool, &[m, n], |i| Scalar::B(i % n % 3 != 1 && i / n != 1))
        };
        vec![
            case(&[], [1, 1, 1, 1], false, 0.0, None),
            case(&[2], [3, 5, 3, 2], false, 0.0, None),
            case(&[2, 1], [3, 3, 5, 2], true, 0.5, None),
            case(&[0], [2, 3, 3, 1], true, 0.0, None),
            case(&[], [2, 0, 3, 3], false, 0.0, None),
            case(&[2], [3, 5, 3, 2], false, 0.0, Some(bools(3, 5))),
            case(&[2], [3, 5, 3, 2], true, 0.0, Some(bools(3, 5))),
            case(&[2], [3, 5, 3, 2], false, 0.7, Some(sample_tensor(&[3, 5], 4))),
            case(&[2, 1], [3, 5, 3, 2], true, 0.0, Some(sample_tensor(&[5], 4))),
            case(&[2, 1], [3, 5, 3, 2], false, 0.0, Some(sample_tensor(&[1, 3, 5], 4))),
        ]
    }
}

/// The sum of a gradient over what broadcasting repeated, in the dims of what was broadcast.
fn unbroadcast(b: &mut Builder, g: ValueId, to: &TensorType) -> Result<ValueId> {
    let dims = b.ty(g).dims.clone();
    let (skip, one) = (dims.len() - to.rank(), Dim::from(1usize));
    let repeated: Vec<usize> =
        (0..dims.len()).filter(|a| *a < skip || (to.dims[a - skip] == one && dims[*a] != one)).collect();
    let sum = b.sum(g, &repeated)?;
    b.reshape(sum, &to.dims)
}
