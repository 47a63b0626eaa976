//! Version 1 of the file as it is written down: names and texts with their places, nothing resolved.
//!
//! *Invariant:* apart from the in-memory types, so that these can change while files stay readable.
//! Frozen with the first release; see `docs/format.md`.

mod read;
mod write;

pub(super) use read::{read, source};
pub(super) use write::write;

use super::json::{Member, Node as Json};

/// A text and the byte where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The text.
    pub text: &'a str,
    /// Offset of its first byte in the file.
    pub at: usize,
}

/// The whole file, behind the version gate.
#[derive(Debug, Default)]
pub struct Module<'a> {
    /// Who wrote it.
    pub producer: &'a str,
    /// Free-form information, an object.
    pub meta: Option<&'a Json>,
    /// Lower bounds of symbols.
    pub symbols: Vec<(Text<'a>, i64)>,
    /// State variables.
    pub state: Vec<State<'a>>,
    /// Functions.
    pub functions: Vec<Function<'a>>,
}

/// A state variable. What is `None` was wrong and is reported.
#[derive(Debug)]
pub struct State<'a> {
    /// Name.
    pub name: Text<'a>,
    /// A role's name.
    pub role: Option<Text<'a>>,
    /// Type.
    pub ty: Option<Text<'a>>,
    /// Where its value comes from.
    pub init: Option<Source<'a>>,
}

/// Where the elements of a tensor stand.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// In the module.
    Data(&'a Json),
    /// In a weights file.
    File {
        /// Name of the file, in the module's folder.
        file: Text<'a>,
        /// Name of the tensor.
        tensor: Text<'a>,
        /// SHA-256 of its bytes, in hexadecimal.
        sha256: Option<Text<'a>>,
    },
}

/// A function.
#[derive(Debug)]
pub struct Function<'a> {
    /// Name.
    pub name: Text<'a>,
    /// Inputs: names and types.
    pub inputs: Vec<(Text<'a>, Option<Text<'a>>)>,
    /// Nodes, in any order.
    pub nodes: Vec<Node<'a>>,
    /// Outputs.
    pub outputs: Vec<Output<'a>>,
    /// State variables and the values that they are assigned.
    pub updates: Vec<(Text<'a>, Text<'a>)>,
}

/// An output.
#[derive(Debug)]
pub struct Output<'a> {
    /// Name.
    pub name: Text<'a>,
    /// A reference.
    pub value: Text<'a>,
    /// `loss` or `metric`.
    pub mark: Option<Text<'a>>,
}

/// A node.
#[derive(Debug)]
pub struct Node<'a> {
    /// Name of the node and of its first result.
    pub id: Text<'a>,
    /// The operation; `None` if it was no text.
    pub op: Option<Text<'a>>,
    /// Operands.
    pub ins: Vec<Operand<'a>>,
    /// Attributes.
    pub attrs: &'a [Member],
    /// Declared types of the results.
    pub types: Option<Vec<Text<'a>>>,
    /// Whether a part was wrong and is reported.
    pub broken: bool,
}

/// An operand.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// `"id"` or `"id#k"`.
    Ref(Text<'a>),
    /// A number or a boolean.
    Literal(&'a Json),
    /// `null`: an optional operand that is left out.
    Absent(usize),
}
