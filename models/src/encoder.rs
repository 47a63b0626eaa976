//! A transformer encoder that classifies every token of a sequence.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Embedding, Gelu, LayerNorm, Linear, ScaledDotProductAttention};
use graphc::build::{Dim, Expr, FunctionBuilder, Module, ModuleBuilder, Result};
use graphc::optimizer::grad::UpdateRule;
use graphc::optimizer::grad::optimizer::Adam;

use crate::layers::{self, Param, dims, tokens, update};
use crate::text::CHARACTERS;

const LAYERS: usize = 4;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const FEED_FORWARD: usize = 1024;

/// Tokens of a sequence.
pub const TOKENS: usize = 128;

const NORM: LayerNorm = LayerNorm { axes: 1, eps: Real(1e-5) };

fn params() -> Vec<Param> {
    let mut all: Vec<Param> = Vec::new();
    let mut add = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    add("embedding".into(), &[CHARACTERS, WIDTH]);
    add("positions".into(), &[TOKENS, WIDTH]);
    for layer in 1..=LAYERS {
        let name = |part: &str| format!("layer{layer}.{part}");
        for norm in ["norm1", "norm2"] {
            add(name(&format!("{norm}.gamma")), &[WIDTH]);
            add(name(&format!("{norm}.beta")), &[WIDTH]);
        }
        for (part, inputs, outputs) in [
            ("qkv", WIDTH, 3 * WIDTH),
            ("out", WIDTH, WIDTH),
            ("up", WIDTH, FEED_FORWARD),
            ("down", FEED_FORWARD, WIDTH),
        ] {
            add(name(&format!("{part}.w")), &[inputs, outputs]);
            add(name(&format!("{part}.b")), &[outputs]);
        }
    }
    add("norm.gamma".into(), &[WIDTH]);
    add("norm.beta".into(), &[WIDTH]);
    add("head.w".into(), &[WIDTH, CHARACTERS]);
    add("head.b".into(), &[CHARACTERS]);
    all
}

/// `predict`: characters `x` i32`[B,128]` to `logits` f32`[B,128,97]`, of a character for each, which all of `x` has
/// a part in, and the most probable one, `class` i64`[B,128]`. `train_step`: one step of Adam on the cross-entropy of
/// the labels `y` i32`[B,128]`. `evaluate`: cross-entropy and `accuracy`. `init`: initial values of variance
/// 1 / inputs.
pub fn build() -> Result<Module> {
    let params = params();
    let rule = UpdateRule::from(Adam { lr: 5e-4, ..Adam::default() });
    let mut m = ModuleBuilder::new();
    tokens::describe_characters(&mut m);
    m.symbol("B", 1)?;
    layers::declare(&mut m, &params)?;
    m.update_state(&rule, &update::names(&params))?;
    m.key("key")?;

    let tokens = format!("i32[B,{TOKENS}]");
    m.function("init", |f| {
        layers::initialize_by(f, &params, false, layers::LECUN)?;
        update::initialize(f, &rule, &params)
    })?;
    m.function("predict", |f| {
        let logits = logits(f, f.input("x", &tokens)?)?;
        f.output("logits", logits)?;
        f.output("class", tokens::class(f, logits)?)
    })?;
    m.function("train_step", |f| {
        let logits = logits(f, f.input("x", &tokens)?)?;
        let loss = tokens::loss(f, logits, f.input("y", &tokens)?)?;
        update::step(f, &rule, loss, &params)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| {
        let logits = logits(f, f.input("x", &tokens)?)?;
        tokens::evaluation(f, logits, f.input("y", &tokens)?)
    })?;
    m.finish()
}

fn logits<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'_>) -> Result<Expr<'s>> {
    let embedded = f.op(Embedding { padding: Vec::new() }, &[x, f.state("embedding")?])?;
    let mut h = f.name("embedded", embedded + f.state("positions")?)?;
    for layer in 1..=LAYERS {
        h = block(f, h, &format!("layer{layer}"))?;
    }
    let last = f.op(NORM, &[h, f.state("norm.gamma")?, f.state("norm.beta")?])?;
    f.name("logits", linear(f, last, "head")?)
}

/// One layer, normalized before its two parts (PyTorch's `TransformerEncoderLayer` with `norm_first`).
fn block<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'s>, name: &str) -> Result<Expr<'s>> {
    let normalized = |x: Expr<'_>, norm: &str| {
        let param = |part: &str| f.state(&format!("{name}.{norm}.{part}"));
        f.op(NORM, &[x, param("gamma")?, param("beta")?])
    };
    let seen = attention(f, normalized(x, "norm1")?, name)?;
    let x = f.name(&format!("{name}.attended"), x + seen)?;
    let up = linear(f, normalized(x, "norm2")?, &format!("{name}.up"))?;
    let wide = f.name(&format!("{name}.wide"), f.op(Gelu { tanh: false }, &[up])?)?;
    f.name(name, x + linear(f, wide, &format!("{name}.down"))?)
}

/// Attention of every token to all, with heads of WIDTH / HEADS elements.
fn attention<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'s>, name: &str) -> Result<Expr<'s>> {
    let batch = x.ty().dims[0].clone();
    let sizes = |sizes: &[usize]| [std::slice::from_ref(&batch), &dims(sizes)[..]].concat();
    let all = f.name(&format!("{name}.qkv"), linear(f, x, &format!("{name}.qkv"))?)?;
    let part = |k: usize| {
        let columns = all.slice(2, &Dim::from(k * WIDTH), &Dim::from((k + 1) * WIDTH));
        columns.reshape(&sizes(&[TOKENS, HEADS, WIDTH / HEADS])).transpose(&[0, 2, 1, 3])
    };
    let op = ScaledDotProductAttention { causal: false, scale: Real(0.0) };
    let heads = f.name(&format!("{name}.heads"), f.op(op, &[part(0), part(1), part(2)])?)?;
    let joined = heads.transpose(&[0, 2, 1, 3]).reshape(&sizes(&[TOKENS, WIDTH]));
    linear(f, joined, &format!("{name}.out"))
}

fn linear<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'_>, name: &str) -> Result<Expr<'s>> {
    f.op(Linear {}, &[x, f.state(&format!("{name}.w"))?, f.state(&format!("{name}.b"))?])
}
