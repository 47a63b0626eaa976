//! What functions compute from state and constants alone: kept until a variable that it was computed from
//! changes, and shared by all functions and bindings that compute the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use graphc_cpu::memory::Block;
use graphc_cpu::{Executable, RunError, Workspace};
use graphc_ir::program::BufferKind;
use graphc_optimizer::staging;

use super::cpu::{no_memory, ran};
use crate::error::Result;
use crate::session::State;

/// The staged values of all functions that are compiled, by the content of what computes them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Mutex<Vec<([u8; 32], Weak<Slot>)>>,
}

/// The place of one Program's staged values.
#[derive(Debug, Default)]
struct Slot {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    current: Option<Arc<Staged>>,
    workspace: Option<Workspace>,
}

/// Staged values of one state of the variables.
#[derive(Debug)]
pub(super) struct Staged {
    versions: Vec<u64>,
    blocks: Vec<Block>,
}

/// A prepare Program, ready to run.
#[derive(Debug)]
pub(super) struct Prepare {
    executable: Executable,
    /// State variables that it has buffers for.
    states: Vec<usize>,
    /// Bytes of each result.
    sizes: Vec<usize>,
    slot: Arc<Slot>,
}

impl Registry {
    /// A prepare Program with its slot, which it shares with every equal one.
    pub fn prepare(&self, staged: &staging::Staged, executable: Executable) -> Prepare {
        let program = &staged.program;
        let hash = program.content_hash();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(_, slot)| slot.strong_count() > 0);
        let slot = match slots.iter().find(|(h, _)| *h == hash).and_then(|(_, slot)| slot.upgrade()) {
            Some(slot) => slot,
            None => {
                let slot = Arc::new(Slot::default());
                slots.push((hash, Arc::downgrade(&slot)));
                slot
            }
        };
        let mut states: Vec<usize> = program
            .buffers
            .iter()
            .filter_map(|b| if let BufferKind::State(i) = b.kind { Some(i) } else { None })
            .collect();
        states.sort_unstable();
        states.dedup();
        let sizes = program.outputs.iter().map(|b| program.buffer(*b).bytes()).collect();
        Prepare { executable, states, sizes, slot }
    }
}

impl Staged {
    /// The bytes of each value, in its form.
    pub fn buffers(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(Block::as_slice)
    }
}

impl Prepare {
    /// The values for the present state: those that are there, or new ones in their memory.
    pub fn staged(&self, state: &State) -> Result<Arc<Staged>> {
        let mut held = self.slot.lock();
        let versions = || self.states.iter().map(|i| state.version(*i));
        if let Some(current) = &held.current
            && current.versions.iter().copied().eq(versions())
        {
            return Ok(current.clone());
        }
        // Taken out: if computing fails, nothing is left that looks valid.
        let mut staged = match held.current.take() {
            Some(old) => old,
            None => Arc::new(self.empty()?),
        };
        if Arc::get_mut(&mut staged).is_none() {
            staged = Arc::new(self.empty()?);
        }
        if let Some(values) = Arc::get_mut(&mut staged) {
            let mut workspace = match held.workspace.take() {
                // Its executable may be another one of the same Program.
                Some(workspace) => workspace,
                None => self.executable.workspace().map_err(no_memory)?,
            };
            match self.compute(state, &mut values.blocks, &mut workspace) {
                Err(RunError::Workspace) => {
                    workspace = self.executable.workspace().map_err(no_memory)?;
                    self.compute(state, &mut values.blocks, &mut workspace).map_err(ran)?;
                }
                result => result.map_err(ran)?,
            }
            values.versions.clear();
            values.versions.extend(versions());
            held.workspace = Some(workspace);
        }
        held.current = Some(staged.clone());
        Ok(staged)
    }

    fn empty(&self) -> Result<Staged> {
        let blocks = self.sizes.iter().map(|bytes| Block::new(*bytes)).collect::<std::result::Result<_, _>>();
        Ok(Staged { versions: Vec::with_capacity(self.states.len()), blocks: blocks.map_err(no_memory)? })
    }

    fn compute(
        &self,
        state: &State,
        blocks: &mut [Block],
        workspace: &mut Workspace,
    ) -> std::result::Result<(), RunError> {
        let mut binding = self.executable.bind(workspace);
        for i in &self.states {
            if let Some(value) = state.here(*i) {
                binding = binding.state(*i, value.bytes())?;
            }
        }
        for (i, block) in blocks.iter_mut().enumerate() {
            binding = binding.output(i, block.as_mut_slice())?;
        }
        binding.run()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic while it was held left it without values, or with the former ones.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
