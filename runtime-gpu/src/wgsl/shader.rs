//! A shader under construction: what it binds, its functions, and its text.

use super::prelude::with_prelude;
use super::turns::total;
use crate::place::{Bound, Place, VECTOR};
use crate::words::Word;

/// Workgroups along each axis of a dispatch, at most.
const MAX_GROUPS: usize = 65_535;

/// Workgroups in all, laid out in two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Along x and y.
    pub groups: [u32; 2],
}

impl Grid {
    /// A grid of at least so many groups; shaders leave the ones beyond alone.
    pub fn of(groups: usize) -> Grid {
        let x = groups.clamp(1, MAX_GROUPS);
        Grid { groups: [x as u32, groups.div_ceil(x).max(1) as u32] }
    }
}

/// A finished shader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShaderText {
    /// The whole module.
    pub text: String,
    /// For each storage binding whether it is written.
    pub written: Vec<bool>,
    /// Whether it tells failures.
    pub fails: bool,
    /// Whether it does nothing after a failure.
    pub commits: bool,
    /// Whether it reads the iterations of loops around it.
    pub env: bool,
    /// How often the loops of an invocation turn, at most.
    pub turns: usize,
}

/// A memory as a shader sees it.
#[derive(Debug)]
struct Binding {
    bound: Bound,
    word: Word,
    /// Whether its elements are vectors of words.
    vectors: bool,
    written: bool,
}

/// A shader under construction.
#[derive(Debug, Default)]
pub struct Shader {
    bindings: Vec<Binding>,
    /// Functions and variables before the entry point.
    pub head: String,
    /// Statements of the entry point.
    pub main: String,
    /// Invocations of a workgroup.
    pub lanes: usize,
    fails: bool,
    commits: bool,
}

impl Shader {
    /// A shader whose workgroups have so many invocations; with `commits` it does nothing after a failure.
    pub fn new(lanes: usize, commits: bool) -> Shader {
        Shader { lanes, commits, ..Shader::default() }
    }

    /// The name of the array of words that a memory is bound as.
    pub fn bind(&mut self, place: &Place, writes: bool) -> String {
        self.bind_as(place, false, writes)
    }

    /// The name of the array of vectors of words that a memory is bound as. What is written is bound in one way alone.
    pub fn bind_vectors(&mut self, place: &Place, writes: bool) -> String {
        self.bind_as(place, true, writes)
    }

    fn bind_as(&mut self, place: &Place, vectors: bool, writes: bool) -> String {
        // Types without a word were refused before.
        let word = Word::of(place.dtype).unwrap_or(Word::U32);
        let bound = Bound { mem: place.mem, window: place.window };
        let found = self.bindings.iter().position(|b| b.bound == bound && b.vectors == vectors);
        let index = found.unwrap_or_else(|| {
            self.bindings.push(Binding { bound, word, vectors, written: false });
            self.bindings.len() - 1
        });
        self.bindings[index].written |= writes;
        format!("b{index}")
    }

    /// A statement that tells a failure by its number.
    pub fn fail(&mut self, number: usize) -> String {
        self.fails = true;
        format!("atomicMin(&failure[0], {number}u);")
    }

    /// Adds a function, whose lines a closure adds.
    pub fn function(&mut self, declaration: &str, lines: impl FnOnce(&mut Shader)) {
        let main = std::mem::take(&mut self.main);
        lines(self);
        let body = std::mem::replace(&mut self.main, main);
        self.head.push_str(&format!("{declaration} {{\n{body}}}\n"));
    }

    /// Adds a line to the entry point.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.main.push_str("    ");
        self.main.push_str(text.as_ref());
        self.main.push('\n');
    }

    /// The number of an invocation among all, or of a workgroup, as a `u32` expression.
    pub fn group(grid: Grid) -> String {
        if grid.groups[1] == 1 {
            "group.x".into()
        } else {
            format!("(group.x + group.y * {}u)", grid.groups[0])
        }
    }

    /// The text, and what its bindings are.
    pub fn finish(self) -> (ShaderText, Vec<Bound>) {
        let mut text = String::new();
        if self.fails {
            text.push_str("@group(0) @binding(1) var<storage, read_write> failure: array<atomic<u32>, 4>;\n");
        } else if self.commits {
            text.push_str("@group(0) @binding(1) var<uniform> failure: vec4<u32>;\n");
        }
        for (i, binding) in self.bindings.iter().enumerate() {
            let access = if binding.written { "read_write" } else { "read" };
            let (number, word) = (i + 2, binding.word.name());
            let element = if binding.vectors { format!("vec{VECTOR}<{word}>") } else { word.to_owned() };
            text.push_str(&format!(
                "@group(0) @binding({number}) var<storage, {access}> b{i}: array<{element}>;\n"
            ));
        }
        text.push_str("var<private> gc_zero: u32;\n");
        text.push_str(&self.head);
        // No dispatch has more than one layer of workgroups, but no driver knows that.
        text.push_str(&format!(
            "@compute @workgroup_size({})\nfn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) \
             lane: u32) {{\n    gc_zero = group.z;\n",
            self.lanes
        ));
        if self.commits && !self.fails {
            text.push_str("    if (failure.x != 0xffffffffu) { return; }\n");
        }
        text.push_str(&self.main);
        text.push_str("}\n");
        let written = self.bindings.iter().map(|b| b.written).collect();
        let commits = self.commits && !self.fails;
        let mut text = with_prelude(&text);
        // A binding less is a check less for each dispatch.
        let env = text.contains("env[");
        if env {
            text.insert_str(0, "@group(0) @binding(0) var<uniform> env: array<vec4<u32>, 2>;\n");
        }
        let turns = total(&text);
        let text = ShaderText { text, written, fails: self.fails, commits, env, turns };
        (text, self.bindings.into_iter().map(|b| b.bound).collect())
    }
}
