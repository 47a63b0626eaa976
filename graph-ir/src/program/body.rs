//! The one form of elementwise work: typed straight-line code over an iteration domain.

use crate::dtype::DType;
use crate::scalar::{Scalar, ScalarFn};

/// A register of a [`Body`]: the result of the instruction with this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u32);

impl Reg {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Over which part of the domain `rows x cols` a register varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// One value in all.
    Scalar,
    /// One value a column.
    Col,
    /// One value a row.
    Row,
    /// One value an element.
    Elem,
}

impl Level {
    /// The level of a function of two registers.
    pub fn join(self, other: Level) -> Level {
        match (self, other) {
            (Level::Scalar, l) | (l, Level::Scalar) => l,
            (a, b) if a == b => a,
            _ => Level::Elem,
        }
    }

    /// The level after folding the rows' dimension away (results become one a column).
    pub fn without_rows(self) -> Level {
        match self {
            Level::Elem | Level::Col => Level::Col,
            Level::Row | Level::Scalar => Level::Scalar,
        }
    }

    /// The level after folding the columns' dimension away (results become one a row).
    pub fn without_cols(self) -> Level {
        match self {
            Level::Elem | Level::Row => Level::Row,
            Level::Col | Level::Scalar => Level::Scalar,
        }
    }
}

/// How a fold combines values. The order of every sum is a function of shapes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FoldKind {
    /// Sum; of nothing 0.
    Sum,
    /// Product; of nothing 1.
    Prod,
    /// Largest, NaN if any is NaN; of nothing the lowest value (-inf).
    Max,
    /// Smallest, NaN if any is NaN; of nothing the highest value (inf).
    Min,
    /// Arithmetic mean; of nothing NaN.
    Mean,
    /// Biased variance by a two-pass or merged two-pass method; of nothing NaN.
    Var,
}

/// Which dimension a fold removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FoldAxis {
    /// Along a row: an Elem register becomes a Row register (a Col one a Scalar).
    Cols,
    /// Down the columns: an Elem register becomes a Col register (a Row one a Scalar). What depends
    /// on such a fold is computed after the sweep and never varies by row.
    Rows,
}

/// What an instruction computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstOp {
    /// The element of read port `n` of the step (for a dot: after its two operands).
    Load(usize),
    /// The dot product's element (only in a dot's epilogue).
    Acc,
    /// A constant.
    Const(Scalar),
    /// A scalar function of the arguments.
    Fn(ScalarFn),
    /// Conversion with the rules of [`Scalar::cast`].
    Cast,
    /// Sum over the domain's dims (rows then columns) of coordinate times stride; an i64.
    Index(Vec<i64>),
    /// Threefry-2x32 of (key word 0, key word 1, index): the u32 of that logical index.
    RandomBits,
    /// A fold of the argument.
    Fold(FoldKind, FoldAxis),
}

/// One instruction; its result is the register with its index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// What it computes.
    pub op: InstOp,
    /// Earlier registers.
    pub args: Vec<Reg>,
    /// Type of the result.
    pub dtype: DType,
    /// Where the result varies.
    pub level: Level,
    /// Whether it depends on a fold down the columns, and so is computed after the sweep.
    pub post: bool,
}

/// A register written to a write port of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// What is stored, at its own level: a Row register writes one element a row, and so on.
    pub reg: Reg,
    /// Index of the write port.
    pub write: usize,
}

/// A condition that must hold for every value of a register, else the run fails with the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BodyCheck {
    /// A boolean register.
    pub reg: Reg,
    /// What the error says.
    pub message: String,
}

/// Straight-line code with any number of stores, folds and checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Body {
    /// Instructions in order; arguments come first.
    pub insts: Vec<Inst>,
    /// Results.
    pub stores: Vec<Store>,
    /// Conditions.
    pub checks: Vec<BodyCheck>,
}

impl Body {
    /// Appends an instruction, or finds the equal one; level and `post` follow from its arguments,
    /// except for loads and indices, whose level the caller knows.
    pub fn push(&mut self, op: InstOp, args: &[Reg], dtype: DType, leaf: Level) -> Reg {
        let mut level = leaf;
        let mut post = false;
        if !args.is_empty() {
            level = args.iter().fold(Level::Scalar, |l, r| l.join(self.insts[r.index()].level));
            post = args.iter().any(|r| self.insts[r.index()].post);
        }
        if let InstOp::Fold(_, axis) = op {
            level = match axis {
                FoldAxis::Cols => level.without_cols(),
                FoldAxis::Rows => level.without_rows(),
            };
            post |= axis == FoldAxis::Rows;
        }
        let inst = Inst { op, args: args.to_vec(), dtype, level, post };
        if let Some(i) = self.insts.iter().position(|x| *x == inst) {
            return Reg(i as u32);
        }
        self.insts.push(inst);
        Reg(self.insts.len() as u32 - 1)
    }

    /// The instruction of a register.
    pub fn inst(&self, r: Reg) -> &Inst {
        &self.insts[r.index()]
    }

    /// Whether any fold runs along the given axis.
    pub fn folds(&self, axis: FoldAxis) -> bool {
        self.insts.iter().any(|i| matches!(&i.op, InstOp::Fold(_, a) if *a == axis))
    }
}
