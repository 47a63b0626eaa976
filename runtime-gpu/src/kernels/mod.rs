//! Kernels: the shaders of each kind of step.

mod columns;
mod conv;
mod dot;
mod indexed;
mod map;
mod nest;
mod pool;
mod rows;
mod tiled;
mod tiles;
mod window;

pub use tiles::Tiles;

use std::ops::Range;

use graphc_ir::error::Result;
use graphc_ir::program::{Body, FoldAxis, InstOp, Kernel, Store, View};

use crate::caps::GpuCaps;
use crate::code::Builder;
use crate::place::{Place, VECTOR};
use crate::wgsl::{Grid, Index, Leaf, Names, Printer, Shader, needed};

/// A port: where its buffer lies, and how the kernel's domain addresses it.
pub type Port = (Place, View);

/// A step, or a piece of one, to be made into launches.
#[derive(Clone)]
pub struct Work {
    /// What is computed.
    pub kernel: Kernel,
    /// Its read ports.
    pub reads: Vec<Port>,
    /// Its write ports.
    pub writes: Vec<Port>,
    /// Whether it does nothing after a failure.
    pub commits: bool,
    /// Numbers of the failures of the body's checks, or of a bad index.
    pub failures: Vec<usize>,
    /// The coordinates of the step's domain that this piece's begins at; nothing stands for zeros.
    pub origin: Vec<usize>,
    /// The part of what gathers and scatters look up that this piece has; the kernel has the whole.
    pub looked_up: Option<Range<usize>>,
    /// The part of each window along its dims that this piece sums or compares; nothing stands for all.
    pub taps: Vec<Range<usize>>,
    /// What pieces of a maximum leave for each other.
    pub leaves: Option<Leaves>,
}

/// The best elements of windows so far and their numbers, or -1, which pieces of windows go on from and leave.
#[derive(Clone)]
pub struct Leaves {
    /// The memory of both, one of each for each element of the result.
    pub best: [Place; 2],
    /// Whether there was a piece before.
    pub goes_on: bool,
    /// Whether this is the last piece, which makes the results.
    pub last: bool,
}

/// The views of a kernel's ports, where all of them are dense; reads come first.
pub fn dense(kernel: &Kernel) -> Option<Vec<View>> {
    let shapes: Vec<Vec<usize>> = match *kernel {
        Kernel::Gather { outer, axis, inner, count } => {
            vec![vec![outer, axis, inner], vec![count], vec![outer, count, inner]]
        }
        Kernel::ScatterAdd { outer, axis, inner, count } => {
            let table = vec![outer, axis, inner];
            vec![table.clone(), vec![count], vec![outer, count, inner], table]
        }
        _ => return None,
    };
    Some(shapes.iter().map(|shape| View::dense(shape)).collect())
}

/// Adds the launches of pieces of a step, without nested Programs, that make the same results in order.
///
/// # Errors
/// When a value does not fit a word.
pub fn build(b: &mut Builder, group: &[Work]) -> Result<()> {
    match &group[0].kernel {
        Kernel::Nest(_) => nest::build(b, group),
        _ => group.iter().try_for_each(|work| build_one(b, work)),
    }
}

fn build_one(b: &mut Builder, work: &Work) -> Result<()> {
    match &work.kernel {
        Kernel::Nest(_) => nest::build(b, std::slice::from_ref(work)),
        Kernel::Dot(dot) => dot::build(b, work, dot),
        Kernel::Conv(conv) => conv::build(b, work, conv),
        Kernel::Pool(pool) => pool::build(b, work, pool),
        Kernel::ArgReduce { max, rows, cols } => indexed::arg_reduce(b, work, *max, rows, *cols),
        Kernel::Gather { outer, axis, inner, count } => {
            indexed::gather(b, work, [*outer, *axis, *inner, *count]);
            Ok(())
        }
        Kernel::ScatterAdd { outer, axis, inner, count } => {
            indexed::scatter_add(b, work, [*outer, *axis, *inner, *count]);
            Ok(())
        }
        Kernel::Repack { .. } | Kernel::RepackFilters { .. } => {
            Err(graphc_ir::Error::new("a GPU takes operands as they are"))
        }
        Kernel::Loop(_) | Kernel::While(_) | Kernel::Branch(_) => {
            Err(graphc_ir::Error::new("loops and branches are no kernels"))
        }
    }
}

/// Name of the way that a kernel goes on an adapter.
pub fn algorithm(kernel: &Kernel, caps: &GpuCaps) -> &'static str {
    let tiles = |tiles: &Tiles| match (tiles.shared, tiles.cuts) {
        (None, _) => "register tiles",
        (_, 1) => "shared tiles",
        _ => "shared tiles, k cut",
    };
    match kernel {
        Kernel::Dot(d) => {
            tiles(&tiles::choose(caps, tiles::Of::Matrices, [d.batch.iter().product(), d.m, d.n, d.k]))
        }
        Kernel::Conv(c) => conv::tiles(c, caps).as_ref().map_or("one invocation an element", tiles),
        Kernel::Nest(n) if n.body.folds(FoldAxis::Rows) => "chunks of rows",
        Kernel::Nest(n) if n.body.folds(FoldAxis::Cols) => "lanes of a row",
        Kernel::Loop(_) | Kernel::While(_) | Kernel::Branch(_) => "driven by the host",
        _ => "one invocation an element",
    }
}

/// Declares the coordinates of dims, given the expression of their flat number (`u32`), as variables with this prefix;
/// gives their names.
pub fn coordinates(shader: &mut Shader, prefix: &str, flat: &str, sizes: &[usize]) -> Vec<String> {
    let mut names = vec![String::new(); sizes.len()];
    let mut below = 1usize;
    for d in (0..sizes.len()).rev() {
        // Of an empty domain nothing is computed, but its text must be sound.
        let size = sizes[d].max(1);
        names[d] = if sizes[d] == 1 {
            "0".into()
        } else {
            let name = format!("{prefix}{d}");
            let part = if below == 1 { flat.to_owned() } else { format!("{flat} / {below}u") };
            let outermost = sizes[..d].iter().all(|s| *s == 1);
            let value = if outermost { part } else { format!("({part}) % {size}u") };
            shader.line(format!("let {name} = i32({value});"));
            name
        };
        below = below.saturating_mul(size);
    }
    names
}

/// Whether a body can be computed for four neighbours along the last dim of its domain at once: what it stores are
/// vectors then, but for what `narrow` says is one value for all of them, and what it both reads and stores too.
pub fn takes_vectors(
    body: &Body,
    reads: &[Port],
    writes: &[Port],
    sizes: &[usize],
    narrow: impl Fn(&Store) -> bool,
) -> bool {
    let Some(last) = sizes.len().checked_sub(1) else { return false };
    let vectors = |(place, view): &Port| place.in_vectors(view, last, sizes);
    let loaded = body.insts.iter().filter_map(|inst| match inst.op {
        InstOp::Load(port) => Some(&reads[port]),
        _ => None,
    });
    // A memory that is stored to is bound in one way alone.
    let mut sides = loaded.flat_map(|port| body.stores.iter().map(move |store| (port, store)));
    let mut stores = body.stores.iter();
    sizes[last].is_multiple_of(VECTOR)
        && stores.all(|s| narrow(s) || vectors(&writes[s.write]))
        && sides.all(|(port, s)| writes[s.write].0.mem != port.0.mem || (vectors(port) && !narrow(s)))
}

/// A kernel that makes one value for each element of its result, and hands it to an epilogue.
pub struct Epilogue<'a> {
    pub body: &'a Body,
    /// Dims of the result, of which the last is the column.
    pub sizes: Vec<usize>,
}

impl Epilogue<'_> {
    /// Whether it can take four neighbouring columns at once.
    pub fn takes_vectors(&self, work: &Work) -> bool {
        takes_vectors(self.body, &work.reads, &work.writes, &self.sizes, |_| false)
    }

    /// Whether it reads more than what the kernel made.
    pub fn loads(&self) -> bool {
        self.body.insts.iter().any(|inst| matches!(inst.op, InstOp::Load(_)))
    }

    /// Writes a function `epilogue` of the value and the coordinates, one parameter a dim of a size above 1.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn write(&self, shader: &mut Shader, work: &Work) -> Result<()> {
        self.write_as(shader, work, false, 1)
    }

    /// The same for several elements at once, each with a value and coordinates: what they read does not wait for what
    /// others store then. Values are vectors of those of four neighbouring columns, if asked, with the first one's
    /// coordinates.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn write_as(&self, shader: &mut Shader, work: &Work, vectors: bool, elements: usize) -> Result<()> {
        let (leaves, indices) = (Leaf::new(), Index::all(self.body, &work.origin));
        let index = |i: usize| match &self.body.insts[i].op {
            InstOp::Index(strides) => strides.last().copied().unwrap_or(0),
            _ => 0,
        };
        let names = match vectors {
            true => Names::neighbours(self.body, |port| &work.reads[port].1, index, |_| false),
            false => Names::single(),
        };
        let mut parameters = Vec::new();
        let accs: Vec<String> = (0..elements).map(|e| format!("acc{e}")).collect();
        let mut printers = Vec::new();
        for (e, acc) in accs.iter().enumerate() {
            parameters.push(format!("{acc}: {}", if vectors { "vec4<f32>" } else { "f32" }));
            let coordinate = |d: usize| if self.sizes[d] == 1 { "0".into() } else { format!("x{e}_{d}") };
            let coordinates: Vec<String> = (0..self.sizes.len()).map(coordinate).collect();
            parameters.extend(coordinates.iter().filter(|c| *c != "0").map(|c| format!("{c}: i32")));
            let names = match elements {
                1 => names.clone(),
                _ => names.tagged(format!("e{e}"), vec![true; self.body.insts.len()]),
            };
            printers.push(Printer {
                body: self.body,
                reads: &work.reads,
                writes: &work.writes,
                indices: &indices,
                sizes: &self.sizes,
                coordinates,
                acc: Some(acc),
                leaves: &leaves,
                names,
            });
        }
        let roots = self.body.stores.iter().map(|s| s.reg).chain(self.body.checks.iter().map(|c| c.reg));
        let mut insts = needed(self.body, roots, &|_| false, &leaves);
        insts.sort_by_key(|i| !matches!(self.body.insts[*i].op, InstOp::Load(_)));
        let mut text = format!("fn epilogue({}) {{\n", parameters.join(", "));
        for i in insts {
            for printer in &printers {
                text.push_str(&printer.print(shader, &[i])?);
            }
        }
        for printer in &printers {
            for (check, failure) in self.body.checks.iter().zip(&work.failures) {
                let fail = shader.fail(*failure);
                text.push_str(&format!("    if (!({})) {{ {fail} }}\n", printer.all(check.reg)));
            }
            for store in &self.body.stores {
                text.push_str(&format!("    {}\n", printer.store(shader, store)));
            }
        }
        text.push_str("}\n");
        shader.head.push_str(&text);
        Ok(())
    }

    /// A call of the function for one element, given the coordinates of all dims.
    pub fn call(&self, acc: &str, coordinates: &[String]) -> String {
        self.call_as(&[(acc.to_owned(), coordinates.to_vec())])
    }

    /// A call of the function for several.
    pub fn call_as(&self, elements: &[(String, Vec<String>)]) -> String {
        let mut arguments = Vec::new();
        for (acc, coordinates) in elements {
            arguments.push(acc.clone());
            let wide = coordinates.iter().zip(&self.sizes).filter(|(_, size)| **size != 1);
            arguments.extend(wide.map(|(c, _)| c.clone()));
        }
        format!("epilogue({});", arguments.join(", "))
    }
}

/// The invocations of a kernel of one invocation a result.
pub const LANES: usize = 64;

/// Begins a kernel of one invocation for each of `count` numbers, and declares the invocation's number `i`.
pub fn one_each(shader: &mut Shader, count: usize) -> Grid {
    let grid = Grid::of(count.div_ceil(shader.lanes));
    let lanes = shader.lanes;
    shader.line(format!("let i = {} * {lanes}u + lane;", Shader::group(grid)));
    shader.line(format!("if (i >= {count}u) {{ return; }}"));
    grid
}
