//! Nests: elementwise work, row clusters and reductions, on the way that fits their folds.

use std::collections::BTreeMap;

use graphc_ir::error::Result;
use graphc_ir::program::{Body, BodyCheck, FoldAxis, InstOp, Kernel, Level, Nest, Store, View};

use super::columns::Down;
use super::{Port, Work, columns, map, rows, takes_vectors};
use crate::code::Builder;
use crate::place::Place;
use crate::wgsl::{Index, Leaf, Names, Printer, Shader};

/// A body over a domain whose neighbouring dims were joined where all ports allow it.
pub struct Domain<'a> {
    pub body: &'a Body,
    pub rows: Vec<usize>,
    pub cols: Vec<usize>,
    pub reads: Vec<Port>,
    pub writes: Vec<Port>,
    /// What is made of coordinates, by instruction.
    pub indices: BTreeMap<usize, Index>,
    pub commits: bool,
}

/// What a launch over a domain has to do.
#[derive(Clone, Default)]
pub struct Task {
    pub stores: Vec<Store>,
    /// Checks and the numbers of their failures.
    pub checks: Vec<(BodyCheck, usize)>,
    /// Values that each row has, and the memory that takes them.
    pub kept: Vec<(usize, Place)>,
    /// Values that earlier launches left, and the memory that has them, one a row.
    pub given: Vec<(usize, Place)>,
    /// Folds down the columns that earlier launches left in parts.
    pub downs: Vec<Down>,
}

impl Task {
    /// The values that are at hand in a shader which declares `row` or `col`, as expressions.
    pub fn leaves(&self, shader: &mut Shader, body: &Body) -> Result<Leaf> {
        let mut leaves = Leaf::new();
        for (inst, place) in &self.given {
            let array = shader.bind(place, false);
            leaves.insert(*inst, format!("{array}[{}]", place.dense("i32(row)")));
        }
        for down in &self.downs {
            let call = down.merged(shader, body)?;
            leaves.insert(down.inst, call);
        }
        Ok(leaves)
    }
}

impl Domain<'_> {
    pub fn row_count(&self) -> usize {
        self.rows.iter().product()
    }

    pub fn col_count(&self) -> usize {
        self.cols.iter().product()
    }

    pub fn sizes(&self) -> Vec<usize> {
        [&self.rows[..], &self.cols].concat()
    }

    /// Whether four neighbouring columns can be computed at once; what is `narrow` is stored once for all of them.
    pub fn takes_vectors(&self, narrow: impl Fn(&Store) -> bool) -> bool {
        !self.cols.is_empty() && takes_vectors(self.body, &self.reads, &self.writes, &self.sizes(), narrow)
    }

    /// The last stride of an [`InstOp::Index`].
    fn last_index(&self, inst: usize) -> i64 {
        self.indices.get(&inst).and_then(|index| index.strides.last()).copied().unwrap_or(0)
    }

    /// What values are called where four neighbouring columns are computed at once; `fixed` ones are the same in all.
    pub fn neighbours(&self, fixed: impl Fn(usize) -> bool) -> Names {
        Names::neighbours(self.body, |port| &self.reads[port].1, |i| self.last_index(i), fixed)
    }

    /// Prints the body at coordinates; `sizes` are those of [`Domain::sizes`].
    pub fn printer<'s>(
        &'s self,
        sizes: &'s [usize],
        coordinates: Vec<String>,
        leaves: &'s Leaf,
    ) -> Printer<'s> {
        Printer {
            body: self.body,
            reads: &self.reads,
            writes: &self.writes,
            indices: &self.indices,
            sizes,
            coordinates,
            acc: None,
            leaves,
            names: Names::single(),
        }
    }
}

/// Adds the launches of a nest, given as pieces: those of one whose rows are folded have the same columns, each with the
/// next rows.
pub fn build(b: &mut Builder, pieces: &[Work]) -> Result<()> {
    let mut parts = Vec::new();
    for work in pieces {
        let Kernel::Nest(nest) = &work.kernel else { continue };
        let body = &nest.body;
        // Rows and columns are one where nothing sets them apart.
        let folds = body.insts.iter().any(|inst| matches!(inst.op, InstOp::Fold(..)));
        let apart = folds || body.stores.iter().any(|s| body.inst(s.reg).level != Level::Elem);
        let task = Task {
            stores: body.stores.clone(),
            checks: body.checks.iter().cloned().zip(work.failures.iter().copied()).collect(),
            ..Task::default()
        };
        parts.push((joined(work, nest, if apart { nest.rows.len() } else { 0 }), task));
    }
    let Some((first, task)) = parts.first() else { return Ok(()) };
    if first.body.folds(FoldAxis::Rows) {
        let task = task.clone();
        let domains: Vec<Domain<'_>> = parts.into_iter().map(|part| part.0).collect();
        return columns::build(b, &domains, &task);
    }
    parts.iter().try_for_each(|(domain, task)| match domain.body.folds(FoldAxis::Cols) {
        true => rows::build(b, domain, task),
        false => map::build(b, domain, task),
    })
}

/// The domain of a nest, whose first `split` dims are rows, with fewer dims where neighbours lie one stride apart in every port.
fn joined<'a>(work: &Work, nest: &'a Nest, split: usize) -> Domain<'a> {
    let sizes = [&nest.rows[..], &nest.cols].concat();
    let mut views: Vec<View> = work.reads.iter().chain(&work.writes).map(|p| p.1.clone()).collect();
    let mut indices = Index::all(&nest.body, &work.origin);
    let guarded = |views: &[View], d: usize, size: usize| {
        views.iter().filter_map(|v| v.guard.as_ref()).any(|g| g.lo[d] > 0 || g.hi[d] < size)
    };
    let mut sizes_left = sizes;
    let mut rows = split;
    let mut d = 0;
    while d + 1 < sizes_left.len() {
        let (outer, inner) = (sizes_left[d], sizes_left[d + 1]);
        let follows = |strides: &[isize]| strides[d] == strides[d + 1] * inner as isize || outer == 1;
        let fits = views.iter().all(|v| follows(&v.strides))
            && indices.values().all(|i| i.strides[d] == i.strides[d + 1] * inner as i64 || outer == 1)
            && !guarded(&views, d, outer)
            && !guarded(&views, d + 1, inner);
        // A row dim stays one, and a column dim too.
        if d + 1 == rows || !fits {
            d += 1;
            continue;
        }
        sizes_left[d] = outer * inner;
        sizes_left.remove(d + 1);
        for view in &mut views {
            view.strides.remove(d);
            if let Some(guard) = &mut view.guard {
                guard.lo.remove(d + 1);
                guard.hi.remove(d + 1);
                guard.hi[d] = sizes_left[d];
            }
        }
        indices.values_mut().for_each(|index| {
            index.strides.remove(d);
        });
        rows -= usize::from(d < rows);
        d = d.saturating_sub(1);
    }
    let (row_sizes, col_sizes) = sizes_left.split_at(rows);
    let mut views = views.into_iter();
    let ports = |ports: &[Port], views: &mut dyn Iterator<Item = View>| -> Vec<Port> {
        ports.iter().zip(views).map(|(port, view)| (port.0.clone(), view)).collect()
    };
    let reads = ports(&work.reads, &mut views);
    let writes = ports(&work.writes, &mut views);
    Domain {
        body: &nest.body,
        rows: row_sizes.to_vec(),
        cols: col_sizes.to_vec(),
        reads,
        writes,
        indices,
        commits: work.commits,
    }
}
