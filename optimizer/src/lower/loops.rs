//! Scans, while loops and branches become steps over nested Programs.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::graph::{Graph, Node};
use graphc_ir::ops::{Cond, Scan, While};
use graphc_ir::origin::Origins;
use graphc_ir::program::{
    Branch, BufferDecl, BufferId, BufferKind, Kernel, Loop, Port, Program, View, While as WhileLoop,
};

use super::{Lowering, constants};
use crate::compile;

/// Memory that a step over nested Programs needs at least: the largest arena, and two places for every carry,
/// which alternate.
pub(crate) fn scratch(kernel: &Kernel) -> usize {
    let carried: &[BufferId] = match kernel {
        Kernel::Loop(l) => &l.body.inputs[l.invariants..][..l.carries],
        Kernel::While(w) => &w.body.inputs[w.invariants..],
        _ => &[],
    };
    let programs = kernel.programs();
    let Some((_, body)) = programs.last() else { return 0 };
    let carries: usize = carried.iter().map(|b| body.buffer(*b).bytes().next_multiple_of(64) * 2).sum();
    let arena = programs.iter().map(|(_, p)| p.plan.arena_bytes.next_multiple_of(64)).max().unwrap_or(0);
    arena + carries
}

impl Lowering<'_> {
    pub(crate) fn scan(&mut self, node: &Node, op: &Scan, origins: Origins) -> Result<()> {
        let length = constants(std::slice::from_ref(&op.length))[0];
        let mut operands = self.operands(node);
        let invariants = node.ins.len() - op.carries - op.stacks;
        let (body, hoisted) = self.body(&op.body, &operands[..invariants])?;
        operands.splice(invariants..invariants, hoisted.iter().copied());
        let kernel = Kernel::Loop(Loop {
            length,
            reverse: op.reverse,
            invariants: invariants + hoisted.len(),
            carries: op.carries,
            body: Arc::new(compile::finish_body(body, self.target, self.options)?),
        });
        self.nested_step(kernel, &operands, node, origins);
        Ok(())
    }

    pub(crate) fn while_loop(&mut self, node: &Node, op: &While, origins: Origins) -> Result<()> {
        let mut operands = self.operands(node);
        let invariants = node.ins.len() - op.carries;
        let (body, hoisted) = self.body(&op.body, &operands[..invariants])?;
        let (mut condition, _) = self.body(&op.condition, &[])?;
        operands.splice(invariants..invariants, hoisted.iter().copied());
        // Both take the same operands, so the condition takes what was hoisted out of the body too.
        for (k, id) in body.inputs[invariants..][..hoisted.len()].iter().enumerate() {
            insert_input(&mut condition, invariants + k, body.buffer(*id).clone());
        }
        let kernel = Kernel::While(WhileLoop {
            invariants: invariants + hoisted.len(),
            condition: Arc::new(compile::finish_body(condition, self.target, self.options)?),
            body: Arc::new(compile::finish_body(body, self.target, self.options)?),
        });
        self.nested_step(kernel, &operands, node, origins);
        Ok(())
    }

    pub(crate) fn cond(&mut self, node: &Node, op: &Cond, origins: Origins) -> Result<()> {
        let operands = self.operands(node);
        let program = |l: &mut Self, graph: &Graph| {
            let (body, _) = l.body(graph, &[])?;
            compile::finish_body(body, l.target, l.options).map(Arc::new)
        };
        let kernel = Kernel::Branch(Branch {
            then: program(self, &op.then)?,
            otherwise: program(self, &op.otherwise)?,
        });
        self.nested_step(kernel, &operands, node, origins);
        Ok(())
    }

    /// Dense buffers of a node's operands.
    fn operands(&mut self, node: &Node) -> Vec<BufferId> {
        node.ins.iter().map(|v| self.dense(*v).buffer).collect()
    }

    fn nested_step(&mut self, kernel: Kernel, operands: &[BufferId], node: &Node, origins: Origins) {
        let port = |l: &Self, buffer: BufferId| {
            let view = View::dense(&l.program.buffer(buffer).shape);
            Port { buffer, view }
        };
        let reads = operands.iter().map(|b| port(self, *b)).collect();
        let writes: Vec<BufferId> = node.outs().map(|o| self.result(o)).collect();
        let writes = writes.iter().map(|b| port(self, *b)).collect();
        self.push(kernel, reads, writes, origins);
    }

    /// Lowers a body. Steps of it that depend on the first operands alone, which lie in `invariants`, are made
    /// steps of this Program: packed weights above all. What they make are the body's inputs after the invariants,
    /// and the buffers that come back.
    fn body(&mut self, graph: &Graph, invariants: &[BufferId]) -> Result<(Program, Vec<BufferId>)> {
        let mut body = compile::lower_body(graph, invariants.len(), self.target, self.options)?;
        if !self.options.staging || invariants.is_empty() {
            return Ok((body, Vec::new()));
        }
        // To a body its invariants are what unassigned state is to a function.
        let decls: Vec<BufferId> = body.inputs[..invariants.len()].to_vec();
        for (i, id) in decls.iter().enumerate() {
            body.buffers[id.index()].kind = BufferKind::State(i);
        }
        let (mut body, staged) = crate::staging::split(body)?;
        for (i, id) in decls.iter().enumerate() {
            body.buffers[id.index()].kind = BufferKind::Input(i);
        }
        let Some(staged) = staged else { return Ok((body, Vec::new())) };
        let hoisted = self.splice(staged.program, invariants);
        for (i, id) in body.inputs.iter().enumerate().skip(invariants.len()) {
            body.buffers[id.index()].kind = BufferKind::Input(i + hoisted.len());
        }
        let added: Vec<BufferId> = (0..hoisted.len())
            .map(|k| {
                let staged = body.buffers.iter().position(|b| b.kind == BufferKind::Staged(k));
                let at = staged.expect("everything that is staged is read");
                body.buffers[at].kind = BufferKind::Input(invariants.len() + k);
                BufferId(at as u32)
            })
            .collect();
        body.inputs.splice(invariants.len()..invariants.len(), added);
        Ok((body, hoisted))
    }

    /// Appends a Program whose states lie in `states`; gives the buffers of its outputs.
    fn splice(&mut self, program: Program, states: &[BufferId]) -> Vec<BufferId> {
        let mut renamed = Vec::with_capacity(program.buffers.len());
        for decl in &program.buffers {
            renamed.push(match decl.kind {
                BufferKind::State(i) => states[i],
                BufferKind::Const(c) => self.constant(program.constants[c].clone()),
                _ => self.declare(decl.dtype, decl.shape.clone(), decl.form, BufferKind::Temp),
            });
        }
        for mut step in program.steps {
            for port in step.reads.iter_mut().chain(&mut step.writes) {
                port.buffer = renamed[port.buffer.index()];
            }
            self.program.steps.push(step);
        }
        program.outputs.iter().map(|o| renamed[o.index()]).collect()
    }
}

/// Adds an input that a Program does not read.
fn insert_input(program: &mut Program, at: usize, decl: BufferDecl) {
    for (i, id) in program.inputs.iter().enumerate().skip(at) {
        program.buffers[id.index()].kind = BufferKind::Input(i + 1);
    }
    program.buffers.push(BufferDecl { kind: BufferKind::Input(at), ..decl });
    program.inputs.insert(at, BufferId(program.buffers.len() as u32 - 1));
}
