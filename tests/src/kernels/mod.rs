//! Random problems of single kernels, at the sizes where kernels go another way, with every form of what may
//! follow them.
//!
//! The sizes come from the code's own list ([`graphc_cpu::threshold`]), so a threshold is tried on both sides as
//! soon as it is declared. Operands hold small integers, whose sums are exact in any order, or numbers in [-1, 1).
//! What a case means is what the interpreter makes of it in f64.

mod build;
mod follow;
mod sizes;

use graphc_cpu::isa::Isa;
use graphc_cpu::threshold::{self, Kernels, Threshold};
use graphc_ir::error::Result;
use graphc_ir::module::{OutputDecl, StateDecl};
use graphc_ir::{Builder, DType, Function, Module, Scalar, Tensor, TensorType, ValueId, stage};

use crate::device::{Device, Outcome, Reference};
use crate::random_graph::Prng;
pub use sizes::Sizes;

/// Name of the one function of a case's module.
pub const FUNCTION: &str = "main";

/// A module with one kernel and what follows it, and operands for it.
#[derive(Debug)]
pub struct Case {
    /// What it is, in words.
    pub text: String,
    /// Whether it takes long.
    pub large: bool,
    /// The module, in the type that devices compute in.
    pub module: Module,
    /// The same in f64: what is meant.
    pub exact: Module,
    /// The operands, of the module's types.
    pub inputs: Vec<Tensor>,
    /// How far results may be off: relative to each, and in all.
    pub tolerance: (f64, f64),
}

/// What a case is grown in.
struct Draft {
    b: Builder,
    prng: Prng,
    inputs: Vec<(ValueId, Fill)>,
    state: Vec<StateDecl>,
    updates: Vec<(usize, ValueId)>,
    outputs: Vec<ValueId>,
    /// The type of operands: f16 and bf16 are cast up.
    operand: DType,
    text: String,
}

/// What an operand holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    /// Integers from -2 to 2.
    Small,
    /// Numbers in [-1, 1).
    Reals,
    /// Indices below a size.
    Indices(usize),
    /// Truth values.
    Bools,
    /// Words of a key.
    Words,
}

impl Fill {
    fn tensor(self, dtype: DType, shape: &[usize], prng: &mut Prng) -> Tensor {
        Tensor::from_fn(dtype, shape, |_| match self {
            Fill::Small => Scalar::F(prng.below(5) as f64 - 2.0),
            Fill::Reals => Scalar::F(prng.real(-1.0, 1.0)),
            Fill::Indices(size) => Scalar::I(prng.below(size.max(1)) as i128),
            Fill::Bools => Scalar::I(prng.below(2) as i128),
            Fill::Words => Scalar::I(i128::from(prng.word() as u32)),
        })
    }
}

/// The case of a seed, at a threshold of an instruction set and on one side of it; the same on every platform.
///
/// # Errors
/// Only if the generator is wrong: it builds an ill-typed node.
pub fn case(seed: u64, isa: Isa) -> Result<Case> {
    let all = threshold::all(isa);
    // Consecutive seeds go through all thresholds and all sides.
    let threshold = all[seed as usize / 3 % all.len()];
    let side = seed as isize % 3 - 1;
    let mut prng = Prng::new(seed);
    let (sizes, large) = Sizes::at(&threshold, side, &all, &mut prng);
    let operand = match threshold.kernels {
        Kernels::Dot => prng.pick(&[DType::F64, DType::F64, DType::F64, DType::F64, DType::F16, DType::Bf16]),
        _ => DType::F64,
    };
    let reals = prng.chance(0.25);
    let fill = if reals { Fill::Reals } else { Fill::Small };
    let text =
        format!("{:?} at {} {side:+}, {sizes:?}, {fill:?} {operand}", threshold.kernels, threshold.name);
    let mut draft = Draft {
        b: Builder::new(),
        prng,
        inputs: Vec::new(),
        state: Vec::new(),
        updates: Vec::new(),
        outputs: Vec::new(),
        operand,
        text,
    };
    draft.grow(&threshold, &sizes, fill)?;
    draft.finish(fill, large)
}

impl Draft {
    fn grow(&mut self, threshold: &Threshold, sizes: &Sizes, fill: Fill) -> Result<()> {
        let sums = self.kernel(threshold.kernels, sizes, fill)?;
        for sum in sums {
            self.follow(sum, sizes.get(threshold::Axis::Links), fill)?;
        }
        Ok(())
    }

    fn say(&mut self, words: impl std::fmt::Display) {
        use std::fmt::Write;
        let _ = write!(self.text, ", {words}");
    }

    fn input(&mut self, dtype: DType, shape: &[usize], fill: Fill) -> Result<ValueId> {
        let id = self.b.input(TensorType::fixed(dtype, shape))?;
        self.inputs.push((id, fill));
        Ok(id)
    }

    /// An operand that is an input, or at times a constant or a state variable, which may be packed once.
    fn operand(&mut self, shape: &[usize], fill: Fill) -> Result<ValueId> {
        let (small, dtype) = (shape.iter().product::<usize>() <= 1 << 16, self.operand);
        if dtype == DType::F64 && small && self.prng.chance(0.15) {
            let value = fill.tensor(dtype, shape, &mut self.prng);
            return self.b.constant(value);
        }
        if dtype == DType::F64 && self.prng.chance(0.25) {
            return Ok(self.variable(shape, fill)?.1);
        }
        self.input(dtype, shape, fill)
    }

    /// A state variable: its number and its value.
    fn variable(&mut self, shape: &[usize], fill: Fill) -> Result<(usize, ValueId)> {
        let (index, ty) = (self.state.len(), TensorType::fixed(DType::F64, shape));
        let init = fill.tensor(DType::F64, shape, &mut self.prng);
        let read = self.b.state(index, ty.clone())?;
        self.state.push(StateDecl {
            name: format!("s{index}"),
            role: graphc_ir::module::StateRole::Param,
            ty,
            init: Some(init.into()),
        });
        Ok((index, read))
    }

    fn finish(self, fill: Fill, large: bool) -> Result<Case> {
        let Draft { b, mut prng, inputs, state, updates, outputs, text, .. } = self;
        let results: Vec<ValueId> = outputs.iter().copied().chain(updates.iter().map(|(_, v)| *v)).collect();
        let types: Vec<(TensorType, Fill)> =
            inputs.iter().map(|(v, fill)| (b.ty(*v).clone(), *fill)).collect();
        let graph = b.finish(&results)?.pruned()?;
        stage::verify(&graph)?;
        let function = Function {
            inputs: (0..types.len()).map(|i| format!("x{i}")).collect(),
            outputs: (0..outputs.len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect(),
            updates: updates.iter().map(|(i, _)| *i).collect(),
            graph,
        };
        let mut exact = Module { producer: "graphc-tests".into(), state, ..Module::default() };
        exact.functions.insert(FUNCTION.into(), function);
        let operands: Vec<Tensor> =
            types.iter().map(|(ty, fill)| fill.tensor(ty.dtype, &ty.static_shape(), &mut prng)).collect();
        let module = crate::narrow::narrowed_module(&exact)?;
        let inputs = operands.iter().map(crate::narrow::narrowed_tensor).collect();
        // A product of up to 2^13 terms of at most 1 each, rounded in any order, and what follows it.
        let tolerance = if fill == Fill::Reals { (1e-3, 4e-3) } else { (3e-5, 3e-5) };
        Ok(Case { text, large, module, exact, inputs, tolerance })
    }
}

impl Case {
    /// What the case means.
    ///
    /// # Errors
    /// Those of the interpreter.
    pub fn expected(&self) -> Result<Outcome> {
        let graph = &self.exact.function(FUNCTION)?.graph;
        let types = graph.inputs().iter().map(|v| graph.ty(*v).dtype);
        // f32 operands are f64 ones that were rounded: the meaning is that of the rounded ones.
        let inputs: Vec<Tensor> = self.inputs.iter().zip(types).map(|(t, dtype)| t.cast(dtype)).collect();
        let mut exact = self.exact.clone();
        for (wide, narrow) in exact.state.iter_mut().zip(&self.module.state) {
            wide.init = narrow.init.as_ref().map(|t| t.cast(wide.ty.dtype).into());
        }
        Reference.run(&exact, FUNCTION, &inputs)
    }

    /// What a device's outcome has wrong, if anything.
    pub fn difference(&self, got: &Outcome, want: &Outcome) -> Option<String> {
        let pairs = got.outputs.iter().chain(&got.state).zip(want.outputs.iter().chain(&want.state));
        pairs.enumerate().find_map(|(i, (g, w))| {
            if g.shape() != w.shape() || g.dtype().is_float() != w.dtype().is_float() {
                return Some(format!("result {i} is {g:?} and not {w:?}"));
            }
            let (g, w) = (g.to_f64(), w.to_f64());
            // Results that are far smaller than others of their tensor carry those others' errors.
            let scale = w.iter().filter(|x| x.is_finite()).fold(1.0, |most, x| f64::max(most, x.abs()));
            let (relative, absolute) = self.tolerance;
            let wrong = |(g, w): (&f64, &f64)| {
                let close = (g - w).abs() <= relative * w.abs() + absolute * scale;
                !(close || g == w || g.is_nan() && w.is_nan())
            };
            let count = g.iter().zip(&w).filter(|pair| wrong(*pair)).count();
            let first = g.iter().zip(&w).position(wrong)?;
            Some(format!(
                "result {i}: {count} of {} elements are wrong, the first at {first}: {} for {}",
                w.len(),
                g[first],
                w[first]
            ))
        })
    }
}
