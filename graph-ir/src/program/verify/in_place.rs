//! When a step may write the memory that it reads.
//!
//! A body runs in passes over tiles: every fold along the rows may cost a pass, and every pass loads
//! again. So a store may replace a loaded element only in the last pass, at the same index.

use crate::error::Result;
use crate::program::{Body, FoldAxis, FoldKind, InstOp, Kernel, Reg, Step};

impl Step {
    /// Whether a write port of a well-formed step may lie in the memory of a read port, provided that
    /// the read buffer dies there and both have the same bytes. Every other port that reads the same
    /// buffer is asked for too.
    pub fn allows_in_place(&self, read: usize, write: usize) -> bool {
        let Some(port) = self.reads.get(read) else { return false };
        let same = (0..self.reads.len()).filter(|r| self.reads[*r].buffer == port.buffer);
        write < self.writes.len() && same.into_iter().all(|r| check(self, r, write).is_ok())
    }
}

/// Checks that a read port and a write port of a step may share memory.
pub(super) fn check(step: &Step, read: usize, write: usize) -> Result<()> {
    // The base is copied to the result before anything is added.
    if matches!(step.kernel, Kernel::ScatterAdd { .. }) && read == 0 {
        return Ok(());
    }
    let Some(swept) = step.kernel.swept() else {
        fail!("read port {read} and write port {write} share memory, which this kernel does not allow");
    };
    if read < swept.operands {
        fail!(
            "read port {read} and write port {write} share memory, but a {} reads its operands until its end",
            step.kind()
        );
    }
    let (body, sizes, rows) = (swept.body, swept.sizes(), swept.rows.len());
    let shared = format!("read port {read} and write port {write} share memory");
    let view = &step.reads[read].view;
    if *view != step.writes[write].view {
        fail!("{shared}, but their views differ, so that elements are overwritten before they are read");
    }
    let Some(store) = body.stores.iter().find(|s| s.write == write) else {
        fail!("{shared}, but nothing is stored");
    };
    let needs = ancestors(body, store.reg);
    let post = body.inst(store.reg).post;
    for (i, inst) in body.insts.iter().enumerate() {
        let InstOp::Fold(kind, axis) = inst.op else { continue };
        // Before the end of the sweep a fold down the columns costs no pass of its own, but for the
        // variance; after it all of them are done, and only folds along the columns' results are left.
        let harmless = match (post, axis) {
            (false, FoldAxis::Rows) => kind != FoldKind::Var,
            (false, FoldAxis::Cols) => false,
            (true, _) => !(inst.post && axis == FoldAxis::Cols),
        };
        if !needs[i] && !harmless {
            fail!(
                "{shared}, but the fold %{i} does not come before the store and would read what was written"
            );
        }
    }
    let first = if post { rows } else { 0 };
    let every_element = (first..sizes.len()).all(|d| sizes[d] <= 1 || view.strides[d] != 0);
    if every_element {
        return Ok(());
    }
    let others = body.stores.iter().filter(|s| s.write != write).map(|s| s.reg);
    let loads = |reg: Reg| {
        let used = ancestors(body, reg);
        body.insts.iter().zip(used).any(|(inst, used)| used && inst.op == InstOp::Load(read))
    };
    if !post || others.into_iter().any(loads) {
        fail!("{shared}, but its elements are read at more than one index of the domain");
    }
    Ok(())
}

/// Which instructions a register depends on, itself included.
fn ancestors(body: &Body, reg: Reg) -> Vec<bool> {
    let mut needed = vec![false; body.insts.len()];
    needed[reg.index()] = true;
    for i in (0..=reg.index()).rev() {
        if needed[i] {
            for a in &body.insts[i].args {
                needed[a.index()] = true;
            }
        }
    }
    needed
}
