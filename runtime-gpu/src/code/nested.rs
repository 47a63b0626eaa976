//! Steps with Programs of their own: loops and branches, driven by the host.

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Branch, BufferId, Loop, Program, Step, While};

use super::{Builder, ENV, Item};
use crate::place::{Place, Slice};
use crate::wgsl::{Grid, Shader};

/// Loops within loops, at most: as many as there are words for their iterations.
const MAX_DEPTH: usize = 7;

/// Loops whose bodies are made twice, by depth.
const ALTERNATING_DEPTH: usize = 2;

impl Builder {
    /// One of two Programs, by what a condition is on the device.
    pub(super) fn branch(
        &mut self,
        step: &Step,
        branch: &Branch,
        place: &dyn Fn(BufferId) -> Result<Place>,
        depth: usize,
        commits: bool,
    ) -> Result<()> {
        let flag = self.scratch_flag(&place(step.reads[0].buffer)?, commits);
        let mut sides = Vec::new();
        for side in [&branch.then, &branch.otherwise] {
            let inner = side.inputs.iter().chain(&side.outputs);
            let outer = step.reads[1..].iter().chain(&step.writes);
            let mut bound = vec![None; side.buffers.len()];
            for (id, port) in inner.zip(outer) {
                bound[id.index()] = Some(place(port.buffer)?);
            }
            sides.push(self.apart(|b| b.program(side, bound, depth, Some(commits)))?);
        }
        let otherwise = sides.pop().unwrap_or_default();
        let then = sides.pop().unwrap_or_default();
        self.items.push(Item::Branch(flag, [then, otherwise]));
        self.give(flag);
        Ok(())
    }

    /// Sets the iterations that a loop has done to 0, or adds one.
    fn count(&mut self, depth: usize, more: bool) {
        let mut shader = Shader::new(1, false);
        let env = shader.bind(&Place::whole(ENV, DType::U32), true);
        let word = depth + 1;
        shader.line(if more {
            format!("{env}[{word}] = {env}[{word}] + 1u;")
        } else {
            format!("{env}[{word}] = 0u;")
        });
        self.launch(shader, Grid::of(1));
    }

    /// A loop whose iterations are counted.
    pub(super) fn counted(
        &mut self,
        step: &Step,
        l: &Loop,
        place: &dyn Fn(BufferId) -> Result<Place>,
        depth: usize,
        commits: bool,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::new(format!("loops are nested more than {MAX_DEPTH} deep")));
        }
        let body = &l.body;
        let elements = |id: BufferId| body.buffer(id).shape.iter().product::<usize>();
        let (first, after) = (l.invariants, l.invariants + l.carries);
        let stacks = || {
            let reads = body.inputs.iter().zip(&step.reads).skip(after);
            reads.chain(body.outputs.iter().zip(&step.writes).skip(l.carries))
        };
        // All slices of some iterations are seen through one window.
        let mut chunk = l.length;
        for (id, port) in stacks() {
            if self.is_large(place(port.buffer)?.mem) {
                chunk = chunk.min(self.in_window() / elements(*id).max(1));
            }
        }
        let chunk = chunk.max(1);
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (id, port) in body.inputs.iter().zip(&step.reads).take(after).skip(first) {
            let outer = place(port.buffer)?;
            let [own, next] = [(); 2].map(|()| Place::whole(self.take(elements(*id)), outer.dtype));
            self.copy(&outer, &own, elements(*id), commits);
            from.push(own);
            to.push(next);
        }
        if l.length > 0 {
            self.count(depth, false);
        }
        for done in (0..l.length).step_by(chunk) {
            let count = chunk.min(l.length - done);
            let span = match l.reverse {
                false => [done, done + count - 1],
                true => [l.length - done - count, l.length - done - 1],
            };
            let slice = |outer: Place, id: BufferId| {
                let reversed = l.reverse.then_some(l.length);
                let slice = Slice { depth, elements: elements(id), reversed, span };
                Place { slices: [&outer.slices[..], &[slice]].concat(), ..outer }
            };
            let iteration = |b: &mut Builder, from: &[Place], to: &[Place], back: bool| {
                let mut bound = vec![None; body.buffers.len()];
                for (k, (id, port)) in body.inputs.iter().zip(&step.reads).enumerate() {
                    bound[id.index()] = Some(match k {
                        _ if k < first => place(port.buffer)?,
                        _ if k < after => from[k - first].clone(),
                        _ => slice(place(port.buffer)?, *id),
                    });
                }
                for (k, (id, port)) in body.outputs.iter().zip(&step.writes).enumerate() {
                    bound[id.index()] = Some(match to.get(k) {
                        Some(carry) => carry.clone(),
                        None => slice(place(port.buffer)?, *id),
                    });
                }
                b.apart(|b| {
                    b.program(body, bound, depth + 1, Some(commits))?;
                    if back {
                        for ((id, from), to) in body.outputs.iter().zip(to).zip(from) {
                            b.copy(from, to, elements(*id), commits);
                        }
                    }
                    b.count(depth, true);
                    Ok(())
                })
            };
            // Carries alternate between two places, in a body for either direction; bodies of bodies would multiply.
            let alternates = count > 1 && depth < ALTERNATING_DEPTH;
            let once = iteration(self, &from, &to, count > 1 && !alternates)?;
            if alternates {
                let back = iteration(self, &to, &from, false)?;
                self.items.push(Item::Repeat(count / 2, [&once[..], &back].concat()));
            } else if count > 1 {
                self.items.push(Item::Repeat(count, once));
                continue;
            }
            if !count.is_multiple_of(2) {
                self.items.extend(once);
                std::mem::swap(&mut from, &mut to);
            }
        }
        for ((value, id), port) in from.iter().zip(&body.outputs).zip(&step.writes) {
            self.copy(value, &place(port.buffer)?, elements(*id), commits);
        }
        from.iter().chain(&to).for_each(|place| self.give(place.mem));
        Ok(())
    }

    /// A loop that the device's answers end.
    pub(super) fn conditional(
        &mut self,
        step: &Step,
        w: &While,
        place: &dyn Fn(BufferId) -> Result<Place>,
        depth: usize,
        commits: bool,
    ) -> Result<()> {
        let elements = |id: BufferId| w.body.buffer(id).shape.iter().product::<usize>();
        let flag = self.take(1);
        let mut inputs = Vec::new();
        let mut carries = Vec::new();
        for (k, (id, port)) in w.body.inputs.iter().zip(&step.reads).enumerate() {
            let outer = place(port.buffer)?;
            inputs.push(if k < w.invariants {
                outer
            } else {
                let own = Place::whole(self.take(elements(*id)), outer.dtype);
                self.copy(&outer, &own, elements(*id), commits);
                carries.push((own.clone(), elements(*id)));
                own
            });
        }
        let bind = |program: &Program, outputs: &[Place]| {
            let mut bound = vec![None; program.buffers.len()];
            let ids = program.inputs.iter().chain(&program.outputs);
            ids.zip(inputs.iter().chain(outputs))
                .for_each(|(id, place)| bound[id.index()] = Some(place.clone()));
            bound
        };
        let next: Vec<Place> = carries.iter().map(|(c, n)| Place::whole(self.take(*n), c.dtype)).collect();
        let condition = bind(&w.condition, &[Place::whole(flag, DType::Bool)]);
        let condition = self.apart(|b| b.program(&w.condition, condition, depth, Some(commits)))?;
        let body = bind(&w.body, &next);
        let body = self.apart(|b| {
            b.program(&w.body, body, depth, Some(commits))?;
            for ((old, elements), new) in carries.iter().zip(&next) {
                b.copy(new, old, *elements, commits);
            }
            Ok(())
        })?;
        self.items.push(Item::While(condition, flag, body));
        for ((value, elements), port) in carries.iter().zip(&step.writes) {
            self.copy(value, &place(port.buffer)?, *elements, commits);
        }
        let own = carries.iter().map(|c| c.0.mem).chain(next.iter().map(|n| n.mem)).chain([flag]);
        own.collect::<Vec<_>>().into_iter().for_each(|mem| self.give(mem));
        Ok(())
    }
}
