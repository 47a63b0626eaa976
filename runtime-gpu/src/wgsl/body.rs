//! Bodies: one `let` an instruction.

use std::collections::BTreeMap;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, Inst, InstOp, Reg, Store, View};
use graphc_ir::scalar::{Class, ScalarFn};

use super::{Shader, literal};
use crate::place::{Place, guard};
use crate::words::Word;

/// An instruction whose value is at hand: an expression for it.
pub type Leaf = BTreeMap<usize, String>;

/// Prints a body's instructions at coordinates of its domain.
pub struct Printer<'a> {
    /// The code.
    pub body: &'a Body,
    /// Read ports: where they lie, and their views over the domain; operands of kernels are never looked at.
    pub reads: &'a [(Place, View)],
    /// Write ports.
    pub writes: &'a [(Place, View)],
    /// Strides of each [`InstOp::Index`], by instruction, if they are not its own.
    pub indices: &'a BTreeMap<usize, Vec<i64>>,
    /// Sizes of the domain's dims, rows first.
    pub sizes: &'a [usize],
    /// Coordinates of the dims, `i32` expressions.
    pub coordinates: Vec<String>,
    /// What the kernel made, for [`InstOp::Acc`].
    pub acc: Option<&'a str>,
    /// Values that come from elsewhere.
    pub leaves: &'a Leaf,
}

/// The instructions that some registers depend on and that are neither leaves nor known, in order.
pub fn needed(
    body: &Body,
    roots: impl IntoIterator<Item = Reg>,
    known: &dyn Fn(usize) -> bool,
    leaves: &Leaf,
) -> Vec<usize> {
    let mut wanted = vec![false; body.insts.len()];
    let mut stack: Vec<usize> = roots.into_iter().map(Reg::index).collect();
    while let Some(i) = stack.pop() {
        if wanted[i] || known(i) {
            continue;
        }
        wanted[i] = true;
        if !leaves.contains_key(&i) {
            stack.extend(body.insts[i].args.iter().map(|r| r.index()));
        }
    }
    (0..wanted.len()).filter(|i| wanted[*i]).collect()
}

impl Printer<'_> {
    /// Prints instructions, each as the variable `v` with its number.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn print(&self, shader: &mut Shader, insts: &[usize]) -> Result<String> {
        let mut text = String::new();
        for i in insts {
            let line = match self.leaves.get(i) {
                Some(leaf) => format!("let v{i} = {leaf};"),
                None => self.inst(shader, *i)?,
            };
            text.push_str(&format!("    {line}\n"));
        }
        Ok(text)
    }

    /// Prints the store of a register that was printed.
    pub fn store(&self, shader: &mut Shader, store: &Store) -> String {
        let (place, view) = &self.writes[store.write];
        let array = shader.bind(place, true);
        let element = place.element(view, &self.coordinates);
        let value = format!("v{}", store.reg.index());
        format!("{array}[{element}] = {};", stored(place.dtype, &value))
    }

    fn inst(&self, shader: &mut Shader, i: usize) -> Result<String> {
        let inst = &self.body.insts[i];
        let args: Vec<String> = inst.args.iter().map(|r| format!("v{}", r.index())).collect();
        let value = match &inst.op {
            InstOp::Load(port) => return self.load(shader, i, *port),
            InstOp::Acc => self.acc.ok_or_else(|| Error::new("a nest has no accumulator"))?.to_owned(),
            InstOp::Const(value) => literal(*value, inst.dtype)?,
            InstOp::Fn(f) => self.function(*f, inst, &args)?,
            InstOp::Cast => cast(self.body.inst(inst.args[0]).dtype, inst.dtype, &args[0]),
            InstOp::Index(strides) => {
                let own: Vec<i64>;
                let strides = match self.indices.get(&i) {
                    Some(strides) => strides,
                    None => {
                        own = strides.clone();
                        &own
                    }
                };
                let terms: Vec<String> = strides
                    .iter()
                    .zip(&self.coordinates)
                    .filter(|(stride, _)| **stride != 0)
                    .map(|(stride, c)| format!("{c} * {stride}"))
                    .collect();
                if terms.is_empty() { "0".into() } else { terms.join(" + ") }
            }
            InstOp::RandomBits => format!("gc_threefry({}, {}, u32({}))", args[0], args[1], args[2]),
            InstOp::Fold(..) => return Err(Error::new("a fold came where no fold is computed")),
        };
        Ok(format!("let v{i} = {value};"))
    }

    fn load(&self, shader: &mut Shader, i: usize, port: usize) -> Result<String> {
        let (place, view) = &self.reads[port];
        let array = shader.bind(place, false);
        let element = place.element(view, &self.coordinates);
        let value = |element: &str| {
            let x = format!("{array}[{element}]");
            if place.dtype == DType::Bool { format!("({x} != 0u)") } else { x }
        };
        Ok(match guard(view, &self.coordinates, self.sizes) {
            None => format!("let v{i} = {};", value(&element)),
            Some(inside) => {
                let fill = view.guard.as_ref().map(|g| literal(g.fill, place.dtype)).transpose()?;
                let fill = fill.unwrap_or_default();
                format!("var v{i} = {fill}; if ({inside}) {{ v{i} = {}; }}", value(&element))
            }
        })
    }

    fn function(&self, f: ScalarFn, inst: &Inst, args: &[String]) -> Result<String> {
        let def = f.def();
        let of = self.body.inst(inst.args[inst.args.len() - 1]).dtype;
        // Order is one of numbers.
        let ordered = matches!(f, ScalarFn::Lt | ScalarFn::Le | ScalarFn::Gt | ScalarFn::Ge);
        let number = |x: &String| if of == DType::Bool && ordered { format!("u32({x})") } else { x.clone() };
        let mut text = def.wgsl.to_owned();
        for (k, arg) in args.iter().enumerate() {
            text = text.replace(&format!("{{{k}}}"), &number(arg));
        }
        let kind = if of == DType::Bool { "bool" } else { Word::of(of).unwrap_or(Word::F32).name() };
        if let Some(rest) = text.strip_prefix("gc_") {
            let (name, rest) = rest.split_once('(').unwrap_or((rest, ")"));
            let bits = if matches!(f, ScalarFn::Shl | ScalarFn::Shr) {
                let suffix = if kind == "u32" { "u" } else { "" };
                rest.replace(')', &format!(", {}{suffix})", of.bits().min(32)))
            } else {
                rest.to_owned()
            };
            text = format!("gc_{name}_{kind}({bits}");
        }
        let arithmetic = matches!(def.class, Class::Arith | Class::Bits | Class::Int);
        Ok(if arithmetic { wrapped(inst.dtype, &text) } else { text })
    }
}

/// An integer expression wrapped to a narrow type.
pub fn wrapped(dtype: DType, x: &str) -> String {
    match dtype {
        DType::I8 => format!("((({x}) << 24u) >> 24u)"),
        DType::I16 => format!("((({x}) << 16u) >> 16u)"),
        DType::U8 => format!("(({x}) & 0xffu)"),
        DType::U16 => format!("(({x}) & 0xffffu)"),
        _ => x.to_owned(),
    }
}

/// A register as the word that is stored.
fn stored(dtype: DType, x: &str) -> String {
    if dtype == DType::Bool { format!("select(0u, 1u, {x})") } else { x.to_owned() }
}

/// A conversion with the rules of [`graphc_ir::scalar::Scalar::cast`].
fn cast(from: DType, to: DType, x: &str) -> String {
    if from == to {
        return x.to_owned();
    }
    let float = |d: DType| Word::of(d) == Some(Word::F32);
    match (from, to) {
        (DType::Bool, _) => {
            let (zero, one) = match Word::of(to) {
                Some(Word::F32) => ("0.0f", "1.0f"),
                Some(Word::I32) => ("0", "1"),
                _ => ("0u", "1u"),
            };
            format!("select({zero}, {one}, {x})")
        }
        (_, DType::Bool) if float(from) => format!("gc_ne_f32({x}, 0.0f)"),
        (_, DType::Bool) if Word::of(from) == Some(Word::I32) => format!("({x} != 0)"),
        (_, DType::Bool) => format!("({x} != 0u)"),
        (_, DType::F16) => format!("gc_to_f16(f32({x}))"),
        (_, DType::Bf16) => format!("gc_to_bf16(f32({x}))"),
        _ if float(to) => format!("f32({x})"),
        _ if float(from) => {
            let (lo, hi) = to.int_range();
            match Word::of(to) {
                Some(Word::I32) => {
                    let (lo, hi) = (lo.max(i32::MIN.into()), hi.min(i32::MAX.into()));
                    // The first float beyond, which the largest number itself may not be.
                    format!("gc_f32_to_i32({x}, {:?}f, {:?}f, {hi})", lo as f32, (hi + 1) as f32)
                }
                _ => {
                    let hi = hi.min(u32::MAX.into());
                    format!("gc_f32_to_u32({x}, {:?}f, {hi}u)", (hi + 1) as f32)
                }
            }
        }
        _ => {
            let word = Word::of(to).unwrap_or(Word::I32);
            let same = Word::of(from) == Some(word);
            wrapped(to, &if same { x.to_owned() } else { format!("{}({x})", word.name()) })
        }
    }
}
