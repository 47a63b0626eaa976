//! Where the reference executor keeps its buffers.

use std::borrow::Cow;

use super::Placement;
use crate::dtype::DType;
use crate::program::{BufferKind, Program};
use crate::tensor::Tensor;

/// The contents of every buffer.
pub(super) struct Memory<'p> {
    program: &'p Program,
    /// Tensors of the buffers outside the arena; `None` before their first write.
    apart: Vec<Option<Tensor>>,
    /// The temporaries' bytes, if they share an arena.
    arena: Option<Vec<u8>>,
    /// Last step that touches each buffer, and whether it reads it.
    last_use: Vec<Option<(usize, bool)>>,
}

/// The byte that free memory is filled with: all floats that it makes are NaN.
const POISON: u8 = 0xFF;

impl<'p> Memory<'p> {
    pub fn new(program: &'p Program, placement: Placement) -> Memory<'p> {
        let mut last_use = vec![None; program.buffers.len()];
        for (i, step) in program.steps.iter().enumerate() {
            for port in &step.writes {
                last_use[port.buffer.index()] = Some((i, false));
            }
            for port in &step.reads {
                last_use[port.buffer.index()] = Some((i, true));
            }
        }
        let arena = (placement == Placement::Arena).then(|| vec![POISON; program.plan.arena_bytes]);
        Memory { program, apart: vec![None; program.buffers.len()], arena, last_use }
    }

    /// The offset of a buffer that lives in the arena.
    fn offset(&self, buffer: usize) -> Option<usize> {
        self.arena.as_ref()?;
        self.program.plan.offsets[buffer]
    }

    /// A buffer's contents; poison where nothing was written yet.
    pub fn get(&self, buffer: usize) -> Cow<'_, Tensor> {
        let decl = &self.program.buffers[buffer];
        if let Some(t) = &self.apart[buffer] {
            return Cow::Borrowed(t);
        }
        let mut t = Tensor::zeros(decl.dtype, &decl.shape);
        let bytes = t.bytes_mut();
        match (self.offset(buffer), &self.arena) {
            (Some(offset), Some(arena)) => bytes.copy_from_slice(&arena[offset..][..bytes.len()]),
            _ => bytes.fill(POISON),
        }
        if decl.dtype == DType::Bool {
            bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
        }
        Cow::Owned(t)
    }

    /// Replaces a buffer's contents.
    pub fn put(&mut self, buffer: usize, t: Tensor) {
        match (self.offset(buffer), &mut self.arena) {
            (Some(offset), Some(arena)) => arena[offset..][..t.bytes().len()].copy_from_slice(t.bytes()),
            _ => self.apart[buffer] = Some(t),
        }
    }

    /// Forgets the temporaries that a step was the last to read, before its results are written: they
    /// may take their place.
    pub fn free_after(&mut self, step: usize) {
        self.free(Some((step, true)));
    }

    /// Forgets the temporaries that a step was the last to write and that nothing reads.
    pub fn free_unread(&mut self, step: usize) {
        self.free(Some((step, false)));
    }

    fn free(&mut self, last_use: Option<(usize, bool)>) {
        for (i, decl) in self.program.buffers.iter().enumerate() {
            if decl.kind != BufferKind::Temp || self.last_use[i] != last_use {
                continue;
            }
            self.apart[i] = None;
            if let (Some(offset), Some(arena)) = (self.offset(i), &mut self.arena) {
                arena[offset..][..decl.bytes()].fill(POISON);
            }
        }
    }
}
