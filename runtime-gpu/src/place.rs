//! Where a Program's buffers lie on the device, and how views become expressions of element numbers.

use std::ops::RangeInclusive;

use graphc_ir::DType;
use graphc_ir::program::View;

/// Words of a vector.
pub const VECTOR: usize = 4;

/// Their names.
pub const FIELDS: [&str; VECTOR] = ["x", "y", "z", "w"];

/// A piece of device memory, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mem(pub usize);

/// A slice of a stack that a loop walks through: which one follows from how many iterations the loop has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The loop's depth: where its iterations are counted.
    pub depth: usize,
    /// Elements of a slice.
    pub elements: usize,
    /// Iterations in all, if the last slice comes first.
    pub reversed: Option<usize>,
    /// The first and the last slice that the iterations at hand walk through, by number.
    pub span: [usize; 2],
}

/// A part of a memory that a shader binds in place of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its first word.
    pub start: usize,
    /// Its words.
    pub words: usize,
}

/// What a shader binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bound {
    /// The memory.
    pub mem: Mem,
    /// The part of it, if not all.
    pub window: Option<Window>,
}

/// Where a buffer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which memory.
    pub mem: Mem,
    /// From which element on.
    pub offset: usize,
    /// In which slices of it; none for the whole memory.
    pub slices: Vec<Slice>,
    /// The part of the memory that shaders see, if it is too large for them.
    pub window: Option<Window>,
    /// Element type.
    pub dtype: DType,
}

impl Place {
    /// The whole of a memory.
    pub fn whole(mem: Mem, dtype: DType) -> Place {
        Place { mem, offset: 0, slices: Vec::new(), window: None, dtype }
    }

    /// The memory from so many elements further on.
    pub fn at(self, offset: usize) -> Place {
        Place { offset: self.offset + offset, ..self }
    }

    /// What the slices of the loops around add to the number of an element.
    fn base(&self) -> Vec<String> {
        let slice = |s: &Slice| {
            let done = format!("i32(env[{}][{}])", (s.depth + 1) / 4, (s.depth + 1) % 4);
            let number = match s.reversed {
                Some(length) => format!("({} - {done})", length as i64 - 1),
                None => done,
            };
            if s.elements == 1 { number } else { format!("{number} * {}", s.elements) }
        };
        self.slices.iter().map(slice).collect()
    }

    /// The number of the buffer's first element among the words that shaders see, but for slices.
    fn first(&self) -> isize {
        self.offset as isize - self.window.map_or(0, |w| w.start as isize)
    }

    /// The words of the memory that elements with these numbers lie in, whatever the iterations of the loops around.
    pub fn words(&self, elements: &RangeInclusive<isize>) -> RangeInclusive<isize> {
        let of = |end: usize| -> isize {
            self.slices.iter().map(|s| (s.elements * s.span[end]) as isize).sum::<isize>()
                + self.offset as isize
        };
        elements.start() + of(0)..=elements.end() + of(1)
    }

    /// The number of the element that a view addresses at coordinates of type `i32`.
    pub fn element(&self, view: &View, coordinates: &[String]) -> String {
        let mut terms = self.base();
        for (coordinate, stride) in coordinates.iter().zip(&view.strides) {
            match stride {
                0 => {}
                _ if coordinate == "0" => {}
                1 => terms.push(coordinate.clone()),
                _ => terms.push(format!("{coordinate} * {stride}")),
            }
        }
        let first = self.first() + view.offset;
        if first != 0 || terms.is_empty() {
            terms.push(first.to_string());
        }
        terms.join(" + ")
    }

    /// Whether four neighbours along a dim, from a coordinate on that is a multiple of four, are one aligned vector of
    /// words, and the view admits all of them or none.
    pub fn in_vectors(&self, view: &View, along: usize, sizes: &[usize]) -> bool {
        let others = view.strides.iter().zip(sizes).enumerate().filter(|(d, _)| *d != along);
        let guarded =
            view.guard.as_ref().is_none_or(|g| g.lo[along] % VECTOR == 0 && g.hi[along] % VECTOR == 0);
        sizes[along].is_multiple_of(VECTOR)
            && view.strides[along] == 1
            && others.map(|(_, dim)| dim).all(|(stride, size)| *size == 1 || stride % VECTOR as isize == 0)
            && (self.offset as isize + view.offset) % VECTOR as isize == 0
            && self.slices.iter().all(|s| s.elements.is_multiple_of(VECTOR))
            && guarded
    }

    /// The number of an element of a dense buffer, given its number there as an `i32`.
    pub fn dense(&self, number: &str) -> String {
        let mut terms = self.base();
        let first = self.first();
        terms.extend((first != 0).then(|| first.to_string()));
        terms.push(number.to_owned());
        terms.join(" + ")
    }
}

/// The condition that a view's guard admits coordinates; `None` if it has no guard.
pub fn guard(view: &View, coordinates: &[String], sizes: &[usize]) -> Option<String> {
    let guard = view.guard.as_ref()?;
    let mut conditions = Vec::new();
    for (d, coordinate) in coordinates.iter().enumerate() {
        if guard.lo[d] > 0 {
            conditions.push(format!("{coordinate} >= {}", guard.lo[d]));
        }
        if guard.hi[d] < sizes[d] {
            conditions.push(format!("{coordinate} < {}", guard.hi[d]));
        }
    }
    if conditions.is_empty() { None } else { Some(conditions.join(" && ")) }
}
