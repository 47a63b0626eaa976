//! A language model of characters: two layers of LSTM.

use graphc::build::ops::{Embedding, Linear, Lstm};
use graphc::build::{Expr, FunctionBuilder, Module, ModuleBuilder, Result};
use graphc::optimizer::grad::UpdateRule;
use graphc::optimizer::grad::optimizer::Adam;

use crate::layers::{self, Param, tokens, update};
use crate::text::CHARACTERS;

/// Elements that stand for a character.
const EMBEDDING: usize = 64;
const HIDDEN: usize = 128;
const LAYERS: usize = 2;

/// Characters of a training window.
pub const STEPS: usize = 64;

const LSTM: Lstm = Lstm { layers: LAYERS, bidirectional: false, bias: true, batch_first: true };

/// In the order of the operands of `lstm`.
fn params() -> Vec<Param> {
    let mut all = vec![("embedding".into(), vec![CHARACTERS, EMBEDDING])];
    for layer in 1..=LAYERS {
        let inputs = if layer == 1 { EMBEDDING } else { HIDDEN };
        let param = |name: &str, shape: &[usize]| (format!("lstm{layer}.{name}"), shape.to_vec());
        all.extend([
            param("w_ih", &[inputs, 4 * HIDDEN]),
            param("w_hh", &[HIDDEN, 4 * HIDDEN]),
            param("b_ih", &[4 * HIDDEN]),
            param("b_hh", &[4 * HIDDEN]),
        ]);
    }
    all.extend([("w".into(), vec![HIDDEN, CHARACTERS]), ("b".into(), vec![CHARACTERS])]);
    all
}

/// `predict`: characters `x` i32`[B,T]` and the states `h`, `c` f32`[2,B,128]`, zeros at the beginning of a text, to
/// `logits` f32`[B,T,97]` of what follows each character, and the states `h_next`, `c_next` after the last.
/// `train_step`: one step of Adam on the cross-entropy of the labels `y` i32`[B,64]`, the characters that follow
/// those in `x` i32`[B,64]`. `evaluate`: the cross-entropy in nats a character, and `accuracy`. `init`: initial
/// values of variance 1 / inputs.
pub fn build() -> Result<Module> {
    let params = params();
    let rule = UpdateRule::from(Adam { lr: 0.004, ..Adam::default() });
    let mut m = ModuleBuilder::new();
    tokens::describe_characters(&mut m);
    m.symbol("B", 1)?;
    m.symbol("T", 1)?;
    layers::declare(&mut m, &params)?;
    m.update_state(&rule, &update::names(&params))?;
    m.key("key")?;

    m.function("init", |f| {
        layers::initialize_by(f, &params, false, layers::LECUN)?;
        update::initialize(f, &rule, &params)
    })?;
    m.function("predict", |f| {
        let x = f.input("x", "i32[B,T]")?;
        let state = format!("f32[{LAYERS},B,{HIDDEN}]");
        let states = [f.input("h", &state)?, f.input("c", &state)?];
        let [logits, h, c] = network(f, x, &states)?;
        f.output("logits", logits)?;
        f.output("h_next", f.name("h_next", h)?)?;
        f.output("c_next", f.name("c_next", c)?)
    })?;
    let window = format!("i32[B,{STEPS}]");
    m.function("train_step", |f| {
        let [logits, ..] = network(f, f.input("x", &window)?, &[])?;
        let loss = tokens::loss(f, logits, f.input("y", &window)?)?;
        update::step(f, &rule, loss, &params)?;
        f.loss("loss", loss)
    })?;
    m.function("evaluate", |f| {
        let [logits, ..] = network(f, f.input("x", &window)?, &[])?;
        tokens::evaluation(f, logits, f.input("y", &window)?)
    })?;
    m.finish()
}

/// The logits, and the last states.
fn network<'s>(f: &'s FunctionBuilder<'_>, x: Expr<'_>, states: &[Expr<'_>]) -> Result<[Expr<'s>; 3]> {
    let params = params().iter().map(|(name, _)| f.state(name)).collect::<Result<Vec<_>>>()?;
    let [table, weights @ .., w, b] = &params[..] else {
        return Err(graphc::build::Error::new("the network has fewer parameters than layers"));
    };
    let embedded = f.name("embedded", f.op(Embedding { padding: Vec::new() }, &[x, *table])?)?;
    let operands: Vec<Expr<'_>> = [&[embedded], weights, states].concat();
    let outs = f.op_many(LSTM, &operands)?;
    let hidden = f.name("hidden", outs[0])?;
    let logits = f.name("logits", f.op(Linear {}, &[hidden, *w, *b])?)?;
    Ok([logits, outs[1], outs[2]])
}
