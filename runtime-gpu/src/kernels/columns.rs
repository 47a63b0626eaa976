//! Folds down the columns: workgroups go down chunks of rows, each lane every so many rows, merge their lanes' states and
//! leave them in memory; a second launch merges the chunks in order.
//!
//! Where rows are folded too, a launch before the others leaves what the rows have. Results are stored by the last launch
//! that reads what they may overwrite.

use std::collections::BTreeSet;

use graphc_ir::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Body, FoldAxis, Level, Reg};

use super::nest::{Domain, Task};
use super::{LANES, coordinates, map, rows};
use crate::caps::{Class, GpuCaps};
use crate::code::Builder;
use crate::place::{Place, VECTOR};
use crate::wgsl::{FoldCode, Grid, Leaf, Shader, needed, repeat};
use crate::words::Word;

/// Chunks of rows, at most.
const MAX_CHUNKS: usize = 64;
/// Rows of a chunk for each lane, at least.
const MIN_ROWS: usize = 4;
/// Columns, or groups of four, that a workgroup goes down side by side, at most.
const COLUMNS: usize = 32;
/// Workgroups for each of those that keep a device busy.
const WAVES: usize = 4;
/// Chunks whose states are read at once.
const TOGETHER: usize = 8;

/// How rows and columns are shared out.
#[derive(Clone, Copy)]
struct Shares {
    rows: usize,
    cols: usize,
    /// Columns that a lane folds, which are neighbours.
    vector: usize,
    /// Lanes side by side.
    across: usize,
    /// Lanes above each other, each of which takes every so many rows.
    down: usize,
    /// Rows of a chunk.
    chunk: usize,
    chunks: usize,
}

impl Shares {
    /// The rows are one of so many parts of the columns' rows, which have so many chunks together at most.
    fn of(caps: &GpuCaps, [rows, cols]: [usize; 2], vectors: bool, (parts, most): (usize, usize)) -> Shares {
        let software = caps.class == Class::Software;
        let vector = if vectors && !software { VECTOR } else { 1 };
        let units = cols / vector;
        let across = units.next_power_of_two().clamp(1, COLUMNS);
        let lanes = if software { LANES } else { 256.min(caps.workgroup_lanes) };
        let down = lanes / across;
        let strips = units.div_ceil(across).max(1);
        let wanted = (WAVES * caps.busy).div_ceil(strips * parts).min(rows.div_ceil(MIN_ROWS * down)).max(1);
        let wanted = if wanted > TOGETHER { wanted.next_multiple_of(TOGETHER) } else { wanted };
        // Of no rows there are no states.
        let chunks = if rows == 0 { 0 } else { wanted.min(MAX_CHUNKS).min((most / parts).max(1)) };
        Shares { rows, cols, vector, across, down, chunk: rows.div_ceil(chunks.max(1)), chunks }
    }
}

/// A fold down the columns, and where the states of its chunks lie: an array a field, each of chunks by columns.
#[derive(Clone)]
pub struct Down {
    /// The instruction.
    pub inst: usize,
    code: FoldCode,
    states: Vec<Place>,
    chunks: usize,
    cols: usize,
}

impl Down {
    /// The same with the states of chunks from this one on.
    fn below(&self, chunk: usize) -> Down {
        let states = self.states.iter().map(|place| place.clone().at(chunk * self.cols)).collect();
        Down { states, ..self.clone() }
    }

    /// Writes the function that merges the chunks of a column in order, and gives a call of it.
    pub fn merged(&self, shader: &mut Shader, body: &Body) -> Result<String> {
        let Down { inst, code, states, chunks, cols } = self;
        let arrays: Vec<String> = states.iter().map(|place| shader.bind(place, false)).collect();
        let fields = code.fields();
        let mut text = format!("fn merged{inst}(col: u32) -> {} {{\n", code.word().name());
        text.push_str(&code.declare("f_")?);
        // What is read does not wait for what is merged.
        let together = if chunks.is_multiple_of(TOGETHER) { TOGETHER } else { 1 };
        let head = format!("var chunk = 0u; chunk < {chunks}u; chunk += {together}u");
        text.push_str(&format!("    {}\n", repeat(&head, chunks.div_ceil(together))));
        for c in 0..together {
            for (n, (field, _)) in fields.iter().enumerate() {
                let at = states[n].dense(&format!("i32((chunk + {c}u) * {cols}u + col)"));
                text.push_str(&format!("    let r{c}{field} = {}[{at}];\n", arrays[n]));
            }
        }
        for c in 0..together {
            text.push_str(&format!("    {}\n", code.merge("f_", &|field| format!("r{c}{field}"))));
        }
        text.push_str(&format!("    }}\n    return {};\n}}\n", code.result("f_")));
        shader.head.push_str(&text);
        let column = if body.insts[*inst].level == Level::Scalar { "0u" } else { "col" };
        Ok(format!("merged{inst}({column})"))
    }
}

/// Adds the launches of a task that folds columns, over domains of the same columns that have the next rows each.
pub fn build(b: &mut Builder, domains: &[Domain<'_>], task: &Task) -> Result<()> {
    let first = &domains[0];
    let (body, cols) = (first.body, first.col_count());
    let fold = |i: usize, axis| FoldCode::of(&body.insts[i], axis);
    let wide = |r: Reg| body.inst(r).level == Level::Elem && !body.inst(r).post;
    let roots: Vec<Reg> =
        task.stores.iter().map(|s| s.reg).chain(task.checks.iter().map(|c| c.0.reg)).collect();
    let all = needed(body, roots, &|_| false, &Leaf::new());
    let mut downs = Vec::new();
    for i in all.iter().copied() {
        let Some(code) = fold(i, FoldAxis::Rows) else { continue };
        downs.push(Down { inst: i, code, states: Vec::new(), chunks: 0, cols });
    }
    let states = downs.iter().map(|d| d.code.fields().len()).sum::<usize>() * cols * size_of::<u32>();
    let most = b.caps().binding_bytes / states.max(1);
    let share = |domain: &Domain<'_>| {
        let vectors = domain.takes_vectors(|s| !wide(s.reg));
        Shares::of(b.caps(), [domain.row_count(), cols], vectors, (domains.len(), most))
    };
    let shares: Vec<Shares> = domains.iter().map(share).collect();
    let chunks = shares.iter().map(|s| s.chunks).sum();
    downs.iter_mut().for_each(|d| d.chunks = chunks);
    let fields = downs.iter().flat_map(|d| d.code.fields()).map(|(_, word)| (word, chunks * cols)).collect();
    let mut places = together(b, fields).into_iter();
    for d in &mut downs {
        d.states = places.by_ref().take(d.code.fields().len()).collect();
    }

    let post = |r: Reg| body.inst(r).post;
    let checks = |after: bool| task.checks.iter().filter(move |c| post(c.0.reg) == after).cloned();
    // But for whole results, what is left is one value a row, one a column, or one.
    let narrow = |level: fn(Level) -> bool| {
        let fits = move |s: &&graphc_ir::program::Store| !wide(s.reg) && level(body.inst(s.reg).level);
        task.stores.iter().filter(fits).copied().collect::<Vec<_>>()
    };
    let by_row = narrow(|level| level == Level::Row);
    let along: Vec<usize> =
        all.iter().copied().filter(|i| !body.insts[*i].post && fold(*i, FoldAxis::Cols).is_some()).collect();
    let mut above = 0;
    for (domain, shares) in domains.iter().zip(shares) {
        // What rows have, for the launches below.
        let mut given = Vec::new();
        if !along.is_empty() {
            let word = |i: &usize| Word::of(body.insts[*i].dtype).unwrap_or(Word::F32);
            let places = together(b, along.iter().map(|i| (word(i), domain.row_count())).collect());
            let kept: Vec<(usize, Place)> = along.iter().copied().zip(places).collect();
            rows::build(b, domain, &Task { kept: kept.clone(), ..Task::default() })?;
            given.extend(kept);
        }
        let own: Vec<Down> = downs.iter().map(|d| d.below(above)).collect();
        above += shares.chunks;
        down(
            b,
            domain,
            &Task {
                stores: task.stores.iter().filter(|s| wide(s.reg)).copied().collect(),
                checks: checks(false).collect(),
                given: given.clone(),
                ..Task::default()
            },
            &own,
            shares,
        )?;
        if !by_row.is_empty() {
            map::build(b, domain, &Task { stores: by_row.clone(), given, ..Task::default() })?;
        }
    }
    let stores = narrow(|level| level != Level::Row);
    let last = Task { stores, checks: checks(true).collect(), downs, ..Task::default() };
    if last.stores.is_empty() && last.checks.is_empty() {
        return Ok(());
    }
    finish(b, first, last)
}

/// Places for values of so many words each, those of one type in one memory: a shader binds few arrays.
fn together(b: &mut Builder, values: Vec<(Word, usize)>) -> Vec<Place> {
    let mut memory = [Word::F32, Word::I32, Word::U32].map(|word| {
        let of_word: Vec<usize> = values.iter().filter(|v| v.0 == word).map(|v| v.1).collect();
        (word, (!of_word.is_empty()).then(|| b.scratch(of_word.iter().sum())), 0)
    });
    let place = |(word, words): (Word, usize)| {
        let (_, mem, end) = memory.iter_mut().find(|m| m.0 == word)?;
        let place = Place::whole((*mem)?, dtype_of(word)).at(*end);
        *end += words;
        Some(place)
    };
    values.into_iter().filter_map(place).collect()
}

fn dtype_of(word: Word) -> DType {
    match word {
        Word::F32 => DType::F32,
        Word::I32 => DType::I32,
        Word::U32 => DType::U32,
    }
}

/// A workgroup for each strip of columns and chunk of rows: folds, and stores of whole results.
fn down(b: &mut Builder, domain: &Domain<'_>, task: &Task, downs: &[Down], shares: Shares) -> Result<()> {
    let Shares { rows, cols, vector, across, down, chunk, chunks } = shares;
    if rows * cols == 0 {
        return Ok(());
    }
    let body = domain.body;
    let mut shader = Shader::new(across * down, domain.commits);
    let units = cols / vector;
    let strips = units.div_ceil(across);
    let grid = Grid::of(strips * chunks);
    shader.line(format!("let work = {};", Shader::group(grid)));
    if grid.groups[1] > 1 {
        // Whole workgroups, so that barriers stay uniform.
        shader.line(format!("if (work >= {}u) {{ return; }}", strips * chunks));
    }
    shader.line(format!("let chunk = work / {strips}u;"));
    shader.line(format!("let unit = work % {strips}u * {across}u + lane % {across}u;"));
    shader.line(format!("let level = lane / {across}u;"));
    shader.line(format!("let col = min(unit, {}u) * {vector}u;", units - 1));
    let col_at = coordinates(&mut shader, "c", "col", &domain.cols);
    for d in downs {
        for lane in 0..vector {
            shader.line(d.code.declare(&format!("f{}_{lane}", d.inst))?);
        }
    }
    // Lanes without a column have no rows.
    shader.line(format!("let end = select(0u, min((chunk + 1u) * {chunk}u, {rows}u), unit < {units}u);"));
    let head = format!("var row = chunk * {chunk}u + level; row < end; row += {down}u");
    shader.line(repeat(&head, chunk.div_ceil(down)));
    let row_at = coordinates(&mut shader, "r", "row", &domain.rows);
    let leaves = task.leaves(&mut shader, body)?;
    let sizes = domain.sizes();
    let mut printer = domain.printer(&sizes, [row_at, col_at].concat(), &leaves);
    if vector > 1 {
        let by_row = |i: usize| matches!(body.insts[i].level, Level::Row | Level::Scalar);
        printer.names = domain.neighbours(|i| by_row(i) || leaves.contains_key(&i));
    }
    let roots = task
        .stores
        .iter()
        .map(|s| s.reg)
        .chain(task.checks.iter().map(|c| c.0.reg))
        .chain(downs.iter().map(|d| body.insts[d.inst].args[0]));
    let insts = needed(body, roots, &|_| false, &leaves);
    let text = printer.print(&mut shader, &insts)?;
    shader.main.push_str(&text);
    for (check, failure) in &task.checks {
        let fail = shader.fail(*failure);
        shader.line(format!("if (!({})) {{ {fail} }}", printer.all(check.reg)));
    }
    for d in downs {
        for lane in 0..vector {
            let x = printer.names.of(body.insts[d.inst].args[0].index(), lane);
            shader.line(d.code.take(&format!("f{}_{lane}", d.inst), &x));
        }
    }
    for store in &task.stores {
        let line = printer.store(&mut shader, store);
        shader.line(line);
    }
    shader.line("}");
    let words: BTreeSet<Word> = downs.iter().flat_map(|d| d.code.fields()).map(|(_, word)| word).collect();
    // One array for each field of a type that one fold has.
    let most = |word: Word| {
        let of = |d: &Down| d.code.fields().iter().filter(|f| f.1 == word).count();
        downs.iter().map(of).max().unwrap_or(0)
    };
    for word in &words {
        for n in 0..most(*word) {
            let name = word.name();
            shader.head.push_str(&format!("var<workgroup> w{name}{n}: array<{name}, {}>;\n", across * down));
        }
    }
    for d in downs {
        for lane in 0..vector {
            leave(&mut shader, d, lane, &shares);
        }
    }
    b.launch(shader, grid);
    Ok(())
}

/// Merges the states of lanes above each other in order, and leaves what they give in memory.
fn leave(shader: &mut Shader, d: &Down, lane: usize, shares: &Shares) {
    let Shares { cols, across, down, vector, .. } = *shares;
    let state = format!("f{}_{lane}", d.inst);
    let fields = d.code.fields();
    let arrays: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(n, (_, word))| {
            let before = fields[..n].iter().filter(|f| f.1 == *word).count();
            format!("w{}{before}", word.name())
        })
        .collect();
    if down > 1 {
        for ((field, _), array) in fields.iter().zip(&arrays) {
            shader.line(format!("{array}[lane] = {state}{field};"));
        }
        shader.line("workgroupBarrier();");
    }
    shader.line(format!("if (level == 0u && unit < {}u) {{", cols / vector));
    let other = |name: &str| {
        let n = fields.iter().position(|(field, _)| *field == name).unwrap_or(0);
        format!("{}[lane + j * {across}u]", arrays[n])
    };
    let merge = d.code.merge(&state, &other);
    let head = repeat(&format!("var j = 1u; j < {down}u; j++"), down - 1);
    shader.line(format!("{head} {merge} }}"));
    for ((field, _), place) in fields.iter().zip(&d.states) {
        let array = shader.bind(place, true);
        let at = place.dense(&format!("i32(chunk * {cols}u + col + {lane}u)"));
        shader.line(format!("{array}[{at}] = {state}{field};"));
    }
    shader.line("}");
    if down > 1 {
        shader.line("workgroupBarrier();");
    }
}

/// Merges the chunks and computes what follows, for each column.
fn finish(b: &mut Builder, domain: &Domain<'_>, task: Task) -> Result<()> {
    let body = domain.body;
    // One row is left.
    let single = Domain {
        body,
        rows: vec![1; domain.rows.len()],
        cols: domain.cols.clone(),
        reads: domain.reads.clone(),
        writes: domain.writes.clone(),
        indices: domain.indices.clone(),
        commits: domain.commits,
    };
    let roots = task.stores.iter().map(|s| s.reg).chain(task.checks.iter().map(|c| c.0.reg));
    let at_hand = task.downs.iter().map(|d| (d.inst, String::new())).collect();
    let folds = needed(body, roots, &|_| false, &at_hand)
        .into_iter()
        .any(|i| FoldCode::of(&body.insts[i], FoldAxis::Cols).is_some());
    if folds { rows::build(b, &single, &task) } else { map::build(b, &single, &task) }
}
