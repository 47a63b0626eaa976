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

use std::collections::BTreeMap;

use graphc_ir::error::Result;
use graphc_ir::program::{Body, FoldAxis, Kernel, Step, View};

use crate::caps::GpuCaps;
use crate::code::Builder;
use crate::place::Place;
use crate::wgsl::{Grid, Leaf, Printer, Shader, needed};

/// A port: where its buffer lies, and how the kernel's domain addresses it.
pub type Port = (Place, View);

/// A step to be made into launches.
pub struct Work<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its read ports.
    pub reads: Vec<Port>,
    /// Its write ports.
    pub writes: Vec<Port>,
    /// Whether it does nothing after a failure.
    pub commits: bool,
    /// Numbers of the failures of the body's checks, or of a bad index.
    pub failures: Vec<usize>,
}

/// Adds the launches of a step without nested Programs.
///
/// # Errors
/// When a value does not fit a word.
pub fn build(b: &mut Builder, work: &Work<'_>) -> Result<()> {
    match &work.step.kernel {
        Kernel::Nest(nest) => nest::build(b, work, nest),
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
    let tiles = |tiles: &tiles::Tiles| match (tiles.shared, tiles.cuts) {
        (None, _) => "register tiles",
        (_, 1) => "shared tiles",
        _ => "shared tiles, k cut",
    };
    match kernel {
        Kernel::Dot(d) => tiles(&tiles::choose(caps, [d.batch.iter().product(), d.m, d.n, d.k])),
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

/// A kernel that makes one value for each element of its result, and hands it to an epilogue.
pub struct Epilogue<'a> {
    pub body: &'a Body,
    /// Dims of the result, of which the last is the column.
    pub sizes: Vec<usize>,
}

impl Epilogue<'_> {
    /// Writes a function `epilogue` of the value and the coordinates, one parameter a dim of a size above 1.
    ///
    /// # Errors
    /// When a value does not fit a word.
    pub fn write(&self, shader: &mut Shader, work: &Work<'_>) -> Result<()> {
        let mut parameters = vec!["acc: f32".to_owned()];
        let coordinates: Vec<String> = (0..self.sizes.len())
            .map(|d| {
                if self.sizes[d] == 1 {
                    return "0".into();
                }
                parameters.push(format!("x{d}: i32"));
                format!("x{d}")
            })
            .collect();
        let (leaves, indices) = (Leaf::new(), BTreeMap::new());
        let printer = Printer {
            body: self.body,
            reads: &work.reads,
            writes: &work.writes,
            indices: &indices,
            sizes: &self.sizes,
            coordinates,
            acc: Some("acc"),
            leaves: &leaves,
        };
        let roots = self.body.stores.iter().map(|s| s.reg).chain(self.body.checks.iter().map(|c| c.reg));
        let insts = needed(self.body, roots, &|_| false, &leaves);
        let mut text = format!("fn epilogue({}) {{\n", parameters.join(", "));
        text.push_str(&printer.print(shader, &insts)?);
        for (check, failure) in self.body.checks.iter().zip(&work.failures) {
            let fail = shader.fail(*failure);
            text.push_str(&format!("    if (!v{}) {{ {fail} }}\n", check.reg.index()));
        }
        for store in &self.body.stores {
            text.push_str(&format!("    {}\n", printer.store(shader, store)));
        }
        text.push_str("}\n");
        shader.head.push_str(&text);
        Ok(())
    }

    /// A call of the function, given the coordinates of all dims.
    pub fn call(&self, acc: &str, coordinates: &[String]) -> String {
        let wide =
            coordinates.iter().zip(&self.sizes).filter(|(_, size)| **size != 1).map(|(c, _)| c.clone());
        let arguments: Vec<String> = std::iter::once(acc.to_owned()).chain(wide).collect();
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
