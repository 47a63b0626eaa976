//! An operand of sums over shared tiles: how its slabs come from memory, and how they lie among the copies.
//!
//! Copies are vectors of four rows or columns of one step of k. Where neighbouring steps are neighbours in memory, an
//! invocation reads vectors of four rows or columns and turns them on the way. Only where there are no vectors in memory are
//! copies of four steps of one row or column: turning them would take sixteen addresses at once.

use super::Sums;
use crate::kernels::tiles::{PAD, Tiles};
use crate::place::{FIELDS, VECTOR};
use crate::wgsl::Shader;

/// Coordinates that were declared.
pub type Names = Vec<String>;

/// The condition that there is an element, and its number, from what was declared for its row or column and its step, and
/// what the names of more variables end in.
pub type Element<'a> = dyn Fn(&mut Shader, &[String], &[String], &str) -> (Option<String>, String) + 'a;

/// An operand.
pub struct Side<'a> {
    /// Its read port.
    pub port: usize,
    /// Whether neighbouring steps of k are neighbours in memory, rather than neighbouring rows or columns.
    pub k_first: bool,
    /// Whether four neighbours, from a multiple of four on, are one vector in memory.
    pub vectors: bool,
    /// Declares what a row or column has to do with the place of its elements, given its number and what the names of
    /// variables end in.
    pub outer: &'a dyn Fn(&mut Shader, &str, &str) -> Names,
    /// The same for a step of k.
    pub step: &'a dyn Fn(&mut Shader, &str, &str) -> Names,
    /// The number of the element of a row or column and a step, and the condition that there is one; it counts as zero
    /// elsewhere. May declare more.
    pub element: &'a Element<'a>,
}

impl Side<'_> {
    /// Whether copies are vectors of four steps of one row or column.
    pub fn k_first_copies(&self) -> bool {
        self.k_first && !self.vectors
    }
}

/// The copies of one operand: `width` rows or columns by `depth` steps.
pub struct Copies<'a> {
    side: &'a Side<'a>,
    /// `a` or `b`.
    name: &'static str,
    /// The variable of the first row or column of the block.
    first: &'static str,
    width: usize,
    depth: usize,
    lanes: usize,
    /// Whether rows or columns, and steps, end within a block.
    ragged: [bool; 2],
    /// The operand's rows or columns.
    size: usize,
    /// Whether copies are of four steps of one row or column.
    pub k_first: bool,
    /// Whether four vectors of four steps are read together, and turned.
    pub turned: bool,
}

impl<'a> Copies<'a> {
    /// The copies of A or B.
    pub fn new(sums: &'a Sums<'_>, side: usize, tiles: &Tiles) -> Copies<'a> {
        let (size, width) = (sums.shape[1 + side], tiles.block[side]);
        let depth = tiles.shared.unwrap_or(VECTOR);
        let ragged = [!size.is_multiple_of(width), !sums.shape[3].is_multiple_of(depth)];
        let (name, first) = [("a", "row0"), ("b", "col0")][side];
        let side = &sums.sides[side];
        let turned = side.k_first && side.vectors;
        let k_first = side.k_first_copies();
        Copies { side, name, first, width, depth, lanes: tiles.lanes(), ragged, size, k_first, turned }
    }

    /// Vectors of a slab, with what lies between its steps.
    pub fn vectors(&self) -> usize {
        match self.k_first {
            true => self.depth / VECTOR * (self.width + PAD),
            false => self.depth * self.pitch(),
        }
    }

    /// Vectors from one step to the next. Neighbouring invocations put turned vectors of different steps: with one more they
    /// fall on different banks.
    fn pitch(&self) -> usize {
        self.width / VECTOR + usize::from(self.turned)
    }

    /// Shares of a slab: vectors, or four that are turned together.
    fn copied(&self) -> usize {
        self.width * self.depth / if self.turned { VECTOR * VECTOR } else { VECTOR }
    }

    /// Shares of an invocation, at most.
    fn shares(&self) -> usize {
        self.copied().div_ceil(self.lanes)
    }

    /// The condition that an invocation has a share, if some have fewer.
    fn has(&self, share: usize) -> Option<String> {
        let some = !self.copied().is_multiple_of(self.lanes);
        some.then(|| format!("e{}{share} < {}u", self.name, self.copied()))
    }

    /// Whether all shares of an invocation are of the same steps.
    fn one_step(&self) -> bool {
        self.side.k_first && self.lanes.is_multiple_of(self.depth / VECTOR)
    }

    /// The variables that a row or column number ends in: one for each element of a vector that is not one in memory.
    fn tags(&self, share: usize) -> Vec<String> {
        let each = if self.k_first || (self.side.vectors && !self.turned) { 1 } else { VECTOR };
        (0..each).map(|c| format!("{}{share}_{c}", self.name)).collect()
    }

    /// Declares what the places of an invocation's shares have in common for all slabs; gives it by share and tag.
    pub fn declare(&self, shader: &mut Shader) -> Vec<Vec<Names>> {
        let (name, first) = (self.name, self.first);
        let mut outer = Vec::new();
        for u in 0..self.shares() {
            let steps = self.depth / VECTOR;
            let (w, s) = if self.side.k_first {
                let rows = if self.turned { format!(" * {VECTOR}u") } else { String::new() };
                (format!("e{name}{u} / {steps}u{rows}"), format!("e{name}{u} % {steps}u * {VECTOR}u"))
            } else {
                let across = self.width / VECTOR;
                (format!("e{name}{u} % {across}u * {VECTOR}u"), format!("e{name}{u} / {across}u"))
            };
            shader.line(format!("let e{name}{u} = lane + {}u;", u * self.lanes));
            shader.line(format!("let w{name}{u} = i32({w});"));
            shader.line(format!("let s{name}{u} = i32({s});"));
            let mut of_share = Vec::new();
            for (c, tag) in self.tags(u).iter().enumerate() {
                shader.line(format!("let o{tag} = {first} + w{name}{u} + {c};"));
                of_share.push((self.side.outer)(shader, &format!("o{tag}"), tag));
            }
            outer.push(of_share);
        }
        outer
    }

    /// Reads an invocation's shares of the slab from step `k` on from memory, into variables of their own.
    pub fn read(&self, shader: &mut Shader, sums: &Sums<'_>, outer: &[Vec<Names>], k: &str) {
        let place = &sums.work.reads[self.side.port].0;
        let vectors = self.side.vectors;
        let array = if vectors { shader.bind_vectors(place, false) } else { shader.bind(place, false) };
        let name = self.name;
        let each = if vectors && !self.turned { 1 } else { VECTOR };
        let mut steps: Vec<Names> = Vec::new();
        for (u, outer) in outer.iter().enumerate() {
            self.read_into(u).iter().for_each(|p| shader.line(format!("{p} = vec4<f32>();")));
            if u == 0 || !self.one_step() {
                let count = if self.k_first { each } else { 1 };
                steps.clear();
                for c in 0..count {
                    let tag = format!("{name}{u}_{c}");
                    shader.line(format!("let k{tag} = {k} + s{name}{u} + {c};"));
                    steps.push((self.side.step)(shader, &format!("k{tag}"), &tag));
                }
            }
            let step_of = if self.one_step() { 0 } else { u };
            for (c, field) in FIELDS.iter().enumerate().take(each) {
                let (oc, kc) = if self.k_first { (0, c) } else { (c, 0) };
                let tag = format!("{name}{u}_{c}");
                let mut inside = Vec::new();
                if self.ragged[0] {
                    inside.push(format!("o{name}{u}_{oc} < {}", self.size));
                }
                if self.ragged[1] {
                    inside.push(format!("k{name}{step_of}_{kc} < end"));
                }
                inside.extend(self.has(u));
                let (own, element) = (self.side.element)(shader, &outer[oc], &steps[kc], &tag);
                inside.extend(own);
                let into = self.read_into(u);
                let (to, element) = match vectors {
                    true => (into[c].clone(), format!("({element}) >> 2u")),
                    false => (format!("{}.{field}", into[0]), element),
                };
                let read = format!("{to} = {array}[{element}];");
                shader.line(match inside.is_empty() {
                    true => read,
                    false => format!("if ({}) {{ {read} }}", inside.join(" && ")),
                });
            }
        }
    }

    /// Puts what was read among the copies, from vector `base` on.
    pub fn put(&self, shader: &mut Shader, base: &str) {
        let name = self.name;
        for u in 0..self.shares() {
            let into = self.read_into(u);
            let at = |s: usize| format!("(s{name}{u} + {s}) * {} + w{name}{u} / {VECTOR}", self.pitch());
            let put = if self.k_first {
                let at = format!("s{name}{u} / {VECTOR} * {} + w{name}{u}", self.width + PAD);
                format!("s{name}[{base}{at}] = {};", into[0])
            } else if self.turned {
                let turned = |s: usize| {
                    into.iter().map(|p| format!("{p}.{}", FIELDS[s])).collect::<Vec<_>>().join(", ")
                };
                let put = |s: usize| format!("s{name}[{base}{}] = vec4<f32>({});", at(s), turned(s));
                (0..VECTOR).map(put).collect::<Vec<_>>().join(" ")
            } else {
                format!("s{name}[{base}{}] = {};", at(0), into[0])
            };
            shader.line(match self.has(u) {
                None => put,
                Some(has) => format!("if ({has}) {{ {put} }}"),
            });
        }
    }

    /// Declares the variables that are read into.
    pub fn variables(&self, shader: &mut Shader) {
        for p in (0..self.shares()).flat_map(|u| self.read_into(u)) {
            shader.line(format!("var {p} = vec4<f32>();"));
        }
    }

    /// The variables that a share is read into.
    fn read_into(&self, share: usize) -> Vec<String> {
        match self.turned {
            true => (0..VECTOR).map(|c| format!("p{}{share}_{c}", self.name)).collect(),
            false => vec![format!("p{}{share}", self.name)],
        }
    }

    /// Loads what an invocation sums of the four steps of group `kk` from the copies: its `each` rows or columns, which begin
    /// at `first` and are `apart` of each other, or groups of four are.
    pub fn load(&self, shader: &mut Shader, base: &str, first: &str, apart: usize, each: usize) {
        let name = self.name;
        if !self.k_first {
            for s in 0..VECTOR {
                self.load_step(shader, base, &format!("kk * {VECTOR} + {s}"), s, (first, apart, each));
            }
            return;
        }
        for i in 0..each {
            let at = format!("{base}kk * {} + {first} + {}", self.width + PAD, i * apart);
            shader.line(format!("let {name}{i} = s{name}[{at}];"));
        }
    }

    /// Loads the same of one step, which is called `s` then, from copies that have steps of their own.
    pub fn load_step(
        &self,
        shader: &mut Shader,
        base: &str,
        step: &str,
        s: usize,
        (first, apart, each): (&str, usize, usize),
    ) {
        let (name, pitch) = (self.name, self.pitch());
        for i in 0..each / VECTOR {
            let at = format!("{base}({step}) * {pitch} + {first} + {}", i * apart);
            shader.line(format!("let {name}{s}_{i} = s{name}[{at}];"));
        }
    }

    /// What was loaded of a row or column and a step.
    pub fn loaded(&self, i: usize, s: usize) -> String {
        let name = self.name;
        match self.k_first {
            true => format!("{name}{i}.{}", FIELDS[s]),
            false => format!("{name}{s}_{}.{}", i / VECTOR, FIELDS[i % VECTOR]),
        }
    }

    /// The place of an invocation's row or column in the block.
    pub fn place(&self, i: usize, first: &str, apart: usize) -> String {
        match self.k_first {
            true => format!("{first} + {}", i * apart),
            false => format!("({first} + {}) * {VECTOR} + {}", i / VECTOR * apart, i % VECTOR),
        }
    }
}
