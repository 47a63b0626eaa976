//! Loops and branches written as closures.
//!
//! A closure gets a scope of its own and sees what it is given, nothing of the scope around it: values that it needs
//! from there are its operands or invariants.

use std::sync::Arc;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::error::{Error, Result};
use crate::expr::{Expr, Scope};
use crate::graph::{Graph, ValueId};
use crate::ops::{Call, Concat, Cond, CustomGradient, Scan, While};
use crate::types::{Infer, TensorType};

/// What a loop runs over.
#[derive(Clone, Default)]
pub struct ScanSpec<'s> {
    /// Values that every iteration gets.
    pub invariants: Vec<Expr<'s>>,
    /// First values of what goes from an iteration to the next.
    pub carries: Vec<Expr<'s>>,
    /// Values that every iteration gets a slice of, along axis 0.
    pub stacks: Vec<Expr<'s>>,
    /// Whether the last slice comes first.
    pub reverse: bool,
    /// Number of iterations; that of the first stack's slices if there is none.
    pub length: Option<Dim>,
    /// What the gradient stores.
    pub memory: ScanMemory,
}

/// What the gradient of a loop stores of its iterations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanMemory {
    /// All that was costly to compute.
    #[default]
    Store,
    /// The carries at every so many iterations; the iterations between are run again (Chen et al. 2016).
    Segments(usize),
    /// Segments of about the square root of the length, which must be a number: memory and the number of iterations
    /// that are run again grow with the root of the length.
    SquareRoot,
}

/// What one iteration gets.
pub struct Iteration<'t> {
    /// The invariants.
    pub invariants: Vec<Expr<'t>>,
    /// The carries.
    pub carries: Vec<Expr<'t>>,
    /// A slice of every stack.
    pub slices: Vec<Expr<'t>>,
}

/// What a loop, or an iteration of it, gives.
#[derive(Clone)]
pub struct Scanned<'s> {
    /// The carries.
    pub carries: Vec<Expr<'s>>,
    /// The stacked results, or a slice of each.
    pub stacks: Vec<Expr<'s>>,
}

impl Scope<'_> {
    /// One of two closures of the operands, chosen by a condition of type bool`[]`.
    ///
    /// # Errors
    /// Those of the closures, and results of different types.
    pub fn cond<'s>(
        &'s self,
        condition: Expr<'s>,
        operands: &[Expr<'s>],
        then: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
        otherwise: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
    ) -> Result<Vec<Expr<'s>>> {
        let types = types(operands);
        let then = Arc::new(body(self.infer(), &types, then)?);
        let otherwise = Arc::new(body(self.infer(), &types, otherwise)?);
        let ins: Vec<ValueId> = std::iter::once(condition.id()).chain(ids(operands)).collect();
        self.apply(|b| b.op(Cond { then, otherwise }, &ins))
    }

    /// Iterations while a condition of the invariants and carries holds; the carries after the last.
    ///
    /// # Errors
    /// Those of the closures, and carries that change their type.
    pub fn while_loop<'s>(
        &'s self,
        invariants: &[Expr<'s>],
        carries: &[Expr<'s>],
        condition: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>], &[Expr<'t>]) -> Result<Expr<'t>>,
        iteration: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>], &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
    ) -> Result<Vec<Expr<'s>>> {
        let types = [types(invariants), types(carries)].concat();
        let n = invariants.len();
        let goes_on = body(self.infer(), &types, |s, x| Ok(vec![condition(s, &x[..n], &x[n..])?]))?;
        let next = body(self.infer(), &types, |s, x| iteration(s, &x[..n], &x[n..]))?;
        let ins: Vec<ValueId> = ids(invariants).chain(ids(carries)).collect();
        let op = While { condition: Arc::new(goes_on), body: Arc::new(next), carries: carries.len() };
        self.apply(|b| b.op(op, &ins))
    }

    /// A counted loop.
    ///
    /// # Errors
    /// Those of the closure, carries that change their type, stacks of different lengths, and neither a stack nor a
    /// length.
    pub fn scan<'s>(
        &'s self,
        spec: ScanSpec<'s>,
        iteration: impl for<'t> FnOnce(&'t Scope<'_>, Iteration<'t>) -> Result<Scanned<'t>>,
    ) -> Result<Scanned<'s>> {
        let length = match (&spec.length, spec.stacks.first()) {
            (Some(length), _) => length.clone(),
            (None, Some(stack)) => match stack.ty().dims.first() {
                Some(length) => length.clone(),
                None => fail!("a stack needs an axis to iterate over, but it is {}", stack.ty()),
            },
            (None, None) => {
                return Err(
                    Error::new("a loop without stacks has no length").help("give the number of iterations")
                );
            }
        };
        let mut slices = types(&spec.stacks);
        for ty in &mut slices {
            if ty.dims.is_empty() {
                fail!("a stack needs an axis to iterate over, but it is {ty}");
            }
            ty.dims.remove(0);
        }
        let types = [types(&spec.invariants), types(&spec.carries), slices].concat();
        let (i, c) = (spec.invariants.len(), spec.carries.len());
        let mut stacked = 0;
        let graph = body(self.infer(), &types, |s, x| {
            let given = Iteration {
                invariants: x[..i].to_vec(),
                carries: x[i..i + c].to_vec(),
                slices: x[i + c..].to_vec(),
            };
            let next = iteration(s, given)?;
            if next.carries.len() != c {
                fail!("an iteration gets {c} carries and gives {}", next.carries.len());
            }
            stacked = next.stacks.len();
            Ok([next.carries, next.stacks].concat())
        })?;
        let op = Scan {
            body: Arc::new(graph),
            carries: c,
            stacks: spec.stacks.len(),
            reverse: spec.reverse,
            length: length.clone(),
            recompute: false,
        };
        let ins: Vec<ValueId> =
            [&spec.invariants, &spec.carries, &spec.stacks].into_iter().flat_map(|v| ids(v)).collect();
        let outs = match segment(spec.memory, &length)? {
            None => self.apply(|b| b.op(op, &ins))?,
            Some(segment) => self.apply(|b| segmented(b, &op, &ins, segment))?,
        };
        Ok(Scanned { carries: outs[..c].to_vec(), stacks: outs[c..].to_vec() })
    }

    /// A closure of the operands as a function of its own, which a file holds once however often it is called.
    ///
    /// # Errors
    /// Those of the closure.
    pub fn call<'s>(
        &'s self,
        operands: &[Expr<'s>],
        function: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
    ) -> Result<Vec<Expr<'s>>> {
        let body = Arc::new(body(self.infer(), &types(operands), function)?);
        let ins: Vec<ValueId> = ids(operands).collect();
        self.apply(|b| b.op(Call { body }, &ins))
    }

    /// A closure of the operands with a gradient of its own. `backward` gets the operands, the results and the
    /// gradients of the float results, and gives the gradients of the float operands, in order.
    ///
    /// # Errors
    /// Those of the closures, and gradients of other types than the operands'.
    pub fn custom_gradient<'s>(
        &'s self,
        operands: &[Expr<'s>],
        function: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
        backward: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
    ) -> Result<Vec<Expr<'s>>> {
        let mut given = types(operands);
        let forward = body(self.infer(), &given, function)?;
        let results: Vec<TensorType> = forward.results().iter().map(|r| forward.ty(*r).clone()).collect();
        given.extend(results.iter().cloned());
        given.extend(results.iter().filter(|t| t.dtype.is_float()).cloned());
        let backward = Arc::new(body(self.infer(), &given, backward)?);
        let ins: Vec<ValueId> = ids(operands).collect();
        self.apply(|b| b.op(CustomGradient { body: Arc::new(forward), backward }, &ins))
    }

    fn infer(&self) -> Infer {
        self.build(|b| Ok(b.graph().infer().clone())).unwrap_or_default()
    }

    fn apply<'s>(&'s self, f: impl FnOnce(&mut Builder) -> Result<Vec<ValueId>>) -> Result<Vec<Expr<'s>>> {
        Ok(self.build(f)?.into_iter().map(|id| self.expr(id)).collect())
    }
}

fn types(values: &[Expr<'_>]) -> Vec<TensorType> {
    values.iter().map(|v| v.ty()).collect()
}

fn ids<'v>(values: &'v [Expr<'_>]) -> impl Iterator<Item = ValueId> + 'v {
    values.iter().map(|v| v.id())
}

/// A closure as a graph.
fn body(
    infer: Infer,
    types: &[TensorType],
    f: impl for<'t> FnOnce(&'t Scope<'_>, &[Expr<'t>]) -> Result<Vec<Expr<'t>>>,
) -> Result<Graph> {
    let mut b = Builder::with_infer(infer);
    let inputs = types.iter().map(|t| b.input(t.clone())).collect::<Result<Vec<_>>>()?;
    let scope = Scope::new(&mut b);
    let inputs: Vec<Expr<'_>> = inputs.iter().map(|v| scope.expr(*v)).collect();
    let built = f(&scope, &inputs).map(|outs| ids(&outs).collect::<Vec<_>>());
    scope.finish()?;
    b.finish(&built?)?.pruned()
}

/// Iterations of a segment, if there are segments.
fn segment(memory: ScanMemory, length: &Dim) -> Result<Option<usize>> {
    match memory {
        ScanMemory::Store => Ok(None),
        ScanMemory::Segments(0) => fail!("a segment has at least 1 iteration"),
        ScanMemory::Segments(n) => Ok(Some(n)),
        ScanMemory::SquareRoot => match length.as_const() {
            Some(n) => Ok(Some((n as f64).sqrt().ceil().max(1.0) as usize)),
            None => {
                Err(Error::new(format!("the root of the length {length} is known only when it is bound"))
                    .help("give the number of iterations of a segment"))
            }
        },
    }
}

/// A scan as a scan of whole segments, each a scan of its own that is run again for its gradient, and one of the
/// iterations that are left over.
fn segmented(b: &mut Builder, op: &Scan, ins: &[ValueId], segment: usize) -> Result<Vec<ValueId>> {
    let divisor = i64::try_from(segment).map_err(|_| Error::new("the segment is too long"))?;
    let count = op.length.floor_div(divisor)?;
    let whole = count.mul(&Dim::from(segment))?;
    let rest = op.length.sub(&whole)?;
    let first_carry = ins.len() - op.carries - op.stacks;
    let first_stack = first_carry + op.carries;

    let outer = {
        let mut inner = Builder::with_infer(b.graph().infer().clone());
        let mut args = Vec::new();
        for (i, v) in op.body.inputs().iter().enumerate() {
            let mut ty = op.body.ty(*v).clone();
            if i >= first_stack {
                ty.dims.insert(0, Dim::from(segment));
            }
            args.push(inner.input(ty)?);
        }
        let outs = inner.op(Scan { length: Dim::from(segment), ..op.clone() }, &args)?;
        inner.finish(&outs)?
    };
    let slices = |b: &mut Builder, from: &Dim, to: &Dim| -> Result<Vec<ValueId>> {
        ins[first_stack..].iter().map(|v| b.slice_axis(*v, 0, from, to)).collect()
    };
    let segments = |b: &mut Builder, carries: &[ValueId]| -> Result<Vec<ValueId>> {
        let mut operands = [&ins[..first_carry], carries].concat();
        for v in slices(b, &Dim::from(0usize), &whole)? {
            let mut dims = b.ty(v).dims.clone();
            dims.splice(..1, [count.clone(), Dim::from(segment)]);
            operands.push(b.reshape(v, &dims)?);
        }
        let op = Scan { body: Arc::new(outer), length: count.clone(), recompute: true, ..op.clone() };
        let mut outs = b.op(op.clone(), &operands)?;
        for v in &mut outs[op.carries..] {
            let mut dims = b.ty(*v).dims.clone();
            dims.splice(..2, [whole.clone()]);
            *v = b.reshape(*v, &dims)?;
        }
        Ok(outs)
    };
    let left_over = |b: &mut Builder, carries: &[ValueId]| -> Result<Vec<ValueId>> {
        let mut operands = [&ins[..first_carry], carries].concat();
        operands.extend(slices(b, &whole, &op.length)?);
        b.op(Scan { length: rest.clone(), ..op.clone() }, &operands)
    };
    let carries = &ins[first_carry..first_stack];
    if rest.as_const() == Some(0) {
        return segments(b, carries);
    }
    // What is left over is at the end of the stacks: last, or first of a loop that begins there.
    let (main, tail) = if op.reverse {
        let tail = left_over(b, carries)?;
        (segments(b, &tail[..op.carries])?, tail)
    } else {
        let main = segments(b, carries)?;
        let tail = left_over(b, &main[..op.carries])?;
        (main, tail)
    };
    let mut outs = if op.reverse { main[..op.carries].to_vec() } else { tail[..op.carries].to_vec() };
    for (m, t) in main[op.carries..].iter().zip(&tail[op.carries..]) {
        outs.push(b.op1(Concat { axis: 0 }, &[*m, *t])?);
    }
    Ok(outs)
}
