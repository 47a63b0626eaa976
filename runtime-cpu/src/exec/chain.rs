//! Epilogues that are a chain: each instruction takes the sums one step further with one operand.

use graphc_ir::dtype::DType;
use graphc_ir::program::{Body, InstOp, Program, Reg, Step};
use graphc_ir::scalar::{Scalar, ScalarFn};

use super::epilogue::{Domain, Matrix, Place};
use super::step::{Overlap, port_spec};
use crate::gemm::{Combine, Element, Instruction, Operand};
use crate::nest::Memory;
use crate::threshold::thresholds;
use crate::tile::movement::scalar_bytes;

thresholds! {
    /// Instructions of a chain, at most: they are put together on the stack.
    const MAX: usize = 8, of Dot [Links];
}

/// A chain whose operands are places in a step's memory.
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    constants: Vec<[u8; 8]>,
}

#[derive(Clone, Debug)]
struct Link {
    scale: Option<Single>,
    combine: Combine,
    operand: Option<Source>,
    relu: bool,
    store: Option<(usize, Matrix)>,
}

/// One number.
#[derive(Clone, Copy, Debug)]
enum Single {
    Constant(usize),
    At(Place),
}

/// What a link combines the sums with.
#[derive(Clone, Debug)]
struct Source {
    port: Option<usize>,
    values: Values,
    factor: Option<Single>,
}

#[derive(Clone, Debug)]
enum Values {
    Single(Single),
    Matrix { matrix: Matrix, by_column: bool },
}

impl Chain {
    /// The chain that a body is, if it is one over this domain.
    pub fn new(
        program: &Program,
        step: &Step,
        body: &Body,
        domain: &Domain<'_>,
        dtype: DType,
        overlap: Overlap,
    ) -> Option<Chain> {
        if !body.checks.is_empty() || domain.batch.iter().filter(|size| **size > 1).count() > 1 {
            return None;
        }
        let mut reader = Reader { program, step, body, domain, dtype, constants: Vec::new() };
        let links = reader.links()?;
        let ordered = links.iter().enumerate().all(|(i, link)| {
            let Some((write, _)) = link.store else { return true };
            let later = links[i + 1..].iter().filter_map(|l| l.operand.as_ref()?.port);
            later.into_iter().all(|read| !overlap(read, write))
        });
        (ordered && links.len() <= MAX).then_some(Chain { links, constants: reader.constants })
    }

    /// Calls a function with the chain's instructions on a run's memory.
    pub fn resolved<T: Element, R>(&self, memory: Memory, f: impl FnOnce(&[Instruction<T>]) -> R) -> R {
        let single = |s: Single| match s {
            Single::Constant(index) => self.constants[index].as_ptr().cast::<T>(),
            Single::At(place) => place.pointer::<T>(memory).cast_const(),
        };
        let number = |s: Option<Single>| s.map_or(std::ptr::null(), single);
        let nothing = Operand {
            first: std::ptr::null(),
            row_stride: 0,
            batch_stride: 0,
            by_column: false,
            factor: std::ptr::null(),
        };
        let instruction = |link: &Link| Instruction {
            scale: number(link.scale),
            combine: link.combine,
            operand: link.operand.as_ref().map_or(nothing, |source| {
                let factor = number(source.factor);
                match &source.values {
                    Values::Single(s) => Operand { first: single(*s), factor, ..nothing },
                    Values::Matrix { matrix, by_column } => Operand {
                        first: matrix.place.pointer::<T>(memory).cast_const(),
                        row_stride: matrix.row_stride,
                        batch_stride: matrix.batch_stride,
                        by_column: *by_column,
                        factor,
                    },
                }
            }),
            relu: link.relu,
            store: link.store.as_ref().map(|(_, matrix)| matrix.output(memory, 0)),
        };
        let keep = Link { scale: None, combine: Combine::Keep, operand: None, relu: false, store: None };
        let mut instructions = [instruction(&keep); MAX];
        for (to, link) in instructions.iter_mut().zip(&self.links) {
            *to = instruction(link);
        }
        f(&instructions[..self.links.len()])
    }
}

/// Reads a body as a chain.
struct Reader<'a> {
    program: &'a Program,
    step: &'a Step,
    body: &'a Body,
    domain: &'a Domain<'a>,
    dtype: DType,
    constants: Vec<[u8; 8]>,
}

impl Reader<'_> {
    fn links(&mut self) -> Option<Vec<Link>> {
        let insts = &self.body.insts;
        let mut at = insts.iter().position(|i| i.op == InstOp::Acc)?;
        let keep = || Link { scale: None, combine: Combine::Keep, operand: None, relu: false, store: None };
        let mut links = vec![keep()];
        loop {
            let reg = Reg(at as u32);
            for store in self.body.stores.iter().filter(|s| s.reg == reg) {
                if links.last()?.store.is_some() {
                    links.push(keep());
                }
                let port = port_spec(self.program, &self.step.writes[store.write]);
                let (matrix, by_column) = Matrix::new(&port, self.domain, self.dtype)?;
                if !by_column {
                    return None;
                }
                links.last_mut()?.store = Some((store.write, matrix));
            }
            let mut users = (at + 1..insts.len()).filter(|i| insts[*i].args.contains(&reg));
            let Some(user) = users.next() else { break };
            // Two users would need the sums twice; nothing else of the body may be stored.
            if users.next().is_some() {
                return None;
            }
            let link = self.link(user, reg)?;
            let last = links.last_mut()?;
            let bare = last.store.is_none() && !last.relu;
            let scales = |link: &Link| link.combine == Combine::Mul && link.scale.is_none();
            match (&last.operand, link) {
                (_, Link { combine: Combine::Keep, relu: true, .. }) if last.store.is_none() => {
                    last.relu = true;
                }
                (None, link) if bare && last.combine == Combine::Keep => *last = link,
                (Some(Source { values: Values::Single(number), factor: None, .. }), link)
                    if bare && scales(last) && link.scale.is_none() =>
                {
                    *last = Link { scale: Some(*number), ..link };
                }
                (_, link) => links.push(link),
            }
            at = user;
        }
        let stored = links.iter().filter(|l| l.store.is_some()).count();
        (stored == self.body.stores.len() && links.last()?.store.is_some()).then_some(links)
    }

    /// The link of instruction `i`, which takes the sums `acc`.
    fn link(&mut self, i: usize, acc: Reg) -> Option<Link> {
        let inst = &self.body.insts[i];
        let InstOp::Fn(function) = inst.op else { return None };
        let link = |combine, operand, relu| Some(Link { scale: None, combine, operand, relu, store: None });
        let other = |reader: &mut Self| {
            let position = inst.args.iter().position(|arg| *arg == acc)?;
            let [a, b] = inst.args[..] else { return None };
            let source = reader.source(if position == 0 { b } else { a })?;
            (a != b).then_some((position, source))
        };
        match function {
            ScalarFn::Relu => link(Combine::Keep, None, true),
            ScalarFn::Add => link(Combine::Add, Some(other(self)?.1), false),
            ScalarFn::Mul => link(Combine::Mul, Some(other(self)?.1), false),
            ScalarFn::Sub => {
                let (position, source) = other(self)?;
                let combine = if position == 0 { Combine::Sub } else { Combine::SubFrom };
                link(combine, Some(source), false)
            }
            ScalarFn::Select => {
                let [condition, yes, no] = inst.args[..] else { return None };
                let gate = self.body.inst(condition);
                let [x, y] = gate.args[..] else { return None };
                let positive = match gate.op {
                    InstOp::Fn(ScalarFn::Gt) if self.is_zero(y) => x,
                    InstOp::Fn(ScalarFn::Lt) if self.is_zero(x) => y,
                    _ => return None,
                };
                if yes != acc || !self.is_zero(no) {
                    return None;
                }
                link(Combine::Gate, Some(self.source(positive)?), false)
            }
            _ => None,
        }
    }

    fn is_zero(&self, reg: Reg) -> bool {
        matches!(self.body.inst(reg).op, InstOp::Const(c) if c.as_f64() == 0.0 && !c.as_f64().is_sign_negative())
    }

    /// A register as an operand: a load, a constant, or a load times a number.
    fn source(&mut self, reg: Reg) -> Option<Source> {
        let inst = self.body.inst(reg);
        if let InstOp::Fn(ScalarFn::Mul) = inst.op {
            let [a, b] = inst.args[..] else { return None };
            let (x, factor) = match (self.single(a), self.single(b)) {
                (None, Some(factor)) => (a, factor),
                (Some(factor), None) => (b, factor),
                _ => return None,
            };
            let source = self.source(x)?;
            return source.factor.is_none().then_some(Source { factor: Some(factor), ..source });
        }
        if let Some(number) = self.single(reg) {
            let port = if let InstOp::Load(port) = inst.op { Some(port) } else { None };
            return Some(Source { port, values: Values::Single(number), factor: None });
        }
        let InstOp::Load(port) = inst.op else { return None };
        let spec = port_spec(self.program, &self.step.reads[port]);
        let (matrix, by_column) = Matrix::new(&spec, self.domain, self.dtype)?;
        Some(Source { port: Some(port), values: Values::Matrix { matrix, by_column }, factor: None })
    }

    /// A register that is one number.
    fn single(&mut self, reg: Reg) -> Option<Single> {
        let inst = self.body.inst(reg);
        match inst.op {
            InstOp::Const(value) if inst.dtype == self.dtype => Some(Single::Constant(self.constant(value))),
            InstOp::Load(port) => {
                let spec = port_spec(self.program, &self.step.reads[port]);
                let one = spec.view.guard.is_none() && spec.view.strides.iter().all(|s| *s == 0);
                (one && spec.dtype == self.dtype && !spec.empty).then(|| Single::At(Place::of(&spec)))
            }
            _ => None,
        }
    }

    fn constant(&mut self, value: Scalar) -> usize {
        self.constants.push(scalar_bytes(value, self.dtype));
        self.constants.len() - 1
    }
}
