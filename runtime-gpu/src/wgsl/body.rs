//! Bodies: one `let` an instruction and element.

use std::collections::BTreeMap;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, Inst, InstOp, Reg, Store, View};
use graphc_ir::scalar::{Class, ScalarFn};

use super::{Names, Shader, literal};
use crate::place::{FIELDS, Place, VECTOR, guard};
use crate::words::Word;

/// An instruction whose value is at hand: an expression for it.
pub type Leaf = BTreeMap<usize, String>;

/// What an [`InstOp::Index`] is of a domain's coordinates.
#[derive(Clone, Debug)]
pub struct Index {
    /// What each coordinate counts.
    pub strides: Vec<i64>,
    /// The number at the domain's origin.
    pub first: i64,
}

impl Index {
    /// Those of a body, by instruction, in a domain that begins at these coordinates of the body's.
    pub fn all(body: &Body, origin: &[usize]) -> BTreeMap<usize, Index> {
        let of = |(i, inst): (usize, &Inst)| {
            let InstOp::Index(strides) = &inst.op else { return None };
            let first = strides.iter().zip(origin).map(|(stride, at)| stride * *at as i64).sum();
            Some((i, Index { strides: strides.clone(), first }))
        };
        body.insts.iter().enumerate().filter_map(of).collect()
    }
}

/// Prints a body's instructions at coordinates of its domain.
pub struct Printer<'a> {
    /// The code.
    pub body: &'a Body,
    /// Read ports: where they lie, and their views over the domain; operands of kernels are never looked at.
    pub reads: &'a [(Place, View)],
    /// Write ports.
    pub writes: &'a [(Place, View)],
    /// Each [`InstOp::Index`], by instruction.
    pub indices: &'a BTreeMap<usize, Index>,
    /// Sizes of the domain's dims, rows first.
    pub sizes: &'a [usize],
    /// Coordinates of the dims, `i32` expressions.
    pub coordinates: Vec<String>,
    /// What the kernel made, for [`InstOp::Acc`]: a word, or a vector of them.
    pub acc: Option<&'a str>,
    /// Values that come from elsewhere.
    pub leaves: &'a Leaf,
    /// What variables are called.
    pub names: Names,
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
    /// Prints instructions, each as the variables of its value.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn print(&self, shader: &mut Shader, insts: &[usize]) -> Result<String> {
        let mut text = String::new();
        for i in insts {
            let line = match (self.leaves.get(i), &self.body.insts[*i].op) {
                (Some(leaf), _) => format!("let {} = {leaf};", self.names.of(*i, 0)),
                (None, InstOp::Load(port)) => self.load(shader, *i, *port)?,
                (None, _) => {
                    let lanes = 0..self.names.lanes(*i);
                    let of =
                        |lane| Ok(format!("let {} = {};", self.names.of(*i, lane), self.value(*i, lane)?));
                    lanes.map(of).collect::<Result<Vec<String>>>()?.join(" ")
                }
            };
            text.push_str(&format!("    {line}\n"));
        }
        Ok(text)
    }

    /// Prints the store of a register that was printed.
    pub fn store(&self, shader: &mut Shader, store: &Store) -> String {
        let (place, view) = &self.writes[store.write];
        let element = place.element(view, &self.coordinates);
        let value = |lane| stored(place.dtype, &self.names.of(store.reg.index(), lane));
        if self.names.width() == 1 || view.strides.last() == Some(&0) {
            let array = shader.bind(place, true);
            return format!("{array}[{element}] = {};", value(0));
        }
        let array = shader.bind_vectors(place, true);
        let lanes = self.names.lanes(store.reg.index());
        let values = (0..lanes).map(value).collect::<Vec<_>>().join(", ");
        let word = Word::of(place.dtype).unwrap_or(Word::U32).name();
        format!("{array}[({element}) >> 2u] = vec{VECTOR}<{word}>({values});")
    }

    /// The condition that a register is true for all elements.
    pub fn all(&self, reg: Reg) -> String {
        let lanes = 0..self.names.lanes(reg.index());
        lanes.map(|lane| self.names.of(reg.index(), lane)).collect::<Vec<_>>().join(" && ")
    }

    /// The coordinates of one of the elements.
    fn at(&self, lane: usize) -> Vec<String> {
        let mut at = self.coordinates.clone();
        if lane > 0
            && let Some(last) = at.last_mut()
        {
            *last = format!("({last} + {lane})");
        }
        at
    }

    /// The expression of a value other than a load.
    fn value(&self, i: usize, lane: usize) -> Result<String> {
        let inst = &self.body.insts[i];
        let args: Vec<String> = inst.args.iter().map(|r| self.names.of(r.index(), lane)).collect();
        Ok(match &inst.op {
            InstOp::Acc => {
                let acc = self.acc.ok_or_else(|| Error::new("a nest has no accumulator"))?;
                if self.names.width() == 1 { acc.to_owned() } else { format!("{acc}.{}", FIELDS[lane]) }
            }
            InstOp::Const(value) if inst.dtype == DType::Bool => {
                format!("gc_told({})", literal(*value, inst.dtype)?)
            }
            InstOp::Const(value) => literal(*value, inst.dtype)?,
            InstOp::Fn(f) => self.opaque(*f, inst, args)?,
            InstOp::Cast => cast(self.body.inst(inst.args[0]).dtype, inst.dtype, &args[0]),
            InstOp::Index(_) => {
                let index = self.indices.get(&i).ok_or_else(|| Error::new("an index has no strides"))?;
                let at = self.at(lane);
                let terms = index.strides.iter().zip(&at).filter(|(stride, _)| **stride != 0);
                let mut terms: Vec<String> = terms.map(|(stride, c)| format!("{c} * {stride}")).collect();
                if index.first != 0 || terms.is_empty() {
                    terms.push(index.first.to_string());
                }
                terms.join(" + ")
            }
            InstOp::RandomBits => format!("gc_threefry({}, {}, u32({}))", args[0], args[1], args[2]),
            InstOp::Load(_) => return Err(Error::new("a load is no expression")),
            InstOp::Fold(..) => return Err(Error::new("a fold came where no fold is computed")),
        })
    }

    fn load(&self, shader: &mut Shader, i: usize, port: usize) -> Result<String> {
        let (place, view) = &self.reads[port];
        let lanes = self.names.lanes(i);
        let fill = view.guard.as_ref().map(|g| literal(g.fill, place.dtype)).transpose()?;
        let fill = fill.unwrap_or_default();
        let word = |x: String| if place.dtype == DType::Bool { format!("({x} != 0u)") } else { x };
        if lanes > 1 && place.in_vectors(view, self.sizes.len() - 1, self.sizes) {
            let array = shader.bind_vectors(place, false);
            let vector = format!("{array}[({}) >> 2u]", place.element(view, &self.coordinates));
            let names: Vec<String> = (0..lanes).map(|lane| self.names.of(i, lane)).collect();
            let take = |l: usize| format!("{} = {};", names[l], word(format!("q.{}", FIELDS[l])));
            return Ok(match guard(view, &self.coordinates, self.sizes) {
                None => {
                    let q = format!("q{}", &names[0][1..]);
                    let fields = (0..lanes)
                        .map(|l| format!(" let {} = {};", names[l], word(format!("{q}.{}", FIELDS[l]))));
                    format!("let {q} = {vector};{}", fields.collect::<String>())
                }
                Some(inside) => {
                    let declared: String = names.iter().map(|n| format!("var {n} = {fill}; ")).collect();
                    let taken: Vec<String> = (0..lanes).map(take).collect();
                    format!("{declared}if ({inside}) {{ let q = {vector}; {} }}", taken.join(" "))
                }
            });
        }
        let array = shader.bind(place, false);
        let one = |lane: usize| {
            let (name, at) = (self.names.of(i, lane), self.at(lane));
            let value = word(format!("{array}[{}]", place.element(view, &at)));
            match guard(view, &at, self.sizes) {
                None => format!("let {name} = {value};"),
                Some(inside) => format!("var {name} = {fill}; if ({inside}) {{ {name} = {value}; }}"),
            }
        };
        Ok((0..lanes).map(one).collect::<Vec<_>>().join(" "))
    }

    /// A function whose result drivers do not see through, and which no rule for one value twice applies to.
    fn opaque(&self, f: ScalarFn, inst: &Inst, mut args: Vec<String>) -> Result<String> {
        let float = |dtype: DType| Word::of(dtype) == Some(Word::F32);
        let of_floats = inst.args.iter().any(|r| float(self.body.inst(*r).dtype));
        if let [x, y] = inst.args[..]
            && of_floats
            && self.is_same(x, y)
        {
            args[0] = format!("gc_again({})", args[0]);
        }
        let text = self.function(f, inst, &args)?;
        Ok(match f.def().class {
            // It has one of its operands.
            Class::Select => text,
            Class::Compare if of_floats => format!("gc_told({text})"),
            _ if float(inst.dtype) => format!("gc_hidden({text})"),
            _ => text,
        })
    }

    /// Whether two registers are one value, or read the same elements, which drivers may find out.
    fn is_same(&self, x: Reg, y: Reg) -> bool {
        match (&self.body.inst(x).op, &self.body.inst(y).op) {
            (InstOp::Load(p), InstOp::Load(q)) => self.reads[*p] == self.reads[*q],
            _ => x == y,
        }
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

/// A sum as an element of a type: integers wrap, and halves are rounded.
pub fn rounded(dtype: DType, x: &str) -> String {
    match dtype {
        DType::F16 => format!("gc_to_f16({x})"),
        DType::Bf16 => format!("gc_to_bf16({x})"),
        _ => wrapped(dtype, x),
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
        (_, DType::Bool) if float(from) => format!("gc_told(gc_ne_f32({x}, 0.0f))"),
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
