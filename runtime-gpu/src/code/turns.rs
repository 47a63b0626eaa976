//! Steps in pieces where the loops of an invocation would turn more often than the driver lets them.
//!
//! How often they turn is known when their shaders are written. A step is written whole first; where that is too much, its axes
//! are halved until what is written for a piece turns no more often than it may.

use graphc_ir::error::{Error, Result};
use graphc_ir::program::Kernel;

use super::axes::{Axes, Cut};
use super::memory::Pool;
use super::pieces::{MOST, cut, group, half};
use super::{Builder, Item, SMALLER};
use crate::kernels::{self, Work};

/// What a builder had at a time.
struct Mark {
    items: usize,
    shaders: usize,
    memory: usize,
    scratch: usize,
    pool: Pool,
    refused: bool,
}

impl Builder {
    /// Whether pieces are made for the sake of turns.
    pub fn turns_count(&self) -> bool {
        self.counts_turns
    }

    /// Adds the launches of a step without nested Programs, in pieces where it has to be.
    pub fn add(&mut self, work: Work) -> Result<()> {
        let Some(limit) = self.caps.turns else { return self.make(work) };
        let mark = self.mark();
        self.make(work.clone())?;
        if self.turns_since(&mark) <= limit {
            return Ok(());
        }
        self.back_to(&mark);
        self.counts_turns = true;
        let made = self.make(work);
        self.counts_turns = false;
        made?;
        match self.turns_since(&mark) {
            turns if turns > limit => Err(too_many(turns, limit)),
            _ => Ok(()),
        }
    }

    /// Sizes of pieces along each axis whose loops turn no more often than they may, given sizes that may do so, of which there
    /// are so many.
    pub fn sizes_to_turn(
        &mut self,
        work: &Work,
        axes: &Axes,
        mut sizes: Vec<usize>,
        mut pieces: usize,
    ) -> Result<Vec<usize>> {
        let limit = self.caps.turns.unwrap_or(usize::MAX);
        let mut turns = self.turns_of(work, axes, &sizes)?;
        while turns > limit {
            let mut best = None;
            for a in (0..sizes.len()).filter(|a| axes.axes[*a].cut != Cut::Never && sizes[*a] > 1) {
                let mut halved = sizes.clone();
                halved[a] = half(sizes[a]);
                let fewer = self.turns_of(work, axes, &halved)?;
                if best.as_ref().is_none_or(|(least, _)| fewer < *least) {
                    best = Some((fewer, halved));
                }
            }
            pieces *= 2;
            match best {
                Some((fewer, halved)) if fewer < turns && pieces <= MOST => (turns, sizes) = (fewer, halved),
                _ => return Err(too_many(turns, limit)),
            }
        }
        Ok(sizes)
    }

    /// How often loops turn at most where pieces have these sizes.
    fn turns_of(&mut self, work: &Work, axes: &Axes, sizes: &[usize]) -> Result<usize> {
        let first = cut(axes, sizes, Cut::Results).into_iter().next().unwrap_or_default();
        let mut group = group(work, axes, sizes, &first);
        if !matches!(work.kernel, Kernel::Nest(_)) {
            // The others take no longer.
            group.truncate(1);
        }
        let mark = self.mark();
        self.join(&mut group);
        let built = kernels::build(self, &group);
        let turns = self.turns_since(&mark);
        self.back_to(&mark);
        built.map(|()| turns)
    }

    fn mark(&self) -> Mark {
        Mark {
            items: self.items.len(),
            shaders: self.shaders.len(),
            memory: self.memory.len(),
            scratch: self.scratch.len(),
            pool: self.pool.clone(),
            refused: self.refused.is_some(),
        }
    }

    /// Forgets what was added since.
    fn back_to(&mut self, mark: &Mark) {
        self.items.truncate(mark.items);
        self.shaders.truncate(mark.shaders);
        self.numbers.retain(|_, number| *number < mark.shaders);
        self.memory.truncate(mark.memory);
        self.scratch.truncate(mark.scratch);
        self.pool = mark.pool.clone();
        self.refused = self.refused.take().filter(|_| mark.refused);
    }

    /// How often the loops of a shader turn at most that was launched since.
    fn turns_since(&self, mark: &Mark) -> usize {
        let turns = |item: &Item| match item {
            Item::Launch(launch) => self.shaders[launch.shader].turns,
            _ => 0,
        };
        self.items[mark.items..].iter().map(turns).max().unwrap_or(0)
    }
}

/// The error of loops that turn too often.
fn too_many(turns: usize, limit: usize) -> Error {
    let text = format!(
        "a shader of this step would go through its loops {turns} times, but this GPU's driver ends them after {limit} times"
    );
    Error::new(text).help(SMALLER)
}
