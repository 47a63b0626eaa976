//! Steps in pieces: what is larger than a shader may bind is bound in windows, by one dispatch after the other.
//!
//! A piece is a smaller step of the same kind over a part of some axes. The axes are cut into parts of one size, halved until
//! what each port of a piece extends over fits a binding; pieces of the same results share a group, in which each goes on
//! from what the one before left.

use std::ops::{Range, RangeInclusive};

use graphc_ir::DType;
use graphc_ir::error::{Error, Result};
use graphc_ir::program::{Body, Guard, InstOp, Kernel, Level, Pool, PoolKind, Reg, Store, View};
use graphc_ir::scalar::ScalarFn;

use super::axes::{Along, Axes, Axis, Cut};
use super::{Builder, SMALLER};
use crate::kernels::{Leaves, Port, Work};
use crate::place::{Mem, Place, VECTOR, Window};

/// Pieces of a step, at most: more would take a GPU longer than a CPU.
pub const MOST: usize = 4096;

impl Builder {
    /// Words of an array that a shader may bind.
    fn limit(&self) -> usize {
        self.caps.binding_bytes / size_of::<u32>() / VECTOR * VECTOR
    }

    /// Words between the places where windows may begin.
    fn alignment(&self) -> usize {
        self.caps.window_alignment / size_of::<u32>()
    }

    /// Words of a memory, with those that make it whole vectors.
    fn whole(&self, mem: Mem) -> usize {
        self.memory[mem.0].words.next_multiple_of(VECTOR)
    }

    /// Whether a memory has to be bound in windows.
    pub fn is_large(&self, mem: Mem) -> bool {
        self.whole(mem) > self.limit()
    }

    /// Elements of slices of a memory that one window can show.
    pub fn in_window(&self) -> usize {
        self.limit().saturating_sub(self.alignment() + VECTOR).max(1)
    }

    /// The window of a memory with these words.
    fn window(&self, mem: Mem, words: &RangeInclusive<isize>) -> Option<Window> {
        if !self.is_large(mem) {
            return None;
        }
        let whole = self.whole(mem);
        let place = |word: isize| usize::try_from(word).unwrap_or(0).min(whole - VECTOR);
        let start = place(*words.start()) / self.alignment() * self.alignment();
        let end = (place(*words.end()) + 1).next_multiple_of(VECTOR).max(start + VECTOR);
        Some(Window { start, words: end - start })
    }

    /// A place whose dense elements with these numbers are in its window.
    pub fn seen(&self, place: &Place, elements: Range<usize>) -> Place {
        let words = place.words(&(elements.start as isize..=elements.end as isize - 1));
        Place { window: self.window(place.mem, &words), ..place.clone() }
    }

    /// The pieces of a step, in groups.
    pub fn pieces(&mut self, work: Work) -> Result<Vec<Vec<Work>>> {
        let mut ports = work.reads.iter().chain(&work.writes);
        if !self.turns_count() && !ports.any(|port| self.is_large(port.0.mem)) {
            return Ok(vec![vec![work]]);
        }
        let axes = Axes::of(&work);
        let sizes = self.sizes(&work, &axes)?;
        let mut groups = Vec::new();
        for of_results in cut(&axes, &sizes, Cut::Results) {
            let group = group(&work, &axes, &sizes, &of_results);
            // Of what other pieces store nothing may be left.
            let idle = |kernel: &Kernel| {
                let nothing = |body: &Body| body.stores.is_empty() && body.checks.is_empty();
                kernel.extra_writes() == 0 && kernel.swept().is_some_and(|s| nothing(s.body))
            };
            if group.iter().all(|piece| idle(&piece.kernel)) {
                continue;
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// Sizes of pieces along each axis.
    pub fn sizes(&mut self, work: &Work, axes: &Axes) -> Result<Vec<usize>> {
        let (sizes, pieces) = self.sizes_to_bind(work, axes)?;
        if self.turns_count() { self.sizes_to_turn(work, axes, sizes, pieces) } else { Ok(sizes) }
    }

    /// Sizes of pieces that shaders can bind, and how many there are at most.
    fn sizes_to_bind(&self, work: &Work, axes: &Axes) -> Result<(Vec<usize>, usize)> {
        let limit = self.limit();
        let excess = |sizes: &[usize]| -> (usize, usize) {
            let extents = self.extents(work, axes, sizes);
            let over = extents.iter().map(|words| words.saturating_sub(limit)).sum();
            (over, extents.into_iter().max().unwrap_or(0))
        };
        let mut sizes: Vec<usize> = axes.axes.iter().map(|a| a.size).collect();
        let (mut over, mut largest) = excess(&sizes);
        let mut pieces = 1usize;
        while over > 0 {
            let halved = |a: usize| {
                let mut halved = sizes.clone();
                halved[a] = half(sizes[a]);
                (excess(&halved), halved)
            };
            let cuttable = |a: &usize| axes.axes[*a].cut != Cut::Never && sizes[*a] > 1;
            let best = (0..sizes.len()).filter(cuttable).map(halved).min_by_key(|(excess, _)| excess.0);
            pieces *= 2;
            match best {
                Some(((less, most), halved)) if less < over && pieces <= MOST => {
                    (over, largest, sizes) = (less, most, halved);
                }
                _ => return Err(self.too_large(largest)),
            }
        }
        Ok((sizes, pieces))
    }

    /// The error of words that are more than a binding may have.
    pub fn too_large(&self, words: usize) -> Error {
        let (bytes, limit) = (words * size_of::<u32>(), self.caps.binding_bytes);
        let text = format!(
            "a piece of this step needs {bytes} bytes of a tensor at once, more than the {limit} bytes that a shader of this GPU \
             may bind"
        );
        Error::new(text).help(SMALLER)
    }

    /// The words that pieces of these sizes extend over in each memory that needs windows, at most.
    fn extents(&self, work: &Work, axes: &Axes, sizes: &[usize]) -> Vec<usize> {
        let along = |ports: &[Port], dims: &[Vec<Along>]| -> Vec<(Mem, RangeInclusive<isize>)> {
            let of = |((place, view), dims): (&Port, &Vec<Along>)| {
                let sizes: Vec<usize> = dims.iter().map(|along| axes.most(*along, sizes)).collect();
                (place.mem, place.words(&elements(view, &sizes)))
            };
            ports.iter().zip(dims).filter(|(port, _)| self.is_large(port.0.mem)).map(of).collect()
        };
        let (reads, writes) = (along(&work.reads, &axes.reads), along(&work.writes, &axes.writes));
        // Windows begin and end at whole places.
        let words = |(_, words): &(Mem, RangeInclusive<isize>)| {
            (words.end() - words.start() + 1) as usize + self.alignment() + VECTOR
        };
        shared(&reads, &writes).iter().map(words).collect()
    }

    /// Gives the ports of a piece their windows.
    fn see(&self, piece: &mut Work) {
        let axes = Axes::of(piece);
        let ranges: Vec<Range<usize>> = axes.axes.iter().map(|a| 0..a.size).collect();
        let sizes = |dims: &[Along]| -> Vec<usize> {
            dims.iter().map(|along| axes.range(*along, &ranges).len()).collect()
        };
        let along = |ports: &[Port], dims: &[Vec<Along>]| -> Vec<(Mem, RangeInclusive<isize>)> {
            let of = |((place, view), dims): (&Port, &Vec<Along>)| {
                (place.mem, place.words(&elements(view, &sizes(dims))))
            };
            ports.iter().zip(dims).map(of).collect()
        };
        let (reads, writes) = (along(&piece.reads, &axes.reads), along(&piece.writes, &axes.writes));
        let windows = shared(&reads, &writes).into_iter().map(|(mem, words)| self.window(mem, &words));
        let windows: Vec<Option<Window>> = windows.collect();
        for (port, window) in piece.reads.iter_mut().chain(&mut piece.writes).zip(windows) {
            port.0.window = window;
        }
    }

    /// Makes the pieces of a group go on from each other, where kernels do not by themselves, and gives them windows.
    pub fn join(&mut self, group: &mut [Work]) {
        let last = group.len() - 1;
        let sizes = group[0].kernel.swept().map_or(Vec::new(), |s| s.sizes());
        let is_max = |pool: &Pool| matches!(pool.kind, PoolKind::Max { .. });
        let sums = match &group[0].kernel {
            Kernel::Dot(_) | Kernel::Conv(_) => true,
            Kernel::Pool(pool) => !is_max(pool),
            _ => false,
        };
        if let Kernel::Pool(pool) = &group[0].kernel
            && last > 0
            && is_max(pool)
        {
            let words = sizes.iter().product();
            let best = [DType::F32, DType::I32].map(|dtype| Place::whole(self.scratch(words), dtype));
            for (i, piece) in group.iter_mut().enumerate() {
                piece.leaves = Some(Leaves { best: best.clone(), goes_on: i > 0, last: i == last });
            }
        }
        if last > 0 && sums {
            let sums = Place::whole(self.scratch(sizes.iter().product()), DType::F32);
            let sums = (sums, View::dense(&sizes));
            for (i, piece) in group.iter_mut().enumerate() {
                go_on(piece, &sums, i > 0, i == last);
            }
        }
        // Gathers find other elements each, and nests fold parts of rows.
        if let Kernel::ScatterAdd { .. } = group[0].kernel {
            let mut sum = group[0].writes[0].clone();
            // Sums of halves are rounded once, by the last piece.
            if sum.0.dtype.is_float() {
                sum.0.dtype = DType::F32;
                group[..last].iter_mut().for_each(|piece| piece.writes[0].0.dtype = DType::F32);
            }
            group[1..].iter_mut().for_each(|piece| piece.reads[0] = sum.clone());
        }
        if group
            .iter()
            .flat_map(|piece| piece.reads.iter().chain(&piece.writes))
            .any(|port| self.is_large(port.0.mem))
        {
            group.iter_mut().for_each(|piece| self.see(piece));
        }
    }
}

/// The parts of axes that pieces of these sizes have along those with this cut.
pub fn cut(axes: &Axes, sizes: &[usize], kind: Cut) -> Vec<Vec<Range<usize>>> {
    let part = |(axis, size): (&Axis, &usize)| if axis.cut == kind { *size } else { axis.size };
    let parts: Vec<usize> = axes.axes.iter().zip(sizes).map(part).collect();
    grid(axes.axes.iter().map(|axis| axis.size).zip(parts))
}

/// The pieces that make the same results together, those of these parts of the axes.
pub fn group(work: &Work, axes: &Axes, sizes: &[usize], of_results: &[Range<usize>]) -> Vec<Work> {
    let of = |of_terms: Vec<Range<usize>>| {
        let choose = |(a, axis): (usize, &Axis)| match axis.cut {
            Cut::Terms => of_terms[a].clone(),
            _ => of_results[a].clone(),
        };
        let ranges: Vec<Range<usize>> = axes.axes.iter().enumerate().map(choose).collect();
        piece(work, axes, &ranges)
    };
    cut(axes, sizes, Cut::Terms).into_iter().map(of).collect()
}

/// Every part of a grid of axes, given their sizes and those of parts: a range of each axis. The last axis goes first.
pub fn grid(axes: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<Range<usize>>> {
    let mut all = vec![Vec::new()];
    for (size, part) in axes {
        // An axis of no size is one part, too.
        let parts = (0..size.max(1)).step_by(part.max(1)).map(|lo| lo..(lo + part).min(size));
        let parts: Vec<Range<usize>> = parts.collect();
        let longer = |begun: &Vec<Range<usize>>| -> Vec<Vec<Range<usize>>> {
            let with = |part: &Range<usize>| begun.iter().chain([part]).cloned().collect();
            parts.iter().map(with).collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Half of a size, in whole vectors or more where that is no matter.
pub fn half(size: usize) -> usize {
    let half = size.div_ceil(2);
    match half {
        256.. => half.next_multiple_of(64),
        8.. => half.next_multiple_of(VECTOR),
        _ => half,
    }
}

/// The elements from the first to the last that a view over dims of these sizes may address.
fn elements(view: &View, sizes: &[usize]) -> RangeInclusive<isize> {
    let ends = view.strides.iter().zip(sizes).map(|(stride, size)| stride * size.saturating_sub(1) as isize);
    let (below, above) = ends.fold((0, 0), |(lo, hi), end| (lo + end.min(0), hi + end.max(0)));
    view.offset + below..=view.offset + above
}

/// The words of each port; those of a memory that is written are those of all of its ports, which are bound as one.
fn shared(
    reads: &[(Mem, RangeInclusive<isize>)],
    writes: &[(Mem, RangeInclusive<isize>)],
) -> Vec<(Mem, RangeInclusive<isize>)> {
    let all = || reads.iter().chain(writes);
    let of = |(mem, words): &(Mem, RangeInclusive<isize>)| {
        if !writes.iter().any(|write| write.0 == *mem) {
            return (*mem, words.clone());
        }
        let same = || all().filter(|other| other.0 == *mem);
        let start = same().map(|other| *other.1.start()).min().unwrap_or(*words.start());
        let end = same().map(|other| *other.1.end()).max().unwrap_or(*words.end());
        (*mem, start..=end)
    };
    all().map(of).collect()
}

/// The piece of a step with these parts of its axes.
pub fn piece(work: &Work, axes: &Axes, ranges: &[Range<usize>]) -> Work {
    let ports = |ports: &[Port], dims: &[Vec<Along>]| -> Vec<Port> {
        let of = |((place, view), dims): (&Port, &Vec<Along>)| {
            let ranges: Vec<Range<usize>> = dims.iter().map(|along| axes.range(*along, ranges)).collect();
            (place.clone(), part(view, &ranges))
        };
        ports.iter().zip(dims).map(of).collect()
    };
    let mut kernel = axes.piece(&work.kernel, ranges);
    let later = |a: usize| ranges[a].end < axes.axes[a].size && axes.axes[a].cut == Cut::Results;
    let cut: Vec<bool> =
        axes.domain.iter().map(|along| matches!(along, Along::Axis(a) if later(*a))).collect();
    let split = kernel.swept().map_or(0, |s| s.rows.len());
    if let Some(body) = body_of(&mut kernel) {
        // What has one value along an axis that is cut is stored by the last piece alone: earlier ones leave what it may
        // overwrite to those that still read it.
        let (rows, cols) = (cut[..split].contains(&true), cut[split..].contains(&true));
        let kept = |s: &Store| match body.inst(s.reg).level {
            Level::Elem => true,
            Level::Row => !cols,
            Level::Col => !rows,
            Level::Scalar => !rows && !cols,
        };
        let stores = body.stores.iter().copied().filter(kept).collect();
        body.stores = stores;
    }
    let looked_up =
        matches!(kernel, Kernel::Gather { .. } | Kernel::ScatterAdd { .. }).then(|| ranges[1].clone());
    let origin = axes.domain.iter().map(|along| axes.range(*along, ranges).start).collect();
    let is_part = axes.taps.clone().any(|a| ranges[a].len() < axes.axes[a].size);
    let taps = if is_part { ranges[axes.taps.clone()].to_vec() } else { work.taps.clone() };
    Work {
        kernel,
        reads: ports(&work.reads, &axes.reads),
        writes: ports(&work.writes, &axes.writes),
        commits: work.commits,
        failures: work.failures.clone(),
        origin,
        looked_up,
        taps,
        leaves: None,
    }
}

/// What a view addresses of a part of its domain.
fn part(view: &View, ranges: &[Range<usize>]) -> View {
    let moved: isize =
        view.strides.iter().zip(ranges).map(|(stride, range)| stride * range.start as isize).sum();
    let within = |bounds: &[usize]| -> Vec<usize> {
        bounds.iter().zip(ranges).map(|(b, range)| b.saturating_sub(range.start).min(range.len())).collect()
    };
    let guard = view.guard.as_ref();
    let guard = guard.map(|g| Guard { lo: within(&g.lo), hi: within(&g.hi), fill: g.fill });
    View { offset: view.offset + moved, strides: view.strides.clone(), guard }
}

fn body_of(kernel: &mut Kernel) -> Option<&mut Body> {
    match kernel {
        Kernel::Nest(nest) => Some(&mut nest.body),
        Kernel::Dot(dot) => Some(&mut dot.body),
        Kernel::Conv(conv) => Some(&mut conv.body),
        Kernel::Pool(pool) => Some(&mut pool.body),
        _ => None,
    }
}

/// Makes a piece of a sum add what pieces before it left, or leave its sums for the next.
fn go_on(piece: &mut Work, sums: &Port, adds: bool, last: bool) {
    let operands = piece.kernel.swept().map_or(0, |s| s.operands);
    let port = if last { piece.reads.len() } else { operands };
    let Some(body) = body_of(&mut piece.kernel) else { return };
    let is_acc: Vec<bool> = body.insts.iter().map(|inst| inst.op == InstOp::Acc).collect();
    let dtype = body.insts.iter().find(|inst| inst.op == InstOp::Acc).map_or(DType::F32, |inst| inst.dtype);
    let mut sum = Body::default();
    let mut result = sum.push(InstOp::Acc, &[], dtype, Level::Elem);
    if adds {
        let before = sum.push(InstOp::Load(port), &[], dtype, Level::Elem);
        result = sum.push(InstOp::Fn(ScalarFn::Add), &[result, before], dtype, Level::Elem);
    }
    if !last {
        sum.stores.push(Store { reg: result, write: 0 });
        *body = sum;
        piece.reads.truncate(operands);
        piece.reads.extend(adds.then(|| sums.clone()));
        piece.writes = vec![sums.clone()];
        return;
    }
    // The sum comes first, and takes the place of the accumulator.
    let moved = sum.insts.len() as u32;
    let new = |reg: Reg| if is_acc[reg.index()] { result } else { Reg(reg.0 + moved) };
    for inst in &mut body.insts {
        inst.args.iter_mut().for_each(|arg| *arg = new(*arg));
    }
    body.stores.iter_mut().for_each(|store| store.reg = new(store.reg));
    body.checks.iter_mut().for_each(|check| check.reg = new(check.reg));
    body.insts.splice(0..0, sum.insts);
    piece.reads.push(sums.clone());
}
