//! Programs as stable, readable text, and the hash of that text.

use std::fmt::{Display, Write as _};

use sha2::{Digest, Sha256};

use super::{Body, BufferKind, Form, InstOp, Kernel, PoolKind, Port, Program, Reg, Step};
use crate::ops::Geometry;
use crate::scalar::Scalar;

impl Program {
    /// The Program as text: a line for every buffer and constant, then a block for every step.
    pub fn dump(&self) -> String {
        Dump { with_origins: true, indent: 0, text: String::new() }.program(self)
    }

    /// SHA-256 of the dump without origins: equal for Programs that compute the same in the same way
    /// and place, whatever the user's names are. Constants count by their contents.
    pub fn content_hash(&self) -> [u8; 32] {
        let dump = Dump { with_origins: false, indent: 0, text: String::new() }.program(self);
        Sha256::digest(dump.as_bytes()).into()
    }
}

struct Dump {
    with_origins: bool,
    indent: usize,
    text: String,
}

impl Dump {
    fn line(&mut self, line: impl Display) {
        for _ in 0..self.indent {
            self.text.push_str("  ");
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn program(mut self, p: &Program) -> String {
        self.line(format_args!(
            "program: {} steps, commit {}, arena {} bytes, live {} bytes",
            p.steps.len(),
            p.commit,
            p.plan.arena_bytes,
            p.plan.live_bytes
        ));
        let ids = |ids: &[super::BufferId]| join(ids.iter().map(|id| format!("b{}", id.0)));
        self.line(format_args!("inputs [{}] outputs [{}]", ids(&p.inputs), ids(&p.outputs)));
        for (i, c) in p.constants.iter().enumerate() {
            let hash: String = Sha256::digest(c.bytes()).iter().map(|b| format!("{b:02x}")).collect();
            self.line(format_args!("c{i}: {}[{}] sha256 {hash}", c.dtype(), join(c.shape())));
        }
        for (i, b) in p.buffers.iter().enumerate() {
            let kind = match b.kind {
                BufferKind::Input(n) => format!("input {n}"),
                BufferKind::Output(n) => format!("output {n}"),
                BufferKind::Const(n) => format!("const c{n}"),
                BufferKind::State(n) => format!("state {n}"),
                BufferKind::Staged(n) => format!("staged {n}"),
                BufferKind::Temp => "temp".into(),
            };
            let form = match b.form {
                Form::Dense => String::new(),
                Form::Panels { bytes } => format!(" panels({bytes} bytes)"),
                Form::Filters { bytes, form } => format!(" filters({form:?}, {bytes} bytes)"),
            };
            let place = match p.plan.offsets.get(i) {
                Some(Some(offset)) => format!(" @{offset}"),
                _ => String::new(),
            };
            self.line(format_args!("b{i}: {}[{}]{form} {kind}{place}", b.dtype, join(&b.shape)));
        }
        for (i, step) in p.steps.iter().enumerate() {
            self.step(p, i, step);
        }
        self.text
    }

    fn step(&mut self, p: &Program, index: usize, step: &Step) {
        let mut head = format!("step {index}: {}", step.kind());
        if !step.choice.algo.is_empty() {
            head += &format!(" [{}]", step.choice.algo);
        }
        head += &match &step.kernel {
            Kernel::Nest(n) => format!(" rows [{}] cols [{}]", join(&n.rows), join(&n.cols)),
            Kernel::Dot(d) => format!(" batch [{}] m {} n {} k {}", join(&d.batch), d.m, d.n, d.k),
            Kernel::ArgReduce { max, rows, cols } => {
                format!(" {} rows [{}] cols {cols}", if *max { "max" } else { "min" }, join(rows))
            }
            Kernel::Gather { outer, axis, inner, count }
            | Kernel::ScatterAdd { outer, axis, inner, count } => {
                format!(" outer {outer} axis {axis} inner {inner} count {count}")
            }
            Kernel::Repack { batch, k, n } => format!(" batch [{}] k {k} n {n}", join(batch)),
            Kernel::RepackFilters { kernel, inputs, outputs, groups } => {
                format!(" kernel [{}] inputs {inputs} outputs {outputs} groups {groups}", join(kernel))
            }
            Kernel::Conv(c) => geometry(&c.geometry),
            Kernel::Pool(w) => match w.kind {
                PoolKind::Mean { count_pad } | PoolKind::MeanGrad { count_pad } => {
                    format!("{} count_pad {count_pad}", geometry(&w.geometry))
                }
                _ => geometry(&w.geometry),
            },
            Kernel::Loop(l) => format!(
                " length {}{} invariants {} carries {}",
                l.length,
                if l.reverse { " reverse" } else { "" },
                l.invariants,
                l.carries
            ),
            Kernel::While(w) => format!(" invariants {}", w.invariants),
            Kernel::Branch(_) => String::new(),
        };
        if self.with_origins && !step.origins.is_empty() {
            head += &format!(" from {}", step.origins);
        }
        self.line(head);
        self.indent += 1;
        self.ports("read", &step.reads);
        self.ports("write", &step.writes);
        for (_, r, w) in p.plan.in_place.iter().filter(|(s, ..)| *s == index) {
            self.line(format_args!("in place: write {w} over read {r}"));
        }
        if step.choice.scratch_bytes > 0 || step.choice.error_class != 0.0 {
            let at = p.plan.scratch.get(index).map_or(String::new(), |at| format!(" @{at}"));
            self.line(format_args!(
                "scratch {} bytes{at}, error class {:?}",
                step.choice.scratch_bytes, step.choice.error_class
            ));
        }
        if let Some(swept) = step.kernel.swept() {
            self.body(swept.body);
        }
        for (what, program) in step.kernel.programs() {
            self.nested(what, program);
        }
        self.indent -= 1;
    }

    fn nested(&mut self, what: &str, program: &Program) {
        self.line(what);
        let inner = Dump { with_origins: self.with_origins, indent: self.indent, text: String::new() };
        self.text += &inner.program(program);
    }

    fn ports(&mut self, side: &str, ports: &[Port]) {
        for (i, port) in ports.iter().enumerate() {
            let view = &port.view;
            let guard = view.guard.as_ref().map_or(String::new(), |g| {
                let ranges = g.lo.iter().zip(&g.hi).map(|(lo, hi)| format!("{lo}..{hi}"));
                format!(" inside [{}] else {}", join(ranges), scalar(g.fill))
            });
            self.line(format_args!(
                "{side} {i}: b{} offset {} strides [{}]{guard}",
                port.buffer.0,
                view.offset,
                join(&view.strides)
            ));
        }
    }

    fn body(&mut self, body: &Body) {
        for (i, inst) in body.insts.iter().enumerate() {
            let op = match &inst.op {
                InstOp::Load(port) => format!("load {port}"),
                InstOp::Acc => "acc".into(),
                InstOp::Const(value) => format!("const {}", scalar(*value)),
                InstOp::Fn(f) => f.name().into(),
                InstOp::Cast => "cast".into(),
                InstOp::Index(strides) => format!("index [{}]", join(strides)),
                InstOp::RandomBits => "random_bits".into(),
                InstOp::Fold(kind, axis) => format!("fold {kind:?} over {axis:?}").to_lowercase(),
            };
            let args: String = inst.args.iter().map(|a| format!(" {}", reg(*a))).collect();
            let post = if inst.post { " post" } else { "" };
            let level = format!("{:?}", inst.level).to_lowercase();
            self.line(format_args!("%{i} = {op}{args} : {} {level}{post}", inst.dtype));
        }
        for c in &body.checks {
            self.line(format_args!("check {} {:?}", reg(c.reg), c.message));
        }
        for s in &body.stores {
            self.line(format_args!("store {} to {}", reg(s.reg), s.write));
        }
    }
}

fn geometry(g: &Geometry) -> String {
    let w = &g.window;
    format!(
        " batch {} image [{}] channels {} windows [{}] outputs {} kernel [{}] strides [{}] dilations [{}] pads \
         [{}] [{}] groups {}",
        g.batch,
        join(&g.image),
        g.channels,
        join(&g.positions),
        g.outputs,
        join(&w.kernel),
        join(&w.strides),
        join(&w.dilations),
        join(&w.pads_lo),
        join(&w.pads_hi),
        g.groups
    )
}

fn reg(r: Reg) -> String {
    format!("%{}", r.0)
}

fn scalar(s: Scalar) -> String {
    match s {
        Scalar::F(v) => format!("{v:?}"),
        Scalar::I(v) => v.to_string(),
        Scalar::B(v) => v.to_string(),
    }
}

fn join(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    items.join(",")
}
