//! A cluster's graph becomes straight-line code.

use std::collections::BTreeMap;

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, NodeId, ValueId};
use graphc_ir::ops::{Op, ReduceKind};
use graphc_ir::program::{Body, BodyCheck, FoldAxis, FoldKind, InstOp, Level, Port, Reg, Store, View};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::text::visible;

use super::nest::{Space, raise};
use crate::fuse::domain::{Domain, renames_axes};

/// Something that depends on the coordinates of the domain.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// An operand.
    Read { value: ValueId, port: Port },
    /// One word of a random node's key.
    Key { node: NodeId, port: Port },
    /// The coordinate of an iota, or the element index of random bits.
    Index { node: NodeId, view: View },
    /// A result.
    Write { result: usize, value: ValueId, view: View },
}

impl Access {
    pub fn view(&self) -> &View {
        match self {
            Access::Read { port, .. } | Access::Key { port, .. } => &port.view,
            Access::Index { view, .. } | Access::Write { view, .. } => view,
        }
    }

    pub fn view_mut(&mut self) -> &mut View {
        match self {
            Access::Read { port, .. } | Access::Key { port, .. } => &mut port.view,
            Access::Index { view, .. } | Access::Write { view, .. } => view,
        }
    }
}

/// Translates nodes to instructions.
pub(crate) struct BodyBuilder<'a> {
    graph: &'a Graph,
    domain: &'a Domain,
    space: &'a Space,
    accesses: &'a [Access],
    body: Body,
    regs: BTreeMap<ValueId, Reg>,
    reads: Vec<Port>,
    first_port: usize,
}

impl<'a> BodyBuilder<'a> {
    /// Loads count ports from `first_port`.
    pub fn new(
        graph: &'a Graph,
        domain: &'a Domain,
        space: &'a Space,
        accesses: &'a [Access],
        first_port: usize,
    ) -> Self {
        BodyBuilder {
            graph,
            domain,
            space,
            accesses,
            body: Body::default(),
            regs: BTreeMap::new(),
            reads: Vec::new(),
            first_port,
        }
    }

    /// The dot's own result.
    pub fn accumulator(&mut self, v: ValueId) {
        let dtype = self.graph.ty(v).dtype;
        let reg = self.body.push(InstOp::Acc, &[], dtype, Level::Elem);
        self.regs.insert(v, reg);
    }

    fn load(&mut self, port: &Port, dtype: DType) -> Reg {
        let known = self.reads.iter().position(|p| p == port);
        let index = known.unwrap_or_else(|| {
            self.reads.push(port.clone());
            self.reads.len() - 1
        });
        let level = self.space.level(&port.view);
        self.body.push(InstOp::Load(self.first_port + index), &[], dtype, level)
    }

    /// The register of an operand, loaded at its first use.
    fn reg(&mut self, v: ValueId) -> Reg {
        if let Some(r) = self.regs.get(&v) {
            return *r;
        }
        let port = self.accesses.iter().find_map(|a| match a {
            Access::Read { value, port } if *value == v => Some(port),
            _ => None,
        });
        let port = port.expect("operands are inputs or earlier nodes").clone();
        let reg = self.load(&port, self.graph.ty(v).dtype);
        self.regs.insert(v, reg);
        reg
    }

    /// Where a set of domain axes varies.
    fn level_of(&self, v: ValueId) -> Level {
        let set = self.domain.set(v);
        let (rows, cols) = (set & !self.domain.cols != 0, set & self.domain.cols != 0);
        match (rows, cols) {
            (false, false) => Level::Scalar,
            (true, false) => Level::Row,
            (false, true) => Level::Col,
            (true, true) => Level::Elem,
        }
    }

    fn index(&mut self, node: NodeId) -> Reg {
        let view = self.accesses.iter().find_map(|a| match a {
            Access::Index { node: n, view } if *n == node => Some(view),
            _ => None,
        });
        let view = view.expect("collected before");
        let strides: Vec<i64> = view.strides.iter().map(|s| *s as i64).collect();
        let level = self.space.level(view);
        self.body.push(InstOp::Index(strides), &[], DType::I64, level)
    }

    /// Translates one node.
    pub fn node(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let dtype = self.graph.ty(node.out(0)).dtype;
        let reg = match &node.op {
            Op::Const(c) => self.body.push(InstOp::Const(c.value.get(0)), &[], dtype, Level::Scalar),
            Op::Map(m) => {
                let args: Vec<Reg> = node.ins.iter().map(|v| self.reg(*v)).collect();
                self.body.push(InstOp::Fn(m.f), &args, dtype, Level::Scalar)
            }
            Op::Cast(_) => {
                let x = self.reg(node.ins[0]);
                self.body.push(InstOp::Cast, &[x], dtype, Level::Scalar)
            }
            Op::Check(c) => {
                let x = self.reg(node.ins[0]);
                let condition = self.reg(node.ins[1]);
                let check = BodyCheck { reg: condition, message: visible(&c.message).into_owned() };
                if !self.body.checks.contains(&check) {
                    self.body.checks.push(check);
                }
                x
            }
            Op::Iota(_) => {
                let at = self.index(id);
                if dtype == DType::I64 {
                    at
                } else {
                    self.body.push(InstOp::Cast, &[at], dtype, Level::Scalar)
                }
            }
            Op::RandomBits(_) => {
                let keys: Vec<Port> = self
                    .accesses
                    .iter()
                    .filter_map(|a| match a {
                        Access::Key { node: n, port, .. } if *n == id => Some(port.clone()),
                        _ => None,
                    })
                    .collect();
                let mut args: Vec<Reg> = keys.iter().map(|p| self.load(p, DType::U32)).collect();
                args.push(self.index(id));
                self.body.push(InstOp::RandomBits, &args, dtype, Level::Scalar)
            }
            Op::Reduce(r) => {
                let kind = match r.kind {
                    ReduceKind::Sum => FoldKind::Sum,
                    ReduceKind::Prod => FoldKind::Prod,
                    ReduceKind::Max => FoldKind::Max,
                    ReduceKind::Min => FoldKind::Min,
                };
                self.fold(kind, node.ins[0], node.out(0))
            }
            Op::Moments(_) => {
                let (mean, var) = if self.domain.set(node.ins[0]) == self.domain.set(node.out(0)) {
                    // Every axis has size 1: the mean is the element, the variance 0 (or NaN).
                    let x = self.reg(node.ins[0]);
                    let d = self.body.push(InstOp::Fn(ScalarFn::Sub), &[x, x], dtype, Level::Scalar);
                    (x, d)
                } else {
                    let mean = self.fold(FoldKind::Mean, node.ins[0], node.out(0));
                    (mean, self.fold(FoldKind::Var, node.ins[0], node.out(0)))
                };
                self.regs.insert(node.out(1), var);
                mean
            }
            _ if renames_axes(self.graph, node) => self.reg(node.ins[0]),
            other => return Err(Error::new(format!("`{}` is not elementwise", other.name()))),
        };
        self.regs.insert(node.out(0), reg);
        Ok(())
    }

    /// Folds over the columns, then over the rows, whichever the result lacks.
    fn fold(&mut self, kind: FoldKind, from: ValueId, to: ValueId) -> Reg {
        let dtype = self.graph.ty(from).dtype;
        let removed = self.domain.set(from) & !self.domain.set(to);
        let mut wanted = self.level_of(from);
        let mut reg = self.reg(from);
        for (axis, part) in [(FoldAxis::Cols, self.domain.cols), (FoldAxis::Rows, !self.domain.cols)] {
            if removed & part != 0 {
                reg = raise(&mut self.body, reg, wanted, self.space);
                reg = self.body.push(InstOp::Fold(kind, axis), &[reg], dtype, Level::Scalar);
                wanted = match axis {
                    FoldAxis::Cols => wanted.without_cols(),
                    FoldAxis::Rows => wanted.without_rows(),
                };
            }
        }
        reg
    }

    /// The code, its read ports, and for every write port the result's number and view.
    pub fn finish(mut self) -> (Body, Vec<Port>, Vec<(usize, View)>) {
        let mut writes = Vec::new();
        for access in self.accesses {
            if let Access::Write { result, value, view } = access {
                let reg = self.reg(*value);
                let wanted = self.space.level(view);
                let reg = raise(&mut self.body, reg, wanted, self.space);
                self.body.stores.push(Store { reg, write: writes.len() });
                writes.push((*result, view.clone()));
            }
        }
        (self.body, self.reads, writes)
    }
}
