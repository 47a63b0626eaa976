//! Folds down the columns: chunks of rows leave their states in memory, and a second launch merges them in order.
//!
//! Where rows are folded too, a launch before the others leaves what the rows have. Results are stored by the last launch
//! that reads what they may overwrite.

use graphc_ir::DType;
use graphc_ir::error::Result;
use graphc_ir::program::{Body, FoldAxis, Level, Reg};

use super::nest::{Domain, Task};
use super::{coordinates, map, rows};
use crate::code::Builder;
use crate::place::Place;
use crate::wgsl::{FoldCode, Grid, Leaf, Shader, needed};
use crate::words::Word;

/// Chunks of rows, at most.
const MAX_CHUNKS: usize = 256;
/// Rows of a chunk, at least.
const MIN_ROWS: usize = 32;
/// Columns that a workgroup goes down.
const COLUMNS: usize = 64;

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
    /// Writes the function that merges the chunks of a column in order, and gives a call of it.
    pub fn merged(&self, shader: &mut Shader, body: &Body) -> Result<String> {
        let Down { inst, code, states, chunks, cols } = self;
        let arrays: Vec<String> = states.iter().map(|place| shader.bind(place, false)).collect();
        let fields = code.fields();
        let mut text = format!("fn merged{inst}(col: u32) -> {} {{\n", code.word().name());
        text.push_str(&code.declare("f_")?);
        let other = |name: &str| {
            let n = fields.iter().position(|(field, _)| *field == name).unwrap_or(0);
            format!("{}[{}]", arrays[n], states[n].dense(&format!("i32(chunk * {cols}u + col)")))
        };
        text.push_str(&format!(
            "    for (var chunk = 0u; chunk < {chunks}u; chunk++) {{ {} }}\n    return {};\n}}\n",
            code.merge("f_", &other),
            code.result("f_")
        ));
        shader.head.push_str(&text);
        let column = if body.insts[*inst].level == Level::Scalar { "0u" } else { "col" };
        Ok(format!("merged{inst}({column})"))
    }
}

/// Adds the launches of a task that folds columns.
pub fn build(b: &mut Builder, domain: &Domain<'_>, task: &Task) -> Result<()> {
    let body = domain.body;
    let (rows, cols) = (domain.row_count(), domain.col_count());
    let fold = |i: usize, axis| FoldCode::of(&body.insts[i], axis);
    let chunk = rows.div_ceil(MAX_CHUNKS).max(MIN_ROWS);
    let chunks = rows.div_ceil(chunk);
    let roots: Vec<Reg> =
        task.stores.iter().map(|s| s.reg).chain(task.checks.iter().map(|c| c.0.reg)).collect();
    let all = needed(body, roots, &|_| false, &Leaf::new());
    let mut downs = Vec::new();
    for i in all.iter().copied() {
        let Some(code) = fold(i, FoldAxis::Rows) else { continue };
        downs.push(Down { inst: i, code, states: Vec::new(), chunks, cols });
    }
    let fields = downs.iter().flat_map(|d| d.code.fields()).map(|(_, word)| (word, chunks * cols)).collect();
    let mut places = together(b, fields).into_iter();
    for d in &mut downs {
        d.states = places.by_ref().take(d.code.fields().len()).collect();
    }

    // What rows have, for the launches below.
    let along: Vec<usize> =
        all.iter().copied().filter(|i| !body.insts[*i].post && fold(*i, FoldAxis::Cols).is_some()).collect();
    let mut given = Vec::new();
    if !along.is_empty() {
        let word = |i: &usize| Word::of(body.insts[*i].dtype).unwrap_or(Word::F32);
        let places = together(b, along.iter().map(|i| (word(i), rows)).collect());
        let kept: Vec<(usize, Place)> = along.iter().copied().zip(places).collect();
        rows::build(b, domain, &Task { kept: kept.clone(), ..Task::default() })?;
        given.extend(kept);
    }

    let post = |r: Reg| body.inst(r).post;
    let wide = |r: Reg| body.inst(r).level == Level::Elem && !post(r);
    let checks = |after: bool| task.checks.iter().filter(move |c| post(c.0.reg) == after).cloned();
    down(
        b,
        domain,
        &Task {
            stores: task.stores.iter().filter(|s| wide(s.reg)).copied().collect(),
            checks: checks(false).collect(),
            given: given.clone(),
            ..Task::default()
        },
        &downs,
        [rows, cols, chunk, chunks],
    )?;

    // What is left is one value a row, one a column, or one.
    let narrow = |level: fn(Level) -> bool| {
        let fits = move |s: &&graphc_ir::program::Store| !wide(s.reg) && level(body.inst(s.reg).level);
        task.stores.iter().filter(fits).copied().collect::<Vec<_>>()
    };
    let by_row = narrow(|level| level == Level::Row);
    if !by_row.is_empty() {
        map::build(b, domain, &Task { stores: by_row, given: given.clone(), ..Task::default() })?;
    }
    let stores = narrow(|level| level != Level::Row);
    let last = Task { stores, checks: checks(true).collect(), downs, ..Task::default() };
    if last.stores.is_empty() && last.checks.is_empty() {
        return Ok(());
    }
    finish(b, domain, last)
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

/// One invocation for each column and chunk of rows: folds, and stores of whole results.
fn down(
    b: &mut Builder,
    domain: &Domain<'_>,
    task: &Task,
    downs: &[Down],
    [rows, cols, chunk, chunks]: [usize; 4],
) -> Result<()> {
    if rows * cols == 0 {
        return Ok(());
    }
    let body = domain.body;
    let mut shader = Shader::new(COLUMNS, domain.commits);
    let strips = cols.div_ceil(COLUMNS);
    let grid = Grid::of(strips * chunks);
    shader.line(format!("let unit = {};", Shader::group(grid)));
    shader.line(format!("let chunk = unit / {strips}u;"));
    shader.line(format!("let col = (unit % {strips}u) * {COLUMNS}u + lane;"));
    shader.line(format!("if (chunk >= {chunks}u || col >= {cols}u) {{ return; }}"));
    let col_at = coordinates(&mut shader, "c", "col", &domain.cols);
    for d in downs {
        shader.line(d.code.declare(&format!("f{}", d.inst))?);
    }
    shader.line(format!("let end = min((chunk + 1u) * {chunk}u, {rows}u);"));
    shader.line(format!("for (var row = chunk * {chunk}u; row < end; row++) {{"));
    let row_at = coordinates(&mut shader, "r", "row", &domain.rows);
    let leaves = task.leaves(&mut shader, body)?;
    let sizes = domain.sizes();
    let printer = domain.printer(&sizes, [row_at, col_at].concat(), &leaves);
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
        shader.line(format!("if (!v{}) {{ {fail} }}", check.reg.index()));
    }
    for d in downs {
        let x = format!("v{}", body.insts[d.inst].args[0].index());
        shader.line(d.code.take(&format!("f{}", d.inst), &x));
    }
    for store in &task.stores {
        let line = printer.store(&mut shader, store);
        shader.line(line);
    }
    shader.line("}");
    for d in downs {
        for ((field, _), place) in d.code.fields().iter().zip(&d.states) {
            let array = shader.bind(place, true);
            let at = place.dense(&format!("i32(chunk * {cols}u + col)"));
            shader.line(format!("{array}[{at}] = f{}{field};", d.inst));
        }
    }
    b.launch(shader, grid);
    Ok(())
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
