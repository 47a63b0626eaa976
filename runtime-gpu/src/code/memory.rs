//! Memory for temporaries: pieces that one tensor after the other lives in.

use graphc_ir::program::{BufferKind, Program};

use crate::place::Mem;
use crate::words::Word;

/// Pieces that nothing lives in.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    free: Vec<(usize, Mem)>,
}

impl Pool {
    /// The smallest piece that is large enough, but no more than twice as large.
    pub fn take(&mut self, words: usize) -> Option<Mem> {
        let fits = |size: usize| size >= words && size <= words.saturating_mul(2).max(64);
        let best = (0..self.free.len()).filter(|i| fits(self.free[*i].0)).min_by_key(|i| self.free[*i].0)?;
        Some(self.free.swap_remove(best).1)
    }

    /// Takes a piece back.
    pub fn give(&mut self, mem: Mem, words: usize) {
        self.free.push((words, mem));
    }
}

/// The temporaries that begin and end with each step.
#[derive(Debug)]
pub struct Uses {
    begin: Vec<Vec<usize>>,
    end: Vec<Vec<usize>>,
}

impl Uses {
    /// Those that a step is the first to write.
    pub fn begin(&self, step: usize) -> &[usize] {
        &self.begin[step]
    }

    /// Those that no later step reads or writes.
    pub fn end(&self, step: usize) -> &[usize] {
        &self.end[step]
    }
}

/// Whether a result that begins with the step that an operand ends with takes its memory. The optimizer's plan says so: it
/// places both at the same bytes only where each element is read for the last time before it is written, in whatever order.
pub fn shared(program: &Program, operand: usize, result: usize) -> bool {
    let offset = |buffer: usize| program.plan.offsets.get(buffer).copied().flatten();
    let (from, to) = (&program.buffers[operand], &program.buffers[result]);
    // One array has one type, and each element is a word here, whatever its bytes in the plan.
    operand != result
        && offset(operand).is_some()
        && offset(operand) == offset(result)
        && Word::of(from.dtype) == Word::of(to.dtype)
        && from.shape.iter().product::<usize>() == to.shape.iter().product::<usize>()
}

/// The uses of a Program's temporaries.
pub fn uses(program: &Program) -> Uses {
    let steps = program.steps.len();
    let mut uses = Uses { begin: vec![Vec::new(); steps], end: vec![Vec::new(); steps] };
    for (buffer, decl) in program.buffers.iter().enumerate() {
        if decl.kind != BufferKind::Temp {
            continue;
        }
        let touches = |step: &usize| {
            let step = &program.steps[*step];
            step.reads.iter().chain(&step.writes).any(|port| port.buffer.index() == buffer)
        };
        let touching: Vec<usize> = (0..steps).filter(touches).collect();
        if let (Some(first), Some(last)) = (touching.first(), touching.last()) {
            uses.begin[*first].push(buffer);
            uses.end[*last].push(buffer);
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_used_again_if_they_fit() {
        let mut pool = Pool::default();
        pool.give(Mem(3), 1000);
        pool.give(Mem(4), 600);
        assert_eq!(pool.take(2000), None);
        assert_eq!(pool.take(500), Some(Mem(4)));
        assert_eq!(pool.take(100), None);
        assert_eq!(pool.take(501), Some(Mem(3)));
    }
}
